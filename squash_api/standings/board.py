"""The board: how every metric stands, the worst first, and what narrows it down."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from squash_api.standings.freshness import ExpectedSeries
from squash_api.standings.standing import Combination, Standing
from squash_api.verify.alert_keys import LEVELS

LATE = "late"
PASSED = "passed"
NO_LIMIT = "no limit"
OLD = "old"
NEVER_SEEN = "never seen"
STATES = ("CRITICAL", "WARNING", LATE, "INFO", PASSED, NO_LIMIT, OLD, NEVER_SEEN)
"""How a metric may stand, the worst first.

`old` has no value of the last 30 days, and `never seen` none at all, though it is declared.
"""

_RANK = {state: rank for rank, state in enumerate(STATES)}
_NO_MARGIN = float("inf")


@dataclass(frozen=True, slots=True)
class Limit:
    """A specification as a value is compared with it.

    `threshold` is in the metric's unit. `margin` is the distance of the value as a part of it,
    negative beyond it, or None if there is no such thing.
    """

    specification: str
    operator: str
    threshold: float
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """How a metric stands for one combination of tags.

    `limit` is the worst one that is broken, else the one that the value is nearest to; None if
    there is none.
    """

    standing: Standing
    state: str
    limit: Limit | None = None
    late: ExpectedSeries | None = None

    @property
    def order(self) -> tuple[int, float, Combination]:
        """What sorts rows by how bad they are."""
        margin = None if self.limit is None else self.limit.margin
        return _RANK[self.state], _NO_MARGIN if margin is None else margin, self.standing.tags


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric with its rows, the worst first; a metric that was never seen has none.

    `late` are those of its overdue series that no row tells of.
    """

    metric_id: int
    name: str
    unit: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    late: tuple[ExpectedSeries, ...] = ()

    @property
    def package(self) -> str:
        """Its verification package."""
        return self.name.partition(".")[0]

    @property
    def states(self) -> tuple[str, ...]:
        """What is to be said of it, the worst first: the state of its worst row, and what is late.

        A metric that was never seen and should have been is late as well.
        """
        found = {self.rows[0].state if self.rows else NEVER_SEEN}
        if self.late or any(row.late for row in self.rows):
            found.add(LATE)
        return tuple(sorted(found, key=_RANK.__getitem__))

    @property
    def order(self) -> tuple[int, float, str]:
        """What sorts metrics by how bad they are."""
        margin = self.rows[0].order[1] if self.rows else _NO_MARGIN
        return _RANK[self.states[0]], margin, self.name


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the board is asked for; None asks for all.

    `tag` is a tag of the metric, or `name=value` of a tag of its values. `text` is a part of the
    metric's name.
    """

    package: str | None = None
    dataset: str | None = None
    filter: str | None = None
    instrument: str | None = None
    tag: str | None = None
    state: str | None = None
    text: str | None = None

    @property
    def terms(self) -> tuple[tuple[str, str], ...]:
        """The tags that values must have."""
        named = {"dataset": self.dataset, "filter": self.filter, "instrument": self.instrument}
        terms = [(name, value) for name, value in named.items() if value is not None]
        if self.tag is not None and "=" in self.tag:
            name, _, value = self.tag.partition("=")
            terms.append((name.strip(), value.strip()))
        return tuple(terms)

    def is_of_metric(self, entry: Entry) -> bool:
        """Tell whether a metric is asked for, whatever its values are."""
        if self.package not in (None, entry.package):
            return False
        if self.text is not None and self.text.lower() not in entry.name.lower():
            return False
        return self.tag is None or "=" in self.tag or self.tag in entry.tags


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be asked for, each in order."""

    packages: tuple[str, ...]
    tags: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]


def with_rows(entry: Entry, wanted: Iterable[Combination]) -> Entry | None:
    """Return a metric with only those rows that have these combinations; None if none has."""
    kept = set(wanted)
    rows = tuple(row for row in entry.rows if row.standing.tags in kept)
    return replace(entry, rows=rows, late=()) if rows else None


def in_state(entries: Iterable[Entry], state: str | None) -> list[Entry]:
    """Return metrics that are in a state, be it their second one; for None, all."""
    return [entry for entry in entries if state is None or state in entry.states]


def worst_first(entries: Iterable[Entry]) -> list[Entry]:
    """Return metrics by how bad they are, then by margin, the nearest to its limit first."""
    return sorted(entries, key=lambda entry: entry.order)


def count_states(entries: Iterable[Entry]) -> dict[str, int]:
    """Return how many metrics are in each state that there is, the worst state first."""
    counts = Counter(state for entry in entries for state in entry.states)
    return {state: counts[state] for state in STATES if counts[state]}


def by_package(entries: Iterable[Entry]) -> dict[str, dict[str, int]]:
    """Return the counts of states by package, the worst package first."""
    packages: dict[str, list[Entry]] = {}
    for entry in entries:
        packages.setdefault(entry.package, []).append(entry)
    counts = {name: count_states(found) for name, found in packages.items()}

    def order(name: str) -> tuple[int, int, str]:
        worst, count = next(iter(counts[name].items()))
        return _RANK[worst], -count, name

    return {name: counts[name] for name in sorted(counts, key=order)}


def choices(entries: Iterable[Entry], names: Sequence[str]) -> Choices:
    """Return what can be asked for; of values, those of these tags."""
    packages: set[str] = set()
    tags: set[str] = set()
    values: dict[str, set[str]] = {name: set() for name in names}
    for entry in entries:
        packages.add(entry.package)
        tags.update(entry.tags)
        for row in entry.rows:
            for name, value in row.standing.tags:
                if name in values:
                    values[name].add(value)
    return Choices(
        tuple(sorted(packages)),
        tuple(sorted(tags)),
        {name: tuple(sorted(found)) for name, found in values.items()},
    )


def row_of(standing: Standing, limit: Limit | None, late: ExpectedSeries | None) -> Row:
    """Return a row in the state that its value has."""
    if standing.severity:
        state = LEVELS[standing.severity - 1]
    else:
        state = NO_LIMIT if limit is None else PASSED
    return Row(standing, state, limit, late)
