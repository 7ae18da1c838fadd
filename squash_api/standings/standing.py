"""How things stand: the newest value of each metric, by combination of tags, and what it breaks.

A combination is what separates alerts: the values of `STANDING_TAGS`.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from squash_api.alerts.freshness import Combination, combination_of
from squash_api.definitions.in_force import DefinitionsInForce, Snapshot
from squash_api.index.contexts import JobContext
from squash_api.index.derived import waiting_for_rederivation
from squash_api.index.latest import LatestValues, Series
from squash_api.index.reader import Reader, View
from squash_api.judging.limits import Limit, Verdict, judge, limits_of
from squash_api.judging.metadata_query import applies
from squash_api.judging.states import State, state_of
from squash_api.record.alerts import (
    RESOLVED,
    AlertRow,
    alerts_after,
    newest_alert_version,
)
from squash_api.record.metrics import MetricRow
from squash_api.schema.names import RUN_ID

DAYS = 30
"""A combination of tags counts until its last value is this many days old."""

_DAY_NS = 86_400 * 10**9
# Times may be a day ahead of their receipt.
_READ_DAYS = DAYS + 1
_JOBS = 500

Key = tuple[int, Combination]


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest value of a metric, by the time of its points, for one combination of tags.

    `value` is None if the newest job that names the metric has no value that can be used: an older
    one does not count. It is in `unit`, None if the metric has none. `limit` names the
    specification, of all that apply, that the value is nearest to or furthest beyond, and `margin`
    is the distance as a fraction of the limit; both are None if there is none. `severity` is 0 if
    no limit is broken, else 1 for INFO, 2 for WARNING, 3 for CRITICAL; `broken` names the broken
    ones, worst first. `verdict` is the one to show: the worst, else that of the nearest limit, else
    any; None if no limit applies.
    """

    metric: str
    tags: Combination
    value: float | None
    unit: str | None
    time_ns: int
    job_id: int
    run_id: str | None = None
    limit: str | None = None
    margin: float | None = None
    severity: int = 0
    broken: tuple[str, ...] = ()
    # Not compared: a standing with another limit and the same result is the same.
    verdict: Verdict | None = field(default=None, compare=False)

    @property
    def state(self) -> State:
        """How it stands, whether or not it is late or old."""
        return state_of(
            self.severity,
            is_limited=self.verdict is not None,
            is_measured=self.value is not None,
        )


def stand(
    metric: MetricRow,
    tags: Combination,
    value: float | None,
    job: JobContext,
    limits: Sequence[Limit],
    *,
    raised: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Standing:
    """Judge a newest value by those limits of its metric, worst first, that apply to its job.

    Of a limit that is served, the alerts of the record say whether it is raised: `raised` has what
    they say of those that are, by name. One on trial does not count.
    """
    verdicts = [
        _raised(limit, value, raised.get(limit.name)) if limit.is_served else judge(limit, value)
        for limit in limits
        if not limit.problem and not limit.is_trial and applies(limit.terms, job.context)
    ]
    failed = [verdict for verdict in verdicts if verdict.status == "failed"]
    nearest = min(
        (verdict for verdict in verdicts if verdict.margin is not None),
        key=lambda verdict: (verdict.margin, verdict.name),
        default=None,
    )
    run_id = job.context.fields.get(RUN_ID)
    return Standing(
        metric.name,
        tags,
        value,
        metric.unit,
        job.time_ns,
        job.job_id,
        run_id=run_id if isinstance(run_id, str) else None,
        limit=None if nearest is None else nearest.name,
        margin=None if nearest is None else nearest.margin,
        severity=failed[0].limit.severity if failed else 0,
        broken=tuple(verdict.name for verdict in failed),
        verdict=next((item for item in (*failed[:1], nearest, *verdicts) if item), None),
    )


def _raised(limit: Limit, value: float | None, shown: Mapping[str, Any] | None) -> Verdict:
    """Return what the alerts of the record say of a limit, as a verdict on the newest value.

    A value beyond a limit that is not raised has no margin to show.
    """
    found = judge(limit, value)
    if value is None:
        return found
    if shown is not None:
        margin = shown.get("margin")
        if not limit.criterion.members:
            return replace(found, status="failed", margin=margin)
        members = tuple(shown.get("members", ()))
        return Verdict(limit, "failed", shown.get("value"), margin, members)
    is_beyond = found.margin is not None and found.margin < 0
    return replace(found, status="passed", margin=None if is_beyond else found.margin)


_Place = tuple[str, tuple[tuple[str, str], ...]]
"""A metric, and the tags of the series that an alert is of, sorted."""


class Standings:
    """How every metric stands; only jobs in the index are seen. Safe to use from many threads.

    It reads only what is new since the last time. `refresh` keeps `latest` up to date as well.
    """

    def __init__(self, reader: Reader, definitions: DefinitionsInForce) -> None:
        self.latest = LatestValues(reader)
        self.reader = reader
        self.definitions = definitions
        self.schema = reader.metrics.schema
        self._lock = threading.Lock()
        self._standings: dict[Key, Standing] = {}
        self._waiting: set[Key] = set()
        # The jobs of values that wait because they are just being converted.
        self._changing: set[int] = set()
        # Sets of tags, by the combination that they hold.
        self._sets: dict[Combination, set[int]] = {}
        self._combinations: dict[int, Combination] = {}
        self._snapshot: Snapshot | None = None
        # The metrics with limits that only the alerts of the record know of; and the living alerts,
        # as of a version, by their series; and which tags tell the series of a metric apart.
        self._served: set[str] = set()
        self._alerts: dict[_Place, dict[int, AlertRow]] = {}
        self._alert_tags: dict[str, set[tuple[str, ...]]] = {}
        self._alerts_version = -1
        # By metric and its unit.
        self._limits: dict[tuple[str, str | None], list[Limit]] = {}

    def refresh(self, *, now_ns: int) -> None:
        """Read what is new. The first time takes seconds if there are many recent jobs."""
        with self.refreshed(now_ns=now_ns):
            pass

    @contextmanager
    def refreshed(self, *, now_ns: int, days: float = 0.0) -> Iterator[View]:
        """Read what is new, and give the view that it was read from.

        `latest` knows at least the last `days`.
        """
        with self._lock:
            self.latest.prepare(now_ns=now_ns, days=max(days, _READ_DAYS))
            with self.reader.view() as view:
                self._follow(view, now_ns=now_ns)
                if not self._changing:
                    yield view
                    return
            # Else an old value would be shown beside the new unit.
            self.reader.rederive(self._changing)
            with self.reader.view() as view:
                self._follow(view, now_ns=now_ns)
                yield view

    def present(self) -> list[Standing]:
        """Return how things stood at the last `refresh`, unsorted."""
        with self._lock:
            return list(self._standings.values())

    def _follow(self, view: View, *, now_ns: int) -> None:
        is_first = self._snapshot is None
        followed = self.latest.follow(view, now_ns=now_ns)
        if is_first:
            followed.series.update(self.latest.all_series())
        self._waiting.update(self._key_of(series) for series in followed.series)
        names = {self.latest.metrics[item].name for item in followed.metrics}
        names |= self._learn_limits()
        places = self._learn_alerts(view)
        if names or places:
            self._waiting.update(
                key
                for key, standing in self._standings.items()
                if standing.metric in names
                or not places.isdisjoint(self._places(standing.metric, key[1]))
            )
        oldest_ns = now_ns - DAYS * _DAY_NS
        self._judge(view, oldest_ns=oldest_ns)
        for key in [key for key, item in self._standings.items() if item.time_ns < oldest_ns]:
            del self._standings[key]

    def _key_of(self, series: Series) -> Key:
        metric_id, tag_set_id = series
        combination = self._combinations.get(tag_set_id)
        if combination is None:
            combination = combination_of(self.latest.tags(tag_set_id))
            self._combinations[tag_set_id] = combination
            self._sets.setdefault(combination, set()).add(tag_set_id)
        return metric_id, combination

    def _learn_limits(self) -> set[str]:
        """Keep the specifications in force; return the metrics whose specifications changed."""
        snapshot = self.definitions.at(None)
        if snapshot is self._snapshot:
            return set()
        before = {} if self._snapshot is None else self._snapshot.by_metric
        names = before.keys() | snapshot.by_metric.keys()
        changed = {name for name in names if before.get(name) != snapshot.by_metric.get(name)}
        self._limits.clear()
        self._snapshot = snapshot
        self._served = {
            name
            for name, found in snapshot.by_metric.items()
            if any(item.is_served for item in found)
        }
        return changed

    def _learn_alerts(self, view: View) -> set[_Place]:
        """Keep the living alerts, if limits are served; return the places of those that changed."""
        if not self._served:
            self._alerts, self._alert_tags, self._alerts_version = {}, {}, -1
            return set()
        version = view.ask(newest_alert_version)
        if version == self._alerts_version:
            return set()
        changed = set()
        for row in view.ask(alerts_after, self._alerts_version):
            place = row.metric, tuple(sorted(row.tags.items()))
            there = self._alerts.setdefault(place, {})
            is_known = there.pop(row.alert_id, None) is not None
            if row.state != RESOLVED and not row.is_trial:
                there[row.alert_id] = row
                self._alert_tags.setdefault(row.metric, set()).add(tuple(sorted(row.tags)))
                is_known = True
            if not there:
                del self._alerts[place]
            if is_known and row.metric in self._served:
                changed.add(place)
        self._alerts_version = version
        return changed

    def _places(self, metric: str, tags: Combination) -> Iterator[_Place]:
        """Yield where the alerts of series with these tags are: a few, however many alerts live."""
        has = dict(tags)
        for names in self._alert_tags.get(metric, ()):
            yield metric, tuple((name, has.get(name, "")) for name in names)

    def _raised_in(self, metric: str, tags: Combination) -> dict[str, Mapping[str, Any]]:
        """Return the limits that living alerts say are raised for these tags, by name."""
        return {
            item["specification"]: item
            for place in self._places(metric, tags)
            for row in self._alerts.get(place, {}).values()
            for item in row.broken
            if "specification" in item
        }

    def _limits_of(self, metric: MetricRow) -> list[Limit]:
        key = metric.name, metric.unit
        found = self._limits.get(key)
        if found is None:
            in_force = {} if self._snapshot is None else self._snapshot.by_metric
            specifications = in_force.get(metric.name, ())
            found = limits_of(specifications, unit=metric.unit, schema=self.schema)
            self._limits[key] = found
        return found

    def _judge(self, view: View, *, oldest_ns: int) -> None:
        """Judge what waits for it, except values that are just being converted."""
        newest = {key: self._newest_ns(key) for key in self._waiting}
        times = [item for item in newest.values() if item is not None and item >= oldest_ns]
        jobs = view.contexts.at(times)
        by_job: dict[int, list[Key]] = {}
        for key, time_ns in newest.items():
            if time_ns in jobs:
                by_job.setdefault(jobs[time_ns], []).append(key)
            else:
                self._standings.pop(key, None)
        self._waiting.clear()
        self._changing.clear()
        ids = sorted(by_job)
        # The contexts of jobs take much memory: read some at a time.
        for start in range(0, len(ids), _JOBS):
            some = {job_id: by_job[job_id] for job_id in ids[start : start + _JOBS]}
            self._judge_jobs(view, some)

    def _judge_jobs(self, view: View, by_job: Mapping[int, list[Key]]) -> None:
        changing = view.ask(waiting_for_rederivation, by_job)
        self._changing |= changing
        contexts = view.contexts.of(by_job)
        wanted: dict[int, list[int]] = {}
        for job_id, keys in by_job.items():
            if job_id in changing:
                self._waiting.update(keys)
            else:
                for metric_id, _ in keys:
                    wanted.setdefault(metric_id, []).append(job_id)
        # Most metrics have their newest values in the same jobs as others.
        together: dict[tuple[int, ...], list[int]] = {}
        for metric_id, job_ids in wanted.items():
            together.setdefault(tuple(job_ids), []).append(metric_id)
        values = {
            (metric_id, job_id): value
            for job_ids, metric_ids in together.items()
            for metric_id, job_id, value in view.values.in_jobs(
                metric_ids, job_ids, has_absent=False
            )
        }
        for job_id in by_job.keys() - changing:
            for key in by_job[job_id]:
                metric = self.latest.metrics[key[0]]
                limits = self._limits_of(metric)
                after = stand(
                    metric,
                    key[1],
                    values.get((key[0], job_id)),
                    contexts[job_id],
                    limits,
                    raised=self._raised_in(metric.name, key[1]),
                )
                # Keep the same object while nothing changes: it is quick to compare.
                before = self._standings.get(key)
                if before is None or before != after or before.verdict != after.verdict:
                    self._standings[key] = after

    def _newest_ns(self, key: Key) -> int | None:
        """Return the time of the newest job that names the metric, with a value or without."""
        metric_id, combination = key
        times = [
            time_ns
            for item in self._sets.get(combination, ())
            for time_ns in (
                self.latest.newest_ns((metric_id, item)),
                self.latest.absent_ns((metric_id, item)),
            )
        ]
        return max((item for item in times if item is not None), default=None)
