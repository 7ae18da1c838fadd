"""Two services on one record: nothing is lost, nothing is double, and the ids are in order."""

import threading
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.calls import Calls, log_in
from tests.support.influxd import Influxd
from tests.support.records import in_record, record_url
from tests.support.service import Service
from tests.support.site import job_document, wait_for

JOBS = 60
CLIENTS = 2
DATABASE = "two_services"


def post_all(calls: Calls, name: str, answers: list[tuple[int, str]]) -> None:
    """Post jobs one after the other, each again until it is answered by an id."""
    for number in range(JOBS):
        key = f"{name}-{number}"
        document = {**job_document({"two.m": 1.0}), "meta": {"packages": {}, "run_id": key}}
        while True:
            reply = calls("POST", "/job", json=document)
            if reply.status_code in {200, 202}:
                answers.append((reply.json()["id"], key))
                break
            assert reply.status_code == 503, reply.text


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, influxd: Influxd) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("two")
    options = {
        "SQUASH_INFLUX_URL": influxd.url,
        "SQUASH_INFLUX_DATABASE": DATABASE,
        "SQUASH_DATABASE_URL": record_url(folder),
    }
    one, two = Service(folder / "one", **options), Service(folder / "two", **options)
    answers: dict[str, list[tuple[int, str]]] = {}
    with one, two:
        clients = [
            httpx.Client(base_url=service.url, timeout=60, trust_env=False)
            for service in (one, two)
            for _ in range(CLIENTS)
        ]
        threads = []
        for number, client in enumerate(clients):
            given = answers.setdefault(f"client-{number}", [])
            arguments = (log_in(client, "ada"), f"client-{number}", given)
            threads.append(threading.Thread(target=post_all, args=arguments))
            threads[-1].start()
        for thread in threads:
            thread.join()
        ready = [wait_for(partial(is_idle, client)) for client in (clients[0], clients[-1])]
        for client in clients:
            client.close()
        # One ends as a crash would, and the other in good order.
        one.kill()
        assert two.run("record", "check").stdout == "the record is whole\n"
        two.stop()
        one.start()
        one.stop()
    points = influxd.points(DATABASE, "two")
    return {"folder": folder, "answers": answers, "ready": ready, "points": points}


def is_idle(client: httpx.Client) -> Any:
    body = client.get("/readyz").json()
    waiting = sum(item["waiting"] for item in body["targets"].values())
    return body if body["status"] == "ok" and not waiting else None


def stored(folder: Path) -> list[tuple[int, int]]:
    rows = in_record(folder, "SELECT id, time_ns FROM job ORDER BY id")
    return [(job_id, time_ns) for job_id, time_ns in rows]


def test_no_job_is_lost_or_double(story: dict[str, Any]) -> None:
    ids = [job_id for answers in story["answers"].values() for job_id, _ in answers]
    assert len(ids) == len(set(ids)) == 2 * CLIENTS * JOBS
    assert sorted(ids) == [job_id for job_id, _ in stored(story["folder"])]


def test_who_posts_later_gets_a_later_id(story: dict[str, Any]) -> None:
    for answers in story["answers"].values():
        assert all(before < after for (before, _), (after, _) in pairwise(answers))


def test_every_job_is_in_influxdb_once(story: dict[str, Any]) -> None:
    sent = {point["fields"]["run_id"] for point in story["points"]}
    asked = {key for answers in story["answers"].values() for _, key in answers}
    assert sent == asked
    assert len(story["points"]) == len(asked)


@pytest.mark.sqlite
def test_the_mark_knows_the_last_job_of_both(story: dict[str, Any]) -> None:
    last = stored(story["folder"])[-1][0]
    mark = (story["folder"] / "squash.db.mark").read_text()
    assert f'"job": {last}' in mark
