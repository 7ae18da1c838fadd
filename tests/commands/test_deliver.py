import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from squash_api.record.deliveries import get_target
from squash_api.record.record import Record
from squash_api.record.webhooks import add_deliveries, webhooks
from tests.support.builders import make_body, measured, store_job
from tests.support.command_line import Run, make_run, set_environment
from tests.support.fake_influxdb import FakeInfluxDB
from tests.support.http_server import HttpServer
from tests.support.receiver import ReceivingServer


@pytest.fixture
def influxdb() -> FakeInfluxDB:
    return FakeInfluxDB()


@pytest.fixture
def record(record: Record) -> Record:
    """A record with one job."""
    store_job(record, body=make_body(measured()), new_units={"p.a": "mmag"})
    return record


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    influxdb: FakeInfluxDB,
    record: Record,
    tmp_path: Path,
) -> Iterator[Run]:
    assert record
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with HttpServer(influxdb) as server:
        targets = f'[{{"name": "other", "url": "{server.url}", "database": "d"}}]'
        set_environment(
            monkeypatch,
            tmp_path,
            SQUASH_INFLUX_URL=server.url,
            SQUASH_INFLUX_TARGETS=targets,
            SQUASH_DELIVER="off",
        )
        yield make_run(monkeypatch, capsys)
    for number, handler in before.items():
        signal.signal(number, handler)


def signal_after(influxdb: FakeInfluxDB, lines: int, number: int) -> threading.Thread:
    """Send this process a signal once so many lines have arrived."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while len(influxdb.lines) < lines and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_delivers_to_every_target_until_it_is_told_to_stop(
    run: Run, influxdb: FakeInfluxDB, record: Record, number: int
) -> None:
    thread = signal_after(influxdb, 2, number)
    outcome = run("deliver")
    thread.join()
    assert (outcome.code, len(influxdb.lines)) == (0, 2)
    with record.read() as connection:
        assert get_target(connection, "default").lease_owner is None


def test_it_delivers_to_the_target_that_is_named(
    run: Run, influxdb: FakeInfluxDB, record: Record
) -> None:
    thread = signal_after(influxdb, 1, signal.SIGTERM)
    assert run("deliver", "--target", "other").code == 0
    thread.join()
    with record.read() as connection:
        assert get_target(connection, "other").sent_through == 1
    assert len(influxdb.lines) == 1


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--target", "none"], "there is no target none")]
)
def test_an_unknown_target_is_an_error(run: Run, arguments: list[str], words: str) -> None:
    outcome = run("deliver", *arguments)
    assert (outcome.code, words in outcome.err) == (1, True)


def test_without_a_target_there_is_nothing_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQUASH_INFLUX_URL")
    monkeypatch.delenv("SQUASH_INFLUX_TARGETS")
    outcome = run("deliver")
    assert (outcome.code, "none of SQUASH_INFLUX_URL, " in outcome.err) == (1, True)


def test_webhooks_alone_are_something_to_do(
    run: Run, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SQUASH_INFLUX_URL")
    monkeypatch.delenv("SQUASH_INFLUX_TARGETS")
    monkeypatch.setenv("SQUASH_WEBHOOK_NETWORKS", "127.0.0.0/8")
    with ReceivingServer(stop_this_process) as receiver:
        made = run("webhook", "add", "hook", receiver.url, "--event", "job.quarantined")
        assert made.code == 0
        with record.read() as connection:
            (hook,) = webhooks(connection)
        record.write(
            lambda connection: add_deliveries(
                connection, hook.receiver_id, [("job.quarantined", "{}")], now_ns=time.time_ns()
            )
        )
        assert run("deliver").code == 0
        assert receiver.bodies == [{}]


def stop_this_process(_request: httpx.Request) -> httpx.Response:
    os.kill(os.getpid(), signal.SIGTERM)
    return httpx.Response(204)
