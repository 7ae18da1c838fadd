import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from structlog.testing import capture_logs

from squash_api.app import create_app
from squash_api.errors import SettingsError
from squash_api.settings import InfluxTarget
from tests.support.builders import make_settings
from tests.support.calls import Calls, log_in
from tests.support.fake_influxdb import FakeInfluxDB
from tests.support.in_process import serving
from tests.support.site import wait_for

JOB = {"measurements": [{"metric": "p.a", "value": 1, "unit": "m"}]}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    """An application that has been made and not been started."""
    app = create_app(make_settings(tmp_path))
    yield app
    app.state.site.close()


@pytest.mark.parametrize("secret", [None, "", "x" * 31, "Ω" * 15])
def test_without_a_secret_of_32_bytes_there_is_no_service(
    tmp_path: Path, secret: str | None
) -> None:
    settings = make_settings(tmp_path, secret=None if secret is None else SecretStr(secret))
    with pytest.raises(SettingsError, match="SQUASH_SECRET"):
        create_app(settings)
    assert not list(tmp_path.iterdir())


def test_specifications_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        create_app(make_settings(tmp_path, specs=(tmp_path / "nowhere",)))


def test_a_refused_start_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(SettingsError):
        create_app(make_settings(tmp_path, specs=(tmp_path / "nowhere",)))
    assert set(threading.enumerate()) == before


def test_no_thread_is_left_at_the_end(tmp_path: Path) -> None:
    # Fixtures of other tests may have threads of the same names.
    before = set(threading.enumerate())
    settings = make_settings(tmp_path, influx_url="http://influx.invalid")
    app = create_app(settings, influx_transport=httpx.MockTransport(FakeInfluxDB()))
    with serving(app) as client:
        assert client.get("/healthz").status_code == 200
        expected = {"record-writer", "reader-deriver", "reader-default", "reader-events"}
        wait_for(
            lambda: expected <= {thread.name for thread in set(threading.enumerate()) - before}
        )
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not left & {"record-writer", "reader-deriver", "reader-default", "reader-events"}


def deliveries(tmp_path: Path, **settings: Any) -> list[str]:
    """Post a job, wait until it is done or the service has had a second, and return its lines."""
    influxdb = FakeInfluxDB()
    app = create_app(
        make_settings(tmp_path, **settings), influx_transport=httpx.MockTransport(influxdb)
    )
    with serving(app) as client:
        calls = log_in(client, "ada")
        job = calls("POST", "/job", JOB).json()["id"]
        for _ in range(100):
            if calls("GET", f"/status/{job}").json()["status"] == "SUCCESS":
                break
            asyncio.run(asyncio.sleep(0.01))
    # Now and then the watch says something, too.
    return [line for line in influxdb.lines if not line.startswith("squash_")]


def test_jobs_are_delivered_from_inside(tmp_path: Path) -> None:
    (line,) = deliveries(tmp_path, influx_url="http://influx.invalid")
    assert line.startswith("p ")


def test_other_tags_than_those_of_the_points_are_refused(tmp_path: Path) -> None:
    assert deliveries(tmp_path, influx_url="http://influx.invalid")
    with pytest.raises(SettingsError, match="SQUASH_TAGS"):
        create_app(make_settings(tmp_path, tags=("visit",)))


def test_each_target_has_its_outlet(tmp_path: Path) -> None:
    targets = tuple(InfluxTarget(name=name, url="http://influx.invalid") for name in "ab")
    assert len(deliveries(tmp_path, influx_targets=targets)) == 2


def test_delivery_can_be_left_to_another_process(tmp_path: Path) -> None:
    assert not deliveries(tmp_path, influx_url="http://influx.invalid", deliver="off")


def test_no_route_redirects(tmp_path: Path) -> None:
    with serving(create_app(make_settings(tmp_path))) as client:
        calls = log_in(client, "ada")
        for path in ("/", "//", "/jobs/", "/job//", "/docs/", "/metrics/"):
            assert not calls("GET", path).is_redirect
            assert not calls("POST", path, {}).is_redirect


def test_pages_that_need_the_network_are_off(app: FastAPI) -> None:
    assert (app.docs_url, app.redoc_url) == (None, None)


def test_an_unexpected_error_is_logged_with_its_path_and_cause(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app.state.site.deriver, "catch_up", fail)

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/stats")

    with capture_logs() as logs:
        assert asyncio.run(get()).status_code == 500
    (entry,) = [entry for entry in logs if entry["event"] == "unexpected error"]
    assert entry["path"] == "/stats"
    assert isinstance(entry["exc_info"], ZeroDivisionError)


def test_a_client_that_goes_away_is_no_error_of_ours(app: FastAPI) -> None:
    token = _token_of_a_new_user(app)
    headers = [(b"content-type", b"application/json"), (b"authorization", b"JWT " + token)]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/job",
        "raw_path": b"/job",
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("x", 80),
        "client": ("x", 1),
    }
    messages = [
        {"type": "http.request", "body": b'{"meas', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    with capture_logs() as logs:
        asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert not [entry for entry in logs if entry["log_level"] in {"error", "critical"}]


def _token_of_a_new_user(app: FastAPI) -> bytes:
    accounts = app.state.site.accounts

    async def register() -> str:
        account = await accounts.register("ada", "a password of tests", key=None)
        token: str = accounts.issue_token(account)
        return token

    return asyncio.run(register()).encode()


def test_a_token_outlives_the_service_that_gave_it(tmp_path: Path) -> None:
    with serving(create_app(make_settings(tmp_path))) as client:
        token = log_in(client, "ada").token
    with serving(create_app(make_settings(tmp_path))) as client:
        assert Calls(client, token)("POST", "/job", JOB).status_code == 202


def test_two_services_on_one_record_know_each_others_metrics(tmp_path: Path) -> None:
    with (
        serving(create_app(make_settings(tmp_path))) as client,
        serving(create_app(make_settings(tmp_path))) as other,
    ):
        calls = log_in(client, "ada")
        job = calls("POST", "/job", JOB).json()["id"]
        assert other.get(f"/job/{job}").json() == client.get(f"/job/{job}").json()
        assert other.get("/packages").json()["packages"] == ["p"]
        calls("POST", "/metrics", {"metrics": [{"name": "p.a", "unit": "km"}]})
        assert other.get(f"/status/{job}").json()["undeclared"] == []
        assert other.get(f"/measurement/{job}").json()["measurements"][0]["value"] == 0.001
