"""The service in this process, as a browser meets it."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.support.calls import Calls, log_in
from tests.support.chromium import find_chromium, running
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


@pytest.fixture(scope="session")
def chromium_binary() -> str:
    """The binary; without it the test is skipped, or fails where CI demands it."""
    binary = find_chromium()
    if binary is not None:
        return binary
    message = "install Debian's package chromium"
    if "chromium" in os.environ.get("SQUASH_TEST_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def chromium(chromium_binary: str) -> Iterator[Browser]:
    """A running Chromium; `watched_page` opens pages in it."""
    with running(chromium_binary) as browser:
        yield browser
