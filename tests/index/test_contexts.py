import pytest
from sqlalchemy import func, select

from squash_api.index.contexts import (
    ChangedJob,
    Contexts,
    JobContext,
    Tags,
    forget_contexts,
    store_contexts,
)
from squash_api.record.record import Record
from squash_api.record.tables import tag_set
from squash_api.schema.names import Context
from tests.support.observatory import HOUR_NS, Observatory

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
    assert [found[number] for number in sorted(found)] == stored


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


def test_only_the_change_is_left_of_a_deleted_job(record: Record) -> None:
    store(record, context_of(1, HSC, FIELDS), context_of(2))
    seen = changes(record)[-1].version
    record.write(lambda connection: forget_contexts(connection, [1]))
    (gone,) = changes(record, after=seen)
    assert (gone.job_id, gone.time_ns, gone.tag_set_id) == (1, 1_001, None)
    with record.read() as connection:
        assert list(Contexts(connection).of([1, 2])) == [2]


def test_forgetting_a_job_that_was_never_derived_changes_nothing(record: Record) -> None:
    record.write(lambda connection: forget_contexts(connection, [7]))
    assert changes(record) == []


def matching(site: Observatory, **tags: str | list[str]) -> list[Tags]:
    wanted = {name: [text] if isinstance(text, str) else text for name, text in tags.items()}
    with site.record.read() as connection:
        return list(Contexts(connection).tag_sets_where(wanted).values())


@pytest.mark.parametrize("text", ["r", 'a"b', "100%", "a_b", "Ω", "\u202eabc", "x\\y"])
def test_sets_are_found_by_the_whole_value_of_a_tag(site: Observatory, text: str) -> None:
    site.job(filter_name=text)
    site.job(filter_name=f"{text}2")
    assert [item["filter"] for item in matching(site, filter=text)] == [text]


def test_small_letters_are_no_capitals(site: Observatory) -> None:
    site.job(filter_name="R")
    assert matching(site, filter="r") == []


def test_any_value_of_a_tag_and_every_tag_must_match(site: Observatory) -> None:
    for name in "riz":
        site.job(filter_name=name, dataset="x")
    found = matching(site, filter=["r", "i", "y"], dataset="x")
    assert {item["filter"] for item in found} == {"r", "i"}
    assert matching(site, filter="r", dataset="y") == []


def test_any_number_of_values_of_any_length_may_be_asked_for(site: Observatory) -> None:
    site.job(filter_name="R")
    many = ["R", *(f"x{number}" for number in range(5000))]
    assert [item["filter"] for item in matching(site, filter=many)] == ["R"]
    assert [item["filter"] for item in matching(site, filter=["R", "%" * 60_000])] == ["R"]


def test_sets_are_chosen_by_a_test_of_ones_own(site: Observatory) -> None:
    site.job(filter_name="r")
    site.job(filter_name="r", dataset="x")
    with site.record.read() as connection:
        found = Contexts(connection).tag_sets_where(
            {"filter": ["r"]}, lambda tags: "dataset" not in tags
        )
    assert [item.get("dataset") for item in found.values()] == [None]


def test_neighbours_are_the_nearest_in_time(site: Observatory) -> None:
    hours = [5, 1, 4, 2, 3]
    jobs = {hour: site.job(ago_ns=hour * HOUR_NS, filter_name=f"f{hour % 2}") for hour in hours}
    other = site.job(ago_ns=3 * HOUR_NS + 1, instrument="other")
    now_ns = site.now_ns - 3 * HOUR_NS
    with site.record.read() as connection:
        sets = Contexts(connection).tag_sets_where({"instrument": ["HSC"]})
        assert len(sets) == 2
        earlier = Contexts(connection).neighbours(sets, now_ns, direction="earlier", limit=5)
        later = Contexts(connection).neighbours(sets, now_ns, direction="later", limit=1)
    assert [item.job_id for item in earlier] == [jobs[4], jobs[5]]
    assert [item.job_id for item in later] == [jobs[2]]
    assert other not in {item.job_id for item in earlier}
