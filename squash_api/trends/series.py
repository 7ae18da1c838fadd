"""Values of metrics over time, with their jobs' metadata: the answer to a question.

For example::

    series = Series(reader, Question(metrics=("camera.Temperature",)))
    for value in values_of(series.jobs()): ...
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from math import isfinite

from squash_api.errors import Detail
from squash_api.index.derived import derived_through
from squash_api.index.reader import Reader, View
from squash_api.index.runs import NEWEST_NS
from squash_api.index.windows import MOST_JOBS, Fields, MeasuredJob, Plan, Wanted
from squash_api.record.metrics import KnownMetrics, MetricRow
from squash_api.trends.downsampling import Downsampler
from squash_api.trends.question import Cursor, Question, refusal, refuse_unknown
from squash_api.verify.units import converter

_FEWEST_JOBS = 64


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a metric in `unit` (None if the metric has none yet), and its job's metadata.

    `fields` are the metadata other than tags by InfluxDB's names, if they were asked for.
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
    """The values of one job, each with its metric and unit.

    `job.values` holds the same values in the same order as in the record, by the metrics' ids.
    """

    job: MeasuredJob
    tags: Mapping[str, str]
    values: list[tuple[str, str | None, float | None]]


class Series:
    """The values that are asked for, sorted by time and then by the metrics' names.

    Values that were posted before this was made are included. They are read in windows, each in its
    own transaction, so that any number of them neither fills the memory nor blocks the record.

    Parameters
    ----------
    question
        Which values; its format and limit are for the caller.

    Raises
    ------
    InvalidInputError
        If a metric or package is unknown, or a metric does not convert to the unit.
    """

    def __init__(self, reader: Reader, question: Question) -> None:
        self._reader = reader
        self._metrics = MetricUnits(question.unit)
        self._span: tuple[int, int] | None = None
        self._read_ns = 0
        reader.catch_up()
        with reader.view() as view:
            self._metrics.take(view.metrics)
            chosen = self._metrics.choose(question)
            wanted = _wanted(question, chosen, through=view.ask(derived_through))
            self._plan = view.windows.plan(wanted)

    def progress(self) -> float:
        """Estimate how much of the time has been read, from 0 to 1."""
        if self._span is None:
            with self._reader.view() as view:
                self._span = view.windows.span(self._plan)
        first_ns, last_ns = self._span
        return min(max((self._read_ns - first_ns) / max(1, last_ns - first_ns), 0.0), 1.0)

    def jobs(
        self, *, after: Cursor | None = None, limit: int | None = None
    ) -> Iterator[list[JobValues]]:
        """Yield values by their jobs, in lists of some jobs, which may be empty.

        Only values after the cursor `after`, and at most `limit` of them.
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

    def page(self, *, after: Cursor | None, limit: int) -> tuple[list[Value], Cursor | None]:
        """Read at most `limit` values after a cursor, and the cursor of the next page."""
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
        """Yield at most `points` values of each metric and set of tags, with the extremes.

        They come as lists of some jobs that have only these values.
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
        """List the names of metadata other than tags that the jobs may have."""
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

    def _behind(self, jobs: Sequence[JobValues], after: Cursor) -> list[JobValues]:
        """Leave out values of the first job that an earlier page has shown."""
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


def _wanted(question: Question, chosen: Sequence[MetricRow], *, through: int) -> Wanted:
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


def _only(item: JobValues, chosen: Sequence[bool]) -> JobValues:
    """Keep only the chosen values of a job."""
    job = replace(item.job, values=list(compress(item.job.values, chosen)))
    return JobValues(job, item.tags, list(compress(item.values, chosen)))


def _first(jobs: Sequence[JobValues], count: int) -> tuple[list[JobValues], int]:
    """Keep the first `count` values; also gives how many more there is room for."""
    found: list[JobValues] = []
    for item in jobs:
        if count == 0:
            break
        room = min(count, len(item.values))
        found.append(item if room == len(item.values) else _only(item, [True] * room))
        count -= room
    return found, count


@dataclass(frozen=True, slots=True)
class _Metric:
    row: MetricRow
    unit: str | None
    convert: Callable[[float], float] | None


class MetricUnits:
    """Metrics whose values are shown in a canonical `unit`, or if that is None each in its own."""

    def __init__(self, unit: str | None) -> None:
        self._unit = unit
        self._known = KnownMetrics()
        self._metrics: dict[int, _Metric] = {}

    def take(self, known: KnownMetrics) -> None:
        """Use the metrics of the state of the record that values are read from."""
        if known is not self._known:
            self._known = known
            self._metrics = {}

    def shown(self, metric_id: int, value: float | None) -> tuple[str, str | None, float | None]:
        """Convert a value: gives the metric's name, the unit, and the value in that unit.

        The value is None if it has no equivalent, such as the logarithm of a negative number.
        """
        metric = self._metric(metric_id)
        if metric.convert is not None and value is not None:
            converted = metric.convert(value)
            value = converted if isfinite(converted) else None
        return metric.row.name, metric.unit, value

    def choose(self, question: Question) -> list[MetricRow]:
        """List the metrics that a question asks for, sorted by name.

        Raises
        ------
        InvalidInputError
            If a metric or package is unknown, or a metric does not convert to the unit.
        """
        rows = {row.name: row for row in self._known.by_id.values()}
        refuse_unknown(question, rows)
        chosen = [row for name, row in sorted(rows.items()) if question.has_metric(name)]
        self._refuse_unit(chosen)
        return chosen

    def _metric(self, metric_id: int) -> _Metric:
        """Look up a metric, finding out how to convert it when it is first asked for."""
        found = self._metrics.get(metric_id)
        if found is None:
            row = self._known.by_id[metric_id]
            is_converted = self._unit is not None and row.unit is not None
            convert = converter(row.unit or "", self._unit or "") if is_converted else None
            found = _Metric(row, row.unit if convert is None else self._unit, convert)
            self._metrics[metric_id] = found
        return found

    def _refuse_unit(self, chosen: Sequence[MetricRow]) -> None:
        if self._unit is None:
            return
        problems = [
            f"The metric {row.name} is in '{row.unit}', which does not convert to '{self._unit}'"
            if row.unit is not None
            else f"The metric {row.name} has no unit yet"
            for row in chosen
            if self._metric(row.metric_id).convert is None
        ]
        if problems:
            raise refusal([Detail(("query", "unit"), problem) for problem in problems])
