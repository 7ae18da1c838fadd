"""The real service and a real influxd, put together."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.influxd import Influxd
from tests.support.records import keeping
from tests.support.service import Service
from tests.support.site import Site, new_package

MakeSite = Callable[..., Site]


@pytest.fixture(scope="module")
def make_site(influxd: Influxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeSite]:
    """Start services with a record, a database and variables of their own; they end by themselves.

    Without other words a service delivers to the influxd of all tests.
    """
    with ExitStack() as stack:

        def make(server: Influxd = influxd, **environment: str) -> Site:
            folder: Path = tmp_path_factory.mktemp("service")
            database = f"site_{uuid.uuid4().hex}"
            variables = {"SQUASH_INFLUX_URL": server.url, "SQUASH_INFLUX_DATABASE": database}
            service = stack.enter_context(Service(folder, **(variables | environment)))
            return stack.enter_context(Site(service, server, database))

        yield make


@pytest.fixture(scope="session")
def site(
    record_engine: str, influxd: Influxd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """One service for all tests that leave it running and look at their own package only."""
    database = f"site_{uuid.uuid4().hex}"
    folder = tmp_path_factory.mktemp(f"service-{record_engine}")
    environment = {"SQUASH_INFLUX_URL": influxd.url, "SQUASH_INFLUX_DATABASE": database}
    with keeping():
        service = Service(folder, **environment)
    with service, Site(service, influxd, database) as site:
        yield site


@pytest.fixture
def package() -> str:
    """A verification package of this test's own."""
    return new_package()
