import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from squash_api.errors import RecordUnavailableError
from squash_api.record import storing_at_once
from squash_api.record.bulk import Prepared
from squash_api.record.database import by_statement
from squash_api.record.definitions import DefinitionRow, append_definitions
from squash_api.record.jobs import bury_job, get_job
from squash_api.record.record import Record
from squash_api.record.storing import NewJob, Stale, Stored, store_jobs
from squash_api.record.storing_at_once import store_at_once
from squash_api.record.tables import job
from squash_api.record.users import disable, set_password
from squash_api.record.writer import MAX_GROUP
from tests.support.builders import add_test_user, make_body, make_new_job, open_record

_ROWS = select(*(column for column in job.c if column.name != "digest")).order_by(job.c.id)


def store(record: Record, *items: NewJob) -> list[Stored] | None:
    with by_statement(record._engine.connect()) as connection:
        found = store_at_once(connection, items)
        connection.commit()
    return found


def usual(number: int) -> NewJob:
    return make_new_job(
        asked_ns=1_000 + number,
        body=make_body(note=str(number)),
        identifiers_digest=str(number).encode().ljust(16),
    )


def look_at_each(record: Record, items: Sequence[NewJob]) -> list[Stored | Stale | Exception]:
    return record.write(lambda connection: store_jobs(connection, items))


def count_jobs(record: Record) -> int:
    with record.read() as connection:
        return int(connection.execute(select(func.count()).select_from(job)).scalar_one())


# What is stored


def test_a_stored_job_is_the_job_as_received(record: Record) -> None:
    new = replace(usual(1), body=b'{"meta": \xff}', is_deliverable=False)
    assert store(record, new) == [Stored(1, new.received_ns, new.asked_ns)]
    with record.read() as connection:
        row = get_job(connection, 1)
    assert row is not None
    assert (row.user_id, row.received_ns, row.time_ns, row.revision) == (1, 2_000, 1_001, 0)
    assert (row.body, row.is_deliverable, row.deleted_ns) == (new.body, False, None)


@pytest.mark.parametrize("number", [1, 2, 3, 16, 17, MAX_GROUP])
def test_any_number_of_jobs_is_stored_and_no_more(record: Record, number: int) -> None:
    found = store(record, *map(usual, range(number)))
    assert found is not None
    assert [item.job_id for item in found] == list(range(1, number + 1))
    assert count_jobs(record) == number


def test_ids_ascend_in_the_order_of_submission_whatever_the_times(record: Record) -> None:
    found = store(record, *(usual(number) for number in (5, 1, 9, 3)))
    assert found is not None
    assert [(item.job_id, item.time_ns) for item in found] == [
        *((1, 1_005), (2, 1_001), (3, 1_009), (4, 1_003))
    ]


def test_jobs_of_several_users_are_stored(record: Record) -> None:
    items = [replace(usual(number), user_id=1 + number % 2) for number in range(4)]
    assert store(record, *items) is not None


def test_jobs_without_identifiers_are_stored(record: Record) -> None:
    items = [make_new_job(asked_ns=1), make_new_job(asked_ns=2), usual(1)]
    assert store(record, *items) is not None
    assert store(record, make_new_job(asked_ns=3)) is not None


def test_jobs_whose_ids_cannot_be_read_are_stored_once_and_nobody_is_promised_anything(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonsense = Prepared("SELECT nonsense", (), (), is_in_order=True)
    monkeypatch.setattr(storing_at_once, "_ids_at", lambda *_: nonsense)
    with pytest.raises(RecordUnavailableError, match="has been stored"):
        store(record, usual(1))
    assert count_jobs(record) == 1


# What is not as usual


def taken_time(record: Record) -> list[NewJob]:
    store(record, usual(7))
    return [replace(usual(8), asked_ns=usual(7).asked_ns)]


def same_time_twice(_record: Record) -> list[NewJob]:
    return [usual(7), replace(usual(8), asked_ns=usual(7).asked_ns)]


def known_identifiers(record: Record) -> list[NewJob]:
    store(record, usual(7))
    return [replace(usual(7), asked_ns=99)]


def same_identifiers_twice(_record: Record) -> list[NewJob]:
    return [usual(7), replace(usual(7), asked_ns=99)]


def disabled_user(record: Record) -> list[NewJob]:
    record.write(lambda connection: disable(connection, "ada"))
    return [usual(7), replace(usual(8), user_id=2)]


def changed_user(record: Record) -> list[NewJob]:
    record.write(lambda connection: set_password(connection, "ada", password_hash="new"))
    return [usual(7), replace(usual(8), user_id=2)]


def unknown_user(_record: Record) -> list[NewJob]:
    return [usual(7), replace(usual(8), user_id=99)]


def one_user_before_and_after_a_change(record: Record) -> list[NewJob]:
    record.write(lambda connection: set_password(connection, "ada", password_hash="new"))
    return [usual(7), replace(usual(8), user_epoch=2)]


def new_definitions(record: Record) -> list[NewJob]:
    row = DefinitionRow(kind="metric", name="p.a", document={}, origin="api", created_ns=0)
    record.write(lambda connection: append_definitions(connection, [row]))
    return [usual(7)]


def different_revisions(_record: Record) -> list[NewJob]:
    return [usual(7), replace(usual(8), revision=1)]


def new_metric(_record: Record) -> list[NewJob]:
    return [usual(6), replace(usual(7), new_units={"p.a": "mag"})]


@pytest.mark.parametrize(
    "make",
    [
        taken_time,
        same_time_twice,
        known_identifiers,
        same_identifiers_twice,
        disabled_user,
        changed_user,
        unknown_user,
        one_user_before_and_after_a_change,
        new_definitions,
        different_revisions,
        new_metric,
    ],
)
def test_none_of_the_jobs_is_stored_if_one_needs_a_look(
    record: Record, make: Callable[[Record], list[NewJob]]
) -> None:
    items = make(record)
    before = count_jobs(record)
    assert store(record, *items) is None
    assert count_jobs(record) == before


_JOBS = st.builds(
    lambda time_ns, identifiers, content, user_id: make_new_job(
        asked_ns=time_ns,
        body=json.dumps({"meta": {"content": content}}).encode(),
        identifiers_digest=identifiers and identifiers.ljust(16),
        user_id=user_id,
    ),
    st.integers(0, 30),
    st.sampled_from([None, b"a", b"b", b"c", b"d", b"e"]),
    st.integers(0, 2),
    st.sampled_from([1, 1, 1, 2, 3, 99]),
)


@settings(max_examples=60)
@given(st.lists(st.lists(_JOBS, min_size=1, max_size=4), max_size=6))
def test_what_is_stored_at_once_is_what_a_look_at_each_would_have_stored(
    batches: Sequence[Sequence[NewJob]],
) -> None:
    with TemporaryDirectory() as folder:
        short, whole = (open_record(Path(folder) / name) for name in ("short", "whole"))
        for record in (short, whole):
            add_test_user(record)
            add_test_user(record, "bob")
            add_test_user(record, "eve")
            record.write(lambda connection: disable(connection, "eve"))
            record.write(bury_some)
        for batch in batches:
            wanted, found = look_at_each(whole, batch), store(short, *batch)
            if found is None:
                look_at_each(short, batch)
            else:
                assert found == wanted
        with short.read() as one, whole.read() as other:
            assert one.execute(_ROWS).all() == other.execute(_ROWS).all()
        for record in (short, whole):
            record.close()


def bury_some(connection: Connection) -> None:
    """Leave a tombstone, whose time stays taken."""
    store_jobs(connection, [make_new_job(asked_ns=3)])
    bury_job(connection, job_id=1, user_id=1, deleted_ns=9)
