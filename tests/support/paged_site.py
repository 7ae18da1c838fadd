"""A running service with something on every page, ordinary and hostile, and where its pages are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.calls import Calls, log_in
from tests.support.metrics_packages import ROOT
from tests.support.notebook_runs import post_notebook
from tests.support.service import READING, Service
from tests.support.site import TIMEOUT_S, job_document, wait_for

TEMPERATURE = "camera.AvgCameraBodySurfaceTemp"
INJECTED = "data-injected"
"""The attribute that the root of a page has after a hostile text was run as a script."""

PLACES = """() => {
  const view = Bokeh.index.roots[0];
  const corner = view.el.getBoundingClientRect();
  const { data } = view.model.document.get_model_by_name("points");
  return Object.fromEntries(Array.from(data.job, (job, index) => [job, {
    x: corner.left + view.frame.x_scale.compute(data.x[index]),
    y: corner.top + view.frame.y_scale.compute(data.y[index]),
  }]));
}"""
"""Where on the screen the points of a plot are, by their jobs; to be evaluated in a page."""

_RUN_IT = f"document.documentElement.setAttribute('{INJECTED}', 'yes')"
SCRIPT = f"</script></title><script>{_RUN_IT}</script>"
IMAGE = f'"\'><img src=nowhere onerror="{_RUN_IT}">'
LINK = f"javascript:{_RUN_IT}"
BACKWARDS = "\u202eRTL \u05e9\u05dc\u05d5\u05dd"
LONG = "long" * 2500
PATH = "a/../b?c=d&e#f%2F;"
QUOTES = """ ' " ` &lt; {{ 7 * 7 }} $$x$$ @{job} \\ """
HOSTILE = (f"{SCRIPT}{IMAGE}", LINK, f"{BACKWARDS}{QUOTES}", PATH, LONG)

# One for each text, undeclared: a declared name is harmless by its rules.
HOSTILE_METRICS = tuple(f"hostile.{text[:200]}" for text in (f"{SCRIPT}{IMAGE}", BACKWARDS, PATH))
PLAIN_METRIC = "hostile.plain"


class PagedSite:
    """A service without InfluxDB, and the user `ada` of it.

    Parameters
    ----------
    service
        Which one; it runs.
    client
        Of that service.
    """

    def __init__(self, service: Service, client: httpx.Client) -> None:
        self.url = service.url
        self.client = client
        self.calls: Calls = log_in(client, "ada")

    def post(self, document: Mapping[str, Any]) -> int:
        """Post a job, and return its id."""
        reply = self.calls("POST", "/job", document)
        assert reply.status_code == 202, reply.text
        job_id: int = reply.json()["id"]
        return job_id

    def wait_for_alert(self) -> int:
        """Wait until what was posted has opened an alert, and return the id of the first."""

        def found() -> list[dict[str, Any]]:
            return list(self.client.get("/alerts").json()["alerts"])

        alert_id: int = wait_for(found)[-1]["id"]
        return alert_id

    def measure(self, value: float, *, run: int, airmass: float = 1.2, **meta: Any) -> int:
        """Post the temperature of the camera in one of the nights until now; run 0 is the last."""
        date = datetime.now(UTC) - timedelta(days=run)
        env = {"env_name": "ci", "ci_name": "nightly", "ci_id": f"{1000 - run}"}
        env |= {"ci_dataset": "sky", "ci_url": f"https://ci.example.org/{1000 - run}"}
        env["date"] = date.isoformat()
        said = {"instrument": "LSSTCam", "camera_name": "lsstCam", "filter_name": "r", **meta}
        document = job_document(
            {TEMPERATURE: value}, unit="deg_C", airmass=airmass, **said, env=env
        )
        document["meta"]["packages"] = packages(run)
        return self.post(document)


def packages(run: int) -> dict[str, dict[str, str]]:
    """Return the packages of a run; one of them changes every third."""
    return {
        name: {
            "name": name,
            "git_sha": f"{shade:040x}",
            "git_url": f"https://github.com/lsst/{name}.git",
            "git_branch": "main",
            "eups_version": f"1.{shade}",
        }
        for name, shade in {"afw": 10, "ip_isr": 900 - run // 3}.items()
    }


@contextmanager
def paged_site(folder: Path) -> Iterator[PagedSite]:
    """Run a service with the specifications of the camera, and nothing measured yet."""
    specs = str(ROOT / "examples" / "specs" / "camera")
    with (
        Service(folder, SQUASH_SPECS=specs, **READING) as service,
        httpx.Client(base_url=service.url, timeout=TIMEOUT_S, trust_env=False) as client,
    ):
        yield PagedSite(service, client)


NAMES = (
    "overview",
    "overview of a package",
    "metric",
    "metric over airmass",
    "metric with hostile jobs",
    *(f"hostile metric {index}" for index in range(len(HOSTILE_METRICS))),
    "job",
    *(f"hostile job {index}" for index in range(len(HOSTILE))),
    "runs",
    "run",
    "hostile run",
    "notebooks",
    "notebook",
    "hostile notebook",
    "alerts",
    "alert",
    "alerts, hostile query",
    "specifications",
    "report",
    "report of a run",
    "report as a file",
    "search",
    "documentation of the API",
    "document",
    "overview, hostile query",
    "metric, hostile query",
    "runs, hostile query",
    "notebooks, hostile query",
    "specifications, hostile query",
    "report, hostile query",
    "search, hostile query",
)
"""What the pages are called that `fill` returns the addresses of."""


def fill(site: PagedSite) -> dict[str, str]:
    """Post ordinary and hostile jobs, and return the addresses of pages that show them."""
    nights = {5: 10.0, 4: 10.5, 3: 9.5, 2: 12.5, 1: 11.0, 0: 16.0}
    ids = [
        site.measure(value, run=run, airmass=1 + run / 10, visit=700 + run)
        for run, value in nights.items()
    ]
    define_hostile(site)
    hostile = [site.post(document) for document in hostile_jobs()]
    notebook = post_notebook(site.calls, run="n1", release="w_1", failed=1, since="30d")
    texts = dict(pairwise(HOSTILE))
    hostile_notebook = post_notebook(site.calls, HOSTILE[0], run=HOSTILE[3], **texts)
    addresses = [
        "/",
        "/?package=hostile",
        f"/metric/{TEMPERATURE}",
        f"/metric/{TEMPERATURE}?x=meta.airmass",
        f"/metric/{PLAIN_METRIC}",
        *(f"/metric/{quote(name, safe='')}" for name in HOSTILE_METRICS),
        f"/job/{ids[-1]}",
        *(f"/job/{job_id}" for job_id in hostile),
        "/runs",
        "/runs/nightly/1000",
        f"/runs/{quote(PATH, safe='')}/{quote(PATH, safe='')}",
        "/notebooks",
        f"/notebook/{notebook}",
        f"/notebook/{hostile_notebook}",
        "/alerts",
        f"/alert/{site.wait_for_alert()}",
        f"/alerts?{_hostile_query('metric', 'tag')}%3D1",
        "/specs",
        "/report",
        "/report?run=1000",
        "/report?since=30d&format=html",
        "/search?q=hostile",
        "/docs",
        "/docs/alerts",
        f"/?{_hostile_query('q', 'tag', 'package', 'dataset', 'filter', 'instrument')}",
        f"/metric/{PLAIN_METRIC}?{_hostile_query('x', 'instrument', 'filter', 'dataset')}",
        f"/runs?{_hostile_query('pipeline', 'dataset', 'filter')}",
        f"/notebooks?{_hostile_query('template', 'version_tag', 'run')}",
        f"/specs?{_hostile_query('q', 'package')}",
        f"/report?{_hostile_query('dataset', 'filter', 'instrument', 'tag')}",
        f"/search?{_hostile_query('q')}",
    ]
    return dict(zip(NAMES, addresses, strict=True))


def _hostile_query(*names: str) -> str:
    return "&".join(f"{name}={quote(HOSTILE[0], safe='')}" for name in names)


def define_hostile(site: PagedSite) -> None:
    """Define a metric and specifications, hostile wherever there is free text."""
    metric = {
        "name": PLAIN_METRIC,
        "description": f"{SCRIPT} {IMAGE} {BACKWARDS} {LONG}",
        "unit": "",
        "tags": [SCRIPT, IMAGE, BACKWARDS],
        "reference": {"doc": f"{SCRIPT}{LONG}", "url": LINK, "page": 1},
        "display_name": IMAGE,
    }
    reply = site.calls("POST", "/metrics", {"metrics": [metric]})
    assert reply.status_code == 201, reply.text
    specifications = [
        {
            "name": f"{PLAIN_METRIC}.{name}",
            "threshold": {"operator": "<=", "value": limit, "unit": ""},
            "tags": [name, SCRIPT, IMAGE],
            "metadata_query": query,
        }
        for name, limit, query in [
            ("minimum", 1.0, {}),
            ("design", 0.5, {"note": IMAGE, BACKWARDS: SCRIPT}),
            ("stretch", 5.0, {SCRIPT: QUOTES}),
        ]
    ]
    reply = site.calls("POST", "/specs", {"specs": specifications})
    assert reply.status_code == 201, reply.text


def hostile_jobs() -> list[dict[str, Any]]:
    """Return a job for each hostile text, which has it wherever there is room."""
    return [_hostile_job(text, 0.5 + index) for index, text in enumerate(HOSTILE)]


def _hostile_job(text: str, value: float) -> dict[str, Any]:
    """Return a job that has a text for every name and for every value."""
    names = [PLAIN_METRIC, *HOSTILE_METRICS]
    document = job_document(
        dict.fromkeys(names, value),
        instrument=text,
        filter_name=text,
        camera_name=text,
        note=text,
        visit=value,
        link=text,
        page=f"https://example.org/{text}",
        list=[text, {text: text}],
    )
    document["meta"] |= {
        text: text,
        f"{text}.inner": {text: {text: text}},
        "env": {
            "env_name": text,
            "ci_name": text,
            "ci_id": text,
            "ci_dataset": text,
            "ci_url": text,
            "version_tag": text,
            "run_id": text,
        },
        "packages": {
            text: {
                "name": text,
                "git_sha": text,
                "git_url": text,
                "git_branch": text,
                "eups_version": text,
            }
        },
    }
    numbers = [number**1.5 for number in range(30)]
    data = {
        "values": {"value": numbers, "unit": "", "label": text, "description": text},
        text: {"value": numbers[::-1], "unit": text, "label": text, "description": text},
        "words": {"value": [text, text], "unit": "", "label": text, "description": text},
        "word": {"value": text, "unit": text, "label": None, "description": None},
    }
    blob = {"identifier": f"blob-{value}-{text[:50]}", "name": text, "data": data}
    document["blobs"] = [blob]
    document["measurements"][0]["blob_refs"] = [blob["identifier"]]
    return document
