"""Where the newest value of each metric is, for each set of tags: kept in memory, followed up."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from squash_api.index.derived import ChangedJob, changed_jobs, newest_version, tags_of_sets
from squash_api.index.latest import (
    Latest,
    first_job_since,
    last_indexed_job,
    latest_among,
    latest_between,
    latest_of,
)
from squash_api.record.metrics import MetricRow, metrics_since
from squash_api.record.record import Record

MOST_SERIES = 100_000
"""So many metrics and sets of tags are kept; of more, those with the newest values."""

_DAY_NS = 86_400 * 10**9
_CHANGES = 1000

_log = structlog.get_logger(__name__)

# A metric and a set of tags, by their ids.
Series = tuple[int, int]


@dataclass(slots=True)
class Followed:
    """What has changed: series with another newest value, and metrics with another unit or name.

    `is_rewritten` says that jobs that were known before are not what they were.
    """

    series: set[Series] = field(default_factory=set)
    metrics: set[int] = field(default_factory=set)
    is_rewritten: bool = False


class LatestValues:
    """Follows the index of measurements, reading only what is new. Safe to use from many threads.

    `follow` is for one user, who passes on what has changed; everybody may read.

    Parameters
    ----------
    record
        Where the jobs are.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._days = 0.0
        self._lock = threading.Lock()
        self._found: dict[int, dict[int, tuple[int, int]]] = {}
        self._tags: dict[int, dict[str, str]] = {}
        self._metrics: dict[int, MetricRow] = {}
        self._changes: dict[int, int] = {}
        self._metrics_version = 0
        self._version: int | None = None
        # Jobs up to this id have been read, and those up to the other are too old.
        self._through = 0
        self._after = 0
        self._forgotten_ns = 0
        self._rewrites = 0
        self._is_over = False

    def prepare(self, *, now_ns: int, days: float) -> None:
        """Read what there is, the first time, or what is older, if `days` is more than before.

        It goes metric by metric, so that nobody has to wait for it.

        Parameters
        ----------
        days
            Jobs that were received longer ago are left out, and forgotten within a day.
        """
        is_first = self._version is None
        if not is_first and days <= self._days:
            return
        self._days = max(days, self._days)
        with self._record.read() as connection:
            version = newest_version(connection) if self._version is None else self._version
            through = last_indexed_job(connection) if is_first else self._after
            self._forget_old(connection, now_ns=now_ns)
            if is_first:
                self._learn_metrics(connection)
        for metric_id in sorted(self._metrics):
            with self._record.read() as connection:
                found = latest_between(connection, [metric_id], after=self._after, through=through)
                self._take(connection, found, Followed())
            self._changes[metric_id] = self._changes.get(metric_id, 0) + 1
        if is_first:
            self._version, self._through = version, through

    def follow(self, connection: Connection, *, now_ns: int) -> Followed:
        """Take in what has changed since the last time; `prepare` comes first."""
        assert self._version is not None, "prepare comes first"  # noqa: S101 - for mypy
        followed = Followed(metrics=self._learn_metrics(connection))
        old: dict[int, ChangedJob] = {}
        newest = self._through
        while changed := changed_jobs(connection, after=self._version, limit=_CHANGES):
            self._version = changed[-1].version
            newest = max(newest, *(item.job_id for item in changed))
            old.update((item.job_id, item) for item in changed if item.job_id <= self._through)
        ids = sorted(self._metrics)
        if old:
            followed.is_rewritten = True
            self._take_again(connection, ids, old, followed)
        if newest > self._through:
            found = latest_between(connection, ids, after=self._through, through=newest)
            self._take(connection, found, followed)
            self._through = newest
        if now_ns - self._forgotten_ns > _DAY_NS:
            followed.series |= self._forget_old(connection, now_ns=now_ns)
        with self._lock:
            self._rewrites += followed.is_rewritten
            for metric_id in {series[0] for series in followed.series} | followed.metrics:
                self._changes[metric_id] = self._changes.get(metric_id, 0) + 1
        return followed

    @property
    def metrics(self) -> Mapping[int, MetricRow]:
        """The metrics, by id."""
        return self._metrics

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
        """How often jobs that were known before have changed."""
        return self._rewrites

    def changes(self, metric_id: int) -> int:
        """Return how often what `of_metric` gives has changed."""
        return self._changes.get(metric_id, 0)

    def of_metric(self, metric_id: int) -> dict[int, tuple[int, int]]:
        """Return time (ns) of the newest value, and job of the last received, by set of tags."""
        with self._lock:
            return dict(self._found.get(metric_id, {}))

    def newest_ns(self, series: Series) -> int | None:
        """Return the time of the newest value of a series, or None if it has none."""
        found = self._found.get(series[0], {}).get(series[1])
        return None if found is None else found[0]

    def tags(self, tag_set_id: int) -> Mapping[str, str]:
        """Return the tags of a set that a series has or had."""
        return self._tags[tag_set_id]

    def _learn_metrics(self, connection: Connection) -> set[int]:
        changed = set()
        for row in metrics_since(connection, self._metrics_version):
            self._metrics_version = row.version
            self._metrics[row.metric_id] = row
            changed.add(row.metric_id)
        return changed

    def _take(self, connection: Connection, found: Iterable[Latest], followed: Followed) -> None:
        """Take in the newest values among some jobs; older ones than are known change nothing."""
        rows = list(found)
        unknown = {row.tag_set_id for row in rows} - self._tags.keys()
        self._tags.update(tags_of_sets(connection, unknown))
        with self._lock:
            for row in rows:
                sets = self._found.setdefault(row.metric_id, {})
                before = sets.get(row.tag_set_id, (0, 0))
                after = (max(before[0], row.time_ns), max(before[1], row.job_id))
                if after != before:
                    sets[row.tag_set_id] = after
                    followed.series.add((row.metric_id, row.tag_set_id))
            followed.series |= self._keep_newest()

    def _take_again(
        self,
        connection: Connection,
        metric_ids: Sequence[int],
        old: Mapping[int, ChangedJob],
        followed: Followed,
    ) -> None:
        """Look anew for the newest values that jobs had which have changed, and at those jobs."""
        times = {item.time_ns for item in old.values()}
        lost = [
            (metric_id, tag_set_id)
            for metric_id, sets in self._found.items()
            for tag_set_id, (time_ns, job_id) in sets.items()
            if time_ns in times or job_id in old
        ]
        for metric_id, tag_set_id in lost:
            latest = latest_of(connection, metric_id, tag_set_id, after=self._after)
            with self._lock:
                if latest is None:
                    del self._found[metric_id][tag_set_id]
                else:
                    self._found[metric_id][tag_set_id] = (latest.time_ns, latest.job_id)
        followed.series.update(lost)
        kept = [item.job_id for item in old.values() if item.tag_set_id is not None]
        self._take(connection, latest_among(connection, metric_ids, kept), followed)

    def _forget_old(self, connection: Connection, *, now_ns: int) -> set[Series]:
        first = first_job_since(connection, now_ns - int(self._days * _DAY_NS))
        self._after = last_indexed_job(connection) if first is None else first - 1
        self._forgotten_ns = now_ns
        with self._lock:
            old = {
                (metric_id, tag_set_id)
                for metric_id, sets in self._found.items()
                for tag_set_id, (_, job_id) in sets.items()
                if job_id <= self._after
            }
            for metric_id, tag_set_id in old:
                del self._found[metric_id][tag_set_id]
        return old

    def _keep_newest(self) -> set[Series]:
        """Keep the memory within bounds; return what is left out for it."""
        count = sum(map(len, self._found.values()))
        if count <= MOST_SERIES:
            return set()
        if not self._is_over:
            self._is_over = True
            _log.warning("too many series to watch: those with the oldest values are left out")
        times = sorted(item[0] for sets in self._found.values() for item in sets.values())
        # Somewhat fewer, or every value would begin this anew.
        oldest = times[count - MOST_SERIES * 3 // 4]
        dropped = {
            (metric_id, tag_set_id)
            for metric_id, sets in self._found.items()
            for tag_set_id, (time_ns, _) in sets.items()
            if time_ns < oldest
        }
        for metric_id, tag_set_id in dropped:
            del self._found[metric_id][tag_set_id]
        return dropped
