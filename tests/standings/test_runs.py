from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.errors import NotFoundError
from squash_api.standings import runs as runs_overview
from squash_api.standings.runs import RunsOverview, RunSummary
from tests.support.definitions import spec
from tests.support.observatory import HOUR_NS, Observatory


class Ci(Observatory):
    """Jobs come an hour apart. Values above 5 mmag are too high."""

    hours = 1000

    def night(self, run: str | None, value: float = 1.0, **meta: Any) -> int:
        self.hours -= 1
        meta = {"ci_name": "drp"} | meta
        if run is not None:
            meta["run_id"] = run
        return self.job(value, ago_ns=self.hours * HOUR_NS, **meta)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Ci]:
    with Ci(tmp_path) as site:
        site.define(spec("p.a.design", value=5.0))
        yield site


@pytest.fixture
def overview(site: Ci) -> RunsOverview:
    return RunsOverview(site.reader, site.states)


def listed(overview: RunsOverview, *, limit: int = 50, **tags: str) -> list[RunSummary]:
    found: list[RunSummary] = []
    after = None
    for _ in range(50):
        page = overview.list_runs(tags=tags, after=after, limit=limit)
        found.extend(page.runs)
        after = page.after
        if after is None:
            return found
    raise AssertionError(found)


def test_runs_are_listed_newest_first_with_their_worst_state(
    site: Ci, overview: RunsOverview
) -> None:
    site.night("1", 9.0, dataset="x")
    site.night("2", 1.0, dataset="x", filter_name="r")
    newest = site.night("2", 9.0, dataset="x", filter_name="i")
    second, first = listed(overview)
    assert (second.run_id, second.pipeline, second.dataset) == ("2", "drp", "x")
    assert (second.jobs, second.measurements, second.job_id) == (2, 2, newest)
    assert (second.filters, second.state.word) == (("i", "r"), "WARNING")
    assert (first.run_id, first.jobs) == ("1", 1)


def test_a_run_of_several_datasets_is_listed_for_each(site: Ci, overview: RunsOverview) -> None:
    site.night("1", 9.0, dataset="x")
    site.night("1", 1.0, dataset="y")
    assert [(item.dataset, item.state.word) for item in listed(overview)] == [
        ("y", "passed"),
        ("x", "WARNING"),
    ]


def test_a_job_of_no_run_is_listed_by_itself(site: Ci, overview: RunsOverview) -> None:
    jobs = [site.night(None), site.night(None)]
    assert [item.job_id for item in listed(overview)] == jobs[::-1]
    assert {item.run_id for item in listed(overview)} == {None}


def test_runs_of_the_same_name_belong_to_their_pipelines(site: Ci, overview: RunsOverview) -> None:
    site.night("1", ci_name="ap")
    site.night("1", ci_name="drp")
    assert [item.pipeline for item in listed(overview)] == ["drp", "ap"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_hold_each_run_once(site: Ci, overview: RunsOverview, limit: int) -> None:
    for number in (1, 2, 1, 3, 2, 4, 1):
        site.night(str(number))
    assert [item.run_id for item in listed(overview, limit=limit)] == ["1", "4", "2", "3"]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_pages_hold_each_run_once_however_far_one_looks(
    site: Ci, overview: RunsOverview, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(runs_overview, "_WINDOW", window)
    monkeypatch.setattr(runs_overview, "_MOST_LOOKED_AT", window)
    for number in (1, 2, 1, 3, 2, 4, 1):
        site.night(str(number))
    assert [item.run_id for item in listed(overview, limit=2)] == ["1", "4", "2", "3"]


def test_a_page_judges_so_many_jobs(
    site: Ci, overview: RunsOverview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_overview, "_MOST_JUDGED", 2)
    for number in (1, 1, 2, 2, 3):
        site.night(str(number))
    page = overview.list_runs(tags={}, after=None, limit=50)
    assert [item.run_id for item in page.runs] == ["3", "2"]
    assert [item.run_id for item in listed(overview)] == ["3", "2", "1"]


def test_of_large_runs_the_newest_jobs_count(
    site: Ci, overview: RunsOverview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_overview, "MOST_JOBS_OF_RUN", 2)
    for value in (9.0, 1.0, 1.0):
        site.night("1", value)
    (run,) = listed(overview)
    assert (run.jobs, run.is_complete, run.state.word) == (2, False, "passed")
    detail = overview.run([("drp", "1")], after=0, limit=9)
    assert (detail.jobs, detail.looked_at, len(detail.members)) == (3, 2, 3)


def test_only_jobs_with_the_tags_count(site: Ci, overview: RunsOverview) -> None:
    site.night("1", 9.0, filter_name="r")
    site.night("1", 1.0, filter_name="i")
    site.night("2", 1.0, filter_name="i")
    (run,) = listed(overview, filter="r", pipeline="drp")
    assert (run.run_id, run.jobs, run.state.word) == ("1", 1, "WARNING")
    assert listed(overview, dataset="x") == []


def test_todays_limits_may_be_asked_for(site: Ci, overview: RunsOverview) -> None:
    site.night("1", 4.0)
    site.redefine("p.a.design", spec("p.a.design", value=3.0))
    assert [item.state.word for item in listed(overview)] == ["passed"]
    now = overview.list_runs(tags={}, after=None, limit=9, is_now=True)
    assert [item.state.word for item in now.runs] == ["WARNING"]


def test_deleted_jobs_are_in_no_run(site: Ci, overview: RunsOverview) -> None:
    site.delete(site.night("1"))
    assert listed(overview) == []


# One run


def test_a_run_has_its_jobs_in_order_of_arrival(site: Ci, overview: RunsOverview) -> None:
    jobs = [site.night("1", value) for value in (9.0, 1.0, 1.0)]
    first = overview.run([("drp", "1")], after=0, limit=2)
    rest = overview.run([("drp", "1")], after=first.after or 0, limit=2)
    members = (*first.members, *rest.members)
    assert [item.job.job_id for item in members] == jobs
    assert [item.state.word for item in members] == ["WARNING", "passed", "passed"]
    assert (first.jobs, first.state.word, rest.after) == (3, "WARNING", None)
    assert (first.members[0].tags["instrument"], first.measurements) == ("HSC", 3)


def packages(sha: str) -> dict[str, Any]:
    return {"afw": {"name": "afw", "git_sha": sha, "git_url": "https://github.com/lsst/afw"}}


def test_a_run_is_compared_with_the_one_before_and_the_last_that_passed(
    site: Ci, overview: RunsOverview
) -> None:
    site.night("1", 1.0, packages=packages("a"))
    site.night("2", 9.0, packages=packages("b"))
    site.night("3", 9.0, packages=packages("c"))
    found = overview.run([("drp", "3")], after=0, limit=9)
    assert found.before is not None
    assert found.last_passing is not None
    assert (found.before.run_id, found.last_passing.run_id) == ("2", "1")
    assert found.before.packages is not None
    assert found.last_passing.packages is not None
    assert [item.before for item in found.before.packages] == ["b"]
    assert [item.before for item in found.last_passing.packages] == ["a"]


def test_the_first_run_has_none_before_it(site: Ci, overview: RunsOverview) -> None:
    site.night("1")
    found = overview.run([("drp", "1")], after=0, limit=9)
    assert (found.before, found.last_passing, found.judged) == (None, None, 0)


def test_the_first_reading_of_an_address_that_is_a_run_is_taken(
    site: Ci, overview: RunsOverview
) -> None:
    site.night("c", ci_name="a/b")
    found = overview.run([("a", "b/c"), ("a/b", "c")], after=0, limit=9)
    assert (found.pipeline, found.run_id) == ("a/b", "c")
    with pytest.raises(NotFoundError):
        overview.run([("a", "b/c")], after=0, limit=9)
