"""Specifications and limits on `p.a`, of which a test says only what it is about."""

from typing import Any

from squash_api.judging.kinds.threshold import Threshold
from squash_api.judging.limits import Limit, limits_of
from squash_api.judging.specifications import Specification
from squash_api.schema.names import Schema


def specification(
    operator: str = "<=",
    value: float = 5.0,
    *,
    unit: str = "mmag",
    name: str = "p.a.design",
    **changes: Any,
) -> Specification:
    """Return a specification; its metric is the name without the last part."""
    criterion = Threshold(value, unit, operator)
    return Specification(name, name.rpartition(".")[0], criterion, **changes)


def limit(
    operator: str = "<=",
    value: float = 5.0,
    *,
    unit: str = "mmag",
    in_unit: str | None = None,
    **changes: Any,
) -> Limit:
    """Return a limit, in the unit of the specification if it is not told another."""
    found = specification(operator, value, unit=unit, **changes)
    (made,) = limits_of([found], unit=in_unit, schema=Schema())
    return made
