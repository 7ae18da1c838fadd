"""`squash deliver`: delivery as a separate process."""

import signal
import time
from typing import Annotated

import structlog
import typer

from squash_api.commands.terminal import operator
from squash_api.delivery.background import Background
from squash_api.delivery.interpreter import spare_cycle_search, take_short_turns
from squash_api.logs import configure_logs, follow_settings
from squash_api.settings import load_settings
from squash_api.site import Site

_POLL_S = 0.2


def deliver(
    target: Annotated[
        list[str] | None, typer.Option(help="Only this target; may be repeated.")
    ] = None,
) -> None:
    """Deliver stored jobs, and tell webhooks, Slack and GitHub, until stopped.

    For a service with SQUASH_DELIVER=off, or as a standby, which takes over when the lease of
    another process expires. With --target it tells no webhook, nor Slack, nor GitHub.
    """
    configure_logs("deliver")
    settings = load_settings()
    follow_settings(instance=settings.instance, logs_jobs=settings.log_jobs == "on")
    with Site(settings) as site:
        site.check_record()
        # Whoever delivers to all targets also tells webhooks, Slack and GitHub.
        tellers = [] if target else site.tellers()
        webhooks = site.subscriptions.list(by=operator("deliver"))
        is_alone = not target and bool(settings.receivers or webhooks)
        targets = settings.outlets if is_alone else settings.choose_outlets(target or [])
        outlets = site.outlets(targets)
        # The service makes the index.
        watches = site.own_watches(outlets, process="deliver")
        takers = [outlet for outlet in outlets if outlet.takes_lines]
        readers = [*outlets, site.raising(), *tellers, site.watch(takers), *watches]
        background = Background(readers, site.record.news)
        spare_cycle_search()
        take_short_turns()
        # A list, not an event: a handler may interrupt a thread that holds the lock of the event.
        received: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: received.append(number))
        background.start()
        structlog.get_logger(__name__).info("delivering", targets=[item.name for item in targets])
        while not received:
            time.sleep(_POLL_S)
        background.stop()
