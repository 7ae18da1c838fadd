"""The time of a job's points is the one that the job says."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.site import Site, job_document, new_package

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
    assert any("the time of receipt is used" in note for note in reply["notes"])


def test_the_date_of_a_job_is_shown_and_so_is_its_receipt(site: Site, package: str) -> None:
    env = {"env_name": "ldf", "date": "2026-03-02T12:00:00+00:00"}
    job_id = site.dispatch(job_document({f"{package}.m": 1.0}, env=env))["id"]
    shown = site.get(f"/job/{job_id}")
    assert shown["date_created"] == "2026-03-02T12:00:00Z"
    assert shown["date_received"] > shown["date_created"]


# Many jobs with the same tags and the same date, at once: none overwrites another.


JOBS = 200
AT_ONCE = 32
DATE_NS = 1_775_044_800_000_000_000


@dataclass
class Stored:
    """The value of each job by its id, and the points in InfluxDB by time."""

    values: dict[int, float]
    points: list[dict[str, Any]]


@pytest.fixture(scope="module")
def stored(site: Site) -> Stored:
    package = new_package()
    env = {"env_name": "ldf", "date": "2026-04-01T12:00:00+00:00"}
    values = [number + 0.1 for number in range(JOBS)]

    def dispatch(value: float) -> int:
        document = job_document({f"{package}.m": value}, instrument="HSC", env=env)
        return int(site.dispatch(document)["id"])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ids = list(pool.map(dispatch, values))
    site.wait_until_idle()
    return Stored(dict(zip(ids, values, strict=True)), site.points(package))


def test_there_is_a_point_for_every_job(stored: Stored) -> None:
    assert len(stored.points) == JOBS


def test_all_have_the_same_tags(stored: Stored) -> None:
    assert all(point["tags"] == {"env_name": "ldf", "instrument": "HSC"} for point in stored.points)


def test_their_times_are_the_date_and_the_nanoseconds_after_it(stored: Stored) -> None:
    times = [point["time"] for point in stored.points]
    assert times == [DATE_NS + number for number in range(JOBS)]


def test_every_value_is_the_one_of_its_job(stored: Stored) -> None:
    fields = [point["fields"] for point in stored.points]
    assert {each["squash_id"]: each["m"] for each in fields} == stored.values


def test_the_api_says_the_time_of_the_point(site: Site, stored: Stored) -> None:
    last = stored.points[-1]
    assert site.get(f"/job/{last['fields']['squash_id']:.0f}")["time_ns"] == last["time"]
