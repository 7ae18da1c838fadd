"""Fixtures that several parts of the tests share."""

import os
import uuid
from collections.abc import Iterator

import pytest
import structlog

from squash_api.settings import InfluxTarget
from tests.support.influxd import Influxd, find_influxd


@pytest.fixture(scope="session")
def influxd_binary() -> str:
    """The binary; without it the test is skipped, or fails where CI demands it."""
    binary = find_influxd()
    if binary is not None:
        return binary
    message = "install Debian's package influxdb"
    if "influxd" in os.environ.get("SQUASH_TEST_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def influxd(influxd_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """A running influxd for all tests; who stops it starts it again."""
    assert influxd_binary
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        yield server


@pytest.fixture
def influx_target(influxd: Influxd) -> InfluxTarget:
    """A database of this test's own, which does not exist yet, in the shared influxd."""
    return InfluxTarget(url=influxd.url, database=f"test_{uuid.uuid4().hex}")


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Log without colours; structlog's own rendering of a traceback takes seconds."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])
