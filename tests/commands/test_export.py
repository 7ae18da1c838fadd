import csv
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyarrow.parquet import read_table
from structlog.testing import capture_logs

from squash_api.accounts.key_ring import KeyRing
from squash_api.index.derived import check_tags, waiting_for_rederivation
from squash_api.record.audit import UNKNOWN
from squash_api.schema.names import Schema
from tests.support.command_line import Outcome, Run, make_run, set_environment
from tests.support.http_server import HttpServer
from tests.support.in_process import HOST, service
from tests.support.measured_jobs import MeasuredJobs

HARD_NUMBERS = [0.1, -5e-324, 1.7976931348623157e308, 1 / 3]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    """Four jobs with hard numbers, in the filters r and i."""
    jobs = MeasuredJobs(tmp_path)
    check_tags(jobs.record, Schema())
    for number, value in enumerate(HARD_NUMBERS):
        name = "ri"[number % 2]
        jobs.add({"p.a": value, "q.a": 7}, time_ns=number, filter=name, airmass=1 + number / 10)
    yield jobs
    jobs.close()


@pytest.fixture
def run(
    jobs: MeasuredJobs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    assert jobs
    set_environment(monkeypatch, tmp_path)
    return make_run(monkeypatch, capsys)


@pytest.fixture
def url(jobs: MeasuredJobs, tmp_path: Path) -> Iterator[str]:
    """The root of a service with the same record."""
    assert jobs
    with capture_logs(), service(tmp_path, url=HOST) as client:

        def answer(request: httpx.Request) -> httpx.Response:
            reply = client.get(request.url.raw_path.decode())
            text = reply.text.replace(HOST, server.url)
            return httpx.Response(reply.status_code, text=text)

        with HttpServer(answer) as server:
            yield server.url


def rows(outcome: Outcome) -> list[dict[str, str]]:
    assert (outcome.code, outcome.err) == (0, "")
    return list(csv.DictReader(io.StringIO(outcome.out, newline="")))


def values(found: list[Any]) -> list[bytes]:
    return [struct.pack("<d", float(row["value"])) for row in found]


EXACT = values([{"value": value} for value in HARD_NUMBERS])


def test_the_record_is_written_as_csv_to_the_last_bit(run: Run) -> None:
    assert values(rows(run("export", "--metric", "p.a"))) == EXACT


def test_a_service_gives_the_same_as_the_record(run: Run, url: str) -> None:
    for options in (["--metric", "p.a"], ["--filter", "r", "--fields", "*"], ["--points", "2"]):
        here = run("export", *options)
        assert here.code == 0
        assert run("export", *options, "--url", url) == here


@pytest.mark.parametrize("has_url", [False, True])
def test_the_name_of_the_file_says_the_format(
    run: Run, url: str, tmp_path: Path, *, has_url: bool
) -> None:
    place = ["--url", url] if has_url else []
    for name in ("a.json", "a.csv"):
        assert run("export", "--metric", "p.a", "--output", name, *place) == Outcome(0, "", "")
    with (tmp_path / "a.csv").open() as table:
        assert values(list(csv.DictReader(table))) == EXACT
    document = json.loads((tmp_path / "a.json").read_text())
    assert values(document["measurements"]) == EXACT
    assert document["next"] is None


def test_parquet_is_written(run: Run, tmp_path: Path) -> None:
    assert run("export", "--metric", "p.a", "--output", "a.parquet").code == 0
    table = read_table(tmp_path / "a.parquet").drop_columns(["time"])
    assert values(table.to_pylist()) == EXACT


def test_the_format_may_be_said(run: Run, tmp_path: Path) -> None:
    assert run("export", "--format", "json", "--limit", "1", "--output", "a.txt").code == 0
    assert len(json.loads((tmp_path / "a.txt").read_text())["measurements"]) == 1


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--package", "p"], 4),
        (["--package", "p", "--package", "q"], 8),
        (["--metric", "p.a", "--filter", "r"], 2),
        (["--metric", "p.a", "--tag", "filter=r", "--tag", "filter=i"], 4),
        (["--metric", "p.a", "--meta", "airmass=1.1..1.2"], 2),
        (["--job", "2"], 2),
        (["--run", "904"], 0),
        (["--version-tag", "w_1"], 0),
        (["--dataset", "RC2"], 0),
        (["--instrument", "HSC"], 0),
        (["--since", "1d"], 0),
        (["--until", "1971-01-01"], 8),
        (["--absent"], 8),
        (["--limit", "3"], 3),
    ],
)
def test_every_option_chooses(run: Run, options: list[str], count: int) -> None:
    assert len(rows(run("export", *options))) == count


def test_values_are_converted_and_metadata_is_added(run: Run) -> None:
    options = ["--metric", "q.a", "--unit", "deg", "--fields", "meta.airmass", "--limit", "1"]
    (row,) = rows(run("export", *options))
    assert (row["unit"], float(row["value"]), row["meta.airmass"]) == ("deg", 7 / 3600, "1.0")


@pytest.mark.parametrize("has_url", [False, True])
def test_pages_of_json_are_joined(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, *, has_url: bool
) -> None:
    monkeypatch.setattr("squash_api.commands.export._PAGE", 3)
    place = ["--url", url] if has_url else []
    for limit, count in (("5", 5), ("6", 6), ("100", 8)):
        outcome = run("export", "--format", "json", "--limit", limit, *place)
        assert len(json.loads(outcome.out)["measurements"]) == count
    empty = run("export", "--format", "json", "--run", "none", *place)
    assert json.loads(empty.out) == {"measurements": [], "next": None}


@pytest.mark.parametrize("has_url", [False, True])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "p.z"], "There is no metric `p.z`"),
        (["--unit", "mag"], "does not convert to 'mag'"),
        (["--since", "yesterday"], "is not a time"),
        (["--tag", "filtre=r"], "did you mean `filter`?"),
        (["--points", "1"], "`points` must be a whole number"),
    ],
)
def test_a_question_without_answer_is_2_and_leaves_no_file(
    run: Run, url: str, tmp_path: Path, options: list[str], message: str, *, has_url: bool
) -> None:
    place = ["--url", url] if has_url else []
    outcome = run("export", *options, "--output", "a.csv", *place)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not list(tmp_path.glob("*a.csv*"))


@pytest.mark.parametrize("name", ["a.xlsx", "a.txt", "a.csv.gz"])
def test_an_ending_that_is_no_format_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    outcome = run("export", "--output", name)
    assert (outcome.code, outcome.out) == (2, "")
    assert "the ending is none of .json, .csv, .parquet" in outcome.err
    assert not list(tmp_path.glob("a.*"))


def test_the_format_that_is_asked_for_goes_before_the_ending(run: Run, tmp_path: Path) -> None:
    assert run("export", "--format", "csv", "--output", "a.txt").code == 0
    assert (tmp_path / "a.txt").is_file()


def test_all_that_is_wrong_is_said(run: Run) -> None:
    outcome = run("export", "--since", "x", "--job", "y")
    assert len(outcome.err.splitlines()) == 2


@pytest.mark.parametrize("option", ["--tag", "--meta"])
def test_a_pair_needs_its_equals_sign(run: Run, option: str) -> None:
    assert run("export", option, "filter").code == 2


def test_a_service_for_users_only_is_asked_with_a_key(
    run: Run, jobs: MeasuredJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run("export", "--metric", "p.a")
    _, key = KeyRing(jobs.record).create("ada", "x", scopes=["job:read"], by=UNKNOWN)
    with capture_logs(), service(tmp_path, url=HOST, read="users") as client:

        def answer(request: httpx.Request) -> httpx.Response:
            sent = {name: request.headers.get(name, "") for name in ("authorization", "accept")}
            reply = client.get(request.url.raw_path.decode(), headers=sent)
            return httpx.Response(reply.status_code, text=reply.text.replace(HOST, server.url))

        with HttpServer(answer) as server:
            outcome = run("export", "--metric", "p.a", "--url", server.url)
            assert (outcome.code, "access token" in outcome.err) == (1, True)
            monkeypatch.setenv("SQUASH_KEY", key)
            assert run("export", "--metric", "p.a", "--url", server.url) == here
            paged = run("export", "--format", "json", "--url", server.url)
            assert paged.code == 0
            assert "No data" in run("report", "--since", "90d", "--url", server.url).out


def test_a_service_that_is_not_there_is_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squash_api.commands.results._RETRIES", 0)
    outcome = run("export", "--url", "http://127.0.0.1:9")
    assert (outcome.code, outcome.out) == (1, "")


@pytest.mark.parametrize(("address", "code"), [("http://x:y", 2), ("nonsense", 1)])
def test_an_address_that_is_none_is_refused(run: Run, address: str, code: int) -> None:
    outcome = run("export", "--url", address)
    assert (outcome.code, outcome.out) == (code, "")


def test_a_folder_that_is_not_there_is_1(run: Run) -> None:
    outcome = run("export", "--output", "nowhere/a.csv")
    said = "error: nowhere/a.csv: the directory nowhere does not exist: make it\n"
    assert (outcome.code, outcome.err) == (1, said)


def test_the_tags_of_the_record_count_and_not_those_of_the_shell(
    run: Run, jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_TAGS", "site")
    assert "site" not in rows(run("export"))[0]
    assert run("export", "--tag", "site=summit").code == 2
    with jobs.record.read() as connection:
        assert waiting_for_rederivation(connection, [1, 2, 3, 4]) == set()
