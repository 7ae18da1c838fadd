"""Processes that deliver and derive, so that this does not slow down those who post jobs.

To make a job's points, to write them and to derive its index take longer than to accept it, and one
interpreter does one of these at a time (`benchmarks/`, R2 and R4). One process delivers to the
InfluxDBs. Another does the rest, of which Kapacitor and the alerts take four times as long as the
points. Both write to the record, so neither has a lower priority: whoever waits for the processor
while it holds SQLite's lock lets jobs wait. `Beside` starts a process, tells it of new jobs, and
starts it again if it has ended.

The standard input is all that connects the two: first the settings, then a byte for new jobs. The
process ends when that does: after a last round, and having given back its leases.
"""

import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import structlog

from squash_api.delivery.background import LONGEST_STOP_S, Background
from squash_api.delivery.reader import BackOff, Loop, Wait
from squash_api.errors import SettingsError
from squash_api.logs import configure_logs, follow_settings
from squash_api.record.record import Record
from squash_api.settings import Settings, Target
from squash_api.site import Site, spare_cycle_search, take_short_turns

_POLL_S = 1.0
# Tells it of all jobs of this time at once.
_GATHER_S = 0.01
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
# One that has lived for so long did not fail to start.
_SETTLED_S = 60.0
_FAILED, _DAMAGED = 1, 70

_Part = Literal["influxdb", "rest"]

_log = structlog.get_logger(__name__)


def beside(settings: Settings, record: Record) -> Sequence[Loop]:
    """Make what keeps the processes of a service running."""
    to_influxdb = [Beside("influxdb", settings, record)] if settings.targets else []
    return [*to_influxdb, Beside("rest", settings, record)]


class Beside(Loop):
    """One of the processes, seen from the service. Waking it wakes the readers there."""

    # A start competes with what the service does to answer its first requests.
    first_wait = Wait(1.0, 1.0)

    def __init__(self, part: _Part, settings: Settings, record: Record) -> None:
        super().__init__(
            f"beside-{part}",
            BackOff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, least_s=_FIRST_PAUSE_S),
            failure="a process that delivers cannot be started; it will be tried again",
            part=part,
        )
        self._part = part
        self._settings = settings
        self._record = record
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def run(self) -> None:
        """Keep it running until `stop`, then let it end."""
        try:
            super().run()
        finally:
            self._end()

    def step(self) -> Wait:
        """Start it, tell it of new jobs, or see that it has ended."""
        if self._record.is_damaged:
            # Nothing more is written, not by others either.
            self._end()
        elif self._process is None:
            self._start()
        elif (code := self._process.poll()) is not None:
            return self._lose(code)
        else:
            self._write(b"\n")
        return Wait(_GATHER_S, _POLL_S)

    def _start(self) -> None:
        self._started_s = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603  ourselves
            [sys.executable, "-P", "-m", __name__, self._part], stdin=subprocess.PIPE, bufsize=0
        )
        # Not in the environment or the arguments, which others may see.
        self._write(pickle.dumps(self._settings))
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)
        _log.info("a process delivers", part=self._part, pid=self._process.pid)

    def _write(self, content: bytes) -> None:
        # If it is full, there is enough to wake the process; if it is broken, it has ended.
        with suppress(OSError):
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(content)

    def _lose(self, code: int) -> Wait:
        """Note that it has ended, and return the pause before it is started again.

        The pause grows while it ends soon. What it had leased, another may take 20 s later.
        """
        self._end()
        if code == _DAMAGED:
            self._record.note_damage("a process that delivers has met it")
            return Wait(_POLL_S, _POLL_S)
        has_settled = time.monotonic() - self._started_s > _SETTLED_S
        pause_s = _FIRST_PAUSE_S if has_settled else self._pause_s
        self._pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        _log.error(
            "a process that delivers has ended; it is started again",
            part=self._part,
            code=code,
            wait_s=pause_s,
            runbook="delivery-forsaken",
        )
        return Wait(pause_s, pause_s)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(LONGEST_STOP_S + _POLL_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
    sys.exit(_DAMAGED if is_damaged else 0)


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
