"""Every operation on every InfluxDB: it is done, or refused by name; nothing is tried for ever.

1.6.7 is real, the others are stand-ins (`tests/support/influx_versions.py`).
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Connection
from structlog.testing import capture_logs

from squash_api.delivery.batches import PointMaker
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.delivery.reconciling import Comparison, Reconciler
from squash_api.index.deriver import Deriver
from squash_api.influx.client import InfluxClient
from squash_api.record.audit import UNKNOWN
from squash_api.record.deliveries import (
    Erasure,
    backlogs,
    request_erasures,
    request_redelivery,
    request_rewriting,
    servers,
)
from squash_api.record.jobs import add_measurement, bury_jobs
from squash_api.record.metrics import Metrics
from squash_api.record.quarantine import Which, entries, retry
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.settings import InfluxTarget
from tests.support.builders import make_body, measured, store_job
from tests.support.influx_versions import TOKEN, VERSIONS, Core, StandIn
from tests.support.influxd import Influxd
from tests.support.outlets import drain, state, step, target

pytestmark = pytest.mark.sqlite
REAL = "1.6.7"
NOW_NS = time.time_ns() // 10**9 * 10**9
DELETING = {REAL, "1", "2"}
CANNOT = {
    "3 Core": "InfluxDB 3 Core 3.8.0 deletes no points",
    "3 Enterprise": "InfluxDB 3 Enterprise 3.11.0 deletes no points",
    "Cloud": "datafusion error: This feature is not implemented: DELETE",
}


@dataclass
class World:
    """A record, an outlet to an InfluxDB, and what that holds."""

    record: Record
    name: str
    url: str
    database: str
    real: Influxd | None = None
    stand_in: StandIn = field(default_factory=StandIn)
    token: str = TOKEN

    def __post_init__(self) -> None:
        self.outlet = InfluxOutlet(
            self.target, self.record, self._points(), transport=self._transport()
        )

    @property
    def target(self) -> InfluxTarget:
        token = None if self.real else SecretStr(self.token)
        return InfluxTarget(url=self.url, database=self.database, token=token)

    def _transport(self) -> httpx.BaseTransport | None:
        return None if self.real else httpx.MockTransport(self.stand_in)

    def _points(self) -> PointMaker:
        metrics = Metrics(self.record, Schema())
        deriver = Deriver(self.record, metrics)
        return PointMaker(self.record, metrics, deriver, squash_url="https://squash.example")

    def drain(self) -> None:
        self.outlet._heard = 0.0
        drain(self.outlet)

    def values(self) -> dict[int, dict[str, Any]]:
        """Return the metrics' fields of all points, by the seconds since `NOW_NS`."""
        if self.real is not None:
            found = [(p["time"], p["fields"]) for p in self.real.points(self.database)]
        else:
            found = [(key[1], fields) for key, fields in self.stand_in.points.items()]
        return {
            (time_ns - NOW_NS) // 10**9: {k: v for k, v in fields.items() if k in "abcdef"}
            for time_ns, fields in found
        }

    def write(self, line: str) -> None:
        """Write a line as another program might."""
        if self.real is not None:
            self.real.write(self.database, line)
        else:
            self.stand_in.store_line(line)

    def reconcile(self) -> Comparison:
        with InfluxClient(self.target, transport=self._transport()) as client:
            steps = Reconciler(client, self.record, self._points()).compare(
                is_repaired=True, is_pruned=True
            )
            return list(steps)[-1]

    def reasons(self) -> set[str]:
        with self.record.read() as connection:
            return {item.reason for item in entries(connection, Which(), after=0, limit=99)}

    def asks_nothing_more(self) -> bool:
        """Tell whether rounds without anything to do ask nothing."""
        self.drain()
        before = len(self.stand_in.requests)
        # Not even a ping, however slow this machine is.
        self.outlet._heard = inf
        for _ in range(3):
            step(self.outlet)
        return len(self.stand_in.requests) == before


@pytest.fixture(params=VERSIONS)
def world(request: pytest.FixtureRequest, record: Record) -> Iterator[World]:
    if request.param == REAL:
        real = request.getfixturevalue("influxd")
        database = f"versions_{uuid.uuid4().hex}"
        real.create_database(database)
        made = World(record, REAL, real.url, database, real)
    else:
        made = new_world(record, request.param)
    yield made
    made.outlet.close()


def new_world(record: Record, name: str, stand_in: StandIn | None = None, **how: Any) -> World:
    used = stand_in or VERSIONS[name]()
    return World(record, name, "http://influx.invalid", "squash", stand_in=used, **how)


def add_job(record: Record, second: int, **values: float) -> int:
    body = make_body(*[measured(f"p.{key}", value) for key, value in values.items()])
    units = {f"p.{key}": "mmag" for key in values} if second == 0 else {}
    return store_job(record, asked_ns=NOW_NS + second * 10**9, body=body, new_units=units)


def delete(record: Record, job: int, second: int) -> None:
    erasure = Erasure(job, NOW_NS + second * 10**9, ("p",))
    record.write(lambda c: request_erasures(c, [erasure], targets=["default"]))
    record.write(lambda c: bury_jobs(c, [job], user_id=1, deleted_ns=9))


def withdraw(record: Record, job: int, second: int) -> None:
    """Replace the value p.a of a job by null, as `POST /measurement` does."""
    nothing: dict[str, object] = {"metric": "p.a", "value": None, "unit": None}

    def work(connection: Connection) -> None:
        add_measurement(connection, job_id=job, document=nothing, user_id=1, created_ns=1)
        request_rewriting(connection, [Erasure(job, NOW_NS + second * 10**9, ("p",))])
        request_redelivery(connection, [job], targets=["default"], request=time.time_ns())

    record.write(work)


# Delivery


@pytest.mark.parametrize("world", [REAL, *VERSIONS], indirect=True)
def test_jobs_arrive_and_the_server_is_named(world: World) -> None:
    job = add_job(world.record, 0, a=1.5, b=2.5)
    with capture_logs() as logs:
        world.drain()
    assert world.values() == {0: {"a": 1.5, "b": 2.5}}
    assert state(world.record, job).state == "SUCCESS"
    names = {
        REAL: "InfluxDB 1.6.7~rc0",
        "1": "InfluxDB 1.8.10",
        "2": "InfluxDB 2.7.12",
        "3 Core": "InfluxDB 3 Core 3.8.0",
        "3 Enterprise": "InfluxDB 3 Enterprise 3.11.0",
        "Cloud": "InfluxDB Cloud 2.0.0",
    }
    with world.record.read() as connection:
        noted = servers(connection)["default"]
    assert noted["server"] == names[world.name]
    assert bool(noted["lacks"]) == (world.name not in {REAL, "1"})
    (told,) = [item for item in logs if item["event"] == "InfluxDB answers"]
    assert told["server"] == noted["server"]
    assert world.asks_nothing_more()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1", None),
        ("3 Core", None),
        ("3 Enterprise", None),
        ("2", "no dbrp mapping found: no bucket is mapped to the database of this target, see"),
        ("Cloud", "insufficient permissions to create a bucket"),
    ],
)
def test_a_missing_database_is_made_or_its_absence_said_until_it_is_there(
    record: Record, name: str, said: str | None
) -> None:
    world = new_world(record, name, VERSIONS[name]("other"))
    add_job(record, 0, a=1.5)
    if said is None:
        world.drain()
    else:
        assert step(world.outlet) == pytest.approx(30)
        assert (target(record).trouble or "").startswith(said)
        assert not any("CREATE" in item for item in world.stand_in.requests)
        world.stand_in.databases.add("squash")
        world.drain()
    assert (world.values(), target(record).trouble) == ({0: {"a": 1.5}}, None)


@pytest.mark.parametrize("name", list(VERSIONS))
def test_a_wrong_token_is_refused_and_said_and_jobs_wait(record: Record, name: str) -> None:
    stand_in = VERSIONS[name]()
    stand_in.token = "another"
    world = new_world(record, name, stand_in)
    add_job(record, 0, a=1.5)
    assert step(world.outlet) == pytest.approx(30)
    assert "delivery-refused" in (target(record).trouble or "")
    assert backlog(record).waiting == 1


@pytest.mark.parametrize(
    ("database", "databases", "said"),
    [
        ("squash", ("a", "b", "c", "d", "e"), "would exceed limit of 5 databases"),
        ("squash.dev", (), "invalid character in database or rp name"),
    ],
)
def test_what_is_wrong_with_the_database_puts_no_line_into_quarantine(
    record: Record, database: str, databases: tuple[str, ...], said: str
) -> None:
    world = new_world(record, "3 Core", Core(*databases))
    world.outlet._client._write_to["db"] = database
    add_job(record, 0, a=1.5)
    assert step(world.outlet) == pytest.approx(30)
    assert said in (target(record).trouble or "")
    assert world.reasons() == set()


# Lines that are refused


def test_a_line_of_another_type_is_refused_with_its_reason_and_the_others_arrive(
    world: World,
) -> None:
    for second in range(6):
        add_job(world.record, second, a=float(second))
    world.write(f'p,x=y b="text" {NOW_NS - 10**9}')
    add_job(world.record, 7, a=1.0, b=2.0)
    world.drain()
    assert {0, 1, 2, 3, 4, 5} <= world.values().keys()
    assert 7 not in world.values()
    (reason,) = world.reasons()
    assert "type" in reason
    assert world.asks_nothing_more()


@pytest.mark.parametrize(("name", "most"), [("3 Core", 500), ("3 Enterprise", 500), ("Cloud", 200)])
def test_a_table_that_would_be_too_wide_is_refused_by_name_and_costs_few_requests(
    record: Record, name: str, most: int
) -> None:
    world = new_world(record, name)
    width = most - 20
    for second in range(4):
        values = {f"m{second * width + number}": 1.0 for number in range(width)}
        body = make_body(*[measured(f"p.{key}", value) for key, value in values.items()])
        store_job(
            record,
            asked_ns=NOW_NS + second * 10**9,
            body=body,
            new_units={f"p.{key}": "mmag" for key in values},
        )
    world.drain()
    (reason,) = world.reasons()
    assert f"limit of {most} columns" in reason or f"limit is {most}" in reason
    assert (backlog(record).waiting, backlog(record).quarantined) == (0, 3)
    writes = [item for item in world.stand_in.requests if "/write" in item]
    # Core waits up to a second for each: what it says exactly is not asked again.
    assert len(writes) <= (2 if name != "Cloud" else 10)
    assert world.asks_nothing_more()


@pytest.mark.parametrize("name", ["1", "2"])
def test_old_points_beyond_the_retention_cost_few_requests(record: Record, name: str) -> None:
    world = new_world(record, name)
    world.stand_in.kept_s = 3600
    for second in range(40):
        add_job(record, second - 7200 if second % 2 else second, a=1.0)
    world.drain()
    assert backlog(record).quarantined == 20
    assert len([item for item in world.stand_in.requests if "/write" in item]) <= 4


# What leaves the record


@pytest.mark.parametrize("world", [REAL, *VERSIONS], indirect=True)
def test_a_deleted_job_leaves_influxdb_or_it_is_said_once_that_it_stays(world: World) -> None:
    job = add_job(world.record, 0, a=1.5)
    add_job(world.record, 1, a=2.5)
    world.drain()
    delete(world.record, job, 0)
    add_job(world.record, 2, a=3.5)
    world.drain()
    gone = world.name in DELETING
    assert sorted(world.values()) == ([1, 2] if gone else [0, 1, 2])
    found = backlog(world.record)
    assert (found.waiting, found.trouble) == (0, None)
    assert (found.undeleted, found.undeleted_reason) == (
        (0, None) if gone else (1, CANNOT[world.name])
    )
    assert world.asks_nothing_more()


@pytest.mark.parametrize("name", list(CANNOT))
def test_what_can_never_be_deleted_is_not_asked_for_again_until_somebody_wants_it(
    record: Record, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(record, name)
    job = add_job(record, 0, a=1.5)
    world.drain()
    delete(record, job, 0)
    world.drain()
    asked = [item for item in world.stand_in.requests if "DELETE" in item]
    # Of what is not in the table, its answer is final.
    assert len(asked) == (1 if name == "Cloud" else 0)
    later = time.time_ns() + 3 * 3600 * 10**9
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: later)
        world.drain()
    assert [item for item in world.stand_in.requests if "DELETE" in item] == asked
    # After an upgrade to one that can.
    world.stand_in.version, world.stand_in.build = "2.7.0", "OSS"
    deleted: list[int] = []
    monkeypatch.setattr(world.stand_in, "delete", lambda _, time_ns: deleted.append(time_ns))
    record.write(lambda c: retry(c, Which(), now_ns=1, by=UNKNOWN))
    world.outlet.is_well = False
    world.drain()
    assert deleted == [NOW_NS]
    assert backlog(record).undeleted == 0


def test_a_withdrawn_value_leaves_its_point_or_it_is_said_that_it_stays(world: World) -> None:
    job = add_job(world.record, 0, a=1.5, b=2.5)
    world.drain()
    withdraw(world.record, job, 0)
    world.drain()
    gone = world.name in DELETING
    assert world.values() == {0: {"b": 2.5} if gone else {"a": 1.5, "b": 2.5}}
    found = state(world.record, job)
    assert (found.state, found.reasons) == (
        ("SUCCESS", ()) if gone else ("FAILURE", (CANNOT[world.name],))
    )
    assert world.asks_nothing_more()


# Losses


def test_a_database_that_lost_its_points_is_filled_again(world: World) -> None:
    for second in range(3):
        add_job(world.record, second, a=float(second))
    world.drain()
    if world.real is not None:
        world.real.query(f'DROP DATABASE "{world.database}"')
        world.real.create_database(world.database)
    else:
        world.stand_in.points.clear()
    world.drain()
    assert sorted(world.values()) == [0, 1, 2]
    assert world.asks_nothing_more()


@pytest.mark.parametrize("world", [REAL, *VERSIONS], indirect=True)
def test_nothing_is_left_to_delete_in_a_database_that_lost_its_points(world: World) -> None:
    jobs = [add_job(world.record, second, a=1.5, b=2.5) for second in range(4)]
    world.drain()
    delete(world.record, jobs[0], 0)
    withdraw(world.record, jobs[1], 1)
    world.drain()
    if world.real is not None:
        world.real.query(f'DROP DATABASE "{world.database}"')
        world.real.create_database(world.database)
    else:
        world.stand_in.points.clear()
    world.drain()
    assert world.values() == {1: {"b": 2.5}, 2: {"a": 1.5, "b": 2.5}, 3: {"a": 1.5, "b": 2.5}}
    found = backlog(world.record)
    assert (found.undeleted, found.quarantined, found.waiting) == (0, 0, 0)
    assert world.reconcile().is_same


@pytest.mark.parametrize("name", ["1", "2", "3 Core", "3 Enterprise"])
def test_points_that_the_retention_took_are_no_loss(record: Record, name: str) -> None:
    world = new_world(record, name)
    add_job(record, -1800, a=1.0)
    world.drain()
    world.stand_in.points.clear()
    world.stand_in.kept_s = 3600
    with capture_logs() as logs:
        later = time.time_ns() + 7200 * 10**9
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(time, "time_ns", lambda: later)
            world.drain()
    assert not [item for item in logs if "filled again" in item["event"]]


def test_a_bucket_whose_retention_nobody_tells_is_not_taken_for_lost(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(record, "2")
    monkeypatch.setattr(
        world.stand_in, "other", lambda _: httpx.Response(403, json={"message": "no"})
    )
    add_job(record, 0, a=1.0)
    world.drain()
    world.stand_in.points.clear()
    world.drain()
    assert (world.values(), target(record).trouble) == ({}, None)


def test_queries_that_fail_keep_no_job_from_a_server_that_takes_them(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(record, "3 Enterprise")
    add_job(record, 0, a=1.0)
    world.drain()
    failure = httpx.Response(500, content=b"no query")
    monkeypatch.setattr(world.stand_in, "query", lambda *_: failure)
    add_job(record, 1, a=1.0)
    world.drain()
    assert sorted(world.values()) == [0, 1]


# Reconciling


@pytest.mark.parametrize("world", [REAL, *VERSIONS], indirect=True)
def test_reconcile_mends_what_can_be_mended_and_says_what_cannot(world: World) -> None:
    for second in range(4):
        add_job(world.record, second, a=float(second), b=1.0)
    world.drain()
    # An altered value, a field too much, a point of no job.
    world.write(f"p a=9.0 {NOW_NS}")
    world.write(f"p c=9.0 {NOW_NS + 10**9}")
    world.write(f"p a=9.0,squash_id=99.0 {NOW_NS + 77 * 10**9}")
    found = world.reconcile()
    assert (found.altered, found.unknown) == (2, 1)
    world.drain()
    can = world.name in DELETING
    assert found.cannot == (None if can else CANNOT[world.name])
    # Of Cloud it is only known after it has been asked.
    assert found.lasting == (0 if can or world.name == "Cloud" else 1)
    assert world.values()[0] == {"a": 0.0, "b": 1.0}
    too_much = {} if can else {"c": 9.0}
    assert (world.values()[1], found.pruned) == ({"a": 1.0, "b": 1.0, **too_much}, int(can))
    assert world.reconcile().is_same == can
    world.drain()
    assert backlog(world.record).waiting == 0
    assert world.asks_nothing_more()


@pytest.mark.parametrize("name", CANNOT)
def test_reconcile_says_what_of_deleted_jobs_and_withdrawn_values_stays(
    record: Record, name: str
) -> None:
    world = new_world(record, name)
    jobs = [add_job(record, second, a=1.0, b=2.0) for second in range(2)]
    world.drain()
    delete(record, jobs[0], 0)
    withdraw(record, jobs[1], 1)
    world.drain()
    for _ in range(2):
        found = world.reconcile()
        assert (found.unknown, found.lasting, found.waiting, found.is_same) == (1, 1, 0, False)
        assert found.cannot == CANNOT[name]
    assert world.asks_nothing_more()


def test_reconcile_reads_no_more_at_once_than_core_gives(record: Record) -> None:
    core = Core()
    core.most_files = 3
    world = new_world(record, "3 Core", core)
    for second in range(0, 6000, 600):
        add_job(record, second, a=1.0)
    world.drain()
    found = world.reconcile()
    assert (found.points, found.is_same) == (10, True)


def backlog(record: Record) -> Any:
    with record.read() as connection:
        (found,) = backlogs(connection, targets=["default"])
    return found
