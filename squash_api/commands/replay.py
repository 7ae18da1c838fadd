"""`squash replay`: send stored jobs to InfluxDB again."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from squash_api.errors import SettingsError, SquashError
from squash_api.settings import InfluxTarget, Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squash_api.delivery.replay import Selection
    from squash_api.record.record import Record

_POLL_S = 0.2


def replay(
    job: Annotated[
        list[int] | None,
        typer.Option(min=1, max=2**63 - 1, help="Only this job; may be given again."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only jobs of this time (ISO 8601) or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only jobs of this time (ISO 8601) or earlier.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Only to this target; may be given again.")
    ] = None,
    into_empty: Annotated[
        bool, typer.Option(help="Refill emptied databases, with the present list of tags.")
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Deliver and wait; without, leave it to the running service.")
    ] = True,
) -> None:
    """Send stored jobs to InfluxDB again: all, or those of a time, by id, or to one target.

    Points that are there already are overwritten with the same values. Stopping this command loses
    nothing: what is asked for stays in the record until it is delivered.
    """
    from squash_api.delivery.background import chosen_targets  # noqa: PLC0415  imports the client of InfluxDB
    from squash_api.influx.client import InfluxError  # noqa: PLC0415
    from squash_api.record.record import Record  # noqa: PLC0415

    settings = load_settings()
    targets = chosen_targets(settings, target or [])
    if into_empty and (job or since or until or target):
        raise SettingsError("--into-empty refills every target with every job: give nothing else.")
    selection = _select(job or [], since, until)
    record = Record.open(settings.database_url)
    try:
        _ask(record, settings, targets, None if into_empty else selection)
        if wait:
            _deliver(record, [item.name for item in targets])
    except (SquashError, InfluxError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    finally:
        record.close()


def _select(job_ids: "Sequence[int]", since: str | None, until: str | None) -> "Selection":
    from squash_api.delivery.replay import Selection  # noqa: PLC0415

    if job_ids and (since or until):
        raise SettingsError("Give jobs, or a time: --job does not go with --since and --until.")
    return Selection(tuple(job_ids), _time_ns(since), _time_ns(until))


def _ask(
    record: "Record",
    settings: Settings,
    targets: "Sequence[InfluxTarget]",
    selection: "Selection | None",
) -> None:
    """Ask in the record for the selected jobs; without a selection for a refill."""
    from squash_api.delivery.replay import begin_refill, request_replay  # noqa: PLC0415
    from squash_api.index.tags_in_force import check_tags  # noqa: PLC0415
    from squash_api.schema.names import Schema  # noqa: PLC0415

    schema = Schema(settings.tags)
    if selection is None:
        begin_refill(record, targets=targets, schema=schema)
        return
    check_tags(record, schema)
    count = request_replay(record, selection, targets=targets, now_ns=time.time_ns())
    noun = "job" if count == 1 else "jobs"
    typer.echo(f"{count} {noun} to send to {', '.join(item.name for item in targets)}")


def _time_ns(text: str | None) -> int | None:
    from squash_api.ingest.document import parse_time_ns  # noqa: PLC0415

    if text is None:
        return None
    time_ns = parse_time_ns(text)
    if time_ns is None:
        raise SettingsError(f"'{text}' is not an ISO 8601 date, for instance 2026-11-22T12:00:00Z.")
    return time_ns


def _deliver(record: "Record", names: "Sequence[str]") -> None:
    """Deliver, or watch the running service deliver, until nothing waits; show the progress."""
    from squash_api.delivery.background import Background, chosen_targets, make_outlets  # noqa: PLC0415
    from squash_api.index.deriver import Deriver  # noqa: PLC0415
    from squash_api.record.metrics import Vocabulary  # noqa: PLC0415
    from squash_api.schema.names import Schema  # noqa: PLC0415
    from squash_api.site import spare_cycle_search  # noqa: PLC0415

    settings = load_settings()
    targets = chosen_targets(settings, names)
    vocabulary = Vocabulary(record, Schema(settings.tags))
    deriver = Deriver(record, vocabulary)
    background = Background(
        make_outlets(targets, record, vocabulary, deriver, squash_url=settings.url)
    )
    spare_cycle_search()
    background.start()
    try:
        quarantined = _show_progress(record, names)
    finally:
        background.stop()
    if quarantined:
        typer.echo(f"{quarantined} points are in quarantine: see GET /status/<job>", err=True)


def _show_progress(record: "Record", names: "Sequence[str]") -> int:
    """Show how many jobs wait until none does; return how many points are in quarantine."""
    from rich.progress import Progress  # noqa: PLC0415

    from squash_api.record.deliveries import backlogs  # noqa: PLC0415

    with Progress() as progress:
        bar = progress.add_task("delivering", total=None)
        total = 0
        while True:
            with record.read() as connection:
                found = backlogs(connection, targets=names)
            waiting = sum(item.waiting for item in found)
            total = max(total, waiting)
            trouble = next((item.trouble for item in found if item.trouble), None)
            progress.update(
                bar,
                total=total,
                completed=total - waiting,
                description=f"held up: {trouble}" if trouble else "delivering",
            )
            if not waiting:
                return sum(item.quarantined for item in found)
            time.sleep(_POLL_S)
