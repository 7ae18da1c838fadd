"""The board: how every metric stands, worst first, and how to filter it.

It is kept up to date: only metrics that have changed are looked at again.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from squash_api.alerts.freshness import (
    Combination,
    ExpectedSeries,
    Freshness,
    combination_of,
    lateness_order,
)
from squash_api.definitions.in_force import Snapshot
from squash_api.index.contexts import JobContext
from squash_api.index.reader import View
from squash_api.index.values import LastValue
from squash_api.judging.limits import Verdict, limits_of
from squash_api.judging.states import (
    LATE,
    NEVER_SEEN,
    NOT_MEASURED,
    OLD,
    RANKS,
    State,
    count_states,
)
from squash_api.record.metrics import MetricRow
from squash_api.schema.names import STANDING_TAGS
from squash_api.standings.standing import DAYS, Standing, Standings, stand

_NO_MARGIN = float("inf")
# Old series are found among this many jobs. They may arrive in another order than that of their
# times.
_LAST = 200
# Of more metrics than these, only the last job counts: there may be thousands that nobody uses.
_MOST_LOOKED_UP = 500
_METRICS = 250
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Row:
    """How a metric stands for one combination of tags.

    `state` is that of its newest value; if one is `late` too, that counts as well.
    """

    standing: Standing
    state: State
    late: ExpectedSeries | None = None

    @property
    def verdict(self) -> Verdict | None:
        """That of the worst broken limit, or of the nearest one."""
        return self.standing.verdict

    @property
    def order(self) -> tuple[int, float, Combination]:
        """A key that sorts rows worst first."""
        margin = None if self.verdict is None else self.verdict.margin
        return RANKS[self.worst], _NO_MARGIN if margin is None else margin, self.standing.tags

    @property
    def states(self) -> tuple[State, ...]:
        """The state of its newest value, and whether one is late, worst first."""
        found = {self.state} if self.late is None else {self.state, LATE}
        return tuple(sorted(found, key=RANKS.__getitem__))

    @property
    def worst(self) -> State:
        """The first of its states."""
        return self.states[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric with its rows, worst first; a metric that was never seen has none.

    `late` are those of its late series that belong to no row.
    """

    metric_id: int
    name: str
    unit: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    late: tuple[ExpectedSeries, ...] = ()

    @property
    def package(self) -> str:
        """Its verification package."""
        return self.name.partition(".")[0]

    @property
    def states(self) -> tuple[State, ...]:
        """The worst state of its values, and whether one is late, worst first.

        A metric that was never seen, but is expected, is late as well.
        """
        found = {min((row.state for row in self.rows), key=RANKS.__getitem__, default=NEVER_SEEN)}
        if self.late or any(row.late for row in self.rows):
            found.add(LATE)
        return tuple(sorted(found, key=RANKS.__getitem__))

    @property
    def state(self) -> State:
        """The first of its states."""
        return self.states[0]

    @property
    def order(self) -> tuple[int, float, str]:
        """A key that sorts metrics worst first."""
        margin = self.rows[0].order[1] if self.rows else _NO_MARGIN
        return RANKS[self.state], margin, self.name


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter of the board; None does not filter.

    `values` are those that tags must have. `tag` is a tag of the metric, or `name=value` for a tag
    of its values. `text` is a part of the metric's name.
    """

    package: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None
    state: str | None = None
    text: str | None = None

    @property
    def terms(self) -> tuple[tuple[str, str], ...]:
        """The tags that values must have."""
        terms = list(self.values.items())
        if self.tag is not None and "=" in self.tag:
            name, _, value = self.tag.partition("=")
            terms.append((name.strip(), value.strip()))
        return tuple(terms)

    def is_of_metric(self, entry: Entry) -> bool:
        """Return whether a metric is wanted, whatever its values are."""
        if self.package not in (None, entry.package):
            return False
        if self.text is not None and self.text.lower() not in entry.name.lower():
            return False
        return self.tag is None or "=" in self.tag or self.tag in entry.tags


@dataclass(frozen=True, slots=True)
class Choices:
    """What the board can be filtered by, each sorted."""

    packages: tuple[str, ...]
    tags: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]


def with_rows(entry: Entry, wanted: Iterable[Combination]) -> Entry | None:
    """Keep only those rows of a metric that have these combinations; return None if none has."""
    kept = set(wanted)
    rows = tuple(row for row in entry.rows if row.standing.tags in kept)
    return replace(entry, rows=rows, late=()) if rows else None


def in_state(entries: Iterable[Entry], state: str | None) -> list[Entry]:
    """Return the metrics whose worst state it is, and all that are late for `late`; for None, all.

    A metric that is late is so whatever its values are.
    """
    return [
        entry
        for entry in entries
        if state in (None, entry.state) or (state == LATE and LATE in entry.states)
    ]


def worst_first(entries: Iterable[Entry]) -> list[Entry]:
    """Sort metrics by state, worst first, then by margin, nearest to the limit first."""
    return sorted(entries, key=lambda entry: entry.order)


def by_package(entries: Iterable[Entry]) -> dict[str, dict[State, int]]:
    """Count the metrics in each state by package, worst package first."""
    packages: dict[str, list[Entry]] = {}
    for entry in entries:
        packages.setdefault(entry.package, []).append(entry)
    counts = {
        name: count_states(entry.state for entry in found) for name, found in packages.items()
    }

    def order(name: str) -> tuple[int, int, str]:
        worst, count = next(iter(counts[name].items()))
        return RANKS[worst], -count, name

    return {name: counts[name] for name in sorted(counts, key=order)}


def choices(entries: Iterable[Entry], names: Sequence[str]) -> Choices:
    """Collect what metrics can be filtered by, with the values of the tags `names`."""
    packages: set[str] = set()
    tags: set[str] = set()
    values: dict[str, set[str]] = {name: set() for name in names}
    for entry in entries:
        packages.add(entry.package)
        tags.update(entry.tags)
        for row in entry.rows:
            for name, value in row.standing.tags:
                if name in values:
                    values[name].add(value)
    return Choices(
        tuple(sorted(packages)),
        tuple(sorted(tags)),
        {name: tuple(sorted(found)) for name, found in values.items()},
    )


POINTS = 30
"""The most values in a trend."""

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


@dataclass(frozen=True, slots=True)
class _Look:
    """What the entry of a metric is made from."""

    metric_id: int
    metric: MetricRow
    snapshot: Snapshot
    version: tuple[int, int]
    standings: Sequence[Standing]
    late: Sequence[ExpectedSeries]


class Board:
    """The state of every metric, from the jobs in the index. Safe to use from many threads."""

    def __init__(self, standings: Standings, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._standings = standings
        self._clock = clock
        self._freshness = Freshness(standings.definitions, standings.schema, standings.latest)
        self._lock = threading.Lock()
        self._seen: dict[int, _Seen] = {}
        # A second lock guards the trends, because reading them may take a while.
        self._trend_lock = threading.Lock()
        self._trends: dict[tuple[int, Combination], tuple[tuple[int, int], Trend]] = {}

    def entry(self, name: str) -> Entry | None:
        """Return one metric, without looking at others; None if it has no entry."""
        return next(iter(self.entries(name)), None)

    def entries(self, name: str | None = None) -> list[Entry]:
        """Return all metrics, or one, that are declared, limited or measured; unsorted."""
        with self._lock:
            late = self._refresh(name)
            snapshot = self._standings.definitions.at(None)
            standings: dict[str, list[Standing]] = {}
            for item in self._standings.present():
                standings.setdefault(item.metric, []).append(item)
            metrics = {
                metric_id: metric
                for metric_id, metric in self._standings.latest.metrics.items()
                if name in (None, metric.name)
            }
            for metric_id in self._seen.keys() - self._standings.latest.metrics.keys():
                del self._seen[metric_id]
            self._look_at_all(
                [
                    _Look(
                        metric_id,
                        metric,
                        snapshot,
                        self._version(metric_id),
                        standings.get(metric.name, []),
                        late.get(metric.name, []),
                    )
                    for metric_id, metric in metrics.items()
                ]
            )
            return [
                seen.entry
                for seen in map(self._seen.__getitem__, metrics)
                if seen.entry.rows
                or seen.metric.is_declared
                or seen.metric.name in snapshot.by_metric
            ]

    def filtered(self, entries: Iterable[Entry], wanted: Wanted) -> list[Entry]:
        """Return the wanted ones of these metrics, with their wanted rows, in any state.

        A metric without a recent row with the wanted tags has its old ones.
        """
        found = [entry for entry in entries if wanted.is_of_metric(entry)]
        if not wanted.terms:
            return found
        kept = {
            entry.metric_id: with_rows(entry, self._with_terms(entry, wanted.terms))
            for entry in found
        }
        gone = [entry for entry in found if kept[entry.metric_id] is None]
        old = self._old_with(gone, dict(wanted.terms)) if gone else {}
        for entry in gone:
            if rows := old.get(entry.metric_id):
                kept[entry.metric_id] = replace(entry, rows=rows, late=())
        return [entry for entry in kept.values() if entry is not None]

    def trends(self, shown: Iterable[tuple[Entry, Row]]) -> dict[tuple[int, Combination], Trend]:
        """Return time (ns) and value of the last values, by metric id and combination."""
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
                with self._standings.reader.view() as view:
                    for metric_id, standings in unknown.items():
                        self._read_trends(view, metric_id, standings)
            return {key: self._trends[key][1] for key in asked}

    def _refresh(self, name: str | None) -> dict[str, list[ExpectedSeries]]:
        """Read what is new; return the late series by metric, of one metric or of all."""
        now_ns = self._clock()
        days = self._freshness.days()
        with self._standings.refreshed(now_ns=now_ns, days=days) as view:
            series = self._freshness.series(view, now_ns=now_ns, metric=name)
        late: dict[str, list[ExpectedSeries]] = {}
        for item in series:
            if item.late_s > 0:
                late.setdefault(item.specification.rpartition(".")[0], []).append(item)
        return late

    def _version(self, metric_id: int) -> tuple[int, int]:
        latest = self._standings.latest
        return latest.changes(metric_id), latest.rewrites

    def _look_at_all(self, looks: Sequence["_Look"]) -> None:
        news = [look for look in looks if self._is_news(look)]
        looked_up = 0
        for start in range(0, len(news), _METRICS):
            some = news[start : start + _METRICS]
            # Each in a view of its own, so that a service that stops need not wait for all.
            with self._standings.reader.view() as view:
                exactly = looked_up < _MOST_LOOKED_UP
                last = self._last(view, some, exactly=exactly)
                looked_up += len(last)
                # The contexts of jobs take much memory: here there is one job for each.
                found = (item.job_id for items in last.values() for item in items)
                jobs = None if exactly else view.contexts.of(found)
                for look in some:
                    self._look_at(view, look, last.get(look.metric_id, []), jobs)

    def _is_news(self, look: "_Look") -> bool:
        before = self._seen.get(look.metric_id)
        if before is None or (before.metric, before.version) != (look.metric, look.version):
            return True
        same = before.snapshot is look.snapshot and before.standings == look.standings
        # How late a series is changes all the time; since when it is does not.
        return not same or list(map(_late_since, before.late)) != list(map(_late_since, look.late))

    def _last(
        self, view: View, looks: Iterable["_Look"], *, exactly: bool
    ) -> dict[int, list[LastValue]]:
        """Return the last values of metrics that have no recent one; if not `exactly`, one each."""
        ids = [look.metric_id for look in looks if not look.standings]
        if not exactly:
            return {metric_id: [item] for metric_id, item in view.values.last_of(ids).items()}
        return {
            metric_id: view.values.last(metric_id, tag_sets=None, limit=_LAST, has_absent=True)
            for metric_id in ids
        }

    def _look_at(
        self,
        view: View,
        look: "_Look",
        last: Sequence[LastValue],
        jobs: Mapping[int, JobContext] | None,
    ) -> None:
        metric, snapshot = look.metric, look.snapshot
        rows = [Row(item, item.state) for item in look.standings]
        if not rows:
            rows = self._old_rows(view, metric, snapshot, last, jobs)
        left = _take_late(rows, look.late)
        declared = snapshot.declared.get(metric.name)
        entry = Entry(
            look.metric_id,
            metric.name,
            metric.unit,
            declared.description if declared else "",
            declared.tags if declared else (),
            tuple(sorted(rows, key=lambda row: row.order)),
            left,
        )
        self._seen[look.metric_id] = _Seen(
            entry, metric, snapshot, look.version, look.standings, look.late
        )

    def _old_rows(
        self,
        view: View,
        metric: MetricRow,
        snapshot: Snapshot,
        found: Iterable[LastValue],
        jobs: Mapping[int, JobContext] | None = None,
    ) -> list[Row]:
        """Return how the series stood that these values, none of them recent, belong to.

        If the metric never had a value, they are not measured. Of a series, the newest counts.
        With `jobs`, those of the values, nothing else is looked at.
        """
        newest_first = sorted(found, key=attrgetter("time_ns"), reverse=True)
        is_all = jobs is not None
        if jobs is None:
            jobs = view.contexts.of({item.job_id for item in newest_first})
        last: dict[Combination, LastValue] = {}
        for item in newest_first:
            last.setdefault(combination_of(jobs[item.job_id].context.tags), item)
        if not last:
            return []
        was_measured = any(item.value is not None for item in newest_first) or (
            not is_all and view.values.last(metric.metric_id, tag_sets=None, limit=1)
        )
        specifications = snapshot.by_metric.get(metric.name, ())
        limits = limits_of(specifications, unit=metric.unit, schema=self._standings.schema)
        return [
            Row(
                stand(metric, tags, item.value, jobs[item.job_id], limits),
                OLD if was_measured else NOT_MEASURED,
            )
            for tags, item in last.items()
        ]

    def _old_with(
        self, entries: Iterable[Entry], terms: Mapping[str, str]
    ) -> dict[int, tuple[Row, ...]]:
        """Return the old rows with these tags of metrics that have no recent one, by metric id."""
        by_id = {entry.metric_id: entry for entry in entries}
        snapshot = self._standings.definitions.at(None)
        before_ns = self._clock() - DAYS * _DAY_NS
        found: dict[int, list[LastValue]] = {}
        with self._standings.reader.view() as view:
            sets = view.contexts.tag_sets_where({name: [text] for name, text in terms.items()})
            jobs = view.contexts.neighbours(sets, before_ns, direction="earlier", limit=_LAST)
            times = {item.job_id: item.time_ns for item in jobs}
            for metric_id, job_id, value in view.values.in_jobs(by_id, times):
                if job_id in times:
                    item = LastValue(job_id, value, 0, times[job_id])
                    found.setdefault(metric_id, []).append(item)
            metrics = self._standings.latest.metrics
            return {
                metric_id: tuple(self._old_rows(view, metrics[metric_id], snapshot, items))
                for metric_id, items in found.items()
            }

    def _with_terms(self, entry: Entry, terms: Sequence[tuple[str, str]]) -> Iterable[Combination]:
        """Yield the combinations that have values with these tags."""
        wanted = dict(terms)
        if wanted.keys() <= set(STANDING_TAGS):
            for row in entry.rows:
                if wanted.items() <= dict(row.standing.tags).items():
                    yield row.standing.tags
            return
        latest = self._standings.latest
        for tag_set_id in latest.of_metric(entry.metric_id):
            tags = latest.tags(tag_set_id)
            if wanted.items() <= tags.items():
                yield combination_of(tags)

    def _read_trends(self, view: View, metric_id: int, standings: Sequence[Standing]) -> None:
        latest = self._standings.latest
        version = self._version(metric_id)
        sets: dict[Combination, list[int]] = {item.tags: [] for item in standings}
        for tag_set_id in latest.of_metric(metric_id):
            tags = combination_of(latest.tags(tag_set_id))
            if tags in sets:
                sets[tags].append(tag_set_id)
        for item in standings:
            # `latest` has no sets of old standings.
            ids = sets[item.tags] or view.contexts.tag_sets_of([item.job_id])
            found = view.values.recent(metric_id, ids, limit=POINTS)
            self._trends[metric_id, item.tags] = version, tuple(found)


def _late_since(item: ExpectedSeries) -> tuple[str, Combination, int]:
    return item.specification, item.tags, item.since_ns


def _take_late(rows: list[Row], late: Iterable[ExpectedSeries]) -> tuple[ExpectedSeries, ...]:
    """Put each late series into the rows that it belongs to; return those that belong to none.

    Of several of one row, the worst is said.
    """
    left = []
    for series in sorted(late, key=lateness_order):
        wanted = dict(series.tags).items()
        places = [
            place
            for place, row in enumerate(rows)
            if series.tags and wanted <= dict(row.standing.tags).items()
        ]
        for place in places:
            if rows[place].late is None:
                rows[place] = replace(rows[place], late=series)
        if not places:
            left.append(series)
    return tuple(left)
