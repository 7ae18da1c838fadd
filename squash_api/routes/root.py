"""The API as a whole: its map, its version, and how much the record holds."""

from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version

import orjson
from fastapi import APIRouter, Request, Response
from starlette.types import Scope

from squash_api.record.jobs import last_job_received_ns, number_of_jobs
from squash_api.routes.dependencies import PageDep, SiteDep, paged_reply
from squash_api.routes.middleware import PREFIX, is_bare
from squash_api.routes.negotiation import means_html
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.schema.names import split_metric_name
from squash_api.site import Site

router = APIRouter(tags=["overview"], route_class=KnownParametersRoute)

ENDPOINTS = (
    "alert",
    "alerts",
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
    "silence",
    "silences",
    "spec",
    "specs",
    "standings",
    "stats",
    "status",
    "user",
    "users",
    "version",
)
"""Names of the root map; clients find `auth` and `job` there."""


@router.get("/")
async def get_root(request: Request) -> Response:
    """Return the absolute URL of every endpoint, by name. Clients start here."""
    # The short way gives only the request.
    site: Site = request.app.state.site
    body = _map_of(site.settings.url, request.scope.get(PREFIX) or "")
    return Response(body, media_type="application/json")


def is_for_programs(scope: Scope) -> bool:
    """Tell whether a request is plainly for the map: no page, no parameters, nobody's session."""
    return is_bare(scope) and not means_html(scope)


@lru_cache(maxsize=16)
def _map_of(root: str, prefix: str) -> bytes:
    """Write the map; below a prefix as the services had it whose clients ask there."""
    end = "/" if prefix else ""
    return orjson.dumps({name: f"{root}{prefix}/{name}{end}" for name in ENDPOINTS})


@router.get("/version")
async def get_version() -> Response:
    """Return the version of the API and the release of this software."""
    return json_reply({"version": "1.0", "release": version("squash-api")})


@router.get("/openapi.json", include_in_schema=False)
def get_openapi(request: Request) -> Response:
    """Return the OpenAPI document of this API."""
    return json_reply(request.app.openapi())


@router.get("/stats")
def get_stats(site: SiteDep) -> Response:
    """Return how many jobs, measurements and so on the record has."""
    site.reader.catch_up()
    with site.reader.view() as view:
        received_ns = view.ask(last_job_received_ns)
        jobs = view.ask(number_of_jobs)
        measurements = view.runs.count_measurements()
    date = ""
    if received_ns is not None:
        date = datetime.fromtimestamp(received_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return json_reply(
        {
            "stats": {
                "last_job_date": date,
                "number_of_jobs": jobs,
                "number_of_metrics": len(site.metrics.now.by_name),
                "number_of_measurements": measurements,
            }
        }
    )


@router.get("/datasets", responses=errors_of(422))
def get_datasets(request: Request, site: SiteDep, page: PageDep) -> Response:
    """List the datasets that jobs have named, sorted."""
    site.reader.catch_up()
    with site.reader.view() as view:
        found = view.runs.datasets(after=page.after or "", limit=page.limit + 1)
    return paged_reply(request, page, "datasets", found)


@router.get("/packages", responses=errors_of(422))
def get_packages(request: Request, site: SiteDep, page: PageDep) -> Response:
    """List the verification packages that have metrics, sorted."""
    site.metrics.refresh()
    names = sorted({split_metric_name(name)[0] for name in site.metrics.now.by_name})
    found = [name for name in names if name > (page.after or "")]
    return paged_reply(request, page, "packages", found)
