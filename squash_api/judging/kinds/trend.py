"""The kind `trend`: a value must not be far from those before it, by their median and scatter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, get_args

from squash_api.judging.kinds.criterion import (
    Bound,
    Criterion,
    mapping_at,
    read_number,
    read_unit,
)
from squash_api.judging.kinds.range import Range
from squash_api.schema.answers import Shown
from squash_api.verify.metrics import Fault

Direction = Literal["both", "up", "down"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
"""The sides on which a value may be too far away."""

SIGMA = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""

_TREND = "trend"
_LEAST, _MOST = 3, 1000
_COUNTS = {"n": (_LEAST, _MOST, 30), "offset": (0, _MOST, 0), "min_history": (_LEAST, _MOST, 10)}
"""The whole numbers: the least, the most, and what they are if they are left out."""

_K = 5.0
_HINT = "write trend: {n: 30, k: 5, floor: 0.2, unit: mmag}"
_SIDES: Mapping[str, tuple[str, str, str]] = {
    "both": ("within", "within", "\u00b1"),
    "up": ("\u2264", "<=", "+"),
    "down": ("\u2265", ">=", "\u2212"),
}
_ASCII = {"\u00b1": "+-", "\u2212": "-"}


def scatter(values: Sequence[float]) -> tuple[float, float]:
    """Return the median of values, and their median absolute deviation from it."""
    middle = median(values)
    return middle, median([abs(value - middle) for value in values])


@dataclass(frozen=True, slots=True)
class Trend(Criterion):
    """A value must be within `k` standard deviations, or `floor`, of the median of `n` before it.

    The `offset` values next to it are left out, so that a slow drift does not become what it is
    compared with. With fewer than `min_history` to compare with, it demands nothing.
    """

    n: int
    offset: int
    k: float
    floor: float
    unit: str
    min_history: int
    direction: str

    TYPE: ClassVar[str] = _TREND
    SCHEMA: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            _TREND: {
                "type": "object",
                "properties": {
                    "n": {"type": "integer", "minimum": _LEAST, "maximum": _MOST},
                    "offset": {"type": "integer", "minimum": 0, "maximum": _MOST},
                    "k": {"type": ["number", "string"]},
                    "floor": {"type": ["number", "string"]},
                    "unit": {"type": "string"},
                    "min_history": {"type": "integer", "minimum": _LEAST, "maximum": _MOST},
                    "direction": {"type": "string", "enum": [*DIRECTIONS]},
                },
                "required": ["floor", "unit"],
            }
        }
    )
    UNIT_PATH: ClassVar[tuple[str, ...]] = (_TREND, "unit")
    IS_TICK: ClassVar[bool] = False

    @classmethod
    def parse(cls, document: Mapping[Any, Any], faults: list[Fault]) -> Self | None:
        """Read the key `trend`, which must have a unit and a floor."""
        written = mapping_at(document, _TREND, _HINT, faults)
        if written is None:
            return None
        before = len(faults)
        faults.extend(
            Fault((_TREND, key), f"the trend has no {key}: write one, here or in a base")
            for key in ("floor", "unit")
            if key not in written
        )
        parts = _parse_parts(written, faults)
        return None if len(faults) > before else cls(**parts)

    @classmethod
    def check(cls, document: Mapping[Any, Any], faults: list[Fault]) -> None:
        """Check the parts of a trend that are present."""
        written = document.get(_TREND)
        if isinstance(written, dict):
            _parse_parts(written, faults)

    @classmethod
    def from_shown(cls, shown: Mapping[str, Any], unit: str) -> Self | None:
        """Read `shown` back."""
        side, _, word = str(shown.get("operator")).partition(" ")
        if word != _TREND or side not in DIRECTIONS:
            return None
        k, floor, *counts = shown["threshold"]
        n, offset, least = map(int, counts)
        return cls(n, offset, k, floor, unit, least, side)

    def to_json(self) -> dict[str, Any]:
        """Return the key `trend`."""
        return {
            _TREND: {
                "n": self.n,
                "offset": self.offset,
                "k": self.k,
                "floor": self.floor,
                "unit": self.unit,
                "min_history": self.min_history,
                "direction": self.direction,
            }
        }

    def shown(self) -> Shown:
        """Return the direction with the word, and k, floor, n, offset and min_history."""
        numbers: list[float | None] = [self.k, self.floor, self.n, self.offset, self.min_history]
        return {"operator": f"{self.direction} {_TREND}", "threshold": numbers}

    @property
    def history(self) -> int:
        """The values to compare with, and those that are left out."""
        return self.n + self.offset

    def settled(self, past: Sequence[float]) -> Range | None:
        """Return the range that a value must be in, given those before it, newest first."""
        known = past[self.offset : self.history]
        if len(known) < self.min_history:
            return None
        middle, deviation = scatter(known)
        width = max(self.k * SIGMA * deviation, self.floor)
        low = None if self.direction == "up" else middle - width
        high = None if self.direction == "down" else middle + width
        if not all(isfinite(end) for end in (low, high) if end is not None):
            return None
        return Range(low, high, self.unit)

    @property
    def number_paths(self) -> tuple[tuple[str, ...], ...]:
        """The paths to k and the floor."""
        return ((_TREND, "k"), (_TREND, "floor"))

    @property
    def numbers(self) -> tuple[float, ...]:
        """K and the floor."""
        return (self.k, self.floor)

    def with_numbers(self, numbers: tuple[float, ...], unit: str) -> Self:
        """Return the same with another k and floor."""
        k, floor = numbers
        return type(self)(self.n, self.offset, k, floor, unit, self.min_history, self.direction)

    def converted(self, convert: Callable[[float], float]) -> tuple[float, ...]:
        """Return k as it is, and the floor, which is a difference."""
        return (self.k, abs(convert(self.floor) - convert(0.0)))

    @property
    def is_ordered(self) -> bool:
        """Whether only one direction is too far."""
        return self.direction != "both"

    @property
    def holds(self) -> Callable[[float], bool]:
        """Always true: only what is `settled` can be broken."""
        return lambda _value: True

    def margin(self, value: float) -> float | None:
        """Return None: only what is `settled` has a margin."""
        del value
        return None

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """No line: where it is depends on the values; `settled` has lines for one of them."""
        return ()

    def pattern(self, *, is_ascii: bool = False) -> str:
        """Return the condition in words, with `{}` for k and for the floor."""
        word, plain, side = _SIDES[self.direction]
        if is_ascii:
            side = _ASCII.get(side, side)
        sigma = "sigma" if is_ascii else "\u03c3"
        start = f"{plain if is_ascii else word} median of {self.n}"
        return f"{start} {side} {{}} {sigma} or {side} {{}}"


def _parse_parts(written: Mapping[Any, Any], faults: list[Fault]) -> dict[str, Any]:
    """Return all parts; what is left out is as usual, and None what is wrong or must be there."""
    parts: dict[str, Any] = {"unit": None, "floor": None, "k": _K, "direction": "both"}
    if "unit" in written:
        parts["unit"] = read_unit(_TREND, written["unit"], faults)
    if "floor" in written:
        parts["floor"] = read_number(_TREND, "floor", written["floor"], parts["unit"], faults)
    if "k" in written:
        parts["k"] = read_number(_TREND, "k", written["k"], "", faults)
    if parts["k"] is not None and parts["k"] <= 0:
        message = f"k is {parts['k']!r}: write how many standard deviations, such as 5"
        faults.append(Fault((_TREND, "k"), message))
    if parts["floor"] is not None and parts["floor"] < 0:
        message = f"the floor is {parts['floor']!r}: write 0, or how small a change is no trend"
        faults.append(Fault((_TREND, "floor"), message))
    if "direction" in written:
        parts["direction"] = written["direction"]
        if written["direction"] not in DIRECTIONS:
            message = f"{written['direction']!r} is no direction: write {' or '.join(DIRECTIONS)}"
            faults.append(Fault((_TREND, "direction"), message))
    for key in _COUNTS:
        parts[key] = _parse_count(key, written, faults)
    if parts["n"] is not None and parts["min_history"] is not None:
        _fit_history(parts, written, faults)
    return parts


def _parse_count(key: str, written: Mapping[Any, Any], faults: list[Fault]) -> int | None:
    least, most, usual = _COUNTS[key]
    number = written.get(key, usual)
    if isinstance(number, int) and not isinstance(number, bool) and least <= number <= most:
        return number
    message = f"{key} is {number!r}: write a whole number from {least} to {most}"
    faults.append(Fault((_TREND, key), message))
    return None


def _fit_history(parts: dict[str, Any], written: Mapping[Any, Any], faults: list[Fault]) -> None:
    """Refuse a history that never suffices; one that is left out is at most `n`."""
    if "min_history" not in written:
        parts["min_history"] = min(parts["min_history"], parts["n"])
    elif parts["min_history"] > parts["n"]:
        more = f"min_history: {parts['min_history']} is more than n: {parts['n']}"
        message = f"{more}, so there would never be a verdict: write at most n"
        faults.append(Fault((_TREND, "min_history"), message))
