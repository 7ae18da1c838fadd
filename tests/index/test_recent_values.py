from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from squash_api.index.contexts import Contexts
from squash_api.index.derived import mark_for_rederivation
from squash_api.index.deriver import Deriver
from squash_api.index.values import Values
from squash_api.record.metrics import Metrics, metric_ids, note_metrics
from squash_api.record.record import Record
from squash_api.record.tables import tag_set
from squash_api.schema.names import Schema
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
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


def values(record: Record, *bands: str, limit: int = 9) -> list[float]:
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


def test_values_are_those_of_the_tags_in_the_order_of_time(record: Record) -> None:
    assert values(record, "r") == [4.0, 2.0, 1.0]


def test_values_of_several_sets_of_tags_are_one_series(record: Record) -> None:
    assert values(record, "r", "g") == [4.0, 3.0, 2.0, 1.0]


def test_of_more_than_wanted_it_is_the_newest(record: Record) -> None:
    assert values(record, "r", "g", limit=2) == [2.0, 1.0]


def test_the_last_job_is_the_last_with_a_value(record: Record) -> None:
    assert last_job(record, "p.a") == 4
    assert last_job(record, "p.b") is None


def test_a_job_that_is_not_there_has_no_tags(record: Record) -> None:
    with record.read() as connection:
        assert len(Contexts(connection).tag_sets_of([1, 3])) == 2
        assert Contexts(connection).tag_sets_of([99]) == set()


def test_a_value_that_may_be_in_an_old_unit_is_left_out(record: Record) -> None:
    record.write(lambda connection: mark_for_rederivation(connection, [2]))
    assert values(record, "r") == [4.0, 1.0]
