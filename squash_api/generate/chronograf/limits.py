"""The limits of a metric as a dashboard shows them: as lines, as colours, as groups. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, nextafter

from squash_api.judging.alert_plan import Branch, WatchedMetric
from squash_api.judging.alerts import LEVELS, Level, level_of, severity_of
from squash_api.judging.kinds.criterion import Bound
from squash_api.judging.limits import Limit, LimitJudge
from squash_api.judging.wording import plain_number
from squash_api.schema.names import Term
from squash_api.schema.text import is_link

MAX_LINES = 6
"""Limits that one graph draws; more cannot be told apart."""

MAX_GROUPS = 6
"""Tiles with the last value that one metric has."""

_MAX_LABELS = 3
# Lines are coloured along a scale in the order of their names, so these must follow all names of
# metrics, and the worst must come last.
_RANKS = {level: "•" * rank for rank, level in enumerate(LEVELS, start=1)}


@dataclass(frozen=True, slots=True)
class LimitLine:
    """Limits with one bound, drawn as one line.

    `groups` are the terms of each of their branches: the line is drawn where the points have one
    of them.
    """

    level: Level
    bound: Bound
    labels: tuple[str, ...]
    groups: tuple[tuple[Term, ...], ...]

    @property
    def name(self) -> str:
        """How a graph names the line, such as `••• minimum ≤ 20`."""
        shown = ", ".join(self.labels[:_MAX_LABELS])
        more = len(self.labels) - _MAX_LABELS
        rest = f" and {more} more" if more > 0 else ""
        return f"{_RANKS[self.level]} {shown}{rest} {self.text}"

    @property
    def text(self) -> str:
        """The bound as people write it, such as `≤ 20`."""
        return self.bound.words(plain_number)


@dataclass(frozen=True, slots=True)
class Group:
    """Values that the same limits hold for: those of points with the terms."""

    terms: tuple[Term, ...]
    limits: tuple[Limit, ...]

    @property
    def name(self) -> str:
        """The values of the terms; links are left out where others tell enough."""
        texts = [
            plain_number(term.value) if isinstance(term.value, float) else term.value
            for term in self.terms
        ]
        telling = [text for text in texts if not is_link(text)]
        return " ".join(telling or texts)


def limit_lines(metric: WatchedMetric) -> list[LimitLine]:
    """Return the lines of all limits, the worst first, among equals the widest and lowest first."""
    found: dict[Bound, list[tuple[Limit, Branch]]] = {}
    for branch in metric.branches:
        for limit in branch.limits:
            for bound in limit.criterion.bounds:
                found.setdefault(bound, []).append((limit, branch))
    lines = []
    for bound, pairs in found.items():
        level = max((limit.level for limit, _ in pairs), key=severity_of)
        labels = sorted({limit.label for limit, _ in pairs if limit.level == level})
        others = sorted({limit.label for limit, _ in pairs} - set(labels))
        groups = sorted({branch.terms for _, branch in pairs}, key=_terms_order)
        lines.append(LimitLine(level, bound, (*labels, *others), tuple(groups)))
    return sorted(
        lines, key=lambda line: (-severity_of(line.level), () not in line.groups, line.bound)
    )


def groups_of(metric: WatchedMetric) -> list[Group]:
    """Return each set of values with limits of its own, the widest first.

    A limit counts for a group if all points of the group have its branch's terms.
    """
    distinct = sorted({branch.terms for branch in metric.branches}, key=_terms_order)
    return [
        Group(
            terms,
            tuple(
                limit
                for branch in metric.branches
                if set(branch.terms) <= set(terms)
                for limit in branch.limits
            ),
        )
        for terms in distinct
    ]


def level_steps(limits: Sequence[Limit]) -> list[tuple[float, str | None]]:
    """Return how bad values are: each step is the value it begins at, and its level.

    The first begins at minus infinity; None means that no limit is broken. Exact: a step is at the
    limit itself, or at the next larger float where the limit still holds at its value.
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


def digits_for(limits: Iterable[Limit]) -> int:
    """Return how many decimal places show values near these limits to three figures, 2 at least."""
    sizes = [abs(number) for limit in limits for number in limit.criterion.numbers if number]
    digits = 2
    while sizes and digits < 12 and min(sizes) * 10**digits < 100:
        digits += 1
    return digits


def _terms_order(terms: tuple[Term, ...]) -> tuple[int, list[tuple[str, str]]]:
    return len(terms), [(term.name, repr(term.value)) for term in terms]
