"""News of jobs as they come, for any number of listeners: the record is asked twice a second.

Asked is the record, not the part of this process that stores jobs: others may store them too. While
nobody listens nothing is asked.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

import structlog

from squash_api.errors import BusyError
from squash_api.index.deriver import Deriver
from squash_api.record.jobs import JobNews, last_job_id, news_between
from squash_api.record.record import Record

MOST_LISTENERS = 500
"""So many may listen to one process at a time."""

MOST_MISSED = 1000
"""A listener who comes back, or is slow, is told of so many jobs at most, the newest."""

_POLL_S = 0.5
_HEARTBEAT_S = 15.0
_RETRY_S = 30

_log = structlog.get_logger(__name__)


class JobEvents:
    """Tells listeners of new jobs. For one event loop.

    Parameters
    ----------
    record
        Where the jobs are.
    deriver
        Knows how many metrics a job measures.
    poll_s
        Time between two questions to the record, in seconds.
    heartbeat_s
        Time after which a listener hears that there is no news, in seconds.
    """

    def __init__(
        self,
        record: Record,
        deriver: Deriver,
        *,
        poll_s: float = _POLL_S,
        heartbeat_s: float = _HEARTBEAT_S,
    ) -> None:
        self._record = record
        self._deriver = deriver
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._listeners = 0
        self._poller: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._is_closed = False
        # News of the jobs after `_floor` and through `_last`, deleted jobs left out.
        self._recent: deque[JobNews] = deque()
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

    def close(self) -> None:
        """Let all listeners go, those to come as well. To be called in the event loop."""
        self._is_closed = True
        self._wake()

    async def listen(self, *, after: int | None = None) -> AsyncGenerator[JobNews | None, None]:
        """Give news of each job that comes, by id, and None now and then where there is none.

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
                news, last = self._news, self._last
                for item in await self._between(cursor, last):
                    yield item
                cursor = max(cursor, last)
                if not await _is_set(news, self._heartbeat_s):
                    yield None
        finally:
            self._leave()

    def _enter(self) -> None:
        self._listeners += 1
        if self._poller is None:
            self._recent.clear()
            self._floor = self._last = 0
            self._poller = asyncio.create_task(self._poll())

    def _leave(self) -> None:
        self._listeners -= 1
        if self._listeners == 0 and self._poller is not None:
            self._poller.cancel()
            self._poller = None

    async def _between(self, after: int, through: int) -> list[JobNews]:
        if after >= through:
            return []
        if after >= self._floor:
            return [item for item in self._recent if item.job_id > after]
        return await asyncio.to_thread(self._read, after, through)

    async def _poll(self) -> None:
        while True:
            try:
                newest = await asyncio.to_thread(self._newest)
                if newest > self._last == 0:
                    self._floor = self._last = newest
                    self._wake()
                elif newest > self._last:
                    self._take(await asyncio.to_thread(self._read, self._last, newest), newest)
            except Exception:  # noqa: BLE001  listeners wait for the record to come back
                _log.exception("no news of jobs; it will be tried again")
            await asyncio.sleep(self._poll_s)

    def _take(self, found: list[JobNews], newest: int) -> None:
        if newest - self._last > MOST_MISSED:
            self._recent.clear()
            self._floor = self._last
        self._recent.extend(found)
        self._last = newest
        while len(self._recent) > MOST_MISSED:
            self._floor = self._recent.popleft().job_id
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        if not self._is_closed:
            self._news = asyncio.Event()

    def _newest(self) -> int:
        with self._record.read() as connection:
            return last_job_id(connection)

    def _read(self, after: int, through: int) -> list[JobNews]:
        self._deriver.derive_runs_through(through)
        with self._record.read() as connection:
            return news_between(connection, after=after, through=through, limit=MOST_MISSED)


async def _is_set(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    return True
