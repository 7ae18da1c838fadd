"""Whether the service is up, what it can reach, and its metrics for Prometheus."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from squash_api.delivery.outlet import LEASE_NS
from squash_api.errors import RecordUnavailableError
from squash_api.judging.wording import counted
from squash_api.record.deliveries import (
    Backlog,
    TargetRow,
    get_target,
    is_lease_over,
    undeleted_jobs,
)
from squash_api.record.jobs import last_job_id
from squash_api.retention.pruning import last_round
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.door import may_read
from squash_api.routes.replies import errors_of, json_reply
from squash_api.site import Site
from squash_api.standings.itself import look

router = APIRouter(tags=["health"])

_REFILLING = "its database was missing or empty, and is filled again from the record"


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
        message, reason = error.message, error.reason or error.message
        if not is_reader:
            message = reason = "The record is unavailable."
        return json_reply(
            {
                "message": message,
                "code": error.code,
                "status_code": error.status_code,
                "detail": [],
                "status": "down",
                "record": {"status": "down", "reason": reason},
            },
            status_code=503,
            headers={"Retry-After": str(error.retry_after_s)},
        )
    is_well = all(_problem(item) is None for item in found)
    shown: dict[str, Any] = {
        "status": "ok" if is_well else "degraded",
        "record": {"status": "ok"},
    }
    if is_reader:
        shown["targets"] = {item.target: _target_state(item) for item in found}
        if site.settings.keep is not None:
            shown["retention"] = _retention(site, site.settings.keep)
    return json_reply(shown)


@router.get(
    "/prometheus", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
def get_prometheus(site: SiteDep) -> Response:
    """Return the service's own metrics in Prometheus' text format."""
    _backlogs(site)
    return Response(site.figures.expose(), media_type=CONTENT_TYPE_LATEST)


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """A target as people call it; why and since when nothing reaches it, None if all is well.

    `note` is what else is wrong with it, though jobs reach it.
    """

    label: str
    trouble: str | None
    since_ns: int | None
    note: str | None = None


def delivery_health(site: Site) -> list[TargetHealth] | None:
    """Return how delivery to each target is, quickly enough for every page.

    None if the record is unavailable.
    """
    names = [target.name for target in site.settings.outlets]
    try:
        with site.reader.view() as view:
            last = view.ask(last_job_id)
            rows = [view.ask(get_target, name) for name in names]
            undeleted = [view.ask(undeleted_jobs, name) for name in names]
    except RecordUnavailableError:
        return None
    return [_target_health(row, last, count) for row, count in zip(rows, undeleted, strict=True)]


def _target_health(row: TargetRow, last_job: int, undeleted: int) -> TargetHealth:
    label = "Kapacitor" if row.name == "kapacitor" else f"InfluxDB {row.name}"
    is_over = is_lease_over(row.lease_until_ns, now_ns=time.time_ns(), length_ns=LEASE_NS)
    is_forsaken = row.sent_through < last_job and is_over
    if row.trouble is None and is_forsaken:
        return TargetHealth(label, "jobs wait, and no process delivers them", None)
    if row.trouble is None and row.refill_through is not None:
        return TargetHealth(label, None, row.refill_since_ns, _REFILLING)
    note = _undeleted(undeleted) if undeleted else None
    return TargetHealth(label, row.trouble, row.trouble_since_ns, note)


def _retention(site: Site, keep: str) -> dict[str, Any]:
    with site.reader.view() as view:
        found = view.ask(last_round)
    return {"keep": keep, "last": None if found is None else found.to_json()}


def _backlogs(site: Site) -> list[Backlog]:
    names = [target.name for target in site.settings.outlets]
    return look(site.reader, names, site.figures, now_ns=time.time_ns())


def _target_state(item: Backlog) -> dict[str, Any]:
    is_refilling = item.refill_since_ns is not None
    shown: dict[str, Any] = {
        "status": "down" if item.trouble else "refilling" if is_refilling else "ok",
        "waiting": item.waiting,
        "quarantined": item.quarantined,
    }
    if item.undeleted:
        shown["undeleted"] = item.undeleted
    reason = _problem(item)
    if reason is not None:
        shown["reason"] = reason
        since_ns = item.trouble_since_ns if item.trouble else item.refill_since_ns
        if since_ns is not None:
            shown["since"] = datetime.fromtimestamp(since_ns // 10**9, UTC).isoformat()
    return shown


def _problem(item: Backlog) -> str | None:
    """Say what is wrong with a target, the worst first; None if nothing is."""
    if item.trouble or item.refill_since_ns is not None:
        return item.trouble or _REFILLING
    if item.undeleted:
        return f"{_undeleted(item.undeleted)}: {item.undeleted_reason}"
    return None


def _undeleted(jobs: int) -> str:
    return f"it refuses to delete the points of {counted(jobs, 'job')}"
