import json
from pathlib import Path
from typing import Any

import pytest

from squash_api.record.audit import list_noted
from squash_api.record.deliveries import (
    Erasure,
    Quarantined,
    backlogs,
    ensure_targets,
    mark_sent,
    mark_taken,
    pending_erasures,
    pending_redeliveries,
    request_rewriting,
)
from squash_api.record.quarantine import mark_not_erased
from squash_api.record.record import Record
from tests.support.builders import make_body, measured, store_job
from tests.support.command_line import Run, make_run, set_environment
from tests.support.outlets import state

CONFLICT, OLD = "field type conflict", "points beyond retention policy: 100%"


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record: Record,
    tmp_path: Path,
) -> Run:
    """A record with refused lines of the jobs 1 to 3, and a refused deletion of job 4's points."""
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    for number in range(4):
        store_job(record, asked_ns=number, body=make_body(measured("p.a", float(number))))
    refused = [
        Quarantined(job_id, "p", f"p a=1 {job_id}", reason)
        for job_id, reason in ((1, CONFLICT), (2, OLD), (3, CONFLICT))
    ]
    record.write(lambda connection: mark_taken(connection, "default", after=0, through=4))
    record.write(
        lambda connection: mark_sent(
            connection, "default", through=4, redelivered=[], quarantined=refused, now_ns=10**9
        )
    )
    record.write(lambda connection: request_rewriting(connection, [Erasure(4, 3, ("p",))]))
    deletion = Quarantined(4, "p", 'DELETE FROM "p" WHERE time = 3', "read-only")
    record.write(lambda connection: mark_not_erased(connection, "default", [deletion], now_ns=1))
    set_environment(monkeypatch, tmp_path, SQUASH_INFLUX_URL="http://influx.invalid")
    return make_run(monkeypatch, capsys)


def listed(run: Run, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("quarantine", "list", "--json", *options).out)
    return found


def quarantined(record: Record) -> int:
    with record.read() as connection:
        (found,) = backlogs(connection, targets=["default"])
    return found.quarantined


def test_every_refusal_is_listed_with_its_reason(run: Run) -> None:
    assert listed(run)[0] == {
        "id": 1,
        "target": "default",
        "job": 1,
        "what": "line",
        "measurement": "p",
        "line": "p a=1 1",
        "reason": CONFLICT,
        "since": "1970-01-01T00:00:01Z",
        "dropped": None,
    }
    assert [item["what"] for item in listed(run)] == ["line", "line", "line", "deletion"]
    assert OLD in run("quarantine", "list").out


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        (["--reason", "Type Conflict"], [1, 3]),
        (["--reason", "100%"], [2]),
        (["--reason", "%"], [2]),
        (["--job", "2", "--job", "3"], [2, 3]),
        (["--target", "default", "--job", "1"], [1]),
        (["--target", "other"], []),
        (["--dropped"], []),
    ],
)
def test_the_list_is_narrowed(run: Run, options: list[str], jobs: list[int]) -> None:
    assert [item["job"] for item in listed(run, *options)] == jobs


def test_retry_asks_for_the_jobs_in_their_order_and_for_the_deletion(
    run: Run, record: Record
) -> None:
    outcome = run("quarantine", "retry")
    assert (outcome.code, outcome.out) == (0, "4 refusals to try again\n")
    with record.read() as connection:
        again = pending_redeliveries(connection, "default", limit=10)
        erasures = pending_erasures(connection, "default", limit=10, now_ns=2)
    assert ([job_id for job_id, _ in again], [item.job_id for item in erasures]) == ([1, 2, 3], [4])


def test_retry_of_some_leaves_the_others(run: Run, record: Record) -> None:
    assert run("quarantine", "retry", "3").out == "1 refusal to try again\n"
    assert run("quarantine", "retry", "--reason", "retention").code == 0
    with record.read() as connection:
        again = pending_redeliveries(connection, "default", limit=10)
    assert [job_id for job_id, _ in again] == [2, 3]


@pytest.mark.parametrize("ids", [["99"], ["1", "99"]])
def test_an_unknown_id_is_an_error_and_changes_nothing(run: Run, ids: list[str]) -> None:
    for command in (["retry"], ["drop", "--yes"]):
        outcome = run("quarantine", *command, *ids)
        assert (outcome.code, "99" in outcome.err) == (1, True)
    assert len(listed(run)) == 4


def test_what_is_dropped_is_no_longer_counted_but_the_status_still_tells(
    run: Run, record: Record
) -> None:
    outcome = run("quarantine", "drop", "--reason", "conflict", "--yes")
    assert (outcome.code, outcome.out) == (0, "2 refusals given up\n")
    assert [item["job"] for item in listed(run)] == [2, 4]
    assert [item["job"] for item in listed(run, "--dropped")] == [1, 3]
    assert quarantined(record) == 2
    assert (state(record, 1).state, state(record, 1).reasons) == ("FAILURE", (CONFLICT,))


def test_what_was_dropped_can_be_sent_again(run: Run, record: Record) -> None:
    run("quarantine", "drop", "1", "--yes")
    assert run("quarantine", "retry", "--dropped").code == 0
    with record.read() as connection:
        assert len(pending_redeliveries(connection, "default", limit=10)) == 1


def test_a_deletion_that_is_dropped_is_not_tried_again(run: Run, record: Record) -> None:
    assert run("quarantine", "drop", "4", "--yes").code == 0
    with record.read() as connection:
        (found,) = backlogs(connection, targets=["default"])
        assert pending_erasures(connection, "default", limit=10) == []
    assert (found.undeleted, found.quarantined) == (0, 3)


def test_drop_wants_to_know_what_and_asks(run: Run, record: Record) -> None:
    assert run("quarantine", "drop").code == 2
    outcome = run("quarantine", "drop", "1")
    assert (outcome.code, "--yes" in outcome.err) == (2, True)
    assert quarantined(record) == 4


@pytest.mark.parametrize(("verb", "options"), [("retry", ()), ("drop", ("--yes",))])
def test_what_is_retried_or_given_up_is_noted(
    run: Run, record: Record, verb: str, options: tuple[str, ...]
) -> None:
    assert run("quarantine", verb, "--job", "1", "--job", "3", *options).code == 0
    assert run("quarantine", verb, "--job", "999", *options).code == 0
    with record.read() as connection:
        (entry,) = list_noted(connection, limit=9)
    assert (entry.action, entry.subject) == (f"quarantine.{verb}", "default")
    assert entry.detail == {"count": 2, "jobs": [1, 3]}
    assert (entry.command or "").startswith(f"squash quarantine {verb} (")
