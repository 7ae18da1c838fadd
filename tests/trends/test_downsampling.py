import random

import pytest

from squash_api.trends.downsampling import Downsampler, Point


def thin(values: list[tuple[int, float]], points: int) -> list[tuple[int, float]]:
    chosen = Downsampler[str](points)
    for job_id, (time_ns, value) in enumerate(values):
        chosen.add("s", time_ns, value, job_id)
    return [(point.time_ns, point.value) for _, point in chosen.points()]


def noise(count: int) -> list[tuple[int, float]]:
    chance = random.Random(count)
    return [(chance.randrange(10**18), chance.uniform(-1, 1)) for _ in range(count)]


@pytest.mark.parametrize("points", [2, 5, 100])
def test_a_series_of_few_enough_values_is_kept_whole(points: int) -> None:
    values = noise(points)
    assert thin(values, points) == sorted(values)


@pytest.mark.parametrize("points", [2, 3, 10, 500])
@pytest.mark.parametrize("count", [501, 5000])
def test_a_long_series_has_at_most_so_many_points(points: int, count: int) -> None:
    assert 1 <= len(thin(noise(count), points)) <= points


@pytest.mark.parametrize("points", [2, 3, 10, 500])
def test_the_smallest_and_the_largest_value_stay_as_they_are(points: int) -> None:
    values = noise(5000)
    kept = thin(values, points)
    by_value = [value for _, value in values]
    assert {min(by_value), max(by_value)} <= {value for _, value in kept}
    assert set(kept) <= set(values)


def test_evenly_spread_values_leave_at_least_a_quarter_of_the_points() -> None:
    values = [(second * 10**9, float(second % 7)) for second in range(10_000)]
    assert len(thin(values, 400)) >= 100


def test_every_peak_stays_where_there_are_points_enough() -> None:
    values = [(second * 10**9, 0.0) for second in range(10_000)]
    for second in range(500, 10_000, 1000):
        values[second] = (second * 10**9, 5.0)
    assert [value for _, value in thin(values, 200)].count(5.0) == 10


def test_the_order_in_which_values_come_makes_no_difference() -> None:
    values = noise(3000)
    assert thin(values, 100) == thin(values[::-1], 100)


def test_of_equal_values_the_first_stays() -> None:
    assert thin([(time_ns, 1.0) for time_ns in range(100)], 2) == [(0, 1.0)]


def test_points_come_in_the_order_of_time_with_their_jobs() -> None:
    chosen = Downsampler[str](2)
    for job_id, value in enumerate([3.0, 1.0, 2.0]):
        chosen.add("s", 10 + job_id, value, job_id)
    assert list(chosen.points()) == [("s", Point(10, 3.0, 0)), ("s", Point(11, 1.0, 1))]


def test_every_series_has_its_own_points() -> None:
    chosen = Downsampler[str](2)
    for job_id in range(10):
        chosen.add("long", job_id, float(job_id), job_id)
    chosen.add("short", 5, 7.0, 99)
    found = [(key, point.value) for key, point in chosen.points()]
    assert found == [("long", 0.0), ("long", 9.0), ("short", 7.0)]
