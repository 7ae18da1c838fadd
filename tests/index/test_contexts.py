import pytest
from sqlalchemy import func, select

from squash_api.index.contexts import (
    ChangedJob,
    Contexts,
    JobContext,
    forget_context,
    store_contexts,
)
from squash_api.record.record import Record
from squash_api.record.tables import tag_set
from squash_api.schema.names import Context

HSC = {"filter": "r", "instrument": "HSC"}
FIELDS: dict[str, str | float] = {
    "run_id": "R17",
    "run_url": "https://ci.example/R17",
    "version_tag": "w_2026_46",
    "meta.airmass": 1.25,
    "meta.note.text": 'Ω "quoted"',
}


def context_of(
    job_id: int,
    tags: dict[str, str] | None = None,
    fields: dict[str, str | float] | None = None,
) -> JobContext:
    return JobContext(job_id, 1_000 + job_id, 2_000 + job_id, Context(tags or {}, fields or {}))


def store(record: Record, *items: JobContext) -> None:
    record.write(lambda connection: store_contexts(connection, items))


def changes(record: Record, *, after: int = 0, limit: int = 99) -> list[ChangedJob]:
    with record.read() as connection:
        return Contexts(connection).changed(after=after, limit=limit)


@pytest.mark.parametrize("fields", [{}, FIELDS, {"meta.visit": 17.0}])
def test_a_context_is_read_as_it_was_stored(record: Record, fields: dict[str, str | float]) -> None:
    stored = context_of(1, HSC, fields)
    store(record, stored)
    with record.read() as connection:
        assert Contexts(connection).of([1, 2]) == {1: stored}


def test_any_number_of_contexts_can_be_read(record: Record) -> None:
    stored = [context_of(number, {"visit": str(number)}) for number in range(1, 1_203)]
    store(record, *stored)
    with record.read() as connection:
        found = Contexts(connection).of(range(1, 2_000))
    assert list(found.values()) == stored


def test_equal_tags_are_stored_once_in_whatever_order(record: Record) -> None:
    store(record, context_of(1, HSC), context_of(2, dict(reversed(HSC.items()))))
    store(record, context_of(3, HSC), context_of(4))
    with record.read() as connection:
        assert connection.execute(select(func.count()).select_from(tag_set)).scalar_one() == 2
    sets = [item.tag_set_id for item in changes(record)]
    assert sets[0] == sets[1] == sets[2] != sets[3]
    with record.read() as connection:
        assert Contexts(connection).tags({1}) == {1: HSC}


def test_a_context_that_is_stored_again_is_replaced(record: Record) -> None:
    store(record, context_of(1, HSC))
    again = context_of(1, {"instrument": "DECam"})
    store(record, again)
    with record.read() as connection:
        assert Contexts(connection).of([1]) == {1: again}


def test_what_has_changed_is_read_in_the_order_of_the_changes(record: Record) -> None:
    store(record, context_of(1), context_of(2))
    seen = changes(record)[-1].version
    store(record, context_of(3))
    store(record, context_of(1))
    assert [item.job_id for item in changes(record, after=seen)] == [3, 1]
    with record.read() as connection:
        assert Contexts(connection).newest_version() == changes(record)[-1].version


def test_what_changed_at_once_is_read_at_once(record: Record) -> None:
    store(record, *(context_of(number) for number in range(1, 6)))
    store(record, context_of(6))
    assert [item.job_id for item in changes(record, limit=2)] == [1, 2, 3, 4, 5]


def test_of_a_deleted_job_only_the_change_is_left(record: Record) -> None:
    store(record, context_of(1, HSC, FIELDS), context_of(2))
    seen = changes(record)[-1].version
    record.write(lambda connection: forget_context(connection, 1))
    (gone,) = changes(record, after=seen)
    assert (gone.job_id, gone.time_ns, gone.tag_set_id) == (1, 1_001, None)
    with record.read() as connection:
        assert list(Contexts(connection).of([1, 2])) == [2]


def test_to_forget_a_job_that_was_never_derived_changes_nothing(record: Record) -> None:
    record.write(lambda connection: forget_context(connection, 7))
    assert changes(record) == []
