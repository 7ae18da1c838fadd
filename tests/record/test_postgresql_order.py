"""Ids and versions become visible in their order, on which every cursor rests.

Many writers, each with connections of its own, commit slowly; readers follow with cursors, as
delivery, the deriver, events and caches do. Without the lock a reader misses what appears behind
it: that is shown too, or the rest would prove nothing.
"""

import asyncio
import random
import threading
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial

import pytest
from sqlalchemy import Connection, text

from squash_api.errors import RecordUnavailableError
from squash_api.index.contexts import JobContext, store_contexts
from squash_api.record.audit import Actor, note
from squash_api.record.database import open_database
from squash_api.record.definitions import DefinitionRow, append_definitions
from squash_api.record.engines import postgresql as engine
from squash_api.record.jobs import current_revision
from squash_api.record.metrics import note_metrics
from squash_api.record.record import Record
from squash_api.record.storing import Stored
from squash_api.schema.names import Context
from tests.support.builders import STORE, add_test_user, make_new_job
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql

WRITERS = 4
COMMITS = 12
READERS = 2

# Table and column by which readers go on; the row's own name.
SEQUENCES = {
    "jobs": ("job", "id", "id"),
    "revisions of definitions": ("definition", "revision", "name"),
    "versions of metrics": ("metric", "version", "name"),
    "versions of contexts": ("job_context", "version", "job_id"),
    "sets of tags": ("tag_set", "id", "id"),
    "audit": ("audit", "id", "id"),
}
_SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql
        AS $$BEGIN PERFORM pg_sleep(random() * 0.02); RETURN NULL; END$$;
    CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON job
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow();
"""
Seen = set[tuple[int, object]]


@dataclass
class Story:
    """What each reader saw of each sequence by its cursor, and what there was in the end."""

    seen: list[dict[str, Seen]] = field(default_factory=list)
    all: dict[str, Seen] = field(default_factory=dict)

    def missed(self, name: str) -> Seen:
        """Return what at least one reader never saw."""
        found = self.all[name]
        return {item for item in found if any(item not in each[name] for each in self.seen)}


def store_everything(writer: int, number: int, connection: Connection) -> None:
    """Take an id or a version of every sequence."""
    own = 1 + writer * COMMITS + number
    job = make_new_job(asked_ns=own, revision=current_revision(connection))
    (stored,) = STORE.whole(connection, [job])
    assert isinstance(stored, Stored)
    new = DefinitionRow(kind="metric", name=f"p.{own}", document={}, origin="api", created_ns=0)
    append_definitions(connection, [new])
    note_metrics(connection, {f"p.{own}": "mmag"})
    context = Context(tags={"instrument": f"i{own}"})
    store_contexts(connection, [JobContext(own, time_ns=own, received_ns=own, context=context)])
    note(connection, Actor(), "user.add", f"u{own}")


def store_jobs(record: Record, writer: int) -> None:
    """Store jobs, each in the one statement that most jobs are stored by."""
    for number in range(COMMITS):
        outcome: object = None
        while not isinstance(outcome, Stored):
            with record.read() as connection:
                revision = current_revision(connection)
            job = make_new_job(asked_ns=10**6 + writer * COMMITS + number, revision=revision)
            # Who waits for the lock for too long is told to try again.
            with suppress(RecordUnavailableError):
                outcome = asyncio.run(record.write_batched(STORE, job))


def write(url: str, writer: int) -> None:
    with closing(Record(open_database(url), patience_s=30)) as record:
        for number in range(COMMITS):
            record.write(partial(store_everything, writer, number))
        store_jobs(record, writer)


def read_on(record: Record, name: str, after: int) -> Seen:
    table, column, key = SEQUENCES[name]
    query = text(f"SELECT {column}, {key} FROM {table} WHERE {column} > {after}")
    with record.read() as connection:
        return {(row[0], row[1]) for row in connection.execute(query)}


def follow(url: str, is_over: threading.Event, seen: dict[str, Seen]) -> None:
    """Read with cursors until all has been written, and once more."""
    cursors = dict.fromkeys(SEQUENCES, 0)
    with closing(Record(open_database(url))) as record:
        is_last = False
        while not is_last:
            is_last = is_over.is_set()
            for name in random.sample(list(SEQUENCES), len(SEQUENCES)):
                found = read_on(record, name, cursors[name])
                seen[name] |= found
                cursors[name] = max([cursors[name], *(item[0] for item in found)])


def run_threads(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write_and_follow(server: PostgreSQL) -> Story:
    name = f"order_{uuid.uuid4().hex}"
    server.create(name)
    url, story, is_over = server.url_of(name), Story(), threading.Event()
    with closing(server.connect(name)) as connection:
        connection.execute(_SLOW)
    with closing(Record(open_database(url))) as record:
        add_test_user(record)
        story.seen = [{each: set() for each in SEQUENCES} for _ in range(READERS)]
        readers = [
            threading.Thread(target=follow, args=(url, is_over, seen)) for seen in story.seen
        ]
        for reader in readers:
            reader.start()
        run_threads([partial(write, url, writer) for writer in range(WRITERS)])
        is_over.set()
        for reader in readers:
            reader.join()
        story.all = {each: read_on(record, each, 0) for each in SEQUENCES}
    server.drop(name)
    return story


@pytest.fixture(scope="module")
def with_lock(postgresql: PostgreSQL) -> Story:
    return write_and_follow(postgresql)


@pytest.fixture(scope="module")
def without_lock(postgresql: PostgreSQL) -> Story:
    lock = f"pg_advisory_xact_lock({engine._LOCK})"
    assert lock in engine._BEGIN
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_BEGIN", engine._BEGIN.replace(lock, "NULL"))
        return commit_behind_a_reader(postgresql)


def commit_behind_a_reader(server: PostgreSQL) -> Story:
    """Let one take its ids first and commit last, after another has, and a reader has read."""
    name = f"order_{uuid.uuid4().hex}"
    server.create(name)
    url, has_ids, may_commit = server.url_of(name), threading.Event(), threading.Event()

    def slowly(connection: Connection) -> None:
        store_everything(0, 0, connection)
        has_ids.set()
        may_commit.wait(60)

    with (
        closing(Record(open_database(url))) as slow,
        closing(Record(open_database(url))) as quick,
    ):
        add_test_user(slow)
        writer = threading.Thread(target=slow.write, args=(slowly,))
        writer.start()
        assert has_ids.wait(60)
        quick.write(partial(store_everything, 1, 0))
        seen = {each: read_on(quick, each, 0) for each in SEQUENCES}
        may_commit.set()
        writer.join()
        for each, found in seen.items():
            found.update(read_on(quick, each, max(item[0] for item in found)))
        story = Story([seen], {each: read_on(quick, each, 0) for each in SEQUENCES})
    server.drop(name)
    return story


@pytest.mark.parametrize("name", SEQUENCES)
def test_no_reader_misses_what_any_writer_commits(with_lock: Story, name: str) -> None:
    assert len(with_lock.all[name]) >= WRITERS * COMMITS
    assert with_lock.missed(name) == set()


@pytest.mark.parametrize("name", SEQUENCES)
def test_without_the_lock_a_reader_misses_what_appears_behind_its_cursor(
    without_lock: Story, name: str
) -> None:
    assert without_lock.missed(name) != set()
