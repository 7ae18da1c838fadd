from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.record.deliveries import Quarantined, mark_sent, mark_taken
from squash_api.record.record import Record
from squash_api.record.users import change_user
from squash_api.settings import InfluxTarget
from tests.support.builders import open_record
from tests.support.calls import Calls, follow, log_in
from tests.support.in_process import service

JOB = {"measurements": [{"metric": "p.a", "value": 1, "unit": "m"}]}


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    """An admin's calls, of a service with three refused lines."""
    target = InfluxTarget(name="base", url="http://influx.invalid")
    with service(tmp_path, influx_targets=(target,), deliver="off") as client:
        ada = log_in(client, "ada")
        for _ in range(3):
            assert ada("POST", "/job", JOB).status_code == 202
        record = open_record(tmp_path)
        refuse(record)
        record.close()
        yield log_in(client, "ada")


def refuse(record: Record) -> None:
    refused = [Quarantined(job_id, "p", f"p a=1 {job_id}", f"no {job_id}") for job_id in (1, 2, 3)]
    record.write(lambda connection: mark_taken(connection, "base", after=0, through=3))
    record.write(
        lambda connection: mark_sent(
            connection, "base", through=3, redelivered=[], quarantined=refused, now_ns=10**9
        )
    )
    record.write(lambda connection: change_user(connection, "ada", role="admin"))


def entries(calls: Calls, path: str = "/quarantine") -> list[dict[str, Any]]:
    reply = calls("GET", path)
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["quarantine"]
    return found


def test_an_admin_sees_each_refusal(calls: Calls) -> None:
    first, *_ = entries(calls)
    assert (first["job"], first["reason"], first["line"]) == (1, "no 1", "p a=1 1")
    assert [len(page) for page in follow(calls, "/quarantine?limit=2", "quarantine")] == [2, 1]


def test_the_list_is_narrowed(calls: Calls) -> None:
    assert [item["job"] for item in entries(calls, "/quarantine?job=2")] == [2]
    assert [item["job"] for item in entries(calls, "/quarantine?reason=NO%203")] == [3]
    assert entries(calls, "/quarantine?target=other") == []


def test_others_do_not_see_it(calls: Calls) -> None:
    bob = log_in(calls.client, "bob")
    assert bob("GET", "/quarantine").status_code == 403
    assert bob("POST", "/quarantine/drop", {"ids": [1]}).status_code == 403
    assert calls.client.get("/quarantine").status_code == 401


def test_an_admin_sends_it_again(calls: Calls) -> None:
    assert calls("POST", "/quarantine/retry", {"ids": [1, 3]}).json()["count"] == 2
    states = [calls("GET", f"/status/{job_id}").json()["status"] for job_id in (1, 2, 3)]
    assert states == ["PENDING", "FAILURE", "PENDING"]
    noted, *_ = calls("GET", "/audit").json()["entries"]
    assert (noted["action"], noted["user"], noted["detail"]) == (
        "quarantine.retry",
        "ada",
        {"count": 2, "jobs": [1, 3]},
    )


def test_an_admin_gives_it_up(calls: Calls) -> None:
    assert calls("POST", "/quarantine/drop", {"ids": [2]}).json()["count"] == 1
    assert [item["job"] for item in entries(calls)] == [1, 3]
    assert calls("GET", "/status/2").json()["status"] == "FAILURE"
    assert calls("GET", "/readyz").json()["targets"]["base"]["quarantined"] == 2


@pytest.mark.parametrize("path", ["/quarantine/retry", "/quarantine/drop"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"ids": []}, 422),
        ({"ids": ["1"]}, 422),
        ({"ids": [True]}, 422),
        ({"ids": [0]}, 422),
        ({"ids": [2**63]}, 422),
        ({"ids": 1}, 422),
        ({"ids": [1, 99]}, 404),
    ],
)
def test_ids_that_are_none_change_nothing(
    calls: Calls, path: str, body: dict[str, Any], status: int
) -> None:
    assert calls("POST", path, body).status_code == status
    assert len(entries(calls)) == 3
