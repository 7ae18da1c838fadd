from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from squash_api.index import values
from squash_api.index.contexts import Contexts
from squash_api.index.derived import mark_for_rederivation
from squash_api.index.deriver import Deriver
from squash_api.index.values import Values
from squash_api.record.metrics import Metrics, metric_ids, note_metrics
from squash_api.record.record import Record
from squash_api.record.tables import tag_set
from squash_api.schema.names import Schema
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job
from tests.support.observatory import NOW_NS, Observatory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    """Five values of p.a: 1 to 5, in g, r, g, r, g, with p.b in the last."""
    with Observatory(tmp_path) as site:
        for number in range(1, 5):
            site.job(float(number), filter="gr"[(number - 1) % 2], airmass=number)
        body = make_body(measured("p.a", 5.0), measured("p.b", 50.0), instrument="HSC", filter="g")
        store_job(
            site.record, body=body, asked_ns=NOW_NS, received_ns=NOW_NS, revision=site.revision
        )
        site.derive()
        yield site


def rows(site: Observatory, **asked: Any) -> list[tuple[float, Any]]:
    with site.record.read() as connection:
        ids = metric_ids(connection, ["p.a", "p.b"])
        if "other" in asked:
            asked["other_id"] = ids[asked.pop("other")]
        found = Values(connection).rows(
            ids["p.a"], **({"since_ns": None, "tag_sets": None} | asked)
        )
        return [(row[3], row[4]) for batch in found for row in batch]


def sets(site: Observatory, *, after: int = 0, through: int = 9) -> set[int]:
    with site.record.read() as connection:
        (metric_id,) = metric_ids(connection, ["p.a"]).values()
        return Values(connection).tag_sets(metric_id, after=after, through=through)


def last(site: Observatory, tag_sets: set[int] | None, limit: int) -> list[float | None]:
    with site.record.read() as connection:
        (metric_id,) = metric_ids(connection, ["p.a"]).values()
        found = Values(connection).last(metric_id, tag_sets=tag_sets, limit=limit)
    return [row.value for row in found]


def g_of(site: Observatory) -> set[int]:
    return sets(site, through=1)


def test_values_come_in_the_order_of_arrival(site: Observatory) -> None:
    assert [value for value, _ in rows(site)] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_values_come_beside_those_of_another_metric(site: Observatory) -> None:
    assert rows(site, other="p.b")[-2:] == [(4.0, None), (5.0, 50.0)]


def test_values_come_beside_other_metadata(site: Observatory) -> None:
    assert rows(site, has_fields=True)[0] == (1.0, '{"meta.airmass":1.0}')


@pytest.mark.parametrize("in_sql", [500, 0])
def test_values_of_sets_of_tags_however_many_there_are(
    site: Observatory, monkeypatch: pytest.MonkeyPatch, in_sql: int
) -> None:
    monkeypatch.setattr(values, "_MOST_SETS_IN_SQL", in_sql)
    assert [value for value, _ in rows(site, tag_sets=g_of(site))] == [1.0, 3.0, 5.0]
    assert last(site, g_of(site), 2) == [5.0, 3.0]
    assert last(site, g_of(site), 9) == [5.0, 3.0, 1.0]


def test_values_come_in_batches(site: Observatory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_BATCH", 2)
    assert len(rows(site)) == 5


def test_no_value_is_of_the_future(site: Observatory) -> None:
    assert rows(site, since_ns=NOW_NS + 10**17) == []


def test_values_come_from_between_two_times(site: Observatory) -> None:
    with site.record.read() as connection:
        times = sorted(row.time_ns for row in Contexts(connection).of(range(1, 6)).values())
    found = rows(site, since_ns=times[1], until_ns=times[3])
    assert [value for value, _ in found] == [2.0, 3.0, 4.0]
    assert [value for value, _ in rows(site, until_ns=times[0])] == [1.0]


def test_the_last_values_come_first(site: Observatory) -> None:
    assert last(site, None, 2) == [5.0, 4.0]


def test_sets_of_tags_of_some_jobs(site: Observatory) -> None:
    assert len(sets(site)) == 2
    assert sets(site, after=1, through=2) == sets(site) - g_of(site)


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Record]:
    """Four values of `p.a`, the times not in the order of the ids, and jobs without one."""
    record = open_record(tmp_path)
    add_test_user(record)
    record.write(lambda connection: note_metrics(connection, {"p.a": "mmag", "p.b": "mmag"}))
    for value, asked_ns, band in [
        (1.0, 4_000, "r"),
        (2.0, 3_000, "r"),
        (3.0, 2_000, "g"),
        (4.0, 1_000, "r"),
        (None, 9_000, "r"),
    ]:
        body = make_body(measured("p.a", value), measured("p.b", None), filter_name=band)
        store_job(record, body=body, asked_ns=asked_ns)
    Deriver(record, Metrics(record, Schema())).catch_up()
    yield record
    record.close()


def recent(record: Record, *bands: str, limit: int = 9) -> list[float]:
    with record.read() as connection:
        sets = connection.execute(select(tag_set)).all()
        wanted = [row.id for row in sets if any(f'"{band}"' in row.document for band in bands)]
        metric_id = metric_ids(connection, ["p.a"])["p.a"]
        found = Values(connection).recent(metric_id, wanted, limit=limit)
    return [value for _, value in found]


def last_job(record: Record, name: str) -> int | None:
    with record.read() as connection:
        metric_id = metric_ids(connection, [name])[name]
        found = Values(connection).last(metric_id, tag_sets=None, limit=1)
    return found[0].job_id if found else None


def test_values_are_those_of_the_tags_in_the_order_of_time(recorded: Record) -> None:
    assert recent(recorded, "r") == [4.0, 2.0, 1.0]


def test_values_of_several_sets_of_tags_are_one_series(recorded: Record) -> None:
    assert recent(recorded, "r", "g") == [4.0, 3.0, 2.0, 1.0]


def test_the_newest_come_of_more_values_than_wanted(recorded: Record) -> None:
    assert recent(recorded, "r", "g", limit=2) == [2.0, 1.0]


def test_a_recent_value_that_may_be_in_an_old_unit_is_left_out(recorded: Record) -> None:
    recorded.write(lambda connection: mark_for_rederivation(connection, [2]))
    assert recent(recorded, "r") == [4.0, 1.0]


def test_the_last_job_is_the_last_with_a_value(recorded: Record) -> None:
    assert last_job(recorded, "p.a") == 4
    assert last_job(recorded, "p.b") is None


def test_a_job_that_is_not_there_has_no_tags(recorded: Record) -> None:
    with recorded.read() as connection:
        assert len(Contexts(connection).tag_sets_of([1, 3])) == 2
        assert Contexts(connection).tag_sets_of([99]) == set()


@pytest.fixture
def empty_site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as site:
        yield site


def values_in(site: Observatory, names: list[str], jobs: list[int]) -> set[tuple[str, int, object]]:
    with site.record.read() as connection:
        ids = metric_ids(connection, names)
        shown = {number: name for name, number in ids.items()}
        found = list(Values(connection).in_jobs(list(ids.values()), jobs))
    assert len(found) == len(set(found))
    return {(shown[metric_id], job_id, value) for metric_id, job_id, value in found}


def test_values_are_those_of_the_metrics_in_the_jobs(empty_site: Observatory) -> None:
    first, second, absent = (
        empty_site.job(1.0),
        empty_site.job(2.0, name="p.b"),
        empty_site.job(None),
    )
    assert values_in(empty_site, ["p.a", "p.b"], [first, second, absent]) == {
        ("p.a", first, 1.0),
        ("p.b", second, 2.0),
        ("p.a", absent, None),
    }
    assert values_in(empty_site, ["p.b"], [first, second]) == {("p.b", second, 2.0)}


def test_values_of_jobs_between_those_asked_for_may_come_too(empty_site: Observatory) -> None:
    jobs = [empty_site.job(float(number)) for number in range(20)]
    near = {("p.a", jobs[0], 0.0), ("p.a", jobs[2], 2.0)}
    far = {("p.a", jobs[0], 0.0), ("p.a", jobs[19], 19.0)}
    assert values_in(empty_site, ["p.a"], [jobs[0], jobs[2]]) == near | {("p.a", jobs[1], 1.0)}
    assert values_in(empty_site, ["p.a"], [jobs[0], jobs[19]]) == far


def test_no_metrics_and_no_jobs_have_no_values(empty_site: Observatory) -> None:
    assert values_in(empty_site, [], [empty_site.job()]) == set()
    assert values_in(empty_site, ["p.a"], []) == set()


def test_a_job_keeps_the_revision_of_its_receipt(empty_site: Observatory) -> None:
    before, first = empty_site.revision, empty_site.job()
    empty_site.define(
        {"name": "p.a.x", "threshold": {"value": 5.0, "unit": "mmag", "operator": "<"}}
    )
    second = empty_site.job()
    with empty_site.record.read() as connection:
        assert Contexts(connection).revisions([first, second, 99]) == {
            first: before,
            second: empty_site.revision,
        }


def test_a_job_that_is_derived_anew_has_a_higher_version(empty_site: Observatory) -> None:
    first, second = empty_site.job(), empty_site.job()
    with empty_site.record.read() as connection:
        before = Contexts(connection).versions([first, second])
    empty_site.deriver.rederive([first])
    with empty_site.record.read() as connection:
        after = Contexts(connection).versions([first, second])
    assert after[first] > before[first]
    assert after[second] == before[second]


def test_a_deleted_job_has_no_version(empty_site: Observatory) -> None:
    job = empty_site.job()
    empty_site.delete(job)
    with empty_site.record.read() as connection:
        assert Contexts(connection).versions([job]) == {}
