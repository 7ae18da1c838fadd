"""The watch: once a minute, the service writes points of its own to every InfluxDB.

They say how late expected values are, how each metric stands, and that the watch is running.
Delivery never waits for it, and its points are not queued: a minute later they are out of date.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import atan, pi
from typing import Protocol

import structlog

from squash_api.alerts.freshness import Combination, ExpectedSeries, Freshness
from squash_api.delivery.reader import BackOff, Loop, Wait
from squash_api.index.derived import oldest_unindexed_ns
from squash_api.influx.client import InfluxError
from squash_api.influx.points import freshness_line, heartbeat_line, own_line, standing_line
from squash_api.influx.writing import Rejected
from squash_api.judging.alert_plan import branch_keys
from squash_api.judging.specifications import Specification
from squash_api.judging.states import NO_LIMIT, OLD, RANKS
from squash_api.record.alerts import AlertRow, living_alerts
from squash_api.schema import watch as watch_names
from squash_api.schema.names import Schema
from squash_api.standings.standing import Standing, Standings

MINUTE_NS = 60 * 10**9
AGAIN_NS = 6 * 3600 * 10**9
"""A standing that does not change is written again after this, so that every day has it."""

LAG_NS = 5 * MINUTE_NS
"""If a job waits longer than this to be derived, it is unknown what is late: nothing is written."""

_POLL = Wait(1.0, 1.0)
_PAUSE_S = 30.0
_BATCH = 5000

_log = structlog.get_logger(__name__)


class WritesLines(Protocol):
    """What writes points."""

    name: str

    def write_extra(self, lines: Sequence[str], /) -> list[Rejected]:
        """Write lines, or raise an `InfluxError`."""


class TakesLines(WritesLines, Protocol):
    """Where the points of the watch go."""

    def is_delivering(self) -> bool:
        """Return whether this process is the one that writes here."""

    def takes_lateness(self, specification: str, tags: Mapping[str, str], /) -> bool:
        """Return whether it takes how late an expected series is."""


def write_lines(outlet: WritesLines, lines: Sequence[str]) -> None:
    """Write points of the service to an outlet; log those that are refused.

    Raises
    ------
    InfluxError
        If it takes nothing at the moment.
    """
    for start in range(0, len(lines), _BATCH):
        for rejected in outlet.write_extra(lines[start : start + _BATCH]):
            _log.error(
                "a point of the service was refused",
                target=outlet.name,
                line=lines[start + rejected.index],
                reason=rejected.reason,
            )


_Key = tuple[str, Combination]


@dataclass(frozen=True, slots=True)
class _Written:
    standing: Standing
    time_ns: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is written for a minute."""

    time_ns: int
    series: Sequence[ExpectedSeries]
    standings: Mapping[_Key, Standing]
    limited: Collection[str]
    verdicts: Sequence[str] = ()


class Watch(Loop):
    """Watches in rounds that a clock starts, rather than jobs.

    `squash_url` is the public root of the service, for the link of each point to its job. If it
    `is_for_grafana`, what only the service can raise is written too: see `verdict_lines`.
    """

    waits_for_jobs = False
    first_wait = _POLL

    def __init__(
        self,
        standings: Standings,
        outlets: Sequence[TakesLines],
        *,
        squash_url: str,
        is_for_grafana: bool = False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(
            "watch",
            BackOff(_PAUSE_S, _PAUSE_S, least_s=_PAUSE_S),
            failure="watching failed; it will be tried again",
        )
        self._standings = standings
        self._freshness = Freshness(standings.definitions, standings.schema, standings.latest)
        self._outlets = outlets
        self._squash_url = squash_url
        self._is_for_grafana = is_for_grafana
        self._clock = clock
        self._done: dict[str, int] = {}
        self._written: dict[str, dict[_Key, _Written]] = {}

    def step(self) -> Wait:
        """Write the points of this minute to every outlet that does not have them yet."""
        now_ns = self._clock()
        minute_ns = now_ns - now_ns % MINUTE_NS
        due = [
            outlet
            for outlet in self._outlets
            if self._done.get(outlet.name) != minute_ns and outlet.is_delivering()
        ]
        if not due:
            return _POLL
        # Whatever happens now, this minute is not tried again.
        self._done.update((outlet.name, minute_ns) for outlet in due)
        seen = self._look(now_ns, minute_ns)
        if seen is not None:
            for outlet in due:
                self._report(outlet, seen)
        return _POLL

    def _look(self, now_ns: int, minute_ns: int) -> _Seen | None:
        """Read what is new; None while jobs wait too long to be derived."""
        with self._standings.reader.view() as view:
            waiting_ns = view.ask(oldest_unindexed_ns)
        as_of_ns = now_ns if waiting_ns is None else min(now_ns, waiting_ns)
        if now_ns - as_of_ns > LAG_NS:
            _log.warning(
                "jobs wait to be derived: the watch pauses",
                since_ns=as_of_ns,
                runbook="watch-paused",
            )
            return None
        days = self._freshness.days()
        with self._standings.refreshed(now_ns=now_ns, days=days) as view:
            series = self._freshness.series(view, now_ns=as_of_ns)
            living = view.ask(living_alerts) if self._is_for_grafana else None
        # A metric without limits cannot be near one.
        limited = self._standings.definitions.at(None).by_metric
        verdicts: Sequence[str] = ()
        if living is not None:
            served = _served_branches(limited, self._standings.schema)
            verdicts = verdict_lines(living, served, time_ns=minute_ns)
        standings = {
            (item.metric, item.tags): item
            for item in self._standings.present()
            if item.metric in limited
        }
        return _Seen(minute_ns, series, standings, limited, verdicts)

    def _report(self, outlet: TakesLines, seen: _Seen) -> None:
        written = self._written.setdefault(outlet.name, {})
        changed = {
            key: standing
            for key, standing in seen.standings.items()
            if _is_due(written.get(key), standing, seen.time_ns)
        }
        gone = [item.standing for key, item in written.items() if key not in seen.standings]
        try:
            lines = [heartbeat_line(seen.time_ns), *seen.verdicts, *self._lateness(outlet, seen)]
            write_lines(outlet, lines)
            write_lines(outlet, self._standing_lines(changed.values(), gone, seen))
        except InfluxError as error:
            _log.info(
                "not written; it will be tried again in a minute",
                target=outlet.name,
                reason=str(error),
            )
            return
        for standing in gone:
            del written[standing.metric, standing.tags]
        written.update((key, _Written(item, seen.time_ns)) for key, item in changed.items())

    def _lateness(self, outlet: TakesLines, seen: _Seen) -> list[str]:
        return [
            freshness_line(
                item.specification,
                item.tags,
                late_s=item.late_s,
                age_s=item.age_s,
                since=item.since,
                run_id=item.run_id,
                squash_url=None if item.job_id is None else self._link(item.job_id),
                time_ns=seen.time_ns,
                missing=item.missing,
            )
            for item in seen.series
            if outlet.takes_lateness(item.specification, dict(item.tags))
        ]

    def _standing_lines(
        self, changed: Iterable[Standing], gone: Iterable[Standing], seen: _Seen
    ) -> list[str]:
        lines = [
            standing_line(
                item.metric,
                item.tags,
                state=item.state,
                rank=_rank(item),
                value=item.value,
                margin=item.margin,
                limit=item.limit,
                severity=item.severity,
                broken=item.broken,
                level_margin=_level_margin(item),
                summary=_summary(item),
                run_id=item.run_id,
                squash_url=self._link(item.job_id),
                time_ns=seen.time_ns,
            )
            for item in changed
        ]
        for item in gone:
            state = OLD if item.metric in seen.limited else NO_LIMIT
            lines.append(
                standing_line(
                    item.metric, item.tags, state=state, rank=RANKS[state], time_ns=seen.time_ns
                )
            )
        return lines

    def _link(self, job_id: int) -> str:
        return f"{self._squash_url}/job/{job_id}"


def verdict_lines(
    living: Iterable[AlertRow], served: Iterable[tuple[str, str]], *, time_ns: int
) -> list[str]:
    """Make the points of what only the service can raise, which Grafana cannot judge.

    Each branch in `served`, a metric and a key, has one of severity 0 every minute; so without any
    it is unknown what is raised, and with one a series without another is well. Alerts that are
    silenced, or on trial, have none.
    """
    series: dict[tuple[str, str], dict[Combination, AlertRow | None]] = {
        branch: {(): None} for branch in served
    }
    for item in living:
        combinations = series.get((item.metric, item.branch))
        if combinations is not None and item.silence_id is None and not item.is_trial:
            combinations[tuple(sorted(item.tags.items()))] = item
    return [
        own_line(
            watch_names.VERDICT,
            {**dict(tags), watch_names.METRIC: metric, watch_names.BRANCH: branch},
            {
                watch_names.SEVERITY: 0.0 if item is None else float(item.severity),
                watch_names.VALUE: 0.0 if item is None else item.value,
                watch_names.ALERT: 0.0 if item is None else float(item.alert_id),
            },
            time_ns,
        )
        for (metric, branch), combinations in series.items()
        for tags, item in combinations.items()
    ]


def _served_branches(
    by_metric: Mapping[str, Sequence[Specification]], schema: Schema
) -> Iterator[tuple[str, str]]:
    for metric, specifications in by_metric.items():
        if any(item.is_served for item in specifications):
            for key in branch_keys(specifications, schema):
                if key.is_served and not key.is_trial:
                    yield metric, key.key


def _rank(standing: Standing) -> float:
    """Return the place in the list of states, and a fraction below 1 that grows with the margin."""
    margin = _level_margin(standing)
    return RANKS[standing.state] + (0.0 if margin is None else 0.5 + atan(margin) / pi)


def _summary(standing: Standing) -> str | None:
    return standing.verdict.summary if standing.verdict and standing.value is not None else None


def _level_margin(standing: Standing) -> float | None:
    return None if standing.verdict is None else standing.verdict.margin


def _is_due(written: _Written | None, standing: Standing, time_ns: int) -> bool:
    return (
        written is None
        or (
            written.standing is not standing
            and (written.standing, written.standing.verdict) != (standing, standing.verdict)
        )
        # Not so either, if the clock was ahead then.
        or not 0 <= time_ns - written.time_ns < AGAIN_NS
    )
