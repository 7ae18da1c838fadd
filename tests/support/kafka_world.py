"""A record and its outlets to Kafka, done round by round, for tests."""

from pathlib import Path
from typing import Any

import httpx
import orjson

from squash_api.delivery.kafka import KafkaOutlet
from squash_api.delivery.kafka_client import KafkaClient
from squash_api.delivery.outlet import GATHER
from squash_api.delivery.reader import NO_WAIT
from squash_api.index.jobs import delete_job, post_measurement
from squash_api.record.deliveries import TargetRow, get_target
from squash_api.record.jobs import current_revision
from squash_api.site import Site
from tests.support.builders import (
    add_test_user,
    make_body,
    make_settings,
    measured,
    store_job,
    with_record,
)
from tests.support.definitions import ADA
from tests.support.metrics_packages import write_metrics_package
from tests.support.mock_kafka import MockKafka

METRICS = """
PA1: {description: Repeatability., unit: mmag}
AM1: {description: Astrometry., unit: marcsec}
"""
SPECS = """
---
name: PA1.minimum
threshold: {operator: "<=", unit: mmag, value: 8}
tags: [minimum]
---
name: PA1.design
threshold: {operator: "<=", unit: mmag, value: 5}
tags: [design]
"""
NOW_NS = 1_795_000_000_123_456_789
_UNITS = {"PA1": "mmag", "AM1": "marcsec"}


class FakeRegistry:
    """A schema registry in memory; `refusal` is what it answers to everything.

    Unless `is_compatible`, it takes no schema.
    """

    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.subjects: dict[str, list[int]] = {}
        self.refusal: httpx.Response | Exception | None = None
        self.headers = httpx.Headers()
        self.is_compatible = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.headers = request.headers
        if isinstance(self.refusal, Exception):
            raise self.refusal
        if self.refusal is not None:
            return self.refusal
        _, _, subject, *_ = request.url.path.split("/")
        if request.method == "GET":
            versions = self.subjects.get(subject)
            if versions is None:
                return httpx.Response(404, json={"error_code": 40401, "message": "no subject"})
            text = orjson.dumps(self.schemas[versions[-1]]).decode()
            return httpx.Response(200, json={"subject": subject, "schema": text})
        if not self.is_compatible:
            return httpx.Response(409, json={"error_code": 409, "message": "not compatible"})
        self.schemas.append(orjson.loads(orjson.loads(request.read())["schema"]))
        self.subjects.setdefault(subject, []).append(len(self.schemas) - 1)
        return httpx.Response(200, json={"id": len(self.schemas) - 1})


class KafkaWorld:
    """A service without its threads, which sends to a mock cluster."""

    def __init__(
        self, folder: Path, kafka: MockKafka, *, wait_s: float = 5.0, **settings: Any
    ) -> None:
        self.kafka = kafka
        self.registry = FakeRegistry()
        package = write_metrics_package(folder, metrics=METRICS, specs=SPECS)
        made = make_settings(
            folder, kafka_brokers=(kafka.address,), specs=(package,), url="https://sq.example"
        )
        self.settings = with_record(made.model_copy(update=settings))
        self.wait_s = wait_s
        self.site = Site(self.settings, is_made=True)
        self.site.definitions.sync_yaml(self.settings.specs)
        add_test_user(self.site.record)
        self.outlets = self.new_outlets()

    def new_outlets(self) -> dict[str, KafkaOutlet]:
        """Make the outlets that a process has."""
        transport = httpx.MockTransport(self.registry)
        found: dict[str, KafkaOutlet] = {}
        for outlet in self.site.outlets(self.settings.outlets):
            assert isinstance(outlet, KafkaOutlet)
            target = outlet._target
            client = KafkaClient(target, wait_s=self.wait_s, is_over=outlet.is_stopping)
            found[target.name] = KafkaOutlet(
                target, outlet._sources, client=client, transport=transport
            )
        return found

    def close(self) -> None:
        """Close all."""
        for outlet in self.outlets.values():
            outlet.close()
        self.site.close()

    def drain(self) -> None:
        """Send until there is nothing to send, or nothing can be sent."""
        for outlet in self.outlets.values():
            while outlet.round() in (NO_WAIT, GATHER):
                pass

    def target(self, name: str = "kafka") -> TargetRow:
        """Return what the record says of a target."""
        with self.site.record.read() as connection:
            return get_target(connection, name)

    def add(self, values: dict[str, Any], **meta: Any) -> int:
        """Store a job that measured these metrics of the package `validate`."""
        measurements = [
            measured(f"validate.{name}", value, _UNITS[name]) for name, value in values.items()
        ]
        with self.site.record.read() as connection:
            revision = current_revision(connection)
        return store_job(
            self.site.record,
            body=make_body(*measurements, **meta),
            revision=revision,
            received_ns=NOW_NS,
            asked_ns=NOW_NS,
        )

    def put(self, job_id: int, metric: str, value: float | None) -> None:
        """Add a measurement to a job, or replace or withdraw one."""
        post_measurement(
            self.site.record,
            self.site.metrics,
            job_id=job_id,
            document=measured(metric, value, _UNITS[metric.partition(".")[2]]),
            account=ADA,
        )

    def delete(self, job_id: int) -> None:
        """Delete a job."""
        delete_job(self.site.record, job_id, account=ADA)
