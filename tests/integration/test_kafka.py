"""The real service and Kafka: what is killed in the middle of sending is sent by the next one."""

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.builders import make_body, measured
from tests.support.mock_kafka import PRODUCE, MockKafka
from tests.support.service import Deliverer, Service
from tests.support.site import wait_for

pytestmark = pytest.mark.sqlite

JOBS, KILLS = 24, 1


@pytest.fixture(scope="module")
def brokers() -> Iterator[MockKafka]:
    with MockKafka() as kafka:
        kafka.create("squash.jobs", partitions=3)
        yield kafka


def ready(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{service.url}/readyz", trust_env=False, timeout=60).json()[
        "targets"
    ]
    return found


def post_jobs(service: Service, numbers: range) -> None:
    account = {"username": "ada", "password": "correct horse"}
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        client.post("/register", json=account)
        token = client.post("/auth", json=account).json()["access_token"]
        headers = {"Authorization": f"JWT {token}", "Content-Type": "application/json"}
        for number in numbers:
            body = make_body(measured("p.a", float(number)), ci_id=f"{number % 4}", ci_name="night")
            answer = client.post("/job", content=body, headers=headers)
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
        SQUASH_DELIVER="off",
    )
    with service:
        post_jobs(service, range(JOBS // 2))
        deliverer = Deliverer(service, name="deliverer")
        for _ in range(KILLS):
            kill_while_it_waits(deliverer, brokers)
            assert ready(service)["kafka"]["waiting"] > 0
            expire_lease(service)
        post_jobs(service, range(JOBS // 2, JOBS))
        deliverer.start()
        wait_for(lambda: ready(service)["kafka"]["waiting"] == 0)
        deliverer.stop()
    found = sent_jobs(brokers)
    assert sorted({job for jobs in found.values() for job in jobs}) == list(range(1, JOBS + 1))
    assert sum(map(len, found.values())) > JOBS
    for jobs in found.values():
        places = [sorted({*jobs}).index(job) for job in jobs]
        # It begins again at an earlier one, or goes on with the next: none is left out.
        assert all(later <= place + 1 for place, later in pairwise([-1, *places]))
        assert places[-1] == max(places)


def kill_while_it_waits(deliverer: Deliverer, brokers: MockKafka) -> None:
    """Kill what sends when the broker has got something, and has not confirmed it yet."""
    brokers.slow_down(1000)
    with brokers.counting() as count:
        deliverer.start()
        wait_for(lambda: count(PRODUCE) > 0)
        deliverer.kill()
    brokers.slow_down(0)


def expire_lease(service: Service) -> None:
    """Let the lease of a process that was killed be over, which else takes 20 seconds."""
    with sqlite3.connect(service.folder / "squash.db", timeout=30) as database:
        database.execute("UPDATE target SET lease_owner = NULL, lease_until_ns = 0")
