from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.index.derived import check_reading, check_tags
from squash_api.record.deliveries import ensure_targets, mark_sent, mark_taken, pending_redeliveries
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import make_body, measured, store_job
from tests.support.command_line import Run, make_run, set_environment
from tests.support.fake_influxdb import FakeInfluxDB, refusal
from tests.support.http_server import HttpServer

HOUR_NS = 3600 * 10**9


@pytest.fixture
def influxdb() -> FakeInfluxDB:
    return FakeInfluxDB()


@pytest.fixture
def record(record: Record) -> Record:
    """A record with three jobs of 1970, an hour apart, that the target has had already."""
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    check_reading(record)
    for number in range(3):
        store_job(
            record,
            asked_ns=number * HOUR_NS,
            body=make_body(measured("p.a", float(number))),
            new_units={"p.a": "mmag"},
        )
    record.write(lambda connection: mark_taken(connection, "default", after=0, through=3))
    record.write(
        lambda connection: mark_sent(
            connection, "default", through=3, redelivered=[], quarantined=[], now_ns=1
        )
    )
    check_tags(record, Schema())
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
    with HttpServer(influxdb) as server:
        set_environment(monkeypatch, tmp_path, SQUASH_INFLUX_URL=server.url)
        yield make_run(monkeypatch, capsys)


def times(influxdb: FakeInfluxDB) -> list[int]:
    """Return the times of the points that arrived, in hours."""
    return [int(line.rpartition(" ")[2]) // HOUR_NS for line in influxdb.lines]


def test_all_jobs_are_sent_again(run: Run, influxdb: FakeInfluxDB) -> None:
    outcome = run("replay")
    assert (outcome.code, times(influxdb)) == (0, [0, 1, 2])
    assert outcome.out.startswith("3 jobs to send to default\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--job", "2"], [1]),
        (["--job", "3", "--job", "1"], [0, 2]),
        (["--since", "1970-01-01T01:00:00Z"], [1, 2]),
        (["--until", "1970-01-01T01:00:00Z"], [0, 1]),
        (["--since", "1970-01-01T00:30:00", "--until", "1970-01-01T01:30:00"], [1]),
        (["--target", "default"], [0, 1, 2]),
        (["--since", "2000-01-01"], []),
        (["--since", "1970-01-01", "--until", "1970-01-01"], [0, 1, 2]),
        (["--until", "1969-12-31"], []),
    ],
)
def test_a_part_of_the_jobs_is_sent_again(
    run: Run, influxdb: FakeInfluxDB, arguments: list[str], expected: list[int]
) -> None:
    assert run("replay", *arguments).code == 0
    assert times(influxdb) == expected


def test_one_job_is_not_called_jobs(run: Run) -> None:
    assert run("replay", "--job", "2").out.startswith("1 job to send to default\n")


def test_without_waiting_it_is_left_to_the_service(
    run: Run, influxdb: FakeInfluxDB, record: Record
) -> None:
    assert run("replay", "--no-wait").code == 0
    with record.read() as connection:
        asked = pending_redeliveries(connection, "default", limit=10)
    assert ([job for job, _ in asked], influxdb.lines) == ([1, 2, 3], [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--job", "9"], "does not exist"),
        (["--target", "other"], "there is no target other; known targets: default"),
        (["--since", "yesterday"], "'yesterday' is not a time"),
        (["--job", "1", "--since", "1970-01-01"], "either --job, or --since"),
        (["--into-empty", "--job", "1"], "--into-empty refills every target"),
        (["--into-empty", "--target", "default"], "--into-empty refills every target"),
    ],
)
def test_what_cannot_be_done_is_an_error_and_nothing_is_sent(
    run: Run, influxdb: FakeInfluxDB, arguments: list[str], words: str
) -> None:
    outcome = run("replay", *arguments)
    assert (outcome.code, influxdb.lines) == (1, [])
    assert outcome.err.startswith("error: ")
    assert words in outcome.err


@pytest.mark.parametrize("job", ["0", "-1", "x", str(2**63)])
def test_what_is_no_id_of_a_job_is_a_usage_error(run: Run, job: str) -> None:
    assert run("replay", "--job", job).code == 2


def test_without_influxdb_there_is_nothing_to_send_to(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SQUASH_INFLUX_URL")
    outcome = run("replay")
    assert (outcome.code, "no InfluxDB is configured" in outcome.err) == (1, True)


def test_an_emptied_database_is_refilled_with_the_present_tags(
    run: Run, influxdb: FakeInfluxDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_TAGS", "visit")
    refused = run("replay")
    assert (refused.code, "squash replay --into-empty" in refused.err) == (1, True)
    assert run("replay", "--into-empty").code == 0
    assert times(influxdb) == [0, 1, 2]
    assert run("replay", "--job", "1").code == 0


def test_a_database_that_is_not_empty_is_not_refilled(run: Run, influxdb: FakeInfluxDB) -> None:
    influxdb.series = [{"name": "measurements", "columns": ["name"], "values": [["p"]]}]
    outcome = run("replay", "--into-empty")
    assert (outcome.code, influxdb.lines) == (1, [])
    assert "the database squash of target default is not empty" in outcome.err


def test_an_influxdb_that_cannot_be_asked_is_an_error(run: Run, influxdb: FakeInfluxDB) -> None:
    influxdb.query_answer = refusal(401, "authorization failed")
    outcome = run("replay", "--into-empty")
    assert (outcome.code, "authorization failed" in outcome.err) == (1, True)


def test_points_in_quarantine_are_pointed_out(run: Run, influxdb: FakeInfluxDB) -> None:
    influxdb.judge = lambda _: refusal(400, "partial write: field type conflict dropped=1")
    outcome = run("replay", "--job", "1")
    assert outcome.code == 0
    assert "In quarantine: 1 point;" in outcome.err
