"""The figures of this process: counters and gauges, for Prometheus and for the service's points.

Whatever is in the points comes from what `/prometheus` shows.
"""

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import isfinite, nan
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from squash_api.errors import RecordUnavailableError
from squash_api.ingest.ingest import Ingested
from squash_api.record.deliveries import Backlog
from squash_api.record.record import Record
from squash_api.record.webhooks import Health
from squash_api.schema import watch as names

LATELY_S = 600.0
"""What has been refused is counted over this time."""

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_NS = 10**9
_REQUESTS = "squash_request_seconds"
_REFUSED = "squash_refused_connections"
_OF_TARGETS = {
    "squash_delivery_waiting": "Jobs not yet delivered.",
    "squash_delivery_oldest_seconds": "Age of the oldest job not yet delivered.",
    "squash_delivery_quarantined": "Points that InfluxDB permanently refused.",
    "squash_delivery_refused_lately": "Of these, those of the last hour.",
    "squash_delivery_up": "1 unless something holds up delivery.",
}
_OF_RECEIVERS = {
    "squash_receiver_waiting": "Deliveries that wait to be sent to a webhook.",
    "squash_receiver_given_up": "Deliveries to a webhook that were given up.",
    "squash_receiver_up": "1 unless sending to a webhook, Slack or GitHub fails.",
}
# A field of the points: a gauge, and what it is divided by, a number or another gauge. Those that a
# process does not have are left out.
_GAUGES: Mapping[str, tuple[str, float | str]] = {
    names.CONNECTIONS: ("squash_connections", 1),
    names.CONNECTIONS_PERCENT: ("squash_connections", "squash_most_connections"),
    names.READERS: ("squash_readers", 1),
    names.READERS_MISSING_S: ("squash_readers_missing_seconds", 1),
    names.READS_RUNNING: ("squash_reads_running", 1),
    names.READS_WAITING: ("squash_reads_waiting", 1),
    names.STREAMS: ("squash_streams", 1),
    names.LOOP_LAG_S: ("squash_loop_lag_seconds", 1),
    names.RECORD_UP: ("squash_record_up", 1),
    names.DISK_FREE_GB: ("squash_record_disk_free_bytes", 1e9),
    names.POOL: ("squash_record_connections", 1),
    names.POOL_PERCENT: ("squash_record_connections", "squash_record_most_connections"),
    names.DERIVING_S: ("squash_deriving_oldest_seconds", 1),
    names.MEMORY_MB: ("process_resident_memory_bytes", 1e6),
}
# Clients log in again by themselves when their token has ended.
_LOGS_IN_AGAIN = "401"
_Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


class Figures:
    """The counters and gauges of one process, in a registry of their own; `clock` is in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        # Memory, open files and the start, under the names that all programs use.
        ProcessCollector(registry=self._registry)
        self._requests = Histogram(
            _REQUESTS,
            "Time from request to reply.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        jobs = Counter("squash_jobs", "Jobs accepted.", ("outcome",), registry=self._registry)
        values = Counter(
            "squash_values", "Measurements of accepted jobs.", ("outcome",), registry=self._registry
        )
        self._refused = Counter(
            _REFUSED,
            "Connections that the service has ended, by the code of the reason.",
            ("code",),
            registry=self._registry,
        )
        # Looking up a child by its labels costs more than counting.
        self._stored, self._repeated = map(jobs.labels, ("stored", "repeated"))
        self._kept, self._absent, self._skipped = map(values.labels, ("kept", "absent", "skipped"))
        self._by_route: dict[tuple[str, str, int], Histogram] = {}
        self._by_target = [
            Gauge(*each, ("target",), registry=self._registry) for each in _OF_TARGETS.items()
        ]
        self._by_receiver = [
            Gauge(*each, ("receiver",), registry=self._registry) for each in _OF_RECEIVERS.items()
        ]
        self._deriving = Gauge(
            "squash_deriving_oldest_seconds",
            "Age of the oldest job not yet derived.",
            registry=self._registry,
        )
        # All counters begin with 0.
        self._counted: deque[tuple[float, Mapping[str, float]]] = deque()
        self._counted.append((clock(), _counts({})))

    def count_request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request under the path of its route, never under the path of its URL."""
        key = (method, route, status)
        child = self._by_route.get(key)
        if child is None:
            child = self._by_route[key] = self._requests.labels(method, route, str(status))
        child.observe(seconds)

    def count_refusal(self, code: str) -> None:
        """Count a connection that was ended because of its client."""
        self._refused.labels(code).inc()

    def observe(self, name: str, documentation: str, ask: Callable[[], float]) -> None:
        """Add a gauge of this process, whose value is asked for when the figures are."""
        Gauge(name, documentation, registry=self._registry).set_function(ask)

    def count_job(self, ingested: Ingested) -> None:
        """Count an accepted job and what became of its measurements."""
        if ingested.stored.is_repeat:
            self._repeated.inc()
            return
        outcome = ingested.outcome
        self._stored.inc()
        self._kept.inc(outcome.kept)
        self._absent.inc(len(outcome.absent))
        self._skipped.inc(len(outcome.skipped))

    def learn(self, backlogs: Sequence[Backlog], *, underived_ns: int | None, now_ns: int) -> None:
        """Take what the record says: what waits for each target, and to be derived since when."""
        for item in backlogs:
            values = (
                item.waiting,
                oldest_s(item, now_ns=now_ns),
                item.quarantined,
                item.refused_lately,
                0 if item.trouble else 1,
            )
            for gauge, value in zip(self._by_target, values, strict=True):
                gauge.labels(item.target).set(value)
        self._deriving.set(0 if underived_ns is None else max((now_ns - underived_ns) / _NS, 0.0))

    def learn_receivers(self, found: Mapping[str, Health]) -> None:
        """Take how sending is to each receiver, by its name; of others nothing is left."""
        for gauge in self._by_receiver:
            gauge.clear()
        for name, item in found.items():
            values = (item.waiting, item.given_up, 0 if item.trouble else 1)
            for gauge, value in zip(self._by_receiver, values, strict=True):
                gauge.labels(name).set(value)

    def expose(self) -> bytes:
        """Write everything as text."""
        return generate_latest(self._registry)

    def fields(self) -> dict[str, float]:
        """Return the fields of this minute's point; for one thread at a time, once a minute."""
        samples: _Samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self._registry.collect()
            for sample in family.samples
        }
        found: dict[str, float] = {}
        for field, (gauge, per) in _GAUGES.items():
            value = samples.get((gauge, ()))
            if isinstance(per, str):
                whole = samples.get((per, ()), 0)
                value = None if value is None or not whole else 100 * value / whole
            elif value is not None:
                value /= per
            if value is not None and isfinite(value):
                found[field] = value
        if "squash_connections" in {name for name, _ in samples}:
            found |= self._lately_counted(_counts(samples))
        return found

    def _lately_counted(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Return what has been counted lately, and how many jobs were accepted in a second."""
        now_s = self._clock()
        before_s, before = self._counted[-1]
        self._counted.append((now_s, counts))
        while self._counted[1][0] <= now_s - LATELY_S:
            self._counted.popleft()
        first = self._counted[0][1]
        jobs = counts[names.JOBS_PER_S] - before[names.JOBS_PER_S]
        found = {name: count - first[name] for name, count in counts.items()}
        return {**found, names.JOBS_PER_S: jobs / max(now_s - before_s, 1.0)}


def oldest_s(item: Backlog, *, now_ns: int) -> float:
    """Return for how long the oldest job that waits has done so, in s; 0 if none does.

    While a target is filled again, all jobs wait since that began.
    """
    if item.oldest_ns is None:
        return 0.0
    since_ns = max(item.oldest_ns, item.refill_since_ns or 0)
    return max((now_ns - since_ns) / _NS, 0.0)


def _counts(samples: _Samples) -> dict[str, float]:
    """Return what has been counted since the start, by field of the points."""
    found = dict.fromkeys(
        (
            names.JOBS_PER_S,
            names.FAILED,
            names.REFUSED,
            names.REFUSED_JOBS,
            names.LIMITED,
            names.REFUSED_CONNECTIONS,
        ),
        0.0,
    )
    for (name, labels), value in samples.items():
        said = dict(labels)
        if name == f"{_REQUESTS}_count":
            for field in _fields_of_request(said):
                found[field] += value
        elif name == f"{_REFUSED}_total":
            found[names.REFUSED_CONNECTIONS] += value
        elif name == "squash_jobs_total" and said["outcome"] == "stored":
            found[names.JOBS_PER_S] += value
    return found


def _fields_of_request(said: Mapping[str, str]) -> Sequence[str]:
    """Return the fields that requests with these labels count for."""
    status = said["status"]
    if status == "429":
        return (names.LIMITED,)
    if status.startswith("5"):
        return (names.FAILED,)
    if not status.startswith("4"):
        return ()
    is_job = said["method"] == "POST" and said["route"] == "/job" and status != _LOGS_IN_AGAIN
    return (names.REFUSED, names.REFUSED_JOBS) if is_job else (names.REFUSED,)


def observe_record(figures: Figures, record: Record) -> None:
    """Let the figures have how a record is."""
    figures.observe(
        "squash_record_up",
        "1 unless the record cannot be written.",
        lambda: 0.0 if record.trouble else 1.0,
    )
    figures.observe(
        "squash_record_connections",
        "Connections to the record's database in use.",
        lambda: record.pool()[0],
    )
    figures.observe(
        "squash_record_most_connections",
        "Most connections to the record's database.",
        lambda: record.pool()[1],
    )
    if record.only_reads is not None:
        figures.observe(
            "squash_replica_lag_seconds",
            "How old the replica is that is read; not a number if that is unknown.",
            partial(_lag_s, record),
        )
    if record.file is not None:
        figures.observe(
            "squash_record_disk_free_bytes",
            "Free space on the disk of the record.",
            partial(_free_bytes, record.file.path.parent),
        )


def _lag_s(record: Record) -> float:
    with suppress(RecordUnavailableError):
        found = record.replication()
        return nan if found is None or found.lag_s is None else found.lag_s
    return nan


def _free_bytes(folder: Path) -> float:
    """Return the free space of a disk for this user; not a number if the system does not tell."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free
    return nan
