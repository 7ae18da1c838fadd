"""The threshold of a specification: its operator, its value and its unit."""

import operator
from collections.abc import Callable, Mapping
from math import isfinite
from types import MappingProxyType
from typing import Any

from squash_api.verify.metrics import Fault, parse_unit
from squash_api.verify.units import UnitError, quantity_value

OPERATORS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
        "==": operator.eq,
        "!=": operator.ne,
    }
)
"""The comparisons: measurement on the left, threshold on the right."""

THRESHOLD_KEYS = ("value", "unit", "operator")
_LOGARITHMIC = ("mag(", "dex(", "dB(")


def parse_threshold(
    document: Mapping[Any, Any], faults: list[Fault]
) -> tuple[float, str, str] | None:
    """Return value, unit and operator of a document's threshold, or None if there are faults."""
    threshold = document.get("threshold")
    if not isinstance(threshold, dict):
        what = "is not a mapping" if "threshold" in document else "is missing"
        message = f"the threshold {what}: write threshold: {{value: 5, unit: mmag, operator: '<='}}"
        faults.append(Fault(("threshold",), message))
        return None
    before = len(faults)
    faults.extend(
        Fault(("threshold", key), f"the threshold has no {key}: write one, here or in a base")
        for key in THRESHOLD_KEYS
        if key not in threshold
    )
    parts = parse_parts(threshold, faults)
    return None if len(faults) > before else (parts["value"], parts["unit"], parts["operator"])


def parse_parts(threshold: Mapping[Any, Any], faults: list[Fault]) -> dict[str, Any]:
    """Return what is sound among the parts of a threshold that are there."""
    parts: dict[str, Any] = {}
    comparison = threshold.get("operator")
    if isinstance(comparison, str) and comparison in OPERATORS:
        parts["operator"] = comparison
    elif "operator" in threshold:
        message = f"{comparison!r} is no operator: write one of {' '.join(OPERATORS)}"
        faults.append(Fault(("threshold", "operator"), message))
    unit = _parse_unit(threshold["unit"], faults) if "unit" in threshold else None
    if unit is not None:
        parts["unit"] = unit
    if "value" in threshold:
        try:
            parts["value"] = _finite(threshold["value"], unit or "")
        except UnitError as error:
            faults.append(Fault(("threshold", "value"), f"the threshold's value {error}"))
    return parts


def _parse_unit(value: Any, faults: list[Fault]) -> str | None:
    loc = ("threshold", "unit")
    if value is None:
        message = "the threshold's unit is null: write '' for a dimensionless one"
        faults.append(Fault(loc, message))
        return None
    unit = parse_unit(value, loc, faults)
    if unit is not None and unit.startswith(_LOGARITHMIC):
        message = f"'{unit}': lsst.verify holds no threshold in such a unit; write a linear one"
        faults.append(Fault(loc, message))
        return None
    return unit


def _finite(value: Any, unit: str) -> float:
    number = quantity_value(value, unit)
    if not isfinite(number):
        raise UnitError(f"{value!r} is not finite: no alert could compare with it")
    return number
