"""Whether the service is up, what it can reach, and its metrics for Prometheus."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from squash_api.errors import RecordUnavailableError
from squash_api.record.deliveries import Backlog, TargetRow, backlogs, get_target
from squash_api.record.jobs import last_job_id
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.door import may_read
from squash_api.routes.replies import errors_of, json_reply
from squash_api.site import Site

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def get_healthz() -> Response:
    """Return 200 if the process is running."""
    return json_reply({"status": "ok"})


@router.get("/readyz", responses=errors_of(503))
def get_readyz(request: Request, site: SiteDep) -> Response:
    """Return whether jobs are accepted, and which dependency is down.

    The status is 503 only if the record is unavailable. While an InfluxDB is down, jobs are still
    accepted and stored, so the status stays 200; the body says `degraded`, since when, and why.
    With `SQUASH_READ=users`, only users are told which dependency, since when, and why.
    """
    is_reader = may_read(request)
    try:
        site.record.require_writable()
        found = _backlogs(site)
    except RecordUnavailableError as error:
        message = error.message if is_reader else "The record is unavailable."
        return json_reply(
            {
                "message": message,
                "code": error.code,
                "status_code": error.status_code,
                "detail": [],
                "status": "down",
                "record": {"status": "down", "reason": message},
            },
            status_code=503,
        )
    is_well = all(item.trouble is None for item in found)
    shown: dict[str, Any] = {
        "status": "ok" if is_well else "degraded",
        "record": {"status": "ok"},
    }
    if is_reader:
        shown["targets"] = {item.target: _target_state(item) for item in found}
    return json_reply(shown)


@router.get("/prometheus", response_class=Response, responses=errors_of(503))
def get_prometheus(request: Request, site: SiteDep) -> Response:
    """Return the service's own metrics in Prometheus' text format."""
    figures: bytes = request.app.state.counters.expose(_backlogs(site))
    return Response(figures, media_type=CONTENT_TYPE_LATEST)


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """A target as people call it; why and since when nothing reaches it, None if all is well."""

    label: str
    trouble: str | None
    since_ns: int | None


def delivery_health(site: Site) -> list[TargetHealth] | None:
    """Return how delivery to each target is, quickly enough for every page.

    None if the record is unavailable.
    """
    names = [target.name for target in site.settings.outlets]
    try:
        with site.reader.view() as view:
            last = view.ask(last_job_id)
            rows = [view.ask(get_target, name) for name in names]
    except RecordUnavailableError:
        return None
    return [_target_health(row, last) for row in rows]


def _target_health(row: TargetRow, last_job: int) -> TargetHealth:
    label = "Kapacitor" if row.name == "kapacitor" else f"InfluxDB {row.name}"
    is_forsaken = row.sent_through < last_job and row.lease_until_ns < time.time_ns()
    if row.trouble is None and is_forsaken:
        return TargetHealth(label, "jobs wait, and no process delivers them", None)
    return TargetHealth(label, row.trouble, row.trouble_since_ns)


def _backlogs(site: Site) -> list[Backlog]:
    with site.reader.view() as view:
        # Without targets nothing else would show whether the record is available.
        view.ask(last_job_id)
        return view.ask(backlogs, targets=[target.name for target in site.settings.outlets])


def _target_state(item: Backlog) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "status": "down" if item.trouble else "ok",
        "waiting": item.waiting,
        "quarantined": item.quarantined,
    }
    if item.trouble:
        shown["reason"] = item.trouble
        if item.trouble_since_ns is not None:
            since = datetime.fromtimestamp(item.trouble_since_ns // 10**9, UTC)
            shown["since"] = since.isoformat()
    return shown
