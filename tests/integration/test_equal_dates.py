"""Many jobs with the same tags and the same date, at once: none overwrites another."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.site import Site, job_document, new_package

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
