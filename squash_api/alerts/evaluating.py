"""What the present of series is: what their newest values break, and what is raised by it.

The present depends on the record, the definitions and the day alone, not on the order in which jobs
have arrived. A series is followed as `delivery/present.py` follows it for Kapacitor: by its newest
value, and only if that is younger than `alert.max_age`.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple

from squash_api.alerts.compounds import Compounds
from squash_api.definitions.in_force import Snapshot
from squash_api.index.contexts import JobContext
from squash_api.index.history import history_of
from squash_api.index.newest import Combination, Newest, TagSets, combination_of, newest_values
from squash_api.index.reader import View
from squash_api.judging.alert_plan import Branch, Grouping, branches_of
from squash_api.judging.alerts import Group
from squash_api.judging.limits import Verdict
from squash_api.judging.metadata_query import applies
from squash_api.judging.raised import (
    is_muted,
    newest_of_runs,
    raised_by,
    runs_needed,
    verdicts_on,
)
from squash_api.judging.specifications import Specification
from squash_api.record.alerts import AlertRow
from squash_api.record.metrics import KnownMetrics, MetricRow
from squash_api.schema.names import RUN_ID, Context, Schema

NS = 10**9
_FIRST_NS = -(2**63)


class Series(NamedTuple):
    """A series of a metric; its branches judge the newest of its values."""

    metric_id: int
    grouping: Grouping
    combination: Combination


class Key(NamedTuple):
    """What an alert is of: a metric, a branch of its plan by its key, and the tags of a series."""

    metric: str
    branch: str
    tags: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, row: AlertRow) -> "Key":
        """Return what an alert is of."""
        return cls(row.metric, row.branch, tuple(sorted(row.tags.items())))


@dataclass(frozen=True, slots=True)
class Speaking:
    """The job whose value speaks for a series, with its run."""

    job_id: int | None
    time_ns: int | None
    value: float | None = None
    unit: str | None = None
    pipeline: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Present:
    """What is raised in a series now, and how its alerts are told.

    `severity` is 0 if nothing is; `why` then says why: the values are `well`, they are all `gone`
    (or too old, or of jobs that the branch is not for), the limits are `muted`, or `undefined` any
    more. `speaking` is None if no value is left. Only a series that `may_open` gets an alert that
    it does not have: its newest value is young.
    """

    key: Key
    group: Group = ()
    channel: str | None = None
    is_trial: bool = False
    severity: int = 0
    speaking: Speaking | None = None
    broken: Sequence[Mapping[str, Any]] = ()
    may_open: bool = False
    why: str = "well"


@dataclass(frozen=True, slots=True)
class Watched:
    """A metric with limits: its branches by the grouping that they judge by.

    `rules` is a short name of its definitions, which changes when they do.
    """

    metric: MetricRow
    specifications: Sequence[Specification]
    branches: Mapping[Grouping, Sequence[Branch]]
    rules: str

    @property
    def is_muted(self) -> bool:
        """Whether any of its limits is muted."""
        return any(item.muted_through is not None for item in self.specifications)

    def branch(self, key: str) -> tuple[Grouping, Branch] | None:
        """Return a branch by its key, with its grouping."""
        found = ((grouping, item) for grouping, some in self.branches.items() for item in some)
        return next((pair for pair in found if pair[1].key == key), None)


class Plan:
    """What is watched: all metrics that specifications in force limit and the record knows."""

    def __init__(
        self,
        snapshot: Snapshot,
        metrics: KnownMetrics,
        schema: Schema,
        before: "Plan | None" = None,
    ) -> None:
        self.snapshot, self.metrics, self.schema = snapshot, metrics, schema
        self.by_id: dict[int, Watched] = {}
        known = {} if before is None or before.schema != schema else before.by_id
        for name, specifications in snapshot.by_metric.items():
            row = metrics.by_name.get(name)
            if row is None:
                continue
            old = known.get(row.metric_id)
            if old is None or old.metric != row or old.specifications != specifications:
                old = _watched(row, specifications, schema)
            self.by_id[row.metric_id] = old
        self.by_name = {item.metric.name: item for item in self.by_id.values()}
        self.compounds = Compounds(snapshot, metrics, schema)
        for name, rules in self.compounds.rules.items():
            if name in self.by_name:
                old = self.by_name[name]
                mixed = Watched(old.metric, old.specifications, old.branches, old.rules[:8] + rules)
                self.by_id[old.metric.metric_id] = self.by_name[name] = mixed
        everywhere = {item for found in self.by_id.values() for item in found.branches}
        self.pers: Collection[tuple[str, ...]] = {item.per for item in everywhere}
        self.longest_ns = max((item.max_age_s for item in everywhere), default=0) * NS
        # A short name of the definitions of each metric.
        self.rules = {name: self.by_name[name].rules for name in sorted(self.by_name)}


def _watched(row: MetricRow, specifications: Sequence[Specification], schema: Schema) -> Watched:
    branches: dict[Grouping, list[Branch]] = {}
    for branch in branches_of(specifications, row.unit, schema):
        branches.setdefault(branch.grouping, []).append(branch)
    written = [row.unit, schema.tags, [item.to_json() for item in specifications]]
    rules = sha256(json.dumps(written, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return Watched(row, list(specifications), branches, rules)


@dataclass(slots=True)
class _Asked:
    """The metrics that are asked for in the series of a grouping with one combination."""

    sets: list[int]
    metric_ids: set[int] = field(default_factory=set)


class Evaluator:
    """Finds the present of series. For one thread."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._sets = TagSets()

    def replan(self, plan: Plan) -> None:
        """Go on with another plan."""
        self.plan = plan

    def follow(self, view: View) -> None:
        """Learn the sets of tags that a view has in addition; call it first."""
        self._sets.follow(view, self.plan.pers)

    def series_of(self, metric_id: int, tags: Mapping[str, str]) -> Iterable[Series]:
        """Yield the series of a metric that a job with these tags may be in."""
        for grouping in self.plan.by_id[metric_id].branches:
            if has_tags(grouping, tags):
                yield Series(metric_id, grouping, combination_of(tags, grouping.per))

    def may_matter(
        self, series: Series, value: float | None, living: AbstractSet[Key], *, is_young: bool
    ) -> bool:
        """Tell whether a value that has come, or gone, may change what is raised in a series.

        Most values do not: they are well, and nothing is raised.
        """
        watched = self.plan.by_id[series.metric_id]
        return any(
            branch.is_served
            or (is_young and value is not None and _is_broken(branch, value))
            or (bool(living) and self._key(watched, branch, series.combination) in living)
            for branch in watched.branches[series.grouping]
        )

    def all_series(self, view: View, metric_id: int, *, now_ns: int) -> set[Series]:
        """Return all series of a metric that may have a young value."""
        first = view.contexts.first_since(now_ns - self.plan.longest_ns - 86_400 * NS)
        if first is None:
            return set()
        last = view.contexts.last_job()
        found = view.values.latest_between([metric_id], after=first - 1, through=last)
        tags = view.contexts.tags(item.tag_set_id for item in found if item.job_id)
        return {series for some in tags.values() for series in self.series_of(metric_id, some)}

    def series_of_alert(self, row: AlertRow) -> Series | None:
        """Return the series of an alert; None if the plan no longer has its branch."""
        watched = self.plan.by_name.get(row.metric)
        found = None if watched is None else watched.branch(row.branch)
        if watched is None or found is None:
            return None
        combination = combination_of(row.tags, found[0].per)
        return Series(watched.metric.metric_id, found[0], combination)

    def present(
        self,
        view: View,
        series: Iterable[Series],
        living: Mapping[Key, AlertRow],
        *,
        now_ns: int,
    ) -> list[Present]:
        """Return the present of some series, of each for all its branches.

        All jobs whose values are looked at are settled: see `Reader.settled`.
        """
        wanted = set(series)
        newest = self._newest(view, wanted, living, now_ns=now_ns)
        contexts = view.contexts.of({item.job_id for item in newest.values()})
        view.require_settled(contexts)
        return [
            found
            for item in wanted
            for found in self._judge(view, item, newest.get(item), contexts, now_ns=now_ns)
        ]

    def _newest(
        self,
        view: View,
        wanted: AbstractSet[Series],
        living: Mapping[Key, AlertRow],
        *,
        now_ns: int,
    ) -> dict[Series, Newest]:
        """Return what speaks for each series that has anything."""
        places: dict[tuple[Grouping, Combination], _Asked] = {}
        for item in wanted:
            place = item.grouping, item.combination
            if place not in places:
                places[place] = _Asked(self._sets_of(view, *place))
            places[place].metric_ids.add(item.metric_id)
        found: dict[Series, Newest] = {}
        for (grouping, combination), asked in places.items():
            newest = newest_values(
                view,
                asked.metric_ids,
                asked.sets,
                after_ns=now_ns - grouping.max_age_s * NS,
                suits=_suits(grouping),
            )
            for metric_id, value in newest.items():
                found[Series(metric_id, grouping, combination)] = value
        for item in wanted - found.keys():
            old = self._old(view, item, living)
            if old is not None:
                found[item] = old
        return found

    def _old(self, view: View, item: Series, living: Mapping[Key, AlertRow]) -> Newest | None:
        """Return what speaks for a series without young values: the job that its alert is of.

        It does as long as it has a value, so that an alert does not end because time passes.
        """
        watched = self.plan.by_id[item.metric_id]
        for branch in watched.branches[item.grouping]:
            row = living.get(self._key(watched, branch, item.combination))
            if row is not None and row.job_id is not None:
                value = view.values.of_metric(item.metric_id, [row.job_id]).get(row.job_id)
                if value is not None and row.time_ns is not None:
                    return Newest(row.job_id, row.time_ns, value)
        return None

    def _judge(
        self,
        view: View,
        item: Series,
        newest: Newest | None,
        contexts: Mapping[int, JobContext],
        *,
        now_ns: int,
    ) -> Iterable[Present]:
        """Yield the present of a series by each of its branches."""
        watched = self.plan.by_id[item.metric_id]
        job = None if newest is None else contexts.get(newest.job_id)
        for branch in watched.branches[item.grouping]:
            key = self._key(watched, branch, item.combination)
            if newest is None or job is None or not applies(branch.terms, job.context):
                yield Present(key, why="gone")
                continue
            raised = self._raised(view, item, branch, newest)
            heard = [verdict for verdict in raised if not is_muted(verdict.limit, now_ns)]
            yield Present(
                key,
                group=branch.group,
                channel=branch.channel,
                is_trial=branch.is_trial,
                severity=max((verdict.limit.severity for verdict in heard), default=0),
                speaking=_speaking(watched.metric, newest, job),
                broken=[verdict.to_json() for verdict in heard],
                may_open=newest.time_ns > now_ns - item.grouping.max_age_s * NS,
                why="muted" if raised and not heard else "well",
            )

    def _raised(self, view: View, item: Series, branch: Branch, newest: Newest) -> list[Verdict]:
        """Return the verdicts that raise the limits of a branch, worst first."""
        if not branch.is_served:
            verdict_at = verdicts_on([newest.value])
            found = (raised_by(limit, 1, verdict_at) for limit in branch.limits)
            return [verdict for verdict in found if verdict is not None]
        needed = max(map(runs_needed, branch.limits))
        entries = history_of(
            view,
            item.metric_id,
            self._sets_of(view, item.grouping, item.combination),
            through_ns=newest.time_ns,
            suits=_suits(item.grouping),
        )
        runs = list(islice(newest_of_runs(entries), needed))
        view.require_settled(entry.job_id for entry in runs)
        alone = verdicts_on([entry.value for entry in runs if entry.value is not None])
        counted = self.plan.compounds.verdicts_on(view, runs)
        found = (
            raised_by(limit, len(runs), counted if limit.criterion.members else alone)
            for limit in branch.limits
        )
        return [verdict for verdict in found if verdict is not None]

    def _sets_of(self, view: View, grouping: Grouping, combination: Combination) -> list[int]:
        tag_terms = [term for term in grouping.terms if term.is_tag]
        suits = partial(has_tags, grouping) if tag_terms else None
        return self._sets.of(view, grouping.per, combination, suits)

    def _key(self, watched: Watched, branch: Branch, combination: Combination) -> Key:
        tags = zip(branch.per, combination, strict=True)
        named = tuple(sorted((name, text) for name, text in tags if text))
        return Key(watched.metric.name, branch.key, named)


def has_tags(grouping: Grouping, tags: Mapping[str, str]) -> bool:
    """Tell whether tags meet those terms of a grouping that are on tags."""
    return applies((term for term in grouping.terms if term.is_tag), Context(dict(tags)))


def _speaking(metric: MetricRow, newest: Newest, job: JobContext) -> Speaking:
    run_id = job.context.fields.get(RUN_ID)
    return Speaking(
        newest.job_id,
        newest.time_ns,
        newest.value,
        metric.unit,
        job.context.tags.get("pipeline"),
        None if run_id is None else str(run_id),
    )


def _is_broken(branch: Branch, value: float) -> bool:
    return any(not limit.holds(value) for limit in branch.limits if not limit.problem)


def _suits(grouping: Grouping) -> Callable[[Context], bool] | None:
    is_of_tags = all(term.is_tag for term in grouping.terms)
    return None if is_of_tags else partial(applies, grouping.terms)
