"""The points of many jobs at once, with what is known of the code that made them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from squash_api.code_changes import CodeChangeReader
from squash_api.derivation import Deriver
from squash_api.influx.points import EncodedPoint, job_to_points
from squash_api.record.jobs import JobRow, added_measurements, job_rows
from squash_api.record.record import Record
from squash_api.record.runs import Run, runs_through
from squash_api.schema import Context
from squash_api.stored_job import values_of
from squash_api.verify.assessment import assess
from squash_api.verify.job import JobValues
from squash_api.vocabulary import Vocabulary


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
    record, vocabulary, deriver
        Where the jobs come from.
    squash_url
        Public root of the service, for the link of each point to its job.
    """

    def __init__(
        self, record: Record, vocabulary: Vocabulary, deriver: Deriver, *, squash_url: str
    ) -> None:
        self._record = record
        self._vocabulary = vocabulary
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
            self._vocabulary.refresh()
            for row in job_rows(connection, job_ids):
                if row.body is None:
                    continue
                job = values_of(row, added.get(row.job_id, []))
                content = self._content_of(row, job)
                contents[row.job_id] = content
                if not is_derived:
                    runs.append(self._deriver.run_of(row.job_id, job, content.context))
        if not is_derived and after is not None:
            self._deriver.store_runs(runs, after=after, through=job_ids[-1])
        return contents

    def _content_of(self, row: JobRow, job: JobValues) -> _Content:
        schema = self._vocabulary.schema
        outcome = assess(job, metrics=self._vocabulary.metrics, schema=schema)
        return _Content(row.time_ns, outcome.values, schema.context(job.meta))

    def _encode(self, contents: Mapping[int, _Content]) -> Batch:
        batch = Batch()
        with self._record.read() as connection:
            changed = self._changes.read_many(connection, list(contents))
            for job_id, content in contents.items():
                changes = changed.get(job_id)
                points = job_to_points(
                    job_id=job_id,
                    squash_url=f"{self._squash_url}/job/{job_id}",
                    time_ns=content.time_ns,
                    values=content.values,
                    context=content.context,
                    code_changes=None if changes is None else changes.packages,
                )
                batch.points.extend(points)
                batch.owners.extend([job_id] * len(points))
        return batch
