import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, Engine, event

from squash_api.errors import with_runbook
from squash_api.record.deliveries import (
    Quarantined,
    mark_sent,
    mark_taken,
    mark_trouble,
    take_lease,
)
from squash_api.record.losses import begin_again
from squash_api.record.quarantine import mark_not_erased
from squash_api.record.record import Record, set_state
from squash_api.settings import InfluxTarget
from squash_api.standings.pruning import Round
from tests.support.builders import open_record
from tests.support.calls import Calls, log_in
from tests.support.in_process import service
from tests.support.site import job_document, wait_for

TARGETS = tuple(InfluxTarget(name=name, url="http://influx.invalid") for name in ("summit", "base"))
DAY_NS = 86_400 * 10**9
# 2026-11-27
NIGHT_NS = 20_784 * DAY_NS
JOB: dict[str, list[dict[str, Any]]] = {
    "measurements": [{"metric": "p.a", "value": 1, "unit": "m"}, {"metric": "p.b"}]
}


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Calls]:
    """A service that leaves the delivery to two targets to another process: to the test."""
    with service(tmp_path, influx_targets=TARGETS, deliver="off") as client:
        yield log_in(client, "ada")


@pytest.fixture
def record(waiting: Calls, tmp_path: Path) -> Iterator[Record]:
    assert waiting
    record = open_record(tmp_path)
    yield record
    record.close()


def figures(calls: Calls) -> dict[str, float]:
    """Return the samples of the exposition by name and labels."""
    families = text_string_to_metric_families(calls("GET", "/prometheus").text)
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in families
        for sample in family.samples
    }


def runbook(entry: str) -> str:
    return f"http://127.0.0.1:8000/docs/runbook#{entry}"


def test_a_service_without_influxdb_is_ready(shared_client: httpx.Client) -> None:
    reply = shared_client.get("/readyz")
    assert (reply.status_code, reply.json()) == (
        200,
        {"status": "ok", "record": {"status": "ok"}, "targets": {}},
    )


def test_a_held_up_target_degrades_with_the_reason_and_since_when(
    waiting: Calls, record: Record
) -> None:
    assert waiting("GET", "/readyz").json()["status"] == "ok"
    waiting("POST", "/job", JOB)
    record.write(
        lambda c: mark_trouble(
            c,
            "base",
            trouble=with_runbook("no route", "delivery-refused"),
            now_ns=1_532_975_152_000_000_000,
        )
    )
    reply = waiting("GET", "/readyz")
    assert (reply.status_code, reply.json()["status"]) == (200, "degraded")
    assert reply.json()["targets"] == {
        "summit": {"status": "ok", "waiting": 1, "quarantined": 0},
        "base": {
            "status": "down",
            "waiting": 1,
            "quarantined": 0,
            "reason": "no route",
            "runbook": runbook("delivery-refused"),
            "since": "2018-07-30T18:25:52+00:00",
        },
    }


def test_quarantined_points_are_shown(waiting: Calls, record: Record) -> None:
    waiting("POST", "/job", JOB)
    refused = [Quarantined(1, "p", "p a=1 1", "field type conflict")]
    record.write(lambda c: mark_taken(c, "base", after=0, through=1))
    record.write(
        lambda c: mark_sent(c, "base", through=1, redelivered=[], quarantined=refused, now_ns=1)
    )
    shown = waiting("GET", "/readyz").json()["targets"]["base"]
    assert (shown["waiting"], shown["quarantined"]) == (0, 1)


def delivered(waiting: Calls, record: Record) -> None:
    """Let a job be delivered to `base`, by somebody who holds its lease."""
    waiting("POST", "/job", JOB)
    until_ns = time.time_ns() + 15 * 10**9
    for name in ("summit", "base"):
        record.write(
            lambda c, name=name: take_lease(  # type: ignore[misc]
                c, name, owner="me", now_ns=time.time_ns(), until_ns=until_ns
            )
        )
    record.write(lambda c: mark_taken(c, "base", after=0, through=1))
    record.write(
        lambda c: mark_sent(
            c, "base", through=1, redelivered=[], quarantined=[], now_ns=1, has_points=True
        )
    )


def foot(calls: Calls) -> str:
    """Return what the foot of a page says of the targets."""
    page = calls("GET", "/docs", headers={"Accept": "text/html"}).text
    return re.sub(r"<[^>]*>", "", page.partition('<div id="targets"')[2])


def test_a_database_that_lost_its_points_is_said_to_be_filled_again(
    waiting: Calls, record: Record
) -> None:
    delivered(waiting, record)
    now_ns = 1_532_975_152_000_000_000
    assert record.write(lambda c: begin_again(c, "base", now_ns=now_ns)) == 1
    reply = waiting("GET", "/readyz").json()
    why = "its database was missing or empty, and is filled again from the record"
    assert (reply["status"], reply["targets"]["base"]) == (
        "degraded",
        {
            "status": "refilling",
            "waiting": 1,
            "quarantined": 0,
            "reason": why,
            "runbook": runbook("delivery-refilling"),
            "since": "2018-07-30T18:25:52+00:00",
        },
    )
    assert f"InfluxDB base since 2018-07-30 18:25 UTC: {why}" in foot(waiting)
    assert waiting("GET", "/status/1").json()["targets"]["base"] == "PENDING"


def test_points_that_are_not_deleted_are_said_to_be_there(waiting: Calls, record: Record) -> None:
    delivered(waiting, record)
    assert waiting("DELETE", "/job/1").status_code == 200
    refused = [Quarantined(1, "p", 'DELETE FROM "p" WHERE time = 1', "read-only")]
    record.write(lambda c: mark_not_erased(c, "base", refused, now_ns=1))
    reply = waiting("GET", "/readyz").json()
    assert (reply["status"], reply["targets"]["base"]) == (
        "degraded",
        {
            "status": "ok",
            "waiting": 0,
            "quarantined": 1,
            "undeleted": 1,
            "reason": "it refuses to delete the points of 1 job: read-only",
            "runbook": runbook("delivery-undeleted"),
        },
    )
    assert "InfluxDB base: it refuses to delete the points of 1 job" in foot(waiting)


def test_prometheus_counts_jobs_and_what_became_of_their_values(waiting: Calls) -> None:
    document = {"measurements": [item | {"identifier": "x"} for item in JOB["measurements"]]}
    for _ in range(2):
        waiting("POST", "/job", document)
    found = figures(waiting)
    assert found["squash_jobs_total['stored']"] == 1
    assert found["squash_jobs_total['repeated']"] == 1
    assert found["squash_values_total['kept']"] == 1
    assert found["squash_values_total['absent']"] == 1
    assert found["squash_delivery_waiting['summit']"] == 1
    assert found["squash_delivery_up['summit']"] == 1
    assert found["squash_delivery_oldest_seconds['summit']"] >= 0


def test_prometheus_knows_routes_never_paths(shared_calls: Calls) -> None:
    shared_calls("GET", "/job/777")
    shared_calls("GET", "/metric/secret.name")
    shared_calls("GET", "/nothing/at/all")
    shared_calls("FROB", "/job")
    found = figures(shared_calls)
    for word in ("777", "secret", "nothing", "FROB"):
        assert not [key for key in found if word in key]
    assert found["squash_request_seconds_count['/job/{job_id}', '404', 'GET']"] == 1
    assert found["squash_request_seconds_count['404', 'GET', 'unknown']"] == 1
    assert found["squash_request_seconds_count['/job', '405', 'other']"] == 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/prometheus", "/", "/version", "/docs"])
def test_probes_may_ask_for_the_head_alone(shared_client: httpx.Client, path: str) -> None:
    reply = shared_client.head(path)
    assert (reply.status_code, reply.content) == (200, b"")


def raw(connection: Connection) -> sqlite3.Connection:
    found = connection.connection.dbapi_connection
    assert isinstance(found, sqlite3.Connection)
    return found


class Disk:
    """The disk of the record's file: full or not for each connection, from its next use on."""

    def __init__(self, folder: Path) -> None:
        with sqlite3.connect(next(folder.glob("*.db"))) as connection:
            (self._pages,) = connection.execute("PRAGMA page_count").fetchone()
        self.is_full = True

    def limit(self, connection: Connection) -> None:
        pages = self._pages if self.is_full else 2**31
        raw(connection).execute(f"PRAGMA max_page_count = {pages}")


@contextmanager
def full_disk(folder: Path) -> Iterator[Disk]:
    """Let the record's file grow no more, until `is_full` is taken back."""
    disk = Disk(folder)
    event.listen(Engine, "engine_connect", disk.limit)
    try:
        yield disk
    finally:
        event.remove(Engine, "engine_connect", disk.limit)


@pytest.mark.sqlite
def test_a_full_disk_is_not_ready_and_recovers(tmp_path: Path) -> None:
    with service(tmp_path, new_metrics_per_job=3000) as client:
        calls = log_in(client, "ada")
        job = job_document({f"p.m{number}": 1.0 for number in range(3000)})
        assert calls("POST", "/job", job_document({"p.a": 1.0})).status_code == 202
        with full_disk(tmp_path) as disk:
            for number in range(3):
                refused = calls("POST", "/job", job | {"meta": {"n": number}})
                assert refused.status_code == 503
                assert "disk of the record is full" in refused.json()["message"]
            reply = client.get("/readyz")
            assert (reply.status_code, reply.json()["status"]) == (503, "down")
            assert "disk of the record is full" in reply.json()["record"]["reason"]
            for path in ("/", "/runs", "/report", "/job/1", "/search?q=a"):
                page = client.get(path, headers={"Accept": "text/html"})
                assert (page.status_code, "no job is accepted" in page.text) == (200, True)
                assert client.get(path).status_code == 200
            disk.is_full = False
            # What was begun on the full disk may fail until now.
            wait_for(lambda: client.get("/readyz").status_code == 200)
            assert calls("POST", "/job", job).status_code == 202
            wait_for(lambda: not says_full(client))


def says_full(client: httpx.Client) -> bool:
    return "no job is accepted" in client.get("/", headers={"Accept": "text/html"}).text


def test_readiness_says_how_long_jobs_are_kept_and_what_went_last(tmp_path: Path) -> None:
    with service(tmp_path, keep="400d") as client:
        assert client.get("/readyz").json()["retention"] == {"keep": "400d", "last": None}
        last = Round(NIGHT_NS, NIGHT_NS + 10**9, NIGHT_NS - 400 * DAY_NS, 7, 1000, {"last": 2})
        record = open_record(tmp_path)
        record.write(
            lambda connection: set_state(connection, "retention", json.dumps(asdict(last)))
        )
        record.close()
        assert client.get("/readyz").json()["retention"]["last"] == {
            "began": "2026-11-27T00:00:00Z",
            "ended": "2026-11-27T00:00:01Z",
            "before": "2025-10-23T00:00:00Z",
            "jobs": 7,
            "bytes": 1000,
            "kept": {"last": 2},
        }
