"""What is in InfluxDB is what a refill would give, whatever was done, in any order."""

import asyncio
import json
import os
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from squash_api.app import create_app
from squash_api.delivery.batches import PointMaker
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.delivery.outlet import HeldUpError
from squash_api.delivery.reconciling import Comparison, Reconciler
from squash_api.index.pruning import Age
from squash_api.influx.client import InfluxClient
from squash_api.record.audit import SERVICE
from squash_api.record.deliveries import backlogs
from squash_api.record.jobs import get_job
from squash_api.settings import InfluxTarget
from squash_api.site import Site
from squash_api.standings.keeping import Planner, Terms
from squash_api.standings.pruning import prune
from tests.support.builders import make_settings
from tests.support.influxd import Influxd
from tests.support.reliability import note

# 2 in `make test`, 20 in `make soak`.
DAMAGES = int(os.environ.get("SQUASH_TEST_DAMAGES", "2"))
METRICS = ("p.a", "p.b", "q.c")
UNITS = ("mmag", "mag", "s", "nJy", "mag(AB)", "")
VALUES = (1.5, 2.25, 0.0, -3.0, 1e300, None, "text")
ARRAYS: tuple[Any, ...] = ([1.5, None, 2.25], [0.0], [], "text", 7)
TAGS: tuple[dict[str, str], ...] = (
    {},
    {"instrument": "HSC"},
    {"instrument": "HSC", "filter_name": "r"},
)


class _CrashError(BaseException):
    """The process ends here."""


class _Network(httpx.BaseTransport):
    """The way to InfluxDB, which may be interrupted, before or after a request gets through."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.is_up = True
        self.crash_in: int | None = None
        self.is_heard = True

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Let a request through, or not."""
        if not self.is_up:
            raise httpx.ConnectError("refused")
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in < 0:
                if self.is_heard:
                    self._inner.handle_request(request).read()
                raise _CrashError
        return self._inner.handle_request(request)

    def close(self) -> None:
        """Stay open: the next client goes the same way."""

    def end(self) -> None:
        """Close the connections."""
        self._inner.close()


class _World:
    """A service whose threads are this test, and a real InfluxDB."""

    def __init__(self, folder: Path, influxd: Influxd, chance: random.Random) -> None:
        self.folder, self.influxd, self.chance = folder, influxd, chance
        self.database = f"live_{uuid.uuid4().hex}"
        self.network = _Network()
        self.loop = asyncio.new_event_loop()
        self.sent: list[dict[str, Any]] = []
        self.declared: set[str] = set()
        self.token = ""
        self.write_specs()
        self.open()
        credentials = {"username": "ada", "password": "a password of tests"}
        self.call("POST", "/register", credentials)
        self.token = self.call("POST", "/auth", credentials).json()["access_token"]

    def open(self) -> None:
        """Start the service, without its threads."""
        settings = make_settings(
            self.folder,
            deliver="off",
            influx_url=self.influxd.url,
            influx_database=self.database,
            specs=(self.folder / "specs",),
        )
        self.app = create_app(settings)
        self.site: Site = self.app.state.site
        (target,) = settings.targets
        self.outlet = self.outlet_to(target)

    def outlet_to(self, target: InfluxTarget) -> InfluxOutlet:
        """Make what delivers to a database."""
        points = PointMaker(
            self.site.record, self.site.metrics, self.site.deriver, squash_url="http://here"
        )
        return InfluxOutlet(target, self.site.record, points, transport=self.network)

    def close(self) -> None:
        """Stop the service."""
        self.outlet.forget()
        self.outlet._lease._over.set()
        with self.site.record._writing.begin() as connection:
            connection.exec_driver_sql("UPDATE target SET lease_owner = NULL, lease_until_ns = 0")
        self.outlet.close()
        self.site.close()

    def call(self, method: str, path: str, content: Any = None) -> httpx.Response:
        """Ask the service for something."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            headers = {"Authorization": f"JWT {self.token}"} if self.token else {}
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, json=content, headers=headers)

        reply = self.loop.run_until_complete(ask())
        assert reply.status_code < 500, reply.text
        return reply

    def write_specs(self) -> None:
        """Write a metrics package with a metric in any unit, derived in any way, and another."""
        directory = self.folder / "specs" / "metrics"
        directory.mkdir(parents=True, exist_ok=True)
        (self.folder / "specs" / "specs").mkdir(exist_ok=True)
        unit = self.chance.choice(UNITS)
        text = f"d:\n  description: One.\n  unit: '{unit}'\n"
        text += f"  reference: {json.dumps(self.derivation())}\n"
        text += f"e: {{description: One., unit: '{unit}'}}\n"
        (directory / "y.yaml").write_text(text)

    # What can be done

    def measured(self) -> dict[str, Any]:
        """Make a measurement of any metric."""
        return {
            "metric": self.chance.choice((*METRICS, "y.d", "y.e")),
            "value": self.chance.choice(VALUES),
            "unit": self.unit(),
            "identifier": uuid.UUID(int=self.chance.getrandbits(128)).hex,
        }

    def derivation(self) -> dict[str, Any]:
        """Make keys of a metric that say how its values are derived, or none."""
        blob = self.chance.choice(("r", "s"))
        reduction = {"by": self.chance.choice(("median", "max")), "blob": blob, "key": "k"}
        made = {"of": "y.e", "over": ["instrument"], "by": self.chance.choice(("max", "count"))}
        found: list[dict[str, Any]] = [{}, {"missing": "zero"}, {"reduce": reduction}]
        return self.chance.choice([*found, {"aggregate": made}])

    def blobs(self) -> list[dict[str, Any]]:
        """Make blobs with an array, or none."""
        return [
            {
                "identifier": uuid.UUID(int=self.chance.getrandbits(128)).hex,
                "name": name,
                "data": {"k": {"value": self.chance.choice(ARRAYS), "unit": self.unit()}},
            }
            for name in ("r", "s")
            if self.chance.random() < 0.4
        ]

    def unit(self) -> str | None:
        """Choose a unit."""
        return self.chance.choice((*UNITS, None))

    def a_job(self) -> int:
        """Choose a job that may have been deleted."""
        return self.chance.randint(1, max(len(self.sent), 1))

    def post_job(self) -> None:
        """Post a new job."""
        env = {
            "env_name": "ldf",
            "ci_name": "pipe",
            "ci_id": str(self.chance.randint(1, 30)),
            "date": f"2026-11-2{self.chance.randint(0, 5)}T0{self.chance.randint(0, 3)}:00:00Z",
        }
        afw = {"name": "afw", "git_sha": self.chance.choice("abc") * 40, "git_url": "x"}
        packages = {"afw": afw} if self.chance.random() < 0.6 else {}
        meta = {"env": env, "packages": packages, **self.chance.choice(TAGS)}
        measurements = [self.measured() for _ in range(self.chance.randint(1, 5))]
        document = {"measurements": measurements, "blobs": self.blobs(), "meta": meta}
        if self.call("POST", "/job", document).status_code == 202:
            self.sent.append(document)

    def post_again(self) -> None:
        """Post a job that is there already."""
        if self.sent:
            reply = self.call("POST", "/job", self.chance.choice(self.sent))
            if reply.status_code == 202:
                self.sent.append({})

    def add(self) -> None:
        """Add a measurement, or replace one."""
        self.call("POST", f"/measurement/{self.a_job()}", self.measured())

    def withdraw(self) -> None:
        """Replace a value by null."""
        nothing = {**self.measured(), "value": None, "unit": None}
        self.call("POST", f"/measurement/{self.a_job()}", nothing)

    def declare(self) -> None:
        """Declare a metric, or change its unit or how its values are derived."""
        name, unit = self.chance.choice(METRICS), self.chance.choice(UNITS)
        document = {"name": name, "unit": unit, "description": "One.", **self.derivation()}
        if self.call("POST", f"/metric/{name}", document).status_code == 409:
            self.call("PUT", f"/metric/{name}", document)

    def undeclare(self) -> None:
        """Withdraw the declaration of a metric."""
        self.call("DELETE", f"/metric/{self.chance.choice(METRICS)}")

    def delete(self) -> None:
        """Delete a job."""
        self.call("DELETE", f"/job/{self.a_job()}")

    def prune(self) -> None:
        """Delete the jobs that were received before another one, apart from what must stay."""
        self.site.reader.catch_up(may_lag=False)
        with self.site.record.read() as connection:
            row = get_job(connection, self.a_job())
        if row is None:
            return
        names = tuple(item.name for item in self.site.settings.outlets)
        age = Age(max(row.received_ns, row.time_ns), names if self.chance.random() < 0.5 else ())
        terms = Terms(age, takes_last=self.chance.random() < 0.5)
        planner = Planner(self.site.reader, self.site.states, terms)
        plan = planner.plan()
        most = self.chance.randint(1, 30)
        # It may be interrupted.
        steps = prune(self.site.record, self.site.reader, planner, plan, by=SERVICE)
        assert all(step.jobs <= plan.jobs for step in islice(steps, most))

    def restart(self) -> None:
        """Start again, perhaps with another metrics package."""
        self.close()
        if self.chance.random() < 0.5:
            self.write_specs()
        self.open()

    def interrupt(self) -> None:
        """Take InfluxDB away, or give it back."""
        self.network.is_up = not self.network.is_up

    def deliver(self) -> None:
        """Send once."""
        with suppress(HeldUpError):
            self.outlet.step()

    def crash(self) -> None:
        """Send once, and end in the middle of it."""
        self.network.crash_in = self.chance.randint(0, 6)
        self.network.is_heard = self.chance.random() < 0.5
        with suppress(HeldUpError, _CrashError):
            self.outlet.step()
        self.network.crash_in = None
        self.restart()

    def derive(self) -> None:
        """Bring the index a step further."""
        self.site.deriver.derive_some()

    def settle(self, outlet: InfluxOutlet) -> None:
        """Do all that waits."""
        self.network.is_up = True
        for _ in range(200):
            has_derived = self.site.deriver.derive_some()
            outlet.step()
            with self.site.record.read() as connection:
                (backlog,) = backlogs(connection, targets=[outlet.name])
            if not has_derived and not backlog.waiting:
                return
        raise AssertionError("delivery never ends")

    def databases(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the points of InfluxDB, and those of one that is filled from the beginning."""
        database = f"fresh_{uuid.uuid4().hex}"
        target = InfluxTarget(name=database, url=self.influxd.url, database=database)
        fresh = self.outlet_to(target)
        self.settle(fresh)
        fresh.close()
        found = [self.influxd.points(name) for name in (self.database, database)]
        self.influxd.query(f'DROP DATABASE "{database}"')
        with self.site.record._writing.begin() as connection:
            for table in ("redelivery", "erasure", "quarantine", "target"):
                column = "name" if table == "target" else "target"
                forget = text(f"DELETE FROM {table} WHERE {column} = :name")
                connection.execute(forget, {"name": database})
        return _sorted(found[0]), _sorted(found[1])

    def damage(self) -> None:
        """Do something to InfluxDB behind the service's back."""
        points = self.influxd.points(self.database)
        if not points:
            return
        point = self.chance.choice(points)
        name, time_ns = point["measurement"], point["time"]
        tags = "".join(f",{key}={value}" for key, value in sorted(point["tags"].items()))
        field = self.chance.choice(["a", "c", "squash_id", "new"])
        match self.chance.randint(0, 5):
            case 0:
                self.influxd.query(
                    f'DELETE FROM "{name}" WHERE time = {time_ns}', database=self.database
                )
            case 1:
                self.influxd.query(
                    f'DELETE FROM "{name}" WHERE time >= {time_ns}', database=self.database
                )
            case 2:
                self.influxd.query(f'DROP MEASUREMENT "{name}"', database=self.database)
            case 3:
                value = self.chance.choice([-7.0, 0.25])
                self.influxd.write(self.database, f"{name}{tags} {field}={value} {time_ns}")
            case 4:
                line = f"{name},instrument=other squash_id=1,{field}_2=3 {time_ns}"
                self.influxd.write(self.database, line)
            case _:
                # A job that the record does not have.
                line = f"{name}{tags} squash_id=999,{field}_2=3 {time_ns + 1}"
                self.influxd.write(self.database, line)

    def reconcile(self, *, is_repaired: bool) -> Comparison:
        """Compare InfluxDB with the record, and ask for what differs."""
        (target,) = self.site.settings.targets
        points = PointMaker(
            self.site.record, self.site.metrics, self.site.deriver, squash_url="http://here"
        )
        with InfluxClient(target) as client:
            reconciler = Reconciler(client, self.site.record, points)
            *_, found = reconciler.compare(is_repaired=is_repaired, is_pruned=is_repaired)
        return found

    def statuses(self) -> set[str]:
        """Return the states of delivery of all jobs."""
        replies = [self.call("GET", f"/status/{number + 1}") for number in range(len(self.sent))]
        return {reply.json()["status"] for reply in replies if reply.status_code == 200}


@contextmanager
def world(folder: Path, influxd: Influxd, seed: int) -> Iterator[_World]:
    made = _World(folder, influxd, random.Random(seed))
    try:
        yield made
    finally:
        made.close()
        made.network.end()
        made.loop.run_until_complete(made.loop.shutdown_default_executor())
        made.loop.close()


OPERATIONS: dict[Callable[[_World], None], int] = {
    _World.post_job: 8,
    _World.post_again: 2,
    _World.add: 5,
    _World.withdraw: 5,
    _World.declare: 5,
    _World.undeclare: 1,
    _World.delete: 2,
    _World.prune: 1,
    _World.restart: 1,
    _World.interrupt: 2,
    _World.deliver: 10,
    _World.crash: 2,
    _World.derive: 5,
}


@pytest.mark.parametrize("seed", range(3))
def test_live_and_refilled_are_the_same(tmp_path: Path, influxd: Influxd, seed: int) -> None:
    with world(tmp_path, influxd, seed) as made:
        for _ in range(5):
            operations = made.chance.choices(list(OPERATIONS), list(OPERATIONS.values()), k=15)
            for operation in operations:
                operation(made)
            made.settle(made.outlet)
            assert made.statuses() <= {"SUCCESS"}
            live, refilled = made.databases()
            assert live == refilled, [item.__name__ for item in operations]


@pytest.mark.parametrize("seed", range(3, 3 + DAMAGES))
def test_whatever_was_done_to_influxdb_reconcile_makes_it_what_a_refill_would(
    tmp_path: Path, influxd: Influxd, seed: int
) -> None:
    operations = {item: OPERATIONS[item] for item in OPERATIONS if item is not _World.interrupt}
    with world(tmp_path, influxd, seed) as made:
        for _ in range(3):
            for operation in made.chance.choices(list(operations), list(operations.values()), k=25):
                operation(made)
            made.settle(made.outlet)
            assert made.reconcile(is_repaired=False).is_same
            damages = made.chance.randint(1, 6)
            for _ in range(damages):
                made.damage()
            live, refilled = made.databases()
            found = made.reconcile(is_repaired=True)
            assert found.is_same == (live == refilled), found
            made.settle(made.outlet)
            live, refilled = made.databases()
            assert live == refilled, found
            assert made.reconcile(is_repaired=False).is_same
            assert made.statuses() <= {"SUCCESS"}
            note("damages", damages=damages)


def test_code_changes_that_are_no_longer_known_leave_influxdb(
    tmp_path: Path, influxd: Influxd
) -> None:
    measurement = {"metric": "p.a", "value": 1.0, "unit": "mmag"}

    def post(run_id: str, day: int, *shas: str) -> None:
        env = {"ci_name": "pipe", "ci_id": run_id, "date": f"2026-11-{day}T03:00:00Z"}
        packages = [{"name": "afw", "git_sha": sha, "git_url": "x"} for sha in shas]
        document = {"measurements": [measurement], "meta": {"env": env, "packages": packages}}
        assert made.call("POST", "/job", document).status_code == 202
        made.settle(made.outlet)

    with world(tmp_path, influxd, 0) as made:
        post("r1", 20, "a")
        post("r2", 22, "b")
        assert any("code_changes" in point["fields"] for point in made.databases()[0])
        # It comes late, between the two, and does not say what its code was.
        post("r3", 21)
        live, refilled = made.databases()
        assert live == refilled


def _sorted(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(points, key=repr)
