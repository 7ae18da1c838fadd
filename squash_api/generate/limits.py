"""The limits of a metric as dashboards show them: steps of levels, and groups of values. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf, nextafter, prod

from squash_api.generate.influxql import any_of, condition, unless
from squash_api.judging.alert_plan import WatchedMetric
from squash_api.judging.alerts import level_of, severity_of
from squash_api.judging.limits import Limit, LimitJudge
from squash_api.judging.metadata_query import value_words
from squash_api.schema.names import Term
from squash_api.schema.text import link_text

_MOST_APART = 64


@dataclass(frozen=True, slots=True)
class WorstValues:
    """Whether the highest and the lowest of values count, and those nearest to which numbers."""

    highest: bool
    lowest: bool
    nearest: Sequence[float]


@dataclass(frozen=True, slots=True)
class Part:
    """Points that match all `terms`, but not all terms of one of `others`, which are narrower."""

    terms: tuple[Term, ...]
    others: tuple[tuple[Term, ...], ...] = ()

    @property
    def condition(self) -> str:
        """The condition of InfluxQL that is true for them; empty for all points."""
        own = set(self.terms)
        left_out = [unless(term for term in terms if term not in own) for terms in self.others]
        return " AND ".join(text for text in (condition(self.terms), *left_out) if text)

    @property
    def name(self) -> str:
        """The values of the terms; without links where there are others."""
        texts = [value_words(term) for term in self.terms]
        telling = [text for text in texts if link_text(text) is None]
        return " ".join([*(telling or texts), *(["others"] if self.others else [])])


@dataclass(frozen=True, slots=True)
class Group:
    """The values that the same levels apply to: those of the points in any of its parts."""

    parts: tuple[Part, ...]
    limits: tuple[Limit, ...]

    @property
    def name(self) -> str:
        """The names of its parts."""
        return ", ".join(part.name for part in self.parts if part.name)

    @property
    def condition(self) -> str:
        """The condition of InfluxQL that is true for its points; empty for all points."""
        return any_of(part.condition for part in self.parts)


def level_steps(limits: Sequence[Limit]) -> list[tuple[float, str | None]]:
    """Return the value at which each step begins, and its level, None if no limit is broken.

    The first begins at minus infinity. A step begins exactly at a limit, or at the next larger
    float if the number itself meets the limit.
    """
    values = {bound.number for limit in limits for bound in limit.criterion.bounds}
    judge = LimitJudge(limits)
    starts = sorted({-inf, *values, *(nextafter(value, inf) for value in values)})
    steps: list[tuple[float, str | None]] = []
    for start in starts:
        severity = judge.badness(start)
        level = level_of(severity) if severity else None
        if not steps or steps[-1][1] != level:
            steps.append((start, level))
    return steps


def worst_values(limits: Sequence[Limit]) -> WorstValues:
    """Return which of several values may break a worse limit than all others do."""
    steps = level_steps(limits)
    badness = [severity_of(level) if level else 0 for _, level in steps]
    nearest = [
        start
        for place, (start, _) in enumerate(steps)
        if min(badness[: place + 1]) < badness[place] > min(badness[place:])
    ]
    return WorstValues(
        highest=badness[-1] > min(badness), lowest=badness[0] > min(badness), nearest=nearest
    )


def groups_of(metric: WatchedMetric) -> list[Group]:
    """Return the groups of values with levels of their own, the widest first.

    A limit counts for points that match its terms. Points to which narrower limits apply as well
    are in the group of those alone, as far as tags tell them apart, so that no tile shows a value
    as good while another limit is broken by it.
    """
    every = {terms for branch in metric.branches for terms in _apart(branch.terms)}
    distinct = sorted(every, key=terms_order)
    groups: dict[tuple[tuple[float, str | None], ...], Group] = {}
    for terms in distinct:
        limits = tuple(
            limit
            for branch in metric.branches
            if _is_within(terms, branch.terms)
            for limit in branch.limits
        )
        part = Part(terms, _narrower(terms, distinct))
        steps = tuple(level_steps(limits))
        same = groups.get(steps)
        groups[steps] = Group((*same.parts, part), same.limits) if same else Group((part,), limits)
    return list(groups.values())


def _narrower(
    terms: tuple[Term, ...], distinct: Iterable[tuple[Term, ...]]
) -> tuple[tuple[Term, ...], ...]:
    """Return those that add nothing but terms on tags, without those that are narrower still."""
    own = set(terms)
    found = [
        item
        for item in distinct
        if own != set(item)
        and _is_within(item, terms)
        and all(term.is_tag for term in item if term not in own)
    ]
    return tuple(
        item
        for item in found
        if not any(set(other) != set(item) and _is_within(item, other) for other in found)
    )


def _is_within(terms: Iterable[Term], wider: Iterable[Term]) -> bool:
    """Tell whether all points that match terms match wider ones too."""
    return all(any(term.implies(other) for term in terms) for other in wider)


def _apart(terms: tuple[Term, ...]) -> list[tuple[Term, ...]]:
    """Return terms for each value of those on tags that have several.

    Lists may overlap, as g, r and r, i do; a point has one value, and its own limits.
    """
    values = [
        [replace(term, value=value) for value in term.values]
        if term.is_tag and term.values is not None
        else [term]
        for term in terms
    ]
    return list(product(*values)) if prod(map(len, values)) <= _MOST_APART else [terms]


def digits_for(limits: Iterable[Limit]) -> int:
    """Return the decimal places that show values near these limits to three figures, at least 2."""
    bounds = (bound for limit in limits for bound in limit.criterion.bounds)
    sizes = [abs(bound.number) for bound in bounds if bound.number]
    digits = 2
    while sizes and digits < 12 and min(sizes) * 10**digits < 100:
        digits += 1
    return digits


def terms_order(terms: tuple[Term, ...]) -> tuple[int, list[tuple[str, str]]]:
    """Return the key that sorts groups of values, the widest first."""
    return len(terms), [(term.name, repr(term.value)) for term in terms]
