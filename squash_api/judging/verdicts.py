"""Judging: whether a job's values hold what the specifications ask.

lsst.verify converts a threshold into the unit of the measurement; here both are compared in the
unit of the metric, the one that values are stored in. It makes no difference but in the last bit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from squash_api.judging.specifications import OPERATORS, Specification
from squash_api.schema.names import Context, Schema
from squash_api.schema.text import finite
from squash_api.verify.units import UnitError, converter

Status = Literal["passed", "failed", "not measured"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One specification's judgement on one job.

    `value`, `threshold` and `unit` are in the metric's unit. `margin` is the distance to the limit
    as a part of the limit, negative beyond it.
    """

    specification: str
    status: Status
    metric: str
    value: float | None
    unit: str
    operator: str
    threshold: float
    level: str
    margin: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a report holds it."""
        return asdict(self)


def applies(specification: Specification, context: Context, *, schema: Schema) -> bool:
    """Tell whether a job's metadata has every term of the specification's query."""
    for key, value in specification.metadata_query.items():
        term = schema.term(key, value)
        if term is None or not context.satisfies(term):
            return False
    return True


def threshold_in(specification: Specification, unit: str) -> float:
    """Return the threshold in a unit, that of the metric.

    Raises
    ------
    UnitError
        If the specification's unit does not convert to it.
    """
    convert = converter(specification.unit, unit)
    if convert is None:
        raise UnitError(
            f"'{specification.unit}', the unit of {specification.name}, does not convert to "
            f"'{unit}'"
        )
    return convert(specification.threshold)


def judge(specification: Specification, *, value: float | None, unit: str) -> Verdict:
    """Judge one value, given in the metric's unit; without a finite one it is not measured.

    Raises
    ------
    UnitError
        If the specification's unit does not convert to the metric's.
    """
    threshold = threshold_in(specification, unit)
    value = None if value is None else finite(value)
    status: Status = "not measured"
    if value is not None:
        holds = OPERATORS[specification.operator](value, threshold)
        status = "passed" if holds else "failed"
    return Verdict(
        specification=specification.name,
        status=status,
        metric=specification.metric,
        value=value,
        unit=unit,
        operator=specification.operator,
        threshold=threshold,
        level=specification.level,
        margin=_margin(specification.operator, value, threshold),
    )


def judge_job(
    values: Mapping[str, float | None],
    units: Mapping[str, str],
    specifications: Iterable[Specification],
    context: Context,
    schema: Schema,
) -> list[Verdict]:
    """Judge a job by all specifications that apply to it, sorted by their names.

    Parameters
    ----------
    values
        The job's values by metric, each in its metric's unit; None for one that is absent.
    units
        The metrics' units.
    specifications
        Those in force. One whose metric has no key in `values` gives no verdict. One whose unit
        does not convert to the metric's is not measured, and stands in its own unit.
    context
        The job's metadata.
    """
    verdicts = []
    for specification in specifications:
        metric = specification.metric
        if metric not in values or not applies(specification, context, schema=schema):
            continue
        unit = units.get(metric, specification.unit)
        try:
            verdicts.append(judge(specification, value=values[metric], unit=unit))
        except UnitError:
            verdicts.append(judge(specification, value=None, unit=specification.unit))
    return sorted(verdicts, key=lambda verdict: verdict.specification)


def _margin(operator: str, value: float | None, limit: float) -> float | None:
    if value is None or limit == 0 or operator in ("==", "!="):
        return None
    margin = finite((limit - value) / abs(limit))
    return -margin if margin is not None and operator in (">", ">=") else margin
