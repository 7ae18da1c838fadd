from collections.abc import Mapping

import pytest
from sqlalchemy import Connection

from squash_api.index import latest as latest_values
from squash_api.index.contexts import Contexts, JobContext, forget_contexts, store_contexts
from squash_api.index.derived import (
    Derived,
    mark_for_rederivation,
    replace_measurements,
    store_derived,
    waiting_for_rederivation,
)
from squash_api.index.latest import Followed, LatestValues
from squash_api.index.values import Latest, Values
from squash_api.record.metrics import metric_ids, note_metrics
from squash_api.record.record import Record
from squash_api.schema.names import Context
from tests.support.builders import store_job
from tests.support.observatory import DAY_NS, NOW_NS, Observatory

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


def test_the_same_is_found_for_one_series(filled: Record) -> None:
    with filled.read() as connection:
        metric_id = ids(connection)["p.a"]
        for item in Values(connection).latest_between([metric_id], after=0, through=9):
            assert Values(connection).latest_of(metric_id, item.tag_set_id, after=0) == item
        assert Values(connection).latest_of(metric_id, 999, after=0) is None


def test_old_jobs_of_one_series_can_be_left_out(filled: Record) -> None:
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
    filled.write(lambda connection: forget_contexts(connection, [2]))
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


class Follower:
    """Follows a site, and knows the newest values as of the last time."""

    def __init__(self, site: Observatory, *, days: float = 10.0) -> None:
        self.site = site
        self.latest = LatestValues(site.reader)
        self.days = days
        with site.record.read() as connection:
            self.metric_id = metric_ids(connection, ["p.a"])["p.a"]

    def follow(self) -> Followed:
        self.latest.prepare(now_ns=self.site.now_ns, days=self.days)
        with self.site.reader.view() as view:
            return self.latest.follow(view, now_ns=self.site.now_ns)

    def found(self) -> dict[str, tuple[int, int]]:
        """Return how long ago the newest value of p.a was, and the last job, by filter."""
        self.follow()
        return {
            self.latest.tags(item).get("filter", ""): (NOW_NS - time_ns, job_id)
            for item, (time_ns, job_id) in self.latest.of_metric(self.metric_id).items()
        }


def test_what_is_there_is_known_at_the_first_time(site: Observatory) -> None:
    site.job(filter="r", ago_ns=5)
    site.job(filter="r", ago_ns=7)
    site.job(filter="i", ago_ns=3)
    assert Follower(site).found() == {"r": (5, 2), "i": (3, 3)}


def test_what_comes_is_followed(site: Observatory) -> None:
    follower = Follower(site)
    assert follower.found() == {}
    site.job(filter="r", ago_ns=5)
    assert follower.found() == {"r": (5, 1)}
    site.job(filter="r", ago_ns=4)
    assert follower.found() == {"r": (4, 2)}


def test_when_nothing_is_new_nothing_has_changed(site: Observatory) -> None:
    site.job()
    follower = Follower(site)
    follower.follow()
    before = follower.latest.changes(follower.metric_id)
    assert follower.follow() == Followed()
    assert follower.latest.changes(follower.metric_id) == before


def test_a_new_value_changes_its_series_only(site: Observatory) -> None:
    site.job(filter="r")
    site.job(filter="i", ago_ns=1)
    follower = Follower(site)
    follower.follow()
    site.job(filter="i", ago_ns=2)
    followed = follower.follow()
    ((metric_id, tag_set_id),) = followed.series
    assert metric_id == follower.metric_id
    assert follower.latest.tags(tag_set_id)["filter"] == "i"
    assert not followed.is_rewritten


def test_deletions_go_back_to_what_was_before(site: Observatory) -> None:
    follower = Follower(site)
    site.job(ago_ns=9)
    newest = site.job(ago_ns=1)
    last = site.job(ago_ns=5)
    assert follower.found() == {"": (1, last)}
    site.delete(newest)
    assert follower.found() == {"": (5, last)}
    site.delete(last)
    assert follower.found() == {"": (9, 1)}
    site.delete(1)
    assert follower.found() == {}
    assert follower.latest.rewrites == 3


def test_a_job_that_was_deleted_before_it_was_seen_was_never_there(site: Observatory) -> None:
    follower = Follower(site)
    follower.follow()
    site.delete(site.job())
    assert follower.found() == {}


def test_jobs_that_were_received_before_are_left_out(site: Observatory) -> None:
    site.job(filter="old", ago_ns=11 * DAY_NS)
    site.job(filter="new", ago_ns=20 * DAY_NS, received_ago_ns=9 * DAY_NS)
    assert set(Follower(site).found()) == {"new"}


def test_what_gets_old_is_forgotten(site: Observatory) -> None:
    site.job(filter="old", ago_ns=8 * DAY_NS)
    site.job(filter="new")
    follower = Follower(site)
    assert set(follower.found()) == {"old", "new"}
    site.now_ns += 5 * DAY_NS
    assert set(follower.found()) == {"new"}
    assert follower.latest.first_id == 1


def test_one_can_look_further_back_later(site: Observatory) -> None:
    first = site.job(filter="old", ago_ns=15 * DAY_NS)
    site.job(filter="new")
    follower = Follower(site)
    assert set(follower.found()) == {"new"}
    before = follower.latest.changes(follower.metric_id)
    follower.days = 20.0
    assert set(follower.found()) == {"old", "new"}
    assert follower.latest.changes(follower.metric_id) > before
    site.delete(first)
    assert set(follower.found()) == {"new"}


def test_what_happens_while_it_looks_further_back_is_not_missed(site: Observatory) -> None:
    site.job(filter="old", ago_ns=15 * DAY_NS)
    follower = Follower(site)
    doomed = site.job(filter="new")
    follower.follow()
    site.delete(doomed)
    follower.days = 20.0
    assert set(follower.found()) == {"old"}


def test_memory_has_a_bound_and_the_newest_are_kept(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest_values, "MOST_SERIES", 8)
    for number in range(9):
        site.job(filter=f"f{number}", ago_ns=9 - number)
    assert set(Follower(site).found()) == {f"f{number}" for number in range(3, 9)}
