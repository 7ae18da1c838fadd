from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.record.contexts import tags_of_sets
from squash_api.record.job_choice import listed_jobs, matching_sets
from tests.support.measured_jobs import MeasuredJobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    """Jobs 1 to 4 of the times 40, 30, 20, 10 and the runs a, a, b, b."""
    jobs = MeasuredJobs(tmp_path)
    for number, name in enumerate(["r", "i", "R", 'r"%']):
        jobs.add({}, time_ns=40 - 10 * number, filter=name, ci_id="aabb"[number], instrument="HSC")
    jobs.deriver.catch_up()
    yield jobs
    jobs.record.close()


def filters(jobs: MeasuredJobs, **tags: list[str]) -> set[str]:
    with jobs.record.read() as connection:
        sets = matching_sets(connection, tags)
        return {found["filter"] for found in tags_of_sets(connection, sets).values()}


def listed(jobs: MeasuredJobs, **changes: Any) -> list[tuple[int, int]] | None:
    named = {"job_ids": None, "run_ids": (), "since_ns": None, "until_ns": None} | changes
    with jobs.record.read() as connection:
        return listed_jobs(connection, **named)


def test_tags_match_to_the_letter(jobs: MeasuredJobs) -> None:
    assert filters(jobs, filter=["r"]) == {"r"}
    assert filters(jobs, filter=['r"%']) == {'r"%'}
    assert filters(jobs, filter=["%"]) == set()


def test_of_values_any_will_do_and_of_tags_all_must_match(jobs: MeasuredJobs) -> None:
    assert filters(jobs, filter=["r", "i", "z"], instrument=["HSC"]) == {"r", "i"}
    assert filters(jobs, filter=["r"], instrument=["DECam"]) == set()


def test_any_number_of_values_of_any_length_may_be_asked_for(jobs: MeasuredJobs) -> None:
    assert filters(jobs, filter=["R", *(f"x{number}" for number in range(5000))]) == {"R"}
    assert filters(jobs, filter=["R", "%" * 60_000]) == {"R"}


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
