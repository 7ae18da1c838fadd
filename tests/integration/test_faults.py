"""Each way in which InfluxDB and Kapacitor fail, one after the other, in front of real servers.

While a fault lasts, jobs are accepted, `/readyz` and the log say what is wrong, and the other
outlets get everything. Once it is over, everything accepted is there once, and came in order.
"""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from squash_api.delivery import influxdb as influxdb_outlet
from squash_api.delivery import outlet as outlets
from squash_api.delivery.reader import Wait
from squash_api.influx import client as influx_client
from squash_api.record.audit import SERVICE
from squash_api.record.quarantine import Which, retry
from squash_api.settings import InfluxTarget
from tests.support import faulty_proxy as faults
from tests.support.builders import open_record
from tests.support.calls import Calls, log_in
from tests.support.faulty_proxy import Fault, FaultyProxy
from tests.support.in_process import service
from tests.support.influxd import Influxd
from tests.support.kapacitord import Kapacitord
from tests.support.programs import find_program
from tests.support.reliability import note
from tests.support.server import local_url
from tests.support.site import job_document, wait_for

PASSWORD = "of the service"
JOBS = 3


@dataclass
class World:
    """A service in this process, with the servers and proxies behind it; `posted` are its jobs."""

    influxd: Influxd
    proxies: dict[str, FaultyProxy]
    calls: Calls
    log: list[MutableMapping[str, Any]]
    posted: dict[int, float] = field(default_factory=dict)

    def post(self, count: int = JOBS) -> None:
        """Post jobs, which must be accepted."""
        for _ in range(count):
            value = float(len(self.posted))
            document = job_document({"faults.m": value}, instrument="HSC")
            reply = self.calls("POST", "/job", document)
            assert reply.status_code == 202, reply.text
            self.posted[reply.json()["id"]] = value

    def ready(self, target: str) -> dict[str, Any]:
        """Return what `/readyz` says of a target."""
        shown: dict[str, Any] = self.calls.client.get("/readyz").json()["targets"][target]
        return shown

    def says(self, target: str, words: str) -> bool:
        """Return whether `/readyz` names the trouble of a target, and the log has it too."""
        return words in self.ready(target).get("reason", "") and any(
            words in str(entry.get("reason")) and entry.get("target") == target
            for entry in self.log
        )

    def is_idle(self, target: str) -> bool:
        """Return whether a target is well and has everything."""
        shown = self.ready(target)
        return (shown["status"], shown["waiting"], shown["quarantined"]) == ("ok", 0, 0)

    def stored(self, database: str) -> dict[int, list[float]]:
        """Return the values of each job in a database."""
        found: dict[int, list[float]] = {}
        for point in self.influxd.points(database):
            fields = point["fields"]
            found.setdefault(int(fields["squash_id"]), []).append(fields["m"])
        return found

    def expected(self) -> dict[int, list[float]]:
        """Return what a database should have."""
        return {job_id: [value] for job_id, value in self.posted.items()}


@contextmanager
def quickly() -> Iterator[None]:
    """Let time pass faster for outlets, or each fault would take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influx_client, "READ_TIMEOUT_S", 1.0)
        patch.setattr(influx_client, "LONGEST_REPLY_S", 1.0)
        patch.setattr(outlets, "LONGEST_WAIT_S", 0.5)
        patch.setattr(outlets, "_LEAST_WAIT_S", 0.1)
        patch.setattr(outlets, "REFUSED", Wait(0.3, 0.3))
        patch.setattr(influxdb_outlet, "_LONGEST_SILENCE_S", 0.5)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        stack.enter_context(quickly())
        log = stack.enter_context(capture_logs())
        influxd = stack.enter_context(Influxd(folder / "influxd", auth=True))
        for name in ("squash", "other"):
            influxd.query(f"CREATE USER {name} WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES")
        proxies = {"default": stack.enter_context(FaultyProxy(influxd.url))}
        settings: dict[str, Any] = {}
        if has_kapacitord():
            (folder / "load").mkdir()
            kapacitord = stack.enter_context(Kapacitord(folder / "kapacitord", folder / "load"))
            proxies["kapacitor"] = stack.enter_context(FaultyProxy(local_url(kapacitord.port)))
            settings["kapacitor_url"] = proxies["kapacitor"].url
        other = target(influxd.url, name="other", database="other")
        client = stack.enter_context(
            service(
                folder,
                influx_url=proxies["default"].url,
                influx_database="squash",
                influx_user="squash",
                influx_password=SecretStr(PASSWORD),
                influx_targets=(other,),
                watch="off",
                **settings,
            )
        )
        made = World(influxd, proxies, log_in(client, "ada"), log)
        made.post()
        yield made
        for proxy in proxies.values():
            proxy.mend()


def target(url: str, **changes: str) -> InfluxTarget:
    return InfluxTarget(url=url, user="other", password=SecretStr(PASSWORD), **changes)


def has_kapacitord() -> bool:
    try:
        find_program("kapacitord")
    except pytest.skip.Exception:
        return False
    return True


# What a proxy does, and what is then said to be wrong.
FAULTS: dict[str, tuple[Fault, str]] = {
    "hangs": (faults.hang, "ReadTimeout"),
    "resets the connection in the body": (faults.reset_in_the_body, "ReadError"),
    "does it and resets the connection": (faults.do_it_and_reset, "ReadError"),
    "does it and answers 500": (faults.do_it_and_say_500, "timeout"),
    "trickles": (faults.trickle, "no whole reply"),
    "is full": (
        faults.answering(503, b'{"error":"engine: cache-max-memory-size exceeded"}'),
        "cache-max-memory-size exceeded",
    ),
    "has no disk left": (faults.answering(507, b"no space"), "no space"),
    "has too much to do": (faults.answering(429, b'{"error":"slow down"}'), "slow down"),
    "redirects elsewhere": (
        faults.answering(307, b"", {"Location": "http://influx.invalid/write"}),
        "HTTP 307",
    ),
    "is another server": (faults.answering(404, b"<html>no such page</html>"), "HTTP 404"),
    "speaks TLS": (faults.sending_raw(b"\x15\x03\x01\x00\x02\x02\x28"), "RemoteProtocolError"),
}


def ride_out(
    world: World,
    name: str,
    begin: Callable[[], object],
    end: Callable[[], object],
    words: str,
) -> None:
    """Let an outlet fail and recover, and check what holds for every fault."""
    world.log.clear()
    others = [item for item in ("other", *world.proxies) if item != name]
    begin()
    try:
        world.post()
        wait_for(lambda: world.says(name, words))
        assert world.ready(name)["waiting"] >= JOBS
        for other in others:
            wait_for(lambda other=other: world.is_idle(other))  # type: ignore[misc]
        assert world.stored("other") == world.expected()
    finally:
        end()
    # A loss is noticed soon after the first job that is taken again.
    wait_for(lambda: world.stored("squash") == world.expected())
    for outlet in (name, *others):
        wait_for(lambda outlet=outlet: world.is_idle(outlet))  # type: ignore[misc]
    assert world.proxies["default"].first_arrivals() == sorted(world.posted)
    note("faults", outlet=name, jobs=JOBS)


@pytest.mark.parametrize("kind", FAULTS)
def test_an_influxdb_that_fails_loses_nothing_and_holds_up_nobody(world: World, kind: str) -> None:
    fault, words = FAULTS[kind]
    proxy = world.proxies["default"]
    ride_out(world, "default", lambda: proxy.fail(fault), proxy.mend, words)


def test_an_influxdb_that_refuses_connections_loses_nothing(world: World) -> None:
    proxy = world.proxies["default"]
    ride_out(world, "default", proxy.close_door, proxy.open_door, "ConnectError")


# What an administrator of InfluxDB does to a service that is delivering: statements, and the ones
# that make it good.
STATEMENTS = {
    "revokes its rights": (
        "REVOKE ALL PRIVILEGES FROM squash",
        "GRANT ALL PRIVILEGES TO squash",
        "not authorized",
    ),
    "changes its password": (
        "SET PASSWORD FOR squash = 'another'",
        f"SET PASSWORD FOR squash = '{PASSWORD}'",
        "authorization failed",
    ),
    "drops its user": (
        "DROP USER squash",
        f"CREATE USER squash WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES",
        "authorization failed",
    ),
    "drops the retention policy, and its points with it": (
        'DROP RETENTION POLICY "autogen" ON "squash"',
        'CREATE RETENTION POLICY "autogen" ON "squash" DURATION INF REPLICATION 1 DEFAULT',
        "retention policy not found",
    ),
}


@pytest.mark.parametrize("what", STATEMENTS)
def test_whatever_an_administrator_does_all_jobs_are_there_when_it_is_undone(
    world: World, what: str
) -> None:
    statement, undo, words = STATEMENTS[what]

    def begin() -> None:
        world.influxd.query(statement)

    def end() -> None:
        world.influxd.query(undo)

    ride_out(world, "default", begin, end, words)
    assert PASSWORD not in f"{world.log}{world.calls.client.get('/readyz').text}"


@pytest.mark.parametrize("again", ["", 'CREATE DATABASE "squash"'])
def test_a_database_that_is_dropped_is_filled_again_by_itself(world: World, again: str) -> None:
    world.post()
    wait_for(lambda: world.is_idle("default"))
    world.log.clear()
    world.influxd.query('DROP DATABASE "squash"')
    if again:
        world.influxd.query(again)
    wait_for(lambda: any("missing or empty" in entry["event"] for entry in world.log))
    world.post()
    wait_for(lambda: world.is_idle("default"))
    assert world.stored("squash") == world.expected()


def test_points_that_a_server_with_a_wrong_clock_takes_for_too_old_wait_to_be_sent_again(
    world: World, tmp_path: Path
) -> None:
    # To such a server, points of an hour ago are as old as those of now to one that is ahead.
    world.influxd.create_database("clock", duration="1h")
    with service(
        tmp_path,
        influx_targets=(target(world.influxd.url, name="clock", database="clock"),),
        watch="off",
    ) as client:
        calls = log_in(client, "ada")
        past = {"date": "2020-01-01T00:00:00Z"}
        posted = {}
        for number in range(JOBS):
            document = job_document({"faults.m": float(number)}, **past)
            posted[calls("POST", "/job", document).json()["id"]] = [float(number)]

        def refused() -> int:
            shown = client.get("/readyz").json()["targets"]["clock"]
            return int(shown["quarantined"]) if not shown["waiting"] else 0

        wait_for(lambda: refused() == JOBS)
        fresh = calls("POST", "/job", job_document({"faults.m": -1.0})).json()["id"]
        wait_for(lambda: calls("GET", f"/status/{fresh}").json()["status"] == "SUCCESS")
        world.influxd.query('ALTER RETENTION POLICY "short" ON "clock" DURATION INF')
        record = open_record(tmp_path)
        record.write(lambda connection: retry(connection, Which(), now_ns=1, by=SERVICE))
        record.close()
        wait_for(lambda: world.stored("clock") == {fresh: [-1.0], **posted})


@pytest.mark.parametrize(
    ("url", "words"),
    [("https://127.0.0.1:{port}", "SSL"), ("http://squash.invalid:{port}", "ConnectError")],
    ids=["TLS fails", "the name is gone"],
)
def test_an_address_that_leads_nowhere_is_said_and_the_right_one_gets_everything(
    world: World, tmp_path: Path, url: str, words: str
) -> None:
    name = tmp_path.name
    port = world.influxd.port
    wrong = target(url.format(port=port), name="there", database=name)
    with service(tmp_path, influx_targets=(wrong,), watch="off") as client:
        calls = log_in(client, "ada")
        job_id = calls("POST", "/job", job_document({"faults.m": 1.0})).json()["id"]
        wait_for(
            lambda: words in client.get("/readyz").json()["targets"]["there"].get("reason", "")
        )
    right = target(world.influxd.url, name="there", database=name)
    with service(tmp_path, influx_targets=(right,), watch="off") as client:
        wait_for(lambda: client.get(f"/status/{job_id}").json()["status"] == "SUCCESS")
    assert world.stored(name) == {job_id: [1.0]}


@pytest.mark.parametrize("kind", [*FAULTS, "refuses connections"])
def test_a_kapacitor_that_fails_is_told_the_newest_value_and_holds_up_nobody(
    world: World, kind: str
) -> None:
    if "kapacitor" not in world.proxies:
        find_program("kapacitord")
    proxy = world.proxies["kapacitor"]
    if kind == "refuses connections":
        ride_out(world, "kapacitor", proxy.close_door, proxy.open_door, "ConnectError")
    else:
        fault, words = FAULTS[kind]
        ride_out(world, "kapacitor", lambda: proxy.fail(fault), proxy.mend, words)
    assert proxy.arrived[-1] == max(world.posted)
    assert proxy.arrived == sorted(proxy.arrived)
