"""InfluxDB as an outlet: sends the points of every job, and on request again, or deletes them.

It skips only points that InfluxDB permanently refuses, which are kept with the reason.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import httpx
import structlog

from squash_api.delivery.batches import MOST_BYTES, MOST_JOBS, Batch, PointMaker, ReadAhead
from squash_api.delivery.outlet import GATHER, IDLE, Outlet, Sources
from squash_api.delivery.reader import NO_WAIT, Wait
from squash_api.influx.client import (
    InfluxClient,
    InfluxError,
    InfluxMisconfiguredError,
    InfluxRefusedError,
    InfluxUnavailableError,
    Rejected,
    deliver,
)
from squash_api.record.deliveries import (
    Erasure,
    Quarantined,
    mark_sent,
    pending_erasures,
    pending_redeliveries,
    redeliveries_of,
)
from squash_api.record.jobs import ids_that_fit
from squash_api.record.record import Record
from squash_api.settings import InfluxTarget

_LONGEST_SILENCE_S = 10.0
# Each costs InfluxDB some 10 ms per measurement, and new jobs wait meanwhile.
_MOST_ERASURES = 25

_log = structlog.get_logger(__name__)


class InfluxOutlet(Outlet):
    """Sends the points of jobs to one InfluxDB. Nobody else may use `points`.

    `transport` replaces the network in tests.
    """

    def __init__(
        self,
        target: InfluxTarget,
        record: Record,
        points: PointMaker,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(target.name, record)
        self._client = InfluxClient(target, transport=transport)
        self._points = points
        self._new = ReadAhead(target.name, record, points)
        self._heard = 0.0

    @classmethod
    def of(
        cls,
        target: InfluxTarget,
        sources: Sources,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> Self:
        """Make the outlet to an InfluxDB, with points of its own."""
        record, metrics = sources.record, sources.reader.metrics
        points = PointMaker(record, metrics, sources.deriver, squash_url=sources.squash_url)
        return cls(target, record, points, transport=transport)

    def write_extra(self, lines: Sequence[str], /) -> list[Rejected]:
        """Write points that do not belong to jobs."""
        return deliver(self._client, lines)

    def send_some(self) -> Wait:
        """Send one batch of new jobs and one of those to be sent again."""
        self._ping()
        sent = self._send()
        if sent >= MOST_JOBS or self._new.is_ahead():
            return NO_WAIT
        return GATHER if sent else IDLE

    def forget(self) -> None:
        """Drop the batch that was made ahead."""
        self._new.forget()

    def close(self) -> None:
        """Close the connections, and stop the thread that makes batches ahead."""
        self._new.close()
        self._client.close()

    def _ping(self) -> None:
        """Ping InfluxDB after trouble, or if nothing has been sent for a while.

        It costs far less than making points for an InfluxDB that is unavailable.
        """
        now = time.monotonic()
        if self.is_well and now - self._heard < _LONGEST_SILENCE_S:
            return
        # A proxy in front of it may not allow a ping: then the next write shows it.
        with suppress(InfluxRefusedError, InfluxMisconfiguredError):
            self._client.ping()
        self._heard = now

    def _send(self) -> int:
        """Send one batch of new jobs and one of those to be sent again; return how many.

        Points are deleted only when there is less to send than that: an InfluxDB that cannot delete
        must still receive jobs. Batches that were made before a request are sent before it is met.
        """
        sent = self._send_new()
        if self._new.is_ahead():
            return sent
        if sent < MOST_JOBS:
            try:
                sent += self._erase()
            except InfluxUnavailableError:
                raise
            except InfluxError:
                self._send_again()
                raise
        return sent + self._send_again()

    def _send_new(self) -> int:
        batch = self._new.take()
        if batch is None:
            return 0
        if batch.has_more and not self._has_requests():
            self._new.go_ahead(batch)
        try:
            self._write(batch.points, through=batch.through, redelivered=[])
        except BaseException:
            self._new.forget()
            raise
        return batch.jobs

    def _has_requests(self) -> bool:
        with self._record.read() as connection:
            return bool(
                pending_redeliveries(connection, self.name, limit=1)
                or pending_erasures(connection, self.name, limit=1)
            )

    def _send_again(self) -> int:
        with self._record.read() as connection:
            requests = pending_redeliveries(connection, self.name, limit=MOST_JOBS)
            asked = [job_id for job_id, _ in requests]
            job_ids = ids_that_fit(connection, asked, max_bytes=MOST_BYTES)
        if not job_ids:
            return 0
        answered = [request for request in requests if request[0] <= job_ids[-1]]
        batch = self._points.make(job_ids, after=None)
        self._write(batch, through=None, redelivered=answered)
        return len(job_ids)

    def _erase(self) -> int:
        """Delete points, and write again those of jobs that have only lost some of their values.

        The requests stay until both is done, so that an interruption leaves no gap.
        """
        with self._record.read() as connection:
            waiting = pending_erasures(connection, self.name, limit=_MOST_ERASURES)
            asked = [item.job_id for item in waiting]
            job_ids = ids_that_fit(connection, asked, max_bytes=MOST_BYTES)
            # A job that is asked for again from here on is erased once more.
            answered = redeliveries_of(connection, self.name, job_ids)
        if not job_ids:
            return 0
        erasures = [item for item in waiting if item.job_id <= job_ids[-1]]
        self._client.delete_points(
            [(name, item.time_ns) for item in erasures for name in item.measurements]
        )
        batch = self._points.make(job_ids, after=None)
        self._write(batch, through=None, redelivered=answered, erased=erasures)
        return len(job_ids)

    def _write(
        self,
        batch: Batch,
        *,
        through: int | None,
        redelivered: Sequence[tuple[int, int]],
        erased: Sequence[Erasure] = (),
    ) -> None:
        rejected = deliver(self._client, [point.line for point in batch.points])
        quarantined = [
            Quarantined(
                batch.owners[item.index],
                batch.points[item.index].measurement,
                batch.points[item.index].line,
                item.reason,
            )
            for item in rejected
        ]
        for item in quarantined:
            _log.error(
                "InfluxDB permanently refused a point; it is kept in quarantine",
                target=self.name,
                job=item.job_id,
                measurement=item.measurement,
                reason=item.reason,
            )
        self._record.write(
            lambda connection: mark_sent(
                connection,
                self.name,
                through=through,
                redelivered=redelivered,
                quarantined=quarantined,
                now_ns=time.time_ns(),
                erased=erased,
            )
        )
