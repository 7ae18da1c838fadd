import json
from pathlib import Path
from typing import Any

import pytest

from squash_api.record.audit import list_noted
from squash_api.record.jobs import job_ids
from squash_api.record.record import Record
from tests.support.builders import make_body, measured, store_job
from tests.support.command_line import Run, make_run, set_environment

DAY_NS = 86_400 * 10**9
# 2024-01-01
FIRST_NS = 1_704_067_200 * 10**9


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record: Record,
    tmp_path: Path,
) -> Run:
    """Make jobs at noon of the first days of 2024, the last with another metric."""
    for day, metric in enumerate(["p.a", "p.a", "p.a", "q.b"]):
        time_ns = FIRST_NS + day * DAY_NS + DAY_NS // 2
        store_job(
            record,
            asked_ns=time_ns,
            received_ns=time_ns,
            body=make_body(measured(metric), version_tag="v1", instrument="HSC"),
            new_units={metric: "mmag"},
        )
    set_environment(monkeypatch, tmp_path)
    return make_run(monkeypatch, capsys)


def left(record: Record) -> list[int]:
    with record.read() as connection:
        return job_ids(connection, after=0, limit=100)


def test_without_yes_it_says_what_would_go_and_changes_nothing(run: Run, record: Record) -> None:
    outcome = run("prune", "--before", "2024-01-04")
    assert (outcome.code, len(left(record))) == (0, 4)
    # In the tests the log goes there, too.
    assert outcome.out.splitlines()[-6:] == [
        "before 2024-01-04T00:00:00Z: 2 jobs of 2 days, 2024-01-01 to 2024-01-02, 0.0 MB",
        "  1 older job kept: with the last value of a series",
        "  1 series with the last value before it, of p.a; it is kept: --take-last takes it",
        "  not measured since: p.a",
        "  releases that lose jobs: v1 (2); --keep-release keeps those of one",
        "nothing was deleted: --yes does it",
    ]


def test_a_mere_day_stays_whole(run: Run, record: Record) -> None:
    assert run("prune", "--before", "2024-01-03", "--take-last", "--yes").code == 0
    assert left(record) == [2, 3, 4]


def test_with_yes_they_go_and_who_did_it_is_noted(run: Run, record: Record) -> None:
    outcome = run("prune", "--before", "2024-02-01", "--yes")
    assert (outcome.code, left(record)) == (0, [3, 4])
    assert "deleted: 2 jobs, 0.0 MB; the service now deletes their points" in outcome.out
    with record.read() as connection:
        (entry,) = list_noted(connection, limit=9)
    assert (entry.action, entry.subject) == ("job.prune", "2024-02-01T00:00:00Z")
    assert str(entry.command).startswith("squash prune (")


def found(run: Run, *options: str) -> dict[str, Any]:
    outcome = run("prune", "--before", "2024-02-01", "--json", *options)
    result: dict[str, Any] = json.loads(outcome.out[outcome.out.index("{\n") :])
    return result


def test_json_has_what_would_go_and_what_went(run: Run) -> None:
    planned = found(run)
    assert (planned["jobs"], planned["deleted"], planned["kept"]["last"]) == (2, 0, 2)
    assert planned["silent_metrics"] == ["p.a", "q.b"]
    assert planned["releases"] == {"v1": 2}
    done = found(run, "--yes")
    assert (done["jobs"], done["deleted"]) == (2, 2)
    assert found(run)["jobs"] == 0


def test_releases_that_are_kept_lose_no_job(
    run: Run, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(run, "--keep-release", "v*", "--yes")["deleted"] == 0
    monkeypatch.setenv("SQUASH_KEEP_RELEASES", "w*, v1")
    assert found(run, "--yes")["kept"]["release"] == 4
    assert len(left(record)) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "'yesterday' is not a time: write one like"),
        ("2999-01-01", "'2999-01-01' is in the future"),
        ("", "'' is not a time"),
    ],
)
def test_what_is_no_time_in_the_past_is_refused(run: Run, text: str, words: str) -> None:
    outcome = run("prune", "--before", text, "--yes")
    assert outcome.code == 2
    assert f"--before: {words}" in outcome.err
