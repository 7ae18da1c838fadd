"""The alerts that past jobs would have raised: the rules of tasks and of the engine, in Python.

Jobs are played in the order in which they were delivered, that of their ids. Nothing is known about
the time before the first, so at first no series is in alert, and none has a run.
"""

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from squash_api.judging.alert_plan import Branch, WatchedMetric
from squash_api.judging.kinds.compound import Compound
from squash_api.judging.limits import (
    Limit,
    Status,
    Verdict,
    judge,
    judge_compound,
    worst_status,
)
from squash_api.judging.metadata_query import applies
from squash_api.judging.raised import (
    is_muted,
    newest_of_runs,
    raised_by,
    runs_needed,
    verdicts_on,
)
from squash_api.schema.names import RUN_ID, Context

WELL = "OK"
"""The state of a series that breaks no limit, as Kapacitor calls it."""

_NS = 10**9


@dataclass(frozen=True, slots=True)
class PastJob:
    """A job as its alerts saw it: `values` are finite, by metric, in the metric's unit."""

    job_id: int
    received_ns: int
    time_ns: int
    context: Context
    values: Mapping[str, float]

    @property
    def run_id(self) -> str:
        """The run it belongs to; empty if the job does not name one."""
        return str(self.context.fields.get(RUN_ID, ""))

    @property
    def run(self) -> tuple[str | None, str | int]:
        """What jobs of the same run have in common; a job without a run is one of its own."""
        if self.run_id:
            return self.context.tags.get("pipeline"), self.run_id
        return None, self.job_id


@dataclass(frozen=True, slots=True)
class Judged:
    """A value of a job, a branch that applies to it, and the limits that the value breaks."""

    metric: str
    branch: Branch
    value: float
    broken: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class StateChange:
    """A message: a series of a metric has become worse or better.

    `series` are those tags of `per` that the job has. `broken` are the specifications of the new
    level, none if it is `WELL`.
    """

    job_id: int
    run_id: str
    received_ns: int
    metric: str
    channel: str | None
    series: tuple[tuple[str, str], ...]
    previous: str
    level: str
    value: float
    broken: tuple[str, ...]


_Series = tuple[str, int, tuple[str | None, ...]]
_Run = tuple[str | None, str | int]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A value of a series. `members` has how the members of compounds stand in its job."""

    time_ns: int
    run: _Run
    value: float
    members: Mapping[str, Status] = field(default_factory=dict)


class AlertHistory:
    """Judges jobs, and keeps of each series its newest time, and its state if it is not well.

    Of series whose limits look at several runs it keeps the newest of these too.
    """

    def __init__(self, watched: Iterable[WatchedMetric]) -> None:
        self._branches = {item.metric.name: item.branches for item in watched}
        self._levels: dict[_Series, str] = {}
        self._newest_ns: dict[_Series, int] = {}
        self._entries: dict[_Series, list[_Entry]] = {}
        limits = {
            limit.name: limit
            for branches in self._branches.values()
            for branch in branches
            for limit in branch.limits
        }
        self._members = [
            limits[name]
            for name in sorted(
                {name for limit in limits.values() for name in limit.criterion.members}
            )
            if name in limits
        ]
        self._runs: dict[_Run, dict[str, Status]] = {}

    def play(self, job: PastJob) -> Iterator[tuple[Judged, StateChange | None]]:
        """Yield each branch that applies to the job, and the message that it sends.

        Mutes, trials, ages, newer values, and how many runs `alert.after` and `alert.min_runs` ask
        for suppress messages; which limits are broken does not depend on them.
        """
        members = self._judge_members(job) if self._members else {}
        for metric, value in job.values.items():
            for number, branch in enumerate(self._branches.get(metric, ())):
                if not applies(branch.terms, job.context):
                    continue
                if branch.is_served:
                    yield self._of_runs(job, metric, branch, number, members)
                    continue
                broken = tuple(limit for limit in branch.limits if not limit.holds(value))
                judged = Judged(metric, branch, value, broken)
                yield judged, self._change(job, judged, number)

    def _judge_members(self, job: PastJob) -> Mapping[str, Status]:
        """Judge the members of compounds, and note how they stand in the run."""
        found: dict[str, Status] = {}
        for limit in self._members:
            value = job.values.get(limit.specification.metric)
            if value is not None and limit.is_alone and applies(limit.terms, job.context):
                found[limit.name] = judge(limit, value).status
        in_run = self._runs.setdefault(job.run, {})
        for name, status in found.items():
            in_run[name] = worst_status([status, in_run.get(name, status)])
        return found

    def _change(self, job: PastJob, judged: Judged, number: int) -> StateChange | None:
        branch = judged.branch
        if job.time_ns <= job.received_ns - branch.max_age_s * _NS:
            return None
        key = _series(job, judged.metric, branch, number)
        # Kapacitor is not told of a value that is not the newest of its series.
        if job.time_ns < self._newest_ns.get(key, 0):
            return None
        self._newest_ns[key] = job.time_ns
        heard = [limit for limit in judged.broken if not is_muted(limit, job.received_ns)]
        return self._become(job, judged, key, heard)

    def _of_runs(
        self,
        job: PastJob,
        metric: str,
        branch: Branch,
        number: int,
        members: Mapping[str, Status],
    ) -> tuple[Judged, StateChange | None]:
        """Judge a value of a branch that the engine raises, by the runs of its series."""
        key = _series(job, metric, branch, number)
        entries = self._entries.setdefault(key, [])
        entry = _Entry(job.time_ns, job.run, job.values[metric], members)
        insort(entries, entry, key=lambda item: -item.time_ns)
        earlier = [item for item in entries if item.time_ns < job.time_ns and item.run != job.run]
        runs = [entry, *newest_of_runs(earlier)]
        verdicts = ((limit, self._verdict(runs, limit, 0)) for limit in branch.limits)
        broken = tuple(limit for limit, one in verdicts if one and one.status == "failed")
        judged = Judged(metric, branch, entry.value, broken)
        # Later values are not looked at for longer than anything asks for.
        needed = max(map(runs_needed, branch.limits))
        newest = list(newest_of_runs(entries))[: 2 * needed]
        kept = {item.run for item in newest}
        entries[:] = [item for item in entries if item.run in kept]
        if newest[0].time_ns <= job.received_ns - branch.max_age_s * _NS:
            return judged, None
        heard = [
            limit
            for limit in branch.limits
            if not is_muted(limit, job.received_ns) and self._is_raised(newest, limit)
        ]
        return judged, self._become(job, judged, key, heard)

    def _is_raised(self, runs: Sequence[_Entry], limit: Limit) -> bool:
        found = raised_by(limit, len(runs), lambda one, place: self._verdict(runs, one, place))
        return found is not None

    def _verdict(self, runs: Sequence[_Entry], limit: Limit, place: int) -> Verdict | None:
        """Return the verdict on a run, by its place among the newest."""
        criterion = limit.criterion
        if isinstance(criterion, Compound):
            entry = runs[place]
            is_of_job = criterion.over == "job"
            found = entry.members if is_of_job else self._runs.get(entry.run, {})
            return judge_compound(limit, found)
        return verdicts_on([item.value for item in runs])(limit, place)

    def _become(
        self, job: PastJob, judged: Judged, key: _Series, heard: Sequence[Limit]
    ) -> StateChange | None:
        """Give a series the level of the worst of its limits that are heard."""
        if judged.branch.is_trial:
            return None
        # The limits are sorted worst first.
        level = heard[0].level if heard else WELL
        previous = self._levels.get(key, WELL)
        if level == previous:
            return None
        if level == WELL:
            del self._levels[key]
        else:
            self._levels[key] = level
        tags = job.context.tags
        return StateChange(
            job_id=job.job_id,
            run_id=job.run_id,
            received_ns=job.received_ns,
            metric=judged.metric,
            channel=judged.branch.channel,
            series=tuple((name, tags[name]) for name in judged.branch.per if name in tags),
            previous=previous,
            level=level,
            value=judged.value,
            broken=tuple(limit.name for limit in heard if limit.level == level),
        )


def _series(job: PastJob, metric: str, branch: Branch, number: int) -> _Series:
    tags = job.context.tags
    return (metric, number, tuple(tags.get(name) for name in branch.per))
