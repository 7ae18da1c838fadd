"""The root map, and what the record holds as a whole."""

from datetime import UTC, datetime
from importlib.metadata import version

from fastapi import APIRouter, Request, Response

from squash_api.record.overview import last_job_received_ns, number_of_jobs
from squash_api.record.runs import count_measurements, datasets
from squash_api.routes.dependencies import PageDep, PartsDep, next_link
from squash_api.routes.error_responses import errors_of
from squash_api.routes.json_reply import json_reply
from squash_api.schema import split_metric_name

router = APIRouter(tags=["overview"])

ENDPOINTS = (
    "auth",
    "code_changes",
    "datasets",
    "jenkins",
    "job",
    "jobs",
    "measurement",
    "measurements",
    "metric",
    "metrics",
    "packages",
    "register",
    "report",
    "runs",
    "spec",
    "specs",
    "stats",
    "status",
    "user",
    "users",
    "version",
)
"""Names of the root map; clients find `auth` and `job` there."""


@router.get("/")
async def get_root(parts: PartsDep) -> Response:
    """Return the absolute URL of every endpoint, by name; clients begin here."""
    return json_reply({name: f"{parts.settings.url}/{name}" for name in ENDPOINTS})


@router.get("/version")
async def get_version() -> Response:
    """Return the version of the API, and that of this software."""
    return json_reply({"version": "1.0", "release": version("squash-api")})


@router.get("/stats")
def get_stats(parts: PartsDep) -> Response:
    """Return how much the record holds."""
    parts.deriver.catch_up()
    with parts.record.read() as connection:
        received_ns = last_job_received_ns(connection)
        jobs = number_of_jobs(connection)
        measurements = count_measurements(connection)
    date = ""
    if received_ns is not None:
        date = datetime.fromtimestamp(received_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return json_reply(
        {
            "stats": {
                "last_job_date": date,
                "number_of_jobs": jobs,
                "number_of_metrics": len(parts.vocabulary.metrics),
                "number_of_measurements": measurements,
            }
        }
    )


@router.get("/datasets", responses=errors_of(422))
def get_datasets(request: Request, parts: PartsDep, page: PageDep) -> Response:
    """List the datasets that jobs have named, in order."""
    parts.deriver.catch_up()
    with parts.record.read() as connection:
        found = datasets(connection, after=page.after or "", limit=page.limit + 1)
    link = (
        next_link(request, parts, after=found[page.limit - 1]) if len(found) > page.limit else None
    )
    return json_reply({"datasets": found[: page.limit], "next": link})


@router.get("/packages", responses=errors_of(422))
def get_packages(request: Request, parts: PartsDep, page: PageDep) -> Response:
    """List the verification packages that have metrics, in order."""
    parts.vocabulary.refresh()
    # Copied at once: another thread may add to them meanwhile.
    metrics = list(parts.vocabulary.metrics)
    names = sorted({split_metric_name(name)[0] for name in metrics})
    found = [name for name in names if name > (page.after or "")]
    link = (
        next_link(request, parts, after=found[page.limit - 1]) if len(found) > page.limit else None
    )
    return json_reply({"packages": found[: page.limit], "next": link})
