import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import Run, make_run, set_environment
from tests.support.fake_chronograf import FakeChronograf
from tests.support.http_server import HttpServer
from tests.support.past_jobs import Past

pytestmark = pytest.mark.sqlite
HOUR_NS = 3600 * 10**9
START_NS = time.time_ns() - 30 * HOUR_NS


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return make_run(monkeypatch, capsys)


@pytest.fixture
def chronograf() -> FakeChronograf:
    return FakeChronograf()


@pytest.fixture
def past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chronograf: FakeChronograf
) -> Iterator[Past]:
    with HttpServer(chronograf) as server, Past(tmp_path, START_NS) as made:
        set_environment(monkeypatch, tmp_path, SQUASH_CHRONOGRAF_URL=server.url)
        yield made


def add_runs(past: Past, *shas: str) -> None:
    """Add runs an hour apart, with two jobs each, whose package afw is at these commits."""
    for number, sha in enumerate(shas):
        past.next_ns = START_NS + number * HOUR_NS
        package = {"name": "afw", "git_sha": sha * 40, "git_url": "https://github.com/lsst/afw"}
        for _ in range(2):
            past.add({"p.a": 1.0}, run=f"R{number}", ci_name="night", packages=[package])


def test_runs_with_new_code_are_annotated_once(
    run: Run, past: Past, chronograf: FakeChronograf
) -> None:
    add_runs(past, "a", "b", "b", "c")
    outcome = run("live", "annotate")
    assert outcome.code == 0
    assert outcome.out.endswith("2 annotations added, 0 were there\n")
    assert [item["text"] for item in chronograf.annotations] == ["afw (run R1)", "afw (run R3)"]
    first = chronograf.annotations[0]
    assert first["startTime"] == first["endTime"]
    assert first["tags"].keys() == {"squash", "pipeline"}
    assert first["tags"]["pipeline"] == "night"
    assert run("live", "annotate").out == "0 annotations added, 2 were there\n"
    assert ("POST", "/chronograf/v1/sources/8/annotations") in chronograf.requests


def test_only_runs_since_then_are_annotated(run: Run, past: Past) -> None:
    add_runs(past, "a", "b", "c")
    found = json.loads(run("live", "annotate", "--since", "29h", "--json").out)
    assert [item["text"] for item in found] == ["afw (run R2)"]


@pytest.mark.usefixtures("past")
def test_without_a_server_it_says_what_to_give(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQUASH_CHRONOGRAF_URL")
    outcome = run("live", "annotate")
    assert outcome.code == 2
    assert "Give --chronograf, or set SQUASH_CHRONOGRAF_URL" in outcome.err


def test_a_chronograf_without_influxdb_refuses(
    run: Run, past: Past, chronograf: FakeChronograf
) -> None:
    add_runs(past, "a", "b")
    chronograf.sources.clear()
    outcome = run("live", "annotate")
    assert outcome.code == 1
    assert "0 annotations added, then: it has no InfluxDB" in outcome.err


@pytest.mark.usefixtures("past")
def test_a_server_that_is_not_there_is_2(run: Run) -> None:
    assert run("live", "annotate", "--chronograf", "http://127.0.0.1:9").code == 2
    assert run("live", "annotate", "--since", "soon").code == 2
