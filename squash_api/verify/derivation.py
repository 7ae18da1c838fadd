"""How values of a metric are derived: read as absent, or reduced from an array in a blob.

These are keys of a metric that lsst.verify does not know. It ignores them below `reference`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
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
        """Reduce finite numbers to one; None if there is none, unless they are counted.

        The same numbers in any order give the same result, to the last bit, on any machine.
        """
        if self.by == "count":
            return float(len(numbers))
        if not numbers:
            return None
        reducer = REDUCERS.get(self.by)
        try:
            if reducer is not None:
                return float(reducer(numbers))
            return _percentile(sorted(numbers), float(self.by[1:]))
        except OverflowError:
            return None


def _mean(numbers: Sequence[float]) -> float:
    return fsum(numbers) / len(numbers)


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
    "sum": fsum,
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

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> Self:
        """Return what a definition of a metric in the record says."""
        reduction = definition.get("reduce")
        is_zero_missing = definition.get("missing") == "zero"
        return cls(is_zero_missing, None if reduction is None else Reduction(**reduction))

    def to_json(self) -> dict[str, Any]:
        """Return the keys of a metric's definition; empty if it has none of them."""
        document: dict[str, Any] = {"missing": "zero"} if self.is_zero_missing else {}
        return (
            document if self.reduction is None else document | {"reduce": self.reduction.to_json()}
        )


NOT_DERIVED = Derivation()
"""Of a metric whose values are those that are sent."""
