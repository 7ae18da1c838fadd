"""The points of jobs, batch by batch; those of the next jobs are made while a batch is sent."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from squash_api.index.code_changes import CodeChangeReader
from squash_api.index.deriver import Deriver
from squash_api.index.runs import Run, Runs, runs_through
from squash_api.influx.points import EncodedPoint, job_to_points
from squash_api.ingest.assessment import assess
from squash_api.ingest.document import Job
from squash_api.ingest.stored_job import document_of
from squash_api.record.deliveries import get_target, mark_taken
from squash_api.record.jobs import JobRow, added_measurements, ids_between, job_rows, last_job_id
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.schema.names import Context

MOST_JOBS = 250
MOST_BYTES = 8_000_000


@dataclass(slots=True)
class Batch:
    """Points that go out together, and the jobs that they are of."""

    points: list[EncodedPoint] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Content:
    """What the points of a job are made of: its time, finite values in the metrics' units, tags."""

    time_ns: int
    values: Mapping[str, float]
    context: Context


class PointMaker:
    """Makes points of jobs. For one thread at a time.

    Parameters
    ----------
    record, metrics, deriver
        Where the jobs come from.
    squash_url
        Public root of the service, for the link of each point to its job.
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
        """Make the points of jobs, in the metrics' units of now; deleted jobs have none.

        The ids ascend. `after` is the job before, where these are all that follow it: then their
        runs are derived on the way, if nobody has done so.
        """
        return self._encode(self._read(job_ids, after=after))

    def _read(self, job_ids: Sequence[int], *, after: int | None) -> dict[int, _Content]:
        """Read what jobs hold, by id, and see to it that their runs are known.

        Every document is read and given up before the next, which is kinder to the processor.
        """
        contents: dict[int, _Content] = {}
        runs: list[Run] = []
        with self._record.read() as connection:
            added = added_measurements(connection, job_ids)
            is_derived = runs_through(connection) >= job_ids[-1]
            # After that, so that every metric that is met is known.
            self._metrics.refresh()
            for row in job_rows(connection, job_ids):
                if row.body is None:
                    continue
                job = document_of(row, added.get(row.job_id, []))
                content = self._content_of(row, job)
                contents[row.job_id] = content
                if not is_derived:
                    runs.append(self._deriver.run_of(row.job_id, job, content.context))
        if not is_derived and after is not None:
            self._deriver.store_runs(runs, after=after, through=job_ids[-1])
        return contents

    def _content_of(self, row: JobRow, job: Job) -> _Content:
        schema = self._metrics.schema
        outcome = assess(job, metrics=self._metrics.now.by_name, schema=schema)
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
    """Points of the next `jobs` jobs, the last of which is `through`; `has_more` follow."""

    points: Batch
    jobs: int
    through: int
    has_more: bool


class ReadAhead:
    """Makes batches of the jobs that a target has not had, in order. For one thread at a time.

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
