"""What PostgreSQL may do to a running service: no 202 is lost, none is stored twice, and who asks
is told why.

A disk that is full under PostgreSQL's log (`pg_wal`) is not tried: PostgreSQL then ends itself,
which to the service is the crash that is tried.
"""

import json
import os
import shutil
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from squash_api.errors import SettingsError
from squash_api.record.database import open_database
from tests.support.calls import Calls, log_in
from tests.support.postgresql import PostgreSQL
from tests.support.reliability import note
from tests.support.server import free_port
from tests.support.service import Service
from tests.support.site import job_document, wait_for
from tests.support.sql_proxy import SqlProxy, Way, cut_after, cut_at_once, cut_before

pytestmark = pytest.mark.postgresql

CLIENTS = 3
DATABASE = "faults"
CONNECTIONS = 40
UNREACHABLE = "The database of the record cannot be reached"
READ_ONLY = "The database of the record can only be read"
FULL = "The disk of the record is full"
TAKEN = "The database of the record takes no more connections"
LOCKED = "The record is locked by another process"
_BACKENDS = f"FROM pg_stat_activity WHERE datname = '{DATABASE}' AND pid <> pg_backend_pid()"
_numbers = count(1)


@dataclass
class Place:
    """A service, the PostgreSQL that has its record, and the proxy between them."""

    server: PostgreSQL
    proxy: SqlProxy
    service: Service
    client: httpx.Client
    calls: Calls

    def post(self, *, has_identifiers: bool = True, **meta: Any) -> httpx.Response:
        """Post a job of its own."""
        document = job_document({"p.a": float(next(_numbers))}, unit="mmag", **meta)
        if not has_identifiers:
            del document["measurements"][0]["identifier"]
        return self.calls("POST", "/job", json=document)

    def reason(self) -> str | None:
        """Return why `/readyz` says that the record is down; None if it is not."""
        reply = self.client.get("/readyz")
        return None if reply.status_code == 200 else reply.json()["record"]["reason"]

    def is_well(self) -> bool:
        """Tell whether jobs are accepted."""
        return self.post().status_code == 202

    def stored(self) -> dict[int, float]:
        """Return the value of every job, by its id."""
        with closing(self.server.connect(DATABASE)) as connection:
            rows = connection.execute("SELECT id, body FROM job").fetchall()
        return {row[0]: json.loads(row[1])["measurements"][0]["value"] for row in rows}

    def ask(self, query: str, database: str = DATABASE) -> list[Any]:
        """Ask PostgreSQL as its administrator."""
        with closing(self.server.connect(database)) as connection:
            found = connection.execute(query.encode())
            return found.fetchall() if found.description else []

    def disconnect(self) -> None:
        """End all connections of the service."""
        self.ask(f"SELECT pg_terminate_backend(pid) {_BACKENDS}")


def url_of(port: int, **options: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"postgresql+psycopg://postgres@127.0.0.1:{port}/{DATABASE}?{query}"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    options = {"fsync": "on", "full_page_writes": "on", "max_connections": str(CONNECTIONS)}
    with PostgreSQL(**options) as server:
        server.create(DATABASE)
        yield server


@pytest.fixture(scope="module")
def place(server: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("service")
    with SqlProxy(server.port) as proxy:
        service = Service(folder, SQUASH_DATABASE_URL=url_of(proxy.port))
        with (
            service,
            httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
        ):
            yield Place(server, proxy, service, client, log_in(client, "ada"))


@dataclass
class Told:
    """What clients were told: ids and values of accepted jobs, and the other replies."""

    accepted: dict[int, float] = field(default_factory=dict)
    others: list[httpx.Response] = field(default_factory=list)

    def check(self, place: Place) -> None:
        """Every 202 is stored, once, and every other reply says that nothing can be stored now."""
        stored = place.stored()
        assert {job_id: stored.get(job_id) for job_id in self.accepted} == self.accepted
        times = Counter(stored.values())
        assert [value for value in self.accepted.values() if times[value] != 1] == []
        assert {reply.status_code for reply in self.others} <= {503}
        note("postgresql", jobs=len(self.accepted))


@contextmanager
def posting(place: Place) -> Iterator[Told]:
    """Let clients post, and post again what was refused, until the end of the block."""
    told, is_over = Told(), threading.Event()

    def work() -> None:
        with httpx.Client(base_url=place.service.url, timeout=60, trust_env=False) as client:
            calls = Calls(client, place.calls.token)
            while not is_over.is_set():
                value = float(next(_numbers))
                document = job_document({"p.a": value}, unit="mmag")
                while (reply := calls("POST", "/job", json=document)).status_code >= 500:
                    told.others.append(reply)
                told.accepted[reply.json()["id"]] = value

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: told.accepted)
        yield told
        before = len(told.accepted)
        wait_for(lambda: len(told.accepted) > before + CLIENTS)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("end", [PostgreSQL.stop, PostgreSQL.kill])
def test_a_restart_or_a_crash_while_jobs_arrive_loses_and_doubles_nothing(
    place: Place, end: Callable[[PostgreSQL], object]
) -> None:
    with posting(place) as told:
        end(place.server)
        wait_for(lambda: told.others)
        assert wait_for(place.reason) == UNREACHABLE
        place.server.start()
    told.check(place)
    assert place.reason() is None


def test_connections_that_are_ended_while_jobs_arrive_lose_and_double_nothing(
    place: Place,
) -> None:
    with posting(place) as told:
        for _ in range(10):
            before = len(told.accepted)
            place.disconnect()
            wait_for(lambda: len(told.accepted) > before)  # noqa: B023  called at once
    told.check(place)


def refusal(place: Place, **meta: Any) -> str:
    """Post jobs until one is refused, and return the message."""
    reply = place.post(**meta)
    # A connection may be lost first.
    while reply.status_code == 202 or UNREACHABLE in reply.text:
        reply = place.post(**meta)
    assert reply.status_code == 503
    return str(reply.json()["message"])


def ids_with(place: Place, word: str) -> list[int]:
    """Return the ids of the stored jobs that have a word."""
    query = f"SELECT id FROM job WHERE convert_from(body, 'UTF8') LIKE '%{word}%'"
    return [row[0] for row in place.ask(query)]


@pytest.mark.parametrize("has_identifiers", [True, False])
@pytest.mark.parametrize("fault", [cut_at_once, cut_after])
def test_a_job_whose_connection_is_lost_at_its_commit_is_stored_once_and_gets_its_202(
    place: Place, fault: Callable[[Way], None], *, has_identifiers: bool
) -> None:
    word = uuid.uuid4().hex
    place.proxy.fail(word, fault)
    reply = place.post(run_id=word, has_identifiers=has_identifiers)
    assert place.proxy.has_failed
    assert reply.status_code == 202, reply.text
    assert ids_with(place, word) == [reply.json()["id"]]


@pytest.mark.parametrize("has_identifiers", [True, False])
def test_a_job_whose_connection_is_lost_before_its_commit_is_stored_if_it_gets_a_202(
    place: Place, *, has_identifiers: bool
) -> None:
    word = uuid.uuid4().hex
    place.proxy.fail(word, cut_before)
    reply = place.post(run_id=word, has_identifiers=has_identifiers)
    assert place.proxy.has_failed
    if reply.status_code != 202:
        assert (reply.status_code, ids_with(place, word)) == (503, [])
        assert "nothing was stored" in reply.text
        reply = place.post(run_id=word, has_identifiers=has_identifiers)
    assert ids_with(place, word) == [reply.json()["id"]]


def test_a_standby_refuses_jobs_and_serves_reads_and_takes_jobs_once_it_is_promoted(
    place: Place,
) -> None:
    assert place.is_well()
    place.server.stop()
    signal = place.server._data / "standby.signal"
    signal.touch()
    if os.geteuid() == 0:
        shutil.chown(signal, "postgres", "postgres")
    place.server.start()
    assert refusal(place).startswith(READ_ONLY)
    assert place.reason() == READ_ONLY
    assert place.client.get("/jobs").status_code == 200
    place.ask("SELECT pg_promote()")
    wait_for(place.is_well)
    assert place.reason() is None


def test_a_database_that_is_set_to_be_read_only_is_only_read(place: Place) -> None:
    place.ask(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on", "postgres")
    place.disconnect()
    assert refusal(place).startswith(READ_ONLY)
    assert place.reason() == READ_ONLY
    assert place.client.get("/jobs").status_code == 200
    place.ask(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only", "postgres")
    place.disconnect()
    wait_for(place.is_well)


def test_who_posts_is_told_that_postgresql_takes_no_more_connections(place: Place) -> None:
    held: list[psycopg.Connection[Any]] = [place.server.connect("postgres")]
    # So that it does not win one back.
    place.service.pause()
    try:
        while held[0].execute(f"SELECT pid {_BACKENDS}".encode()).fetchall():
            held[0].execute(f"SELECT pg_terminate_backend(pid) {_BACKENDS}".encode())
        with suppress(psycopg.OperationalError):
            while len(held) < CONNECTIONS:
                held.append(place.server.connect("postgres"))
        place.service.resume()
        assert refusal(place).startswith(TAKEN)
        assert place.reason() == TAKEN
    finally:
        for connection in held:
            connection.close()
    wait_for(place.is_well)


def move(place: Place, tablespace: str) -> None:
    for table in ("job", "state"):
        place.ask(f"ALTER TABLE {table} SET TABLESPACE {tablespace}")


@pytest.fixture
def small_disk(place: Place) -> Iterator[None]:
    """Let the tables of jobs, and of what the service tries itself, be on a disk with 8 MB left."""
    folder: Path = place.server.folder / "small"
    folder.mkdir()
    sizes = "pg_total_relation_size('job') + pg_total_relation_size('state')"
    ((size,),) = place.ask(f"SELECT {sizes}")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size + 8_000_000}", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("needs the right to mount a file system, as root has it")
    shutil.chown(folder, "postgres", "postgres")
    place.ask(f"CREATE TABLESPACE small LOCATION '{folder}'")
    move(place, "small")
    try:
        yield
    finally:
        move(place, "pg_default")
        place.ask("DROP TABLESPACE small")
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.usefixtures("small_disk")
def test_who_posts_is_told_that_the_disk_of_postgresql_is_full(place: Place) -> None:
    # What PostgreSQL cannot compress away.
    assert refusal(place, note=os.urandom(100_000).hex()).startswith(FULL)
    assert place.reason() == FULL
    assert place.client.get("/jobs").status_code == 200
    move(place, "pg_default")
    wait_for(place.is_well)


def test_a_process_that_hangs_in_a_transaction_is_thrown_out_and_the_others_go_on(
    place: Place, tmp_path: Path
) -> None:
    # In the URL, so that it is the setting of this process alone. Far longer than the two seconds
    # that the others wait for the lock, which on a busy machine are more.
    url = url_of(place.proxy.port, options="-c%20idle_in_transaction_session_timeout%3D10000")
    word, is_resumed = uuid.uuid4().hex, threading.Event()
    replies: list[httpx.Response] = []
    hanging = Service(tmp_path, SQUASH_DATABASE_URL=url)

    def hang(way: Way) -> None:
        # When this commits, if ever, is up to a process that stands still.
        hanging.pause()
        is_resumed.wait(60)
        way.pass_commit_on()

    with (
        hanging,
        httpx.Client(base_url=hanging.url, timeout=60, trust_env=False) as client,
    ):
        calls = Calls(client, place.calls.token)
        document = job_document({"p.a": 1.0}, unit="mmag", run_id=word)
        place.proxy.fail(word, hang)
        poster = threading.Thread(
            target=lambda: replies.append(calls("POST", "/job", json=document))
        )
        poster.start()
        wait_for(lambda: place.proxy.has_failed)
        refused = place.post()
        assert refused.status_code == 503
        assert refused.json()["message"].partition(";")[0] == LOCKED
        assert place.reason() == LOCKED
        wait_for(place.is_well)
        hanging.resume()
        is_resumed.set()
        poster.join()
        # It was thrown out with nothing stored; it may have tried again by itself.
        (reply,) = replies
        assert reply.status_code == 202 or "nothing was stored" in reply.text
        again = calls("POST", "/job", json=document)
        assert again.status_code in {200, 202}
        assert ids_with(place, word) == [again.json()["id"]]


def locked_url(server: PostgreSQL) -> str:
    """Return the URL of a user who needs a password, with another one."""
    hba = server._data / "pg_hba.conf"
    hba.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
    with closing(server.connect("postgres")) as connection:
        connection.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        connection.execute("SELECT pg_reload_conf()")
    return f"postgresql+psycopg://locked:a-wrong-one@127.0.0.1:{server.port}/{DATABASE}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (locked_url, "check user and password in the URL"),
        (lambda server: server.url_of("nowhere"), "make it, or name another"),
        (lambda _: url_of(free_port()), "start PostgreSQL, or name another host or port"),
    ],
)
def test_a_start_says_what_is_wrong_with_the_url_without_the_password(
    server: PostgreSQL, change: Callable[[PostgreSQL], str], words: str
) -> None:
    url = change(server)

    said: list[str] = []

    def is_said() -> bool:
        with pytest.raises(SettingsError) as failure:
            open_database(url)
        said.append(str(failure.value))
        return words in said[-1]

    # What is reloaded counts a little later.
    wait_for(is_said)
    assert said[-1].startswith("SQUASH_DATABASE_URL: ")
    assert "a-wrong-one" not in said[-1]
