"""The time of a job's points is the one that the job says."""

import time

import pytest

from tests.support.site import Site, job_document

NOON_NS = 1_772_366_400_000_000_000


@pytest.mark.parametrize(
    ("date", "time_ns"),
    [
        ("2026-03-01T12:00:00+00:00", NOON_NS),
        ("2026-03-01T12:00:00Z", NOON_NS),
        ("2026-03-01T12:00:00", NOON_NS),
        ("2026-03-01T07:00:00-05:00", NOON_NS),
        ("2026-03-01 12:00:00.123456789", NOON_NS + 123_456_789),
    ],
)
def test_the_date_of_the_environment_is_the_time_of_the_point(
    site: Site, package: str, date: str, time_ns: int
) -> None:
    env = {"env_name": "ldf", "date": date}
    site.deliver(job_document({f"{package}.m": 1.0}, env=env))
    (point,) = site.points(package)
    # Other jobs may have taken the very nanosecond.
    assert 0 <= point["time"] - time_ns < 1000


@pytest.mark.parametrize("date", [None, "yesterday", "1969-12-31T23:59:59Z", "9999-01-01"])
def test_without_a_date_that_can_be_it_is_the_time_of_receipt(
    site: Site, package: str, date: str | None
) -> None:
    before_ns = time.time_ns()
    reply = site.dispatch(job_document({f"{package}.m": 1.0}, env={"date": date}))
    after_ns = time.time_ns()
    site.wait_until_delivered([reply["id"]])
    (point,) = site.points(package)
    assert before_ns <= point["time"] <= after_ns
    assert any("the time of receipt was taken" in note for note in reply["notes"])


def test_the_date_of_a_job_is_shown_and_so_is_its_receipt(site: Site, package: str) -> None:
    env = {"env_name": "ldf", "date": "2026-03-02T12:00:00+00:00"}
    job_id = site.dispatch(job_document({f"{package}.m": 1.0}, env=env))["id"]
    shown = site.get(f"/job/{job_id}")
    assert shown["date_created"] == "2026-03-02T12:00:00Z"
    assert shown["date_received"] > shown["date_created"]
