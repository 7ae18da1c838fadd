from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.index.runs import NEWEST_NS, Runs
from tests.support.observatory import HOUR_NS, Observatory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as site:
        yield site


def back(site: Observatory, *, jobs: int) -> list[list[int]]:
    """Return the ids of all jobs, window by window."""
    windows, before_ns = [], NEWEST_NS
    while True:
        with site.record.read() as connection:
            found, next_ns = Runs(connection).back(before_ns=before_ns, jobs=jobs)
        windows.append([item.job_id for item in found])
        if next_ns is None:
            return windows
        before_ns = next_ns


def test_jobs_come_by_their_time_newest_first_and_each_once(site: Observatory) -> None:
    hours = [3, 1, 5, 0, 2]
    jobs = [site.job(ago_ns=hour * HOUR_NS) for hour in hours]
    order = [jobs[hours.index(hour)] for hour in sorted(hours)]
    assert back(site, jobs=2) == [order[:2], order[2:4], order[4:]]
    assert back(site, jobs=9) == [order]


def test_deleted_jobs_are_left_out(site: Observatory) -> None:
    kept, gone = site.job(run_id="1"), site.job(run_id="1")
    site.delete(gone)
    assert back(site, jobs=9) == [[kept]]
    with site.record.read() as connection:
        assert Runs(connection).count_jobs(None, "1") == 1
        assert [item.job_id for item in Runs(connection).newest_jobs(None, "1", limit=9)] == [kept]


def test_a_job_tells_of_its_run(site: Observatory) -> None:
    site.job(run_id="7", ci_name="drp", run_url="https://ci/7", version_tag="w_1")
    with site.record.read() as connection:
        (job,), _ = Runs(connection).back(before_ns=NEWEST_NS, jobs=9)
    assert (job.pipeline, job.run_id, job.measurement_count) == ("drp", "7", 1)
    assert (job.run_url, job.version_tag) == ("https://ci/7", "w_1")


def test_runs_of_the_same_name_are_told_apart_by_their_pipeline(site: Observatory) -> None:
    drp, none = site.job(run_id="1", ci_name="drp"), site.job(run_id="1")
    with site.record.read() as connection:
        for pipeline, job in (("drp", drp), (None, none)):
            found = Runs(connection).newest_jobs(pipeline, "1", limit=9)
            assert [item.job_id for item in found] == [job]


def test_a_run_is_read_page_by_page_in_order_of_arrival(site: Observatory) -> None:
    jobs = [site.job(run_id="1", ago_ns=number) for number in range(3)]
    with site.record.read() as connection:
        first = Runs(connection).page(None, "1", after=0, limit=2)
        rest = Runs(connection).page(None, "1", after=first[-1].job_id, limit=2)
        newest = Runs(connection).newest_jobs(None, "1", limit=1)
    assert [item.job_id for item in (*first, *rest)] == jobs
    assert [item.job_id for item in newest] == [jobs[0]]


def test_only_runs_that_have_jobs_are_known(site: Observatory) -> None:
    site.job(run_id="c", ci_name="a/b")
    site.job(run_id="d")
    with site.record.read() as connection:
        found = Runs(connection).with_job([("a", "b/c"), ("a/b", "c"), (None, "d"), (None, "c")])
    assert found == [("a/b", "c"), (None, "d")]
