"""Precision and recall of change points, on series with planted steps.

    python -m benchmarks.change_points

A thousand series of 20 to 200 values, in five kinds of noise: normal, with 3 % outliers of 6 to 15
standard deviations, Student's t with 3 degrees of freedom, each value correlated with the one
before by 0.3, and with a drift of up to 1.5 standard deviations. Each has none to three steps of 2,
3 or 5 standard deviations, at least 8 values apart and 5 from the ends. A step is found if a change
point is at most 2 values from it. docs/reports.md has the figures.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator, default_rng

from squash_api.trends import change_points
from squash_api.trends.change_points import find_steps

NOISES = ("normal", "outliers", "t3", "correlated", "drift")
SIZES = (2.0, 3.0, 5.0)
PENALTIES = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
SERIES = 1000
NEAR = 2


@dataclass
class Score:
    """What was found of planted steps, by their size, and what was found beside them."""

    found: Counter[float] = field(default_factory=Counter)
    planted: Counter[float] = field(default_factory=Counter)
    false: int = 0
    false_in_still: int = 0
    still: int = 0

    @property
    def precision(self) -> float:
        """The part of what was found that was planted."""
        return self.found.total() / max(self.found.total() + self.false, 1)

    def recall(self, *sizes: float) -> float:
        """Return the part of the planted steps of some sizes, or of all, that was found."""
        some = sizes or SIZES
        return sum(self.found[size] for size in some) / max(
            sum(self.planted[size] for size in some), 1
        )


def planted(rng: Generator, noise: str) -> tuple[list[float], dict[int, float]]:
    """Make a series; its steps come as their places and sizes."""
    count = int(rng.integers(20, 201))
    values = rng.normal(size=count)
    if noise == "outliers":
        is_outlier = rng.random(count) < 0.03
        values += is_outlier * rng.choice([-1, 1], count) * rng.uniform(6, 15, count)
    elif noise == "t3":
        values = rng.standard_t(3, size=count) / 1.12
    elif noise == "correlated":
        for index in range(1, count):
            values[index] = 0.3 * values[index - 1] + np.sqrt(1 - 0.3**2) * values[index]
    elif noise == "drift":
        values += np.linspace(0, rng.uniform(-1.5, 1.5), count)
    steps: dict[int, float] = {}
    wanted = int(rng.integers(0, 4))
    for _ in range(50):
        place = int(rng.integers(5, count - 5))
        if len(steps) < wanted and all(abs(place - other) >= 8 for other in steps):
            steps[place] = float(rng.choice(SIZES))
            values[place:] += steps[place] * rng.choice([-1, 1])
    return values.tolist(), steps


def series(count: int = SERIES) -> Iterator[tuple[str, list[float], dict[int, float]]]:
    """Make series of all kinds of noise, always the same."""
    rng = default_rng(1)
    for number in range(count):
        noise = NOISES[number % len(NOISES)]
        yield (noise, *planted(rng, noise))


def score(count: int = SERIES) -> dict[str, Score]:
    """Look for the planted steps; returns the score of each kind of noise."""
    scores = {noise: Score() for noise in NOISES}
    for noise, values, steps in series(count):
        own = scores[noise]
        left = [step.index for step in find_steps(values)]
        own.planted.update(steps.values())
        own.still += not steps
        own.false_in_still += not steps and bool(left)
        for place, size in sorted(steps.items()):
            near = [index for index in left if abs(index - place) <= NEAR]
            if near:
                left.remove(min((abs(index - place), index) for index in near)[1])
                own.found[size] += 1
        own.false += len(left)
    return scores


def total(scores: dict[str, Score]) -> Score:
    """Add scores up."""
    added = Score()
    for own in scores.values():
        added.found += own.found
        added.planted += own.planted
        added.false += own.false
        added.still += own.still
        added.false_in_still += own.false_in_still
    return added


def main() -> None:
    """Print the figures for some penalties, and in detail for the one that is used."""
    used = change_points.PENALTY
    for penalty in PENALTIES:
        change_points.PENALTY = penalty
        all_ = total(score())
        by_size = ", ".join(f"{size:g}: {all_.recall(size):.2f}" for size in SIZES)
        print(
            f"penalty {penalty:4.1f}{'*' if penalty == used else ' '} "
            f"precision {all_.precision:.3f} recall {all_.recall():.3f} ({by_size}); "
            f"{all_.false_in_still} of {all_.still} series without a step have one"
        )
    change_points.PENALTY = used
    for noise, own in score().items():
        print(f"{noise:11s} precision {own.precision:.3f} recall {own.recall():.3f}")


if __name__ == "__main__":
    main()
