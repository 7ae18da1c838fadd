from collections.abc import Mapping

import pytest
from sqlalchemy import Connection

from squash_api.index.contexts import Contexts, JobContext, forget_context, store_contexts
from squash_api.index.derived import (
    Derived,
    mark_for_rederivation,
    replace_measurements,
    store_derived,
    waiting_for_rederivation,
)
from squash_api.index.values import Latest, Values
from squash_api.record.metrics import metric_ids, note_metrics
from squash_api.record.record import Record
from squash_api.schema.names import Context
from tests.support.builders import store_job

# Tags, time, and the values of p.a and p.b of jobs 1 to 5, received at 11 to 15.
JOBS: list[tuple[str, int, dict[str, float | None]]] = [
    ("r", 100, {"p.a": 1.0, "p.b": 10.0}),
    ("r", 300, {"p.a": 2.0}),
    ("i", 200, {"p.a": 3.0}),
    ("r", 150, {"p.a": 4.0}),
    ("r", 400, {"p.a": None}),
]


@pytest.fixture
def filled(record: Record) -> Record:
    record.write(lambda connection: note_metrics(connection, {"p.a": "mag", "p.b": "mag"}))
    for number in range(1, len(JOBS) + 1):
        store_job(record, asked_ns=number)

    def work(connection: Connection) -> None:
        items = [
            Derived(number, values, context=context_of(number, tag, time_ns))
            for number, (tag, time_ns, values) in enumerate(JOBS, start=1)
        ]
        assert store_derived(connection, items, after=0, through=len(JOBS))

    record.write(work)
    return record


def context_of(number: int, tag: str, time_ns: int) -> JobContext:
    return JobContext(number, time_ns, 10 + number, Context({"filter": tag}))


def ids(connection: Connection) -> Mapping[str, int]:
    return metric_ids(connection, ["p.a", "p.b"])


def found(connection: Connection, items: list[Latest]) -> set[tuple[str, int, int]]:
    """Return metric, time and job of each."""
    names = {number: name for name, number in ids(connection).items()}
    return {(names[item.metric_id], item.time_ns, item.job_id) for item in items}


def test_the_newest_by_time_and_the_last_by_receipt_are_found(filled: Record) -> None:
    with filled.read() as connection:
        wanted = list(ids(connection).values())
        items = Values(connection).latest_between(wanted, after=0, through=9)
        assert found(connection, items) == {("p.a", 300, 4), ("p.a", 200, 3), ("p.b", 100, 1)}


def test_only_the_jobs_that_were_asked_for_count(filled: Record) -> None:
    with filled.read() as connection:
        wanted = list(ids(connection).values())
        items = Values(connection).latest_between(wanted, after=2, through=4)
        assert found(connection, items) == {("p.a", 150, 4), ("p.a", 200, 3)}
        assert found(connection, Values(connection).latest_among(wanted, [1, 5])) == {
            ("p.a", 100, 1),
            ("p.b", 100, 1),
        }


def test_of_one_series_the_same_is_found(filled: Record) -> None:
    with filled.read() as connection:
        metric_id = ids(connection)["p.a"]
        for item in Values(connection).latest_between([metric_id], after=0, through=9):
            assert Values(connection).latest_of(metric_id, item.tag_set_id, after=0) == item
        assert Values(connection).latest_of(metric_id, 999, after=0) is None


def test_of_one_series_old_jobs_can_be_left_out(filled: Record) -> None:
    with filled.read() as connection:
        metric_id = ids(connection)["p.a"]
        (item,) = Values(connection).latest_among([metric_id], [1])
        later = Values(connection).latest_of(metric_id, item.tag_set_id, after=2)
        assert later == Latest(metric_id, item.tag_set_id, 150, 4, 400)
        later = Values(connection).latest_of(metric_id, item.tag_set_id, after=4)
        assert later == Latest(metric_id, item.tag_set_id, 0, 0, 400)
        assert Values(connection).latest_of(metric_id, item.tag_set_id, after=5) is None


def test_the_newest_job_without_a_value_is_found(filled: Record) -> None:
    with filled.read() as connection:
        metric_id = ids(connection)["p.a"]
        items = Values(connection).latest_between([metric_id], after=0, through=9)
        assert sorted(item.absent_ns for item in items) == [0, 400]
        (item,) = Values(connection).latest_among([metric_id], [5])
        assert (item.time_ns, item.job_id, item.absent_ns) == (0, 0, 400)


def test_a_deleted_job_is_not_found(filled: Record) -> None:
    filled.write(lambda connection: forget_context(connection, 2))
    with filled.read() as connection:
        items = Values(connection).latest_between([ids(connection)["p.a"]], after=0, through=9)
        assert found(connection, items) == {("p.a", 150, 4), ("p.a", 200, 3)}
        assert Contexts(connection).at([300, 150]) == {150: 4}


def test_values_and_jobs_are_looked_up(filled: Record) -> None:
    with filled.read() as connection:
        metric_id = ids(connection)["p.a"]
        assert Values(connection).of_metric(metric_id, [1, 3, 5, 99]) == {1: 1.0, 3: 3.0}
        assert Contexts(connection).at([100, 200, 999]) == {100: 1, 200: 3}
        assert Values(connection).jobs_with(metric_id, after=1, through=5, limit=2) == [2, 3]
        assert Values(connection).jobs_with(metric_id, after=3, through=5, limit=9) == [4]


def test_any_number_can_be_looked_up(filled: Record) -> None:
    with filled.read() as connection:
        metric_id = ids(connection)["p.a"]
        many = range(1, 2_000)
        assert len(Values(connection).of_metric(metric_id, many)) == 4
        assert len(Contexts(connection).at(many)) == len(JOBS)
        assert len(Values(connection).latest_among([*many], many)) == 3


@pytest.mark.parametrize(("received_ns", "first"), [(0, 1), (11, 1), (12, 2), (15, 5), (16, None)])
def test_the_first_job_since_a_time_is_known(
    filled: Record, received_ns: int, first: int | None
) -> None:
    with filled.read() as connection:
        assert Contexts(connection).first_since(received_ns) == first


def test_a_job_of_a_wrong_clock_hides_no_other(filled: Record) -> None:
    filled.write(lambda c: store_contexts(c, [JobContext(6, 500, 0, Context())]))
    with filled.read() as connection:
        assert (Contexts(connection).first_since(12), Contexts(connection).last_job()) == (2, 6)


def test_an_empty_index_has_no_last_job(record: Record) -> None:
    with record.read() as connection:
        assert (Contexts(connection).last_job(), Contexts(connection).first_since(0)) == (0, None)


def test_values_that_are_to_be_converted_are_known(filled: Record) -> None:
    filled.write(lambda connection: mark_for_rederivation(connection, [2, 3]))
    with filled.read() as connection:
        assert waiting_for_rederivation(connection, [1, 2]) == {2}
    item = Derived(2, {"p.a": 2.0}, context=context_of(2, "r", 300))
    filled.write(lambda connection: replace_measurements(connection, [item]))
    with filled.read() as connection:
        assert waiting_for_rederivation(connection, [1, 2, 3]) == {3}
