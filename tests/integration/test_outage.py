"""InfluxDB goes away, with work to do and without."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import MakeSite
from tests.support.influxd import Influxd
from tests.support.service import Service
from tests.support.site import Site, expire_leases, job_document, new_package, wait_for

# It is down while 1,000 jobs arrive, and the service is killed in the middle of them.
JOBS = 1_000
CLIENTS = 4
KILL_AFTER = 400
PACKAGE = new_package()


@dataclass
class Aftermath:
    """What clients were told, and what InfluxDB holds once it is back.

    `accepted` is the number of a job by the id that its client got; `resent` are the numbers of
    the jobs that a client had to send again. Jobs of an even number carry identifiers.
    """

    accepted: dict[int, int] = field(default_factory=dict)
    resent: set[int] = field(default_factory=set)
    points: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = -1
    ready_before: dict[str, Any] = field(default_factory=dict)

    @property
    def numbers(self) -> Counter[int]:
        """How often each job is in InfluxDB."""
        return Counter(int(point["fields"]["m"]) for point in self.points)

    @property
    def ids(self) -> Counter[int]:
        """How often each id is in InfluxDB."""
        return Counter(int(point["fields"]["squash_id"]) for point in self.points)


def document_of(number: int) -> dict[str, Any]:
    document = job_document({f"{PACKAGE}.m": float(number)}, instrument="HSC")
    document["measurements"][0]["identifier"] = (
        uuid.UUID(int=number).hex if number % 2 == 0 else None
    )
    return document


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        folder: Path = tmp_path_factory.mktemp("service")
        environment = {"SQUASH_INFLUX_URL": server.url, "SQUASH_INFLUX_DATABASE": "outage"}
        with Service(folder, **environment) as service, Site(service, server, "outage") as site:
            server.stop()
            aftermath = Aftermath()
            # A service that has just begun may take jobs faster than it gets round to sending one.
            first = site.dispatch(document_of(JOBS + 1))
            aftermath.accepted[first["id"]] = JOBS + 1
            wait_for(lambda: site.get("/readyz")["status"] == "degraded")
            send_all(site, aftermath)
            aftermath.ready_before = site.get("/readyz")
            aftermath.attempts = service.log().count("delivery is held up")
            server.start()
            expire_leases(site)
            # Whatever arrives next ends the pause between two attempts.
            last = site.dispatch(document_of(JOBS))
            aftermath.accepted[last["id"]] = JOBS
            site.wait_until_idle()
            aftermath.points = site.points()
            yield aftermath


def send_all(site: Site, aftermath: Aftermath) -> None:
    """Send the jobs from several clients, and kill the service while they come."""
    lock = threading.Lock()

    def send_every(first: int) -> None:
        with httpx.Client(base_url=site.service.url, timeout=60, trust_env=False) as client:
            for number in range(first, JOBS, CLIENTS):
                job_id = send(client, number)
                with lock:
                    aftermath.accepted[job_id] = number

    def send(client: httpx.Client, number: int) -> int:
        document = document_of(number)
        headers = {"Authorization": f"JWT {site.calls.token}"}
        deadline = time.monotonic() + 60
        while True:
            try:
                reply = client.post("/job", json=document, headers=headers)
            except httpx.TransportError:
                assert time.monotonic() < deadline
                aftermath.resent.add(number)
                time.sleep(0.05)
            else:
                assert reply.status_code in {200, 202}, reply.text
                return int(reply.json()["id"])

    with ThreadPoolExecutor(CLIENTS) as pool:
        senders = [pool.submit(send_every, first) for first in range(CLIENTS)]
        wait_for(lambda: len(aftermath.accepted) >= KILL_AFTER)
        site.service.kill()
        site.service.start()
        for sender in senders:
            sender.result()


def test_the_kill_came_while_jobs_arrived(aftermath: Aftermath) -> None:
    assert 1 <= len(aftermath.resent) <= CLIENTS


def test_every_job_was_accepted(aftermath: Aftermath) -> None:
    assert sorted(aftermath.accepted.values()) == list(range(JOBS + 2))


def test_while_influxdb_is_down_the_service_stays_ready_and_says_so(aftermath: Aftermath) -> None:
    target = aftermath.ready_before["targets"]["default"]
    assert (aftermath.ready_before["status"], target["waiting"] >= JOBS) == ("degraded", True)


def test_jobs_that_keep_coming_do_not_make_it_try_all_the_time(aftermath: Aftermath) -> None:
    assert 1 <= aftermath.attempts <= JOBS // 10


def test_every_accepted_job_is_in_influxdb_once(aftermath: Aftermath) -> None:
    assert {job_id: aftermath.ids[job_id] for job_id in aftermath.accepted} == dict.fromkeys(
        aftermath.accepted, 1
    )


def test_every_value_is_the_one_of_its_job(aftermath: Aftermath) -> None:
    stored = {point["fields"]["squash_id"]: point["fields"]["m"] for point in aftermath.points}
    assert {job_id: stored[job_id] for job_id in aftermath.accepted} == aftermath.accepted


def test_nothing_else_is_in_influxdb_but_jobs_whose_reply_was_cut_off(
    aftermath: Aftermath,
) -> None:
    others = {
        int(point["fields"]["m"])
        for point in aftermath.points
        if point["fields"]["squash_id"] not in aftermath.accepted
    }
    assert others <= aftermath.resent
    assert len(aftermath.points) - len(aftermath.accepted) <= CLIENTS


def test_a_job_with_identifiers_is_there_once_even_if_its_reply_was_cut_off(
    aftermath: Aftermath,
) -> None:
    assert {aftermath.numbers[number] for number in range(0, JOBS + 1, 2)} == {1}


# InfluxDB goes away while nothing has to be sent: that is noticed all the same.


@dataclass
class Story:
    """What `/readyz` says of the target while InfluxDB is away, and once it is back."""

    away: dict[str, Any]
    back: dict[str, Any]


@pytest.fixture(scope="module")
def story(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        site = make_site(server)
        site.deliver(job_document({f"{new_package()}.m": 1.0}))
        server.stop()
        wait_for(lambda: target(site)["status"] == "down")
        away = target(site)
        server.start()
        wait_for(lambda: target(site)["status"] == "ok")
        yield Story(away, target(site))
        site.service.stop()


def target(site: Site) -> dict[str, Any]:
    shown: dict[str, Any] = site.get("/readyz")["targets"]["default"]
    return shown


def test_readyz_says_that_it_is_down_and_why(story: Story) -> None:
    assert "refused" in story.away["reason"]
    assert (story.away["waiting"], "since" in story.away) == (0, True)


def test_readyz_says_when_it_is_back(story: Story) -> None:
    assert (story.back["waiting"], "reason" in story.back) == (0, False)
