"""Events: new jobs for many listeners, from a reader that polls the record twice a second.

It polls the record because other processes may store jobs too, and only while somebody listens.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator

from squash_api.delivery.reader import BackOff, Loop, Wait
from squash_api.errors import BusyError
from squash_api.index.deriver import Deriver
from squash_api.record.jobs import JobEvent, events_between, last_job_before, last_job_id
from squash_api.record.record import Record

MOST_LISTENERS = 500
"""At most so many may listen to one process at a time."""

MOST_LISTENERS_OF_ONE = 100
"""At most so many of one address may listen."""

MOST_MISSED = 1000
"""A listener who reconnects, or is slow, gets at most so many jobs, the newest."""

_POLL_S = 0.5
_HEARTBEAT_S = 15.0
_RETRY_S = 30

# The first listener ends it.
_UNTIL_SOMEBODY_LISTENS = Wait(0.0, 60.0)


class JobEvents(Loop):
    """Sends new jobs to listeners. All listeners are in one event loop; its rounds are in a thread.

    Its cursor is in memory and begins with the first listener. Listeners who reconnect have their
    own. It polls every `poll_s` seconds, and sends a heartbeat after `heartbeat_s` without a job.
    """

    waits_for_jobs = False

    def __init__(
        self,
        record: Record,
        deriver: Deriver,
        *,
        poll_s: float = _POLL_S,
        heartbeat_s: float = _HEARTBEAT_S,
    ) -> None:
        super().__init__(
            "events",
            BackOff(poll_s, poll_s, least_s=poll_s),
            failure="reading new jobs failed; it will be tried again",
        )
        self._record = record
        self._deriver = deriver
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        # Only the event loop changes these.
        self._listeners: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._is_closed = False
        # Events of the jobs after `_floor` and through `_last`, deleted jobs left out.
        self._recent: deque[JobEvent] = deque()
        self._floor = 0
        self._last = 0

    def check_room(self, address: str = "") -> None:
        """Raise `BusyError` if there are too many listeners already, in all or of an address."""
        is_full = self._listeners.total() >= MOST_LISTENERS
        if is_full or self._listeners[address] >= MOST_LISTENERS_OF_ONE:
            raise BusyError(
                "Too many clients are listening already. Try again.", retry_after_s=_RETRY_S
            )

    def let_go(self) -> None:
        """End all present and future listening. To be called in the event loop."""
        self._is_closed = True
        self._notify()

    async def listen(
        self, *, after: int | None = None, since_s: float = 0.0, address: str = ""
    ) -> AsyncGenerator[JobEvent | None, None]:
        """Yield each new job, in order of id, and None from time to time if there is none.

        `after` is the last job that is known already; without it, the jobs of the last `since_s`
        seconds are sent, and those from now on. `address` is that of the listener, as `check_room`
        gets it.
        """
        self._enter(address)
        try:
            cursor = await asyncio.to_thread(self._newest, since_s) if after is None else after
            # Whoever gets this, and then stores a job, gets that too.
            yield None
            while not self._is_closed:
                arrived, last = self._arrived, self._last
                for item in await self._between(cursor, last):
                    yield item
                cursor = max(cursor, last)
                if not await _is_set(arrived, self._heartbeat_s):
                    yield None
        finally:
            self._listeners[address] -= 1
            self._listeners += Counter()

    def step(self) -> Wait:
        """Read the jobs since the last round, and pass them to the listeners."""
        loop = self._loop
        if not self._listeners or loop is None:
            return _UNTIL_SOMEBODY_LISTENS
        last, newest = self._last, self._newest()
        if newest > last:
            found = self._read(last, newest) if last else []
            loop.call_soon_threadsafe(self._take, found, last, newest)
        return Wait(self._poll_s, self._poll_s)

    def _enter(self, address: str) -> None:
        self._listeners[address] += 1
        if self._listeners.total() == 1:
            self._recent.clear()
            self._floor = self._last = 0
            self._loop = asyncio.get_running_loop()
            self.wake()

    async def _between(self, after: int, through: int) -> list[JobEvent]:
        if after >= through:
            return []
        if after >= self._floor:
            return [item for item in self._recent if item.job_id > after]
        return await asyncio.to_thread(self._read, after, through)

    def _take(self, found: list[JobEvent], last: int, newest: int) -> None:
        """Remember the events of the jobs after `last`, unless listening has restarted since."""
        if last != self._last:
            return
        if last == 0 or newest - last > MOST_MISSED:
            self._recent.clear()
            self._floor = last or newest
        self._recent.extend(found)
        self._last = newest
        while len(self._recent) > MOST_MISSED:
            self._floor = self._recent.popleft().job_id
        self._notify()

    def _notify(self) -> None:
        self._arrived.set()
        if not self._is_closed:
            self._arrived = asyncio.Event()

    def _newest(self, before_s: float = 0.0) -> int:
        """Return the id of the last job, or of the last one so many seconds ago."""
        with self._record.read() as connection:
            if not before_s:
                return last_job_id(connection)
            time_ns = time.time_ns() - int(before_s * 1e9)
            return last_job_before(connection, time_ns, among=MOST_MISSED)

    def _read(self, after: int, through: int) -> list[JobEvent]:
        self._deriver.derive_runs_through(through)
        with self._record.read() as connection:
            return events_between(connection, after=after, through=through, limit=MOST_MISSED)


async def _is_set(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
