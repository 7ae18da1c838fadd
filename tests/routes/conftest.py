"""The service in this process, as a client meets it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.calls import Calls, log_in
from tests.support.in_process import service


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """A running service without InfluxDB; nobody is logged in."""
    with service(tmp_path) as client:
        yield client


@pytest.fixture
def calls(client: httpx.Client) -> Calls:
    """The service, and a registered user to call it as."""
    return log_in(client, "ada")


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One service for all tests of a module that leave each other alone."""
    with service(tmp_path_factory.mktemp("service")) as client:
        yield client


@pytest.fixture(scope="module")
def shared_calls(shared_client: httpx.Client) -> Calls:
    """The shared service, and a registered user to call it as."""
    return log_in(shared_client, "ada")
