"""`squash replay`: send stored jobs to InfluxDB, or to Kafka, again."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from squash_api.commands.terminal import fail, operator
from squash_api.delivery.background import Background
from squash_api.delivery.interpreter import spare_cycle_search
from squash_api.delivery.replay import Selection, begin_refill, request_replay
from squash_api.errors import SettingsError, SquashError
from squash_api.influx.client import InfluxError
from squash_api.judging.wording import counted
from squash_api.record.deliveries import backlogs
from squash_api.setting_types import KafkaTarget
from squash_api.settings import InfluxTarget, load_settings
from squash_api.site import Site
from squash_api.trends.parameters import AGO, PARAMETERS
from squash_api.trends.question import EXAMPLES, parse_moment

_POLL_S = 0.2


def _help(name: str) -> str:
    return PARAMETERS[name].option.format(ago=AGO["measurements"])


def replay(
    job: Annotated[
        list[int] | None,
        typer.Option(min=1, max=2**63 - 1, help="Only this job; may be repeated."),
    ] = None,
    since: Annotated[str | None, typer.Option(help=_help("since"))] = None,
    until: Annotated[str | None, typer.Option(help=_help("until"))] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Only to this target; may be repeated.")
    ] = None,
    into_empty: Annotated[
        bool, typer.Option(help="Refill emptied databases, with the current list of tags.")
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Deliver and wait, or leave that to the running service.")
    ] = True,
) -> None:
    """Send stored jobs to InfluxDB, or to Kafka, again.

    All jobs are sent to every InfluxDB unless options select some. Existing points are overwritten
    with the same values. Stopping this command loses nothing: the request stays in the record until
    it is delivered.
    """
    settings = load_settings()
    targets = settings.choose_replayed(target or [])
    if into_empty and (job or since or until or target):
        raise SettingsError(
            "--into-empty refills every target with every job: do not give other options"
        )
    if job and (since or until):
        raise SettingsError("give either --job, or --since and --until")
    since_ns, until_ns = time_range(since, until)
    selection = Selection(tuple(job or ()), since_ns, until_ns)
    with Site(settings) as site:
        try:
            _ask(site, targets, None if into_empty else selection)
            if wait:
                deliver_and_wait(site, targets)
        except (SquashError, InfluxError) as error:
            fail(str(error), code=1)


def _ask(
    site: Site, targets: Sequence[InfluxTarget | KafkaTarget], selection: Selection | None
) -> None:
    """Request the selected jobs in the record, or without a selection a refill."""
    if selection is None:
        # It is of all InfluxDBs, and of no other target.
        stores = site.settings.targets
        begin_refill(site.record, targets=stores, schema=site.schema, by=operator("replay"))
        return
    site.check_record()
    count = request_replay(
        site.record,
        selection,
        targets=targets,
        now_ns=time.time_ns(),
        by=operator("replay"),
    )
    names = ", ".join(item.name for item in targets)
    typer.echo(f"{counted(count, 'job')} to send to {names}")


def time_range(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Read the two options, in ns.

    Raises
    ------
    SettingsError
        If one is no time, or they are in the wrong order.
    """
    since_ns, until_ns = _time_ns(since), _time_ns(until, is_end=True)
    if since_ns is not None and until_ns is not None and since_ns > until_ns:
        raise SettingsError("--since is later than --until")
    return since_ns, until_ns


def _time_ns(text: str | None, *, is_end: bool = False) -> int | None:
    if text is None:
        return None
    time_ns = parse_moment(text, now_ns=time.time_ns(), is_end=is_end)
    if time_ns is None:
        raise SettingsError(f"'{text}' is not a time: write one like {EXAMPLES}")
    return time_ns


def deliver_and_wait(site: Site, targets: Sequence[InfluxTarget | KafkaTarget]) -> None:
    """Deliver, or watch the running service deliver, until nothing waits; show progress."""
    names = [item.name for item in targets]
    background = Background(site.outlets(targets))
    spare_cycle_search()
    background.start()
    try:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("delivering", total=None)
            total = 0
            while True:
                with site.reader.view() as view:
                    found = view.ask(backlogs, targets=names)
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
                    break
                time.sleep(_POLL_S)
        quarantined = sum(item.quarantined for item in found)
        if quarantined:
            typer.echo(
                f"In quarantine: {counted(quarantined, 'point')}; see squash quarantine list",
                err=True,
            )
    finally:
        background.stop()
