"""The board kept up to date: only metrics of which something has changed are looked at anew."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from squash_api.definitions_in_force import Snapshot
from squash_api.record.contexts import contexts_of
from squash_api.record.latest import values_of
from squash_api.record.metrics import MetricRow
from squash_api.record.recent_values import (
    last_job_with_value,
    recent_values,
    tag_sets_of,
)
from squash_api.standings.board import OLD, Entry, Limit, Row, Wanted, row_of, with_rows
from squash_api.standings.freshness import ExpectedSeries, Freshness
from squash_api.standings.standing import Combination, Standing, Standings, combination_of, stand
from squash_api.verify.alert_keys import DEFAULT_PER
from squash_api.verify.alert_plan import query_terms
from squash_api.verify.judging import applies, judge
from squash_api.verify.specifications import Specification
from squash_api.verify.units import UnitError

POINTS = 30
"""So many values has a trend at most."""

_MOST_TRENDS = 20_000

Trend = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """An entry, and what it was made from."""

    entry: Entry
    metric: MetricRow
    snapshot: Snapshot
    version: tuple[int, int]
    standings: Sequence[Standing]
    late: Sequence[ExpectedSeries]


class Board:
    """How every metric stands. Safe to use from many threads.

    Parameters
    ----------
    standings
        How the values of late stand; only jobs in the index are seen.
    clock
        The present, in ns.
    """

    def __init__(self, standings: Standings, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._standings = standings
        self._clock = clock
        self._freshness = Freshness(standings.definitions, standings.schema, standings.latest)
        self._lock = threading.Lock()
        self._seen: dict[int, _Seen] = {}
        # Guarded by the other lock: trends are read for what is shown, which may take a while.
        self._trend_lock = threading.Lock()
        self._trends: dict[tuple[int, Combination], tuple[tuple[int, int], Trend]] = {}

    def entries(self) -> list[Entry]:
        """Return all metrics that are declared, limited or measured, in no order."""
        with self._lock:
            late = self._refresh()
            snapshot = self._standings.definitions.at(None)
            standings: dict[str, list[Standing]] = {}
            for item in self._standings.present():
                standings.setdefault(item.metric, []).append(item)
            with self._standings.record.read() as connection:
                for metric_id, metric in list(self._standings.latest.metrics.items()):
                    self._look_at(
                        connection,
                        metric_id,
                        metric,
                        snapshot,
                        standings=standings.get(metric.name, []),
                        late=late.get(metric.name, []),
                    )
            return [
                seen.entry
                for seen in self._seen.values()
                if seen.entry.rows or seen.metric.is_declared or _limits(seen.metric, snapshot)
            ]

    def narrowed(self, entries: Iterable[Entry], wanted: Wanted) -> list[Entry]:
        """Return what of these metrics is asked for, in whatever state it is."""
        found = [entry for entry in entries if wanted.is_of_metric(entry)]
        if not wanted.terms:
            return found
        kept = (with_rows(entry, self._with_terms(entry, wanted.terms)) for entry in found)
        return [entry for entry in kept if entry is not None]

    def trends(self, shown: Iterable[tuple[Entry, Row]]) -> dict[tuple[int, Combination], Trend]:
        """Return time (ns) and value of the last values, by the metric's id and combination."""
        asked = {(entry.metric_id, row.standing.tags): row.standing for entry, row in shown}
        with self._trend_lock:
            if len(self._trends) > _MOST_TRENDS:
                self._trends.clear()
            unknown: dict[int, list[Standing]] = {}
            for (metric_id, tags), standing in asked.items():
                known = self._trends.get((metric_id, tags))
                if known is None or known[0] != self._version(metric_id):
                    unknown.setdefault(metric_id, []).append(standing)
            if unknown:
                with self._standings.record.read() as connection:
                    for metric_id, standings in unknown.items():
                        self._read_trends(connection, metric_id, standings)
            return {key: self._trends[key][1] for key in asked}

    def _refresh(self) -> dict[str, list[ExpectedSeries]]:
        """Take in what is new; return the overdue series by metric."""
        now_ns = self._clock()
        days = self._freshness.days()
        with self._standings.refreshed(now_ns=now_ns, days=days) as connection:
            series = self._freshness.series(connection, now_ns=now_ns)
        late: dict[str, list[ExpectedSeries]] = {}
        for item in series:
            if item.late_s > 0:
                late.setdefault(item.specification.rpartition(".")[0], []).append(item)
        return late

    def _version(self, metric_id: int) -> tuple[int, int]:
        latest = self._standings.latest
        return latest.changes(metric_id), latest.rewrites

    def _look_at(
        self,
        connection: Connection,
        metric_id: int,
        metric: MetricRow,
        snapshot: Snapshot,
        *,
        standings: Sequence[Standing],
        late: Sequence[ExpectedSeries],
    ) -> None:
        version = self._version(metric_id)
        before = self._seen.get(metric_id)
        if before is not None and (before.metric, before.version) == (metric, version):
            same = before.snapshot is snapshot and before.standings == standings
            if same and _are_same(before.late, late):
                return
        rows = self._rows(connection, metric_id, metric, snapshot, standings)
        rows, left = _with_late(rows, late)
        declared = snapshot.declared.get(metric.name)
        entry = Entry(
            metric_id,
            metric.name,
            metric.unit,
            declared.description if declared else "",
            declared.tags if declared else (),
            tuple(sorted(rows, key=lambda row: row.order)),
            left,
        )
        self._seen[metric_id] = _Seen(entry, metric, snapshot, version, standings, late)

    def _rows(
        self,
        connection: Connection,
        metric_id: int,
        metric: MetricRow,
        snapshot: Snapshot,
        standings: Sequence[Standing],
    ) -> list[Row]:
        by_name = {item.name: item for item in snapshot.by_metric.get(metric.name, ())}
        if not standings:
            old = self._old_standing(connection, metric_id, metric, by_name.values())
            limit = None if old is None else _limit(old, by_name)
            return [] if old is None else [Row(old, OLD, limit)]
        limits = {item: _limit(item, by_name) for item in standings}
        self._find_limits_without_margin(connection, limits, by_name.values())
        return [row_of(item, limits[item], None) for item in standings]

    def _find_limits_without_margin(
        self,
        connection: Connection,
        limits: dict[Standing, Limit | None],
        specifications: Iterable[Specification],
    ) -> None:
        """Name the limit of values that hold one to which there is no distance, such as `==`."""
        asked = [item for item, limit in limits.items() if limit is None]
        possible = [item for item in specifications if _has_no_margin(item)]
        if not asked or not possible:
            return
        contexts = contexts_of(connection, {item.job_id for item in asked})
        for item in asked:
            job = contexts.get(item.job_id)
            for specification in possible if job else ():
                assert job is not None  # noqa: S101 - for the type checker
                if applies(specification, job.context, schema=self._standings.schema):
                    limits[item] = _compared(specification, item)

    def _old_standing(
        self,
        connection: Connection,
        metric_id: int,
        metric: MetricRow,
        specifications: Iterable[Specification],
    ) -> Standing | None:
        """Return how the last value stood of a metric that has none of late."""
        job_id = last_job_with_value(connection, metric_id)
        if job_id is None:
            return None
        job = contexts_of(connection, [job_id])[job_id]
        value = values_of(connection, metric_id, [job_id])[job_id]
        terms = [(item, query_terms(item, self._standings.schema)) for item in specifications]
        return stand(metric, combination_of(job.context.tags), value, job, terms)

    def _with_terms(self, entry: Entry, terms: Sequence[tuple[str, str]]) -> Iterable[Combination]:
        """Return the combinations of which some values have these tags."""
        wanted = dict(terms)
        if wanted.keys() <= set(DEFAULT_PER):
            for row in entry.rows:
                if wanted.items() <= dict(row.standing.tags).items():
                    yield row.standing.tags
            return
        latest = self._standings.latest
        for tag_set_id in latest.of_metric(entry.metric_id):
            tags = latest.tags(tag_set_id)
            if wanted.items() <= tags.items():
                yield combination_of(tags)

    def _read_trends(
        self, connection: Connection, metric_id: int, standings: Sequence[Standing]
    ) -> None:
        latest = self._standings.latest
        version = self._version(metric_id)
        sets: dict[Combination, list[int]] = {item.tags: [] for item in standings}
        for tag_set_id in latest.of_metric(metric_id):
            tags = combination_of(latest.tags(tag_set_id))
            if tags in sets:
                sets[tags].append(tag_set_id)
        for item in standings:
            # What is old is in no set of late.
            ids = sets[item.tags] or tag_sets_of(connection, [item.job_id])
            found = recent_values(connection, metric_id, ids, limit=POINTS)
            self._trends[metric_id, item.tags] = version, tuple(found)


def _limits(metric: MetricRow, snapshot: Snapshot) -> bool:
    return metric.name in snapshot.by_metric


def _are_same(before: Sequence[ExpectedSeries], after: Sequence[ExpectedSeries]) -> bool:
    """Tell whether the same is late since the same time: how late it is grows all the time."""
    return [_key(item) for item in before] == [_key(item) for item in after]


def _key(item: ExpectedSeries) -> tuple[str, Combination, int]:
    return item.specification, item.tags, item.since_ns


def _with_late(
    rows: Iterable[Row], late: Iterable[ExpectedSeries]
) -> tuple[list[Row], tuple[ExpectedSeries, ...]]:
    """Return the rows with what is late of each, and what is late of none."""
    found = list(rows)
    left = []
    for series in late:
        wanted = dict(series.tags).items()
        places = [
            place
            for place, row in enumerate(found)
            if series.tags and wanted <= dict(row.standing.tags).items()
        ]
        for place in places:
            found[place] = replace(found[place], late=series)
        if not places:
            left.append(series)
    return found, tuple(left)


def _limit(standing: Standing, by_name: Mapping[str, Specification]) -> Limit | None:
    name = next(iter(standing.broken), standing.limit)
    found = None if name is None else by_name.get(name)
    return None if found is None else _compared(found, standing)


def _compared(specification: Specification, standing: Standing) -> Limit | None:
    unit = standing.unit or specification.unit
    try:
        verdict = judge(specification, value=standing.value, unit=unit)
    except UnitError:
        return None
    return Limit(specification.name, verdict.operator, verdict.threshold, verdict.margin)


def _has_no_margin(specification: Specification) -> bool:
    return specification.operator in {"==", "!="} or specification.threshold == 0
