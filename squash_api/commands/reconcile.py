"""`squash reconcile`: compare InfluxDB with the record, and send again what differs."""

from collections.abc import Sequence
from typing import Annotated

import typer

from squash_api.commands.replay import deliver_and_wait, time_range
from squash_api.commands.terminal import AsJson, advancing, fail, operator, print_json
from squash_api.delivery.batches import PointMaker
from squash_api.delivery.reconciling import Comparison, Reconciler
from squash_api.errors import SquashError
from squash_api.influx.client import InfluxClient, InfluxError
from squash_api.judging.wording import counted
from squash_api.logs import configure_logs
from squash_api.settings import InfluxTarget, load_settings
from squash_api.site import Site

_Target = Annotated[list[str] | None, typer.Option(help="Only this target; may be repeated.")]
_Since = Annotated[str | None, typer.Option(help="Only jobs of this time or later, as for replay.")]
_Until = Annotated[str | None, typer.Option(help="Only jobs of this time or earlier.")]


def reconcile(
    *,
    target: _Target = None,
    since: _Since = None,
    until: _Until = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only compare; change nothing.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Delete points of jobs that the record does not have."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare InfluxDB with the record, and send again what differs.

    Reads the points of every job back and compares each tag, field and value. What is missing is
    written again, what was altered is deleted before. The service may be running: jobs that wait to
    be sent, and lines in quarantine, are only counted. Some InfluxDBs delete no points: there what
    has too much is only said (docs/influxdb.md).

    Exit code: 0 InfluxDB holds what the record says, 1 it does not (yet), 2 it cannot be done.
    """
    # Standard output is for the result.
    configure_logs()
    settings = load_settings()
    targets = settings.choose_targets(target or [])
    since_ns, until_ns = time_range(since, until)
    with Site(settings) as site:
        try:
            site.check_record()
            how = {"is_repaired": not dry_run, "is_pruned": prune and not dry_run}
            found = [
                _compare(site, item, since_ns=since_ns, until_ns=until_ns, **how)
                for item in targets
            ]
            left = found if dry_run else _repair(site, targets, found)
        except (SquashError, InfluxError) as error:
            fail(str(error))
    both = list(zip(found, left, strict=True))
    if as_json:
        print_json([{**item.to_json(), "is_same": after.is_same} for item, after in both])
    else:
        for item, after in both:
            typer.echo("\n  ".join([_summary(item, after, is_dry=dry_run), *item.examples]))
    if not all(item.is_same for item in left):
        raise typer.Exit(1)


def _repair(
    site: Site, targets: Sequence[InfluxTarget], found: Sequence[Comparison]
) -> list[Comparison]:
    """Deliver what was asked for, and compare what differed once more."""
    if any(item.missing or item.altered > item.lasting for item in found):
        deliver_and_wait(site, targets)
    return [
        before
        if before.is_same
        else _compare(site, item, since_ns=before.first_ns, until_ns=before.last_ns)
        for item, before in zip(targets, found, strict=True)
    ]


def _compare(
    site: Site,
    target: InfluxTarget,
    *,
    since_ns: int | None,
    until_ns: int | None,
    is_repaired: bool = False,
    is_pruned: bool = False,
) -> Comparison:
    points = PointMaker(site.record, site.metrics, site.deriver, squash_url=site.settings.url)
    found = Comparison(target.name)
    with InfluxClient(target) as client:
        steps = Reconciler(client, site.record, points, by=operator("reconcile")).compare(
            since_ns=since_ns, until_ns=until_ns, is_repaired=is_repaired, is_pruned=is_pruned
        )
        for step in advancing(steps, what=f"comparing {target.name}"):
            found = step
    return found


def _summary(found: Comparison, left: Comparison, *, is_dry: bool) -> str:
    parts = [f"{counted(found.jobs, 'job')} compared"]
    for count, words in (
        (found.missing, "missing"),
        (found.altered, "altered"),
        (found.waiting, "waiting to be sent"),
    ):
        if count:
            parts.append(f"{count} {words}")
    if found.refused:
        parts.append(f"{counted(found.refused, 'line')} in quarantine")
    if found.lasting:
        parts.append(f"{found.lasting} with more than they should have, which stays")
    if found.unknown:
        can = "left alone: --prune deletes them" if found.cannot is None else "which stay"
        what = "deleted" if found.pruned else can
        parts.append(f"{counted(found.unknown, 'point')} of no job, {what}")
    if found.is_same:
        end = "InfluxDB holds what the record says"
    elif is_dry:
        end = "nothing was changed"
    elif left.cannot is not None and not left.is_same:
        end = f"it still differs: {left.cannot}"
    else:
        end = "sent again" if left.is_same else "it still differs"
    return f"{found.target}: {', '.join(parts)}; {end}"
