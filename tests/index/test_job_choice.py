from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.index.windows import Wanted, Windows
from tests.support.measured_jobs import MeasuredJobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    """Jobs 1 to 4 of the times 40, 30, 20, 10 and the runs a, a, b, b."""
    jobs = MeasuredJobs(tmp_path)
    for number, name in enumerate(["r", "i", "R", 'r"%']):
        jobs.add({}, time_ns=40 - 10 * number, filter=name, ci_id="aabb"[number], instrument="HSC")
    jobs.deriver.catch_up()
    yield jobs
    jobs.close()


def listed(jobs: MeasuredJobs, **changes: Any) -> list[tuple[int, int]] | None:
    with jobs.record.read() as connection:
        found = Windows(connection).plan(Wanted([1], **changes)).listed
    return None if found is None else list(found)


def test_without_names_no_jobs_are_listed(jobs: MeasuredJobs) -> None:
    assert listed(jobs) is None
    assert listed(jobs, job_ids=[]) == []


def test_named_jobs_come_in_the_order_of_time(jobs: MeasuredJobs) -> None:
    assert listed(jobs, job_ids=[1, 3, 99]) == [(20, 3), (40, 1)]
    assert listed(jobs, run_ids=["a"]) == [(30, 2), (40, 1)]
    assert listed(jobs, run_ids=["a", "b"], job_ids=[4, 2]) == [(10, 4), (30, 2)]


def test_both_ends_of_the_time_count(jobs: MeasuredJobs) -> None:
    assert listed(jobs, run_ids=["a", "b"], since_ns=20, until_ns=30) == [(20, 3), (30, 2)]


def test_deleted_jobs_are_not_listed(jobs: MeasuredJobs) -> None:
    jobs.delete(2)
    assert listed(jobs, run_ids=["a"]) == [(40, 1)]
