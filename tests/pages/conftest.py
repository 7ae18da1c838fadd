"""The service in this process, as a browser meets it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.calls import Calls, log_in
from tests.support.in_process import service

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[httpx.Client]:
    """A running service without InfluxDB, and a client that prefers HTML."""
    with service(tmp_path) as client:
        client.headers.update(BROWSER)
        yield client


@pytest.fixture
def calls(browser: httpx.Client) -> Calls:
    """The same service, and a registered user to call its API as."""
    return log_in(browser, "ada")


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One service for all tests of a module that leave each other alone."""
    with service(tmp_path_factory.mktemp("service")) as client:
        client.headers.update(BROWSER)
        yield client
