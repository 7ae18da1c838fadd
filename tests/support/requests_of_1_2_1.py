"""The requests whose answers are kept in `tests/data/record_1_2_1/answers`, by name.

Several in a row are asked one after the other, of a record of their own if one of them changes it.
Pages are not asked for what a change of a unit leaves to be derived in the background: they show it
some seconds later.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

_AS_JSON = {"Content-Type": "application/json"}
_AS_PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
_HTML = "<script>alert('x')</script><b title=\"y\">&amp;</b>"
_PLACE = "a/../b?c=d&e#f%2F;"
_HOSTILE = quote(_HTML, safe="")
_QUOTED_PLACE = quote(_PLACE, safe="")
_CAMERA = "camera.AvgCameraBodySurfaceTemp"


@dataclass(frozen=True)
class Asked:
    """A request. `by` is a user of the record; `settings` are those of the service."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    by: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def _get(path: str, *, by: str = "", **settings: Any) -> tuple[Asked, ...]:
    return (Asked("GET", path, by=by, settings=settings),)


def _page(path: str, **settings: Any) -> tuple[Asked, ...]:
    return (Asked("GET", path, _AS_PAGE, settings=settings),)


def _send(
    method: str, path: str, document: Any = None, *, by: str = "ada", **settings: Any
) -> tuple[Asked, ...]:
    if document is None:
        return (Asked(method, path, by=by, settings=settings),)
    body = json.dumps(document)
    return (Asked(method, path, _AS_JSON, body, by=by, settings=settings),)


def _raw(
    method: str, path: str, body: str, *, kind: str = "application/json", by: str = "ada"
) -> tuple[Asked, ...]:
    return (Asked(method, path, {"Content-Type": kind}, body, by=by),)


def _with(header: str, text: str, method: str, path: str) -> tuple[Asked, ...]:
    return (Asked(method, path, {header: text}),)


_MET = {"metric": "validate_drp.AM1", "value": 12.5, "unit": "marcsec", "identifier": "new"}
_JOB = {
    "measurements": [
        _MET,
        {"metric": "checks.Below", "value": None, "unit": "mag", "identifier": "new 2"},
        {"metric": "checks.AtMost", "value": 1, "unit": "kg", "identifier": "new 3"},
        {"metric": "checks.Daily", "value": 0.5, "unit": "cm", "identifier": "new 4"},
        {"metric": "loose.New", "value": 3, "unit": "ct", "identifier": "new 5"},
    ],
    "blobs": [{"identifier": "b", "name": "B", "data": {"x": {"value": [1, 2], "unit": "m"}}}],
    "meta": {
        "instrument": "HSC",
        "filter_name": "r",
        "env": {
            "env_name": "ldf",
            "ci_name": "validate_drp",
            "ci_id": "1001",
            "ci_dataset": "HSC RC2",
            "date": "2026-11-29T03:12:44.5+00:00",
        },
        "packages": [
            {"name": "afw", "git_sha": "f" * 40, "git_url": "https://github.com/lsst/afw"}
        ],
    },
}
_SPEC = {"threshold": {"operator": "<=", "value": 2, "unit": "arcsec"}, "tags": ["minimum"]}
_BASIC = b64encode(b"ada:a password of tests").decode()
_FORGED = "eyJhbGciOiJIUzI1NiIsInR5cCI6InNxdWFzaCtqd3QifQ.eyJzdWIiOiIyIn0.c2lnbmF0dXJl"
_METRIC = {"unit": "mbar", "description": "Pressure", "tags": ["air"], "unknown": 1}
_CREDENTIALS = {"username": "ada", "password": "a password of tests"}

_OVERVIEW = {
    "root": _get("/"),
    "root-below-a-path": _get("/squash/", url="https://example.org/squash"),
    "version": _get("/version"),
    "stats": _get("/stats"),
    "datasets": _get("/datasets"),
    "datasets-paged": _get("/datasets?limit=2&after=HSC%20RC2"),
    "packages": _get("/packages"),
    "packages-paged": _get("/packages/?limit=2"),
    "healthz": _get("/healthz"),
    "readyz": _get("/readyz"),
    "readyz-without-targets": _get("/readyz", influx_url=None, influx_targets=()),
    "openapi": _get("/openapi.json"),
    "docs": _get("/docs"),
}
_JOBS = {
    "jobs": _get("/jobs"),
    "jobs-paged": _get("/jobs?limit=5&after=10"),
    "job": _get("/job/31"),
    "job-with-replaced-measurement": _get("/job/1"),
    "job-with-skipped-values": _get("/job/46"),
    "job-without-anything": _get("/job/48"),
    "job-with-hostile-texts": _get("/job/43"),
    "job-blobs": _get("/job/43/blobs?limit=1"),
    "job-blob": _get("/job/31/blob/blob-0"),
    "job-blob-with-strange-name": _get(f"/job/45/blob/{quote(f'blob/{_PLACE}', safe='')}"),
    "job-report": _get("/job/37/report"),
    "job-report-at-receipt": _get("/job/21/report"),
    "job-report-now": _get("/job/21/report?specs=now"),
    "job-report-not-measured": _get("/job/32/report"),
    "status-delivered": _get("/status/5"),
    "status-waiting": _get("/status/32"),
    "status-refused": _get("/status/40"),
    "status-left-out": _get("/status/46"),
    "status-cleaned": _get("/status/44"),
    "status-without-targets": _get("/status/32", influx_url=None, influx_targets=()),
    "measurement": _get("/measurement/37"),
    "measurement-with-added-ones": _get("/measurement/2"),
}
_MEASUREMENTS = {
    "measurements": _get("/measurements?limit=20"),
    "measurements-paged": _get("/measurements?limit=5&after=24.1"),
    "measurements-of-metric": _get("/measurements?metric=validate_drp.PA1"),
    "measurements-of-package": _get("/measurements?package=survey&metric=loose.Old&limit=1000"),
    "measurements-by-tags": _get("/measurements?filter=r&filter=u&instrument=HSC&detector=42"),
    "measurements-by-dataset": _get("/measurements?ci_dataset=HSC%20RC2&limit=3"),
    "measurements-in-pages": _get(
        "/measurements?package=validate_drp&limit=4&after=1795230764586000000.3"
    ),
    "measurements-of-run": _get("/measurements?run=999&env_name=ldf"),
    "measurements-of-job": _get("/measurements?job=37&fields=*"),
    "measurements-of-release": _get("/measurements?version_tag=w_2026_46&metric=validate_drp.AM1"),
    "measurements-of-time": _get("/measurements?since=2026-11-25T00:00:00%2B02:00&until=3d"),
    "measurements-by-metadata": _get(
        "/measurements?metric=validate_drp.TE1&meta.airmass=1.1..1.35"
        "&fields=meta.airmass,meta.seeing.median,meta.median"
    ),
    "measurements-by-text": _get(
        f"/measurements?meta.note={_HOSTILE}&limit=3&fields=meta.note.text"
    ),
    "measurements-in-unit": _get("/measurements?metric=validate_drp.AM1&unit=arcsec&since=6d"),
    "measurements-with-absent": _get("/measurements?package=checks&run=c-5&absent=true"),
    "measurements-thinned": _get("/measurements?package=validate_drp&points=2"),
    "measurements-csv": _get("/measurements?run=1000&format=csv&fields=meta.airmass"),
    "measurements-csv-hostile": _get("/measurements?package=hostile&format=csv&fields=*"),
    "measurements-parquet": _get("/measurements?package=survey&format=parquet&limit=6"),
    "measurements-of-unknown": _get("/measurements?metric=validate_drp.AM0&packages=x&since=soon"),
    "measurements-of-unknown-metric": _get("/measurements?metric=validate_drp.AM0&package=check"),
    "measurements-with-wrong-texts": _get(
        "/measurements?absent=maybe&points=1&limit=0&after=x&job=x&fields=meta.&meta.=1&meta.a="
        "&since=1d&until=2d&format=xls&filter="
    ),
    "measurements-within-a-job": _get("/measurements?run=995&limit=3&after=1795317078100000000.2"),
    "measurements-in-wrong-unit": _get("/measurements?metric=validate_drp.AM1&unit=kg"),
    "measurements-with-wrong-cursor": _get("/measurements?after=first"),
}
_DEFINITIONS = {
    "metrics": _get("/metrics"),
    "metrics-of-package": _get("/metrics?package=checks&limit=3&after=checks.AtMost"),
    "metric": _get("/metric/checks.Queried"),
    "metric-of-api": _get("/metric/survey.Depth"),
    "metric-withdrawn": _get("/metric/survey.Gone"),
    "specs": _get("/specs"),
    "specs-of-metric": _get("/specs?metric=checks.Queried&limit=2"),
    "specs-by-tag-and-filter": _get("/specs?tag=design&filter_name=r"),
    "specs-by-dataset": _get("/specs?dataset_name=HSC_RC2"),
    "spec": _get("/spec/checks.Queried.truth"),
    "spec-of-api": _get("/spec/survey.Seeing.design"),
    "spec-withdrawn": _get("/spec/survey.Gone.design"),
}
_RUNS = {
    "runs": _get("/runs"),
    "runs-now": _get("/runs?specs=now&limit=5"),
    "runs-of-pipeline": _get("/runs?pipeline=validate_drp&filter=r&limit=3"),
    "runs-of-dataset": _get("/runs?dataset=HSC_RC2&limit=2&after=1795144364500000000"),
    "run": _get("/runs/validate_drp/1000"),
    "run-now": _get("/runs/survey/701?specs=now"),
    "run-in-pages": _get("/runs/checks/again?limit=2")
    + _get("/runs/checks/again?limit=2&after=55"),
    "run-without-pipeline": _get("/runs/-/late_run"),
    "run-with-dash": _get("/runs/checks/--odd"),
    "run-with-strange-name": _get(f"/runs/{_QUOTED_PLACE}/{_QUOTED_PLACE}"),
    "run-unknown": _get("/runs/validate_drp/1"),
    "jenkins": _get("/jenkins/700"),
    "jenkins-of-pipeline": _get("/jenkins/702?ci_name=survey"),
    "jenkins-unknown": _get("/jenkins/1000"),
    "code-changes": _get("/code_changes/997"),
    "code-changes-of-pipeline": _get("/code_changes/996?ci_name=validate_drp"),
    "code-changes-unknown": _get("/code_changes/997?ci_name=checks"),
}
_REPORTS = {
    "report": _get("/report"),
    "report-of-run": _get("/report?run=1000&pipeline=validate_drp&compare_run=999"),
    "report-of-release": _get("/report?version_tag=w_2026_47&compare_version_tag=w_2026_46"),
    "report-of-period": _get(
        "/report?since=2026-11-20&until=2026-11-26&instrument=HSC&filter=r&level=warning"
    ),
    "report-of-package": _get("/report?since=60d&package=checks&tag=operators"),
    "report-of-metric": _get("/report?since=60d&metric=survey.Seeing&dataset=sky"),
    "report-of-nothing": _get("/report?run=none"),
    "report-compared-with-nothing": _get("/report?run=1000&compare_run=none"),
    "report-compared-with-itself": _get("/report?run=999&compare_run=999&metric=validate_drp.PA1"),
    "report-compared-with-more": _get("/report?since=3d&compare_since=60d&filter=r&package=checks"),
    "report-markdown": _get(
        "/report?since=60d&format=md&compare_since=60d&compare_until=2026-11-20"
    ),
    "report-junit": _get("/report?since=60d&format=xml"),
    "report-html-file": _get("/report?since=60d&format=html&compare_run=1000"),
    "report-of-unknown": _get(
        "/report?package=validate&metric=x.Y&since=soon&level=bad&packages=a"
    ),
    "report-in-unknown-format": _get("/report?format=pdf"),
    "badge": _get("/badge/checks.svg"),
    "badge-of-filter": _get("/badge/validate_drp.svg?filter=r&dataset=HSC_RC2"),
    "badge-with-label": _get(f"/badge/camera.svg?label={_HOSTILE}"),
    "badge-without-limits": _get("/badge/hostile.svg"),
    "badge-without-data": _get("/badge/unknown.svg"),
}
_PAGES = {
    "front-page": _page("/"),
    "front-page-of-package": _page("/?package=validate_drp"),
    "front-page-of-tags": _page("/?instrument=HSC&filter=r&tag=detector%3D42&state=WARNING"),
    "front-page-late": _page("/?state=late"),
    "front-page-of-metric": _page("/?q=queried&tag=env_name%3Dldf"),
    "front-page-hostile": _page(f"/?q={_HOSTILE}&package={_HOSTILE}&state={_HOSTILE}"),
    "front-page-below-a-path": _page("/squash/?state=old", url="https://example.org/squash"),
    "metric-page": _page("/metric/validate_drp.PA1"),
    "metric-page-of-api": _page("/metric/survey.Depth?range=all&x=meta.airmass"),
    "metric-page-of-filter": _page(
        "/metric/checks.Below?range=30d&filter=r&detector=42&x=detector"
    ),
    "metric-page-late": _page("/metric/checks.Daily"),
    "metric-page-silent": _page("/metric/checks.Silent"),
    "metric-page-hostile": _page(f"/metric/hostile.{_QUOTED_PLACE}?filter={_HOSTILE}"),
    "metric-page-unknown": _page("/metric/checks.Belov"),
    "metric-plot": _get("/metric/validate_drp.PA1/plot?range=all"),
    "metric-plot-over-number": _get("/metric/validate_drp.AM1/plot?x=meta.airmass&theme=dark"),
    "metric-plot-over-metric": _get("/metric/checks.Queried/plot?x=checks.Muted&detector=41"),
    "metric-plot-over-words": _get("/metric/validate_drp.AM1/plot?x=filter"),
    "metric-plot-over-nothing": _get("/metric/validate_drp.AM1/plot?x=meta.nothing"),
    "metric-plot-not-new": _get("/metric/validate_drp.PA1/plot?newest=32"),
    "job-page": _page("/job/31"),
    "job-page-broken": _page("/job/38"),
    "job-page-at-receipt": _page("/job/21"),
    "job-page-now": _page("/job/21?specs=now"),
    "job-page-left-out": _page("/job/46"),
    "job-page-refused": _page("/job/40"),
    "job-page-with-blob": _page("/job/26?blob=0&y=rms&x=mag"),
    "job-page-hostile": _page("/job/43?blob=0"),
    "job-page-without-anything": _page("/job/48"),
    "job-plot": _get("/job/26/plot?blob=0&y=rms&x=mag"),
    "job-plot-histogram": _get("/job/26/plot?y=counts&theme=dark"),
    "job-plot-unknown": _get("/job/26/plot?blob=1"),
    "runs-page": _page("/runs"),
    "runs-page-of-pipeline": _page(
        "/runs?pipeline=validate_drp&dataset=HSC_RC2&filter=i&specs=now"
    ),
    "run-page": _page("/runs/validate_drp/996"),
    "run-page-broken": _page("/runs/checks/c-3?specs=now"),
    "run-page-hostile": _page(f"/runs/{_QUOTED_PLACE}/{_QUOTED_PLACE}"),
    "run-page-unknown": _page("/runs/validate_drp/1"),
    "specs-page": _page("/specs"),
    "specs-page-of-words": _page("/specs?q=critical%20mute&package=checks"),
    "specs-page-hostile": _page(f"/specs?q={_HOSTILE}"),
    "report-page": _page("/report"),
    "report-page-compared": _page(
        "/report?since=60d&compare_run=999&package=validate_drp&filter=r"
    ),
    "report-page-of-nothing": _page("/report?run=none"),
    "report-page-hostile": _page(f"/report?since=60d&dataset={_HOSTILE}&filter={_HOSTILE}"),
    "report-page-of-unknown": _page("/report?package=validate"),
    "job-page-unknown": _page("/job/999"),
    "job-page-deleted": _page("/job/58"),
    "page-unknown": _page(f"/nowhere/{_HOSTILE}"),
    "page-without-token": _page("/users"),
    "page-with-wrong-parameter": _page("/jobs?limit=0"),
}
_ACCOUNTS = {
    "auth": _send("POST", "/auth", _CREDENTIALS, by=""),
    "auth-with-wrong-password": _send(
        "POST", "/auth", {**_CREDENTIALS, "password": "another"}, by=""
    ),
    "auth-of-disabled": _send("POST", "/auth", {**_CREDENTIALS, "username": "leaver"}, by=""),
    "auth-without-password": _send("POST", "/auth", {"username": "ada"}, by=""),
    "users": _get("/users", by="ada"),
    "users-paged": _get("/users?limit=2", by="ada"),
    "user": _get("/user/grace", by="ada"),
    "user-disabled": _get("/user/leaver", by="ada"),
    "users-without-token": _get("/users"),
    "users-with-wrong-token": _with("Authorization", "JWT abc", "GET", "/users"),
    "users-with-wrong-scheme": _with("Authorization", "Digest abc", "GET", "/users"),
    "users-with-password": _with("Authorization", f"Basic {_BASIC}", "GET", "/users"),
    "users-with-wrong-basic": _with("Authorization", "Basic abc", "GET", "/users"),
    "users-with-forged-token": _with("Authorization", f"Bearer {_FORGED}", "GET", "/users"),
    "users-with-half-a-token": _with("Authorization", "JWT", "GET", "/users"),
    "users-with-two-tokens": _with("Authorization", "JWT a b", "GET", "/users"),
    "register": _send("POST", "/register", {"username": "new", "password": "secret"}, by="")
    + _get("/users", by="root"),
    "register-closed": _send("POST", "/register", _CREDENTIALS, by="", registration="closed"),
    "register-taken": _send("POST", "/register", _CREDENTIALS, by=""),
    "register-with-wrong-name": _send(
        "POST", "/register", {"username": " a", "password": "secret"}, by=""
    ),
    "delete-user": _send("DELETE", "/user/ada") + _get("/user/grace", by="ada"),
    "delete-user-of-another": _send("DELETE", "/user/grace"),
}
_JOB_CHANGES = {
    "post-job": _send("POST", "/job", _JOB)
    + _get("/job/61")
    + _get("/status/61")
    + _get("/job/61/report")
    + _get("/runs/validate_drp/1001")
    + _get("/code_changes/1001")
    + _page("/?package=checks&q=daily"),
    "post-job-twice": _send("POST", "/job", _JOB) + _send("POST", "/job", _JOB),
    "post-job-with-same-measurements": _send(
        "POST", "/job", {"measurements": [{**_MET, "identifier": "doomed-loose.Count"}]}
    )
    + _send("POST", "/job", {**_JOB, "meta": {}})
    + _send("POST", "/job", _JOB),
    "prometheus": _send("POST", "/job", _JOB) + _get("/job/999") + _get("/prometheus"),
    "post-job-strictly": _send("POST", "/job?strict=true", _JOB) + _get("/job/61"),
    "post-job-with-nan": _raw(
        "POST", "/job", '{"measurements": {"metric": "loose.Count", "value": NaN, "unit": "ct"}}'
    ),
    "post-job-without-token": _send("POST", "/job", _JOB, by=""),
    "post-job-that-is-none": _send(
        "POST", "/job", {"measurements": [{"value": "x"}, 3], "blobs": 1, "meta": []}
    ),
    "post-job-of-wrong-types": _send(
        "POST",
        "/job",
        {
            "measurements": [{"metric": 1}, {"metric": "a.b", "value": [], "unit": 1}],
            "blobs": [1],
            "meta": {"env": 1, "packages": "x"},
        },
    ),
    "post-job-that-is-too-deep": _raw("POST", "/job", f'{{"meta": {"[" * 300}{"]" * 300}}}'),
    "post-job-that-is-no-json": _raw("POST", "/job", '{"measurements":\n [1,}'),
    "post-job-as-text": _raw("POST", "/job", "{}", kind="text/plain"),
    "post-job-too-large": _send("POST", "/job", {"meta": {"a": "x" * 2000}}, max_body_bytes=1000),
    "delete-job": _send("DELETE", "/job/32")
    + _get("/job/32")
    + _get("/runs/validate_drp/1000")
    + _get("/readyz"),
    "delete-job-of-another": _send("DELETE", "/job/13"),
    "delete-job-unknown": _send("DELETE", "/job/999"),
    "post-measurement": _send("POST", "/measurement/31", _MET)
    + _get("/measurement/31")
    + _get("/status/31")
    + _get("/job/31/report"),
    "post-measurement-without-unit": _send(
        "POST", "/measurement/31", {"metric": "checks.Below", "value": 1}
    ),
    "post-measurement-of-wrong-types": _send(
        "POST", "/measurement/31", {"metric": 1, "value": "x", "unit": 2, "identifier": 3}
    ),
    "post-measurement-in-wrong-unit": _send("POST", "/measurement/31", {**_MET, "unit": "kg"}),
    "post-measurement-to-anothers": _send("POST", "/measurement/13", _MET),
}
_DEFINITION_CHANGES = {
    "post-metric": _send("POST", "/metric/air.Pressure", _METRIC)
    + _send("POST", "/metric/air.Pressure", _METRIC)
    + _send("POST", "/metric/air.Pressure", {**_METRIC, "unit": "Pa"}, by="grace"),
    "post-metric-of-measured": _send(
        "POST", "/metric/loose.Count", {"description": "C", "unit": "ct"}
    )
    + _get("/status/46"),
    "post-metric-of-yaml": _send("POST", "/metric/checks.Below", _METRIC),
    "post-metric-without-description": _send("POST", "/metric/air.Pressure", {"unit": "Pa"}),
    "post-metrics": _send(
        "POST", "/metrics", {"metrics": [{"name": "air.Wind", **_METRIC}, {"name": "air.Rain"}]}
    ),
    "post-metrics-that-are-wrong": _send(
        "POST",
        "/metrics",
        {"metrics": [{"name": "air", "unit": "m"}, {"name": "a.b", "unit": "hm/"}]},
    ),
    "post-metrics-with-wrong-keys": _send(
        "POST",
        "/metrics",
        {
            "metrics": [
                {"name": "squash.a", "unit": 1, "description": 2, "tags": 3, "reference": 4},
                {"name": "air.run_id", "unit": "m", "reference": {"page": "x", "url": 5}},
            ]
        },
    ),
    "put-metric": _send("PUT", "/metric/survey.Seeing", {"description": "S", "unit": "marcsec"})
    + _get("/measurements?metric=survey.Seeing&limit=2")
    + _get("/job/19/report?specs=now"),
    "put-metric-in-wrong-unit": _send(
        "PUT", "/metric/survey.Seeing", {"description": "S", "unit": "s"}
    ),
    "put-metric-of-another": _send("PUT", "/metric/survey.Seeing", _METRIC, by="grace"),
    "put-metric-of-yaml": _send("PUT", f"/metric/{_CAMERA}", _METRIC, by="root"),
    "delete-metric": _send("DELETE", "/metric/survey.Count") + _get("/metric/survey.Count"),
    "delete-metric-unknown": _send("DELETE", "/metric/survey.Nothing"),
    "post-spec": _send("POST", "/spec/survey.Seeing.new", _SPEC)
    + _send("POST", "/spec/survey.Seeing.new", _SPEC)
    + _send("POST", "/spec/survey.Seeing.new", {**_SPEC, "tags": []})
    + _get("/job/21/report")
    + _get("/job/21/report?specs=now"),
    "post-spec-of-unknown": _send("POST", "/spec/survey.Nothing.new", _SPEC),
    "post-specs": _send(
        "POST",
        "/specs",
        {"specs": [{"name": "survey.Seeing.a", **_SPEC, "metadata_query": {"x": 1}}]},
    ),
    "post-specs-that-are-wrong": _send(
        "POST",
        "/specs",
        {
            "specs": [
                {"name": "survey.Depth.a", **_SPEC},
                {"name": "x", "threshold": {"value": "y"}},
            ]
        },
    ),
    "post-specs-with-wrong-keys": _send(
        "POST",
        "/specs",
        {
            "specs": [
                {
                    "name": "survey.Seeing.a",
                    "threshold": {"operator": "=", "value": "1e400", "unit": "hm/"},
                    "tags": 1,
                    "metadata_query": {"date": "x", "packages": None},
                    "alert": {
                        "level": "bad",
                        "channel": "dm",
                        "per": ["x"],
                        "max_age": "1",
                        "mute": {},
                    },
                    "expect": {"every": 5},
                }
            ]
        },
    ),
    "post-spec-with-all-keys": _send(
        "POST",
        "/spec/survey.Seeing.all",
        {
            **_SPEC,
            "metadata_query": {"instrument": "LATISS", "physical_filter": "g~z"},
            "alert": {
                "level": "info",
                "channel": "@ada",
                "per": "instrument",
                "max_age": "2w",
                "mute": {"until": "2026-12-15", "why": "new"},
            },
            "expect": {"every": "1h", "grace": "5m"},
        },
    )
    + _page("/specs?q=seeing.all")
    + _page("/?package=survey&state=late"),
    "put-spec": _send("PUT", "/spec/survey.Seeing.design", _SPEC, by="grace")
    + _get("/spec/survey.Seeing.design")
    + _page("/specs?package=survey")
    + _get("/runs?pipeline=survey&specs=now&limit=1"),
    "put-spec-of-another": _send("PUT", "/spec/survey.Seeing.design", _SPEC, by="ada"),
    "put-spec-of-yaml": _send("PUT", "/spec/checks.Below.minimum", _SPEC, by="root"),
    "delete-spec": _send("DELETE", "/spec/survey.Seeing.z") + _get("/specs?metric=survey.Seeing"),
    "delete-spec-of-yaml": _send("DELETE", "/spec/checks.Below.minimum", by="root"),
}
_REFUSED = {
    "unknown-address": _get("/nowhere"),
    "job-unknown": _get("/job/999"),
    "job-deleted": _get("/job/59"),
    "job-that-is-no-number": _get("/job/first"),
    "job-blob-unknown": _get("/job/31/blob/nothing"),
    "job-report-with-wrong-parameter": _get("/job/31/report?specs=later"),
    "status-unknown": _get("/status/0"),
    "metric-unknown": _get("/metric/checks.Belov"),
    "jobs-with-wrong-limit": _get("/jobs?limit=1001"),
    "jobs-with-wrong-cursor": _get("/jobs?after=x"),
    "runs-with-wrong-cursor": _get("/runs?after=x"),
    "events-with-wrong-cursor": _get("/events?after=-1"),
    "static-unknown": _get("/static/nothing.css"),
    "put-on-jobs": _send("PUT", "/jobs", {}, by=""),
    "post-on-status": _send("POST", "/status/1", {}, by=""),
    "delete-on-root": _send("DELETE", "/", by=""),
    "post-metrics-that-are-no-json": _raw("POST", "/metrics", "[1,"),
    "post-metrics-that-are-a-list": _raw("POST", "/metrics", "[]"),
    "post-metrics-as-text": _raw("POST", "/metrics", "{}", kind="text/plain"),
}

REQUESTS: Mapping[str, tuple[Asked, ...]] = {
    **_OVERVIEW,
    **_JOBS,
    **_MEASUREMENTS,
    **_DEFINITIONS,
    **_RUNS,
    **_REPORTS,
    **_PAGES,
    **_ACCOUNTS,
    **_JOB_CHANGES,
    **_DEFINITION_CHANGES,
    **_REFUSED,
}
