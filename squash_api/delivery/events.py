"""Events: jobs as they come, for any number of listeners; the record is asked twice a second.

Asked is the record, not the part of this process that stores jobs: others may store them too. While
nobody listens nothing is asked.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from squash_api.delivery.reader import BackOff, Reader, Wait
from squash_api.errors import BusyError
from squash_api.index.deriver import Deriver
from squash_api.record.jobs import JobEvent, events_between, last_job_id
from squash_api.record.record import Record

MOST_LISTENERS = 500
"""So many may listen to one process at a time."""

MOST_MISSED = 1000
"""A listener who comes back, or is slow, is told of so many jobs at most, the newest."""

_POLL_S = 0.5
_HEARTBEAT_S = 15.0
_RETRY_S = 30

# Who begins to listen ends it.
_UNTIL_SOMEBODY_LISTENS = Wait(0.0, 60.0)


class JobEvents(Reader):
    """Tells listeners of new jobs. All listeners are in one event loop, its rounds in a thread.

    Its cursor is in memory: where the first listener began. Those who come back know their own.

    Parameters
    ----------
    record
        Where the jobs are.
    deriver
        Knows how many metrics a job measures.
    poll_s
        Time between two questions to the record, in seconds.
    heartbeat_s
        Time after which a listener hears that nothing has come, in seconds.
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
            failure="no news of jobs; it will be tried again",
        )
        self._record = record
        self._deriver = deriver
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        # From here on, all is changed in the event loop alone.
        self._listeners = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came = asyncio.Event()
        self._is_closed = False
        # Events of the jobs after `_floor` and through `_last`, deleted jobs left out.
        self._recent: deque[JobEvent] = deque()
        self._floor = 0
        self._last = 0

    def check_room(self) -> None:
        """Raise if there are too many listeners already.

        Raises
        ------
        BusyError
            If there is no room for another one.
        """
        if self._listeners >= MOST_LISTENERS:
            raise BusyError("Too many listen already. Try again.", retry_after_s=_RETRY_S)

    def let_go(self) -> None:
        """Let all listeners go, those to come as well. To be called in the event loop."""
        self._is_closed = True
        self._tell()

    async def listen(self, *, after: int | None = None) -> AsyncGenerator[JobEvent | None, None]:
        """Give each job that comes, by id, and None now and then where none does.

        Parameters
        ----------
        after
            The last job that is known already; without it, only jobs that are still to come.
        """
        self._enter()
        try:
            # At once, so that it is known that somebody listens.
            yield None
            cursor = await asyncio.to_thread(self._newest) if after is None else after
            while not self._is_closed:
                came, last = self._came, self._last
                for item in await self._between(cursor, last):
                    yield item
                cursor = max(cursor, last)
                if not await _is_set(came, self._heartbeat_s):
                    yield None
        finally:
            self._listeners -= 1

    def step(self) -> Wait:
        """Read what has come since the last round, and hand it to the listeners."""
        loop = self._loop
        if self._listeners == 0 or loop is None:
            return _UNTIL_SOMEBODY_LISTENS
        last, newest = self._last, self._newest()
        if newest > last:
            found = self._read(last, newest) if last else []
            loop.call_soon_threadsafe(self._take, found, last, newest)
        return Wait(self._poll_s, self._poll_s)

    def _enter(self) -> None:
        self._listeners += 1
        if self._listeners == 1:
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
        """Remember the events of the jobs after `last`, unless somebody has begun anew since."""
        if last != self._last:
            return
        if last == 0 or newest - last > MOST_MISSED:
            self._recent.clear()
            self._floor = last or newest
        self._recent.extend(found)
        self._last = newest
        while len(self._recent) > MOST_MISSED:
            self._floor = self._recent.popleft().job_id
        self._tell()

    def _tell(self) -> None:
        self._came.set()
        if not self._is_closed:
            self._came = asyncio.Event()

    def _newest(self) -> int:
        with self._record.read() as connection:
            return last_job_id(connection)

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
