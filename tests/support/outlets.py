"""An outlet to a faked InfluxDB, done round by round, and what the record says of its target."""

import httpx
import pytest
from pydantic import SecretStr

from squash_api.delivery import batches
from squash_api.delivery import influxdb as influxdb_outlet
from squash_api.delivery.batches import PointMaker
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.delivery.outlet import GATHER
from squash_api.delivery.reader import NO_WAIT
from squash_api.index.deriver import Deriver
from squash_api.record.deliveries import (
    JobDelivery,
    TargetRow,
    backlogs,
    get_target,
    job_deliveries,
)
from squash_api.record.jobs import get_job
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.settings import InfluxTarget
from tests.support.builders import make_body, measured, store_job
from tests.support.fake_influxdb import FakeInfluxDB

CONFLICT = 'partial write: field type conflict: input field "a" dropped=1'


def new_outlet(record: Record, influxdb: FakeInfluxDB, name: str = "default") -> InfluxOutlet:
    metrics = Metrics(record, Schema())
    deriver = Deriver(record, metrics)
    return InfluxOutlet(
        InfluxTarget(name=name, url="http://influx.invalid", token=SecretStr("t0k")),
        record,
        PointMaker(record, metrics, deriver, squash_url="https://squash.example/api"),
        transport=httpx.MockTransport(influxdb),
    )


def new_jobs(record: Record, count: int = 1, *, value: float | None = 1.5) -> list[int]:
    return [
        store_job(
            record,
            asked_ns=1_000 + number,
            body=make_body(measured("p.a", value), instrument="HSC"),
            is_deliverable=value is not None,
            new_units={"p.a": "mmag"} if number == 0 else {},
        )
        for number in range(count)
    ]


def step(outlet: InfluxOutlet) -> float:
    """Do one round; return the longest wait before the next, in s."""
    return outlet.round().longest_s


def drain(outlet: InfluxOutlet) -> None:
    """Do rounds until there is nothing to do."""
    while outlet.round() in (NO_WAIT, GATHER):
        pass


def target(record: Record, name: str = "default") -> TargetRow:
    with record.read() as connection:
        return get_target(connection, name)


def waiting(record: Record, name: str = "default") -> int:
    with record.read() as connection:
        (found,) = backlogs(connection, targets=[name])
    return found.waiting


def state(record: Record, job: int, name: str = "default") -> JobDelivery:
    with record.read() as connection:
        row = get_job(connection, job)
        assert row is not None
        (found,) = job_deliveries(connection, row, targets=[name])
    return found


def batches_of(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batches, influxdb_outlet):
        monkeypatch.setattr(module, "MOST_JOBS", jobs)
