"""The trend of a metric: its values by series, judged by the specifications in force."""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from squash_api.alerts.freshness import Combination
from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.errors import NotFoundError
from squash_api.index.code_changes import CodeChanges
from squash_api.index.contexts import JobContext, Tags
from squash_api.index.derived import derived_through
from squash_api.index.reader import Reader, View
from squash_api.index.values import LastValue, TrendRow
from squash_api.ingest.reducing import with_reduced
from squash_api.ingest.stored_job import load_job
from squash_api.judging.limits import Limit, LimitJudge, limits_of
from squash_api.judging.states import State, state_of
from squash_api.standings.evidence import Evidence
from squash_api.trends.change_points import ChangePoint, change_points
from squash_api.trends.downsampling import Point
from squash_api.trends.points import TIME, Axis, TrendLine, TrendPoints, number_of

MOST_SETTLED = 300
"""So many of the values of a plot, the newest, are judged by limits that look at earlier ones."""

_MOST_METRICS = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """Which values of a metric to show: those of jobs with these tags, between two times (ns).

    Both ends are included. The axis `x` is `time`, or the name of a tag or field with numbers, or
    of another metric. `has_steps` asks for the change points too, which are on the axis of time.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    since_ns: int | None = None
    x: str = TIME
    until_ns: int | None = None
    has_steps: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A value, its place on the axis (None: its time), its job, and the limits that it breaks.

    `is_limited` says whether any limit applies to it. `settled` are the limits that look at earlier
    values, as they judge this one. Only `Trends.last` gives absent values.
    """

    value: float | None
    x: float | None
    job: JobContext
    changes: CodeChanges | None
    is_limited: bool
    broken: Sequence[Limit]
    settled: Sequence[Limit] = ()

    @property
    def severity(self) -> int:
        """Severity of the worst broken limit, 1 to 3; 0 if none is broken."""
        return max((limit.severity for limit in self.broken), default=0)

    @property
    def state(self) -> State:
        """How the value stood."""
        is_measured = self.value is not None
        return state_of(self.severity, is_limited=self.is_limited, is_measured=is_measured)


@dataclass(frozen=True, slots=True)
class Trend:
    """The `count` values that were found, and `outside` more without a place on the axis.

    `common` holds the tags that all series share. `limits` holds the limits that apply to any of
    the values, each with whether it applies to all. `steps` are the change points, each with the
    index of its line.
    """

    common: Combination
    lines: Sequence[TrendLine[Judged]]
    limits: Sequence[tuple[Limit, bool]]
    count: int
    outside: int
    steps: Sequence[tuple[int, ChangePoint]] = ()


@dataclass(slots=True)
class _Sets:
    """The sets of tags of a metric in the jobs up to the id `through`."""

    through: int = 0
    tags: dict[int, Tags] = field(default_factory=dict)


class Trends:
    """Reads the trends of metrics. Safe to use from many threads."""

    def __init__(self, reader: Reader, definitions: DefinitionsInForce, evidence: Evidence) -> None:
        self._reader = reader
        self._definitions = definitions
        self._evidence = evidence
        self._lock = threading.Lock()
        self._sets: OrderedDict[str, _Sets] = OrderedDict()

    def unit(self, metric: str) -> str | None:
        """Look up the unit of a metric that is declared or was measured; None if it has none yet.

        Raises
        ------
        NotFoundError
            If the metric is unknown.
        """
        self._reader.catch_up()
        self._reader.metrics.refresh()
        known = self._reader.metrics.now.by_name.get(metric)
        if known is None:
            raise NotFoundError.of("metric", metric, self._reader.metrics.now.by_name)
        return known.unit

    def limits(self, metric: str) -> list[Limit]:
        """List all limits of a metric, worst first."""
        return limits_of(
            self._definitions.at(None).by_metric.get(metric, ()),
            unit=self.unit(metric),
            schema=self._reader.metrics.schema,
        )

    def newest_job(self, metric: str) -> int:
        """Find the job that named a metric last; 0 if there is none."""
        self._reader.catch_up()
        with self._reader.view() as view:
            found = _last(view, metric, None, limit=1)
        return found[0].job_id if found else 0

    def read(self, metric: str, asked: Asked) -> Trend:
        """Read the values of a metric by series, as many as a plot can show.

        Raises
        ------
        NotFoundError
            If the metric is unknown.
        """
        judge = LimitJudge(self.limits(metric))
        axis = Axis(asked.x, is_tag=asked.x in self._reader.metrics.schema.tags)
        sets = self._sets_of(metric)

        def find(
            view: View,
        ) -> tuple[
            TrendPoints,
            list[TrendLine[Point]],
            dict[int, _JobOf],
            list[tuple[int, ChangePoint]],
        ]:
            found = TrendPoints(axis, sets)
            for rows in _rows(view, metric, asked, axis, sets):
                found.take(rows)
            chosen = found.choose(judge.badness)
            job_ids = [point.job_id for line in chosen for point in line.values]
            has_steps = asked.has_steps and asked.x == TIME
            steps = _steps_of(view, found, chosen) if has_steps else []
            return found, chosen, self._jobs_of(view, judge, job_ids), steps

        found, chosen, known, steps = self._reader.settled(find)
        lines = [
            TrendLine(
                line.tags,
                [
                    _judged(judge, point.value, found.xs.get(point.job_id), known[point.job_id])
                    for point in line.values
                    # A job may have been deleted meanwhile.
                    if point.job_id in known
                ],
                line.series,
                line.is_rest,
            )
            for line in chosen
        ]
        return Trend(found.common, lines, judge.applied(), found.count, found.outside, steps)

    def last(
        self,
        metric: str,
        tags: Mapping[str, str],
        *,
        limit: int,
        since_ns: int | None = None,
        until_ns: int | None = None,
    ) -> list[Judged]:
        """Read what jobs with these tags brought last, absent values too, newest first.

        Only jobs between two times (ns), both included, count.
        """
        judge = LimitJudge(self.limits(metric))
        matching = _matching(self._sets_of(metric), tags)
        span = {"since_ns": since_ns, "until_ns": until_ns}

        def find(view: View) -> tuple[list[LastValue], dict[int, _JobOf]]:
            rows = _last(view, metric, matching, limit=limit, **span)
            return rows, self._jobs_of(view, judge, [row.job_id for row in rows])

        rows, known = self._reader.settled(find)
        return [
            _judged(judge, row.value, None, known[row.job_id])
            for row in rows
            if row.job_id in known
        ]

    def _jobs_of(
        self, view: View, judge: LimitJudge, job_ids: Sequence[int]
    ) -> "dict[int, _JobOf]":
        view.require_settled(job_ids)
        contexts = view.contexts.of(job_ids)
        changes = view.changes_since_previous_run(contexts)
        settled: dict[int, list[Limit]] = {}
        if judge.has_history:
            snapshot = self._definitions.at(None)
            newest = sorted(contexts.values(), key=lambda job: -job.time_ns)
            for job in newest[:MOST_SETTLED]:
                past = self._evidence.of(view, job, snapshot).past
                settled[job.job_id] = judge.settle(job.context, past)
        return {
            job_id: (context, changes.get(job_id), settled.get(job_id, ()))
            for job_id, context in contexts.items()
        }

    def choices(self, metric: str) -> dict[str, list[str]]:
        """List the values of each tag with which a metric was measured."""
        found: dict[str, set[str]] = {}
        for tags in self._sets_of(metric).values():
            for name, value in tags.items():
                found.setdefault(name, set()).add(value)
        return {name: sorted(values) for name, values in found.items()}

    def axes(self, metric: str, values: Sequence[Judged]) -> tuple[list[str], list[str]]:
        """List the metadata and the other metrics that a metric can be shown over.

        The metadata are numbers of these values' jobs; the metrics are those of the first job.
        """
        numbers: set[str] = set()
        for item in values:
            context = item.job.context
            numbers |= {key for key, text in context.tags.items() if number_of(text) is not None}
            numbers |= {
                key
                for key, found in context.fields.items()
                if Axis(key).is_field and not isinstance(found, str)
            }
        metrics: set[str] = set()
        if values:
            with self._reader.view() as view, suppress(NotFoundError):
                _, job = view.ask(load_job, values[0].job.job_id)
                job = with_reduced(job, self._reader.metrics.now.reductions)
                metrics = {item.metric for item in job.measurements}
        return sorted(numbers), sorted(
            (metrics & self._reader.metrics.now.by_name.keys()) - {metric}
        )

    def _sets_of(self, metric: str) -> Mapping[int, Tags]:
        """Look up the sets of tags with which a metric was measured, reading only new jobs."""
        self._reader.catch_up()
        with self._lock, self._reader.view() as view:
            known = self._sets.setdefault(metric, _Sets())
            self._sets.move_to_end(metric)
            if len(self._sets) > _MOST_METRICS:
                self._sets.popitem(last=False)
            through = view.ask(derived_through)
            row = view.metrics.by_name.get(metric)
            if through > known.through and row is not None:
                found = view.values.tag_sets(row.metric_id, after=known.through, through=through)
                # A new object, so that callers can go on reading the previous one.
                new = view.contexts.tags(found - known.tags.keys())
                known.tags = {**known.tags, **new}
                known.through = through
            return known.tags


def _rows(
    view: View, metric: str, asked: Asked, axis: Axis, sets: Mapping[int, Tags]
) -> Iterator[list[TrendRow]]:
    known = view.metrics.by_name
    if metric not in known:
        return iter(())
    other = None if axis.is_tag or axis.is_field else known.get(asked.x)
    return view.values.rows(
        known[metric].metric_id,
        since_ns=asked.since_ns,
        until_ns=asked.until_ns,
        tag_sets=_matching(sets, asked.tags) if asked.tags else None,
        other_id=None if other is None else other.metric_id,
        has_fields=axis.is_field,
    )


def _last(
    view: View, metric: str, sets: Collection[int] | None, *, limit: int, **span: int | None
) -> list[LastValue]:
    row = view.metrics.by_name.get(metric)
    if row is None:
        return []
    return view.values.last(row.metric_id, tag_sets=sets, limit=limit, has_absent=True, **span)


# A job, what has changed in the code since the previous run, and what limits that look at earlier
# values demand of it.
_JobOf = tuple[JobContext, CodeChanges | None, Sequence[Limit]]


def _steps_of(
    view: View, found: TrendPoints, lines: Sequence[TrendLine[Point]]
) -> list[tuple[int, ChangePoint]]:
    return [
        (index, step)
        for index, line in enumerate(lines)
        for step in change_points(view, found.whole(line))
    ]


def _matching(sets: Mapping[int, Tags], tags: Mapping[str, str]) -> list[int]:
    return [
        number
        for number, found in sets.items()
        if all(found.get(name) == value for name, value in tags.items())
    ]


def _judged(judge: LimitJudge, value: float | None, x: float | None, job: _JobOf) -> Judged:
    context, changes, settled = job
    if value is None:
        return Judged(None, x, context, changes, is_limited=False, broken=())
    is_limited, broken = judge.judge(value, context.context, settled)
    return Judged(value, x, context, changes, is_limited, broken, settled)
