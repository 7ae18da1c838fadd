"""Processes that deliver and derive, so that this does not slow down those who post jobs.

To make a job's points, to write them and to derive its index take longer than to accept it, and one
interpreter does one of these at a time (`benchmarks/`, R2 and R4). One process delivers to the
InfluxDBs. Another does the rest, of which Kapacitor and the alerts take four times as long as the
points. Both write to the record, so neither has a lower priority: whoever waited for the processor
while it holds SQLite's lock would let jobs wait. `Beside` starts a process, tells it of new jobs,
and starts it again if it has ended.

The standard input is all that connects the two: first the settings, then a byte for new jobs. The
process ends when that does: after a last round, and having given back its leases.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import structlog

from squash_api.delivery.reader import BackOff, Loop, Wait
from squash_api.record.record import Record
from squash_api.settings import Settings

_PROGRAM = "squash_api.serving.delivering"
DAMAGED = 70
"""The exit code of a process that has met damage of the record."""

_POLL_S = 1.0
# Tells it of all jobs of this time at once.
_GATHER_S = 0.01
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
# One that has lived for so long did not fail to start.
_SETTLED_S = 60.0
# Longer than it takes to stop there.
_END_S = 9.0

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
            [sys.executable, "-P", "-m", _PROGRAM, self._part], stdin=subprocess.PIPE, bufsize=0
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
        if code == DAMAGED:
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
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
