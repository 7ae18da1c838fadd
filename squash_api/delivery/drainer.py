"""Delivery: from the record to each InfluxDB, in job order, at least once, without giving up.

One drainer holds the lease of a target at a time. It sends jobs in the order of their ids, passing
over only what InfluxDB refuses for good, which is kept with its reason.
"""

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import httpx
import structlog

from squash_api.delivery.batches import MOST_BYTES, MOST_JOBS, Batch, BatchesAhead, PointMaker
from squash_api.delivery.lease import Lease
from squash_api.errors import RecordUnavailableError
from squash_api.index.deriver import Deriver
from squash_api.influx.client import (
    InfluxClient,
    InfluxError,
    InfluxMisconfiguredError,
    InfluxRefusedError,
    Rejected,
    deliver,
)
from squash_api.record.deliveries import (
    Quarantined,
    ensure_targets,
    mark_erased,
    mark_sent,
    mark_trouble,
    pending_erasures,
    pending_redeliveries,
)
from squash_api.record.jobs import ids_that_fit
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.settings import InfluxTarget

_IDLE_S = 0.25
_GATHER_S = 0.03
_STANDBY_S = 2.0
_FIRST_WAIT_S = 0.25
_LEAST_WAIT_S = 1.0
_LONGEST_WAIT_S = 5.0
_REFUSED_WAIT_S = 30.0
_LONGEST_SILENCE_S = 10.0

_log = structlog.get_logger(__name__)


class Drainer:
    """Sends to one target until told to stop. Run it in a thread of its own.

    Parameters
    ----------
    target
        The InfluxDB.
    record, vocabulary, deriver
        Where the jobs come from.
    squash_url
        Public root of the service, for the link of each point to its job.
    transport
        In place of the network, for tests.
    """

    def __init__(
        self,
        target: InfluxTarget,
        *,
        record: Record,
        vocabulary: Vocabulary,
        deriver: Deriver,
        squash_url: str,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.name = target.name
        self._client = InfluxClient(target, transport=transport)
        self._record = record
        self._points = PointMaker(record, vocabulary, deriver, squash_url=squash_url)
        self._new = BatchesAhead(self.name, record, self._points)
        self._lease = Lease(self.name, record)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._failures = 0
        self._unhurried_s = 0.0
        self._is_well = False
        self._heard = 0.0
        record.write(lambda connection: ensure_targets(connection, [self.name]))

    def wake(self) -> None:
        """Say that there may be something to send."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the batch in hand."""
        self._stop.set()
        self._wake.set()

    def is_delivering(self) -> bool:
        """Tell whether this drainer is the one that sends, and InfluxDB was well of late."""
        return self._is_well and not self._stop.is_set() and self._lease.is_held()

    def write_beside(self, lines: Sequence[str]) -> list[Rejected]:
        """Write lines that are of no job, now or never; may be called from any thread.

        Raises
        ------
        InfluxError
            If it fails; delivery goes on as if nothing had been.
        """
        return deliver(self._client, lines)

    def run(self) -> None:
        """Send until `stop`."""
        self._lease.start()
        try:
            while not self._stop.is_set():
                wait_s = self._step_or_wait()
                if wait_s:
                    # An attempt costs: in an outage, jobs that keep coming must not hurry it.
                    unhurried_s = min(wait_s, self._unhurried_s)
                    self._stop.wait(unhurried_s)
                    self._wake.wait(wait_s - unhurried_s)
                    self._wake.clear()
        finally:
            self._new.close()
            self._client.close()
            self._lease.end()

    def _step_or_wait(self) -> float:
        """Do one round; return how many seconds to wait before the next."""
        try:
            if not self._lease.is_held():
                self._new.forget()
                return _STANDBY_S
            self._listen()
            sent = self._step()
            if not (sent or self._is_well):
                # Nothing had to be sent to see that it answers.
                self._record.write(
                    lambda connection: mark_erased(connection, self.name, job_ids=[])
                )
        except InfluxError as error:
            return self._note_trouble(error)
        except Exception:  # noqa: BLE001  the thread must outlive whatever one round does
            _log.exception("delivery failed; it will be tried again", target=self.name)
            return self._next_wait()
        self._failures, self._unhurried_s = 0, 0.0
        self._is_well = True
        if sent >= MOST_JOBS or self._new.is_ahead():
            return 0.0
        if sent:
            # Jobs that come one by one go out together: a request costs as much as fifty jobs.
            self._stop.wait(_GATHER_S)
            return 0.0
        return _IDLE_S

    def _listen(self) -> None:
        """Ask InfluxDB for a sign of life after trouble, or when nothing was sent for long.

        It costs far less than making points for an InfluxDB that is away.
        """
        now = time.monotonic()
        if self._is_well and now - self._heard < _LONGEST_SILENCE_S:
            return
        # What stands in front of it may know no ping: then the next write tells.
        with suppress(InfluxRefusedError, InfluxMisconfiguredError):
            self._client.ping()
        self._heard = now

    def _step(self) -> int:
        """Send one batch of new jobs and one of those to be sent again; return how many.

        Points are deleted when there is less to send than that: an InfluxDB that cannot delete
        shall not keep jobs from it. Either comes after what has been made before it was asked for.
        """
        sent = self._send_new()
        if self._new.is_ahead():
            return sent
        sent += self._send_again()
        return sent if sent >= MOST_JOBS else sent + self._erase()

    def _erase(self) -> int:
        with self._record.read() as connection:
            erasures = pending_erasures(connection, self.name, limit=100)
        for item in erasures:
            for measurement in item.measurements:
                self._client.delete_points(measurement, item.time_ns)
        ids = [item.job_id for item in erasures]
        if ids:
            self._record.write(lambda connection: mark_erased(connection, self.name, job_ids=ids))
        return len(ids)

    def _send_new(self) -> int:
        batch = self._new.take()
        if batch is None:
            return 0
        if batch.has_more and not self._has_requests():
            self._new.go_ahead(batch)
        try:
            self._send(batch.points, through=batch.through, redelivered=[])
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
        self._send(batch, through=None, redelivered=answered)
        return len(job_ids)

    def _send(
        self,
        batch: Batch,
        *,
        through: int | None,
        redelivered: Sequence[tuple[int, int]],
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
                "InfluxDB refused a point for good; it is kept in quarantine",
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
            )
        )

    def _note_trouble(self, error: InfluxError) -> float:
        trouble = str(error)
        is_first, self._is_well = self._failures == 0, False
        wait_s = self._next_wait()
        if isinstance(error, InfluxRefusedError | InfluxMisconfiguredError):
            # Nobody but an operator can mend it: asking often would only fill InfluxDB's log.
            wait_s = self._unhurried_s = _REFUSED_WAIT_S
        (_log.error if is_first else _log.info)(
            "delivery is held up", target=self.name, reason=trouble, wait_s=round(wait_s, 1)
        )
        try:
            self._record.write(
                lambda connection: mark_trouble(
                    connection, self.name, trouble=trouble, now_ns=time.time_ns()
                )
            )
        except RecordUnavailableError:
            _log.warning("trouble not noted in the record", target=self.name)
        return wait_s

    def _next_wait(self) -> float:
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._unhurried_s = _LEAST_WAIT_S
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
