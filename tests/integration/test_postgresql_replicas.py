"""Two replicas that start on an empty PostgreSQL together, and share everything while they work."""

import csv
import os
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.calls import Calls, log_in
from tests.support.influxd import Influxd
from tests.support.postgresql import PostgreSQL
from tests.support.reliability import note
from tests.support.service import Service
from tests.support.site import job_document, wait_for

pytestmark = pytest.mark.postgresql

# 240 in `make test`, 10,000 in `make soak`.
JOBS = int(os.environ.get("SQUASH_TEST_REPLICA_JOBS", "240"))
CLIENTS = 8
ROUNDS = -(-JOBS // (2 * CLIENTS))
# Every so many rounds all clients do the same at once: the same job, a new metric, a definition.
TOGETHER = 5
DATE = "2026-11-01T00:00:00Z"
_LOCKED = "The record is locked by another process; nothing was stored"


@dataclass
class Story:
    """What two replicas answered, and what there was in the end.

    `accepted` are the ids of jobs by the word in them, `twice` the pairs of replies to the same job
    at both, `told` the jobs that the listeners of each heard of, `shown` those in its pages.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    waits: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    twice: list[tuple[httpx.Response, httpx.Response]] = field(default_factory=list)
    defined: list[httpx.Response] = field(default_factory=list)
    told: dict[str, set[int]] = field(default_factory=dict)
    stored: list[int] = field(default_factory=list)
    sent: Counter[int] = field(default_factory=Counter)
    shown: list[list[int]] = field(default_factory=list)


class Mixing:
    """Clients of two replicas, which do the same at the same time."""

    def __init__(self, services: list[Service]) -> None:
        self.services = services
        self.story = Story()
        self.lock = threading.Lock()
        self.barrier = threading.Barrier(2 * CLIENTS, timeout=120)
        with httpx.Client(base_url=services[0].url, timeout=60, trust_env=False) as client:
            wait_for(lambda: client.get("/readyz").status_code == 200)
            self.token = log_in(client, "ada").token

    def run(self) -> None:
        """Let every client do its rounds."""
        with ThreadPoolExecutor(2 * CLIENTS) as pool:
            done = [pool.submit(self._work, number) for number in range(2 * CLIENTS)]
            for item in done:
                item.result()

    def _work(self, number: int) -> None:
        url = self.services[number % 2].url
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            calls = Calls(client, self.token)
            for index in range(ROUNDS):
                # All at once, all with the same date, every few rounds with the same new metric.
                self.barrier.wait()
                if index % TOGETHER == 1:
                    self._define(calls, index, number)
                word = f"{index}-{number}"
                metrics = {"two.m": float(number), f"two.new{index // TOGETHER}": 1.0}
                document = job_document(metrics, unit="mm", run_id=word, date=DATE)
                self._note(word, self._post(calls, document))
                if index % TOGETHER == 2:
                    self._send_to_both(calls, index, number)

    def _post(self, calls: Calls, document: Any) -> httpx.Response:
        """Post a job; again if the other replica has held the lock for two seconds.

        It does on a machine that has no time for it; `waits` counts that.
        """
        while True:
            reply = calls("POST", "/job", document)
            if reply.status_code != 503 or _LOCKED not in reply.text:
                return reply
            with self.lock:
                self.story.waits += 1

    def _note(self, word: str, reply: httpx.Response) -> None:
        with self.lock:
            self.story.statuses[reply.status_code] += 1
            if reply.status_code in {200, 202}:
                self.story.accepted[word] = reply.json()["id"]

    def _define(self, calls: Calls, index: int, number: int) -> None:
        """Define a metric that all others define too, and change a specification of it."""
        name = f"two.defined{index}"
        reply = calls("POST", f"/metric/{name}", {"unit": "mm", "description": "Of a test."})
        limit = {"operator": "<=", "unit": "mm", "value": float(number)}
        document = {"metric": name, "threshold": limit, "tags": ["minimum"]}
        other = calls("POST", f"/spec/{name}.n{number}", document)
        with self.lock:
            self.story.defined += [reply, other]

    def _send_to_both(self, calls: Calls, index: int, number: int) -> None:
        """Post one job at both replicas at the same moment."""
        word = f"both-{index}-{number}"
        document = job_document({"two.m": 1.0}, unit="mm", run_id=word, date=DATE)
        other = self.services[(number + 1) % 2].url
        with (
            httpx.Client(base_url=other, timeout=60, trust_env=False) as client,
            ThreadPoolExecutor(1) as pool,
        ):
            there = pool.submit(self._post, Calls(client, self.token), document)
            here = self._post(calls, document)
            with self.lock:
                self.story.twice.append((here, there.result()))
        self._note(word, here)


def listen(service: Service, heard: set[int], is_listening: threading.Barrier) -> None:
    """Note the jobs that a replica tells of, until it ends."""
    with (
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
        client.stream("GET", "/events?after=0") as reply,
    ):
        is_listening.wait()
        for line in reply.iter_lines():
            if line.startswith("id: "):
                heard.add(int(line.removeprefix("id: ")))


@pytest.fixture(scope="module")
def story(
    postgresql: PostgreSQL, influxd: Influxd, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    folder: Path = tmp_path_factory.mktemp("replicas")
    name = f"replicas_{uuid.uuid4().hex}"
    postgresql.create(name, template="template1")
    options = {
        "SQUASH_DATABASE_URL": postgresql.url_of(name),
        "SQUASH_INFLUX_URL": influxd.url,
        "SQUASH_INFLUX_DATABASE": name,
        # Ada defines more in a minute than others in a day.
        "SQUASH_NEW_METRICS_PER_DAY": "0",
    }
    services = [Service(folder / each, **options) for each in ("one", "two")]
    with ExitStack() as stack:
        with ThreadPoolExecutor(2) as pool:
            for started in [pool.submit(service.start) for service in services]:
                started.result()
        for service in services:
            stack.callback(service.stop)
        mixing, heard = Mixing(services), [set[int](), set[int]()]
        is_listening = threading.Barrier(3, timeout=60)
        listeners = [
            threading.Thread(target=listen, args=(service, each, is_listening))
            for service, each in zip(services, heard, strict=True)
        ]
        for listener in listeners:
            listener.start()
        is_listening.wait()
        mixing.run()
        told, ids = mixing.story, set(mixing.story.accepted.values())
        wait_for(lambda: is_idle(services[0]))
        wait_for(lambda: all(ids <= each for each in heard))
        told.told = {"one": set(heard[0]), "two": set(heard[1])}
        told.shown = [shown(service) for service in services]
        with closing(postgresql.connect(name)) as connection:
            rows = connection.execute("SELECT id FROM job ORDER BY id").fetchall()
        told.stored = [row[0] for row in rows]
        points = influxd.points(name, "two")
        told.sent = Counter(int(point["fields"]["squash_id"]) for point in points)
        for service in services:
            service.stop()
        for listener in listeners:
            listener.join()
    postgresql.drop(name)
    errors = sum(told.statuses[status] for status in (500, 503))
    note("replicas", jobs=len(told.accepted), errors=errors, waits=told.waits)
    return told


def is_idle(service: Service) -> bool:
    """Tell whether everything is delivered."""
    reply: Any = httpx.get(f"{service.url}/readyz", timeout=60, trust_env=False).json()
    waits = any(item["waiting"] for item in reply["targets"].values())
    return bool(reply["status"] == "ok" and not waits)


def shown(service: Service) -> list[int]:
    """Return the jobs whose values of a metric a replica shows, sorted."""
    asked = {"metric": "two.m", "format": "csv"}
    reply = httpx.get(f"{service.url}/measurements", params=asked, timeout=60, trust_env=False)
    rows = csv.DictReader(reply.text.splitlines())
    return sorted(int(row["job"]) for row in rows)


def test_every_reply_is_a_202(story: Story) -> None:
    assert story.statuses.keys() <= {200, 202}
    assert len(story.accepted) >= JOBS


def test_every_accepted_job_is_in_the_record_once(story: Story) -> None:
    assert sorted(story.accepted.values()) == story.stored


def test_every_accepted_job_is_in_influxdb_once(story: Story) -> None:
    assert story.sent == Counter(story.stored)


def test_every_accepted_job_is_in_what_each_replica_shows(story: Story) -> None:
    assert story.shown == [story.stored] * 2


def test_the_same_job_at_both_is_stored_once(story: Story) -> None:
    assert story.twice
    for replies in story.twice:
        assert sorted(reply.status_code for reply in replies) == [200, 202]
        assert len({reply.json()["id"] for reply in replies}) == 1


def test_definitions_that_both_are_sent_at_once_are_defined_once(story: Story) -> None:
    assert {reply.status_code for reply in story.defined} == {200, 201}


def test_each_replica_tells_its_listeners_of_the_jobs_of_both(story: Story) -> None:
    assert story.told["one"] == story.told["two"] == set(story.stored)
