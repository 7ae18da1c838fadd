"""The alerts that past jobs would have raised: the rules of the generated tasks, in Python.

Jobs are played in the order in which they were delivered, that of their ids. Nothing is known about
the time before the first, so at first no series is in alert.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from squash_api.judging.alert_plan import Branch, WatchedMetric
from squash_api.judging.limits import Limit
from squash_api.judging.metadata_query import applies
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


class AlertHistory:
    """Judges jobs, and keeps of each series its newest time, and its state if it is not well."""

    def __init__(self, watched: Iterable[WatchedMetric]) -> None:
        self._branches = {item.metric.name: item.branches for item in watched}
        self._ends_ns = {
            limit.name: _end_ns(muted_through)
            for branches in self._branches.values()
            for branch in branches
            for limit in branch.limits
            if (muted_through := limit.muted_through) is not None
        }
        self._levels: dict[_Series, str] = {}
        self._newest_ns: dict[_Series, int] = {}

    def play(self, job: PastJob) -> Iterator[tuple[Judged, StateChange | None]]:
        """Yield each branch that applies to the job, and the message that it sends.

        Mutes, ages and newer values suppress messages; which limits are broken does not depend on
        them.
        """
        for metric, value in job.values.items():
            for number, branch in enumerate(self._branches.get(metric, ())):
                if not applies(branch.terms, job.context):
                    continue
                broken = tuple(limit for limit in branch.limits if not limit.holds(value))
                judged = Judged(metric, branch, value, broken)
                yield judged, self._change(job, judged, number)

    def _change(self, job: PastJob, judged: Judged, number: int) -> StateChange | None:
        branch = judged.branch
        if job.time_ns <= job.received_ns - branch.max_age_s * _NS:
            return None
        tags = job.context.tags
        key = (judged.metric, number, tuple(tags.get(name) for name in branch.per))
        # Kapacitor is not told of a value that is not the newest of its series.
        if job.time_ns < self._newest_ns.get(key, 0):
            return None
        self._newest_ns[key] = job.time_ns
        heard = [
            limit for limit in judged.broken if job.received_ns >= self._ends_ns.get(limit.name, 0)
        ]
        # The limits are sorted worst first.
        level = heard[0].level if heard else WELL
        previous = self._levels.get(key, WELL)
        if level == previous:
            return None
        if level == WELL:
            del self._levels[key]
        else:
            self._levels[key] = level
        return StateChange(
            job_id=job.job_id,
            run_id=job.run_id,
            received_ns=job.received_ns,
            metric=judged.metric,
            channel=branch.channel,
            series=tuple((name, tags[name]) for name in branch.per if name in tags),
            previous=previous,
            level=level,
            value=judged.value,
            broken=tuple(limit.name for limit in heard if limit.level == level),
        )


def _end_ns(day: date) -> int:
    """Return the time of the midnight after a day, in UTC."""
    midnight = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return int(midnight.timestamp()) * _NS
