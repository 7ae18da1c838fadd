from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.index.code_changes import PackageChange
from squash_api.standings import last_passing
from squash_api.standings.job_states import JobStates
from squash_api.standings.last_passing import (
    Comparison,
    Place,
    Run,
    compare,
    last_passing_run,
    place_of,
    previous_run,
)
from tests.support.definitions import spec
from tests.support.observatory import HOUR_NS, Observatory

GOOD, BAD = 1.0, 9.0


class Nightly(Observatory):
    """Jobs come an hour apart. Values above 5 mmag are too high."""

    hours = 1000

    def night(self, value: float | None = GOOD, *, name: str = "p.a", **meta: Any) -> int:
        self.hours -= 1
        return self.job(value, name=name, ago_ns=self.hours * HOUR_NS, **meta)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Nightly]:
    with Nightly(tmp_path) as site:
        site.define(spec("p.a.design", value=5.0), spec("p.b.design", value=5.0))
        yield site


@pytest.fixture
def states(site: Nightly) -> JobStates:
    return site.states


def place(site: Nightly, states: JobStates, job_id: int) -> Place:
    found = place_of(site.reader, states, job_id, revision=site.revision)
    assert found is not None
    return found


def passing(site: Nightly, states: JobStates, job_id: int) -> int | None:
    found = place(site, states, job_id).last_passing
    return None if found is None else found.job_id


# A job among its like


def test_neighbours_have_the_same_combination_of_tags(site: Nightly, states: JobStates) -> None:
    first = site.night(filter_name="r", status="a")
    site.night(filter_name="i")
    second = site.night(filter_name="r", status="b")
    third = site.night(filter_name="r")
    found = place(site, states, second)
    assert found.combination == (("instrument", "HSC"), ("filter", "r"))
    assert found.previous is not None
    assert found.next is not None
    assert (found.previous.job_id, found.next.job_id) == (first, third)


def test_the_first_and_the_last_have_one_neighbour(site: Nightly, states: JobStates) -> None:
    job = site.night()
    found = place(site, states, job)
    assert (found.previous, found.next, found.last_passing) == (None, None, None)


def test_a_deleted_job_is_nowhere(site: Nightly, states: JobStates) -> None:
    job = site.night()
    site.delete(job)
    assert place_of(site.reader, states, job, revision=site.revision) is None


# When all was last well


def test_the_last_passing_job_is_the_newest_that_breaks_nothing(
    site: Nightly, states: JobStates
) -> None:
    site.night(GOOD)
    good = site.night(GOOD)
    site.night(BAD)
    assert passing(site, states, site.night(BAD)) == good


def test_what_was_not_judged_did_not_pass(site: Nightly, states: JobStates) -> None:
    good = site.night(GOOD)
    site.night(None)
    assert passing(site, states, site.night(BAD)) == good


def test_jobs_that_measure_something_else_do_not_count(site: Nightly, states: JobStates) -> None:
    good = site.night(GOOD)
    site.night(BAD)
    site.night(GOOD, name="p.b")
    assert passing(site, states, site.night(BAD)) == good


def test_a_job_that_names_the_metric_without_a_value_did_not_pass(
    site: Nightly, states: JobStates
) -> None:
    good = site.night(GOOD, run_id="1")
    site.night(GOOD, run_id="2")
    site.night(None, run_id="2")
    assert passing(site, states, site.night(BAD, run_id="3")) == good


def test_a_run_passes_as_a_whole(site: Nightly, states: JobStates) -> None:
    good = site.night(GOOD, run_id="1")
    site.night(BAD, run_id="2")
    site.night(GOOD, run_id="2")
    assert passing(site, states, site.night(BAD, run_id="3")) == good


def test_jobs_of_the_same_run_are_not_before_it(site: Nightly, states: JobStates) -> None:
    good = site.night(GOOD, run_id="1")
    site.night(GOOD, run_id="2")
    assert passing(site, states, site.night(BAD, run_id="2")) == good


def test_all_are_judged_by_one_revision(site: Nightly, states: JobStates) -> None:
    good = site.night(0.5)
    site.night(GOOD)
    site.redefine("p.a.design", spec("p.a.design", value=0.7))
    assert passing(site, states, site.night(BAD)) == good


def test_it_is_looked_for_among_so_many(
    site: Nightly, states: JobStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_passing, "MOST_JOBS", 3)
    site.night(GOOD)
    for _ in range(3):
        site.night(BAD)
    found = place(site, states, site.night(BAD))
    assert (found.last_passing, found.looked_at) == (None, 3)


def test_a_run_is_judged_whole_however_few_are_looked_at_first(
    site: Nightly, states: JobStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_passing, "_FIRST_LOOK", 2)
    good = site.night(GOOD, run_id="1")
    site.night(BAD, run_id="2")
    for _ in range(5):
        site.night(GOOD, run_id="2")
    assert passing(site, states, site.night(BAD, run_id="3")) == good


# Runs


def test_a_run_is_compared_with_runs_of_its_pipeline_and_datasets(
    site: Nightly, states: JobStates
) -> None:
    good = site.night(GOOD, run_id="1", ci_name="drp", dataset="x")
    site.night(GOOD, run_id="2", ci_name="ap", dataset="x")
    site.night(GOOD, run_id="3", ci_name="drp", dataset="y")
    site.night(BAD, run_id="4", ci_name="drp", dataset="x")
    run = Run("drp", "5", {"x"}, site.now_ns)
    found, looked_at = last_passing_run(site.reader, states, run, revision=site.revision)
    assert found is not None
    assert (found.job_id, found.run_id, looked_at) == (good, "1", 2)


def test_a_run_that_lacks_what_is_broken_now_did_not_pass(site: Nightly, states: JobStates) -> None:
    good = site.night(GOOD, run_id="1", ci_name="drp")
    site.night(GOOD, run_id="1", ci_name="drp", name="p.b")
    other = site.night(GOOD, run_id="2", ci_name="drp", name="p.b")

    def found(*faulty: str) -> int | None:
        run = Run("drp", "3", {None}, site.now_ns, faulty)
        job, _ = last_passing_run(site.reader, states, run, revision=site.revision)
        return None if job is None else job.job_id

    assert (found("p.a"), found("p.b"), found()) == (good, other, other)
    # What no earlier run measured cannot be asked of one.
    assert found("p.b", "p.new") == other


def test_a_metric_that_is_never_measured_does_not_count(site: Nightly, states: JobStates) -> None:
    def search(*faulty: str) -> str | None:
        run = Run("drp", "9", {None}, site.now_ns, faulty)
        job, _ = last_passing_run(site.reader, states, run, revision=site.revision)
        return None if job is None else job.run_id

    site.night(GOOD, run_id="1", ci_name="drp")
    site.night(None, run_id="1", ci_name="drp", name="p.b")
    site.night(BAD, run_id="2", ci_name="drp")
    site.night(None, run_id="2", ci_name="drp", name="p.b")
    assert (search(), search("p.a", "p.b")) == ("1", "1")
    # What is measured elsewhere is missing there.
    site.night(GOOD, run_id="3", ci_name="drp", name="p.b")
    site.night(BAD, run_id="3", ci_name="drp")
    assert (search(), search("p.a", "p.b")) == (None, None)


def test_a_run_without_any_value_did_not_pass(site: Nightly, states: JobStates) -> None:
    site.night(None)
    site.night(None)
    assert passing(site, states, site.night(BAD)) is None


def test_runs_of_no_pipeline_are_among_themselves(site: Nightly, states: JobStates) -> None:
    good = site.night(GOOD, run_id="1")
    site.night(GOOD, run_id="2", ci_name="drp")
    run = Run(None, "3", {None}, site.now_ns)
    found, _ = last_passing_run(site.reader, states, run, revision=site.revision)
    assert found is not None
    assert found.job_id == good


# Packages


def packages(**shas: str) -> dict[str, Any]:
    return {
        name: {"name": name, "git_sha": sha, "git_url": f"https://github.com/lsst/{name}.git"}
        for name, sha in shas.items()
    }


def test_packages_are_compared(site: Nightly) -> None:
    first = site.night(run_id="1", packages=packages(afw="a1", obs="o1"))
    second = site.night(run_id="2", packages=packages(afw="a2", obs="o1"))
    with site.reader.view() as view:
        found = compare(view, second, first)
        same = compare(view, second, second)
    url = "https://github.com/lsst/afw.git"
    assert found == Comparison(first, "1", (PackageChange("afw", "a1", "a2", url),))
    assert same == Comparison(second, "2", ())


def test_without_packages_nothing_is_known(site: Nightly) -> None:
    first = site.night(run_id="1")
    second = site.night(run_id="2", packages=packages(afw="a2"))
    with site.reader.view() as view:
        assert compare(view, second, first) == Comparison(first, "1", None)
        assert compare(view, second, None) is None


def test_the_run_before_is_that_of_the_code_changes(site: Nightly) -> None:
    first = site.night(run_id="1", ci_name="drp")
    second = site.night(run_id="2", ci_name="drp")
    bare = site.night()
    with site.reader.view() as view:
        assert previous_run(view, second) == first
        assert previous_run(view, bare) is None
