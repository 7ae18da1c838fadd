"""Limits as other systems write them beside a metric, in the terms of specifications.

Sources: the design documents of the SQUASH prototype (`minimum`, `design`, `stretch`, `user`) and
of DESI's Quick Look Framework (`condition`, `threshold`), and lsst/analysis_tools,
`metricInformation.yaml` (`lowThreshold`, `highThreshold`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from squash_api.judging.kinds.threshold import OPERATORS, Operator
from squash_api.judging.specifications import LEVEL_TAGS

USER_LIMIT = "user"
FOREIGN_KEYS = (
    *LEVEL_TAGS,
    USER_LIMIT,
    "condition",
    "threshold",
    "lowThreshold",
    "highThreshold",
)
"""The keys of a metric that say its limits."""

_CONDITIONS: dict[str, Operator] = {
    **{operator: operator for operator in OPERATORS},
    "=": "==",
    "lt": "<",
    "le": "<=",
    "lte": "<=",
    "gt": ">",
    "ge": ">=",
    "gte": ">=",
    "eq": "==",
    "ne": "!=",
    "neq": "!=",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2260": "!=",
    "less than": "<",
    "greater than": ">",
}


@dataclass(frozen=True, slots=True)
class ForeignLimit:
    """A limit: its name, which is also its tag if that says its level, and what a value must be."""

    name: str
    operator: Operator
    value: float


def foreign_limits(metric: Mapping[str, Any]) -> tuple[list[ForeignLimit], list[str]]:
    """Return the limits that the keys of a metric say, and remarks on what they do not say."""
    numbers: dict[str, float] = {}
    remarks: list[str] = []
    for key in FOREIGN_KEYS:
        given = metric.get(key)
        if key == "condition" or given in (None, ""):
            continue
        number = _number(given)
        if number is None:
            remarks.append(f"{key}: {given!r} is not a finite number, so it is no limit here")
        else:
            numbers[key] = number
    limits = [
        *_levels(numbers, metric.get("condition"), remarks),
        *_conditions(numbers, metric.get("condition"), remarks),
    ]
    if "lowThreshold" in numbers:
        limits.append(ForeignLimit("low", ">=", numbers["lowThreshold"]))
    if "highThreshold" in numbers:
        limits.append(ForeignLimit("high", "<=", numbers["highThreshold"]))
    low, high = numbers.get("lowThreshold"), numbers.get("highThreshold")
    if low is not None and high is not None and low > high:
        remarks.append("the lower limit is above the upper one, so that no value meets both")
    return limits, remarks


def _levels(numbers: Mapping[str, float], condition: Any, remarks: list[str]) -> list[ForeignLimit]:
    """Make the limits of the levels, whose order says in which direction values get better."""
    levels = [key for key in LEVEL_TAGS if key in numbers]
    named = [*levels, *([USER_LIMIT] if USER_LIMIT in numbers else [])]
    if not named:
        return []
    values = [numbers[key] for key in levels]
    if values not in (sorted(values), sorted(values, reverse=True)):
        remarks.append(f"{', '.join(levels)} are not in order")
    known = _condition(condition)
    if known is None:
        known = ">=" if levels and values[0] < values[-1] else "<="
        if not levels or values[0] == values[-1]:
            remarks.append("no order of levels says whether more is better: less is taken for it")
    return [ForeignLimit(key, known, numbers[key]) for key in named]


def _conditions(
    numbers: Mapping[str, float], condition: Any, remarks: list[str]
) -> list[ForeignLimit]:
    known = _condition(condition)
    if "threshold" not in numbers:
        if condition not in (None, "") and known is None:
            remarks.append(f"condition: {condition!r} is no operator")
        return []
    if known is None:
        what = f"{condition!r} is no operator" if condition not in (None, "") else "it is missing"
        remarks.append(
            f"condition: {what}, so threshold: {numbers['threshold']!r} is no limit here"
        )
        return []
    return [ForeignLimit("threshold", known, numbers["threshold"])]


def _condition(text: Any) -> Operator | None:
    return _CONDITIONS.get(text.strip().lower()) if isinstance(text, str) else None


def _number(value: Any) -> float | None:
    """Read a number, which forms send as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None
