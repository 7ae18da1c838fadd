"""Values of metrics with the contexts of their jobs, in order of time, window by window.

A window is a number of jobs that follow each other in time. Its jobs are read first and then their
values, each by an index made for it: the time of a read does not depend on the plan that the
database chooses, and no read holds more than a window.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, Integer, Row, Select, bindparam, select

from squash_api.index.contexts import Contexts
from squash_api.index.runs import NEWEST_NS
from squash_api.index.values import Values, with_sets
from squash_api.record.bulk import is_wanted, rows_of
from squash_api.record.tables import job_context, job_run

MOST_JOBS = 4096
"""The most jobs in a window."""

MOST_VALUES = 50_000
"""A window ends before its jobs have more values than this, unless a single job has."""

Fields = dict[str, str | float]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which values to read. What is empty or None does not filter.

    `metric_ids` are the metrics, in the order in which a job's values are wanted. A job matches
    with any of the values of a tag, of `run_ids`, `version_tags` and `job_ids`. Both ends of the
    time are included. `suits` tells whether a job's other metadata match; jobs after the id
    `through` do not.
    """

    metric_ids: Sequence[int]
    tags: Mapping[str, Collection[str]] = field(default_factory=dict)
    run_ids: Collection[str] = ()
    version_tags: Collection[str] = ()
    job_ids: Collection[int] | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    through: int | None = None
    suits: Callable[[Fields], bool] | None = None
    has_fields: bool = False
    has_absent: bool = False


@dataclass(slots=True)
class MeasuredJob:
    """A job with values of the wanted metrics, by the metrics' ids; None is an absent value.

    `fields` are empty unless they are wanted.
    """

    job_id: int
    time_ns: int
    tag_set_id: int
    run_id: str | None
    run_url: str | None
    version_tag: str | None
    fields: Fields
    values: list[tuple[int, float | None]]


@dataclass(frozen=True, slots=True)
class Window:
    """Jobs in order of time. All up to `through_ns` have been read; None if these were all."""

    jobs: list[MeasuredJob]
    through_ns: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is looked up once for all windows.

    `tag_sets` are ids of sets of tags, and `listed` are times and ids of jobs; None does not
    filter. `rank` is the place of each metric.
    """

    wanted: Wanted
    rank: Mapping[int, int]
    tag_sets: frozenset[int] | None
    listed: Sequence[tuple[int, int]] | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be found."""
        nothing = (self.tag_sets, self.listed, self.wanted.metric_ids)
        return any(item is not None and not item for item in nothing)

    def ends(self, after_ns: int | None) -> dict[str, int]:
        """Return the ends of the time that is left; databases have integers of 64 bits."""
        since_ns, until_ns = self.wanted.since_ns or 0, self.wanted.until_ns
        return {
            "first": min(max(since_ns, 0 if after_ns is None else after_ns + 1, 0), NEWEST_NS),
            "until": NEWEST_NS if until_ns is None else min(max(until_ns, -1), NEWEST_NS),
        }


class Windows:
    """Reads windows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def plan(self, wanted: Wanted) -> Plan:
        """Look up what all windows need."""
        tag_sets = None
        if wanted.tags:
            tag_sets = frozenset(Contexts(self._connection).tag_sets_where(wanted.tags))
        rank = {metric_id: rank for rank, metric_id in enumerate(wanted.metric_ids)}
        return Plan(wanted, rank, tag_sets, self._listed(wanted))

    def span(self, plan: Plan) -> tuple[int, int]:
        """Return the times of the first and last job that will be looked at."""
        if plan.is_empty:
            return 0, 0
        if plan.listed is not None:
            return plan.listed[0][0], plan.listed[-1][0]
        time = plan.ends(None)
        first = self._connection.execute(_END, {**time, "offset": 0}).scalar_one_or_none()
        last = self._connection.execute(_LAST, time).scalar_one_or_none()
        return first or 0, last or 0

    def read(self, plan: Plan, *, after_ns: int | None, jobs: int) -> Window:
        """Read the next window: at most `jobs` jobs after a time."""
        found, values, through_ns = self.entries(plan, after_ns=after_ns, jobs=jobs)
        for metric_id, job_id, value in values:
            if job_id in found:
                found[job_id].values.append((metric_id, value))
        measured = [item for item in found.values() if item.values]
        if len(plan.rank) > 1:
            for item in measured:
                item.values.sort(key=lambda entry: plan.rank[entry[0]])
        return Window(measured, through_ns)

    def entries(
        self, plan: Plan, *, after_ns: int | None, jobs: int
    ) -> tuple[dict[int, MeasuredJob], Iterator[tuple[int, int, float | None]], int | None]:
        """Read a window but keep the values separate, for callers that count them all.

        Returns
        -------
        tuple
            The jobs by id, without values; metric, job and value of each, unsorted, perhaps of
            other jobs too; the time up to which all has been read, None if this was all.
        """
        if plan.is_empty:
            return {}, iter(()), None
        rows, through_ns = self._contexts(plan, after_ns, min(jobs, MOST_JOBS))
        rows, through_ns = self._within_bounds(plan, rows, through_ns)
        found = _measured_jobs(plan.wanted, rows)
        values = Values(self._connection).in_jobs(
            plan.rank, found, has_absent=plan.wanted.has_absent
        )
        return found, values, through_ns

    def field_names(self, plan: Plan, *, after_ns: int | None) -> tuple[set[str], int | None]:
        """Return the names of the next jobs' other metadata, and the time of the last job.

        The time is None if there are no more jobs.
        """
        if plan.is_empty:
            return set(), None
        rows, through_ns = self._contexts(plan, after_ns, MOST_JOBS)
        return {name for row in rows for name in orjson.loads(row[-1])}, through_ns

    def _listed(self, wanted: Wanted) -> list[tuple[int, int]] | None:
        """Return time and id of the wanted jobs and of the jobs of wanted runs, in order of time.

        Returns None if neither jobs nor runs are named.
        """
        ids = None if wanted.job_ids is None else set(wanted.job_ids)
        if wanted.run_ids:
            query = select(job_run.c.job_id).where(job_run.c.run_id.in_(list(wanted.run_ids)))
            of_runs = set(self._connection.execute(query).scalars())
            ids = of_runs if ids is None else ids & of_runs
        if ids is None:
            return None
        since_ns, until_ns = wanted.since_ns, wanted.until_ns
        return sorted(
            (row.time_ns, row.job_id)
            for row in rows_of(self._connection, _TIMES, ids)
            if (since_ns is None or since_ns <= row.time_ns)
            and (until_ns is None or row.time_ns <= until_ns)
        )

    def _contexts(
        self, plan: Plan, after_ns: int | None, jobs: int
    ) -> tuple[list[Row[Any]], int | None]:
        """Return the matching jobs of the next window, and where it ends."""
        wanted, time = plan.wanted, plan.ends(after_ns)
        query: Select[Any] = _CONTEXTS
        if wanted.has_fields or wanted.suits is not None:
            query = query.add_columns(job_context.c.fields)
        if plan.listed is not None:
            start = bisect_left(plan.listed, (time["first"], 0))
            chosen = plan.listed[start : start + jobs]
            through_ns = chosen[-1][0] if start + jobs < len(plan.listed) else None
            query = query.where(job_context.c.job_id.in_([job_id for _, job_id in chosen]))
        else:
            limits = {**time, "offset": jobs - 1}
            end = self._connection.execute(_END, limits).scalar_one_or_none()
            through_ns = None if end is None or end >= time["until"] else int(end)
            if end is not None:
                time["until"] = end
        if wanted.through is not None:
            query = query.where(job_context.c.job_id <= wanted.through)
        if wanted.version_tags:
            query = query.where(job_context.c.version_tag.in_(list(wanted.version_tags)))
        query, sets = with_sets(query, plan.tag_sets)
        rows = self._connection.execute(query, time).all()
        return [row for row in rows if sets is None or row.tag_set_id in sets], through_ns

    def _within_bounds(
        self, plan: Plan, rows: list[Row[Any]], through_ns: int | None
    ) -> tuple[list[Row[Any]], int | None]:
        """End the window earlier if its jobs may have too many values."""
        most = len(plan.rank)
        if len(rows) * most <= MOST_VALUES:
            return rows, through_ns
        counted = rows_of(self._connection, _COUNTS, (row.job_id for row in rows))
        counts = {row.job_id: row.measurement_count for row in counted}
        total = 0
        for index, row in enumerate(rows):
            total += min(counts.get(row.job_id, most), most)
            if total > MOST_VALUES and index:
                return rows[:index], rows[index - 1].time_ns
        return rows, through_ns


def _measured_jobs(wanted: Wanted, rows: Sequence[Row[Any]]) -> dict[int, MeasuredJob]:
    suits, has_fields = wanted.suits, wanted.has_fields
    needs_fields = has_fields or suits is not None
    found: dict[int, MeasuredJob] = {}
    for row in rows:
        fields = orjson.loads(row[-1]) if needs_fields else {}
        if suits is None or suits(fields):
            job_id, time_ns, tag_set_id, run_id, run_url, version_tag = row[:_OWN]
            found[job_id] = MeasuredJob(
                job_id,
                time_ns,
                tag_set_id,
                run_id,
                run_url,
                version_tag,
                fields if has_fields else {},
                [],
            )
    return found


# How many columns of a context come before its fields.
_OWN = 6
_IN_TIME = job_context.c.time_ns.between(
    bindparam("first", type_=BigInteger), bindparam("until", type_=BigInteger)
)
_CONTEXTS = (
    select(
        job_context.c.job_id,
        job_context.c.time_ns,
        job_context.c.tag_set_id,
        job_context.c.run_id,
        job_context.c.run_url,
        job_context.c.version_tag,
    )
    .where(_IN_TIME, job_context.c.tag_set_id.is_not(None))
    .order_by(job_context.c.time_ns)
)
_END = (
    select(job_context.c.time_ns)
    .where(_IN_TIME)
    .order_by(job_context.c.time_ns)
    .limit(1)
    .offset(bindparam("offset", type_=Integer))
)
_LAST = (
    select(job_context.c.time_ns).where(_IN_TIME).order_by(job_context.c.time_ns.desc()).limit(1)
)
_COUNTS = select(job_run.c.job_id, job_run.c.measurement_count).where(is_wanted(job_run.c.job_id))
_TIMES = select(job_context.c.time_ns, job_context.c.job_id).where(
    is_wanted(job_context.c.job_id), job_context.c.tag_set_id.is_not(None)
)
