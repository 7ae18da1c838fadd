"""Six weeks of points for queries, made as the service makes them.

A job is a run in one filter on one dataset; the photometry has become worse three days ago. Times
are counted back from now, one hour off, so that the edge of a query is between two runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from squash_api.index.code_changes import PackageChange, changes_text
from squash_api.influx.points import job_to_points
from squash_api.ingest.assessment import assess
from squash_api.ingest.document import decode_job
from squash_api.schema.names import Schema
from squash_api.verify.metrics import KnownMetric
from tests.support.builders import make_body, measured

DAY_NS = 86_400 * 10**9
HOUR_NS = 3_600 * 10**9
DAYS = 42
DATASETS = ("HSC RC2", "CFHT nightly")
FILTERS = ("g", "r")
CCDS = (0, 16, 104)
CHANGES = {
    3: [PackageChange("pipe_tasks", None, "0" * 40, "https://example.org/pipe_tasks")],
    12: [
        PackageChange("afw", None, "1" * 40, "https://example.org/afw"),
        PackageChange("old", None, "", ""),
    ],
}
"""What was changed, by how many days ago."""

_UNITS = {
    "validate_drp.PA1": "mmag",
    "validate_drp.AM1": "marcsec",
    "camera.AvgCameraBodySurfaceTemp": "deg_C",
    "ip_isr.SaturatedPixels": "ct",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A job as it was made: `values` by metric, `meta` as sent, `days` ago."""

    job_id: int
    time_ns: int
    days: int
    values: dict[str, float]
    meta: dict[str, Any]


def samples(now_ns: int) -> list[Sample]:
    """Return the jobs, oldest first."""
    found: list[Sample] = []
    for days in range(DAYS, 0, -1):
        for values, meta in _jobs_of(days):
            number = len(found) + 1
            time_ns = now_ns - days * DAY_NS + HOUR_NS + number * 1000
            found.append(Sample(number, time_ns, days, values, meta))
    return found


def lines_of(found: Sequence[Sample], url: str = "https://squash.example.org") -> list[str]:
    """Return the points of jobs, by the path that every job goes."""
    schema = Schema()
    known = {name: KnownMetric(unit, is_declared=True) for name, unit in _UNITS.items()}
    lines = []
    for item in found:
        body = make_body(
            *(measured(name, value, _UNITS[name]) for name, value in item.values.items()),
            **item.meta,
        )
        job = decode_job(body)
        changes = CHANGES.get(item.days, [])
        points = job_to_points(
            job_id=item.job_id,
            squash_url=f"{url}/job/{item.job_id}",
            time_ns=item.time_ns,
            values=assess(job, metrics=known, schema=schema).values,
            context=schema.context(job.meta),
            code_changes=(changes_text(changes), len(changes)),
        )
        lines += [point.line for point in points]
    return lines


def _jobs_of(days: int) -> Iterator[tuple[dict[str, float], dict[str, Any]]]:
    airmass = 1.0 + days % 8 / 8
    run = {"ci_id": f"R{days}", "ci_name": "validate_drp", "version_tag": f"d_{days}"}
    for offset, dataset in enumerate(DATASETS):
        for step, name in enumerate(FILTERS):
            repeatability = 4.0 + airmass / 4 + offset / 2 + step / 8 + (3.0 if days <= 3 else 0.0)
            yield (
                {
                    "validate_drp.PA1": repeatability,
                    "validate_drp.AM1": 2 * repeatability - days / 64,
                },
                {**run, "ci_dataset": dataset, "filter_name": name, "airmass": airmass},
            )
    yield {"camera.AvgCameraBodySurfaceTemp": 10 - days / 8}, {**run, "instrument": "LSSTCam"}
    if days <= 5:
        for ccd in CCDS:
            yield (
                {"ip_isr.SaturatedPixels": 10.0 * ccd + days},
                {**run, "ci_name": "ip_isr", "instrument": "LSSTCam", "ccdnum": ccd},
            )
