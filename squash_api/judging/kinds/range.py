"""The kind `range`: values must be between two numbers, both included; one of them may be absent.

It means what `lowThreshold` and `highThreshold` mean in lsst/analysis_tools, whose wholeSkyPlot
takes values below the one and above the other for outliers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

from squash_api.judging.kinds.criterion import (
    Bound,
    Criterion,
    mapping_at,
    part_of,
    read_number,
    read_unit,
)
from squash_api.judging.wording import exact_number, plain_number
from squash_api.schema.answers import Shown
from squash_api.verify.metrics import Fault

_WITHIN = "within"
_HINT = "write range: {low: 1, high: 3, unit: mmag}"
_ENDS = ("low", "high")


@dataclass(frozen=True, slots=True)
class Range(Criterion):
    """`low <= value <= high` must be true; an end that is None demands nothing."""

    low: float | None
    high: float | None
    unit: str

    TYPE: ClassVar[str] = "range"
    SCHEMA: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "range": {
                "type": "object",
                "properties": {
                    "low": {"type": ["number", "string", "null"]},
                    "high": {"type": ["number", "string", "null"]},
                    "unit": {"type": "string"},
                },
                "required": ["unit"],
            }
        }
    )
    UNIT_PATH: ClassVar[tuple[str, ...]] = ("range", "unit")

    @classmethod
    def parse(cls, document: Mapping[Any, Any], faults: list[Fault]) -> Self | None:
        """Read the key `range`, which must have a unit and at least one end."""
        written = mapping_at(document, "range", _HINT, faults)
        if written is None:
            return None
        before = len(faults)
        if "unit" not in written:
            message = "the range has no unit: write one, here or in a base"
            faults.append(Fault(("range", "unit"), message))
        parts = _parse_parts(written, faults)
        if all(written.get(end) is None for end in _ENDS):
            message = f"the range has neither low nor high: {_HINT}"
            faults.append(Fault(("range",), message))
        if len(faults) > before:
            return None
        return cls(parts["low"], parts["high"], parts["unit"])

    @classmethod
    def check(cls, document: Mapping[Any, Any], faults: list[Fault]) -> None:
        """Check the parts of a range that are present."""
        written = document.get("range")
        if isinstance(written, dict):
            _parse_parts(written, faults)

    @classmethod
    def from_shown(cls, shown: Mapping[str, Any], unit: str) -> Self | None:
        """Read `shown` back."""
        if shown.get("operator") != _WITHIN:
            return None
        low, high = shown["threshold"]
        return cls(low, high, unit)

    def to_json(self) -> dict[str, Any]:
        """Return the key `range`, without an end that is absent."""
        ends = {"low": self.low, "high": self.high}
        present = {key: end for key, end in ends.items() if end is not None}
        return {"range": {**present, "unit": self.unit}}

    def shown(self) -> Shown:
        """Return the word and the two ends."""
        return {"operator": _WITHIN, "threshold": [self.low, self.high]}

    @property
    def number_paths(self) -> tuple[tuple[str, ...], ...]:
        """The paths to those ends that it has."""
        ends = (("low", self.low), ("high", self.high))
        return tuple(("range", key) for key, end in ends if end is not None)

    @property
    def numbers(self) -> tuple[float, ...]:
        """Those ends that it has, the low one first."""
        return tuple(end for end in (self.low, self.high) if end is not None)

    def with_numbers(self, numbers: tuple[float, ...], unit: str) -> Self:
        """Return a range with the same ends at other numbers."""
        left = iter(numbers)
        low, high = (None if end is None else next(left) for end in (self.low, self.high))
        return type(self)(low, high, unit)

    @property
    def holds(self) -> Callable[[float], bool]:
        """The test whether a value is between the ends."""
        low = float("-inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        return lambda value: low <= value <= high

    def margin(self, value: float) -> float | None:
        """Return the distance to the nearer end, as a fraction of the width of the range.

        With one end it is a fraction of that, as for a threshold. A range without width has none.
        """
        above = None if self.low is None else value - self.low
        below = None if self.high is None else self.high - value
        distance = min(item for item in (above, below) if item is not None)
        if self.low is None or self.high is None:
            return part_of(distance, self.numbers[0])
        return part_of(distance, self.high - self.low)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The lines at the ends that it has, the low one first."""
        ends = []
        if self.low is not None:
            ends.append(Bound(self.low, ">=", "\u2265", is_upper=False))
        if self.high is not None:
            ends.append(Bound(self.high, "<=", "\u2264", is_upper=True))
        return tuple(ends)

    def pattern(self, *, is_ascii: bool = False) -> str:
        """Return what both ends demand, with `{}` for each number."""
        signs = (bound.operator if is_ascii else bound.sign for bound in self.bounds)
        return " and ".join(f"{sign} {{}}" for sign in signs)

    def broken_in_tick(self, field: str) -> str:
        """Return the comparisons with the ends in TICKscript, one of which is true."""
        return self._broken(field, " OR ")

    def broken_in_math(self, variable: str) -> str:
        """Return the comparisons with the ends in Grafana's math, one of which is true."""
        return self._broken(variable, " || ")

    def _broken(self, name: str, either: str) -> str:
        terms = [
            f"{name} {'>' if bound.is_upper else '<'} {exact_number(bound.number)}"
            for bound in self.bounds
        ]
        return terms[0] if len(terms) == 1 else f"({either.join(terms)})"

    def broken_in_go(self, variable: str) -> str:
        """Return the comparisons with the ends in a Go template, one of which is true."""
        terms = [
            f"{'gt' if bound.is_upper else 'lt'} {variable} {exact_number(bound.number)}"
            for bound in self.bounds
        ]
        return terms[0] if len(terms) == 1 else f"or ({terms[0]}) ({terms[1]})"


def _parse_parts(written: Mapping[Any, Any], faults: list[Fault]) -> dict[str, Any]:
    """Return the unit and both ends, None for what is absent or wrong; null is absent."""
    parts: dict[str, Any] = {"unit": None}
    if "unit" in written:
        parts["unit"] = read_unit("range", written["unit"], faults)
    for end in _ENDS:
        number = written.get(end)
        parts[end] = (
            None if number is None else read_number("range", end, number, parts["unit"], faults)
        )
    low, high = parts["low"], parts["high"]
    if low is not None and high is not None and low > high:
        ends = f"low: {plain_number(low)} is above high: {plain_number(high)}"
        message = f"no value is in the range, {ends}: exchange them, or correct one"
        faults.append(Fault(("range", "low"), message))
    return parts
