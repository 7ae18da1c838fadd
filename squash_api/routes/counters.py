"""The service's own counters and gauges, in Prometheus' text format."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from squash_api.ingest.ingest import Ingested
from squash_api.record.deliveries import Backlog

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Counters:
    """The counters and gauges of one service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "squash_request_seconds",
            "Time from request to reply.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._jobs = Counter("squash_jobs", "Jobs accepted.", ("outcome",), registry=self._registry)
        self._values = Counter(
            "squash_values", "Measurements of accepted jobs.", ("outcome",), registry=self._registry
        )
        self._refused = Counter(
            "squash_refused_connections",
            "Connections that the service has ended, by the code of the reason.",
            ("code",),
            registry=self._registry,
        )
        # Looking up a child by its labels costs more than counting.
        self._stored, self._repeated = (
            self._jobs.labels(outcome) for outcome in ("stored", "repeated")
        )
        self._kept, self._absent, self._skipped = (
            self._values.labels(outcome) for outcome in ("kept", "absent", "skipped")
        )
        self._by_route: dict[tuple[str, str, int], Histogram] = {}
        self._waiting = self._gauge("squash_delivery_waiting", "Jobs not yet delivered.")
        self._age = self._gauge(
            "squash_delivery_oldest_seconds", "Age of the oldest job not yet delivered."
        )
        self._quarantined = self._gauge(
            "squash_delivery_quarantined", "Points that InfluxDB permanently refused."
        )
        self._up = self._gauge("squash_delivery_up", "1 unless something holds up delivery.")

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, ("target",), registry=self._registry)

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

    def expose(self, backlogs: list[Backlog]) -> bytes:
        """Write everything as text; what concerns delivery is set from `backlogs` first."""
        now_ns = time.time_ns()
        for item in backlogs:
            age_s = 0.0 if item.oldest_ns is None else (now_ns - item.oldest_ns) / 1e9
            self._waiting.labels(item.target).set(item.waiting)
            self._age.labels(item.target).set(max(age_s, 0.0))
            self._quarantined.labels(item.target).set(item.quarantined)
            self._up.labels(item.target).set(0 if item.trouble else 1)
        return generate_latest(self._registry)
