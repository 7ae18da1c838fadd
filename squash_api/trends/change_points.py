"""Where the level of a series has changed: for reports and plots, never for alerts.

Change points need all values around them, those after as well, so nobody is woken by one. They are
found by PELT (Killick et al. 2012) with the cost of a change of the mean, as `ruptures` has it. The
extra `changepoints` installs that. `benchmarks/change_points.py` measures precision and recall,
from which `PENALTY` was chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import log
from statistics import fmean, median
from typing import Any

from squash_api.index.code_changes import CodeChanges
from squash_api.index.reader import View

FEWEST = 3
"""A level has at least so many values."""

PENALTY = 5.0
"""What a change must improve, in units of the logarithm of the number of values."""

MOST_VALUES = 5000
"""Of longer series only the newest values are looked at: the time grows with their square."""

MISSING = (
    "Change points need the library ruptures, which is not installed: "
    "pip install 'squash-api[changepoints]'."
)
"""What to say where the library is missing."""

_OF_MEDIAN, _OF_MEAN = 1.4826, 1.2533
# A value by itself this many standard deviations from its neighbours is an outlier, not a level.
_OUTLIER = 4.0
_NEIGHBOURS = 2
_ROOT_OF_2 = 2**0.5


@dataclass(frozen=True, slots=True)
class Step:
    """A change of level before the value `index`: medians of the values before and after it.

    `noise` is the standard deviation of the values around their level.
    """

    index: int
    before: float
    after: float
    noise: float


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A step between two jobs of a series, and what changed in the code between their runs.

    `time_ns` and `job_id` are those of the first value of the new level; `changes` is None if one
    of the runs is unknown.
    """

    step: Step
    time_ns: int
    job_id: int
    run_id: str | None
    job_before: int
    changes: CodeChanges | None

    @property
    def sigmas(self) -> float:
        """The size of the step in standard deviations of the values around their level."""
        return (self.step.after - self.step.before) / self.step.noise


def change_points(view: View, series: Sequence[tuple[int, float, int]]) -> list[ChangePoint]:
    """Return the change points of a series: its times (ns), values and jobs, in order of time."""
    steps = find_steps([value for _, value, _ in series])
    ends = [(series[step.index - 1][2], series[step.index][2]) for step in steps]
    runs = view.runs.of_jobs({job_id for pair in ends for job_id in pair}) if ends else {}
    return [
        ChangePoint(
            step,
            series[step.index][0],
            after,
            runs[after].run_id if after in runs else None,
            before,
            view.changes_between(runs[before], runs[after])
            if before in runs and after in runs
            else None,
        )
        for step, (before, after) in zip(steps, ends, strict=True)
    ]


def is_installed() -> bool:
    """Return whether the library is there."""
    return _library() is not None


def find_steps(values: Sequence[float]) -> list[Step]:
    """Return the change points of finite values in order of time; none without the library.

    Before that, a value far from the median of its five neighbours becomes that median: a change
    lasts for `FEWEST` values, and one bad point is not one.
    """
    library = _library()
    skipped = max(0, len(values) - MOST_VALUES)
    numbers = list(values[skipped:])
    largest = max(map(abs, numbers), default=0.0)
    if library is None or len(numbers) < 2 * FEWEST or not largest:
        return []
    # So that squares are numbers, whatever the unit.
    scaled = [number / largest for number in numbers]
    noise = noise_of(scaled)
    if not noise:
        return []
    level = [number / noise for number in _without_outliers(scaled, noise)]
    found = library.KernelCPD(kernel="linear", min_size=FEWEST).fit(_column(level))
    ends = [0, *map(int, found.predict(pen=PENALTY * log(len(level))))]
    levels = [median(numbers[start:end]) for start, end in pairwise(ends)]
    return [
        Step(skipped + end, before, after, noise * largest)
        for end, before, after in zip(ends[1:], levels, levels[1:], strict=False)
    ]


def noise_of(values: Sequence[float]) -> float:
    """Return the standard deviation of values around a level that changes now and then.

    It is that of the differences of neighbours, robustly; of their mean, if most of them are 0.
    """
    steps = [after - before for before, after in pairwise(values)]
    centre = median(steps)
    distances = [abs(step - centre) for step in steps]
    return (_OF_MEDIAN * median(distances) or _OF_MEAN * fmean(distances)) / _ROOT_OF_2


def _without_outliers(values: Sequence[float], noise: float) -> list[float]:
    ends = values[1 : _NEIGHBOURS + 1][::-1], values[-_NEIGHBOURS - 1 : -1][::-1]
    padded = [*ends[0], *values, *ends[1]]
    medians = [median(padded[at : at + 2 * _NEIGHBOURS + 1]) for at in range(len(values))]
    return [
        middle if abs(value - middle) > _OUTLIER * noise else value
        for value, middle in zip(values, medians, strict=True)
    ]


def _column(values: Sequence[float]) -> Any:
    from numpy import array  # noqa: PLC0415 - it is slow to import

    return array(values).reshape(-1, 1)


@cache
def _library() -> Any:
    try:
        import ruptures  # noqa: PLC0415 - slow to import, and it may be missing
    except ImportError:
        return None
    return ruptures
