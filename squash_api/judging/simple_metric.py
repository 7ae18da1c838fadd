"""Metrics as simple clients post them: with the numbers that their values must meet.

Source: the SQUASH prototype of 2016 (`minimum`, `design`, `stretch`, the levels of LPM-17, and
`user`) and DESI's Quick Look Framework (`condition` and `threshold`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import isfinite
from typing import Any

from squash_api.judging.kinds.threshold import Operator, Threshold
from squash_api.judging.specifications import LEVEL_TAGS, Specification
from squash_api.judging.wording import plain_number
from squash_api.schema.names import Schema
from squash_api.verify.metrics import Fault, Metric, invalid, metric_name_problem, parse_unit
from squash_api.verify.units import UnitError, quantity_value

LIMIT_KEYS = (*LEVEL_TAGS, "user", "threshold")
"""The keys of a posted metric that are limits; each is the last part of a specification's name."""

KEYS = ("metric", "name", "description", "units", "unit", "condition", "operator", *LIMIT_KEYS)
"""The keys of a posted metric that have a meaning."""

_OPERATORS: Mapping[str, Operator] = {
    "<": "<",
    "<=": "<=",
    "\u2264": "<=",
    ">": ">",
    ">=": ">=",
    "\u2265": ">=",
    "=": "==",
    "==": "==",
    "!=": "!=",
    "\u2260": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}
_MOST_NAMED = 5
_MOST_LETTERS = 100
_SMALLER, _LARGER = "smaller values are better", "larger values are better"


@dataclass(frozen=True, slots=True)
class SimpleMetric:
    """A metric with its limits, as documents that definitions are read from.

    `limits` are the specifications by the key that each was posted under. `withdrawn` are the names
    of those that it says are no more. `notes` are clauses for the reply: how values are compared.
    """

    name: str
    metric: dict[str, Any]
    limits: Mapping[str, dict[str, Any]]
    withdrawn: tuple[str, ...]
    notes: tuple[str, ...]


def full_name(name: str, package: str) -> str:
    """Return the name of a metric, which belongs to a package if it names none itself."""
    return name if "." in name else f"{package}.{name}"


def read_simple_metric(
    document: Mapping[str, Any],
    *,
    package: str,
    schema: Schema,
    metrics: Mapping[str, Metric],
    specifications: Mapping[str, Sequence[Specification]],
) -> SimpleMetric:
    """Read a metric with its limits; what it does not speak of stays as it is.

    The operator is that of `condition`. Without one it follows from the order of the levels: if the
    design is below the minimum, smaller values are better. Where there is no order either, it is
    that of the limits there are, and `<=` for new ones.

    Parameters
    ----------
    package
        Of metrics that name none.
    metrics, specifications
        What is defined, by the metric.

    Raises
    ------
    InvalidInputError
        With every problem in its `detail`.
    """
    faults: list[Fault] = []
    name = _name(document, package, schema, faults)
    known = metrics.get(name)
    unit = _unit(document, known, faults)
    existing = {item.name.rpartition(".")[2]: item for item in specifications.get(name, ())}
    numbers = _numbers(document, unit, faults)
    operators, note = _operators(document, numbers, existing, faults)
    description = _description(document, known, faults)
    if faults:
        raise invalid("metric", faults)
    limits = {
        key: _limit(name, key, Threshold(value, unit, operators[key]), existing.get(key))
        for key, value in numbers.items()
    }
    notes = [*_notes(name, document, existing), *([note] if note and numbers else [])]
    return SimpleMetric(
        name,
        {
            **(known.to_json() if known else {}),
            "name": name,
            "description": description,
            "unit": unit,
        },
        limits,
        tuple(f"{name}.{key}" for key in LIMIT_KEYS if key in document and key not in numbers),
        tuple(notes),
    )


def _notes(
    name: str, document: Mapping[str, Any], existing: Mapping[str, Specification]
) -> Iterator[str]:
    """Yield what was ignored, and which limits stay as they are."""
    unknown = (key for key in document if key not in KEYS)
    for key in islice(unknown, _MOST_NAMED):
        yield f"the key `{key[:_MOST_LETTERS]}` has no meaning in a metric and was ignored"
    for key in LIMIT_KEYS:
        if key in existing and key not in document:
            yield f"`{name}.{key}` stays as it is: send `{key}` with null to withdraw it"


def limits_text(limits: Mapping[str, dict[str, Any]]) -> str:
    """Say what values must meet, such as `<= 8 mmag (minimum)`, strictest last."""
    return ", ".join(f"{_words(item['threshold'])} ({key})" for key, item in limits.items())


def _words(threshold: Mapping[str, Any]) -> str:
    number = plain_number(threshold["value"])
    return f"{threshold['operator']} {number} {threshold['unit']}".rstrip()


def _name(document: Mapping[str, Any], package: str, schema: Schema, faults: list[Fault]) -> str:
    given = {key: document[key] for key in ("metric", "name") if document.get(key) is not None}
    key, name = next(iter(given.items()), ("metric", None))
    if not isinstance(name, str) or not name.strip():
        what = "is missing" if name is None else "is not text"
        faults.append(Fault((key,), f"the name of the metric {what}"))
        return ""
    if len(set(map(str, given.values()))) > 1:
        faults.append(Fault(("name",), "`metric` and `name` are different: give one of them"))
    found = full_name(name.strip(), package)
    problem = metric_name_problem(found, schema)
    if problem is not None:
        faults.append(Fault((key,), problem))
    return found


def _description(document: Mapping[str, Any], known: Metric | None, faults: list[Fault]) -> str:
    found = document.get("description")
    if found is None and known is not None:
        return known.description
    if not isinstance(found, str):
        what = "is missing" if found is None else "is not text"
        faults.append(Fault(("description",), f"the description {what}"))
        return ""
    return found


def _unit(document: Mapping[str, Any], known: Metric | None, faults: list[Fault]) -> str:
    given = [key for key in ("units", "unit") if document.get(key) is not None]
    if not given:
        return known.unit if known is not None else ""
    units = {parse_unit(document[key], (key,), faults) for key in given}
    if len(units - {None}) > 1:
        faults.append(Fault(("unit",), "`units` and `unit` are different: give one of them"))
    return units.pop() or ""


def _numbers(document: Mapping[str, Any], unit: str, faults: list[Fault]) -> dict[str, float]:
    """Return the limits that are posted, in the unit of the metric; null and '' are none."""
    found: dict[str, float] = {}
    for key in LIMIT_KEYS:
        value = document.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            found[key] = _number(value, unit)
        except UnitError as error:
            faults.append(Fault((key,), str(error)))
    return found


def _number(value: Any, unit: str) -> float:
    if isinstance(value, bool):
        raise UnitError(f"{value!r} is not a number")
    number = quantity_value(value, unit)
    if not isfinite(number):
        raise UnitError(f"{value!r} is not finite: write a finite number")
    return number


def _operators(
    document: Mapping[str, Any],
    numbers: Mapping[str, float],
    existing: Mapping[str, Specification],
    faults: list[Fault],
) -> tuple[dict[str, Operator], str]:
    """Return how values are compared with each limit, and a clause that says why."""
    written = _written_operator(document, faults)
    if written is not None:
        return dict.fromkeys(numbers, written), f"values must be {written} their limits, as you say"
    levels = [(key, numbers[key]) for key in LEVEL_TAGS if key in numbers]
    steps = {(low < high) - (low > high) for (_, low), (_, high) in pairwise(levels)} - {0}
    if len(steps) > 1:
        order = ", ".join(f"{key} {plain_number(value)}" for key, value in levels)
        faults.append(
            Fault((levels[1][0],), f"the levels are in no order ({order}): give a `condition`")
        )
    if "threshold" in numbers and "threshold" not in existing:
        faults.append(
            Fault(("condition",), "is missing: say how values compare with `threshold`, such as <=")
        )
    if steps:
        is_rising = steps == {1}
        better, sign = (_LARGER, "above") if is_rising else (_SMALLER, "below")
        first, last = levels[0][0], levels[-1][0]
        why = f"{better}, since {last} is {sign} {first}: send `condition` if that is wrong"
        return dict.fromkeys(numbers, ">=" if is_rising else "<="), why
    found = {key: _existing_operator(item) for key, item in existing.items()}
    present = next((found[key] for key in LIMIT_KEYS if found.get(key) is not None), None)
    why = (
        f"taken for granted that {_SMALLER}: send `condition` if that is wrong"
        if present is None
        else "values are compared as before"
    )
    return {key: found.get(key) or present or "<=" for key in numbers}, why


def _written_operator(document: Mapping[str, Any], faults: list[Fault]) -> Operator | None:
    for key in ("condition", "operator"):
        text = document.get(key)
        if text is None or text == "":
            continue
        found = _OPERATORS.get(text.strip().lower()) if isinstance(text, str) else None
        if found is None:
            known = " ".join(dict.fromkeys(_OPERATORS.values()))
            faults.append(Fault((key,), f"{text!r:.60} is not an operator: write one of {known}"))
        return found
    return None


def _existing_operator(item: Specification | None) -> Operator | None:
    criterion = None if item is None else item.criterion
    return _OPERATORS.get(criterion.operator) if isinstance(criterion, Threshold) else None


def _limit(
    metric: str, key: str, threshold: Threshold, existing: Specification | None
) -> dict[str, Any]:
    """Return the document of a specification; of an existing one only the threshold changes."""
    others: dict[str, Any] = {"tags": [] if key == "threshold" else [key]}
    if existing is not None:
        kept = ("tags", "metadata_query", "alert", "expect")
        others = {name: part for name, part in existing.to_json().items() if name in kept}
    return {"name": f"{metric}.{key}", **threshold.to_json(), **others}
