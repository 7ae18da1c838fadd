"""`squash deliver`: delivery as a process of its own."""

import signal
import threading
from typing import Annotated

import structlog
import typer

from squash_api.settings import load_settings


def deliver(
    target: Annotated[
        list[str] | None, typer.Option(help="Only this target; may be given again.")
    ] = None,
) -> None:
    """Deliver stored jobs to every InfluxDB until told to stop.

    For a service with SQUASH_DELIVER=off, or as a standby: it takes over when the lease of another
    expires.
    """
    from squash_api.background import Background  # noqa: PLC0415  imports astropy's neighbours
    from squash_api.drainers import chosen_targets, make_drainers  # noqa: PLC0415
    from squash_api.logs import configure_logs  # noqa: PLC0415
    from squash_api.record.record import Record  # noqa: PLC0415
    from squash_api.schema import Schema  # noqa: PLC0415
    from squash_api.tags_in_force import check_tags  # noqa: PLC0415

    configure_logs()
    settings = load_settings()
    targets = chosen_targets(settings, target or [])
    schema = Schema(settings.tags)
    record = Record.open(settings.database_url)
    try:
        check_tags(record, schema)
        drainers, deriver = make_drainers(record, schema, settings, targets)
        background = Background(drainers, deriver)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop.set())
        background.start()
        structlog.get_logger(__name__).info("delivering", targets=[item.name for item in targets])
        stop.wait()
        background.stop()
    finally:
        record.close()
