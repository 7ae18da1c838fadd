"""Which jobs a question is about: those with some tags, and those that are named.

Jobs that follow each other with the same values of some tags.

Values of metrics with the contexts of their jobs, in the order of time, window by window.

A window is so many jobs that follow each other in time. Its jobs are read first and then their
values, each by an index that is made for it: how long a read takes does not depend on what the
database takes for the better plan, and no read holds more than a window.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from sqlalchemy import BigInteger, Connection, Integer, Row, Select, bindparam, or_, select

from squash_api.record.tables import job_context, job_run, measurement, rederivation, tag_set
from squash_api.schema.text import MAX_TEXT_BYTES

_CHUNK = 4096


def listed_jobs(
    connection: Connection,
    *,
    job_ids: Collection[int] | None,
    run_ids: Collection[str],
    since_ns: int | None,
    until_ns: int | None,
) -> list[tuple[int, int]] | None:
    """Return time and id of jobs that are named and of these runs, in the order of time.

    Both ends of the time count. None is returned if neither jobs nor runs are named.
    """
    ids = None if job_ids is None else set(job_ids)
    if run_ids:
        query = select(job_run.c.job_id).where(job_run.c.run_id.in_(list(run_ids)))
        of_runs = set(connection.execute(query).scalars())
        ids = of_runs if ids is None else ids & of_runs
    if ids is None:
        return None
    return sorted(
        (row.time_ns, row.job_id)
        for chunk in _job_chunks(sorted(ids))
        for row in connection.execute(_TIMES, {"jobs": chunk})
        if (since_ns is None or since_ns <= row.time_ns)
        and (until_ns is None or row.time_ns <= until_ns)
    )


_TIMES = select(job_context.c.time_ns, job_context.c.job_id).where(
    job_context.c.job_id.in_(bindparam("jobs", expanding=True)),
    job_context.c.tag_set_id.is_not(None),
)


def _job_chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


_SETS_CHUNK = 500
# Databases bear no more than some hundred in one condition, nor long ones.
_MOST_PATTERNS = 50


@dataclass(frozen=True, slots=True)
class SeriesJob:
    """A job of a series. Its `time_ns` is that of its points."""

    job_id: int
    time_ns: int
    run_id: str | None


def tag_sets_where(
    connection: Connection,
    tags: Mapping[str, Collection[str]],
    is_wanted: Callable[[dict[str, str]], bool] | None = None,
) -> dict[int, dict[str, str]]:
    """Return the sets of tags in which each tag has one of its values, by id.

    `is_wanted` may leave out more of them.
    """
    query = select(tag_set.c.id, tag_set.c.document)
    for name, values in tags.items():
        # The document is JSON as orjson writes it, where a tag can only look like this. LIKE may
        # take small letters for capitals, so that it finds too many.
        if len(values) > _MOST_PATTERNS or max(map(len, values), default=0) > MAX_TEXT_BYTES:
            continue
        texts = [orjson.dumps({name: value}).decode()[1:-1] for value in values]
        query = query.where(
            or_(*(tag_set.c.document.contains(text, autoescape=True) for text in texts))
        )
    found = {}
    for row in connection.execute(query):
        document: dict[str, str] = orjson.loads(row.document)
        if all(document.get(name) in values for name, values in tags.items()) and (
            is_wanted is None or is_wanted(document)
        ):
            found[row.id] = document
    return found


def neighbours(
    connection: Connection,
    tag_set_ids: Iterable[int],
    time_ns: int,
    *,
    direction: Literal["earlier", "later"],
    limit: int,
) -> list[SeriesJob]:
    """Return the jobs with these sets of tags next to a time, the nearest first."""
    time = job_context.c.time_ns
    is_earlier = direction == "earlier"
    found: list[SeriesJob] = []
    for chunk in _sets_chunks(sorted(tag_set_ids)):
        query = (
            select(job_context.c.job_id, time, job_context.c.run_id)
            .where(
                job_context.c.tag_set_id.in_(chunk),
                time < time_ns if is_earlier else time > time_ns,
            )
            .order_by(time.desc() if is_earlier else time)
            .limit(limit)
        )
        found.extend(SeriesJob(*row) for row in connection.execute(query))
    found.sort(key=lambda item: item.time_ns, reverse=is_earlier)
    return found[:limit]


def _sets_chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _SETS_CHUNK):
        yield values[start : start + _SETS_CHUNK]


MOST_JOBS = 4096
"""So many jobs are in a window at most."""

MOST_VALUES = 50_000
"""A window ends before its jobs have more values than this, unless a single job has."""

# A list in SQL is worth it as long as it is short.
_MOST_SETS_IN_SQL = 500
# To step to the next row costs so many times less than to look one up.
_STEPS_OF_A_SEEK = 8
MOST_NS = 2**63 - 1
"""The latest time there is."""

Fields = dict[str, str | float]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which values to read. What is empty or None makes no difference.

    `metric_ids` are the metrics, in the order in which a job's values are wanted. Of each tag, of
    `run_ids`, `version_tags` and `job_ids`, any will do. Both ends of the time count. `suits` says
    whether a job's other metadata will do; jobs after the id `through` do not.
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
    """Jobs in the order of time. All up to `through_ns` have been read; None if these were all."""

    jobs: list[MeasuredJob]
    through_ns: int | None


class Plan:
    """What has to be looked up once for all windows: the tags that match, and listed jobs."""

    def __init__(self, connection: Connection, wanted: Wanted) -> None:
        self.wanted = wanted
        self.rank = {metric_id: rank for rank, metric_id in enumerate(wanted.metric_ids)}
        self._tag_sets = frozenset(tag_sets_where(connection, wanted.tags)) if wanted.tags else None
        self._listed = listed_jobs(
            connection,
            job_ids=wanted.job_ids,
            run_ids=wanted.run_ids,
            since_ns=wanted.since_ns,
            until_ns=wanted.until_ns,
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be found."""
        nothing = (self._tag_sets, self._listed, self.wanted.metric_ids)
        return any(item is not None and not item for item in nothing)

    def span(self, connection: Connection) -> tuple[int, int]:
        """Return the times of the first and the last job that will be looked at."""
        if self.is_empty:
            return 0, 0
        if self._listed is not None:
            return self._listed[0][0], self._listed[-1][0]
        time = self._time(None)
        first = connection.execute(_END, {**time, "offset": 0}).scalar_one_or_none()
        last = connection.execute(_LAST, time).scalar_one_or_none()
        return first or 0, last or 0

    def window(self, connection: Connection, *, after_ns: int | None, jobs: int) -> Window:
        """Read the next of at most `jobs` jobs whose time is after another."""
        if self.is_empty:
            return Window([], None)
        found, through_ns = self._jobs(connection, after_ns, jobs)
        for metric_id, job_id, value in self._values(connection, list(found)):
            if job_id in found:
                found[job_id].values.append((metric_id, value))
        measured = [item for item in found.values() if item.values]
        if len(self.rank) > 1:
            for item in measured:
                item.values.sort(key=lambda entry: self.rank[entry[0]])
        return Window(measured, through_ns)

    def entries(
        self, connection: Connection, *, after_ns: int | None, jobs: int
    ) -> tuple[dict[int, MeasuredJob], Iterator[tuple[int, int, float | None]], int | None]:
        """Read what `window` does, but leave the values apart: for those who count them all.

        Returns
        -------
        tuple
            The jobs by id, without values; metric, job and value of each, in no order, and perhaps
            of other jobs too; up to which time all has been read, None if this was all.
        """
        if self.is_empty:
            return {}, iter(()), None
        found, through_ns = self._jobs(connection, after_ns, jobs)
        return found, self._values(connection, list(found)), through_ns

    def field_names(
        self, connection: Connection, *, after_ns: int | None
    ) -> tuple[set[str], int | None]:
        """Return the names of the next jobs' other metadata, and the time of the last job.

        The time is None if there are no more jobs.
        """
        if self.is_empty:
            return set(), None
        rows, through_ns = self._contexts(connection, after_ns, MOST_JOBS)
        return {name for row in rows for name in orjson.loads(row[-1])}, through_ns

    def _jobs(
        self, connection: Connection, after_ns: int | None, jobs: int
    ) -> tuple[dict[int, MeasuredJob], int | None]:
        rows, through_ns = self._contexts(connection, after_ns, min(jobs, MOST_JOBS))
        rows, through_ns = self._within_bounds(connection, rows, through_ns)
        suits, has_fields = self.wanted.suits, self.wanted.has_fields
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
        return found, through_ns

    def _time(self, after_ns: int | None) -> dict[str, int]:
        """Return the ends of the time that is left; databases know no integers beyond 64 bits."""
        since_ns, until_ns = self.wanted.since_ns or 0, self.wanted.until_ns
        return {
            "first": min(max(since_ns, 0 if after_ns is None else after_ns + 1, 0), MOST_NS),
            "until": MOST_NS if until_ns is None else min(max(until_ns, -1), MOST_NS),
        }

    def _contexts(
        self, connection: Connection, after_ns: int | None, jobs: int
    ) -> tuple[list[Row[Any]], int | None]:
        """Return the matching jobs of the next window, and where it ends."""
        time = self._time(after_ns)
        query: Select[Any] = _CONTEXTS
        if self.wanted.has_fields or self.wanted.suits is not None:
            query = query.add_columns(job_context.c.fields)
        if self._listed is not None:
            start = bisect_left(self._listed, (time["first"], 0))
            chosen = self._listed[start : start + jobs]
            through_ns = chosen[-1][0] if start + jobs < len(self._listed) else None
            query = query.where(job_context.c.job_id.in_([job_id for _, job_id in chosen]))
        else:
            end = connection.execute(_END, {**time, "offset": jobs - 1}).scalar_one_or_none()
            through_ns = None if end is None or end >= time["until"] else int(end)
            if end is not None:
                time["until"] = end
        if self.wanted.through is not None:
            query = query.where(job_context.c.job_id <= self.wanted.through)
        if self.wanted.version_tags:
            query = query.where(job_context.c.version_tag.in_(list(self.wanted.version_tags)))
        sets = self._tag_sets
        if sets is not None and len(sets) <= _MOST_SETS_IN_SQL:
            query = query.where(job_context.c.tag_set_id.in_(sorted(sets)))
        rows: list[Row[Any]] = list(connection.execute(query, time).all())
        if sets is not None and len(sets) > _MOST_SETS_IN_SQL:
            rows = [row for row in rows if row.tag_set_id in sets]
        return rows, through_ns

    def _within_bounds(
        self, connection: Connection, rows: list[Row[Any]], through_ns: int | None
    ) -> tuple[list[Row[Any]], int | None]:
        """Let the window end earlier if its jobs may have too many values."""
        most = len(self.rank)
        if len(rows) * most <= MOST_VALUES:
            return rows, through_ns
        counts = {
            row.job_id: row.measurement_count
            for chunk in _chunks([row.job_id for row in rows])
            for row in connection.execute(_COUNTS, {"jobs": chunk})
        }
        total = 0
        for index, row in enumerate(rows):
            total += min(counts.get(row.job_id, most), most)
            if total > MOST_VALUES and index:
                return rows[:index], rows[index - 1].time_ns
        return rows, through_ns

    def _values(
        self, connection: Connection, job_ids: list[int]
    ) -> Iterator[tuple[int, int, float | None]]:
        """Yield metric, job and value; if it is quicker so, of other jobs too."""
        if not job_ids:
            return
        first, last = min(job_ids), max(job_ids)
        query = _VALUES if self.wanted.has_absent else _PRESENT_VALUES
        if last - first < _STEPS_OF_A_SEEK * len(job_ids):
            jobs = measurement.c.job_id.between(first, last)
        else:
            jobs = measurement.c.job_id.in_(job_ids)
        for chunk in _chunks(list(self.rank)):
            chosen = query.where(measurement.c.metric_id.in_(chunk), jobs)
            rows: Any = connection.execute(chosen).all()
            yield from rows


def waiting_for_rederivation(connection: Connection, job_ids: Iterable[int]) -> list[int]:
    """Return those of these jobs whose values may be in a unit that is no more."""
    if connection.execute(_FIRST_WAITING).first() is None:
        return []
    return [
        found
        for chunk in _chunks(sorted(job_ids))
        for found in connection.execute(_WAITING, {"jobs": chunk}).scalars()
    ]


# What a context has beside its fields.
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
_COUNTS = select(job_run.c.job_id, job_run.c.measurement_count).where(
    job_run.c.job_id.in_(bindparam("jobs", expanding=True))
)
_VALUES = select(measurement.c.metric_id, measurement.c.job_id, measurement.c.value)
_PRESENT_VALUES = _VALUES.where(measurement.c.value.is_not(None))
_FIRST_WAITING = select(rederivation.c.job_id).limit(1)
_WAITING = select(rederivation.c.job_id).where(
    rederivation.c.job_id.in_(bindparam("jobs", expanding=True))
)


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
