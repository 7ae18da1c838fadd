"""Compounds in alerts: how their members stand in a job, or in all jobs of its run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from squash_api.definitions.in_force import Snapshot
from squash_api.index.history import Entry
from squash_api.index.reader import View
from squash_api.judging.kinds.compound import Compound
from squash_api.judging.limits import (
    Limit,
    Status,
    Verdict,
    judge,
    judge_compound,
    limits_of,
    worst_status,
)
from squash_api.judging.metadata_query import applies
from squash_api.judging.raised import VerdictAt
from squash_api.record.metrics import KnownMetrics
from squash_api.schema.names import Schema

_MOST_JOBS = 10_000


class Compounds:
    """The compounds in force, and the limits of their members.

    `rules` has a short name of what the compounds of a metric are made of, by metric; `of_member`
    the metrics of the compounds that a metric is a member of, by id.
    """

    def __init__(self, snapshot: Snapshot, metrics: KnownMetrics, schema: Schema) -> None:
        self.rules: dict[str, str] = {}
        self.of_member: dict[int, set[int]] = {}
        self._limits: dict[str, tuple[int, Limit]] = {}
        for name, specifications in snapshot.by_metric.items():
            row = metrics.by_name.get(name)
            members = [
                member
                for item in specifications
                for member in item.criterion.members
                if row is not None
            ]
            if row is None or not members:
                continue
            made_of = []
            for member in members:
                limit = self._learn(member, snapshot, metrics, schema)
                if limit is not None:
                    self.of_member.setdefault(self._limits[member][0], set()).add(row.metric_id)
                    made_of.append([limit.unit, limit.specification.to_json()])
            text = json.dumps(made_of, sort_keys=True, default=str)
            self.rules[name] = sha256(text.encode()).hexdigest()[:8]

    def _learn(
        self, member: str, snapshot: Snapshot, metrics: KnownMetrics, schema: Schema
    ) -> Limit | None:
        defined = snapshot.specifications.get(member)
        row = None if defined is None else metrics.by_name.get(defined.content.metric)
        if defined is None or row is None:
            return None
        found = limits_of([defined.content], unit=row.unit, schema=schema)
        for limit in found:
            if limit.is_alone and not limit.problem:
                self._limits[member] = row.metric_id, limit
                return limit
        return None

    def verdicts_on(self, view: View, runs: Sequence[Entry]) -> VerdictAt:
        """Return what gives the verdict on a compound for one of these runs, by its place."""
        known: dict[tuple[str, int], Mapping[str, Status]] = {}

        def verdict_at(limit: Limit, place: int) -> Verdict | None:
            found = known.get((limit.name, place))
            if found is None:
                found = known[limit.name, place] = self.statuses(view, limit, runs[place])
            return judge_compound(limit, found)

        return verdict_at

    def statuses(self, view: View, limit: Limit, entry: Entry) -> Mapping[str, Status]:
        """Return how the members of a compound stand, where its job or its run has a verdict."""
        criterion = limit.criterion
        if not isinstance(criterion, Compound):
            return {}
        jobs: Iterable[int] = [entry.job_id]
        if criterion.over == "run" and entry.run_id is not None:
            jobs = jobs_of_run(view, entry.pipeline, entry.run_id)
        contexts = view.contexts.of(jobs)
        view.require_settled(contexts)
        members = {name: self._limits[name] for name in criterion.members if name in self._limits}
        values = {
            (metric_id, job_id): value
            for metric_id, job_id, value in view.values.in_jobs(
                {metric_id for metric_id, _ in members.values()}, contexts
            )
        }
        found: dict[str, list[Status]] = {}
        for name, (metric_id, member) in members.items():
            for job in contexts.values():
                key = metric_id, job.job_id
                if key in values and applies(member.terms, job.context):
                    found.setdefault(name, []).append(judge(member, values[key]).status)
        return {name: worst_status(some) for name, some in found.items()}


def jobs_of_run(view: View, pipeline: str | None, run_id: str) -> list[int]:
    """Return the jobs of a run, the newest of them if there are very many."""
    found = view.runs.newest_jobs(pipeline, run_id, limit=_MOST_JOBS)
    return [item.job_id for item in found]
