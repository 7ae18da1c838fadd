"""A service on a streaming replica: it reads, refuses to write, and writes once it is promoted."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.errors import SettingsError
from squash_api.record.database import make_database
from squash_api.record.record import Record
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.postgresql import PostgreSQL, Replica
from tests.support.service import Service
from tests.support.site import job_document, wait_for

pytestmark = pytest.mark.postgresql

DATABASE = "summit"
WRITE_URL = "https://squash.summit.example.org"
SENTENCE = (
    "This service only reads: its record is a replica. Write to https://squash.summit.example.org."
)


@dataclass
class Facilities:
    """The summit, whose service writes, and the base, whose service reads a replica."""

    primary: PostgreSQL
    replica: Replica
    summit: Calls
    base: httpx.Client
    service: Service

    def post(self, value: float, **meta: Any) -> int:
        """Post a job at the summit, and wait until the base has it, and what follows from it."""
        document = job_document({"p.a": value}, unit="mmag", **meta)
        reply = self.summit("POST", "/job", json=document)
        assert reply.status_code == 202, reply.text
        job_id = int(reply.json()["id"])
        wait_for(lambda: self.values(self.summit.client)[-1:] == [value])
        self.catch_up()
        return job_id

    def catch_up(self) -> None:
        wait_for(lambda: self.replica.has_all_of(self.primary))

    @staticmethod
    def values(client: httpx.Client) -> list[float]:
        """Return the values of the metric, as a service gives them."""
        reply = client.get("/measurements", params={"metric": "p.a"})
        return [item["value"] for item in reply.json().get("measurements", ())]


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        server.create(DATABASE)
        yield server


@pytest.fixture(scope="module")
def facilities(
    primary: PostgreSQL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Facilities]:
    folder = tmp_path_factory.mktemp("facilities")
    summit = Service(
        folder / "summit", SQUASH_DATABASE_URL=primary.url_of(DATABASE), SQUASH_READERS="0"
    )
    with summit, Replica(primary) as replica:
        base = Service(
            folder / "base",
            SQUASH_DATABASE_URL=replica.url_of(DATABASE),
            SQUASH_READERS="1",
            SQUASH_WRITE_URL=WRITE_URL,
        )
        options: Any = {"timeout": 60, "trust_env": False}
        with (
            base,
            httpx.Client(base_url=summit.url, **options) as there,
            httpx.Client(base_url=base.url, **options) as here,
        ):
            yield Facilities(primary, replica, log_in(there, "ada"), here, base)


def test_what_the_summit_has_stored_is_read_at_the_base(facilities: Facilities) -> None:
    job_id = facilities.post(1.5, filter_name="r", run_id="run-1")
    assert facilities.values(facilities.base) == [1.5]
    assert facilities.base.get(f"/status/{job_id}").json()["status"] == "SUCCESS"
    html = {"Accept": "text/html"}
    for path in ("/", f"/job/{job_id}", "/metric/p.a", "/alerts", "/report?since=1d"):
        reply = facilities.base.get(path, headers=html)
        assert reply.status_code == 200, (path, reply.text)
        assert "This service only reads." in reply.text, path
        assert WRITE_URL in reply.text, path


def of_record(facilities: Facilities) -> dict[str, Any]:
    """Return what `/readyz` of the base says of its record."""
    found: dict[str, Any] = facilities.base.get("/readyz").json()["record"]
    return found


def test_it_says_that_it_only_reads_and_how_old_its_record_is(facilities: Facilities) -> None:
    wait_for(lambda: of_record(facilities).get("is_linked"))
    assert facilities.base.get("/readyz").json()["status"] == "read-only"
    found = of_record(facilities)
    assert (found["reason"], found["write_url"]) == (SENTENCE.rstrip("."), WRITE_URL)
    assert found["lag_s"] < 60
    figures = facilities.base.get("/prometheus").text
    assert "squash_replica_lag_seconds" in figures


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/job"), ("POST", "/register"), ("DELETE", "/job/1")]
)
def test_a_write_is_refused_with_the_place_to_write_to(
    facilities: Facilities, method: str, path: str
) -> None:
    # Of every other: `tests/routes/test_only_reads.py`.
    reply = facilities.base.request(method, path, json={})
    assert reply.status_code == 503
    assert (reply.json()["code"], reply.headers["Retry-After"]) == ("only_reads", "60")
    assert reply.json()["message"].startswith(SENTENCE)


def test_the_replica_is_made_as_the_docs_say(facilities: Facilities) -> None:
    text = (Path(__file__).parents[2] / "docs" / "facilities.md").read_text("utf-8")
    (recipe,) = re.findall(r"^pg_basebackup (.*?)\n```", text, re.MULTILINE | re.DOTALL)
    told = set(re.findall(r"--[a-z-]+(?:=[a-z]+)?", recipe))
    # A test needs neither a slot nor to wait for its disk.
    assert {item for item in facilities.replica.recipe if item.startswith("--")} - {
        "--no-sync"
    } == told - {"--slot"}


def test_who_has_an_account_logs_in_and_who_guesses_must_wait(facilities: Facilities) -> None:
    facilities.catch_up()
    right = {"username": "ada", "password": PASSWORD}
    reply = facilities.base.post("/auth", json=right)
    assert reply.status_code == 200
    token = reply.json()["access_token"]
    asked = facilities.base.get("/user/ada", headers={"Authorization": f"JWT {token}"})
    assert asked.status_code == 200
    wrong = {"username": "grace", "password": "not the right one"}
    statuses = [facilities.base.post("/auth", json=wrong).status_code for _ in range(12)]
    assert (statuses[0], statuses[-1]) == (401, 429)


def test_its_commands_read_and_do_not_write(facilities: Facilities) -> None:
    folder = facilities.service
    read = folder.run("user", "list")
    assert (read.returncode, "ada" in read.stdout) == (0, True), read.stderr
    checked = folder.run("check", "--json")
    (found,) = [
        row["what"]
        for row in json.loads(checked.stdout)["findings"]
        if row["subject"] == "service" and "only reads" in row["what"]
    ]
    assert "as of 20" in found
    for words in ("deliver", "user add eve --password-stdin"):
        done = folder.run(*words.split(), input="a password of tests\n")
        assert done.returncode != 0, words
        assert "only reads" in done.stderr + done.stdout, (words, done.stderr)


def test_a_replica_without_a_record_is_refused(facilities: Facilities) -> None:
    facilities.primary.create("empty", template="template1")
    facilities.catch_up()
    with pytest.raises(SettingsError, match="start the service on its primary first"):
        make_database(facilities.replica.url_of("empty"))


@pytest.mark.parametrize(
    ("version", "words"),
    [("0003", "is of an earlier release"), ("0099", "is of a later release")],
)
def test_a_replica_with_the_tables_of_another_release_is_refused_with_what_to_do(
    facilities: Facilities, version: str, words: str
) -> None:
    name = f"of_{version}"
    facilities.primary.create(name)
    with closing(facilities.primary.connect(name)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", (version,))
        connection.execute("DELETE FROM state WHERE key = 'tables'")
    facilities.catch_up()
    with pytest.raises(SettingsError, match=words):
        Record.open(facilities.replica.url_of(name))


def test_nothing_of_a_promotion_is_lost_and_then_the_base_writes(facilities: Facilities) -> None:
    before = facilities.post(2.5)
    facilities.primary.stop()
    wait_for(lambda: of_record(facilities).get("is_linked") is False)
    assert of_record(facilities)["runbook"].endswith("#only_reads")
    page = facilities.base.get("/", headers={"Accept": "text/html"}).text
    assert "its link to the primary is broken" in page
    facilities.replica.promote()

    def status() -> str | None:
        # While it starts again, nothing listens.
        try:
            return str(facilities.base.get("/readyz").json()["status"])
        except httpx.TransportError:
            return None

    wait_for(lambda: status() == "ok")
    calls = log_in(facilities.base, "ada")
    reply = calls("POST", "/job", json=job_document({"p.a": 3.5}, unit="mmag"))
    assert reply.status_code == 202
    # No id that the primary may have given.
    assert reply.json()["id"] > before + 10_000
    wait_for(lambda: facilities.values(facilities.base)[-2:] == [2.5, 3.5])
