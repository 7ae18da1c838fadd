"""The kind `threshold`: values are compared with one number, as in lsst.verify."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

from squash_api.judging.kinds.criterion import (
    UNORDERED,
    Bound,
    Criterion,
    mapping_at,
    part_of,
    read_number,
    read_unit,
)
from squash_api.judging.wording import exact_number
from squash_api.schema.answers import Shown
from squash_api.verify.metrics import Fault

Operator = Literal["<", "<=", ">", ">=", "==", "!="]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
"""The comparisons: value on the left, threshold on the right."""

_HINT = "write threshold: {value: 5, unit: mmag, operator: '<='}"
THRESHOLD_KEYS = ("value", "unit", "operator")


class _Comparison(NamedTuple):
    """An operator: its sign, its opposites, and its function with the threshold first."""

    sign: str
    opposite: Operator
    opposite_in_go: str
    mirrored: Callable[[float, float], bool]


_COMPARISONS: Mapping[str, _Comparison] = {
    "<": _Comparison("<", ">=", "ge", operator.gt),
    "<=": _Comparison("\u2264", ">", "gt", operator.ge),
    ">": _Comparison(">", "<=", "le", operator.lt),
    ">=": _Comparison("\u2265", "<", "lt", operator.le),
    "==": _Comparison("=", "!=", "ne", operator.eq),
    "!=": _Comparison("\u2260", "==", "eq", operator.ne),
}


@dataclass(frozen=True, slots=True)
class Threshold(Criterion):
    """`value operator number` must be true, with the value on the left."""

    value: float
    unit: str
    operator: str

    TYPE: ClassVar[str] = "threshold"
    SCHEMA: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "threshold": {
                "type": "object",
                "properties": {
                    "value": {"type": ["number", "string"]},
                    "unit": {"type": "string"},
                    "operator": {"type": "string", "enum": [*OPERATORS]},
                },
                "required": [*THRESHOLD_KEYS],
            }
        }
    )
    UNIT_PATH: ClassVar[tuple[str, ...]] = ("threshold", "unit")

    @classmethod
    def parse(cls, document: Mapping[Any, Any], faults: list[Fault]) -> Self | None:
        """Read the key `threshold`, which must have all three parts."""
        threshold = mapping_at(document, "threshold", _HINT, faults)
        if threshold is None:
            return None
        before = len(faults)
        faults.extend(
            Fault(("threshold", key), f"the threshold has no {key}: write one, here or in a base")
            for key in THRESHOLD_KEYS
            if key not in threshold
        )
        parts = _parse_parts(threshold, faults)
        return None if len(faults) > before else cls(**parts)

    @classmethod
    def check(cls, document: Mapping[Any, Any], faults: list[Fault]) -> None:
        """Check the parts of a threshold that are present."""
        threshold = document.get("threshold")
        if isinstance(threshold, dict):
            _parse_parts(threshold, faults)

    @classmethod
    def from_shown(cls, shown: Mapping[str, Any], unit: str) -> Self | None:
        """Read `shown` back."""
        comparison = shown.get("operator")
        return cls(shown["threshold"], unit, comparison) if comparison in OPERATORS else None

    def to_json(self) -> dict[str, Any]:
        """Return the key `threshold`."""
        return {"threshold": {"value": self.value, "unit": self.unit, "operator": self.operator}}

    def shown(self) -> Shown:
        """Return the operator and the number."""
        return {"operator": self.operator, "threshold": self.value}

    @property
    def number_paths(self) -> tuple[tuple[str, ...], ...]:
        """The path to the number."""
        return (("threshold", "value"),)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The number that values are compared with."""
        return (self.value,)

    def with_numbers(self, numbers: tuple[float, ...], unit: str) -> Self:
        """Return the same comparison with another number."""
        return type(self)(numbers[0], unit, self.operator)

    @property
    def holds(self) -> Callable[[float], bool]:
        """The comparison; no Python runs between the caller and the number."""
        return partial(_COMPARISONS[self.operator].mirrored, self.value)

    def margin(self, value: float) -> float | None:
        """Return the distance as a fraction of the number; None for zero and for equality."""
        if self.operator in UNORDERED:
            return None
        distance = value - self.value if self.operator in (">", ">=") else self.value - value
        return part_of(distance, self.value)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The line at the number."""
        sign = _COMPARISONS[self.operator].sign
        return (Bound(self.value, self.operator, sign, self.operator in ("<", "<=")),)

    def pattern(self, *, is_ascii: bool = False) -> str:
        """Return the comparison, with `{}` for the number."""
        return f"{self.operator if is_ascii else _COMPARISONS[self.operator].sign} {{}}"

    def broken_in_tick(self, field: str) -> str:
        """Return the opposite comparison in TICKscript."""
        return f"{field} {_COMPARISONS[self.operator].opposite} {exact_number(self.value)}"

    def broken_in_go(self, variable: str) -> str:
        """Return the opposite comparison in a Go template."""
        name = _COMPARISONS[self.operator].opposite_in_go
        return f"{name} {variable} {exact_number(self.value)}"

    def broken_in_math(self, variable: str) -> str:
        """Return the opposite comparison in Grafana's math, whose signs are those of TICKscript."""
        return self.broken_in_tick(variable)


def _parse_parts(threshold: Mapping[Any, Any], faults: list[Fault]) -> dict[str, Any]:
    """Return the parts of a threshold that are present and correct."""
    parts: dict[str, Any] = {}
    comparison = threshold.get("operator")
    if isinstance(comparison, str) and comparison in OPERATORS:
        parts["operator"] = comparison
    elif "operator" in threshold:
        message = f"{comparison!r} is not an operator: write one of {' '.join(OPERATORS)}"
        faults.append(Fault(("threshold", "operator"), message))
    if "unit" in threshold:
        parts["unit"] = read_unit("threshold", threshold["unit"], faults)
    if "value" in threshold:
        unit = parts.get("unit")
        parts["value"] = read_number("threshold", "value", threshold["value"], unit, faults)
    return {key: part for key, part in parts.items() if part is not None}
