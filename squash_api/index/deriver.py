"""Derives the index from the jobs, in batches: runs, packages, measurements and contexts.

No promise to a client depends on it: whatever is not yet derived is derived on read.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from squash_api.index.aggregates import Aggregates
from squash_api.index.contexts import JobContext
from squash_api.index.derived import (
    Derived,
    derived_through,
    jobs_to_look_through,
    jobs_to_rederive,
    note_found,
    replace_measurements,
    store_derived,
)
from squash_api.index.runs import Run, runs_through, store_runs
from squash_api.ingest.assessment import assess
from squash_api.ingest.document import Job
from squash_api.ingest.reducing import Reduced, with_reduced
from squash_api.ingest.stored_job import document_of
from squash_api.logs import note_jobs
from squash_api.record.jobs import JobRow, added_measurements, jobs_between, jobs_by_id, last_job_id
from squash_api.record.metrics import Metrics, note_metrics, note_own_units
from squash_api.record.record import Connection, Record
from squash_api.schema.names import RUN_ID, TAG_SOURCES, Context
from squash_api.schema.text import clean_text, tag_text
from squash_api.verify.units import is_alias

# A transaction holds SQLite's lock while it inserts: it is small, so that no 202 waits long.
_BATCH = 250
_BATCH_BYTES = 8_000_000
_NO_UNITS: tuple[dict[str, str | None], dict[str, str]] = {}, {}

_log = structlog.get_logger(__name__)


class Deriver:
    """Derives jobs in order of id. Safe to use from many threads."""

    def __init__(self, record: Record, metrics: Metrics) -> None:
        self._record = record
        self._metrics = metrics
        # Delivery waits for the runs, and must never wait for the index.
        self._runs_lock = threading.Lock()
        self._index_lock = threading.Lock()
        self._aggregates = Aggregates(record, metrics)

    def catch_up(self) -> None:
        """Derive everything from every job that is in the record now."""
        with self._record.read() as connection:
            last = last_job_id(connection)
        self.derive_runs_through(last)
        while self._index_some(last):
            pass

    def derive_some(self) -> bool:
        """Derive the next batch of runs, of new jobs and of changed jobs; False if none waits."""
        with self._record.read() as connection:
            last = last_job_id(connection)
        has_runs = self._runs_some(last)
        with self._record.read() as connection:
            through = runs_through(connection)
        has_index = self._index_some(through)
        # However many jobs arrive, those whose metrics have changed have their turn too.
        has_changed = self.rederive_some()
        has_old = self._look_through_some()
        return self._aggregates.step() or has_old or has_runs or has_index or has_changed

    def derive_runs_through(self, job_id: int) -> None:
        """Derive the runs of every job up to this one, which is all that delivery needs."""
        while self._runs_some(job_id):
            pass

    def store_runs(self, runs: Sequence[Run], *, after: int, through: int) -> None:
        """Store the runs, made by `run_of`, of all jobs after one up to another.

        Runs that another thread or process has stored are left out.
        """
        with self._runs_lock:
            with self._record.read() as connection:
                begun = runs_through(connection)
            if after <= begun < through:
                fresh = [run for run in runs if run.job_id > begun]
                self._record.write(
                    lambda connection: store_runs(connection, fresh, after=begun, through=through)
                )
        self.derive_runs_through(through)

    def _runs_some(self, job_id: int) -> bool:
        with self._runs_lock:
            batch = self._read_batch(runs_through, job_id)
            if batch is None:
                return False
            self._metrics.refresh()
            runs = []
            for row in batch.rows:
                if row.body is not None:
                    job = document_of(row, batch.added.get(row.job_id, []))
                    job = with_reduced(job, self._metrics.now.reductions)
                    context = self._metrics.schema.context(job.meta)
                    runs.append(self.run_of(row.job_id, job, context))
            self._record.write(partial(_store, store_runs, runs, batch))
            return True

    def _index_some(self, job_id: int) -> bool:
        with self._index_lock:
            batch = self._read_batch(derived_through, job_id)
            if batch is None:
                return False
            derived = self._derive(batch.rows, batch.added)
            self._record.write(partial(_store, store_derived, derived, batch))
        note_jobs(_log, "derived", [row.job_id for row in batch.rows])
        return True

    def _read_batch(self, progress: Callable[[Connection], int], job_id: int) -> "_Batch | None":
        """Read the next jobs, up to one, that are not derived; None if all are."""
        with self._record.read() as connection:
            after = progress(connection)
            rows = (
                jobs_between(
                    connection, after=after, through=job_id, max_bytes=_BATCH_BYTES, limit=_BATCH
                )
                if after < job_id
                else []
            )
            added = added_measurements(connection, [row.job_id for row in rows])
        return _Batch(after, rows, added) if rows else None

    def rederive_some(self) -> bool:
        """Derive some of the jobs again whose metrics have changed; False if there are none."""
        with self._index_lock:
            with self._record.read() as connection:
                ids = jobs_to_rederive(connection, limit=_BATCH)
            return self._rederive(ids) > 0

    def _look_through_some(self) -> bool:
        """Look in some jobs for values that are read now, and were not; False if that is done.

        A unit that they bring is noted as for a new job, before the next job is looked at.
        """
        with self._record.read() as connection:
            search = jobs_to_look_through(connection)
            if search is None:
                return False
            after, last = search
            rows = jobs_between(
                connection, after=after, through=last, max_bytes=_BATCH_BYTES, limit=_BATCH
            )
            added = added_measurements(connection, [row.job_id for row in rows])
        self.refresh()
        found: list[int] = []
        through, brought, by = rows[-1].job_id if rows else last, _NO_UNITS, 0
        for row in rows:
            if row.body is None:
                continue
            job = document_of(row, added.get(row.job_id, []))
            has_alias = any(item.unit and is_alias(item.unit) for item in job.measurements)
            if has_alias or any(True for _ in job.blobs_named(self._metrics.now.reductions)):
                found.append(row.job_id)
            if has_alias:
                brought, by = self._units_brought(job, row.user_id), row.user_id
            if any(brought):
                through = row.job_id
                break

        def work(connection: Connection) -> None:
            if note_found(connection, found, search=search, through=through):
                note_metrics(connection, brought[0], by=by)
                note_own_units(connection, brought[1], by=by)

        self._record.write(work)
        return True

    def _units_brought(
        self, job: Job, user_id: int
    ) -> tuple[dict[str, str | None], dict[str, str]]:
        """Return units that metrics, and a user's values, have from a job and had not before."""
        known, schema = self._metrics.now.by_name, self._metrics.schema
        outcome = assess(job, metrics=known, schema=schema, user_id=user_id)
        new: dict[str, str | None] = {
            name: unit
            for name, unit in outcome.new_units.items()
            if unit is not None and name in known
        }
        return new, outcome.new_own_units

    def rederive(self, job_ids: Sequence[int]) -> None:
        """Derive these jobs again; the metrics of each must have changed."""
        ids = sorted(job_ids)
        while ids:
            with self._index_lock:
                done = self._rederive(ids[:_BATCH])
            if not done:
                return
            ids = ids[done:]

    def _rederive(self, job_ids: Sequence[int]) -> int:
        """Derive the first batch of these jobs; return how many that was."""
        with self._record.read() as connection:
            rows = jobs_by_id(connection, job_ids, max_bytes=_BATCH_BYTES)
            added = added_measurements(connection, [row.job_id for row in rows])
        if rows:
            derived = self._derive(rows, added)
            self._record.write(lambda connection: replace_measurements(connection, derived))
            note_jobs(_log, "derived", [row.job_id for row in rows])
        return len(rows)

    def _derive(
        self, rows: Sequence[JobRow], added: Mapping[int, list[dict[str, Any]]]
    ) -> list[Derived]:
        self.refresh()
        return [self.derive(row, added.get(row.job_id, [])) for row in rows if row.body is not None]

    def refresh(self) -> None:
        """Read the metrics as they are now."""
        self._metrics.refresh()

    def derive(self, row: JobRow, added: list[dict[str, Any]]) -> Derived:
        """Return what follows from a job that is not deleted, with what was added to it.

        By the metrics as they were at the last `refresh`.
        """
        now = self._metrics.now
        known = now.by_name
        job = with_reduced(document_of(row, added), now.reductions)
        names = {item.metric for item in job.measurements}
        metrics = {name: known[name] for name in sorted(names) if name in known}
        reduced = {item.metric for item in job.measurements if isinstance(item, Reduced)}
        outcome = assess(job, metrics=metrics, schema=self._metrics.schema, user_id=row.user_id)
        return Derived(
            row.job_id,
            values={name: outcome.values.get(name) for name in metrics},
            units={name: metric.unit for name, metric in metrics.items()},
            added=max((item["added_id"] for item in added), default=0),
            reduced=reduced & metrics.keys(),
            revision=now.revision,
            context=JobContext(
                row.job_id,
                row.time_ns,
                row.received_ns,
                self._metrics.schema.context(job.meta),
            ),
        )

    def run_of(self, job_id: int, job: Job, context: Context) -> Run:
        """Make the run of a job; `context` is its metadata under InfluxDB's names."""
        known = self._metrics.now.by_name
        run_id = context.fields.get(RUN_ID)
        return Run(
            job_id,
            env_name=context.tags.get("env_name"),
            pipeline=context.tags.get("pipeline"),
            run_id=run_id if isinstance(run_id, str) else None,
            dataset=dataset_of(job, context),
            packages=job.packages,
            measurement_count=len({item.metric for item in job.measurements} & known.keys()),
        )


class NoDeriver(Deriver):
    """Derives nothing: the record is only read here, and another process derives its jobs."""

    def catch_up(self) -> None:
        """Leave the newest jobs to the process that derives them."""

    def derive_some(self) -> bool:
        """Tell that nothing waits for this process."""
        return False

    def derive_runs_through(self, _job_id: int) -> None:
        """Leave the runs to the process that derives them."""

    def rederive(self, _job_ids: Sequence[int]) -> None:
        """Leave the jobs whose metrics have changed to the process that derives them."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Jobs that are derived together: the next ones after the job `after`."""

    after: int
    rows: list[JobRow]
    added: dict[int, list[dict[str, Any]]]


def _store(
    store: Callable[..., bool], derived: Sequence[Any], batch: _Batch, connection: Connection
) -> bool:
    return store(connection, derived, after=batch.after, through=batch.rows[-1].job_id)


def dataset_of(job: Job, context: Context) -> str | None:
    """Return the dataset that a job names, as the job writes it: spaces stay spaces.

    `context` is the job's metadata under InfluxDB's names.
    """
    tag = context.tags.get("dataset")
    for scope in (job.meta, job.env):
        for key in TAG_SOURCES["dataset"]:
            value = scope.get(key)
            if isinstance(value, str) and tag_text(value) == tag:
                return clean_text(value) or None
    return tag
