"""What `squash check` finds, of each kind of fault; the servers are real where rights matter."""

import hashlib
import json
import lzma
import re
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from email.utils import formatdate
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import httpx
import pytest

from squash_api.commands import check as command
from squash_api.commands import check_here, check_servers
from squash_api.commands.check_here import Finding
from squash_api.commands.check_servers import Heard
from squash_api.errors import with_runbook
from squash_api.index.derived import put_tags
from squash_api.record.deliveries import (
    Quarantined,
    ensure_targets,
    mark_sent,
    mark_taken,
    mark_trouble,
)
from squash_api.record.engines import sqlite
from squash_api.record.installation import claim
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job
from tests.support.command_line import Outcome, Run, make_run, set_environment
from tests.support.fake_grafana import TOKEN as GRAFANA_TOKEN
from tests.support.fake_grafana import FakeGrafana
from tests.support.fake_influxdb import FakeInfluxDB
from tests.support.fake_kapacitor import FakeKapacitor
from tests.support.http_server import HttpServer
from tests.support.influx_versions import TOKEN, VERSIONS, StandIn
from tests.support.influxd import ADMIN, ADMIN_PASSWORD, Influxd
from tests.support.metrics_packages import write_metrics_package
from tests.support.mock_kafka import MockKafka

OLD = Path(__file__).parent.parent / "data" / "record_1_2_1" / "squash.sqlite.xz"
SLACK = {("warning", "alerts-unsent")}
NOBODY = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Found:
    """What the command said, as JSON and as lines."""

    outcome: Outcome

    @property
    def rows(self) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = json.loads(self.outcome.out)["findings"]
        return rows

    def of(self, subject: str) -> list[tuple[str, str]]:
        """Return the state and the entry of what is not well about a subject."""
        return [
            (row["state"], row["runbook"])
            for row in self.rows
            if row["subject"] == subject and row["state"] != "ok"
        ]

    def words(self, subject: str) -> str:
        return "\n".join(row["what"] for row in self.rows if row["subject"] == subject)


class Desk(NamedTuple):
    """Where an operator sits: a folder, an environment, and the command."""

    folder: Path
    give: Callable[[str, str], None]
    run: Run

    def check(self, *words: str) -> Found:
        return Found(self.run("check", "--json", *words))


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    set_environment(monkeypatch, tmp_path, SQUASH_PORT="9")
    # A server of a test may be slow, and is not hung.
    monkeypatch.setattr(check_servers, "TIMEOUT_S", 60.0)
    monkeypatch.setattr(command, "PATIENCE_S", 120.0)
    return Desk(tmp_path, monkeypatch.setenv, make_run(monkeypatch, capsys))


def make_record(folder: Path) -> Record:
    """Make a record with a mark, as the service leaves it."""
    record = open_record(folder)
    add_test_user(record)
    claim(record)
    return record


# Settings


@pytest.mark.sqlite
def test_every_wrong_and_every_unknown_variable_is_named_at_once(desk: Desk) -> None:
    desk.give("SQUASH_SECRET", "short")
    desk.give("SQUASH_PORT", "99999")
    desk.give("SQUASH_INFLUX_URL", "ftp://influx")
    desk.give("SQUASH_INFLUX_TARGETS", '[{"name": "a"')
    desk.give("SQUASH_REGISTRATION", "key")
    desk.give("SQUASH_WATHC", "off")
    desk.give("SQUASH_TAGS", "no good name")
    found = desk.check()
    errors = [row["what"] for row in found.rows if row["state"] == "error"]
    assert found.outcome.code == 1
    for name in (
        *("SQUASH_SECRET", "SQUASH_PORT", "SQUASH_INFLUX_URL", "SQUASH_INFLUX_TARGETS"),
        *("SQUASH_REGISTRATION_KEY", "SQUASH_WATHC", "SQUASH_TAGS"),
    ):
        assert any(words.startswith(f"{name}: ") for words in errors), name
    assert any("did you mean SQUASH_WATCH?" in words for words in errors)


@pytest.mark.sqlite
def test_what_is_right_is_looked_at_although_another_setting_is_wrong(desk: Desk) -> None:
    desk.give("SQUASH_PORT", "x")
    desk.give("SQUASH_INFLUX_URL", NOBODY)
    assert desk.check().of("InfluxDB default") == [("error", "delivery-unavailable")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQUASH_INFLUX_USER", "ada"),
        ("SQUASH_INFLUX_TOKEN", "a-token"),
        ("SQUASH_INFLUX_PASSWORD", "a-password"),
        ("SQUASH_INFLUX_DATABASE", "other"),
        ("SQUASH_KAPACITOR_RETENTION_POLICY", "week"),
        ("SQUASH_REGISTRATION_KEY", "a-key-of-16-letters"),
        ("SQUASH_KAFKA_SEND", "points"),
        ("SQUASH_KAFKA_TLS", "on"),
    ],
)
@pytest.mark.sqlite
def test_a_setting_that_does_nothing_is_a_warning(desk: Desk, name: str, value: str) -> None:
    desk.give(name, value)
    found = desk.check()
    assert found.of("settings") == [("warning", "settings")]
    assert name in found.words("settings")


@pytest.mark.sqlite
def test_problems_of_metrics_packages_are_listed(desk: Desk) -> None:
    desk.give("SQUASH_SPECS", str(desk.folder / "nowhere"))
    assert desk.check().of("specifications") == [("error", "specs")]
    write_metrics_package(desk.folder / "specs", metrics="AM1: {unit: nonsense}\n")
    desk.give("SQUASH_SPECS", str(desk.folder / "specs" / "demo"))
    assert ("error", "specs") in desk.check().of("specifications")


# Kafka


@pytest.mark.sqlite
def test_brokers_that_do_not_answer_are_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_servers, "TIMEOUT_S", 1.0)
    desk.give("SQUASH_KAFKA_BROKERS", "127.0.0.1:9")
    found = desk.check()
    assert found.of("Kafka") == [("error", "kafka-unavailable")]
    assert "Connection refused" in found.words("Kafka")


@pytest.mark.sqlite
def test_topics_that_brokers_do_not_have_yet_are_named(desk: Desk) -> None:
    with MockKafka() as brokers:
        brokers.create("squash.jobs")
        desk.give("SQUASH_KAFKA_BROKERS", brokers.address)
        desk.give("SQUASH_KAFKA_SEND", "jobs,alerts,points")
        found = desk.check()
    assert found.of("Kafka") == [("warning", "kafka-topic")]
    assert "there is no topic squash.alerts yet" in found.words("Kafka")
    assert found.of("Kafka (points)") == []


@pytest.mark.sqlite
def test_a_registry_that_does_not_answer_is_an_error(desk: Desk) -> None:
    with MockKafka() as brokers:
        desk.give("SQUASH_KAFKA_BROKERS", brokers.address)
        desk.give("SQUASH_KAFKA_SEND", "points")
        desk.give("SQUASH_KAFKA_POINTS", "avro")
        desk.give("SQUASH_KAFKA_REGISTRY", NOBODY)
        assert desk.check().of("Kafka (points)") == [("error", "kafka-registry")]


# The command


@pytest.mark.sqlite
def test_warnings_count_only_with_strict(desk: Desk) -> None:
    make_record(desk.folder).close()
    assert desk.check().of("service") == [("warning", "url-unreachable")]
    assert (desk.check().outcome.code, desk.check("--strict").outcome.code) == (0, 1)


@pytest.mark.sqlite
def test_each_line_says_what_to_do_and_names_its_entry(desk: Desk) -> None:
    outcome = desk.run("check")
    lines = outcome.out.splitlines()
    bad = [number for number, line in enumerate(lines) if re.match("warning|error", line)]
    assert bad
    for number in bad:
        assert re.match(r"         -> .+ \(runbook: [a-z_-]+\)$", lines[number + 1])
    assert "0 errors, 2 warnings" in lines
    assert lines[0].startswith("OK       settings: ")


@pytest.mark.sqlite
def test_nothing_is_made_and_nothing_is_changed(desk: Desk) -> None:
    desk.check()
    assert list(desk.folder.iterdir()) == []
    make_record(desk.folder).close()
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in desk.folder.iterdir()}
    desk.check()
    after = {path: hashlib.sha256(path.read_bytes()).digest() for path in desk.folder.iterdir()}
    assert after == before


@pytest.mark.sqlite
def test_no_secret_is_shown_whoever_says_it(desk: Desk) -> None:
    influxdb = FakeInfluxDB()
    influxdb.judge = lambda _: httpx.Response(403, json={"error": "no: tell-nobody, hush-hush"})
    influxdb.query_answer = httpx.Response(403, json={"error": "no: tell-nobody"})
    with HttpServer(influxdb) as server:
        desk.give("SQUASH_INFLUX_URL", server.url)
        desk.give("SQUASH_INFLUX_USER", "ada")
        desk.give("SQUASH_INFLUX_PASSWORD", "tell-nobody")
        desk.give("SQUASH_KAPACITOR_URL", NOBODY.replace("//", "//ada:hush-hush@"))
        for words in ([], ["--json"]):
            outcome = desk.run("check", *words)
            assert "********" in outcome.out
            assert "tell-nobody" not in outcome.out + outcome.err
            assert "hush-hush" not in outcome.out + outcome.err


# Servers that do not answer


@pytest.mark.parametrize(
    ("setting", "subject", "state", "entry"),
    [
        ("SQUASH_INFLUX_URL", "InfluxDB default", "error", "delivery-unavailable"),
        ("SQUASH_KAPACITOR_URL", "Kapacitor", "error", "delivery-unavailable"),
        ("SQUASH_CHRONOGRAF_URL", "Chronograf", "error", "delivery-unavailable"),
        ("SQUASH_GRAFANA_URL", "Grafana", "error", "delivery-unavailable"),
        ("SQUASH_URL", "service", "warning", "url-unreachable"),
    ],
)
@pytest.mark.sqlite
def test_a_server_that_does_not_answer_is_named(
    desk: Desk, setting: str, subject: str, state: str, entry: str
) -> None:
    desk.give(setting, NOBODY)
    found = desk.check()
    assert found.of(subject) == [(state, entry)]
    assert NOBODY in found.words(subject)


@pytest.mark.sqlite
def test_servers_that_hang_are_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_servers, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # It accepts connections, and never says anything.
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name in ("INFLUX_URL", "KAPACITOR_URL", "CHRONOGRAF_URL", "GRAFANA_URL", "URL"):
            desk.give(f"SQUASH_{name}", url)
        found = desk.check()
    for subject in ("InfluxDB default", "Kapacitor", "Chronograf", "Grafana", "service"):
        assert len(found.of(subject)) == 1
        assert url in found.words(subject)
        assert "it hangs" in found.words(subject)


@pytest.mark.sqlite
def test_what_never_ends_is_said_to_hang(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    monkeypatch.setattr(command, "PATIENCE_S", 1.0)
    monkeypatch.setattr(check_here, "look_at", lambda _: ends.wait())
    found = desk.check()
    ends.set()
    assert found.of("record") == [("error", "record_unavailable")]
    assert found.words("settings")


@pytest.mark.sqlite
def test_something_else_at_an_address_is_an_error(desk: Desk) -> None:
    with HttpServer(lambda _: httpx.Response(200, text="hello")) as server:
        for name in ("INFLUX", "KAPACITOR", "CHRONOGRAF", "GRAFANA"):
            desk.give(f"SQUASH_{name}_URL", server.url)
        desk.give("SQUASH_URL", server.url)
        found = desk.check()
    assert found.of("InfluxDB default") == [("error", "delivery-misconfigured")]
    assert found.of("Kapacitor") == [("error", "delivery-unavailable")]
    assert found.of("Chronograf") == [("error", "delivery-unavailable")]
    assert found.of("Grafana") == [("error", "delivery-unavailable")]
    assert ("error", "url-unreachable") in found.of("service")


@pytest.mark.sqlite
def test_a_grafana_is_compared_with_the_specifications(desk: Desk) -> None:
    fake = FakeGrafana()
    write_metrics_package(desk.folder / "specs")
    with HttpServer(fake) as server:
        desk.give("SQUASH_GRAFANA_URL", server.url)
        desk.give("SQUASH_GRAFANA_TOKEN", GRAFANA_TOKEN)
        desk.give("SQUASH_SPECS", str(desk.folder / "specs" / "demo"))
        found = desk.check()
    assert set(found.of("Grafana")) >= {
        ("warning", "generated-files"),
        ("error", "generated-files"),
    }
    assert "the Grafana dashboard squash-overview is missing" in found.words("Grafana")
    # Rules that are paused are missed by nobody: these are the dashboards.
    assert found.of("Grafana").count(("error", "generated-files")) == 3
    assert "the Grafana rule group squash is missing" in found.words("Grafana")
    assert "no data source of the uid squash-influxdb" in found.words("Grafana")
    assert GRAFANA_TOKEN not in found.words("Grafana")


# Versions and clocks


@pytest.mark.parametrize(
    ("what", "text", "state", "said"),
    [
        ("InfluxDB", "1.6.7~rc0", "ok", ""),
        ("InfluxDB", "1.8.10", "ok", ""),
        ("InfluxDB", "v1.12.4", "ok", ""),
        ("InfluxDB", "1.5.2", "error", "not known"),
        ("InfluxDB", "0.13.0", "error", "not known"),
        ("InfluxDB", "1.13.0", "warning", "not known"),
        ("InfluxDB", "4.0.0", "warning", "not known"),
        ("InfluxDB", "nonsense", "error", "not known"),
        ("Kapacitor", "1.5.7", "ok", ""),
        ("Kapacitor", "1.8.6", "ok", ""),
        ("Kapacitor", "1.4.0", "error", "not known"),
        ("Kapacitor", "2.0.0", "warning", "not known"),
        ("Chronograf", "1.10.9", "ok", ""),
        ("Grafana", "11.6.0", "ok", ""),
        ("Grafana", "12.1.0", "warning", "not known"),
    ],
)
def test_a_version_is_known_good_or_is_told(what: str, text: str, state: str, said: str) -> None:
    (found,) = check_servers.known_good(what, text)
    assert (found.state, said in found.what) == (state, True)


def answering(heard: Heard) -> Any:
    """Return a server that has said this."""
    return SimpleNamespace(heard=heard)


@pytest.mark.parametrize(
    ("ahead_s", "took_s", "state"),
    [
        (0, 0, "ok"),
        (4, 0, "ok"),
        (-5, 0, "ok"),
        (-9, 3, "warning"),
        (-7, 3, "ok"),
        (30, 0, "warning"),
        (-30, 0, "warning"),
        (3600, 2, "error"),
        (-3600, 2, "error"),
    ],
)
def test_a_clock_that_differs_is_told_and_a_slow_reply_is_no_difference(
    ahead_s: float, took_s: float, state: str
) -> None:
    now_s = float(int(time.time()))
    heard = Heard({"Date": formatdate(now_s + ahead_s, usegmt=True)}, now_s, took_s)
    (found,) = check_servers.clock(answering(heard))
    assert found.state == state
    assert ("ahead" in found.what) == (state != "ok" and ahead_s > 0)


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_server_that_tells_no_time_has_no_clock(date: str) -> None:
    assert list(check_servers.clock(answering(Heard({"Date": date}, time.time(), 0.0)))) == []


# InfluxDB: which it is

WAYS = {
    "1": [],
    "2": [("warning", "server-version")] * 2,
    "3 Core": [("warning", "server-version")] * 4,
    "3 Enterprise": [("warning", "server-version")] * 3,
    "Cloud": [("warning", "server-version")] * 3,
}


def versions(desk: Desk, stand_in: StandIn) -> Found:
    with HttpServer(stand_in) as server:
        desk.give("SQUASH_INFLUX_URL", server.url)
        desk.give("SQUASH_INFLUX_TOKEN", TOKEN)
        return desk.check()


@pytest.mark.sqlite
@pytest.mark.parametrize("name", VERSIONS)
def test_what_a_version_lacks_is_told_and_nothing_is_changed(desk: Desk, name: str) -> None:
    stand_in = VERSIONS[name]()
    found = versions(desk, stand_in)
    assert found.of("InfluxDB default") == WAYS[name]
    assert "the database squash is there" in found.words("InfluxDB default")
    assert "SQUASH_KAPACITOR_URL" in found.words("InfluxDB default") or name == "1"
    wrote = [item for item in stand_in.requests if "/write" in item]
    assert (stand_in.points, stand_in.databases) == ({}, {"squash"})
    # In the others it would make the database.
    assert bool(wrote) == (name in {"1", "2"})


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("name", "state", "said"),
    [
        ("1", "warning", "there is no database squash yet"),
        ("2", "error", "no bucket is mapped to the database"),
        ("3 Core", "warning", "there is no database squash yet"),
    ],
)
def test_a_database_that_is_not_there_is_told_by_each_version(
    desk: Desk, name: str, state: str, said: str
) -> None:
    found = versions(desk, VERSIONS[name]("other"))
    assert (state, "delivery-misconfigured") in found.of("InfluxDB default")
    assert said in found.words("InfluxDB default")


@pytest.mark.sqlite
def test_tables_that_are_or_will_be_too_wide_are_told(desk: Desk) -> None:
    stand_in = VERSIONS["3 Core"]()
    wide = ",".join(f"m{number}=1.0" for number in range(460))
    stand_in.store_line(f"p {wide} 1")
    stand_in.store_line("q a=1.0 1")
    metrics = "".join(
        f"m{number}: {{description: A value., unit: mmag}}\n" for number in range(501)
    )
    package = write_metrics_package(desk.folder / "big", metrics=metrics, specs="")
    desk.give("SQUASH_SPECS", str(package))
    found = versions(desk, stand_in)
    assert found.of("InfluxDB default").count(("warning", "wide-table")) == 2
    assert "the table p has 460 of at most 500 columns" in found.words("InfluxDB default")
    assert "has 501 metrics" in found.words("InfluxDB default")


# InfluxDB: who may do what


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """An influxd that asks for passwords, with users of each right to the database `squash`."""
    with Influxd(tmp_path_factory.mktemp("guarded"), auth=True) as server:
        server.create_database("squash")
        for name, right in (("all", "ALL"), ("reads", "READ"), ("writes", "WRITE"), ("none", "")):
            server.query(f"CREATE USER \"{name}\" WITH PASSWORD 'a-password'")
            if right:
                server.query(f'GRANT {right} ON "squash" TO "{name}"')
        yield server


def influxdb_findings(
    desk: Desk, server: Influxd, user: str, password: str = "a-password"
) -> Found:
    desk.give("SQUASH_INFLUX_URL", server.url)
    desk.give("SQUASH_INFLUX_USER", user)
    desk.give("SQUASH_INFLUX_PASSWORD", password)
    return desk.check()


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        ("all", "a-password", []),
        (ADMIN, ADMIN_PASSWORD, []),
        ("writes", "a-password", [("warning", "delivery-refused")]),
        ("reads", "a-password", [("error", "delivery-refused")]),
        ("none", "a-password", [("error", "delivery-refused"), ("warning", "delivery-refused")]),
        ("all", "another-one", [("error", "delivery-refused")]),
    ],
)
@pytest.mark.sqlite
def test_a_missing_right_is_told(
    desk: Desk, guarded: Influxd, user: str, password: str, expected: list[tuple[str, str]]
) -> None:
    assert influxdb_findings(desk, guarded, user, password).of("InfluxDB default") == expected


@pytest.mark.parametrize(
    ("user", "password", "state"),
    [("all", "a-password", "error"), (ADMIN, ADMIN_PASSWORD, "warning")],
)
@pytest.mark.sqlite
def test_a_missing_database_is_told_and_who_may_make_it(
    desk: Desk, guarded: Influxd, user: str, password: str, state: str
) -> None:
    desk.give("SQUASH_INFLUX_DATABASE", "missing")
    found = influxdb_findings(desk, guarded, user, password)
    assert found.of("InfluxDB default") == [(state, "delivery-misconfigured")]


@pytest.mark.sqlite
def test_a_database_without_a_policy_has_nowhere_to_write_to(desk: Desk, guarded: Influxd) -> None:
    guarded.create_database("bare")
    guarded.query('DROP RETENTION POLICY "autogen" ON "bare"')
    desk.give("SQUASH_INFLUX_DATABASE", "bare")
    found = influxdb_findings(desk, guarded, ADMIN, ADMIN_PASSWORD)
    assert ("error", "delivery-misconfigured") in found.of("InfluxDB default")


@pytest.mark.sqlite
def test_a_subscription_beside_the_feed_is_an_error_with_the_statement_that_ends_it(
    desk: Desk, guarded: Influxd
) -> None:
    with HttpServer(FakeKapacitor()) as kapacitor:
        desk.give("SQUASH_KAPACITOR_URL", kapacitor.url)
        made = f'CREATE SUBSCRIPTION "s" ON "squash"."autogen" DESTINATIONS ALL \'{kapacitor.url}\''
        guarded.query(made)
        found = influxdb_findings(desk, guarded, ADMIN, ADMIN_PASSWORD)
        assert found.of("InfluxDB default") == [("error", "subscription")]
        removal = 'DROP SUBSCRIPTION "s" ON "squash"."autogen"'
        assert any(removal in row["advice"] for row in found.rows)
        # Who is no admin cannot know.
        found = influxdb_findings(desk, guarded, "all")
        assert found.of("InfluxDB default") == [("warning", "subscription")]
        guarded.query(removal)
        assert influxdb_findings(desk, guarded, ADMIN, ADMIN_PASSWORD).of("InfluxDB default") == []


# Kapacitor


@pytest.mark.sqlite
def test_a_kapacitor_that_subscribes_beside_the_feed_is_told(desk: Desk) -> None:
    kapacitor = FakeKapacitor()
    kapacitor.influxdb = [{"name": "local", "enabled": True, "disable-subscriptions": False}]
    with HttpServer(kapacitor) as server:
        desk.give("SQUASH_KAPACITOR_URL", server.url)
        assert desk.check().of("Kapacitor") == [("warning", "subscription")]


@pytest.mark.sqlite
def test_a_kapacitor_that_sends_its_alerts_to_nobody_is_told(desk: Desk) -> None:
    kapacitor = FakeKapacitor()
    kapacitor.slack = [{"enabled": False, "url": ""}]
    with HttpServer(kapacitor) as server:
        desk.give("SQUASH_KAPACITOR_URL", server.url)
        assert desk.check().of("Kapacitor") == [("warning", "alerts-unsent")]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("is_enabled", "speaks", "found"),
    [
        (True, "auto", []),
        (True, "on", [("warning", "slack-twice")]),
        (False, "on", []),
        (False, "off", [("warning", "alerts-unsent")]),
    ],
)
def test_only_one_tells_slack(
    desk: Desk,
    is_enabled: bool,  # noqa: FBT001  a case of the table
    speaks: str,
    found: list[tuple[str, str]],
) -> None:
    kapacitor = FakeKapacitor()
    kapacitor.slack = [{"enabled": is_enabled, "url": ""}]
    with HttpServer(kapacitor) as server:
        desk.give("SQUASH_KAPACITOR_URL", server.url)
        desk.give("SQUASH_SLACK_URL", "http://127.0.0.1:9/hushed")
        desk.give("SQUASH_SLACK", speaks)
        outcome = desk.check()
        assert outcome.of("Kapacitor") == found


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("enabled", "found"),
    [
        ((True, True), [("warning", "slack-twice")]),
        ((True, False), []),
        ((False, False), [("warning", "alerts-unsent")]),
    ],
)
def test_of_several_kapacitors_one_should_tell_slack(
    desk: Desk, enabled: tuple[bool, bool], found: list[tuple[str, str]]
) -> None:
    first, second = FakeKapacitor(), FakeKapacitor()
    for item, is_enabled in zip((first, second), enabled, strict=True):
        item.slack = [{"enabled": is_enabled, "url": ""}]
    with HttpServer(first) as one, HttpServer(second) as other:
        desk.give("SQUASH_KAPACITOR_URL", one.url)
        desk.give("SQUASH_KAPACITOR_TARGETS", json.dumps([{"name": "base", "url": other.url}]))
        outcome = desk.check()
        assert outcome.of("alerts") == found
        assert (outcome.of("Kapacitor"), outcome.of("Kapacitor base")) == ([], [])


@pytest.mark.sqlite
def test_settings_of_which_the_other_half_is_missing_are_told(desk: Desk) -> None:
    desk.give("SQUASH_SLACK", "on")
    desk.give("SQUASH_GITHUB_TOKEN", "hushed")
    assert desk.check().of("settings") == [("warning", "settings")] * 2


@pytest.mark.sqlite
def test_a_task_that_is_missing_raises_no_alert_which_is_an_error(
    desk: Desk, kapacitor_url: str
) -> None:
    write_metrics_package(desk.folder / "specs")
    desk.give("SQUASH_SPECS", str(desk.folder / "specs" / "demo"))
    desk.give("SQUASH_KAPACITOR_URL", kapacitor_url)
    found = desk.check()
    # The real one of the tests has no Slack.
    assert set(found.of("Kapacitor")) - SLACK == {("error", "generated-files")}
    assert "the task validate.AM1 is missing" in found.words("Kapacitor")
    assert desk.run("live", "push", "--specs", "specs/demo").code == 0
    assert set(desk.check().of("Kapacitor")) - SLACK == set()
    # Tasks of another retention policy never see a point.
    desk.give("SQUASH_KAPACITOR_RETENTION_POLICY", "week")
    assert ("warning", "generated-files") in desk.check().of("Kapacitor")


# The service


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"status": "ok"}, []),
        (
            {
                "status": "degraded",
                "targets": {
                    "a": {"status": "ok"},
                    "b": {"reason": "no", "runbook": "https://s/docs/runbook#delivery-refused"},
                },
            },
            [("warning", "delivery-refused")],
        ),
        ({"status": "degraded"}, [("warning", "delivery-unavailable")]),
        (
            {
                "status": "down",
                "record": {"reason": "full", "runbook": "https://s/docs/runbook#record-full"},
            },
            [("error", "record-full")],
        ),
        ({"status": "down"}, [("error", "record_unavailable")]),
        ({"hello": "world"}, [("error", "url-unreachable")]),
    ],
)
@pytest.mark.sqlite
def test_the_state_of_the_service_is_told(
    desk: Desk, reply: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        is_version = request.url.path == "/version"
        return httpx.Response(200, json={"release": version("squash-api")} if is_version else reply)

    with HttpServer(answer) as server:
        desk.give("SQUASH_URL", server.url)
        assert desk.check().of("service") == expected


@pytest.mark.sqlite
def test_a_service_of_another_release_is_told(desk: Desk) -> None:
    with HttpServer(
        lambda _: httpx.Response(200, json={"status": "ok", "release": "0.1"})
    ) as server:
        desk.give("SQUASH_URL", server.url)
        assert desk.check().of("service") == [("warning", "server-version")]


# The record


def _without_mark(folder: Path, record: Record) -> None:
    record.close()
    (folder / "squash.db.mark").unlink()


def _other_tags(_folder: Path, record: Record) -> None:
    store_job(record, body=make_body(measured()), new_units={"p.a": "mmag"})
    record.write(lambda connection: put_tags(connection, Schema(("visit_type",))))
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    _sent(record)


def _quarantine(_folder: Path, record: Record) -> None:
    store_job(record, body=make_body(measured()), new_units={"p.a": "mmag"})
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    _sent(record, [Quarantined(1, "p", "p a=1 1", "field type conflict")])


def _sent(record: Record, refused: list[Quarantined] | None = None) -> None:
    record.write(lambda connection: mark_taken(connection, "default", after=0, through=1))
    record.write(
        lambda connection: mark_sent(
            connection,
            "default",
            through=1,
            redelivered=[],
            quarantined=refused or [],
            now_ns=1,
            has_points=True,
        )
    )


def _held_up(_folder: Path, record: Record) -> None:
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    trouble = with_runbook("authorization failed", "delivery-refused")
    record.write(lambda c: mark_trouble(c, "default", trouble=trouble, now_ns=1))


def _from_the_future(_folder: Path, record: Record) -> None:
    store_job(record, received_ns=time.time_ns() + 3600 * 10**9)
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    _sent(record)


def _of_1_2_1(folder: Path, record: Record) -> None:
    record.close()
    (folder / "squash.db").write_bytes(lzma.decompress(OLD.read_bytes()))


def _of_the_future(folder: Path, record: Record) -> None:
    record.close()
    with closing(sqlite3.connect(folder / "squash.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


def _garbled(folder: Path, record: Record) -> None:
    record.close()
    with (folder / "squash.db").open("r+b") as file:
        file.seek(8192)
        file.write(b"x" * 8192)


def _empty(folder: Path, record: Record) -> None:
    record.close()
    (folder / "squash.db").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda *_: None, []),
        (_other_tags, [("error", "tags")]),
        (_quarantine, [("warning", "quarantine")]),
        (_held_up, [("error", "delivery-refused")]),
        (_from_the_future, [("warning", "clock")]),
    ],
)
def test_what_is_wrong_with_any_record_is_told(
    desk: Desk, change: Callable[[Path, Record], None], expected: list[tuple[str, str]]
) -> None:
    found = record_findings(desk, change)
    # The tests' PostgreSQL does not wait for the disk.
    assert [item for item in found if item != ("warning", "record-unsafe")] == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_without_mark, [("error", "record-mark")]),
        (_of_1_2_1, [("warning", "record-version")]),
        (_of_the_future, [("error", "record-version")]),
        (_garbled, [("error", "record-damaged")]),
        (_empty, [("error", "record-mark")]),
    ],
)
@pytest.mark.sqlite
def test_what_is_wrong_with_a_file_is_told(
    desk: Desk, change: Callable[[Path, Record], None], expected: list[tuple[str, str]]
) -> None:
    assert record_findings(desk, change) == expected


def record_findings(desk: Desk, change: Callable[[Path, Record], None]) -> list[tuple[str, str]]:
    desk.give("SQUASH_INFLUX_URL", NOBODY)
    record = make_record(desk.folder)
    change(desk.folder, record)
    record.close()
    return desk.check().of("record")


@pytest.mark.sqlite
def test_a_record_on_a_network_file_system_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_record(desk.folder).close()
    monkeypatch.setattr(sqlite, "advice", lambda _: "the record is on a network file system (nfs)")
    assert desk.check().of("record") == [("warning", "record-unsafe")]


GB = 10**9


@pytest.mark.parametrize(
    ("total", "free", "state"),
    [
        (1000 * GB, 500 * GB, "ok"),
        (1000 * GB, 5 * GB, "ok"),
        (1000 * GB, GB, "error"),
        (20 * GB, GB, "warning"),
        (2 * GB, GB, "ok"),
        (20 * GB, GB // 10, "error"),
        (20 * GB, 0, "error"),
    ],
)
def test_a_disk_that_is_almost_full_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, free: int, state: str
) -> None:
    usage = shutil._ntuple_diskusage(total, total - free, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found: Finding = check_here.disk_finding(tmp_path)
    assert (found.state, found.runbook) == (state, "" if state == "ok" else "record-full")
