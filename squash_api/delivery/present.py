"""What speaks for the present: values that are the newest of their series, by the time of the job.

Alerts follow only these. What is told of a series is decided by what is newest in it now, whatever
has happened to its jobs: so a value that came late, was sent again or was corrected says nothing
while a newer one is known, and after a deletion the value that is now the newest speaks.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from squash_api.definitions.in_force import Snapshot
from squash_api.index.newest import Combination, Newest, TagSets, combination_of, newest_values
from squash_api.index.reader import View
from squash_api.ingest.stored_job import document_of
from squash_api.judging.alert_plan import BranchKey, Grouping, branch_keys
from squash_api.judging.alert_texts import LATE
from squash_api.judging.alerts import PER_JOB
from squash_api.judging.limits import Limit, limits_of
from squash_api.judging.metadata_query import applies
from squash_api.judging.specifications import DEFAULT_MAX_AGE_S, Specification
from squash_api.record.deliveries import Erasure
from squash_api.record.jobs import added_measurements, job_rows
from squash_api.record.metrics import reduced_ever
from squash_api.schema.names import Schema
from squash_api.schema.watch import FRESHNESS

_NS = 10**9
# Times may be a day ahead of their receipt.
_DAY_NS = 86_400 * _NS
_FIRST_NS = -(2**63)


class Plan:
    """How the values of each metric form series: by the specifications that make alerts.

    Those are the ones from YAML, from which the tasks are generated. If it `is_for_tasks`, branches
    that no task judges form no series.
    """

    def __init__(self, snapshot: Snapshot, schema: Schema, *, is_for_tasks: bool = False) -> None:
        by_metric: dict[str, list[BranchKey]] = {}
        self._expecting: dict[str, Specification] = {}
        self.muted: set[str] = set()
        for defined in snapshot.specifications.values():
            item = defined.content
            if defined.origin == "yaml":
                by_metric.setdefault(item.metric, []).extend(branch_keys([item], schema))
                if item.muted_through is not None:
                    self.muted.add(item.metric)
                if item.expect is not None:
                    self._expecting[item.name] = item
        self._schema = schema
        self._specifications = snapshot.by_metric
        self._limits: dict[tuple[str, str | None], list[tuple[str, Limit]]] = {}
        # For metrics without specifications: others than the generated tasks may alert on them.
        self._usual = (Grouping(schema.series_tags, (), DEFAULT_MAX_AGE_S),)
        self._all = {name: list(dict.fromkeys(found)) for name, found in by_metric.items()}
        self._branches = {
            name: [branch for branch in found if branch.is_tick or not is_for_tasks]
            for name, found in self._all.items()
        }
        self._groupings = {
            name: tuple(dict.fromkeys(branch.grouping for branch in branches)) or self._usual
            for name, branches in self._branches.items()
        }
        everywhere = {*self._usual, *(item for found in self._groupings.values() for item in found)}
        self.pers: Collection[tuple[str, ...]] = {item.per for item in everywhere}
        self.longest_ns = max(item.max_age_s for item in everywhere) * _NS

    def groupings(self, metric: str) -> tuple[Grouping, ...]:
        """Return the groupings of a metric; it has at least one."""
        return self._groupings.get(metric, self._usual)

    def branches(self, metric: str) -> Sequence[BranchKey]:
        """Return the branches of a metric that form series."""
        return self._branches.get(metric, ())

    def limits(
        self, metric: str, unit: str | None, *, but: Collection[str] = ()
    ) -> Sequence[Limit]:
        """Return the limits of the branches of a metric, but of those with these keys."""
        if (metric, unit) not in self._limits:
            branches = {branch.key for branch in self.branches(metric)}
            found = limits_of(self._specifications.get(metric, ()), unit=unit, schema=self._schema)
            keyed = ((BranchKey.of(item.specification, item.terms).key, item) for item in found)
            self._limits[metric, unit] = [pair for pair in keyed if pair[0] in branches]
        return [limit for branch, limit in self._limits[metric, unit] if branch not in but]

    def branch(self, metric: str, key: str) -> BranchKey | None:
        """Return any branch of a metric by its key; None if there is none.

        That of a specification with `expect` is what its late values are told like.
        """
        if key.startswith(LATE):
            item = self._expecting.get(key.removeprefix(LATE))
            is_named = item is not None and item.expect is not None and item.expect.each
            # What is named is one series, of which the task tells.
            return None if item is None or is_named else BranchKey.of(item, ())
        return next((item for item in self._all.get(metric, ()) if item.key == key), None)

    def alert_id(self, metric: str, key: str, tags: Mapping[str, str]) -> str | None:
        """Return the id that the alert of a single series has in Kapacitor; None if it has none."""
        branch = self.branch(metric, key)
        if branch is None:
            return None
        start = (
            f"{FRESHNESS}/{key.removeprefix(LATE)}" if key.startswith(LATE) else f"{metric}/{key}"
        )
        return f"{start}/{_group(branch.per, combination_of(tags, branch.per))}"

    def is_gathering(self, alert: str) -> bool:
        """Tell whether an alert of a single series is one that is told with others now, by id."""
        metric, _, rest = alert.partition("/")
        key, _, group = rest.partition("/")
        branch = self.branch(metric, LATE + key if metric == FRESHNESS else key)
        # Values of tags may have any letters, but no tag is inside the name of another.
        return branch is not None and (
            branch.group == PER_JOB
            or any(re.search(rf"(?:^|,){re.escape(name)}=(?!,|$)", group) for name in branch.group)
        )

    def metric_of(self, specification: str) -> str | None:
        """Return the metric of a specification that expects values; None if there is none."""
        item = self._expecting.get(specification)
        return None if item is None else item.metric


@dataclass(slots=True)
class Happened:
    """What has happened to a job: the metrics that have a value in it, and those that lost theirs.

    Metrics are given by id. A lost value may have been told; it has been withdrawn or deleted, or
    does not convert to the unit of its metric any more.
    """

    job_id: int
    time_ns: int
    tags: Mapping[str, str]
    has: Collection[int] = ()
    lost: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """A series that has no value to alert on any more; `has_old` tells whether it has old ones.

    It may be told to one branch alone, by its key.
    """

    metric: str
    grouping: Grouping
    combination: Combination
    has_old: bool = False
    branch: str | None = None


@dataclass(slots=True)
class Present:
    """What is to be told: values by job and metric, with their groupings, and series without any.

    Metrics are given by id.
    """

    values: dict[int, dict[int, float]] = field(default_factory=dict)
    groupings: dict[tuple[int, int], set[Grouping]] = field(default_factory=dict)
    gone: list[Gone] = field(default_factory=list)

    def add(self, other: "Present") -> None:
        """Tell what another one tells, too."""
        for job_id, values in other.values.items():
            self.values.setdefault(job_id, {}).update(values)
        for key, groupings in other.groupings.items():
            self.groupings.setdefault(key, set()).update(groupings)
        self.gone += other.gone

    def tell(self, metric_id: int, newest: Newest, grouping: Grouping) -> None:
        """Tell a value that is the newest in a series of this grouping."""
        self.values.setdefault(newest.job_id, {})[metric_id] = newest.value
        self.groupings.setdefault((newest.job_id, metric_id), set()).add(grouping)


@dataclass(slots=True)
class _Series:
    """What has happened in the series of a grouping with one combination, by metric."""

    has: dict[int, dict[int, int]] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)


class Chooser:
    """Finds what is to be told. For one thread."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sets = TagSets()

    def after(self, view: View, happened: Iterable[Happened], *, now_ns: int) -> Present:
        """Return what is to be told when this has happened to jobs; all must be in the index."""
        self.sets.follow(view, self.plan.pers)
        present = Present()
        for place, series in self._affected(view, happened, now_ns).items():
            self._decide(view, place, series, present, now_ns=now_ns)
        return present

    def everything(self, view: View, metric_ids: Iterable[int], *, now_ns: int) -> Present:
        """Return the newest values of all series of some metrics."""
        self.sets.follow(view, self.plan.pers)
        present = Present()
        metrics = sorted(metric_ids)
        first = view.contexts.first_since(now_ns - self.plan.longest_ns - _DAY_NS)
        if first is None:
            return present
        last = view.contexts.last_job()
        times: dict[int, dict[int, int]] = {}
        for item in view.values.latest_between(metrics, after=first - 1, through=last):
            times.setdefault(item.metric_id, {})[item.tag_set_id] = item.time_ns
        for metric_id, by_set in times.items():
            for grouping in self.plan.groupings(view.metrics.by_id[metric_id].name):
                self._tell_all(view, metric_id, grouping, by_set, present, now_ns=now_ns)
        return present

    def vanished(self, view: View, raised: Mapping[str, int], *, now_ns: int) -> list[Gone]:
        """Return the series of alerts whose values are gone, although nobody has said so.

        That is, those without any value, and those with only old values, from before the alert was
        raised. A younger value need only be told.

        Parameters
        ----------
        raised
            For each alert the time (ns) of the value that raised it, by its id: metric, key of the
            branch, and group, as Kapacitor writes it.
        """
        self.sets.follow(view, self.plan.pers)
        by_name = {row.name: row.metric_id for row in view.metrics.by_id.values()}
        by_group: dict[tuple[str, ...], dict[str, Combination]] = {}
        found = []
        for alert, raised_ns in raised.items():
            metric, _, rest = alert.partition("/")
            key, _, group = rest.partition("/")
            groupings = [item.grouping for item in self.plan.branches(metric) if item.key == key]
            if not groupings or metric not in by_name:
                continue
            (grouping,) = groupings
            per = grouping.per
            if per not in by_group:
                by_group[per] = {_group(per, item): item for item in self.sets.combinations(per)}
            combination = by_group[per].get(group)
            if combination is None:
                continue
            after_ns = min(raised_ns, now_ns - grouping.max_age_s * _NS) - 1
            place = grouping, combination
            if not self._newest(view, *place, [by_name[metric]], after_ns=after_ns):
                found += self._gone(view, place, [by_name[metric]])
        return found

    def _affected(
        self, view: View, happened: Iterable[Happened], now_ns: int
    ) -> dict[tuple[Grouping, Combination], _Series]:
        """Return the series that this may have changed."""
        affected: dict[tuple[Grouping, Combination], _Series] = {}
        names = {metric_id: row.name for metric_id, row in view.metrics.by_id.items()}
        for item in happened:
            places: dict[Grouping, _Series | None] = {}
            for metric_id in (*item.has, *item.lost):
                for grouping in self.plan.groupings(names[metric_id]):
                    if grouping not in places:
                        combination = combination_of(item.tags, grouping.per)
                        places[grouping] = (
                            affected.setdefault((grouping, combination), _Series())
                            if _has_tags(grouping, item.tags)
                            else None
                        )
                    series = places[grouping]
                    if series is None:
                        continue
                    if metric_id in item.lost:
                        lost_ns = max(series.lost.get(metric_id, 0), item.time_ns)
                        series.lost[metric_id] = lost_ns
                    elif item.time_ns > now_ns - grouping.max_age_s * _NS:
                        series.has.setdefault(metric_id, {})[item.job_id] = item.time_ns
        return affected

    def _decide(
        self,
        view: View,
        place: tuple[Grouping, Combination],
        series: _Series,
        present: Present,
        *,
        now_ns: int,
    ) -> None:
        """Decide what is told of a series, from what is the newest in it now."""
        grouping, combination = place
        young_ns = now_ns - grouping.max_age_s * _NS
        wanted = series.has.keys() | series.lost.keys()
        # What is newer says so itself. What is older matters only where a value was lost.
        times = [time_ns for jobs in series.has.values() for time_ns in jobs.values()]
        times += [*series.lost.values(), young_ns] if series.lost else []
        newest = self._newest(
            view, grouping, combination, wanted, after_ns=min(times, default=young_ns) - 1
        )
        gone = []
        for metric_id in sorted(wanted):
            found = newest.get(metric_id)
            is_young = found is not None and found.time_ns > young_ns
            lost_ns = series.lost.get(metric_id)
            is_told = found is not None and found.job_id in series.has.get(metric_id, {})
            is_lost = lost_ns is not None and (found is None or found.time_ns < lost_ns)
            if found is not None and is_young and (is_told or is_lost):
                present.tell(metric_id, found, grouping)
            elif is_lost:
                gone.append(metric_id)
        present.gone += self._gone(view, place, gone)

    def _gone(
        self, view: View, place: tuple[Grouping, Combination], metric_ids: Sequence[int]
    ) -> list[Gone]:
        """Return the series of metrics without young values; find out which have older ones."""
        older = self._newest(view, *place, metric_ids, after_ns=_FIRST_NS) if metric_ids else {}
        names = view.metrics.by_id
        return [Gone(names[item].name, *place, has_old=item in older) for item in metric_ids]

    def _tell_all(
        self,
        view: View,
        metric_id: int,
        grouping: Grouping,
        by_set: Mapping[int, int],
        present: Present,
        *,
        now_ns: int,
    ) -> None:
        """Tell the newest value of each series; `by_set` has the newest time by set of tags."""
        young_ns = now_ns - grouping.max_age_s * _NS
        newest: dict[Combination, int] = {}
        for number, tags in view.contexts.tags(by_set).items():
            if by_set[number] > young_ns and _has_tags(grouping, tags):
                combination = combination_of(tags, grouping.per)
                newest[combination] = max(newest.get(combination, 0), by_set[number])
        if _has_field_terms(grouping):
            for combination in newest:
                found = self._newest(view, grouping, combination, [metric_id], after_ns=young_ns)
                for item in found.values():
                    present.tell(metric_id, item, grouping)
            return
        jobs = view.contexts.at(newest.values())
        values = view.values.of_metric(metric_id, jobs.values())
        for time_ns, job_id in jobs.items():
            present.tell(metric_id, Newest(job_id, time_ns, values[job_id]), grouping)

    def _newest(
        self,
        view: View,
        grouping: Grouping,
        combination: Combination,
        metric_ids: Iterable[int],
        *,
        after_ns: int,
    ) -> dict[int, Newest]:
        tag_terms = [term for term in grouping.terms if term.is_tag]
        sets = self.sets.of(
            view, grouping.per, combination, partial(_has_tags, grouping) if tag_terms else None
        )
        suits = partial(applies, grouping.terms) if _has_field_terms(grouping) else None
        return newest_values(view, metric_ids, sets, after_ns=after_ns, suits=suits)


def _has_tags(grouping: Grouping, tags: Mapping[str, str]) -> bool:
    """Tell whether tags meet those terms of a grouping that are on tags."""
    return all(term.is_met_by(tags.get(term.name)) for term in grouping.terms if term.is_tag)


def _has_field_terms(grouping: Grouping) -> bool:
    return any(not term.is_tag for term in grouping.terms)


def _group(per: tuple[str, ...], combination: Combination) -> str:
    """Return a group as Kapacitor writes it: with the tags sorted."""
    return ",".join(f"{name}={value}" for name, value in sorted(zip(per, combination, strict=True)))


def of_new_jobs(view: View, *, after: int, through: int) -> list[Happened]:
    """Return what jobs after one id and through another have brought."""
    ids = range(after + 1, through + 1)
    has: dict[int, list[int]] = {}
    for metric_id, job_id, _ in view.values.in_jobs(view.metrics.by_id, ids, has_absent=False):
        if job_id in ids:
            has.setdefault(job_id, []).append(metric_id)
    return [
        Happened(job.job_id, job.time_ns, job.context.tags, has=has[job.job_id])
        for job in view.contexts.of(has).values()
    ]


def of_changed_jobs(view: View, job_ids: Sequence[int]) -> list[Happened]:
    """Return what values jobs have now, and which of their numbers are no values."""
    if not job_ids:
        return []
    known = {row.name: row.metric_id for row in view.metrics.by_id.values()}
    added = view.ask(added_measurements, job_ids)
    # What a metric is no longer made from may have been told.
    reduced = {known[name] for name in view.ask(reduced_ever) if name in known}
    named: dict[int, set[int]] = {}
    for row in view.ask(job_rows, job_ids):
        if row.body is not None:
            job = document_of(row, added.get(row.job_id, []))
            named[row.job_id] = {
                known[item.metric]
                for item in job.measurements
                if item.metric in known and type(item.value) in (int, float)
            }
            named[row.job_id] |= reduced if job.blobs else set()
    has: dict[int, set[int]] = {}
    metrics = {metric_id for some in named.values() for metric_id in some}
    for metric_id, job_id, _ in view.values.in_jobs(metrics, named, has_absent=False):
        if job_id in named:
            has.setdefault(job_id, set()).add(metric_id)
    return [
        Happened(
            job.job_id,
            job.time_ns,
            job.context.tags,
            has=has.get(job.job_id, set()),
            lost=named[job.job_id] - has.get(job.job_id, set()),
        )
        for job in view.contexts.of(named).values()
    ]


def of_deleted_jobs(view: View, erasures: Sequence[Erasure]) -> list[Happened]:
    """Return what values were lost with deleted jobs."""
    known = {row.name: row.metric_id for row in view.metrics.by_id.values()}
    return [
        Happened(
            item.job_id,
            item.time_ns,
            item.tags,
            lost={known[name] for name in item.metrics if name in known},
        )
        for item in erasures
        if item.tags is not None
    ]
