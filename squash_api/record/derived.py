"""What is derived from the jobs: their runs, their packages, and the index of measurements."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from squash_api.record.bulk import insert_rows
from squash_api.record.metrics import known_units, metric_ids
from squash_api.record.state import get_state, set_state
from squash_api.record.tables import (
    added_measurement,
    job,
    job_run,
    measurement,
    package_set,
    rederivation,
)

_DERIVED_THROUGH = "derived_through"


@dataclass(frozen=True, slots=True)
class Derived:
    """What one job comes to. `values` are in the metric's unit, None if absent or skipped.

    `units` are those of the metrics, and `added` is how many measurements have been added to the
    job, as they were when it was derived.
    """

    job_id: int
    env_name: str | None
    pipeline: str | None
    run_id: str | None
    dataset: str | None
    packages: Sequence[Mapping[str, Any]]
    values: Mapping[str, float | None]
    units: Mapping[str, str | None] = field(default_factory=dict)
    added: int = 0


@dataclass(frozen=True, slots=True)
class RunRow:
    """A job's run. `previous_job_id` is a job of the run before, of the same pipeline."""

    job_id: int
    env_name: str | None
    pipeline: str | None
    run_id: str | None
    dataset: str | None
    package_set_id: int | None
    previous_job_id: int | None


def derived_through(connection: Connection) -> int:
    """Return the id up to which every job has been derived."""
    return int(get_state(connection, _DERIVED_THROUGH) or 0)


def store_derived(
    connection: Connection, jobs: Sequence[Derived], *, after: int, through: int
) -> bool:
    """Store what jobs come to, in the order of their ids.

    Returns False, with nothing stored, if meanwhile somebody else has derived jobs after `after`,
    or what these come from has changed.
    """
    if derived_through(connection) != after or _have_changed(connection, jobs):
        return False
    _store_runs(connection, jobs)
    _insert_measurements(connection, jobs)
    set_state(connection, _DERIVED_THROUGH, str(through))
    return True


def replace_measurements(connection: Connection, jobs: Sequence[Derived]) -> bool:
    """Store the measurements of derived jobs anew, and strike the jobs off the list for it.

    Returns False, with nothing stored, if what they come from has changed meanwhile.
    """
    if _have_changed(connection, jobs):
        return False
    for item in jobs:
        _delete_measurements(connection, item.job_id, item.values)
        connection.execute(
            update(job_run)
            .where(job_run.c.job_id == item.job_id)
            .values(measurement_count=len(item.values))
        )
    _insert_measurements(connection, jobs)
    ids = [item.job_id for item in jobs]
    connection.execute(delete(rederivation).where(rederivation.c.job_id.in_(ids)))
    return True


def mark_for_rederivation(connection: Connection, job_ids: Sequence[int]) -> None:
    """Ask for the measurements of jobs to be derived again, if they have been derived at all."""
    done = set(
        connection.execute(
            select(job_run.c.job_id)
            .outerjoin(rederivation, rederivation.c.job_id == job_run.c.job_id)
            .where(job_run.c.job_id.in_(job_ids), rederivation.c.job_id.is_(None))
        ).scalars()
    )
    if done:
        connection.execute(insert(rederivation), [{"job_id": job_id} for job_id in sorted(done)])


def jobs_to_rederive(connection: Connection, *, limit: int) -> list[int]:
    """Return jobs whose measurements are to be derived again, those deleted left out."""
    rows = connection.execute(
        select(rederivation.c.job_id)
        .join(job, job.c.id == rederivation.c.job_id)
        .where(job.c.deleted_ns.is_(None))
        .order_by(rederivation.c.job_id)
        .limit(limit)
    )
    return [row.job_id for row in rows]


def forget_derived(connection: Connection, *, job_id: int, metrics: Iterable[str]) -> None:
    """Take a deleted job out of the index; other runs that compare with it keep its packages."""
    _delete_measurements(connection, job_id, metrics)
    connection.execute(delete(rederivation).where(rederivation.c.job_id == job_id))


def runs_of(connection: Connection, job_ids: Sequence[int]) -> dict[int, RunRow]:
    """Return the runs of those jobs that have been derived."""
    rows = connection.execute(_RUN.where(job_run.c.job_id.in_(job_ids)))
    return {row.job_id: RunRow(*row) for row in rows}


def jobs_of_run(
    connection: Connection,
    run_id: str,
    *,
    pipeline: str | None = None,
    env_name: str | None = None,
    limit: int = 1,
) -> list[RunRow]:
    """Return the first jobs of a run that have not been deleted, in order of arrival."""
    query = _RUN.join(job, job.c.id == job_run.c.job_id).where(
        job_run.c.run_id == run_id, job.c.deleted_ns.is_(None)
    )
    if pipeline is not None:
        query = query.where(job_run.c.pipeline == pipeline)
    if env_name is not None:
        query = query.where(job_run.c.env_name == env_name)
    rows = connection.execute(query.order_by(job_run.c.job_id).limit(limit))
    return [RunRow(*row) for row in rows]


def datasets(connection: Connection, *, after: str, limit: int) -> list[str]:
    """Return the distinct datasets of jobs, in order."""
    rows = connection.execute(
        select(job_run.c.dataset)
        .join(job, job.c.id == job_run.c.job_id)
        .where(job_run.c.dataset > after, job.c.deleted_ns.is_(None))
        .distinct()
        .order_by(job_run.c.dataset)
        .limit(limit)
    )
    return [row.dataset for row in rows]


def load_package_set(connection: Connection, package_set_id: int) -> list[dict[str, Any]]:
    """Return the packages of a set, by name."""
    document = connection.execute(
        select(package_set.c.document).where(package_set.c.id == package_set_id)
    ).scalar_one()
    packages: list[dict[str, Any]] = json.loads(document)
    return packages


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
_RUN = select(*(job_run.c[name] for name in _RUN_COLUMNS[:-1]))


def _store_runs(connection: Connection, jobs: Sequence[Derived]) -> None:
    """Store the runs of jobs, which come in the order of their ids."""
    sets = _package_sets(connection, jobs)
    previous: dict[tuple[str, str], int | None] = {}
    latest: dict[str, int] = {}
    rows: list[tuple[Any, ...]] = []
    for item, package_set_id in zip(jobs, sets, strict=True):
        before: int | None = None
        if item.pipeline is not None and item.run_id is not None:
            run = (item.pipeline, item.run_id)
            if run not in previous:
                previous[run] = _job_before(connection, *run, latest=latest.get(item.pipeline))
            before = previous[run]
            latest[item.pipeline] = item.job_id
        rows.append(
            (
                item.job_id,
                item.env_name,
                item.pipeline,
                item.run_id,
                item.dataset,
                package_set_id,
                before,
                len(item.values),
            )
        )
    insert_rows(connection, job_run, _RUN_COLUMNS, rows)


def _package_sets(connection: Connection, jobs: Sequence[Derived]) -> list[int | None]:
    """Return the id of each job's set of packages; a set is stored once, however many have it."""
    documents: dict[bytes, str] = {}
    digests: list[bytes | None] = []
    for item in jobs:
        digest = None
        if item.packages:
            document = orjson.dumps(item.packages)
            digest = blake2b(document, digest_size=16).digest()
            documents[digest] = document.decode()
        digests.append(digest)
    if not documents:
        return [None for _ in jobs]
    query = select(package_set.c.digest, package_set.c.id).where(
        package_set.c.digest.in_(list(documents))
    )
    known = {row.digest: row.id for row in connection.execute(query)}
    new = [{"digest": key, "document": text} for key, text in documents.items() if key not in known]
    if new:
        connection.execute(insert(package_set), new)
        known = {row.digest: row.id for row in connection.execute(query)}
    return [None if digest is None else known[digest] for digest in digests]


def _job_before(
    connection: Connection, pipeline: str, run_id: str, *, latest: int | None
) -> int | None:
    """Return a job of the run of the same pipeline that was received before this one's.

    `latest` is the pipeline's newest job among those that are being stored.
    """
    same_run = connection.execute(
        select(job_run.c.previous_job_id)
        .where(job_run.c.pipeline == pipeline, job_run.c.run_id == run_id)
        .order_by(job_run.c.job_id)
        .limit(1)
    ).first()
    if same_run is not None:
        previous: int | None = same_run.previous_job_id
        return previous
    if latest is not None:
        return latest
    return connection.execute(
        select(job_run.c.job_id)
        .join(job, job.c.id == job_run.c.job_id)
        .where(
            job_run.c.pipeline == pipeline,
            job_run.c.run_id.is_not(None),
            job.c.deleted_ns.is_(None),
        )
        .order_by(job_run.c.job_id.desc())
        .limit(1)
    ).scalar_one_or_none()


def _have_changed(connection: Connection, jobs: Sequence[Derived]) -> bool:
    """Tell whether a job was deleted or added to, or a metric has another unit, meanwhile."""
    ids = [item.job_id for item in jobs]
    kept = select(func.count()).where(job.c.id.in_(ids), job.c.deleted_ns.is_(None))
    if connection.execute(kept).scalar_one() != len(ids):
        return True
    rows = connection.execute(
        select(added_measurement.c.job_id, func.count())
        .where(added_measurement.c.job_id.in_(ids))
        .group_by(added_measurement.c.job_id)
    )
    if {row[0]: row[1] for row in rows} != {item.job_id: item.added for item in jobs if item.added}:
        return True
    units = known_units(connection, {name for item in jobs for name in item.units})
    return any(units.get(name) != unit for item in jobs for name, unit in item.units.items())


def _delete_measurements(connection: Connection, job_id: int, metrics: Iterable[str]) -> None:
    rows = [
        {"metric": metric_id, "job": job_id}
        for metric_id in metric_ids(connection, metrics).values()
    ]
    if rows:
        connection.execute(_DELETE_MEASUREMENT, rows)


_DELETE_MEASUREMENT = delete(measurement).where(
    measurement.c.metric_id == bindparam("metric"), measurement.c.job_id == bindparam("job")
)


def _insert_measurements(connection: Connection, jobs: Sequence[Derived]) -> None:
    ids = metric_ids(connection, {name for item in jobs for name in item.values})
    # In the order of the key, which costs the index least.
    rows = sorted(
        (ids[name], item.job_id, value)
        for item in jobs
        for name, value in item.values.items()
        if name in ids
    )
    insert_rows(connection, measurement, ("metric_id", "job_id", "value"), rows)


def count_measurements(connection: Connection) -> int:
    """Return how many measurements the jobs hold, deleted jobs left out."""
    return int(
        connection.execute(
            select(func.coalesce(func.sum(job_run.c.measurement_count), 0))
            .join(job, job.c.id == job_run.c.job_id)
            .where(job.c.deleted_ns.is_(None))
        ).scalar_one()
    )
