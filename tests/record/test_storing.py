import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from squash_api.errors import OverLimitError, UnauthorizedError
from squash_api.record.database import by_statement
from squash_api.record.definitions import DefinitionRow, append_definitions
from squash_api.record.jobs import bury_jobs, get_job
from squash_api.record.metrics import known_units, metrics_since
from squash_api.record.record import MAX_GROUP, Record
from squash_api.record.storing import _NEXT_FREE, NewJob, Stale, Stored
from squash_api.record.tables import job, usage
from squash_api.record.usage import Brings, Limits
from squash_api.record.users import change_user
from tests.support.builders import STORE, add_test_user, make_body, make_new_job, open_record
from tests.support.records import passing_folder


def store(record: Record, *items: NewJob) -> list[Stored | Stale | Exception]:
    return record.write(lambda connection: STORE.whole(connection, items))


def store_one(record: Record, item: NewJob) -> Stored:
    (outcome,) = store(record, item)
    assert isinstance(outcome, Stored)
    return outcome


def identified(content: str = "job", identifiers: str = "ids") -> NewJob:
    return make_new_job(
        body=make_body(note=content), identifiers_digest=identifiers.encode().ljust(16)
    )


def times(outcomes: Sequence[Stored | Stale | Exception]) -> list[int]:
    return [item.time_ns for item in outcomes if isinstance(item, Stored)]


def ids(outcomes: Sequence[Stored | Stale | Exception]) -> list[int]:
    return [item.job_id for item in outcomes if isinstance(item, Stored)]


def define(connection: Connection) -> None:
    row = DefinitionRow(kind="metric", name="p.a", document={}, origin="api", created_ns=0)
    append_definitions(connection, [row])


# Quotas

LIMITS = Limits(jobs_per_hour=4, bytes_per_day=10_000)


def counted(number: int, **changes: Any) -> NewJob:
    """Make a job that brings nothing new, and counts against the quotas of its user."""
    body = make_body(note=f"job {number}")
    brings = Brings(user_id=1, now_ns=10**18, limits=LIMITS, jobs=1, size=len(body))
    digest = str(number).encode().ljust(16)
    new = make_new_job(body=body, asked_ns=1_000 + number, identifiers_digest=digest)
    return replace(new, **{"brings": brings, **changes})


def used(record: Record) -> dict[str, int]:
    query = select(usage.c.kind, usage.c.count)
    with record.read() as connection:
        return dict(map(tuple, connection.execute(query)))


def test_a_group_that_only_counts_is_stored_and_counted(record: Record) -> None:
    jobs = [counted(number) for number in range(3)]
    assert ids(store(record, *jobs)) == [1, 2, 3]
    assert used(record) == {"jobs": 3, "bytes": sum(len(item.body) for item in jobs)}


def test_of_a_group_beyond_the_quota_only_what_is_within_is_stored(record: Record) -> None:
    store(record, counted(0))
    outcomes = store(record, *[counted(number) for number in range(1, 6)])
    assert ids(outcomes) == [2, 3, 4]
    assert [isinstance(item, OverLimitError) for item in outcomes] == [*[False] * 3, True, True]
    assert used(record)["jobs"] == 4


@pytest.mark.parametrize(
    "other",
    [
        counted(0),
        counted(7, user_epoch=5),
        counted(7, revision=9),
        counted(7, asked_ns=1_001),
        counted(7, brings=None),
    ],
    ids=["a repeat", "an account that changed", "outdated", "a time that is taken", "not counted"],
)
def test_what_a_group_that_counts_comes_to_is_what_each_job_comes_to_alone(
    record: Record, tmp_path: Path, other: NewJob
) -> None:
    jobs = [counted(1), other, counted(2)]
    together = [*store(record, counted(0)), *store(record, *jobs)]
    with closing(open_record(tmp_path / "other")) as alone:
        add_test_user(alone, "ada")
        apart = [outcome for item in (counted(0), *jobs) for outcome in store(alone, item)]
        assert list(map(repr, together)) == list(map(repr, apart))
        assert used(record) == used(alone)


# What is stored


def test_a_stored_job_is_the_job_as_received(record: Record) -> None:
    new = make_new_job(body=b'{"meta": \xff}', is_deliverable=False)
    stored = store_one(record, new)
    assert stored == Stored(1, new.received_ns, new.asked_ns)
    with record.read() as connection:
        row = get_job(connection, 1)
    assert row is not None
    assert (row.user_id, row.received_ns, row.time_ns, row.revision) == (1, 2_000, 1_000, 0)
    assert (row.body, row.is_deliverable, row.deleted_ns) == (new.body, False, None)


def test_nothing_to_store_is_no_error(record: Record) -> None:
    assert store(record) == []


def test_ids_ascend_in_the_order_of_submission(record: Record) -> None:
    asked = [1, 1, 2, 1, 9, 2, 5]
    outcomes = store(record, *(make_new_job(asked_ns=time_ns) for time_ns in asked))
    assert ids(outcomes) == [1, 2, 3, 4, 5, 6, 7]


def test_each_outcome_belongs_to_its_job(record: Record) -> None:
    items = [make_new_job(asked_ns=number % 3, received_ns=number) for number in range(9)]
    outcomes = store(record, *items)
    with record.read() as connection:
        rows = {row.id: row for row in connection.execute(select(job))}
    for item, outcome in zip(items, outcomes, strict=True):
        assert isinstance(outcome, Stored)
        assert rows[outcome.job_id].received_ns == item.received_ns == outcome.received_ns
        assert rows[outcome.job_id].time_ns == outcome.time_ns


# Times


def test_a_job_has_the_time_it_asks_for(record: Record) -> None:
    assert times(store(record, make_new_job(asked_ns=5), make_new_job(asked_ns=7))) == [5, 7]


def test_jobs_of_one_asked_time_have_the_next_free_ones(record: Record) -> None:
    items = [make_new_job(asked_ns=5)] * 3
    assert times([*store(record, *items), *store(record, *items)]) == [5, 6, 7, 8, 9, 10]


def test_a_time_that_was_given_to_another_job_is_not_free(record: Record) -> None:
    asked = [5, 5, 6, 7, 5, 6]
    assert times(store(record, *(make_new_job(asked_ns=time_ns) for time_ns in asked))) == [
        *(5, 6, 7, 8, 9, 10)
    ]


def test_a_time_that_a_later_job_of_the_batch_asks_for_is_given_once(record: Record) -> None:
    asked = [5, 5, 6]
    found = times(store(record, *(make_new_job(asked_ns=time_ns) for time_ns in asked)))
    assert found == [5, 6, 7]


def test_a_gap_is_filled(record: Record) -> None:
    asked = [5, 7, 5, 5]
    assert times(store(record, *(make_new_job(asked_ns=time_ns) for time_ns in asked))) == [
        *(5, 7, 6, 8)
    ]


def test_the_time_of_a_deleted_job_is_not_given_again(record: Record) -> None:
    stored = store_one(record, make_new_job(asked_ns=5))
    record.write(lambda connection: bury_jobs(connection, [stored.job_id], user_id=1, deleted_ns=9))
    assert store_one(record, make_new_job(asked_ns=5)).time_ns == 6


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=5))
def test_no_two_jobs_share_a_time_and_each_has_the_first_free_one(
    batches: list[list[int]],
) -> None:
    with passing_folder() as folder:
        record = open_record(folder)
        add_test_user(record)
        taken: set[int] = set()
        for batch in batches:
            items = [make_new_job(asked_ns=time_ns) for time_ns in batch]
            for asked, given_ns in zip(batch, times(store(record, *items)), strict=True):
                assert given_ns == min(set(range(asked, 99)) - taken)
                taken.add(given_ns)
        record.close()


@pytest.mark.sqlite
def test_the_next_free_time_is_found_by_indexes_alone(record: Record) -> None:
    store(record, *([make_new_job(asked_ns=5)] * 50))
    query = _NEXT_FREE.params(asked=5).compile(
        dialect=record._engine.dialect, compile_kwargs={"literal_binds": True}
    )
    with record.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
        steps = [row[3] for row in plan]
    assert steps
    assert not [step for step in steps if step.startswith("SCAN")]


# The same job again


def test_the_same_job_again_is_the_first_one(record: Record) -> None:
    first = store_one(record, identified())
    again = store_one(record, replace(identified(), asked_ns=77, received_ns=88))
    assert again == replace(first, is_repeat=True)


def test_the_same_content_is_found_among_many_with_the_same_identifiers(record: Record) -> None:
    contents = [f"content {number}" for number in range(5)]
    stored = [store_one(record, identified(content)) for content in contents]
    again = [store_one(record, identified(content)) for content in contents]
    assert again == [replace(first, is_repeat=True, same_measurements_as=None) for first in stored]


def test_the_same_job_twice_in_a_batch_is_stored_once(record: Record) -> None:
    first, second, other = store(record, identified(), identified(), identified("other", "others"))
    assert isinstance(first, Stored)
    assert second == Stale()
    assert isinstance(other, Stored)
    assert store_one(record, identified()) == replace(first, is_repeat=True)


def test_the_same_job_of_another_user_is_another_job(record: Record) -> None:
    store_one(record, identified())
    other = store_one(record, replace(identified(), user_id=2))
    assert (other.job_id, other.is_repeat) == (2, False)


def test_jobs_without_identifiers_are_never_the_same(record: Record) -> None:
    items = [make_new_job(), make_new_job()]
    assert ids([*store(record, *items), *store(record, *items)]) == [1, 2, 3, 4]


def test_a_deleted_job_is_stored_anew(record: Record) -> None:
    store_one(record, identified())
    record.write(lambda connection: bury_jobs(connection, [1], user_id=1, deleted_ns=9))
    again = store_one(record, identified())
    assert (again.job_id, again.is_repeat, again.same_measurements_as) == (2, False, None)


def test_the_same_identifiers_with_another_content_name_the_first_job(record: Record) -> None:
    store_one(record, identified())
    second = store_one(record, identified("other"))
    third = store_one(record, identified("third"))
    assert (second.job_id, second.same_measurements_as) == (2, 1)
    assert (third.job_id, third.same_measurements_as) == (3, 1)


def test_the_same_identifiers_twice_in_one_batch_name_the_first_job(record: Record) -> None:
    first, second = store(record, identified(), identified("other"))
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.same_measurements_as, second.same_measurements_as) == (None, first.job_id)


def test_any_number_of_jobs_with_the_same_identifiers_are_stored_at_once(record: Record) -> None:
    outcomes = store(record, *(identified(f"job {number}") for number in range(50)))
    assert ids(outcomes) == list(range(1, 51))
    assert {item.same_measurements_as for item in outcomes if isinstance(item, Stored)} == {None, 1}


def test_one_of_equal_jobs_with_the_same_identifiers_in_a_batch_is_stored(record: Record) -> None:
    outcomes = store(record, identified("a"), identified("b"), identified("a"), identified("b"))
    assert ids(outcomes) == [1, 2]
    assert outcomes[2:] == [Stale(), Stale()]


def test_the_same_job_of_two_users_at_once_is_two_jobs(record: Record) -> None:
    one, other = store(record, identified(), replace(identified(), user_id=2))
    assert ids([one, other]) == [1, 2]


# The user


@pytest.mark.parametrize(
    "change",
    [
        lambda connection: change_user(connection, "ada", is_disabled=True),
        lambda connection: change_user(connection, "ada", password_hash="new"),
    ],
)
def test_a_user_who_may_no_more_is_refused(record: Record, change: object) -> None:
    record.write(change)  # type: ignore[arg-type]
    refused, accepted = store(record, make_new_job(), make_new_job(user_id=2))
    assert isinstance(refused, UnauthorizedError)
    assert ids([accepted]) == [1]


def test_an_unknown_user_is_refused(record: Record) -> None:
    (refused,) = store(record, make_new_job(user_id=99))
    assert isinstance(refused, UnauthorizedError)


def test_a_refused_user_does_not_learn_of_a_stored_job(record: Record) -> None:
    store_one(record, identified())
    record.write(lambda connection: change_user(connection, "ada", is_disabled=True))
    (refused,) = store(record, identified())
    assert isinstance(refused, UnauthorizedError)


# The metrics


def test_new_definitions_make_a_job_stale(record: Record) -> None:
    record.write(define)
    assert store(record, make_new_job(), make_new_job(revision=2)) == [Stale(), Stale()]
    assert store_one(record, make_new_job(revision=1)).job_id == 1


def test_a_stored_job_is_repeated_whatever_the_definitions(record: Record) -> None:
    first = store_one(record, identified())
    record.write(define)
    assert store_one(record, identified()) == replace(first, is_repeat=True)


def units(record: Record) -> dict[str, str | None]:
    with record.read() as connection:
        return known_units(connection, ["p.a", "p.b", "p.c"])


def test_a_job_brings_its_metrics_and_their_units(record: Record) -> None:
    store_one(record, make_new_job(new_units={"p.a": "mag", "p.b": None}))
    assert units(record) == {"p.a": "mag", "p.b": None}
    with record.read() as connection:
        assert not any(row.is_declared for row in metrics_since(connection, 0))


def test_a_first_unit_is_given_to_a_metric_that_had_none(record: Record) -> None:
    store_one(record, make_new_job(new_units={"p.a": None}))
    store_one(record, make_new_job(new_units={"p.a": "mag"}))
    assert units(record) == {"p.a": "mag"}


def test_a_metric_that_has_a_unit_keeps_it(record: Record) -> None:
    store_one(record, make_new_job(new_units={"p.a": "mag"}))
    store_one(record, make_new_job(new_units={"p.a": None}))
    assert units(record) == {"p.a": "mag"}


def test_another_first_unit_makes_a_job_stale(record: Record) -> None:
    store_one(record, make_new_job(new_units={"p.a": "mag"}))
    (outcome,) = store(record, make_new_job(new_units={"p.a": "mmag", "p.b": "s"}))
    assert outcome == Stale()
    assert units(record) == {"p.a": "mag"}


def test_the_first_of_two_values_at_once_in_different_units_gives_the_unit(record: Record) -> None:
    first, second, third = store(
        record,
        make_new_job(new_units={"p.a": "mag"}),
        make_new_job(new_units={"p.a": "mmag"}),
        make_new_job(new_units={"p.a": "mag"}),
    )
    assert isinstance(first, Stored)
    assert second == Stale()
    assert isinstance(third, Stored)
    assert units(record) == {"p.a": "mag"}


def test_a_first_value_without_unit_leaves_it_to_the_next_in_the_batch(record: Record) -> None:
    outcomes = store(
        record, make_new_job(new_units={"p.a": None}), make_new_job(new_units={"p.a": "mmag"})
    )
    assert ids(outcomes) == [1, 2]
    assert units(record) == {"p.a": "mmag"}


def test_a_job_that_is_not_stored_brings_no_metric(record: Record) -> None:
    store(record, make_new_job(revision=5, new_units={"p.a": "mag"}))
    store(record, make_new_job(user_id=99, new_units={"p.b": "mag"}))
    assert units(record) == {}


_ROWS = select(*(column for column in job.c if column.name != "digest")).order_by(job.c.id)


def store_short(record: Record, *items: NewJob) -> list[Stored] | None:
    with by_statement(record._engine).begin() as connection:
        return STORE.short(connection, items)


def usual(number: int) -> NewJob:
    return make_new_job(
        asked_ns=1_000 + number,
        body=make_body(note=str(number)),
        identifiers_digest=str(number).encode().ljust(16),
    )


def count_jobs(record: Record) -> int:
    with record.read() as connection:
        return int(connection.execute(select(func.count()).select_from(job)).scalar_one())


# The short way: what is stored


def test_a_job_stored_the_short_way_is_the_job_as_received(record: Record) -> None:
    new = replace(usual(1), body=b'{"meta": \xff}', is_deliverable=False)
    assert store_short(record, new) == [Stored(1, new.received_ns, new.asked_ns)]
    with record.read() as connection:
        row = get_job(connection, 1)
    assert row is not None
    assert (row.user_id, row.received_ns, row.time_ns, row.revision) == (1, 2_000, 1_001, 0)
    assert (row.body, row.is_deliverable, row.deleted_ns) == (new.body, False, None)


@pytest.mark.parametrize("number", [1, 2, 3, 16, 17, MAX_GROUP])
def test_any_number_of_jobs_is_stored_and_no_more(record: Record, number: int) -> None:
    found = store_short(record, *map(usual, range(number)))
    assert found is not None
    assert [item.job_id for item in found] == list(range(1, number + 1))
    assert count_jobs(record) == number


def test_ids_ascend_in_the_order_of_submission_whatever_the_times(record: Record) -> None:
    found = store_short(record, *(usual(number) for number in (5, 1, 9, 3)))
    assert found is not None
    assert [(item.job_id, item.time_ns) for item in found] == [
        *((1, 1_005), (2, 1_001), (3, 1_009), (4, 1_003))
    ]


def test_jobs_of_several_users_are_stored(record: Record) -> None:
    items = [replace(usual(number), user_id=1 + number % 2) for number in range(4)]
    assert store_short(record, *items) is not None


def test_jobs_without_identifiers_are_stored(record: Record) -> None:
    items = [make_new_job(asked_ns=1), make_new_job(asked_ns=2), usual(1)]
    assert store_short(record, *items) is not None
    assert store_short(record, make_new_job(asked_ns=3)) is not None


# The short way: what is not as usual


def taken_time(record: Record) -> list[NewJob]:
    store_short(record, usual(7))
    return [replace(usual(8), asked_ns=usual(7).asked_ns)]


def same_time_twice(_record: Record) -> list[NewJob]:
    return [usual(7), replace(usual(8), asked_ns=usual(7).asked_ns)]


def known_identifiers(record: Record) -> list[NewJob]:
    store_short(record, usual(7))
    return [replace(usual(7), asked_ns=99)]


def same_identifiers_twice(_record: Record) -> list[NewJob]:
    return [usual(7), replace(usual(7), asked_ns=99)]


def disabled_user(record: Record) -> list[NewJob]:
    record.write(lambda connection: change_user(connection, "ada", is_disabled=True))
    return [usual(7), replace(usual(8), user_id=2)]


def changed_user(record: Record) -> list[NewJob]:
    record.write(lambda connection: change_user(connection, "ada", password_hash="new"))
    return [usual(7), replace(usual(8), user_id=2)]


def unknown_user(_record: Record) -> list[NewJob]:
    return [usual(7), replace(usual(8), user_id=99)]


def one_user_before_and_after_a_change(record: Record) -> list[NewJob]:
    record.write(lambda connection: change_user(connection, "ada", password_hash="new"))
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
def test_none_of_the_jobs_is_stored_the_short_way_if_one_needs_a_look(
    record: Record, make: Callable[[Record], list[NewJob]]
) -> None:
    items = make(record)
    before = count_jobs(record)
    assert store_short(record, *items) is None
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
def test_what_is_stored_the_short_way_is_what_the_whole_would_have_stored(
    batches: Sequence[Sequence[NewJob]],
) -> None:
    with passing_folder() as folder:
        short, whole = (open_record(folder / name) for name in ("short", "whole"))
        for record in (short, whole):
            add_test_user(record)
            add_test_user(record, "bob")
            add_test_user(record, "eve")
            record.write(lambda connection: change_user(connection, "eve", is_disabled=True))
            record.write(bury_some)
        for batch in batches:
            wanted, found = store(whole, *batch), store_short(short, *batch)
            if found is None:
                store(short, *batch)
            else:
                assert found == wanted
        with short.read() as one, whole.read() as other:
            assert one.execute(_ROWS).all() == other.execute(_ROWS).all()
        for record in (short, whole):
            record.close()


def bury_some(connection: Connection) -> None:
    """Leave a tombstone, whose time stays taken."""
    STORE.whole(connection, [make_new_job(asked_ns=3)])
    bury_jobs(connection, [1], user_id=1, deleted_ns=9)
