"""A reader: a thread that goes through the jobs of the record in rounds, from its cursor on.

Each has a name, waits between its rounds, and a back-off for rounds that fail.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import structlog

from squash_api.errors import RecordUnavailableError, SquashError, runbook_of_record
from squash_api.logs import Seldom

# Not the one of the whole process: programs that seed it may count on what it gives.
_chance = Random()  # noqa: S311  no secret
_log = structlog.get_logger(__name__)


class Wait(NamedTuple):
    """How long to wait before the next round, in seconds.

    At least `least_s`, then until the reader is woken, and at most `longest_s`.
    """

    least_s: float
    longest_s: float


NO_WAIT = Wait(0.0, 0.0)


@dataclass(slots=True)
class BackOff:
    """Waits after failures, in seconds: each is twice the previous one, up to `longest_s`.

    A wait is shortened by a random fraction of at most `jitter`; waking cannot shorten it to less
    than `least_s`.
    """

    first_s: float
    longest_s: float
    least_s: float = 0.0
    jitter: float = 0.0
    failures: int = field(default=0, init=False)

    def wait(self) -> Wait:
        """Count a failure; return the wait for it."""
        wait_s = pause_s(self.failures, self.first_s, self.longest_s, jitter=self.jitter)
        self.failures += 1
        return Wait(min(wait_s, self.least_s), wait_s)


def pause_s(failures: int, first_s: float, longest_s: float, *, jitter: float) -> float:
    """Return how long to wait, in seconds, after one more failure than those before.

    The first wait is `first_s`, each further one twice as long, up to `longest_s`. A random
    fraction of it, at most `jitter`, is taken off.
    """
    whole_s = min(longest_s, first_s * 2.0 ** min(failures, 64))
    return whole_s * _chance.uniform(1.0 - jitter, 1.0)


class Loop(ABC):
    """Does rounds until it is stopped. `failure` and `labels` are logged for those that fail."""

    waits_for_jobs = True
    """Whether a stored job wakes it."""

    first_wait = NO_WAIT
    """The wait before the first round."""

    def __init__(self, name: str, back_off: BackOff, *, failure: str, **labels: str) -> None:
        self.name = name
        self._back_off = back_off
        self._failure = failure
        self._labels = labels
        self._seldom = Seldom()
        self._woken = threading.Event()
        self.wake: Callable[[], None] = self._woken.set
        """Ends a wait. May be called from any thread."""
        self._stopped = threading.Event()

    @abstractmethod
    def step(self) -> Wait:
        """Do one round and return the wait before the next. The round fails if this raises."""

    def run(self) -> None:
        """Do rounds until `stop`."""
        self._wait(self.first_wait)
        while not self._stopped.is_set():
            self._wait(self.round())

    def round(self) -> Wait:
        """Do one round, even if it fails, and return the wait before the next."""
        try:
            wait = self.step()
        except Exception as error:  # noqa: BLE001  the thread must outlive whatever one round does
            return self.failed(error)
        self._back_off.failures = 0
        self._seldom.over()
        return wait

    def failed(self, error: Exception) -> Wait:
        """Note that a round has failed, and return the wait before the next.

        A record that is unavailable, for a reason that is known, is noted in a line, and seldom.
        """
        reason = error.reason if isinstance(error, RecordUnavailableError) else None
        if reason is None:
            _log.error(self._failure, **self._labels, runbook=SquashError.code, exc_info=error)
        elif self._seldom.is_due(reason):
            runbook = runbook_of_record(reason)
            _log.warning(self._failure, **self._labels, reason=reason, runbook=runbook)
        return self._back_off.wait()

    def was_woken(self) -> bool:
        """Return whether it has been woken since the last wait or the last call."""
        is_woken = self._woken.is_set()
        self._woken.clear()
        return is_woken

    def pause(self, seconds: float) -> None:
        """Wait in the middle of a round, unless it is stopped."""
        self._stopped.wait(seconds)

    def stop(self) -> None:
        """End `run` after the current round. May be called from any thread."""
        self._stopped.set()
        self._woken.set()

    def is_stopping(self) -> bool:
        """Return whether `stop` has been called."""
        return self._stopped.is_set()

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Close what it has opened, once `run` has ended."""

    def _wait(self, wait: Wait) -> None:
        if wait != NO_WAIT:
            self._stopped.wait(wait.least_s)
            self._woken.wait(wait.longest_s - wait.least_s)
            self._woken.clear()
