"""The limits that apply to values of a metric, and which of them each value breaks."""

from collections.abc import Iterable
from dataclasses import dataclass

from squash_api.judging.alert_plan import query_terms
from squash_api.judging.specifications import LEVELS, OPERATORS, Specification
from squash_api.judging.verdicts import threshold_in
from squash_api.schema.names import Context, Schema, Term
from squash_api.verify.units import UnitError


@dataclass(frozen=True, slots=True)
class Limit:
    """A specification with its threshold in the metric's unit; it applies to jobs with all `terms`.

    It is general if it applies to all that is shown.
    """

    specification: Specification
    terms: tuple[Term, ...]
    threshold: float
    is_general: bool = True

    @property
    def label(self) -> str:
        """The last part of the specification's name, which tells it from others of the metric."""
        return self.specification.name.rpartition(".")[2]

    @property
    def severity(self) -> int:
        """How bad it is to break it: 1 for INFO, 2 for WARNING, 3 for CRITICAL."""
        return LEVELS.index(self.specification.level) + 1

    def is_broken_by(self, value: float) -> bool:
        """Tell whether a value, in the metric's unit, is not within the limit."""
        return not OPERATORS[self.specification.operator](value, self.threshold)


def limits_of(
    specifications: Iterable[Specification], *, unit: str | None, schema: Schema
) -> list[Limit]:
    """Return the limits of a metric, the worst first; those whose unit does not convert are none.

    Parameters
    ----------
    unit
        The metric's; None if it has none yet.
    """
    limits = []
    for item in specifications:
        try:
            threshold = threshold_in(item, item.unit if unit is None else unit)
        except UnitError:
            continue
        limits.append(Limit(item, query_terms(item, schema), threshold))
    return sorted(limits, key=lambda limit: (-limit.severity, limit.specification.name))


class LimitJudge:
    """Judges values, and remembers which limits applied.

    Parameters
    ----------
    limits
        Those of the values' metric.
    """

    def __init__(self, limits: Iterable[Limit]) -> None:
        self._limits = list(limits)
        self._counts = [0] * len(self._limits)
        self._count = 0

    def judge(self, value: float, context: Context) -> tuple[bool, list[Limit]]:
        """Return whether any limit applies to a job, and those that its value breaks."""
        self._count += 1
        is_limited = False
        broken = []
        for index, limit in enumerate(self._limits):
            if all(map(context.satisfies, limit.terms)):
                self._counts[index] += 1
                is_limited = True
                if limit.is_broken_by(value):
                    broken.append(limit)
        return is_limited, broken

    def badness(self, value: float) -> int:
        """Return how bad a value would be for a job to which all limits apply, 0 to 3."""
        return max((item.severity for item in self._limits if item.is_broken_by(value)), default=0)

    def applied(self) -> list[Limit]:
        """Return the limits that applied to any of the values judged so far."""
        return [
            Limit(item.specification, item.terms, item.threshold, is_general=count == self._count)
            for item, count in zip(self._limits, self._counts, strict=True)
            if count
        ]
