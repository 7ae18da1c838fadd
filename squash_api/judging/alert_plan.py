"""The alert plan: the specifications of each metric, grouped as their alerts need them.

Alerts, dashboards, the backtest and the watch over late values are all made from it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Any

from squash_api.judging.alerts import Expect
from squash_api.judging.limits import Limit, limits_of
from squash_api.judging.metadata_query import query_terms
from squash_api.judging.specifications import Specification
from squash_api.schema.names import Schema, Term
from squash_api.verify.metrics import Metric


@dataclass(frozen=True, slots=True)
class Grouping:
    """How values of a metric form series, for branches that agree about it.

    A series has the values that are younger than `max_age_s`, have the same values of the tags
    `per`, and meet the `terms`. Terms on a tag of `per` hold for a whole series or not at all, and
    are not among these. So branches of one grouping agree on which value is the newest.
    """

    per: tuple[str, ...]
    terms: tuple[Term, ...]
    max_age_s: int

    @property
    def key(self) -> str:
        """A short name, the same for every metric."""
        return _key(_named(self.terms), self.per, self.max_age_s)


@dataclass(frozen=True, slots=True)
class BranchKey:
    """What the specifications of a branch have in common.

    `terms` are those of the `metadata_query`, by name.
    """

    terms: tuple[Term, ...]
    per: tuple[str, ...]
    channel: str | None
    max_age_s: int

    @property
    def key(self) -> str:
        """A short name that does not depend on other branches; it is part of the ids of alerts."""
        return _key(_named(self.terms), self.per, self.channel, self.max_age_s)

    @property
    def grouping(self) -> Grouping:
        """The series of which it judges the newest values."""
        terms = tuple(term for term in self.terms if not term.is_tag or term.name not in self.per)
        return Grouping(self.per, terms, self.max_age_s)


@dataclass(frozen=True, slots=True)
class Branch(BranchKey):
    """The limits of a metric that apply to the same jobs and send their alerts the same way.

    The limits are sorted worst first, then by name.
    """

    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """A specification with `expect`: how often a value should arrive for the jobs it applies to."""

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
    """A metric with its branches, in a fixed order, and the files that define its limits."""

    metric: Metric
    branches: tuple[Branch, ...]
    files: tuple[str, ...]

    @property
    def groupings(self) -> tuple[Grouping, ...]:
        """The groupings of its branches, each once."""
        return tuple(dict.fromkeys(branch.grouping for branch in self.branches))


def branch_keys(specifications: Iterable[Specification], schema: Schema) -> list[BranchKey]:
    """Return what tells the branches of a metric apart, each once.

    These are the branches of `watched_metrics`, found without the metric.
    """
    found = {
        BranchKey(terms, item.per, item.channel, item.max_age_s): None
        for item in specifications
        if (terms := query_terms(item.metadata_query, schema)) is not None
    }
    return list(found)


def watched_metrics(
    specifications: Iterable[Specification], metrics: Mapping[str, Metric], schema: Schema
) -> list[WatchedMetric]:
    """Return the metrics that have specifications, sorted by name.

    The specifications must have no problems: their metrics exist and their units convert.
    """
    by_metric: dict[str, list[Specification]] = {}
    for item in specifications:
        by_metric.setdefault(item.metric, []).append(item)
    return [
        WatchedMetric(
            metrics[name],
            tuple(_branches(found, metrics[name].unit, schema)),
            tuple(sorted({item.source.file for item in found if item.source})),
        )
        for name, found in sorted(by_metric.items())
    ]


def expectations(specifications: Iterable[Specification], schema: Schema) -> list[Expectation]:
    """Return the expectations of all specifications with `expect`, sorted by name.

    A specification that can apply to no job expects nothing.
    """
    return [
        Expectation(
            item.name,
            item.metric,
            item.level,
            terms,
            item.per,
            item.channel,
            item.expect,
            item.muted_through,
        )
        for item in sorted(specifications, key=lambda item: item.name)
        if item.expect is not None
        and (terms := query_terms(item.metadata_query, schema)) is not None
    ]


def _branches(
    specifications: Iterable[Specification], unit: str, schema: Schema
) -> Iterable[Branch]:
    found: dict[tuple[tuple[Term, ...], tuple[str, ...], str, int], list[Limit]] = {}
    for limit in limits_of(specifications, unit=unit, schema=schema):
        item = limit.specification
        key = (limit.terms, item.per, item.channel or "", item.max_age_s)
        found.setdefault(key, []).append(limit)
    for (terms, per, channel, max_age_s), some in sorted(found.items(), key=_order):
        yield Branch(terms, per, channel or None, max_age_s, tuple(some))


def _named(terms: Iterable[Term]) -> list[tuple[str, object]]:
    return [(term.name, term.value) for term in terms]


def _key(*parts: Sequence[object] | str | int | None) -> str:
    return sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _order(item: tuple[tuple[Any, ...], object]) -> tuple[Any, ...]:
    terms, *rest = item[0]
    return ([(term.name, repr(term.value)) for term in terms], *rest)
