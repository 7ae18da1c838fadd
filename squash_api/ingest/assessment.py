"""Assessing a job's measurements: which values are kept, and what is left out and why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from squash_api.ingest.document import Job, Measured
from squash_api.ingest.reducing import Reduced
from squash_api.schema.names import Schema
from squash_api.schema.text import finite
from squash_api.verify.metrics import KnownMetric
from squash_api.verify.units import UnitError, canonical_unit, converter, is_unit

MOST_CONVERSIONS = 100
"""Most pairs of a unit and its metric's unit that are looked up for one job.

Each may take astropy milliseconds, also when the job is read again. Jobs have a handful.
"""

Conversion = Callable[[float], float] | str
"""How to convert a value to its metric's unit, or why that is impossible."""

_TOO_MANY_UNITS = f"the job has more than {MOST_CONVERSIONS} different units"


@dataclass(frozen=True, slots=True)
class Skip:
    """A measurement that is left out, and why."""

    metric: str
    reason: str


@dataclass(slots=True)
class Assessment:
    """The outcome for one job, with metrics in the order of the document.

    `values` are finite and in the metric's unit. `absent` are metrics measured as null, NaN or
    infinite, or as zero where that means missing. `undeclared` metrics are kept like the others.
    `new_units` are those of metrics that had no unit or were not known; None if the job does not
    give one either. `without_unit` are
    metrics whose value came without one, and was taken to be in the metric's, if it has one.
    `in_own_unit` are metrics whose value does not convert to a unit that another user has brought:
    it is kept in the sender's own unit, given here. `new_own_units` are those that the sender had
    not for the metric before.
    `conversions` are the different pairs of units to convert between, with how, or why not;
    `has_too_many_units` says that there are more than `MOST_CONVERSIONS`.
    """

    values: dict[str, float] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)
    new_units: dict[str, str | None] = field(default_factory=dict)
    without_unit: list[str] = field(default_factory=list)
    in_own_unit: dict[str, str] = field(default_factory=dict)
    new_own_units: dict[str, str] = field(default_factory=dict)
    conversions: dict[tuple[str, str | None], Conversion] = field(
        default_factory=dict, compare=False
    )
    has_too_many_units: bool = False


def assess(
    job: Job,
    *,
    metrics: Mapping[str, KnownMetric],
    schema: Schema,
    user_id: int | None = None,
) -> Assessment:
    """Sort a job's measurements into kept, absent and skipped; note which are undeclared.

    `user_id` is whose job it is. Without one, every unit is binding that a user has not brought.
    """
    return assess_short(job, metrics) or _assess_whole(job, metrics, schema, user_id)


def assess_short(job: Job, metrics: Mapping[str, KnownMetric]) -> Assessment | None:
    """Keep all measurements if they are finite and in the units of different declared metrics.

    None may be a zero that is absent.

    If one is not, return None.
    """
    values: dict[str, float] = {}
    has_units = job.has_units
    for item in job.measurements:
        name, value = item.metric, item.value
        known = metrics.get(name)
        if (
            known is None
            or not known.is_declared
            or type(value) is not float
            or (item.unit != known.unit and (has_units or item.unit is not None))
            or value - value != 0.0
            or (not value and known.derivation.is_zero_missing)
        ):
            return None
        values[name] = value
    return Assessment(values) if len(values) == len(job.measurements) else None


def _assess_whole(
    job: Job, metrics: Mapping[str, KnownMetric], schema: Schema, user_id: int | None
) -> Assessment:
    outcome = Assessment()
    latest = {item.metric: item for item in job.measurements}
    if len(latest) != len(job.measurements):
        outcome.skipped.extend(
            Skip(item.metric, "replaced by a later measurement of the same metric")
            for item in job.measurements
            if latest[item.metric] is not item
        )
    for name, item in latest.items():
        known = metrics.get(name) or _note_metric(name, outcome, schema)
        if known is None:
            continue
        if not known.is_declared:
            outcome.undeclared.append(name)
        _assess_one(item, known, outcome, user_id)
    return outcome


def _note_metric(name: str, outcome: Assessment, schema: Schema) -> KnownMetric | None:
    """Note a metric that is not known yet; return None if its name cannot be stored."""
    problem = schema.name_problem(name)
    if problem is not None:
        outcome.skipped.append(Skip(name, problem))
        return None
    outcome.new_units[name] = None
    return KnownMetric(unit=None, is_declared=False)


def _assess_one(
    item: Measured, known: KnownMetric, outcome: Assessment, user_id: int | None
) -> None:
    """Keep, skip or note as absent one measurement of a known metric."""
    name, value, unit = item.metric, item.value, item.unit
    if isinstance(item, Reduced) and item.fault is not None:
        outcome.skipped.append(Skip(name, item.fault))
        return
    if value is None:
        outcome.absent.append(name)
        return
    if isinstance(value, str | bool):
        kind = "text" if isinstance(value, str) else "a boolean"
        outcome.skipped.append(Skip(name, f"the value is {kind}, not a number"))
        return
    number = finite(value)
    if number is None or (not number and known.derivation.is_zero_missing):
        outcome.absent.append(name)
        return
    if unit is not None and unit != known.unit:
        converted = _converted(item, number, known, outcome, user_id)
        if converted is None:
            return
        number = converted
        if known.unit is None:
            outcome.new_units[name] = canonical_unit(unit)
    if unit is None:
        outcome.without_unit.append(name)
    outcome.values[name] = number


def _converted(
    item: Measured, number: float, known: KnownMetric, outcome: Assessment, user_id: int | None
) -> float | None:
    """Return a value in the metric's unit, or the sender's own; None if it is skipped.

    A unit that another user has brought makes nobody's values be skipped.
    """
    name, unit, target = item.metric, item.unit or "", known.unit
    convert = _conversion_in(outcome, unit, target)
    if isinstance(convert, str) and not known.binds(user_id) and is_unit(unit):
        own = known.own_unit(user_id)
        target = (
            outcome.new_own_units.setdefault(name, canonical_unit(unit)) if own is None else own
        )
        convert = _conversion_in(outcome, unit, target)
        if not isinstance(convert, str):
            outcome.in_own_unit[name] = target
    if isinstance(convert, str):
        outcome.skipped.append(Skip(name, convert))
        return None
    converted = finite(convert(number))
    if converted is None:
        shown = f"{number:.6g} {unit}".rstrip()
        reason = f"{shown} is no number in the metric's unit, {_named(target)}"
        outcome.skipped.append(Skip(name, reason))
    return converted


def _conversion_in(outcome: Assessment, unit: str, target: str | None) -> Conversion:
    """Look up a conversion for one of the first pairs of units of a job."""
    found = outcome.conversions.get((unit, target))
    if found is not None:
        return found
    if len(outcome.conversions) >= MOST_CONVERSIONS:
        outcome.has_too_many_units = True
        return _TOO_MANY_UNITS
    found = outcome.conversions[unit, target] = _conversion(unit, target)
    return found


@lru_cache(maxsize=4096)
def _conversion(unit: str, target: str | None) -> Conversion:
    """Return the conversion to the metric's unit, or why it is impossible."""
    try:
        convert = converter(unit, canonical_unit(unit) if target is None else target)
    except UnitError as error:
        return str(error)
    if convert is None:
        return f"unit {_named(unit)} does not convert to the metric's unit, {_named(target)}"
    return convert


def _named(unit: str | None) -> str:
    return f"'{unit}'" if unit else "dimensionless"
