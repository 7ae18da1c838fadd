"""InfluxDB as an outlet: sends the points of every job, and on request again, or deletes them.

It skips only points that InfluxDB permanently refuses, which are kept with the reason.
"""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

import httpx
import structlog

from squash_api.delivery.batches import MOST_BYTES, MOST_JOBS, Batch, PointMaker, ReadAhead
from squash_api.delivery.outlet import GATHER, IDLE, Outlet, Sources
from squash_api.delivery.reader import NO_WAIT, Wait
from squash_api.influx.client import (
    DatabaseMissingError,
    InfluxClient,
    InfluxError,
    InfluxMisconfiguredError,
    InfluxRefusedError,
    InfluxUnavailableError,
    NotImplementedByItError,
    deletion,
)
from squash_api.influx.servers import Server
from squash_api.influx.writing import Rejected, deliver
from squash_api.logs import note_jobs
from squash_api.record.deliveries import (
    Erasure,
    Quarantined,
    get_target,
    mark_sent,
    note_server,
    pending_erasures,
    pending_redeliveries,
    redeliveries_of,
)
from squash_api.record.jobs import ids_that_fit
from squash_api.record.losses import begin_again, job_with_points, waiting_jobs
from squash_api.record.quarantine import mark_not_erased
from squash_api.record.record import Connection, Record
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
        self._last: int | None = None
        # Why it is not asked to delete points; None if it is.
        self._cannot_delete: str | None = None
        self._told: Server | None = None

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
        return self._deliver(lines)

    def send_some(self) -> Wait:
        """Send one batch of new jobs and one of those to be sent again."""
        had_failed = self._back_off.failures > 0
        self._ping()
        sent = self._send()
        if sent and had_failed:
            # What held it up may have ended after the look, and taken the points with it.
            self._look_for_loss()
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
            self._learn_server()
        self._look_for_loss()
        self._heard = now

    def _learn_server(self) -> None:
        """Note which server it is, and what it cannot do; it may have been upgraded meanwhile."""
        server = self._client.server
        if server is None or server == self._told:
            return
        self._cannot_delete = server.refusal_to_delete()
        lacks = list(server.lacks(is_feeding=True))
        log = _log.warning if lacks else _log.info
        log("InfluxDB answers", target=self.name, server=server.name, lacks=lacks)
        self._record.write(lambda connection: note_server(connection, self.name, server.to_json()))
        self._told = server

    def _look_for_loss(self) -> None:
        """Look whether the database still has the last job that it had when this was last looked.

        It may have been dropped and made again, or InfluxDB may have been started on an empty disk
        or on an old backup.
        """
        if self._new.is_ahead():
            return
        with self._record.read() as connection:
            row = get_target(connection, self.name)
            newest = job_with_points(connection, self.name) if row.has_points else None
        last, self._last = self._last or newest, newest
        # Who may only write may not ask, and not every version answers.
        # One that fails must not keep jobs from one that still takes them.
        with suppress(InfluxError):
            has_last = newest is None or last is None or self._has(last)
            if not has_last:
                self._find_out_about_loss(is_seen=has_last is False)

    def _find_out_about_loss(self, *, is_seen: bool) -> None:
        """Begin with the first job again if the database has not even the oldest it should have.

        `is_seen` tells whether points are known to be missing.
        """
        try:
            kept_ns = self._client.retention_ns()
        except DatabaseMissingError:
            kept_ns = None
        since_ns = 0 if kept_ns is None else time.time_ns() - kept_ns
        with self._record.read() as connection:
            oldest = job_with_points(connection, self.name, since_ns=since_ns, is_oldest=True)
        if oldest is None:
            return
        if self._has(oldest) is False:
            self._begin_again()
        elif is_seen and kept_ns is None:
            _log.error(
                "InfluxDB has lost points that it had: run squash reconcile",
                target=self.name,
                runbook="delivery-lost-points",
            )

    def _has(self, job_id: int) -> bool | None:
        """Return whether the database has all points of a job, as far as can be known now.

        None if the job has no points any more, as one that was deleted: it tells nothing.
        """
        with self._record.read() as connection:
            if waiting_jobs(connection, self.name, [job_id]):
                return True
        lines = self._points.make([job_id], after=None).points
        return (
            None
            if not lines
            else all(
                self._client.has_point(point.measurement, int(point.line.rpartition(" ")[2]))
                for point in lines
            )
        )

    def _begin_again(self) -> None:
        """Note that the database has lost its points; all jobs are then sent once more.

        May be called from any thread, also while others send: what they have sent no longer counts.
        """
        lost = self._record.write(
            lambda connection: begin_again(
                connection,
                self.name,
                now_ns=time.time_ns(),
                is_able_to_delete=self._cannot_delete is None,
            )
        )
        self._last = None
        if lost:
            _log.error(
                "the database was missing or empty: it is filled again from the record. Retention "
                "policies, continuous queries and users' rights that it had must be made again",
                target=self.name,
                database=self._client.target.database,
                jobs=lost,
                runbook="delivery-refilling",
            )

    def _deliver(self, lines: Sequence[str]) -> list[Rejected]:
        return deliver(self._client, lines, before_creating=self._begin_again)

    def _send(self) -> int:
        """Send one batch of new jobs and one of those to be sent again; return how many.

        Points are deleted only when there is less to send than that: an InfluxDB that cannot delete
        must still receive jobs. Batches that were made before a request are sent before it is met.
        """
        sent = self._send_new()
        if self._new.is_ahead():
            return sent
        if sent < MOST_JOBS:
            sent += self._erase()
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
                or self._erasures(connection, limit=1)
            )

    def _erasures(self, connection: Connection, *, limit: int) -> list[Erasure]:
        # What can never be done is noted once.
        now_ns = time.time_ns() if self._cannot_delete is None else None
        return pending_erasures(connection, self.name, limit=limit, now_ns=now_ns)

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

        The requests stay until both is done, so that an interruption leaves no gap. Those that
        InfluxDB refuses are put aside for a while.
        """
        with self._record.read() as connection:
            waiting = self._erasures(connection, limit=_MOST_ERASURES)
            asked = [item.job_id for item in waiting]
            job_ids = ids_that_fit(connection, asked, max_bytes=MOST_BYTES)
            # A job that is asked for again from here on is erased once more.
            answered = redeliveries_of(connection, self.name, job_ids)
        if not job_ids:
            return 0
        refused = self._delete([item for item in waiting if item.job_id <= job_ids[-1]])
        still_there = {item.job_id for item in refused}
        gone = [job_id for job_id in job_ids if job_id not in still_there]
        if refused:
            self._record.write(
                lambda connection: mark_not_erased(
                    connection, self.name, refused, now_ns=time.time_ns()
                )
            )
        if gone:
            note_jobs(_log, "points deleted", gone, target=self.name)
        # What stays is at least given the values that it should have.
        written = job_ids if self._cannot_delete is not None else gone
        if written:
            self._write(
                self._points.make(written, after=None),
                through=None,
                redelivered=[request for request in answered if request[0] in written],
                erased=[item for item in waiting if item.job_id in gone],
            )
        return len(written)

    def _delete(self, erasures: Sequence[Erasure]) -> list[Quarantined]:
        """Delete points; return what InfluxDB refuses to delete, by its statements."""
        if self._cannot_delete is not None:
            return [
                each for item in erasures for each in self._undeleted(item, self._cannot_delete)
            ]
        points = [(name, item.time_ns) for item in erasures for name in item.measurements]
        try:
            self._client.delete_points(points)
        except InfluxUnavailableError:
            raise
        except NotImplementedByItError as error:
            self._cannot_delete = error.reason
            return self._delete(erasures)
        except InfluxError as error:
            if len(erasures) > 1:
                return [each for item in erasures for each in self._delete([item])]
            return self._undeleted(erasures[0], error.reason)
        return []

    def _undeleted(self, item: Erasure, reason: str) -> list[Quarantined]:
        """Say that the points of a job stay, and why."""
        will_ask = self._cannot_delete is None
        _log.error(
            "InfluxDB refuses to delete the points of a job; it is asked again later"
            if will_ask
            else "InfluxDB cannot delete the points of a job: they stay in it",
            target=self.name,
            job=item.job_id,
            runbook="delivery-undeleted",
        )
        return [
            Quarantined(item.job_id, name, deletion(name, item.time_ns), reason)
            for name in item.measurements
        ]

    def _write(
        self,
        batch: Batch,
        *,
        through: int | None,
        redelivered: Sequence[tuple[int, int]],
        erased: Sequence[Erasure] = (),
    ) -> None:
        rejected = self._deliver([point.line for point in batch.points])
        quarantined = [
            Quarantined(
                batch.owners[item.index],
                batch.points[item.index].measurement,
                batch.points[item.index].line,
                item.reason,
            )
            for item in rejected
        ]
        self._log_refused(quarantined)
        self._record.write(
            lambda connection: mark_sent(
                connection,
                self.name,
                through=through,
                redelivered=redelivered,
                quarantined=quarantined,
                now_ns=time.time_ns(),
                erased=erased,
                has_points=len(batch.points) > len(rejected),
            )
        )
        note_jobs(_log, "delivered", batch.owners, target=self.name)
        # Its loss is noticed from now on, not only after the first look.
        self._last = self._last or (None if rejected else through)

    def _log_refused(self, quarantined: Sequence[Quarantined]) -> None:
        # The reasons quote the points, and are in the quarantine.
        for job_id, points in Counter(item.job_id for item in quarantined).items():
            _log.error(
                "InfluxDB permanently refused points of a job; they are kept in quarantine",
                target=self.name,
                job=job_id,
                points=points,
                runbook="quarantine",
            )
