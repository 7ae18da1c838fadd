"""Processes that are killed again and again while clients post, and what became of their jobs."""

import json
import random
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.record.database import open_database, writing
from tests.support.alerting import generated
from tests.support.calls import log_in
from tests.support.faulty_proxy import Exchange, FaultyProxy, pass_on
from tests.support.http_server import HttpServer
from tests.support.influxd import Influxd
from tests.support.metrics_packages import write_metrics_package
from tests.support.service import READING, Deliverer, Service
from tests.support.site import AS_JSON, wait_for
from tests.support.told_kapacitor import ToldKapacitor, parse_line

CLIENTS = 12
_METRICS = "PA1: {description: Photometric repeatability., unit: mmag}"
_SPECS = """
name: PA1.minimum
threshold: {operator: "<=", unit: mmag, value: 8}
tags: [minimum]
"""
_METRIC = "validate.PA1"
# So long it may take until a write comes that a kill waits for.
_PATIENCE_S = 1.5


def document_of(number: int, *, clients: int) -> dict[str, Any]:
    """Make the job of a number; its identifier is made from it, and each client has a series."""
    measurement = {
        "metric": _METRIC,
        "identifier": uuid.UUID(int=number).hex,
        "value": float(number),
        "unit": "mmag",
    }
    meta = {"instrument": f"i{number % clients}", "packages": {}}
    return {"measurements": [measurement], "blobs": [], "meta": meta}


@dataclass
class Aftermath:
    """What clients were told, and what was found everywhere afterwards.

    Jobs have numbers of the clients' own. `accepted` are those answered by 202, with the ids they
    got, and `bodies` what was sent. `found` are all jobs of the record, the number by the id, and
    `times` their times. `points` are the values in InfluxDB by the id of the job, `arrived` the ids
    in the order in which InfluxDB got them first. `told` is what Kapacitor was told: instrument,
    id, value and time.
    """

    seed: int
    clients: int = CLIENTS
    kills: int = 0
    accepted: dict[int, int] = field(default_factory=dict)
    bodies: dict[int, Any] = field(default_factory=dict)
    found: dict[int, int] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    points: dict[int, list[float]] = field(default_factory=dict)
    arrived: list[int] = field(default_factory=list)
    told: list[tuple[str, int, float, int]] = field(default_factory=list)
    ready: dict[str, Any] = field(default_factory=dict)

    def lost(self) -> list[int]:
        """Return the numbers of accepted jobs that the record or InfluxDB does not have."""
        return [
            number
            for number, job_id in self.accepted.items()
            if self.found.get(job_id) != number or not self.points.get(job_id)
        ]

    def double(self) -> list[int]:
        """Return the numbers of jobs that are twice in the record, and ids twice in InfluxDB."""
        again = [number for number, count in Counter(self.found.values()).items() if count > 1]
        return again + [job_id for job_id, values in self.points.items() if len(values) > 1]

    def newest(self) -> dict[str, tuple[int, float]]:
        """Return the id and the value of the newest job of each instrument."""
        last: dict[str, int] = {}
        for job_id in sorted(self.found, key=self.times.__getitem__):
            last[f"i{self.found[job_id] % self.clients}"] = job_id
        return {name: (job_id, float(self.found[job_id])) for name, job_id in last.items()}


class Killing:
    """One story: services, what they deliver to, and the clients.

    With `deliverers` the services leave delivery to so many `squash deliver`, and any of all these
    is killed. `url` is that of the record, by default a file of SQLite.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        services: int = 1,
        deliverers: int = 0,
        clients: int = CLIENTS,
        url: str | None = None,
    ) -> None:
        self.chance = random.Random(seed)
        self.aftermath = Aftermath(seed, clients)
        self.folder = folder
        self.clients = clients
        self.url = url or f"sqlite:///{folder / 'squash.db'}"
        self._counts = services, deliverers
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self.answers = 0

    def run(self, kills: int) -> Aftermath:
        """Kill so many times, let everything be delivered, and look at it."""
        directory = write_metrics_package(self.folder / "specs", metrics=_METRICS, specs=_SPECS)
        files = generated(load_metrics_package(directory))
        self.kapacitor = ToldKapacitor(files, now_ns=time.time_ns())
        with ExitStack() as stack:
            self.influxd = stack.enter_context(Influxd(self.folder / "influxd"))
            self.proxy = stack.enter_context(FaultyProxy(self.influxd.url))
            told = stack.enter_context(HttpServer(self._tell))
            services, deliverers = self._counts
            # A second start with each start: one world with it, as by default, is enough.
            reading = READING if (services, deliverers) == (1, 0) else {}
            self.services = [
                Service(
                    self.folder / f"service-{number}",
                    SQUASH_DATABASE_URL=self.url,
                    SQUASH_SPECS=str(directory),
                    SQUASH_INFLUX_URL=self.proxy.url,
                    SQUASH_KAPACITOR_URL=told.url,
                    SQUASH_DELIVER="off" if deliverers else "inline",
                    **reading,
                )
                for number in range(services)
            ]
            self.victims: list[Service | Deliverer] = [
                *self.services,
                *(
                    Deliverer(self.services[0], name=f"deliverer-{number}")
                    for number in range(deliverers)
                ),
            ]
            self._start(stack)
            self.record = open_database(self.url)
            stack.callback(self.record.dispose)
            self._post_and_kill(kills)
            self._look()
        return self.aftermath

    def _start(self, stack: ExitStack) -> None:
        """Start all, the services at once: each finds an empty record, or none."""
        for group in (self.services, self.victims[len(self.services) :]):
            with ThreadPoolExecutor(max(len(group), 1)) as pool:
                started = [pool.submit(victim.start) for victim in group]
            for victim in group:
                stack.callback(victim.stop)
            for item in started:
                item.result()

    def _tell(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            return self.kapacitor(request)

    def _post_and_kill(self, kills: int) -> None:
        url = self.services[0].url
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            # While several start, one may wait for another.
            wait_for(lambda: client.get("/readyz").status_code == 200)
            token = log_in(client, "ada").token
        with ThreadPoolExecutor(self.clients) as pool:
            clients = [pool.submit(self._post, first, token) for first in range(self.clients)]
            try:
                for _ in range(kills):
                    self._kill()
            finally:
                self.is_over.set()
            for item in clients:
                item.result()

    def _post(self, first: int, token: str) -> None:
        """Post jobs one after the other, each until it is answered, as a careful client does."""
        number = first
        chance = random.Random(first)
        headers = {"Authorization": f"JWT {token}", **AS_JSON}
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self.is_over.is_set():
                document = document_of(number, clients=self.clients)
                content = json.dumps(document).encode()
                reply = self._send(client, content, headers, first=number // self.clients + first)
                job_id = int(reply.json()["id"])
                with self.lock:
                    self.aftermath.accepted[number] = job_id
                    self.aftermath.bodies[number] = content
                    self.answers += 1
                number += self.clients
                time.sleep(chance.uniform(0.0, 0.1))

    def _send(
        self, client: httpx.Client, content: bytes, headers: dict[str, str], *, first: int
    ) -> httpx.Response:
        """Send a job to one service after the other until one answers, as a load balancer does."""
        deadline = time.monotonic() + 120
        for turn in count(first):
            url = self.services[turn % len(self.services)].url
            try:
                reply = client.post(f"{url}/job", content=content, headers=headers)
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the service does not come back"
            else:
                if reply.status_code != 503:
                    assert reply.status_code in {200, 202}, reply.text
                    return reply
            time.sleep(0.02)
        raise AssertionError("there is always a next turn")

    def _kill(self) -> None:
        """Kill somebody: at any moment, or right before or after InfluxDB has got something."""
        victim = self.chance.choice(self.victims)
        before = self.answers
        wait_for(lambda: self.answers > before)
        pid = victim.pid
        moment = self.chance.choice(("any", "any", "before a write", "after a write"))
        if moment == "any":
            time.sleep(self.chance.uniform(0.0, 0.5))
            victim.kill()
        else:
            self._kill_at_a_write(victim, is_after=moment == "after a write")
        self.aftermath.kills += 1
        self._expire_leases(pid)
        victim.start()

    def _kill_at_a_write(self, victim: Service | Deliverer, *, is_after: bool) -> None:
        killed = threading.Event()

        def kill_here(exchange: Exchange) -> None:
            if not exchange.is_write or killed.is_set():
                pass_on(exchange)
                return
            reply = exchange.pass_on() if is_after else None
            victim.kill()
            killed.set()
            if reply is not None:
                exchange.give(reply)

        self.proxy.fail(kill_here)
        killed.wait(_PATIENCE_S)
        self.proxy.mend()
        if not killed.is_set():
            victim.kill()

    def _expire_leases(self, pid: int | None) -> None:
        """Let the time go by in which nobody takes over from who was killed."""
        with writing(self.record, patience_s=60).begin() as connection:
            connection.execute(_EXPIRE, {"who": f"% {pid} %"})

    def _look(self) -> None:
        """Wait until all is delivered, then read the record and InfluxDB."""
        found = self.aftermath

        def is_idle() -> bool:
            url = self.services[0].url
            reply = httpx.get(f"{url}/readyz", timeout=60, trust_env=False).json()
            found.ready = reply
            waits = any(item["waiting"] for item in reply["targets"].values())
            return reply["status"] == "ok" and not waits

        wait_for(is_idle)
        for victim in self.victims:
            victim.stop()
        with self.record.connect() as record:
            for job_id, time_ns, body in record.execute(_JOBS):
                number = int(json.loads(body)["measurements"][0]["value"])
                found.found[job_id], found.times[job_id] = number, time_ns
                if number in found.bodies:
                    assert bytes(body) == found.bodies[number]
        for point in self.influxd.points("squash"):
            values = found.points.setdefault(int(point["fields"]["squash_id"]), [])
            values.append(point["fields"]["PA1"])
        found.arrived = self.proxy.first_arrivals()
        for line in self.kapacitor.lines:
            name, tags, fields, time_ns = parse_line(line)
            if name == "validate" and "squash_id" in fields:
                told = (int(float(fields["squash_id"])), float(fields["PA1"]), time_ns)
                found.told.append((tags["instrument"], *told))


_EXPIRE = text("UPDATE target SET lease_until_ns = 0 WHERE lease_owner LIKE :who")
_JOBS = text("SELECT id, time_ns, body FROM job")
