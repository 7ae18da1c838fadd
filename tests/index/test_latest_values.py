from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.index import latest as latest_values
from squash_api.index.latest import Followed, LatestValues
from squash_api.record.metrics import metric_ids
from tests.support.observatory import DAY_NS, NOW_NS, Observatory


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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as site:
        yield site


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
