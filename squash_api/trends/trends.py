"""How a metric has gone: its values by series, judged by the specifications in force.

A series is a combination of the tags by which alerts are told apart.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import Connection

from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.errors import NotFoundError
from squash_api.index.code_changes import CodeChangeReader, CodeChanges
from squash_api.index.derived import JobContext, contexts_of, derived_through, tags_of_sets
from squash_api.index.deriver import Deriver
from squash_api.index.latest import LastValue, TrendRow, last_values, tag_sets_measured, trend_rows
from squash_api.index.windows import waiting_for_rederivation
from squash_api.ingest.stored_job import load_job
from squash_api.judging.limits import Limit, LimitJudge, limits_of
from squash_api.record.metrics import Vocabulary, metric_ids
from squash_api.record.record import Record
from squash_api.standings.standing import Combination
from squash_api.trends.points import TIME, Axis, TrendPoints, number_of

_MOST_METRICS = 1000
_MOST_CHANGES = 5000


@dataclass(frozen=True, slots=True)
class Asked:
    """Which values of a metric to show: of jobs with these tags, since a time (ns), over an axis.

    The axis `x` is `time`, the name of a tag or field with numbers, or that of another metric.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    since_ns: int | None = None
    x: str = TIME


@dataclass(frozen=True, slots=True)
class Judged:
    """A value, its place on the axis (None: its time), its job, and the limits that it breaks.

    It is limited if any limit applies to it.
    """

    value: float
    x: float | None
    job: JobContext
    changes: CodeChanges | None
    is_limited: bool
    broken: Sequence[Limit]

    @property
    def severity(self) -> int:
        """How bad it is, 0 to 3."""
        return max((limit.severity for limit in self.broken), default=0)


@dataclass(frozen=True, slots=True)
class TrendLine:
    """Values in the order of the axis, of one series or of several; of the rest, without tags."""

    tags: Combination
    values: Sequence[Judged]
    series: int = 1
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class Trend:
    """What was found: `count` values, and `outside` more that have no place on the axis.

    `common` are the tags that all series have, `lines` those in which they differ. `limits` are
    those that apply to any of the values, each with whether it applies to all.
    """

    common: Combination
    lines: Sequence[TrendLine]
    limits: Sequence[tuple[Limit, bool]]
    count: int
    outside: int


@dataclass(slots=True)
class _Sets:
    """The sets of tags with which a metric was measured, in the jobs up to an id."""

    through: int = 0
    tags: dict[int, Mapping[str, str]] = field(default_factory=dict)


class Trends:
    """Reads how metrics have gone. Safe to use from many threads.

    Parameters
    ----------
    record, deriver
        Where the jobs are, and who brings the index of them up to date.
    definitions, vocabulary
        The specifications and the metrics in force.
    """

    def __init__(
        self,
        record: Record,
        deriver: Deriver,
        definitions: DefinitionsInForce,
        vocabulary: Vocabulary,
    ) -> None:
        self._record = record
        self._deriver = deriver
        self._definitions = definitions
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._changes = CodeChangeReader(remembers=_MOST_CHANGES)
        self._sets: OrderedDict[str, _Sets] = OrderedDict()

    def unit(self, metric: str) -> str | None:
        """Return the unit of a metric that is declared or was measured; None if it has none yet.

        Raises
        ------
        NotFoundError
            If there is no such metric.
        """
        self._deriver.catch_up()
        self._vocabulary.refresh()
        known = self._vocabulary.metrics.get(metric)
        if known is None:
            raise NotFoundError(f"There is no metric {metric[:200]}.")
        return known.unit

    def limits(self, metric: str) -> list[Limit]:
        """Return all limits of a metric, the worst first."""
        return limits_of(
            self._definitions.at(None).by_metric.get(metric, ()),
            unit=self.unit(metric),
            schema=self._vocabulary.schema,
        )

    def newest_job(self, metric: str) -> int:
        """Return the job that has brought the newest value of a metric; 0 if none has."""
        self._deriver.catch_up()
        with self._record.read() as connection:
            found = self._last(connection, metric, None, limit=1)
        return found[0].job_id if found else 0

    def read(self, metric: str, asked: Asked) -> Trend:
        """Return the values of a metric by series, as many as a plot can show.

        Raises
        ------
        NotFoundError
            If there is no such metric.
        """
        judge = LimitJudge(self.limits(metric))
        axis = Axis(asked.x, is_tag=asked.x in self._vocabulary.schema.tags)
        sets = self._sets_of(metric)
        while True:
            with self._record.read() as connection:
                found = TrendPoints(axis, sets)
                for rows in self._rows(connection, metric, asked, axis, sets):
                    found.take(rows)
                chosen = found.choose(judge.badness)
                ids = [point.job_id for line in chosen for point in line.points]
                stale = waiting_for_rederivation(connection, ids)
                known = self._judged_jobs(connection, ids)
            if not stale:
                break
            # Their values may be in a unit that is no more.
            self._deriver.rederive(stale)
        lines = [
            TrendLine(
                line.tags,
                [
                    _judged(judge, point.value, found.xs.get(point.job_id), known[point.job_id])
                    for point in line.points
                    # Jobs may have been deleted meanwhile.
                    if point.job_id in known
                ],
                line.series,
                line.is_rest,
            )
            for line in chosen
        ]
        return Trend(found.common, lines, judge.applied(), found.count, found.outside)

    def last(self, metric: str, tags: Mapping[str, str], *, limit: int) -> list[Judged]:
        """Return the values of a metric that were received last, the newest first.

        Parameters
        ----------
        tags
            Only values of jobs with these tags.
        """
        judge = LimitJudge(self.limits(metric))
        matching = _matching(self._sets_of(metric), tags)
        while True:
            with self._record.read() as connection:
                rows = self._last(connection, metric, matching, limit=limit)
                stale = waiting_for_rederivation(connection, [row.job_id for row in rows])
                known = self._judged_jobs(connection, [row.job_id for row in rows])
            if not stale:
                break
            self._deriver.rederive(stale)
        return [
            _judged(judge, row.value, None, known[row.job_id])
            for row in rows
            if row.job_id in known
        ]

    def choices(self, metric: str) -> dict[str, list[str]]:
        """Return the values of each tag with which a metric was measured."""
        found: dict[str, set[str]] = {}
        for tags in self._sets_of(metric).values():
            for name, value in tags.items():
                found.setdefault(name, set()).add(value)
        return {name: sorted(values) for name, values in found.items()}

    def axes(self, metric: str, values: Sequence[Judged]) -> tuple[list[str], list[str]]:
        """Return what has numbers that a metric can be shown over: metadata, and other metrics.

        Both are of the jobs of these values, the metrics of the first one.
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
            with self._record.read() as connection, suppress(NotFoundError):
                _, job = load_job(connection, values[0].job.job_id)
                metrics = {item.metric for item in job.measurements}
        return sorted(numbers), sorted((metrics & self._vocabulary.metrics.keys()) - {metric})

    def _rows(
        self,
        connection: Connection,
        metric: str,
        asked: Asked,
        axis: Axis,
        sets: Mapping[int, Mapping[str, str]],
    ) -> Iterator[list[TrendRow]]:
        ids = metric_ids(connection, [metric, asked.x])
        if metric not in ids:
            return iter(())
        return trend_rows(
            connection,
            ids[metric],
            since_ns=asked.since_ns,
            tag_sets=_matching(sets, asked.tags) if asked.tags else None,
            other_id=None if axis.is_tag or axis.is_field else ids.get(asked.x),
            has_fields=axis.is_field,
        )

    def _last(
        self, connection: Connection, metric: str, sets: Collection[int] | None, *, limit: int
    ) -> list[LastValue]:
        ids = metric_ids(connection, [metric])
        if metric not in ids:
            return []
        return last_values(connection, ids[metric], tag_sets=sets, limit=limit)

    def _judged_jobs(
        self, connection: Connection, job_ids: Sequence[int]
    ) -> dict[int, tuple[JobContext, CodeChanges | None]]:
        contexts = contexts_of(connection, job_ids)
        with self._lock:
            changes = self._changes.read_many(connection, list(contexts))
        return {job_id: (context, changes.get(job_id)) for job_id, context in contexts.items()}

    def _sets_of(self, metric: str) -> Mapping[int, Mapping[str, str]]:
        """Return the sets of tags with which a metric was measured; only new jobs are asked for."""
        self._deriver.catch_up()
        with self._lock, self._record.read() as connection:
            known = self._sets.setdefault(metric, _Sets())
            self._sets.move_to_end(metric)
            if len(self._sets) > _MOST_METRICS:
                self._sets.popitem(last=False)
            through = derived_through(connection)
            ids = metric_ids(connection, [metric])
            if through > known.through and metric in ids:
                found = tag_sets_measured(
                    connection, ids[metric], after=known.through, through=through
                )
                # Another object, so that who has the one before can go on reading it.
                new = tags_of_sets(connection, found - known.tags.keys())
                known.tags = {**known.tags, **new}
                known.through = through
            return known.tags


def _matching(sets: Mapping[int, Mapping[str, str]], tags: Mapping[str, str]) -> list[int]:
    return [
        number
        for number, found in sets.items()
        if all(found.get(name) == value for name, value in tags.items())
    ]


def _judged(
    judge: LimitJudge, value: float, x: float | None, job: tuple[JobContext, CodeChanges | None]
) -> Judged:
    context, changes = job
    return Judged(value, x, context, changes, *judge.judge(value, context.context))
