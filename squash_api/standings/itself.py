"""What the service says of itself once a minute: a point of each process, and one of each target.

They go to every outlet, whoever delivers to it, each from a thread of its own: none waits for
another, and a target that is known to be in trouble is not asked. Like those of the watch, the
points are not queued: a minute later they are out of date.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

import structlog

from squash_api.delivery.reader import BackOff, Loop, Wait
from squash_api.errors import RecordUnavailableError, split_runbook
from squash_api.index.derived import oldest_unindexed_ns
from squash_api.index.reader import Reader
from squash_api.influx.client import InfluxError
from squash_api.influx.points import own_line
from squash_api.record.deliveries import Backlog, backlogs
from squash_api.record.record import Record
from squash_api.schema import watch as names
from squash_api.standings.figures import Figures, oldest_s
from squash_api.standings.watch import MINUTE_NS, WritesLines, write_lines

_POLL = Wait(1.0, 1.0)
_PAUSE_S = 30.0

_log = structlog.get_logger(__name__)


def look(reader: Reader, targets: Sequence[str], figures: Figures, *, now_ns: int) -> list[Backlog]:
    """Let the figures have what the record says now; return what waits for each target.

    Raises
    ------
    RecordUnavailableError
        If the record cannot be read.
    """
    with reader.view() as view:
        found = view.ask(backlogs, targets=targets, now_ns=now_ns)
        underived_ns = view.ask(oldest_unindexed_ns)
    figures.learn(found, underived_ns=underived_ns, now_ns=now_ns)
    return found


class OwnState:
    """The points of a minute, the same for every outlet. Safe to use from many threads.

    Parameters
    ----------
    targets
        The names of all targets.
    process, instance
        Which command this process is of, and its name among those of the installation.
    squash_url
        The public root of the service.
    """

    def __init__(
        self,
        record: Record,
        reader: Reader,
        figures: Figures,
        *,
        targets: Sequence[str],
        process: str,
        instance: str,
        squash_url: str,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._record = record
        self._reader = reader
        self._figures = figures
        self._targets = targets
        self._tags = {names.PROCESS: process, names.INSTANCE: instance}
        self._runbook = f"{squash_url}/docs/runbook"
        self._clock = clock
        self._lock = threading.Lock()
        self._minute_ns: int | None = None
        self._lines: list[str] = []
        self._held_up: frozenset[str] = frozenset()

    def lines(self, minute_ns: int) -> list[str]:
        """Return the points of a minute."""
        with self._lock:
            if minute_ns != self._minute_ns:
                self._minute_ns, self._lines = minute_ns, [*self._look(minute_ns)]
            return self._lines

    def is_held_up(self, target: str) -> bool:
        """Tell whether a target takes nothing at the moment, as far as the record knows."""
        return target in self._held_up

    def _look(self, minute_ns: int) -> Iterator[str]:
        now_ns = self._clock()
        reason, found = None, []
        try:
            found = look(self._reader, self._targets, self._figures, now_ns=now_ns)
            self._held_up = frozenset(item.target for item in found if item.trouble)
        except RecordUnavailableError as error:
            reason = error.reason or error.message
        fields = self._figures.fields()
        reason = reason or self._record.trouble
        # Also if there is none: the last one would remain.
        told = {names.REASON: split_runbook(reason or "")[0], names.RUNBOOK: self._runbook}
        fields[names.RECORD_UP] = 0.0 if reason else 1.0
        own = {**fields, **told, names.VERSION: version("squash-api")}
        yield own_line(names.SERVICE, self._tags, own, minute_ns)
        for item in found:
            yield own_line(
                names.DELIVERY,
                {names.TARGET: item.target},
                {
                    names.UP: 0.0 if item.trouble else 1.0,
                    names.WAITING: item.waiting,
                    names.OLDEST_S: oldest_s(item, now_ns=now_ns),
                    names.QUARANTINED: item.quarantined,
                    names.REFUSED_LATELY: item.refused_lately,
                    names.REASON: split_runbook(item.trouble or "")[0],
                    names.RUNBOOK: self._runbook,
                },
                minute_ns,
            )


class OwnWatch(Loop):
    """Writes the points of each minute to one outlet; `closes` is called when it has ended."""

    waits_for_jobs = False
    first_wait = _POLL

    def __init__(
        self,
        outlet: WritesLines,
        state: OwnState,
        *,
        closes: Callable[[], None] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(
            f"itself-{outlet.name}",
            BackOff(_PAUSE_S, _PAUSE_S, least_s=_PAUSE_S),
            failure="the points of the service itself failed; they will be tried again",
            target=outlet.name,
        )
        self._outlet = outlet
        self._state = state
        self._closes = closes
        self._clock = clock
        self._minute_ns: int | None = None
        self._has_failed = False

    def close(self) -> None:
        """Close the outlet, if nobody else does."""
        if self._closes is not None:
            self._closes()

    def step(self) -> Wait:
        """Write the points of this minute, if they have not been tried yet."""
        now_ns = self._clock()
        minute_ns = now_ns - now_ns % MINUTE_NS
        if minute_ns == self._minute_ns:
            return _POLL
        self._minute_ns = minute_ns
        lines = self._state.lines(minute_ns)
        if self._state.is_held_up(self._outlet.name):
            return _POLL
        try:
            write_lines(self._outlet, lines)
        except InfluxError as error:
            if not self._has_failed:
                _log.warning(
                    "the points of the service itself are not written; tried again each minute",
                    target=self._outlet.name,
                    reason=str(error),
                )
            self._has_failed = True
        else:
            self._has_failed = False
        return _POLL
