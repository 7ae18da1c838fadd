"""The alert plan: the specifications of each metric, grouped as their alerts need them.

Alerts, dashboards, the backtest and the watch over late values are all made from it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from hashlib import sha256
from typing import Any

from squash_api.judging.alerts import (
    PER_JOB,
    WORST_FIRST,
    Expect,
    Group,
    Level,
    default_group,
    severity_of,
)
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

    `terms` are those of the `metadata_query`, by name. Alerts are told as one over the tags
    `group`. Those of a branch that `is_served` are raised by the service alone, since Kapacitor
    cannot say what raises them; of those of one that `is_trial` nobody is told.
    """

    terms: tuple[Term, ...]
    per: tuple[str, ...]
    channel: str | None
    max_age_s: int
    group: Group = ()
    is_served: bool = False
    is_trial: bool = False

    @classmethod
    def of(cls, item: Specification, terms: tuple[Term, ...]) -> "BranchKey":
        """Return the branch that a specification with these terms belongs to."""
        return BranchKey(
            terms,
            item.per,
            item.channel,
            item.max_age_s,
            item.group,
            item.is_served,
            item.is_trial,
        )

    @property
    def key(self) -> str:
        """A short name that does not depend on other branches; it is part of the ids of alerts.

        What most branches have is not in it, so that their alerts keep the ids that they had before
        there was anything else.
        """
        more: list[Sequence[object]] = []
        if self.group != default_group(self.per):
            more.append(["group", self.group])
        if self.is_served:
            more.append(["served"])
        if self.is_trial:
            more.append(["trial"])
        return _key(_named(self.terms), self.per, self.channel, self.max_age_s, *more)

    @property
    def is_gathering(self) -> bool:
        """Whether its alerts are told as one with others, once these have come."""
        return self.group != ()

    def gathers(self, tags: Mapping[str, str]) -> bool:
        """Return whether the alert of a series is told as one with others; by the series' tags."""
        return self.group == PER_JOB or any(tags.get(name) for name in self.group)

    @property
    def is_tick(self) -> bool:
        """Whether a task of Kapacitor judges its values."""
        return not self.is_served and not self.is_trial

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

    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """A specification with `expect`: how often a value should arrive for the jobs it applies to.

    Of late values nobody is told while it `is_trial`.
    """

    specification: str
    metric: str
    level: Level
    terms: tuple[Term, ...]
    per: tuple[str, ...]
    channel: str | None
    expect: Expect
    muted_through: date | None = None
    group: Group = ()
    is_trial: bool = False


@dataclass(frozen=True, slots=True)
class WatchedMetric:
    """A metric with its branches, in a fixed order, and the files that define its limits."""

    metric: Metric
    branches: tuple[Branch, ...]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """A level of a branch at which people are told in some time; for what has a rule for each.

    They are told if one of `limits` is broken and none of the `worse` ones is, so of one level
    alone, whichever mutes last. That holds after the day `after` and through the day `through`;
    None is for no end.
    """

    level: Level
    limits: tuple[Limit, ...]
    worse: tuple[Limit, ...]
    after: date | None = None
    through: date | None = None


def tellings(limits: Sequence[Limit]) -> list[Telling]:
    """Return at which levels limits are told, and when, worst first, then in order of time."""
    days = sorted({day for limit in limits if (day := limit.muted_through) is not None})
    found: list[Telling] = []
    for level in WORST_FIRST:
        of_level: list[Telling] = []
        for after, through in zip((None, *days), (*days, None), strict=True):
            heard = [
                limit
                for limit in limits
                if (day := limit.muted_through) is None or (after is not None and day <= after)
            ]
            own = tuple(limit for limit in heard if limit.level == level)
            worse = tuple(limit for limit in heard if limit.severity > severity_of(level))
            last = of_level[-1] if of_level else None
            if last is not None and (last.limits, last.worse) == (own, worse):
                of_level[-1] = replace(last, through=through)
            else:
                of_level.append(Telling(level, own, worse, after, through))
        found += [item for item in of_level if item.limits]
    return found


def branch_keys(specifications: Iterable[Specification], schema: Schema) -> list[BranchKey]:
    """Return what tells the branches of a metric apart, each once.

    These are the branches of `watched_metrics`, found without the metric.
    """
    found = {
        BranchKey.of(item, terms): None
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
            tuple(branches_of(found, metrics[name].unit, schema)),
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
            item.group,
            item.is_trial,
        )
        for item in sorted(specifications, key=lambda item: item.name)
        if item.expect is not None
        and (terms := query_terms(item.metadata_query, schema)) is not None
    ]


def branches_of(
    specifications: Iterable[Specification], unit: str | None, schema: Schema
) -> list[Branch]:
    """Return the branches of one metric, in a fixed order; `unit` is as for `limits_of`."""
    found: dict[BranchKey, list[Limit]] = {}
    for limit in limits_of(specifications, unit=unit, schema=schema):
        found.setdefault(BranchKey.of(limit.specification, limit.terms), []).append(limit)
    return [
        Branch(**{each.name: getattr(key, each.name) for each in fields(key)}, limits=tuple(some))
        for key, some in sorted(found.items(), key=_order)
    ]


def _named(terms: Iterable[Term]) -> list[tuple[str, object]]:
    return [(term.name, term.value) for term in terms]


def _key(*parts: Sequence[object] | str | int | None) -> str:
    return sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _order(item: tuple[BranchKey, object]) -> tuple[Any, ...]:
    key = item[0]
    return (
        [(term.name, repr(term.value)) for term in key.terms],
        key.per,
        key.channel or "",
        key.max_age_s,
        key.is_served,
        key.is_trial,
        repr(key.group),
    )
