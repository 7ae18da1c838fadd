"""Batches of points; the next batch is made while one is being sent."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from squash_api.index.code_changes import CodeChangeReader
from squash_api.index.deriver import Deriver
from squash_api.index.runs import Run, Runs, runs_through
from squash_api.influx.points import EncodedPoint, job_to_points
from squash_api.ingest.assessment import assess
from squash_api.ingest.document import Job
from squash_api.ingest.reducing import with_reduced
from squash_api.ingest.stored_job import document_of
from squash_api.record.deliveries import get_target, mark_taken
from squash_api.record.jobs import JobRow, added_measurements, ids_between, job_rows, last_job_id
from squash_api.record.metrics import Metrics
from squash_api.record.record import Connection, Record
from squash_api.schema.names import Context

MOST_JOBS = 250
MOST_BYTES = 8_000_000
# So many batches of a backlog are noted as begun at once: each note waits for the disk, and jobs
# that arrive wait for the note.
_TAKEN_TOGETHER = 4


@dataclass(slots=True)
class Batch:
    """Points that are sent together, and for each the job that it belongs to."""

    points: list[EncodedPoint] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Content:
    """What the points of a job are made of; its values are finite and in the metrics' units."""

    time_ns: int
    values: Mapping[str, float]
    context: Context


class PointMaker:
    """Makes points from jobs. For one thread at a time.

    Each point links to its job below `squash_url`, the public root of the service.
    """

    def __init__(
        self, record: Record, metrics: Metrics, deriver: Deriver, *, squash_url: str
    ) -> None:
        self._record = record
        self._metrics = metrics
        self._deriver = deriver
        self._squash_url = squash_url
        self._changes = CodeChangeReader()

    def make(self, job_ids: Sequence[int], *, after: int | None) -> Batch:
        """Make the points of jobs, in the metrics' present units; deleted jobs have none.

        The ids ascend. If these are all jobs that follow the job `after`, their runs are derived
        too, unless that has been done.
        """
        return self._encode(self._read(job_ids, after=after))

    def _read(self, job_ids: Sequence[int], *, after: int | None) -> dict[int, _Content]:
        """Read the contents of jobs, by id, and derive their runs if necessary.

        Each document is dropped before the next is read, which is kinder to the processor's caches.
        """
        contents: dict[int, _Content] = {}
        runs: list[Run] = []
        with self._record.read() as connection:
            added = added_measurements(connection, job_ids)
            is_derived = runs_through(connection) >= job_ids[-1]
            # After that, so that every metric in these jobs is known.
            self._metrics.refresh()
            for row in job_rows(connection, job_ids):
                if row.body is None:
                    continue
                job = document_of(row, added.get(row.job_id, []))
                job = with_reduced(job, self._metrics.now.reductions)
                content = self._content_of(row, job)
                contents[row.job_id] = content
                if not is_derived:
                    runs.append(self._deriver.run_of(row.job_id, job, content.context))
        if not is_derived and after is not None:
            self._deriver.store_runs(runs, after=after, through=job_ids[-1])
        return contents

    def _content_of(self, row: JobRow, job: Job) -> _Content:
        schema = self._metrics.schema
        known = self._metrics.now.by_name
        outcome = assess(job, metrics=known, schema=schema, user_id=row.user_id)
        return _Content(row.time_ns, outcome.values, schema.context(job.meta))

    def _encode(self, contents: Mapping[int, _Content]) -> Batch:
        batch = Batch()
        with self._record.read() as connection:
            changed = self._changes.since_previous_run(Runs(connection), list(contents))
            for job_id, content in contents.items():
                changes = changed.get(job_id)
                points = job_to_points(
                    job_id=job_id,
                    squash_url=f"{self._squash_url}/job/{job_id}",
                    time_ns=content.time_ns,
                    values=content.values,
                    context=content.context,
                    code_changes=None if changes is None else changes.in_point,
                )
                batch.points.extend(points)
                batch.owners.extend([job_id] * len(points))
        return batch


@dataclass(frozen=True, slots=True)
class NewBatch:
    """Points of the next `jobs` jobs, the last of which is `through`; `has_more` if more follow."""

    points: Batch
    jobs: int
    through: int
    has_more: bool


class ReadAhead:
    """Makes batches of the jobs that a target has not received, in order. For one thread at a time.

    While a batch is made ahead, nobody else may use `points`.
    """

    def __init__(self, target: str, record: Record, points: PointMaker) -> None:
        self._target = target
        self._record = record
        self._points = points
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"points-{target}")
        self._ahead: Future[NewBatch | None] | None = None

    def is_ahead(self) -> bool:
        """Return whether a batch that nobody has taken has been made, or is being made.

        It has the state of when it was made: later changes must reach the target after it, or it
        must be forgotten.
        """
        return self._ahead is not None

    def take(self) -> NewBatch | None:
        """Return the next batch, made ahead or now; None if the target has received every job."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead.result()
        with self._record.read() as connection:
            after = get_target(connection, self._target).sent_through
        return self._make(after)

    def go_ahead(self, batch: NewBatch) -> None:
        """Start to make the batch after this one."""
        self._ahead = self._pool.submit(self._make, batch.through)

    def forget(self) -> None:
        """Drop the batch that was made ahead."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            wait([ahead])

    def close(self) -> None:
        """Drop the batch that was made ahead and stop the thread."""
        self._ahead = None
        self._pool.shutdown()

    def _make(self, after: int) -> NewBatch | None:
        with self._record.read() as connection:
            last = last_job_id(connection)
            job_ids = _next_ids(connection, after, last)
            taken = get_target(connection, self._target).taken_through
            is_begun = not job_ids or taken >= job_ids[-1]
            further = taken if is_begun else _further(connection, job_ids[-1], last)
        if not job_ids:
            return None
        # Before the metrics are read: if one changes later, these jobs are sent again.
        is_on_course = is_begun or self._record.write(
            lambda connection: mark_taken(connection, self._target, after=after, through=further)
        )
        if not is_on_course:
            return None
        points = self._points.make(job_ids, after=after)
        return NewBatch(points, len(job_ids), job_ids[-1], has_more=job_ids[-1] < last)


def _next_ids(connection: Connection, after: int, last: int) -> list[int]:
    return ids_between(connection, after=after, through=last, max_bytes=MOST_BYTES, limit=MOST_JOBS)


def _further(connection: Connection, through: int, last: int) -> int:
    """Return the last job of the few batches that follow a job."""
    for _ in range(_TAKEN_TOGETHER - 1):
        following = _next_ids(connection, through, last)
        through = following[-1] if following else through
    return through
