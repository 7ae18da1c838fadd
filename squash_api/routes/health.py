"""Whether the service is up, what it can reach, and its metrics for Prometheus."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from squash_api.errors import (
    OnlyReadsError,
    RecordUnavailableError,
    help_link,
    runbook_path,
    see,
    split_runbook,
)
from squash_api.judging.wording import counted
from squash_api.record.deliveries import (
    LEASE_NS,
    Backlog,
    TargetRow,
    get_target,
    is_lease_over,
    servers,
    undeleted_jobs,
)
from squash_api.record.engines.postgresql import Replication
from squash_api.record.jobs import last_job_id
from squash_api.record.webhooks import WEBHOOK, receivers_health, troubled_receivers
from squash_api.record.webhooks import Health as ReceiverHealth
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.door import may_read
from squash_api.routes.replies import errors_of, json_reply
from squash_api.settings import Target
from squash_api.site import Site

router = APIRouter(tags=["health"])

_FORSAKEN = "jobs wait, and no process delivers them"
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
    A service that only reads says `read-only`, where to write, and how old its record is.
    """
    is_reader = may_read(request)
    try:
        if site.record.only_reads is not None:
            return _only_reads(site, is_reader=is_reader)
        site.record.require_writable()
        found, receivers = _backlogs(site), _receivers(site)
    except RecordUnavailableError as error:
        return _down(error, site, is_reader=is_reader)
    problems = [*map(_problem, found), *(item.trouble for item in receivers)]
    shown: dict[str, Any] = {
        "status": "degraded" if any(problems) else "ok",
        "record": {"status": "ok"},
    }
    if is_reader:
        url = site.settings.url
        known = _servers(site)
        shown["targets"] = {
            item.target: {**_target_state(item, url), **known.get(item.target, {})}
            for item in found
        }
        if receivers:
            shown["receivers"] = {_name_of(item): _receiver_state(item, url) for item in receivers}
        if site.settings.keep is not None:
            shown["retention"] = _retention(site, site.settings.keep)
    return json_reply(shown)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be known of a service that only reads: why, and where to write, if it knows.

    `replica` is how its record follows; None if it is not a replica.
    """

    why: str
    write_url: str | None
    replica: Replication | None

    @property
    def is_cut_off(self) -> bool:
        """Whether it is a replica that nothing reaches."""
        return self.replica is not None and not self.replica.is_linked


def reading_of(site: Site) -> Reading | None:
    """Return what is to be known of a service that only reads; None if it writes.

    Raises
    ------
    RecordUnavailableError
        If its record cannot be read, or has tables of another release.
    """
    why = site.record.only_reads
    if why is None:
        return None
    return Reading(why, site.settings.write_url, site.record.replication())


def _only_reads(site: Site, *, is_reader: bool) -> Response:
    """Reply how a service is that only reads."""
    found = reading_of(site)
    assert found is not None  # noqa: S101 - for mypy
    with site.reader.view() as view:
        last = view.ask(last_job_id)
    record: dict[str, Any] = {"status": "read-only"}
    if is_reader:
        record |= {"reason": found.why.rstrip("."), "write_url": found.write_url, "last_job": last}
    if is_reader and found.replica is not None:
        as_of_ns = found.replica.as_of_ns
        as_of = None if as_of_ns is None else datetime.fromtimestamp(as_of_ns // 10**9, UTC)
        record |= {
            "is_linked": found.replica.is_linked,
            "as_of": None if as_of is None else as_of.isoformat(),
            "lag_s": None if found.replica.lag_s is None else round(found.replica.lag_s, 3),
        }
        if found.is_cut_off:
            record["runbook"] = f"{site.settings.url}{runbook_path(OnlyReadsError.code)}"
    return json_reply({"status": "read-only", "record": record})


def _down(error: RecordUnavailableError, site: Site, *, is_reader: bool) -> Response:
    """Reply that the record is unavailable, and to readers why."""
    message, reason = error.message, error.reason or error.message
    runbook = error.runbook
    if not is_reader:
        message = reason = "The record is unavailable."
        runbook = error.code
    message += see(site.settings.url, runbook)
    link = f"{site.settings.url}{runbook_path(runbook)}"
    return json_reply(
        {
            "message": message,
            "code": error.code,
            "status_code": error.status_code,
            "detail": [],
            "status": "down",
            "record": {"status": "down", "reason": reason, "runbook": link},
        },
        status_code=503,
        headers={
            "Retry-After": str(error.retry_after_s),
            "Link": help_link(site.settings.url, runbook),
        },
    )


@router.get(
    "/prometheus", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
def get_prometheus(site: SiteDep) -> Response:
    """Return the service's own metrics in Prometheus' text format."""
    _backlogs(site)
    site.figures.learn_receivers({_name_of(item): item for item in _receivers(site)})
    return Response(site.figures.expose(), media_type=CONTENT_TYPE_LATEST)


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """A target as people call it; why and since when nothing reaches it, None if all is well.

    `note` is what else is wrong with it, though jobs reach it; `runbook` is the entry on that.
    """

    label: str
    trouble: str | None
    since_ns: int | None
    note: str | None = None
    runbook: str | None = None


def delivery_health(site: Site) -> list[TargetHealth] | None:
    """Return how delivery to each target is, quickly enough for every page.

    None if the record is unavailable.
    """
    if site.record.only_reads is not None:
        # What it has of delivery is old, and another's.
        return []
    try:
        with site.reader.view() as view:
            targets = [*health_of(view.ask, site.settings.outlets)]
            troubled = view.ask(troubled_receivers, site.settings.receivers)
    except RecordUnavailableError:
        return None
    return [*targets, *map(_health_of_receiver, troubled)]


def health_of(ask: Callable[..., Any], targets: Iterable[Target]) -> Iterator[TargetHealth]:
    """Yield how delivery to each target is; `ask` puts a question to the record."""
    last = ask(last_job_id)
    for item in targets:
        row, undeleted = ask(get_target, item.name), ask(undeleted_jobs, item.name)
        yield _health_of(item.label, row, last, undeleted)


def _health_of(label: str, row: TargetRow, last_job: int, undeleted: int) -> TargetHealth:
    """Return how delivery to a target is.

    `undeleted` is of how many jobs it refuses to delete points.
    """
    is_over = is_lease_over(row.lease_until_ns, now_ns=time.time_ns(), length_ns=LEASE_NS)
    is_forsaken = row.sent_through < last_job and is_over
    if row.trouble is None and is_forsaken:
        return TargetHealth(label, _FORSAKEN, None, runbook="delivery-forsaken")
    if row.trouble is None and row.refill_through is not None:
        since_ns = row.refill_since_ns
        return TargetHealth(label, None, since_ns, _REFILLING, runbook="delivery-refilling")
    if row.trouble is not None:
        trouble, runbook = _held_up(row.trouble)
        return TargetHealth(label, trouble, row.trouble_since_ns, runbook=runbook)
    if undeleted:
        return TargetHealth(label, None, None, _undeleted(undeleted), "delivery-undeleted")
    return TargetHealth(label, None, None)


def _health_of_receiver(item: ReceiverHealth) -> TargetHealth:
    label = {"slack": "Slack", "github": "GitHub"}.get(item.kind, f"webhook {item.name}")
    trouble, runbook = _held_up(item.trouble or "")
    return TargetHealth(label, trouble, item.trouble_since_ns, runbook=runbook)


def _receivers(site: Site) -> list[ReceiverHealth]:
    with site.reader.view() as view:
        return view.ask(receivers_health, site.settings.receivers)


def _name_of(item: ReceiverHealth) -> str:
    """Return the name of a receiver: Slack's and GitHub's own, or that of a webhook."""
    return item.kind if item.kind != WEBHOOK else f"{WEBHOOK} {item.name}"


def _receiver_state(item: ReceiverHealth, url: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "status": "down" if item.trouble else "ok",
        "waiting": item.waiting,
        "given_up": item.given_up,
    }
    if item.trouble is not None:
        reason, runbook = _held_up(item.trouble)
        shown |= {"reason": reason, "runbook": f"{url}{runbook_path(runbook)}"}
    if item.trouble_since_ns is not None:
        shown["since"] = datetime.fromtimestamp(item.trouble_since_ns // 10**9, UTC).isoformat()
    return shown


def _retention(site: Site, keep: str) -> dict[str, Any]:
    from squash_api.standings.pruning import last_round

    with site.reader.view() as view:
        found = view.ask(last_round)
    return {"keep": keep, "last": None if found is None else found.to_json()}


def _backlogs(site: Site) -> list[Backlog]:
    from squash_api.standings.itself import look

    names = [target.name for target in site.delivered_to]
    return look(site.reader, names, site.figures, now_ns=time.time_ns())


def _servers(site: Site) -> dict[str, dict[str, Any]]:
    """Return which server each InfluxDB was when it last answered, and what it lacks."""
    with site.reader.view() as view:
        return view.ask(servers)


def _target_state(item: Backlog, url: str) -> dict[str, Any]:
    is_refilling = item.refill_since_ns is not None
    shown: dict[str, Any] = {
        "status": "down" if item.trouble else "refilling" if is_refilling else "ok",
        "waiting": item.waiting,
        "quarantined": item.quarantined,
    }
    if item.undeleted:
        shown["undeleted"] = item.undeleted
    problem = _problem(item)
    if problem is not None:
        reason, runbook = problem
        shown |= {"reason": reason, "runbook": f"{url}{runbook_path(runbook)}"}
        since_ns = item.trouble_since_ns if item.trouble else item.refill_since_ns
        if since_ns is not None:
            shown["since"] = datetime.fromtimestamp(since_ns // 10**9, UTC).isoformat()
    return shown


def _problem(item: Backlog) -> tuple[str, str] | None:
    """Say what is wrong with a target, the worst first, and which entry of the runbook is on that.

    None if nothing is.
    """
    if item.trouble:
        return _held_up(item.trouble)
    if item.refill_since_ns is not None:
        return _REFILLING, "delivery-refilling"
    if item.undeleted:
        return f"{_undeleted(item.undeleted)}: {item.undeleted_reason}", "delivery-undeleted"
    return None


def _held_up(trouble: str) -> tuple[str, str]:
    """Split a target's trouble into the reason and the entry of the runbook."""
    reason, runbook = split_runbook(trouble)
    # An earlier version noted none.
    return reason, runbook or "delivery-unavailable"


def _undeleted(jobs: int) -> str:
    return f"it refuses to delete the points of {counted(jobs, 'job')}"
