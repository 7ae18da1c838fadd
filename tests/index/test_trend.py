from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.index import values as trend
from squash_api.index.values import Values
from squash_api.record.metrics import metric_ids
from tests.support.builders import make_body, measured, store_job
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


def test_another_metric_stands_beside(site: Observatory) -> None:
    assert rows(site, other="p.b")[-2:] == [(4.0, None), (5.0, 50.0)]


def test_other_metadata_stands_beside(site: Observatory) -> None:
    assert rows(site, has_fields=True)[0] == (1.0, '{"meta.airmass":1.0}')


@pytest.mark.parametrize("in_sql", [500, 0])
def test_values_of_sets_of_tags_however_many_there_are(
    site: Observatory, monkeypatch: pytest.MonkeyPatch, in_sql: int
) -> None:
    monkeypatch.setattr(trend, "_MOST_SETS_IN_SQL", in_sql)
    assert [value for value, _ in rows(site, tag_sets=g_of(site))] == [1.0, 3.0, 5.0]
    assert last(site, g_of(site), 2) == [5.0, 3.0]
    assert last(site, g_of(site), 9) == [5.0, 3.0, 1.0]


def test_values_come_in_batches(site: Observatory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trend, "_BATCH", 2)
    assert len(rows(site)) == 5


def test_no_value_is_of_the_future(site: Observatory) -> None:
    assert rows(site, since_ns=NOW_NS + 10**17) == []


def test_the_last_values_come_first(site: Observatory) -> None:
    assert last(site, None, 2) == [5.0, 4.0]


def test_sets_of_tags_of_some_jobs(site: Observatory) -> None:
    assert len(sets(site)) == 2
    assert sets(site, after=1, through=2) == sets(site) - g_of(site)
