"""Metrics of runs: one number from the values that another metric has in the jobs of a run.

An aggregate is a job of the record, in the run, with the tags that its values have in common. So it
is judged, delivered, shown and kept like any other, and whatever is rebuilt from the record has it.
It is made when the first value is in the index, and gets another value when one comes late, is
corrected or deleted. It is recognized by the identifier of its measurement, which is made from the
metric, the run and the tags: however often and wherever it is made, it is the same job.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import structlog
from sqlalchemy import Connection, select

from squash_api.index.contexts import Contexts, JobContext
from squash_api.index.derived import derived_through
from squash_api.index.jobs import forget_jobs, replace_measurement
from squash_api.index.runs import Runs
from squash_api.index.values import Values
from squash_api.ingest.document import Job, Measured
from squash_api.ingest.stored_job import document_of, load_job
from squash_api.record.deliveries import target_names
from squash_api.record.jobs import (
    JobRow,
    added_measurements,
    current_revision,
    job_rows,
    last_job_id,
)
from squash_api.record.metrics import KnownMetrics, Metrics
from squash_api.record.record import Record, get_state, set_state
from squash_api.record.storing import NewJob, insert_job
from squash_api.record.tables import job, job_run, measurement
from squash_api.schema.names import META_PREFIX, TAG_SOURCES, TEXT_SUFFIX, Context, Schema
from squash_api.schema.text import tag_text
from squash_api.verify.derivation import Aggregation

_STATE = "aggregates"
_MOST_CHANGES = 500
_MOST_JOBS = 250
_NAMESPACE = UUID("0b6cd0ad-4d0c-5a0e-9d3c-3a7b8e1f6c55")
# What an aggregate takes over from the newest of its jobs.
_RUN_FIELDS = ("run_url", "version_tag")

_log = structlog.get_logger(__name__)

_Run = tuple[str | None, str]
"""A run by its pipeline and id."""


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far aggregates are: up to which version of the contexts, and by which definitions.

    `dropped` are metrics that are no longer aggregates, whose jobs are still to be deleted.
    """

    version: int = 0
    rules: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return json.dumps([self.version, self.rules, self.dropped], sort_keys=True)


@dataclass(slots=True)
class _Group:
    """The values that are made into one: the newest job of each combination, with its value."""

    newest: dict[tuple[str, ...], tuple[JobContext, float | None]] = field(default_factory=dict)
    first_ns: int = 2**63 - 1

    def take(self, key: tuple[str, ...], context: JobContext, value: float | None) -> None:
        """Take a value, unless there is a newer one."""
        self.first_ns = min(self.first_ns, context.time_ns)
        known = self.newest.get(key)
        if known is None or known[0].time_ns < context.time_ns:
            self.newest[key] = context, value

    @property
    def last(self) -> JobContext:
        """The newest job."""
        return max((found for found, _ in self.newest.values()), key=lambda item: item.time_ns)


@dataclass(frozen=True, slots=True)
class _New:
    """An aggregate that is to be made, at the time of the first of its jobs, for the last's user.

    It counts as received when the last was.
    """

    body: bytes
    digest: bytes | None
    asked_ns: int
    received_ns: int
    last_id: int


@dataclass(slots=True)
class _Plan:
    """What is to be done to the jobs of aggregates."""

    new: list[_New] = field(default_factory=list)
    changed: list[tuple[JobRow, Measured]] = field(default_factory=list)
    gone: list[tuple[JobRow, Job]] = field(default_factory=list)

    @property
    def job_ids(self) -> list[int]:
        """The jobs that must still be there."""
        others = (row.job_id for row, *_ in (*self.changed, *self.gone))
        return sorted({*others, *(item.last_id for item in self.new)})


class Aggregates:
    """Keeps the aggregates of runs as the index and the definitions say. For one thread."""

    def __init__(self, record: Record, metrics: Metrics) -> None:
        self._record = record
        self._metrics = metrics

    def step(self) -> bool:
        """Follow some of the changes in the index; False if there are none."""
        self._metrics.refresh()
        known = self._metrics.now
        rules = {name: found.to_json() for name, found in _aggregations(known).items()}
        with self._record.read() as connection:
            before = _progress(connection)
            if not rules and before == _Progress():
                return False
            if rules != before.rules:
                dropped = {*before.dropped, *before.rules.keys()} - rules.keys()
                after, plan = _Progress(0, rules, tuple(sorted(dropped))), _Plan()
            else:
                after, plan = self._follow(connection, before, known)
                if after == before and before.dropped:
                    after, plan = self._drop(connection, before)
        if after == before:
            return False
        self._record.write(lambda connection: _store(connection, plan, before=before, after=after))
        return True

    def _drop(self, connection: Connection, before: _Progress) -> tuple[_Progress, _Plan]:
        """Delete some of the jobs of a metric that is no longer an aggregate."""
        if derived_through(connection) < last_job_id(connection):
            return before, _Plan()
        name, *others = before.dropped
        row = self._metrics.now.by_name.get(name)
        query = select(measurement.c.job_id).where(
            measurement.c.metric_id == (0 if row is None else row.metric_id)
        )
        made = self._made(connection, name, connection.execute(query).scalars().all())
        some = list(made.values())[:_MOST_JOBS]
        rest = before.dropped if len(some) < len(made) else tuple(others)
        return _Progress(before.version, before.rules, rest), _Plan(gone=some)

    def _follow(
        self, connection: Connection, before: _Progress, known: KnownMetrics
    ) -> tuple[_Progress, _Plan]:
        """Plan for the runs of the jobs that have changed first since the last time."""
        changed = Contexts(connection).changed(after=before.version, limit=_MOST_CHANGES)
        if not changed:
            return before, _Plan()
        rows = Runs(connection).of_jobs(item.job_id for item in changed)
        runs = {(row.pipeline, row.run_id) for row in rows.values() if row.run_id is not None}
        plan = _Plan()
        for run in sorted(runs, key=repr):
            self._plan(connection, run, known, plan)
        return _Progress(changed[-1].version, before.rules, before.dropped), plan

    def _plan(self, connection: Connection, run: _Run, known: KnownMetrics, plan: _Plan) -> None:
        """Plan what is to be done for one run."""
        jobs = _jobs_of(connection, run)
        for name, aggregation in _aggregations(known).items():
            of = known.by_name.get(aggregation.of)
            # Aggregates are not made of aggregates: they might be made of each other.
            is_made = of is None or of.derivation.aggregation is not None
            found = {} if of is None or is_made else _values(connection, of.metric_id, jobs)
            contexts = Contexts(connection).of(found)
            wanted: set[str] = set()
            for tags, group in self._grouped(aggregation, contexts.values(), found).items():
                numbers = [value for _, value in group.newest.values() if value is not None]
                meta = _metadata(tags, run, group.last)
                # By the tags that it will have, which are those that it is recognized by.
                identifier = _identifier(name, run, self._metrics.schema.context(meta))
                wanted.add(identifier)
                unit = None if of is None or aggregation.by == "count" else of.unit
                value = aggregation.value(numbers)
                self._plan_one(
                    connection, Measured(name, value, unit, identifier), meta, group, plan
                )
            made = self._made(connection, name, jobs)
            plan.gone += [item for key, item in made.items() if key not in wanted]

    def _plan_one(
        self,
        connection: Connection,
        item: Measured,
        meta: Mapping[str, Any],
        group: _Group,
        plan: _Plan,
    ) -> None:
        """Plan what is to be done for one aggregate, whether or not its job is in the index."""
        digest = Job([item]).identifiers_digest()
        query = select(job.c.id).where(job.c.identifiers_digest == digest).order_by(job.c.id)
        job_id = connection.execute(query.limit(1)).scalar_one_or_none()
        if job_id is not None:
            row, document = load_job(connection, job_id)
            same = [found for found in document.measurements if found.metric == item.metric]
            if same and (same[-1].value, same[-1].unit) != (item.value, item.unit):
                plan.changed.append((row, item))
        elif item.value is not None:
            body = {"measurements": [_document(item)], "blobs": [], "meta": meta}
            last = group.last
            plan.new.append(
                _New(
                    json.dumps(body).encode(),
                    digest,
                    group.first_ns,
                    last.received_ns,
                    last.job_id,
                )
            )

    def _grouped(
        self,
        aggregation: Aggregation,
        contexts: Iterable[JobContext],
        values: Mapping[int, float | None],
    ) -> dict[tuple[tuple[str, str], ...], _Group]:
        """Sort values into groups with the same tags, apart from those that are aggregated over."""
        over = [_names_of(key, self._metrics.schema) for key in aggregation.over]
        groups: dict[tuple[tuple[str, str], ...], _Group] = {}
        for item in contexts:
            texts = [_text_of(item.context, names) for names in over]
            key = tuple(text for text in texts if text is not None)
            if len(key) == len(texts):
                tags = item.context.tags.items()
                rest = (pair for pair in tags if not any(pair[0] in names for names in over))
                group = groups.setdefault(tuple(sorted(rest)), _Group())
                group.take(key, item, values[item.job_id])
        return groups

    def _made(
        self, connection: Connection, name: str, job_ids: Collection[int]
    ) -> dict[str, tuple[JobRow, Job]]:
        """Return those of these jobs that were made for an aggregate, by identifier."""
        row = self._metrics.now.by_name.get(name)
        measuring = _values(connection, row.metric_id, job_ids) if row is not None else {}
        ids = sorted(measuring)
        added = added_measurements(connection, ids)
        found: dict[str, tuple[JobRow, Job]] = {}
        for job_row in job_rows(connection, ids):
            if job_row.body is None:
                continue
            document = document_of(job_row, added.get(job_row.job_id, []))
            context = self._metrics.schema.context(document.meta)
            run_id = context.fields.get("run_id")
            identifier = _identifier(name, (context.tags.get("pipeline"), str(run_id)), context)
            if any(item.identifier == identifier for item in document.measurements):
                found[identifier] = job_row, document
        return found


def _aggregations(known: KnownMetrics) -> dict[str, Aggregation]:
    return {
        name: row.derivation.aggregation
        for name, row in known.by_name.items()
        if row.derivation.aggregation is not None
    }


def _progress(connection: Connection) -> _Progress:
    text = get_state(connection, _STATE)
    if text is None:
        return _Progress()
    version, rules, dropped = json.loads(text)
    return _Progress(version, rules, tuple(dropped))


def _jobs_of(connection: Connection, run: _Run) -> list[int]:
    pipeline, run_id = run
    query = (
        select(job.c.id)
        .join(job_run, job_run.c.job_id == job.c.id)
        .where(
            job_run.c.pipeline == pipeline,
            job_run.c.run_id == run_id,
            job.c.deleted_ns.is_(None),
        )
        .order_by(job.c.id)
    )
    return list(connection.execute(query).scalars())


def _values(
    connection: Connection, metric_id: int, job_ids: Collection[int]
) -> dict[int, float | None]:
    """Return the values of a metric in those of these jobs that name it."""
    wanted = set(job_ids)
    found = Values(connection).in_jobs([metric_id], wanted) if wanted else ()
    return {job_id: value for _, job_id, value in found if job_id in wanted}


def _names_of(key: str, schema: Schema) -> tuple[str, ...]:
    """Return the names that a key of the metadata may have in a context."""
    term = schema.term(key, "text")
    if term is not None and term.is_tag:
        return (term.name,)
    return (f"{META_PREFIX}{key}", f"{META_PREFIX}{key}{TEXT_SUFFIX}", key)


def _text_of(context: Context, names: Iterable[str]) -> str | None:
    """Return the value of metadata as text, None if it is missing."""
    for name in names:
        found = context.tags.get(name, context.fields.get(name))
        if found is not None:
            return tag_text(found)
    return None


def _metadata(
    tags: Iterable[tuple[str, str]], run: _Run, last: JobContext
) -> dict[str, str | float]:
    """Make the metadata of an aggregate: tags, and the run."""
    meta: dict[str, str | float] = {TAG_SOURCES.get(name, (name,))[0]: text for name, text in tags}
    fields = last.context.fields
    meta |= {name: fields[name] for name in _RUN_FIELDS if name in fields}
    return {**meta, "run_id": run[1]}


def _identifier(name: str, run: _Run, context: Context) -> str:
    parts = [name, run, sorted(context.tags.items())]
    return uuid5(_NAMESPACE, json.dumps(parts)).hex


def _document(item: Measured) -> dict[str, Any]:
    return {
        "metric": item.metric,
        "value": item.value,
        "unit": item.unit,
        "identifier": item.identifier,
    }


def _store(connection: Connection, plan: _Plan, *, before: _Progress, after: _Progress) -> None:
    """Do what is planned, unless another process has followed the same changes."""
    if _progress(connection) != before:
        return
    # What has just been deleted is a change too, which is followed next.
    rows = {row.job_id: row for row in job_rows(connection, plan.job_ids) if row.body is not None}
    for item in plan.new:
        if item.last_id in rows:
            insert_job(
                connection,
                NewJob(
                    user_id=rows[item.last_id].user_id,
                    user_epoch=0,
                    received_ns=item.received_ns,
                    asked_ns=item.asked_ns,
                    revision=current_revision(connection),
                    identifiers_digest=item.digest,
                    is_deliverable=True,
                    body=item.body,
                ),
            )
    for row, new in plan.changed:
        if row.job_id in rows:
            replace_measurement(connection, row, _document(new))
    gone = [found for found in plan.gone if found[0].job_id in rows]
    if gone:
        forget_jobs(connection, gone, targets=target_names(connection), user_id=None)
    set_state(connection, _STATE, after.text)
    if plan.job_ids:
        counts = {"made": len(plan.new), "changed": len(plan.changed), "deleted": len(gone)}
        _log.debug("aggregates of runs", **counts)
