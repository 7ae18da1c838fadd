"""The real service and Kafka: what is killed in the middle of sending is sent by the next one."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.mock_kafka import MockKafka
from tests.support.service import Deliverer, Service

pytestmark = pytest.mark.sqlite

JOBS = 60


@pytest.fixture(scope="module")
def brokers() -> Iterator[MockKafka]:
    with MockKafka() as kafka:
        kafka.create("squash.jobs", partitions=3)
        yield kafka


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    gives_up = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < gives_up
        time.sleep(0.05)


def ready(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{service.url}/readyz", trust_env=False).json()["targets"]
    return found


def post_jobs(service: Service, numbers: range) -> None:
    client = httpx.Client(base_url=service.url, trust_env=False)
    account = {"username": "ada", "password": "correct horse"}
    client.post("/register", json=account)
    token = client.post("/auth", json=account).json()["access_token"]
    for number in numbers:
        body = {
            "measurements": [{"metric": "p.a", "value": float(number), "unit": "mmag"}],
            "blobs": [],
            "meta": {"ci_id": f"{number % 4}", "ci_name": "nightly", "env": {"env_name": "test"}},
        }
        answer = client.post("/job", json=body, headers={"Authorization": f"JWT {token}"})
        assert answer.status_code == 202, answer.text


def sent_jobs(brokers: MockKafka) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for item in brokers.read("squash.jobs"):
        found.setdefault(item.key, []).append(item.body["data"]["job"])
    return found


def test_kills_in_the_middle_of_sending_lose_nothing_and_keep_the_order(
    tmp_path: Path, brokers: MockKafka
) -> None:
    service = Service(
        tmp_path,
        SQUASH_KAFKA_BROKERS=brokers.address,
        SQUASH_KAFKA_SEND="jobs",
        SQUASH_READERS="0",
        SQUASH_DELIVER="off",
    )
    with service:
        post_jobs(service, range(JOBS // 2))
        deliverer = Deliverer(service, name="deliverer")
        for _ in range(3):
            # Its answers come late, so it is killed while it waits for them.
            brokers.slow_down(1500)
            deliverer.start()
            before = sum(map(len, sent_jobs(brokers).values()))
            wait_until(lambda: sum(map(len, sent_jobs(brokers).values())) > before)
            deliverer.kill()
            assert ready(service)["kafka"]["waiting"] > 0
            service.run("record", "check")
            expire_lease(service)
            brokers.slow_down(0)
        post_jobs(service, range(JOBS // 2, JOBS))
        deliverer.start()
        wait_until(lambda: ready(service)["kafka"]["waiting"] == 0)
        deliverer.stop()
    found = sent_jobs(brokers)
    assert sorted({job for jobs in found.values() for job in jobs}) == list(range(1, JOBS + 1))
    assert sum(map(len, found.values())) > JOBS
    for jobs in found.values():
        # From a cursor on everything comes again, in the same order: the last of it is all of it.
        assert jobs[-len({*jobs}) :] == sorted({*jobs}) or is_replayed(jobs)


def is_replayed(jobs: list[int]) -> bool:
    """Tell whether a list goes on, or begins again at what it had before, and skips nothing."""
    order = sorted({*jobs})
    seen = -1
    for job in jobs:
        place = order.index(job)
        if place > seen + 1:
            return False
        seen = max(seen, place) if place > seen else place
    return jobs[-1] == order[-1]


def expire_lease(service: Service) -> None:
    """Let the lease of a process that was killed be over, which else takes 20 seconds."""
    import sqlite3

    with sqlite3.connect(service.folder / "squash.db") as database:
        database.execute("UPDATE target SET lease_owner = NULL, lease_until_ns = 0")


_ = json
