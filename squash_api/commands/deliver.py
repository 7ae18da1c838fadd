"""`squash deliver`: delivery as a process of its own."""

import signal
import time
from typing import Annotated

import structlog
import typer

from squash_api.settings import load_settings

_POLL_S = 0.2


def deliver(
    target: Annotated[
        list[str] | None, typer.Option(help="Only this target; may be given again.")
    ] = None,
) -> None:
    """Deliver stored jobs to every InfluxDB until told to stop.

    For a service with SQUASH_DELIVER=off, or as a standby: it takes over when the lease of another
    expires.
    """
    from squash_api import site as interpreter  # noqa: PLC0415
    from squash_api.definitions.in_force import DefinitionsInForce  # noqa: PLC0415
    from squash_api.delivery.background import Background  # noqa: PLC0415  imports astropy's neighbours
    from squash_api.delivery.drainers import chosen_targets, make_drainers  # noqa: PLC0415
    from squash_api.index.reader import Reader  # noqa: PLC0415
    from squash_api.index.tags_in_force import check_tags  # noqa: PLC0415
    from squash_api.logs import configure_logs  # noqa: PLC0415
    from squash_api.record.record import Record  # noqa: PLC0415
    from squash_api.schema.names import Schema  # noqa: PLC0415
    from squash_api.standings.standing import Standings  # noqa: PLC0415
    from squash_api.standings.watch import make_watch  # noqa: PLC0415

    configure_logs()
    settings = load_settings()
    targets = chosen_targets(settings, target or [])
    schema = Schema(settings.tags)
    record = Record.open(settings.database_url)
    try:
        check_tags(record, schema)
        # The index is left to the service.
        drainers = make_drainers(record, schema, settings, targets)
        standings = Standings(Reader.of_record(record, schema), DefinitionsInForce(record, schema))
        background = Background(drainers, None, make_watch(standings, settings, drainers))
        interpreter.spare_cycle_search()
        interpreter.take_short_turns()
        received = _signals()
        background.start()
        structlog.get_logger(__name__).info("delivering", targets=[item.name for item in targets])
        while not received:
            time.sleep(_POLL_S)
        background.stop()
    finally:
        record.close()


def _signals() -> list[int]:
    """Return a list to which SIGTERM and SIGINT are added when they come."""
    # A list, not an event: a handler may interrupt what holds the event's lock.
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: received.append(number))
    return received
