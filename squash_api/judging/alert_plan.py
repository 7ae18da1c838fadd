"""What is watched: the specifications of each metric, put together as their alerts need them.

The makers of alerts and dashboards, the backtest and the watch over late values all start here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from squash_api.judging.specifications import LEVELS, Expect, Specification
from squash_api.judging.verdicts import threshold_in
from squash_api.schema.names import Schema, Term
from squash_api.verify.metrics import Metric


class Defined(Protocol):
    """Metrics and specifications by name, such as those of a metrics package."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics."""

    @property
    def specifications(self) -> Mapping[str, Specification]:
        """The specifications, of these metrics alone."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One specification of a branch; `threshold` is in the metric's unit.

    `muted_through` is the last day without alerts, None if it is not muted.
    """

    specification: str
    level: str
    operator: str
    threshold: float
    muted_through: date | None = None

    @property
    def label(self) -> str:
        """The last part of the specification's name, which tells it from others of the metric."""
        return self.specification.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Branch:
    """The limits of a metric that share the jobs they apply to and how they alert.

    `terms` are those of the `metadata_query`, by name. The limits are sorted by level, the worst
    first, then by name.
    """

    terms: tuple[Term, ...]
    per: tuple[str, ...]
    channel: str | None
    max_age_s: int
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """A specification with `expect`: how often a value should come for the jobs it applies to."""

    specification: str
    metric: str
    level: str
    terms: tuple[Term, ...]
    per: tuple[str, ...]
    channel: str | None
    expect: Expect
    muted_through: date | None = None


@dataclass(frozen=True, slots=True)
class WatchedMetric:
    """A metric with its branches, in a fixed order, and the files that its alerts come from."""

    metric: Metric
    branches: tuple[Branch, ...]
    files: tuple[str, ...]


def watched_metrics(package: Defined, schema: Schema) -> list[WatchedMetric]:
    """Return each metric that has a specification, by name.

    Parameters
    ----------
    package
        Without problems: every specification's metric is there, and its unit converts.
    """
    by_metric: dict[str, list[Specification]] = {}
    for _, specification in sorted(package.specifications.items()):
        by_metric.setdefault(specification.metric, []).append(specification)
    return [
        WatchedMetric(
            package.metrics[name],
            tuple(_branches(found, package.metrics[name].unit, schema)),
            tuple(sorted({item.source.file for item in found if item.source})),
        )
        for name, found in sorted(by_metric.items())
    ]


def expectations(package: Defined, schema: Schema) -> list[Expectation]:
    """Return the specifications that say how often a value should come, by name."""
    return [
        expectation_of(specification, schema)
        for _, specification in sorted(package.specifications.items())
        if specification.expect is not None
    ]


def expectation_of(specification: Specification, schema: Schema) -> Expectation:
    """Return what a specification expects; it must have the key `expect`."""
    assert specification.expect is not None  # noqa: S101 - for the type checker
    return Expectation(
        specification.name,
        specification.metric,
        specification.level,
        query_terms(specification, schema),
        specification.per,
        specification.channel,
        specification.expect,
        specification.muted_through,
    )


def query_terms(specification: Specification, schema: Schema) -> tuple[Term, ...]:
    """Return the terms of a `metadata_query` under InfluxDB's names, each once, by name."""
    found = {schema.term(key, value) for key, value in specification.metadata_query.items()}
    terms = [term for term in found if term is not None]
    return tuple(sorted(terms, key=lambda term: (term.name, repr(term.value))))


def _branches(
    specifications: Iterable[Specification], unit: str, schema: Schema
) -> Iterable[Branch]:
    limits: dict[tuple[tuple[Term, ...], tuple[str, ...], str, int], list[Limit]] = {}
    for specification in specifications:
        key = (
            query_terms(specification, schema),
            specification.per,
            specification.channel or "",
            specification.max_age_s,
        )
        limits.setdefault(key, []).append(
            Limit(
                specification.name,
                specification.level,
                specification.operator,
                threshold_in(specification, unit),
                specification.muted_through,
            )
        )
    for (terms, per, channel, max_age_s), found in sorted(
        limits.items(), key=lambda item: _order(*item[0])
    ):
        found.sort(key=lambda limit: (-LEVELS.index(limit.level), limit.specification))
        yield Branch(terms, per, channel or None, max_age_s, tuple(found))


def _order(
    terms: tuple[Term, ...], per: tuple[str, ...], channel: str, max_age_s: int
) -> tuple[Any, ...]:
    return ([(term.name, repr(term.value)) for term in terms], per, channel, max_age_s)
