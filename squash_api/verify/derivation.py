"""How values of a metric are derived: read as absent, from an array in a blob, or from a run.

These are keys of a metric that lsst.verify does not know. It ignores them below `reference`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isfinite, sqrt
from statistics import median
from typing import Any, NamedTuple, Self

_PERCENTILE = re.compile(r"p([0-9]|[1-9][0-9])(\.[0-9]{1,6})?|p100")


@dataclass(frozen=True, slots=True)
class Reduction:
    """A metric's value is one number made `by` a rule from the array `key` of a blob."""

    by: str
    blob: str
    key: str

    def to_json(self) -> dict[str, str]:
        """Return the reduction as in a metric's definition."""
        return {"by": self.by, "blob": self.blob, "key": self.key}

    def of(self, numbers: Sequence[float]) -> float | None:
        """Reduce finite numbers to one; None if there is none, unless they are counted."""
        return reduced(numbers, self.by)


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A metric's value is one number for a run, made `by` a rule from the values `of` another.

    Of each combination of the metadata `over`, the newest value in the run counts. All other tags
    keep the values apart. With fewer values than `at_least` it is absent.
    """

    of: str
    over: tuple[str, ...]
    by: str
    at_least: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the aggregation as in a metric's definition."""
        document = {"of": self.of, "over": list(self.over), "by": self.by}
        return document if self.at_least == 1 else {**document, "at_least": self.at_least}

    def value(self, numbers: Sequence[float]) -> float | None:
        """Make one number from finite ones; None if there are too few."""
        return reduced(numbers, self.by) if len(numbers) >= self.at_least else None


def reduced(numbers: Sequence[float], by: str) -> float | None:
    """Reduce finite numbers to one; None if there is none (unless they are counted), or no float.

    The same numbers in any order give the same result, to the last bit, on any machine.
    """
    if by == "count":
        return float(len(numbers))
    if not numbers:
        return None
    reducer = REDUCERS.get(by)
    try:
        if reducer is None:
            found = _percentile(sorted(numbers), float(by[1:]))
        else:
            found = float(reducer(numbers))
    except OverflowError:
        return None
    return found if isfinite(found) else None


def _sum(numbers: Sequence[float]) -> float:
    # Otherwise the order may decide whether a sum in between is too large.
    return fsum(sorted(numbers))


def _mean(numbers: Sequence[float]) -> float:
    return _sum(numbers) / len(numbers)


def _std(numbers: Sequence[float]) -> float:
    mean = _mean(numbers)
    return sqrt(_mean([(number - mean) ** 2 for number in numbers]))


def _rms(numbers: Sequence[float]) -> float:
    return sqrt(_mean([number**2 for number in numbers]))


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """Interpolate linearly between the two nearest numbers, as numpy does."""
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


REDUCERS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "count": len,
    "max": max,
    "mean": _mean,
    "median": median,
    "min": min,
    "rms": _rms,
    "std": _std,
    "sum": _sum,
}
"""What an array is reduced by, in addition to percentiles."""


def is_reducer(by: str) -> bool:
    """Return whether arrays can be reduced by this: a name in `REDUCERS`, or such as `p95`."""
    return by in REDUCERS or _PERCENTILE.fullmatch(by) is not None


class Derivation(NamedTuple):
    """How the values of a metric are derived, if they are.

    With `is_zero_missing`, a value of zero is absent.
    """

    is_zero_missing: bool = False
    reduction: Reduction | None = None
    aggregation: Aggregation | None = None

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> Self:
        """Return what a definition of a metric in the record says."""
        reduction = definition.get("reduce")
        is_zero_missing = definition.get("missing") == "zero"
        made = definition.get("aggregate")
        return cls(
            is_zero_missing,
            None if reduction is None else Reduction(**reduction),
            None if made is None else Aggregation(**{**made, "over": tuple(made["over"])}),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the keys of a metric's definition; empty if it has none of them."""
        document: dict[str, Any] = {"missing": "zero"} if self.is_zero_missing else {}
        if self.aggregation is not None:
            document["aggregate"] = self.aggregation.to_json()
        return (
            document if self.reduction is None else document | {"reduce": self.reduction.to_json()}
        )


NOT_DERIVED = Derivation()
"""Of a metric whose values are those that are sent."""
