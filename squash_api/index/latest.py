"""Where the newest value of each metric is, for each set of tags: kept in memory and up to date.

It also knows where the newest job is that names the metric without a value, so that an older value
does not pass for the present.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from squash_api.index.contexts import ChangedJob, Tags
from squash_api.index.reader import Reader, View
from squash_api.index.values import Latest
from squash_api.record.bulk import in_chunks
from squash_api.record.metrics import KnownMetrics, MetricRow

MOST_SERIES = 100_000
"""The most series that are kept: those with the newest values."""

_DAY_NS = 86_400 * 10**9
_CHANGES = 1000
_METRICS = 50

_log = structlog.get_logger(__name__)

# A metric and a set of tags, by their ids.
Series = tuple[int, int]


@dataclass(slots=True)
class Followed:
    """What has changed: series with another newest job, and metrics with another unit or name.

    `is_rewritten` tells whether jobs that were known before have changed.
    """

    series: set[Series] = field(default_factory=set)
    metrics: set[int] = field(default_factory=set)
    is_rewritten: bool = False


class LatestValues:
    """Follows the index of measurements, reading only what is new. Safe to use from many threads.

    Only one caller may use `follow`, which returns each change once; anybody may read.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._days = 0.0
        self._lock = threading.Lock()
        # By metric and set of tags: time of the newest value and job of the last received; and
        # the time of the newest job without a value, which few series have.
        self._found: dict[int, dict[int, tuple[int, int]]] = {}
        self._absent: dict[int, dict[int, int]] = {}
        self._tags: dict[int, Tags] = {}
        self._metrics = KnownMetrics()
        self._changes: dict[int, int] = {}
        self._version: int | None = None
        # Jobs up to this id have been read, and those up to the other are too old.
        self._through = 0
        self._after = 0
        self._forgotten_ns = 0
        self._rewrites = 0
        self._is_over = False

    def prepare(self, *, now_ns: int, days: float) -> None:
        """Read what there is, the first time, or what is older, if `days` is more than before.

        It reads some metrics at a time, so that nobody has to wait for it. Jobs that were received
        more than `days` ago are left out, and forgotten within a day.
        """
        is_first = self._version is None
        if not is_first and days <= self._days:
            return
        self._days = max(days, self._days)
        with self._reader.view() as view:
            version = view.contexts.newest_version() if self._version is None else self._version
            through = view.contexts.last_job() if is_first else self._after
            self._forget_old(view, now_ns=now_ns)
            if is_first:
                self._metrics = view.metrics
        for some in in_chunks(self._metrics.by_id, size=_METRICS):
            with self._reader.view() as view:
                found = view.values.latest_between(some, after=self._after, through=through)
                self._take(view, found, Followed())
            for metric_id in some:
                self._changes[metric_id] = self._changes.get(metric_id, 0) + 1
        if is_first:
            self._version, self._through = version, through

    def follow(self, view: View, *, now_ns: int) -> Followed:
        """Read what has changed since the last time; call `prepare` first."""
        assert self._version is not None, "prepare comes first"  # noqa: S101 - for mypy
        followed = Followed(metrics=self._follow_metrics(view.metrics))
        old: dict[int, ChangedJob] = {}
        newest = self._through
        while changed := view.contexts.changed(after=self._version, limit=_CHANGES):
            self._version = changed[-1].version
            newest = max(newest, *(item.job_id for item in changed))
            old.update((item.job_id, item) for item in changed if item.job_id <= self._through)
        if old:
            followed.is_rewritten = True
            self._take_again(view, old, followed)
        if newest > self._through:
            found = view.values.latest_between(
                self._metrics.by_id, after=self._through, through=newest
            )
            self._take(view, found, followed)
            self._through = newest
        if now_ns - self._forgotten_ns > _DAY_NS:
            followed.series |= self._forget_old(view, now_ns=now_ns)
        with self._lock:
            self._rewrites += followed.is_rewritten
            for metric_id in {series[0] for series in followed.series} | followed.metrics:
                self._changes[metric_id] = self._changes.get(metric_id, 0) + 1
        return followed

    @property
    def metrics(self) -> Mapping[int, MetricRow]:
        """The metrics, by id."""
        return self._metrics.by_id

    @property
    def first_id(self) -> int:
        """Jobs up to this id are left out: they are too old."""
        return self._after

    @property
    def last_id(self) -> int:
        """Jobs after this id have not been read yet."""
        return self._through

    @property
    def rewrites(self) -> int:
        """How many times jobs that were known before have changed."""
        return self._rewrites

    def changes(self, metric_id: int) -> int:
        """Return how many times the result of `of_metric` has changed."""
        return self._changes.get(metric_id, 0)

    def of_metric(self, metric_id: int) -> dict[int, tuple[int, int]]:
        """Return time (ns) of the newest value and job of the last received, by set of tags."""
        with self._lock:
            return dict(self._found.get(metric_id, {}))

    def newest_ns(self, series: Series) -> int | None:
        """Return the time of the newest value of a series, or None if it has none."""
        found = self._found.get(series[0], {}).get(series[1])
        return None if found is None else found[0]

    def absent_ns(self, series: Series) -> int | None:
        """Return the time of the newest job of a series that has no value, or None."""
        return self._absent.get(series[0], {}).get(series[1])

    def all_series(self) -> set[Series]:
        """Find the series that have a value, or a job without one."""
        with self._lock:
            return {
                (metric_id, tag_set_id)
                for sets in (self._found, self._absent)
                for metric_id, of_metric in sets.items()
                for tag_set_id in of_metric
            }

    def tags(self, tag_set_id: int) -> Tags:
        """Return the tags of a set that a series has or had."""
        return self._tags[tag_set_id]

    def _follow_metrics(self, metrics: KnownMetrics) -> set[int]:
        """Keep the metrics; return those that are new or have changed."""
        before, self._metrics = self._metrics, metrics
        if metrics.version == before.version:
            return set()
        for metric_id in before.by_id.keys() - metrics.by_id.keys():
            with self._lock:
                for known in (self._found, self._absent, self._changes):
                    known.pop(metric_id, None)
        return {row.metric_id for row in metrics.by_id.values() if row.version > before.version}

    def _take(self, view: View, found: Iterable[Latest], followed: Followed) -> None:
        """Keep the newest values among some jobs; values older than the known ones are ignored."""
        rows = list(found)
        unknown = {row.tag_set_id for row in rows} - self._tags.keys()
        self._tags.update(view.contexts.tags(unknown))
        with self._lock:
            followed.series.update(
                (row.metric_id, row.tag_set_id) for row in rows if self._keep(row)
            )
            followed.series |= self._keep_newest()

    def _keep(self, row: Latest) -> bool:
        """Keep what is newer than what is known; tell whether anything is."""
        is_new = False
        if row.absent_ns:
            gaps = self._absent.setdefault(row.metric_id, {})
            if row.absent_ns > gaps.get(row.tag_set_id, 0):
                gaps[row.tag_set_id] = row.absent_ns
                is_new = True
        if row.job_id:
            sets = self._found.setdefault(row.metric_id, {})
            before = sets.get(row.tag_set_id, (0, 0))
            after = (max(before[0], row.time_ns), max(before[1], row.job_id))
            if after != before:
                sets[row.tag_set_id] = after
                is_new = True
        return is_new

    def _take_again(self, view: View, old: Mapping[int, ChangedJob], followed: Followed) -> None:
        """Read changed jobs again, and find the newest values of the series they were in."""
        times = {item.time_ns for item in old.values()}
        lost = self._series_where(lambda time_ns, job_id: time_ns in times or job_id in old)
        lost |= self._absent_where(times.__contains__)
        for metric_id, tag_set_id in lost:
            latest = view.values.latest_of(metric_id, tag_set_id, after=self._after)
            with self._lock:
                self._found.get(metric_id, {}).pop(tag_set_id, None)
                self._absent.get(metric_id, {}).pop(tag_set_id, None)
                if latest is not None:
                    self._keep(latest)
        followed.series.update(lost)
        kept = [item.job_id for item in old.values() if item.tag_set_id is not None]
        self._take(view, view.values.latest_among(self._metrics.by_id, kept), followed)

    def _forget_old(self, view: View, *, now_ns: int) -> set[Series]:
        first = view.contexts.first_since(now_ns - int(self._days * _DAY_NS))
        self._after = view.contexts.last_job() if first is None else first - 1
        self._forgotten_ns = now_ns
        with self._lock:
            dropped = self._drop_where(lambda _, job_id: job_id <= self._after)
            return dropped | self._drop_absent(now_ns - int(self._days * _DAY_NS))

    def _keep_newest(self) -> set[Series]:
        """Drop the oldest series if there are too many; return those."""
        count = sum(map(len, self._found.values())) + sum(map(len, self._absent.values()))
        if count <= MOST_SERIES:
            return set()
        if not self._is_over:
            self._is_over = True
            _log.warning("too many series to watch: those with the oldest values are left out")
        times = [item[0] for sets in self._found.values() for item in sets.values()]
        times += [time_ns for gaps in self._absent.values() for time_ns in gaps.values()]
        # Fewer than the most, or every new value would drop a series.
        oldest = sorted(times)[count - MOST_SERIES * 3 // 4]
        return self._drop_where(lambda time_ns, _: time_ns < oldest) | self._drop_absent(oldest)

    def _series_where(self, suits: Callable[[int, int], bool]) -> set[Series]:
        """Find the series whose time and job match."""
        return {
            (metric_id, tag_set_id)
            for metric_id, sets in self._found.items()
            for tag_set_id, (time_ns, job_id) in sets.items()
            if suits(time_ns, job_id)
        }

    def _absent_where(self, suits: Callable[[int], bool]) -> set[Series]:
        """Find the series whose newest job without a value has a time that matches."""
        return {
            (metric_id, tag_set_id)
            for metric_id, gaps in self._absent.items()
            for tag_set_id, time_ns in gaps.items()
            if suits(time_ns)
        }

    def _drop_where(self, suits: Callable[[int, int], bool]) -> set[Series]:
        dropped = self._series_where(suits)
        for metric_id, tag_set_id in dropped:
            del self._found[metric_id][tag_set_id]
        return dropped

    def _drop_absent(self, oldest_ns: int) -> set[Series]:
        dropped = self._absent_where(lambda time_ns: time_ns < oldest_ns)
        for metric_id, tag_set_id in dropped:
            del self._absent[metric_id][tag_set_id]
        return dropped
