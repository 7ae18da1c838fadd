"""Fixtures of the tests of InfluxDB."""

from collections.abc import Iterator

import pytest

from squash_api.influx.client import InfluxClient
from squash_api.settings import InfluxTarget


@pytest.fixture
def client(influx_target: InfluxTarget) -> Iterator[InfluxClient]:
    """A client of the test's own database, which exists and is empty."""
    with InfluxClient(influx_target) as client:
        client.create_database()
        yield client
