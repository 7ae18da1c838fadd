"""The specifications that a report judges by, with thresholds in the units of the metrics. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from squash_api.judging.specifications import OPERATORS, Specification
from squash_api.judging.verdicts import threshold_in
from squash_api.schema.names import META_PREFIX, Context, Schema, Term
from squash_api.verify.units import UnitError


@dataclass(frozen=True, slots=True)
class Limit:
    """A specification as values are compared with it: the threshold is in the metric's unit."""

    specification: Specification
    holds: Callable[[float, float], bool]
    threshold: float
    tag_terms: tuple[Term, ...]
    field_terms: tuple[Term, ...]


class Limits:
    """The specifications to judge by, and which of them have judged something.

    Parameters
    ----------
    specifications
        By metric.
    schema
        The names in InfluxDB, by which terms of queries are compared.

    Attributes
    ----------
    used
        Names of the specifications that applied to a job.
    unusable
        Why a specification cannot judge, by its name.
    """

    def __init__(
        self, specifications: Mapping[str, Sequence[Specification]], schema: Schema
    ) -> None:
        self.used: set[str] = set()
        self.unusable: dict[str, str] = {}
        self._terms = {
            item.name: [schema.term(key, value) for key, value in item.metadata_query.items()]
            for found in specifications.values()
            for item in found
        }
        self._specifications = specifications

    @property
    def needs_fields(self) -> bool:
        """Whether a query asks for what is neither a tag nor a field of the contract."""
        return any(
            term is not None and not term.is_tag and term.name.startswith(META_PREFIX)
            for terms in self._terms.values()
            for term in terms
        )

    def of(self, metric: str, unit: str | None, tags: Mapping[str, str]) -> list[Limit]:
        """Return the limits of a metric whose terms on tags hold."""
        context = Context(tags=dict(tags))
        found = []
        for item in self._specifications.get(metric, ()):
            limit = self._limit(item, unit)
            if limit is not None and all(map(context.satisfies, limit.tag_terms)):
                found.append(limit)
                if not limit.field_terms:
                    self.used.add(item.name)
        return found

    def _limit(self, item: Specification, unit: str | None) -> Limit | None:
        terms = [term for term in self._terms[item.name] if term is not None]
        if len(terms) < len(self._terms[item.name]):
            # Nothing can have the value.
            return None
        try:
            threshold = threshold_in(item, item.unit if unit is None else unit)
        except UnitError as error:
            self.unusable[item.name] = str(error)
            return None
        return Limit(
            item,
            OPERATORS[item.operator],
            threshold,
            tuple(term for term in terms if term.is_tag),
            tuple(term for term in terms if not term.is_tag),
        )
