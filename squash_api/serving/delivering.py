"""The program of a process that delivers beside the service, which `serving/beside.py` starts."""

import os
import pickle
import select
import signal
import sys

import structlog

from squash_api.delivery.background import Background
from squash_api.delivery.interpreter import spare_cycle_search, take_short_turns
from squash_api.errors import SettingsError
from squash_api.logs import configure_logs, follow_settings
from squash_api.serving.beside import DAMAGED
from squash_api.settings import Settings, Target
from squash_api.site import Site

_POLL_S = 1.0
_FAILED = 1

_log = structlog.get_logger(__name__)


def main() -> None:
    """Run a process; the service gives the settings on the standard input."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # It ends with the service, which may still accept jobs.
        signal.signal(number, signal.SIG_IGN)
    settings: Settings = pickle.load(sys.stdin.buffer)  # noqa: S301  from the service
    configure_logs("deliver")
    follow_settings(instance=settings.instance, logs_jobs=settings.log_jobs == "on")
    take_short_turns()
    is_rest = sys.argv[1:] == ["rest"]
    try:
        with Site(settings) as site:
            site.check_record()
            is_damaged = _run(site, is_rest=is_rest)
    except SettingsError as error:
        _log.error("delivering is not possible", reason=error.message, runbook=error.runbook)
        sys.exit(_FAILED)
    sys.exit(DAMAGED if is_damaged else 0)


def _run(site: Site, *, is_rest: bool) -> bool:
    """Deliver until the standard input ends; return whether the record was found damaged."""
    settings = site.settings
    others: tuple[Target, ...] = (*settings.kapacitors, *settings.kafka)
    targets = others if is_rest else settings.targets
    outlets = site.outlets(targets)
    readers = site.delivering(outlets) if is_rest else [*outlets, site.watch(outlets)]
    background = Background(readers, site.record.news)
    spare_cycle_search()
    background.start()
    _log.info("delivering", targets=[item.name for item in targets])
    channel = sys.stdin.fileno()
    while not site.record.is_damaged:
        if select.select([channel], (), (), _POLL_S)[0]:
            if not os.read(channel, 65_536):
                break
            background.wake()
    background.stop()
    return site.record.is_damaged


if __name__ == "__main__":
    main()
