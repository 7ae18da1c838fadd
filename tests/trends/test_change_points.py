import random
from pathlib import Path

import pytest

from benchmarks.change_points import score, total
from squash_api.trends.change_points import (
    FEWEST,
    PENALTY,
    change_points,
    find_steps,
    is_installed,
    noise_of,
)
from tests.support.observatory import DAY_NS, Observatory

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.skipif(not is_installed(), reason="ruptures is not installed"),
]


def normal(count: int, *, centre: float = 0.0, seed: int = 1) -> list[float]:
    noise = random.Random(seed)
    return [noise.gauss(centre, 1.0) for _ in range(count)]


def places(values: list[float]) -> list[int]:
    return [step.index for step in find_steps(values)]


def test_the_penalty_finds_most_planted_steps_and_few_others() -> None:
    found = total(score(300))
    assert PENALTY == 5.0
    assert found.precision > 0.94
    assert found.recall() > 0.85
    assert found.recall(3.0, 5.0) > 0.95


def test_a_step_has_the_levels_before_and_after_it() -> None:
    (step,) = find_steps([*normal(20), *normal(20, centre=8.0, seed=2)])
    assert step.index == 20
    assert step.before == pytest.approx(0.0, abs=0.5)
    assert step.after == pytest.approx(8.0, abs=0.7)
    assert step.noise == pytest.approx(1.0, abs=0.4)


def test_one_bad_point_is_not_a_step() -> None:
    values = normal(40)
    values[20] = 1000.0
    assert places(values) == []


@pytest.mark.parametrize("lasting", [1, 2])
def test_a_level_has_at_least_three_values(lasting: int) -> None:
    assert FEWEST == 3
    assert places([*normal(20), *[20.0] * lasting, *normal(20, seed=2)]) == []


def test_a_level_of_three_values_is_found() -> None:
    assert places([*normal(20), 20.1, 19.9, 20.0, *normal(20, seed=2)]) == [20, 23]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 9.0] * 2, [5.0] * 30, [0.0] * 30])
def test_what_has_no_levels_has_no_steps(values: list[float]) -> None:
    assert places(values) == []


def test_values_that_never_vary_may_step() -> None:
    assert places([5.0] * 20 + [6.0] * 20) == [20]


@pytest.mark.parametrize("unit", [1e-300, 1e-6, 1e6, 1e300])
def test_the_unit_makes_no_difference(unit: float) -> None:
    values = [*normal(20), *normal(20, centre=8.0, seed=2)]
    assert places([value * unit for value in values]) == [20]


def test_the_noise_is_that_around_the_levels() -> None:
    values = [*normal(200), *normal(200, centre=50.0, seed=2)]
    assert noise_of(values) == pytest.approx(1.0, abs=0.15)


def test_of_a_very_long_series_the_newest_values_are_looked_at() -> None:
    values = [*normal(6000), *normal(100, centre=9.0, seed=2)]
    assert places(values) == [6000]


def package(sha: str) -> list[dict[str, str]]:
    url = "https://github.com/lsst/afw"
    return [{"name": "afw", "git_url": url, "git_sha": sha * 40, "eups_version": "1"}]


def test_a_change_point_names_the_commits_between_the_runs_around_it(tmp_path: Path) -> None:
    with Observatory(tmp_path) as site:
        series = []
        for number, value in enumerate([*normal(8), *normal(8, centre=9.0, seed=2)]):
            ago_ns = (20 - number) * DAY_NS
            sha = "a" if number < 8 else "b"
            job_id = site.job(
                value,
                ago_ns=ago_ns,
                ci_id=f"R{number}",
                ci_name="night",
                packages=package(sha),
            )
            series.append((site.now_ns - ago_ns, value, job_id))
        with site.reader.view() as view:
            (found,) = change_points(view, series)
    assert (found.run_id, found.job_before, found.job_id) == ("R8", 8, 9)
    assert found.changes is not None
    assert found.changes.packages is not None
    (changed,) = found.changes.packages
    assert changed.link == f"https://github.com/lsst/afw/compare/{'a' * 40}...{'b' * 40}"
