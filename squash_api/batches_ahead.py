"""The jobs that a target has not had, batch by batch; the next is made while one is sent."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from squash_api.batch_points import Batch, PointMaker
from squash_api.record.deliveries import get_target, mark_taken
from squash_api.record.jobs import ids_between, last_job_id
from squash_api.record.record import Record

MOST_JOBS = 250
MOST_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class NewBatch:
    """Points of the next `jobs` jobs, the last of which is `through`; `has_more` follow."""

    points: Batch
    jobs: int
    through: int
    has_more: bool


class BatchesAhead:
    """Makes batches of new jobs for a target, in order. For one thread at a time.

    Parameters
    ----------
    target
        Name of the target, which the record knows.
    record
        Where the jobs are.
    points
        Makes their points. While a batch is made ahead nobody else may use it.
    """

    def __init__(self, target: str, record: Record, points: PointMaker) -> None:
        self._target = target
        self._record = record
        self._points = points
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"points-{target}")
        self._ahead: Future[NewBatch | None] | None = None

    def is_ahead(self) -> bool:
        """Tell whether a batch has been made, or is being made, that nobody has taken.

        It says what was true when it was made: whatever has changed since must reach the target
        after it, or it must be forgotten.
        """
        return self._ahead is not None

    def take(self) -> NewBatch | None:
        """Return the next batch, made ahead or now; None if the target has had every job."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead.result()
        with self._record.read() as connection:
            after = get_target(connection, self._target).sent_through
        return self._make(after)

    def go_ahead(self, batch: NewBatch) -> None:
        """Begin to make the batch that follows this one."""
        self._ahead = self._pool.submit(self._make, batch.through)

    def forget(self) -> None:
        """Drop what was made ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            wait([ahead])

    def close(self) -> None:
        """Drop what was made ahead and end the thread."""
        self._ahead = None
        self._pool.shutdown()

    def _make(self, after: int) -> NewBatch | None:
        with self._record.read() as connection:
            last = last_job_id(connection)
            job_ids = ids_between(
                connection, after=after, through=last, max_bytes=MOST_BYTES, limit=MOST_JOBS
            )
        if not job_ids:
            return None
        through = job_ids[-1]
        # Before the metrics are looked at: the jobs are sent again should those change later on.
        is_on_course = self._record.write(
            lambda connection: mark_taken(connection, self._target, after=after, through=through)
        )
        if not is_on_course:
            return None
        points = self._points.make(job_ids, after=after)
        return NewBatch(points, len(job_ids), through, has_more=through < last)
