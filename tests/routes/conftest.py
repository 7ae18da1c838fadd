"""The service in this process, as a client meets it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from squash_api.app import create_app
from tests.support.builders import make_settings
from tests.support.calls import Calls, log_in


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A running service without InfluxDB; nobody is logged in."""
    with TestClient(create_app(make_settings(tmp_path)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def calls(client: TestClient) -> Calls:
    """The service, and a registered user to call it as."""
    return log_in(client, "ada")
