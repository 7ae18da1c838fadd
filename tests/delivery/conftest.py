"""An outlet to an InfluxDB that fails on demand."""

import pytest

from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.record.record import Record
from tests.support.fake_influxdb import FakeInfluxDB
from tests.support.outlets import new_outlet


@pytest.fixture
def influxdb() -> FakeInfluxDB:
    return FakeInfluxDB()


@pytest.fixture
def outlet(record: Record, influxdb: FakeInfluxDB) -> InfluxOutlet:
    return new_outlet(record, influxdb)
