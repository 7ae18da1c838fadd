"""Values of metrics over time, with what is known of their jobs: the answer to a question.

For example::

    series = Series(reader, Question(metrics=("camera.Temperature",)))
    for value in series.values(): ...
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

from squash_api.index.derived import derived_through
from squash_api.index.reader import Reader, View
from squash_api.index.runs import NEWEST_NS
from squash_api.index.windows import MOST_JOBS, Fields, MeasuredJob, Plan, Wanted
from squash_api.record.metrics import MetricRow
from squash_api.trends.downsampling import Downsampler
from squash_api.trends.metric_units import MetricUnits
from squash_api.trends.question import Cursor, Question

_FEWEST_JOBS = 64


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a metric, in `unit` (None if no value has brought one), and what its job said.

    `fields` are the other metadata by InfluxDB's names, empty unless they were asked for.
    """

    metric: str
    value: float | None
    unit: str | None
    time_ns: int
    job_id: int
    run_id: str | None
    run_url: str | None
    version_tag: str | None
    tags: Mapping[str, str]
    fields: Fields


@dataclass(frozen=True, slots=True)
class JobValues:
    """Values of one job: each its metric, the unit, and the value.

    `job.values` are as the record holds them, by the metrics' ids, in the same order.
    """

    job: MeasuredJob
    tags: Mapping[str, str]
    values: list[tuple[str, str | None, float | None]]


class Series:
    """The values that are asked for, in the order of time and then of the metrics' names.

    Values that were posted before this was made are among them. They are read in windows, each in
    a transaction of its own: however many there are, memory and record stay free.

    Parameters
    ----------
    reader
        Where the jobs are.
    question
        Which values; in which format and how many, is for those who ask for them.

    Raises
    ------
    InvalidInputError
        If there is no such metric or package, or a metric does not convert to the unit.
    """

    def __init__(self, reader: Reader, question: Question) -> None:
        self._reader = reader
        self._question = question
        self._metrics = MetricUnits(question.unit)
        self._span: tuple[int, int] | None = None
        self._read_ns = 0
        reader.catch_up()
        with reader.view() as view:
            self._metrics.take(view.metrics)
            chosen = self._metrics.choose(question.metrics, question.packages)
            wanted = self._wanted(chosen, through=view.ask(derived_through))
            self._plan = view.windows.plan(wanted)

    def progress(self) -> float:
        """Return how much of the time has been read through, from 0 to 1."""
        if self._span is None:
            with self._reader.view() as view:
                self._span = view.windows.span(self._plan)
        first_ns, last_ns = self._span
        return min(max((self._read_ns - first_ns) / max(1, last_ns - first_ns), 0.0), 1.0)

    def jobs(
        self, *, after: Cursor | None = None, limit: int | None = None
    ) -> Iterator[list[JobValues]]:
        """Yield values by their jobs, some jobs at a time; a list may be empty.

        Parameters
        ----------
        after
            Only values behind this one.
        limit
            At most so many values; fewer jobs are looked at than without it.
        """
        size = MOST_JOBS
        if limit is not None:
            size = max(_FEWEST_JOBS, limit // max(1, len(self._plan.rank)) + 1)
        at_ns = None if after is None else after.time_ns - 1
        left = limit
        while True:
            found, at_ns = self._window(self._plan, at_ns, size)
            self._read_ns = NEWEST_NS if at_ns is None else at_ns
            if after is not None and found:
                found, after = self._behind(found, after), None
            if left is not None:
                found, left = _first(found, left)
            yield found
            if at_ns is None or left == 0:
                return
            size = min(2 * size, MOST_JOBS)

    def values(self) -> Iterator[Value]:
        """Yield all values."""
        return values_of(self.jobs())

    def page(self, *, after: Cursor | None, limit: int) -> tuple[list[Value], Cursor | None]:
        """Return at most `limit` values behind a cursor, and the cursor of the page behind them."""
        found: list[Value] = []
        cursors: list[Cursor] = []
        for jobs in self.jobs(after=after, limit=limit + 1):
            found.extend(values_of([jobs]))
            cursors.extend(
                Cursor(item.job.time_ns, metric_id)
                for item in jobs
                for metric_id, _ in item.job.values
            )
        return found[:limit], cursors[limit - 1] if len(found) > limit else None

    def downsampled_jobs(self, points: int) -> Iterator[list[JobValues]]:
        """Yield the jobs of at most so many values of each metric and set of tags.

        The extremes are among the values; some jobs come at a time, with those values alone.
        """
        chosen = Downsampler[tuple[int, int]](points)
        for jobs in self.jobs():
            for item in jobs:
                job = item.job
                for (metric_id, _), (_, _, value) in zip(job.values, item.values, strict=True):
                    if value is not None:
                        chosen.add((metric_id, job.tag_set_id), job.time_ns, value, job.job_id)
        wanted: dict[int, set[int]] = {}
        for (metric_id, _), point in chosen.points():
            wanted.setdefault(point.job_id, set()).add(metric_id)
        only = replace(self._plan.wanted, job_ids=wanted.keys(), run_ids=())
        with self._reader.view() as view:
            plan = view.windows.plan(only)
        at_ns: int | None = -1
        while at_ns is not None:
            found, at_ns = self._window(plan, at_ns, MOST_JOBS)
            yield [
                _only(item, [metric_id in metrics for metric_id, _ in item.job.values])
                for item in found
                if (metrics := wanted.get(item.job.job_id))
            ]

    def field_names(self) -> list[str]:
        """Return the names of all other metadata that the jobs that are asked for may have."""
        names: set[str] = set()
        at_ns: int | None = -1
        while at_ns is not None:
            with self._reader.view() as view:
                found, at_ns = view.windows.field_names(self._plan, after_ns=at_ns)
            names |= found
        return sorted(names)

    def _window(
        self, plan: Plan, after_ns: int | None, size: int
    ) -> tuple[list[JobValues], int | None]:
        def read(view: View) -> tuple[list[JobValues], int | None]:
            window = view.windows.read(plan, after_ns=after_ns, jobs=size)
            view.require_settled(job.job_id for job in window.jobs)
            self._metrics.take(view.metrics)
            tags = view.contexts.tags({job.tag_set_id for job in window.jobs})
            shown = self._metrics.shown
            found = [
                JobValues(job, tags[job.tag_set_id], [shown(*entry) for entry in job.values])
                for job in window.jobs
            ]
            return found, window.through_ns

        return self._reader.settled(read)

    def _wanted(self, chosen: Sequence[MetricRow], *, through: int) -> Wanted:
        question = self._question
        conditions = question.conditions
        return Wanted(
            metric_ids=[row.metric_id for row in chosen],
            tags=question.tags,
            run_ids=question.runs,
            version_tags=question.version_tags,
            job_ids=question.jobs,
            since_ns=question.since_ns,
            until_ns=question.until_ns,
            through=through,
            suits=(lambda fields: all(test(fields) for test in conditions)) if conditions else None,
            has_fields=bool(question.fields),
            has_absent=question.has_absent,
        )

    def _behind(self, jobs: Sequence[JobValues], after: Cursor) -> list[JobValues]:
        """Leave out what an earlier page has shown of the first job."""
        if jobs[0].job.time_ns != after.time_ns:
            return list(jobs)
        rank = self._plan.rank
        last = rank.get(after.metric_id, -1)
        left = _only(jobs[0], [rank[metric_id] > last for metric_id, _ in jobs[0].job.values])
        return [*([left] if left.values else []), *jobs[1:]]


def values_of(lists: Iterable[Sequence[JobValues]]) -> Iterator[Value]:
    """Yield the values of jobs one by one."""
    for jobs in lists:
        for item in jobs:
            job = item.job
            shared = (job.time_ns, job.job_id, job.run_id, job.run_url, job.version_tag, item.tags)
            for metric, unit, value in item.values:
                yield Value(metric, value, unit, *shared, job.fields)


def _only(item: JobValues, chosen: Sequence[bool]) -> JobValues:
    """Return only those values that are chosen."""
    job = replace(item.job, values=list(compress(item.job.values, chosen)))
    return JobValues(job, item.tags, list(compress(item.values, chosen)))


def _first(jobs: Sequence[JobValues], count: int) -> tuple[list[JobValues], int]:
    """Return the first so many values, and how many there is room for behind them."""
    found: list[JobValues] = []
    for item in jobs:
        if count == 0:
            break
        room = min(count, len(item.values))
        found.append(item if room == len(item.values) else _only(item, [True] * room))
        count -= room
    return found, count
