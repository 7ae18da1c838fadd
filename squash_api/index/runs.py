"""The runs that jobs belong to, and the packages of each.

They are derived from the jobs in order of id, separately from the index of measurements: delivery
waits for the runs, and must not wait for that index.
"""

import time
from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, bindparam, func, or_, select, update

from squash_api.ingest.reducing import with_reduced
from squash_api.ingest.stored_job import load_job, points_of
from squash_api.record.bulk import insert_rows, is_wanted, rows_of, store_documents
from squash_api.record.deliveries import (
    Erasure,
    request_redelivery,
    request_rewriting,
    target_names,
)
from squash_api.record.metrics import reductions_in
from squash_api.record.record import get_state, set_state
from squash_api.record.tables import job, job_context, job_run, package_set

NEWEST_NS = 2**63 - 1
"""The latest time there is."""

_RUNS_THROUGH = "runs_through"
# More stored jobs that are later than those being stored are not read at once.
_MOST_LATER = 1000
_FEW = 20
_RUN_COLUMNS = (
    "job_id",
    "env_name",
    "pipeline",
    "run_id",
    "dataset",
    "package_set_id",
    "previous_job_id",
    "measurement_count",
)
_MOST_RECENT = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """What one job says of its run. `measurement_count` counts the metrics that can be stored."""

    job_id: int
    env_name: str | None
    pipeline: str | None
    run_id: str | None
    dataset: str | None
    packages: Sequence[Mapping[str, Any]]
    measurement_count: int = 0


@dataclass(frozen=True, slots=True)
class RunRow:
    """A job's run. `previous_job_id` is a job of the previous run of the same pipeline."""

    job_id: int
    env_name: str | None
    pipeline: str | None
    run_id: str | None
    dataset: str | None
    package_set_id: int | None
    previous_job_id: int | None


@dataclass(frozen=True, slots=True)
class RunJob:
    """A job, its time (ns since 1970), and the run that it belongs to."""

    job_id: int
    time_ns: int
    tag_set_id: int
    pipeline: str | None
    run_id: str | None
    measurement_count: int
    run_url: str | None
    version_tag: str | None


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run, and the time of its newest job (ns since 1970)."""

    pipeline: str | None
    run_id: str
    time_ns: int


class Runs:
    """Reads runs and their jobs. Deleted jobs are left out unless they are asked for by id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_jobs(self, job_ids: Iterable[int]) -> dict[int, RunRow]:
        """Return the runs of those jobs that have been derived."""
        return {row.job_id: RunRow(*row) for row in rows_of(self._connection, _RUNS_OF, job_ids)}

    def first_jobs(
        self,
        run_id: str,
        *,
        pipeline: str | None = None,
        env_name: str | None = None,
        limit: int = 1,
    ) -> list[RunRow]:
        """Return the first jobs of a run, in order of arrival; None means any."""
        query = _RUN.join(job, job.c.id == job_run.c.job_id).where(
            job_run.c.run_id == run_id, job.c.deleted_ns.is_(None)
        )
        if pipeline is not None:
            query = query.where(job_run.c.pipeline == pipeline)
        if env_name is not None:
            query = query.where(job_run.c.env_name == env_name)
        rows = self._connection.execute(query.order_by(job_run.c.job_id).limit(limit))
        return [RunRow(*row) for row in rows]

    def package_sets(self, package_set_ids: Iterable[int]) -> dict[int, list[dict[str, Any]]]:
        """Return the packages of these sets, each by name."""
        rows = rows_of(self._connection, _PACKAGE_SETS, package_set_ids)
        return {row.id: orjson.loads(row.document) for row in rows}

    def back(self, *, before_ns: int, jobs: int) -> tuple[list[RunJob], int | None]:
        """Return at most `jobs` jobs before a time, newest first, and where the next ones begin.

        The latter is None when there are no more.
        """
        limits = {"before": before_ns, "offset": jobs - 1}
        end = self._connection.execute(_END, limits).scalar_one_or_none()
        since = -1 if end is None else int(end)
        rows = self._connection.execute(
            _NEWEST_FIRST.where(_CONTEXT.time_ns >= since, _CONTEXT.time_ns < before_ns)
        )
        return [RunJob(*row) for row in rows], None if end is None else since

    def newest_jobs(self, pipeline: str | None, run_id: str, *, limit: int) -> list[RunJob]:
        """Return the newest jobs of a run; its pipeline may be None."""
        query = _NEWEST_FIRST.where(*_of_run(pipeline, run_id)).limit(limit)
        return [RunJob(*row) for row in self._connection.execute(query)]

    def count_jobs(self, pipeline: str | None, run_id: str) -> int:
        """Count the jobs of a run."""
        query = select(func.count()).select_from(_JOINED)
        where = (*_of_run(pipeline, run_id), _CONTEXT.tag_set_id.is_not(None))
        return int(self._connection.execute(query.where(*where)).scalar_one())

    def page(self, pipeline: str | None, run_id: str, *, after: int, limit: int) -> list[RunJob]:
        """Return jobs of a run after an id, in order of id."""
        query = (
            _JOBS.where(*_of_run(pipeline, run_id), job_run.c.job_id > after)
            .order_by(job_run.c.job_id)
            .limit(limit)
        )
        return [RunJob(*row) for row in self._connection.execute(query)]

    def with_job(
        self, candidates: Sequence[tuple[str | None, str]]
    ) -> list[tuple[str | None, str]]:
        """Return those pipelines and runs that have a job, in the order given."""
        found = []
        for pipeline, run_id in candidates:
            query = _JOBS.where(*_of_run(pipeline, run_id)).limit(1)
            if self._connection.execute(query).first() is not None:
                found.append((pipeline, run_id))
        return found

    def matching(self, words: Sequence[str], *, limit: int) -> list[FoundRun]:
        """Return runs with each word in their pipeline or id, the newest jobs first.

        Only the newest jobs are looked at, except for a run whose id is one of the words.
        """
        newest = _RUN_IDS.order_by(job_run.c.job_id.desc()).limit(_MOST_SEARCHED)
        exact = _RUN_IDS.where(job_run.c.run_id.in_(words)).limit(_MOST_SEARCHED)
        found: dict[tuple[str | None, str], FoundRun] = {}
        for jobs in (exact.subquery(), newest.subquery()):
            has_words = (
                or_(
                    jobs.c.run_id.icontains(word, autoescape=True),
                    jobs.c.pipeline.icontains(word, autoescape=True),
                )
                for word in words
            )
            query = (
                select(jobs.c.pipeline, jobs.c.run_id, func.max(job.c.time_ns))
                .join(job, job.c.id == jobs.c.job_id)
                .where(*has_words, job.c.deleted_ns.is_(None))
                .group_by(jobs.c.pipeline, jobs.c.run_id)
                .order_by(func.max(jobs.c.job_id).desc())
                .limit(limit)
            )
            for row in self._connection.execute(query):
                found.setdefault((row[0], row[1]), FoundRun(*row))
        return list(found.values())[:limit]

    def recent(self, pipeline: str | None) -> list[str]:
        """Return the runs of a pipeline that have the newest jobs, the newest first."""
        query = (
            select(job_run.c.run_id)
            .where(job_run.c.pipeline == pipeline, job_run.c.run_id.is_not(None))
            .order_by(job_run.c.job_id.desc())
            .limit(_MOST_RECENT)
        )
        return list(dict.fromkeys(self._connection.execute(query).scalars()))

    def datasets(self, *, after: str, limit: int) -> list[str]:
        """Return the distinct datasets of jobs, sorted."""
        query = (
            select(job_run.c.dataset)
            .join(job, job.c.id == job_run.c.job_id)
            .where(job_run.c.dataset > after, job.c.deleted_ns.is_(None))
            .distinct()
            .order_by(job_run.c.dataset)
            .limit(limit)
        )
        return list(self._connection.execute(query).scalars())

    def count_measurements(self) -> int:
        """Count the measurements of all jobs."""
        query = (
            select(func.coalesce(func.sum(job_run.c.measurement_count), 0))
            .join(job, job.c.id == job_run.c.job_id)
            .where(job.c.deleted_ns.is_(None))
        )
        return int(self._connection.execute(query).scalar_one())


def runs_through(connection: Connection) -> int:
    """Return the id up to which the run of every job is known."""
    return int(get_state(connection, _RUNS_THROUGH) or 0)


def store_runs(connection: Connection, runs: Sequence[Run], *, after: int, through: int) -> bool:
    """Store the runs of jobs, which are in order of id.

    Returns False, with nothing stored, if another thread or process has stored runs after `after`.
    """
    if runs_through(connection) != after:
        return False
    _insert_runs(connection, runs, after=after)
    set_state(connection, _RUNS_THROUGH, str(through))
    return True


def _insert_runs(connection: Connection, jobs: Sequence[Run], *, after: int) -> None:
    # The jobs of a run share the object: to write it once for all spares 15 us a job.
    distinct = {id(item.packages): item.packages for item in jobs if item.packages}
    documents = [orjson.dumps(packages) for packages in distinct.values()]
    sets = dict(zip(distinct, store_documents(connection, package_set, documents), strict=True))
    previous = _previous_jobs(connection, jobs, after=after)
    rows = [
        (
            item.job_id,
            item.env_name,
            item.pipeline,
            item.run_id,
            item.dataset,
            sets.get(id(item.packages)),
            previous.get((item.pipeline, item.run_id)),
            item.measurement_count,
        )
        for item in jobs
    ]
    insert_rows(connection, job_run, _RUN_COLUMNS, rows)


# A run by its pipeline and id.
_Name = tuple[str | None, str | None]


def _previous_jobs(
    connection: Connection, jobs: Sequence[Run], *, after: int
) -> dict[_Name, int | None]:
    """Return a job of the previous run of each run, by the dates of the jobs.

    That is the latest job, of another run of the pipeline, before the run began. A run that arrives
    late comes between two others: the second of them is then compared with it, and sent again.

    Parameters
    ----------
    jobs
        The jobs that are being stored.
    after
        The runs of all jobs through this id are stored.
    """
    found: dict[_Name, int | None] = {}
    began: dict[_Name, int] = {}
    named = [item for item in jobs if item.pipeline is not None and item.run_id is not None]
    for item in named:
        name = (item.pipeline, item.run_id)
        if name in found or name in began:
            continue
        same = connection.execute(_SAME_RUN, {"pipeline": name[0], "run": name[1]}).first()
        if same is None:
            began[name] = item.job_id
        else:
            found[name] = same.previous_job_id
    if not began:
        return found
    dates = _Dates(connection, named, after=after, fresh=began)
    following: dict[_Name, tuple[int, int]] = {}
    for name, job_id in began.items():
        began_ns = dates.began_ns(name)
        found[name] = dates.last_before(name, began_ns)
        follower = dates.first_after(name, began_ns)
        if follower is not None:
            following[follower] = max(following.get(follower, (0, 0)), (began_ns, job_id))
    unknown = {item.job_id for item in named if not item.packages}
    for follower, (_, job_id) in following.items():
        _compare_with(connection, follower, job_id, has_packages=job_id not in unknown)
        if follower in found:
            found[follower] = job_id
    return found


def _compare_with(connection: Connection, name: _Name, job_id: int, *, has_packages: bool) -> None:
    """Let a job be the one before a stored run, whose points then change.

    If it has no packages, what has changed in the code is no longer known: the points lose that.
    """
    connection.execute(update(job_run).where(*_of_run(*name)).values(previous_job_id=job_id))
    ids = connection.execute(select(job_run.c.job_id).where(*_of_run(*name))).scalars().all()
    request_redelivery(connection, ids, targets=target_names(connection), request=time.time_ns())
    if not has_packages:
        rows = connection.execute(select(job.c.id).where(job.c.id.in_(ids), _IS_KEPT)).scalars()
        loaded = [load_job(connection, number) for number in rows.all()]
        reductions = reductions_in(connection)
        named = [(row, with_reduced(one, reductions).measurements) for row, one in loaded]
        request_rewriting(
            connection,
            [
                Erasure(row.job_id, row.time_ns, points_of(item.metric for item in items))
                for row, items in named
            ],
        )


class _Dates:
    """The dates of jobs with a pipeline and a run: of those being stored, and of stored ones.

    Jobs usually arrive in the order of their dates: then one query finds that no stored job is
    later than those being stored. Otherwise each is looked for. `fresh` are the runs of which no
    job is stored.
    """

    def __init__(
        self, connection: Connection, jobs: Sequence[Run], *, after: int, fresh: Container[_Name]
    ) -> None:
        self._connection = connection
        self._after = after
        self._fresh = fresh
        times = {
            row.id: row.time_ns
            for row in rows_of(connection, _TIMES, [item.job_id for item in jobs])
        }
        # By pipeline, in the order of time: time, job, and run.
        self._new: dict[str | None, list[tuple[int, int, str | None]]] = {}
        self._began: dict[_Name, int] = {}
        for item in jobs:
            time_ns = times[item.job_id]
            self._new.setdefault(item.pipeline, []).append((time_ns, item.job_id, item.run_id))
            name = (item.pipeline, item.run_id)
            self._began[name] = min(time_ns, self._began.get(name, NEWEST_NS))
        for found in self._new.values():
            found.sort()
        self._first_ns = min(times.values(), default=0)
        self._is_complete = True
        limits = {"time": self._first_ns, "after": after, "limit": _MOST_LATER + 1}
        self._later: Sequence[Any] = connection.execute(_LATER, limits).all()
        if self._later:
            deleted = self._deleted(self._later)
            self._is_complete = len(self._later) <= _MOST_LATER
            self._later = [row for row in self._later if row.job_id not in deleted]
        self._before: dict[str | None, tuple[int, int] | None] | None = None

    def began_ns(self, name: _Name) -> int:
        """Return the date of the first job of a run that is being stored."""
        return self._began[name]

    def last_before(self, name: _Name, time_ns: int) -> int | None:
        """Return the latest job, of other runs of the pipeline, before a time."""
        pipeline, run_id = name
        new = self._new[pipeline]
        place = bisect_left(new, (time_ns, 0, None))
        while place and new[place - 1][2] == run_id:
            place -= 1
        candidates = [new[place - 1][:2]] if place else []
        if not self._is_complete:
            candidates += filter(None, [self._stored_before(pipeline, time_ns)])
        else:
            candidates += [
                (row.time_ns, row.job_id)
                for row in self._later
                if row.pipeline == pipeline and row.time_ns < time_ns
            ]
            if not candidates:
                candidates += filter(None, [self._stored_before_all(pipeline)])
        return max(candidates)[1] if candidates else None

    def first_after(self, name: _Name, time_ns: int) -> _Name | None:
        """Return the run of the pipeline whose first job is the next one after a time, if any is.

        A run that is new as well finds the one before it by itself.
        """
        pipeline, run_id = name
        if self._is_complete:
            later = (row for row in self._later if row.pipeline == pipeline)
            stored = next((row for row in later if row.time_ns > time_ns), None)
        else:
            limits = {"time": time_ns, "after": self._after, "pipeline": pipeline, "limit": 1}
            stored = self._connection.execute(_LATER_OF_PIPELINE, limits).first()
        candidates = [] if stored is None else [(stored.time_ns, stored.run_id)]
        new = self._new[pipeline]
        for place in range(bisect_left(new, (time_ns + 1, 0, None)), len(new)):
            if new[place][2] != run_id:
                candidates.append((new[place][0], new[place][2]))
                break
        if not candidates:
            return None
        next_ns, next_run = min(candidates)
        found = (pipeline, next_run)
        if found in self._fresh:
            return None
        known = {"pipeline": pipeline, "run": next_run}
        stored_ns: int = self._connection.execute(_BEGAN, known).scalar_one()
        return found if min(stored_ns, self._began.get(found, NEWEST_NS)) == next_ns else None

    def _stored_before_all(self, pipeline: str | None) -> tuple[int, int] | None:
        """Return the latest stored job of a pipeline before all jobs that are being stored."""
        if self._before is None:
            # One step back finds it for most pipelines.
            most = min(_FEW * len(self._new), _MOST_LATER)
            limits = {"time": self._first_ns, "after": self._after, "limit": most}
            rows = self._connection.execute(_EARLIER, limits).all()
            deleted = self._deleted(rows)
            self._before = {}
            for row in rows:
                if row.job_id not in deleted:
                    self._before.setdefault(row.pipeline, (row.time_ns, row.job_id))
        if pipeline not in self._before:
            self._before[pipeline] = self._stored_before(pipeline, self._first_ns)
        return self._before[pipeline]

    def _stored_before(self, pipeline: str | None, time_ns: int) -> tuple[int, int] | None:
        """Return time and id of the latest stored job of a pipeline before a time."""
        if self._connection.execute(_ANY_OF_PIPELINE, {"pipeline": pipeline}).first() is None:
            return None
        limits = {"time": time_ns, "after": self._after, "pipeline": pipeline, "limit": _FEW}
        while rows := self._connection.execute(_EARLIER_OF_PIPELINE, limits).all():
            deleted = self._deleted(rows)
            for row in rows:
                if row.job_id not in deleted:
                    return row.time_ns, row.job_id
            limits["time"] = rows[-1].time_ns
        return None

    def _deleted(self, rows: Sequence[Any]) -> set[int]:
        """Return those of these jobs that have been deleted."""
        ids = [row.job_id for row in rows]
        return {row.id for row in rows_of(self._connection, _DELETED, ids)}


def _of_run(pipeline: str | None, run_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return job_run.c.pipeline == pipeline, job_run.c.run_id == run_id


_MOST_SEARCHED = 50_000
_RUN_IDS = select(job_run.c.pipeline, job_run.c.run_id, job_run.c.job_id).where(
    job_run.c.run_id.is_not(None)
)
_SAME_RUN = (
    select(job_run.c.previous_job_id)
    .where(job_run.c.pipeline == bindparam("pipeline"), job_run.c.run_id == bindparam("run"))
    .order_by(job_run.c.job_id)
    .limit(1)
)
_TIMES = select(job.c.id, job.c.time_ns).where(is_wanted(job.c.id))
_DELETED = select(job.c.id).where(is_wanted(job.c.id), job.c.deleted_ns.is_not(None))
_ANY_OF_PIPELINE = (
    select(job_run.c.job_id).where(job_run.c.pipeline == bindparam("pipeline")).limit(1)
)
_BEGAN = (
    select(func.min(job.c.time_ns))
    .select_from(job_run.join(job, job.c.id == job_run.c.job_id))
    .where(job_run.c.pipeline == bindparam("pipeline"), job_run.c.run_id == bindparam("run"))
)
# In the order of time, step by step: the jobs of a pipeline are too many to be sorted.
_DATED = (
    select(job.c.time_ns, job_run.c.job_id, job_run.c.pipeline, job_run.c.run_id)
    .select_from(job.join(job_run, job_run.c.job_id == job.c.id))
    .where(job.c.id <= bindparam("after"), func.coalesce(job_run.c.run_id, "") != "")
    .limit(bindparam("limit"))
)
_IS_OF_PIPELINE = func.coalesce(job_run.c.pipeline, "") == bindparam("pipeline")
_LATER = _DATED.where(job.c.time_ns > bindparam("time")).order_by(job.c.time_ns)
_LATER_OF_PIPELINE = _LATER.where(_IS_OF_PIPELINE)
_EARLIER = _DATED.where(job.c.time_ns < bindparam("time")).order_by(job.c.time_ns.desc())
_EARLIER_OF_PIPELINE = _EARLIER.where(_IS_OF_PIPELINE)
_IS_KEPT = job.c.deleted_ns.is_(None)
_RUN = select(*(job_run.c[name] for name in _RUN_COLUMNS[:-1]))
_RUNS_OF = _RUN.where(is_wanted(job_run.c.job_id))
_PACKAGE_SETS = select(package_set.c.id, package_set.c.document).where(is_wanted(package_set.c.id))
_CONTEXT: Any = job_context.c
_JOINED = job_context.join(job_run, job_run.c.job_id == job_context.c.job_id)
_JOBS = (
    select(
        job_context.c.job_id,
        job_context.c.time_ns,
        job_context.c.tag_set_id,
        job_run.c.pipeline,
        job_run.c.run_id,
        job_run.c.measurement_count,
        job_context.c.run_url,
        job_context.c.version_tag,
    )
    .select_from(_JOINED)
    .where(job_context.c.tag_set_id.is_not(None))
)
_NEWEST_FIRST = _JOBS.order_by(job_context.c.time_ns.desc())
_END = (
    select(job_context.c.time_ns)
    .where(job_context.c.time_ns < bindparam("before"))
    .order_by(job_context.c.time_ns.desc())
    .limit(1)
    .offset(bindparam("offset"))
)
