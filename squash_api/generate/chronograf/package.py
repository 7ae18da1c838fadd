"""The dashboard of a verification package: metrics with their limits, and the last runs. Pure.

Limits are lines, colored by level. Template variables choose the values that are shown. Because
Chronograf's lists of tag values have no choice for all, and a point may lack a tag, the variable
`show` selects which of the others apply; its values refer to them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import combinations, product
from math import prod
from typing import Any

from squash_api.generate.chronograf import cells
from squash_api.generate.chronograf.cells import Cell, Column, Content
from squash_api.generate.chronograf.graph import MAX_LINES, metric_graph, terms_order
from squash_api.generate.chronograf.queries import (
    LAST_DAYS,
    LAST_TIMES,
    Place,
    any_of,
    condition,
    identifier,
    plus,
    select,
    unless,
)
from squash_api.generate.output import MARK
from squash_api.judging.alert_plan import WatchedMetric
from squash_api.judging.limits import Limit
from squash_api.judging.metadata_query import value_words
from squash_api.judging.wording import plain_number
from squash_api.schema import names as schema
from squash_api.schema.names import Term
from squash_api.schema.text import link_text
from squash_api.verify.metrics import Metric

SHOWN = ":show:"
"""Stands in queries for the condition that the viewer chose."""

EVERYTHING = "everything"
# A regular expression that matches empty text is true for points without the tag, too.
_ANY = f"{identifier(schema.VALUE_TAGS[0])} =~ /.*/"

MAX_TILES = 6
"""The most tiles that a metric has."""

MAX_METRICS = 120
"""The most metrics on a dashboard: those with specifications first, then by name."""

_RUNS = 100
_MOST_APART = 64
_TOP_HEIGHT = 4
_HEIGHT = 3
_TILE_HEIGHT = 2
# Chronograf accepts only the ranges of its own menu in a URL.
_RANGES = {"2 days": "2d", "7 days": "7d", "30 days": "30d"}
# Chronograf shows the first column by name, so this one sorts after every metric.
_DISTANCE = "·distance"


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


def package_dashboard(
    name: str,
    metrics: Sequence[Metric],
    watched: Sequence[WatchedMetric],
    *,
    database: str,
    retention_policy: str,
) -> Content:
    """Return the cells and template variables of a package's dashboard.

    `watched` are those of the package's `metrics` that have specifications.
    """
    place = Place(database, retention_policy, name)
    by_name = {item.metric.name: item for item in watched}
    ordered = sorted(metrics, key=lambda metric: (metric.name not in by_name, metric.name))
    shown = ordered[:MAX_METRICS]
    top = [
        Cell(cells.note(_note(name, len(shown), len(ordered))), 0, 0, 3, _TOP_HEIGHT),
        Cell(_runs_table(place), 3, 0, 9, _TOP_HEIGHT),
    ]
    blocks = [
        _metric_block(by_name.get(metric.name, WatchedMetric(metric, (), ())), place)
        for metric in shown
    ]
    return Content([*top, *cells.stacked(blocks, top=_TOP_HEIGHT)], template_variables(place))


def _note(name: str, shown: int, total: int) -> str:
    ranges = " · ".join(
        f"[{words}](?lower=now()%20-%20{length})" for words, length in _RANGES.items()
    )
    left_out = f" {total - shown} metrics without specifications are not shown." * (total > shown)
    return (
        f"# {escape(name)}\n\n"
        f"**Range:** {ranges}\n\n"
        f"**Graphs**: means by {' and '.join(schema.LINE_TAGS)}. Limits are lines, at most "
        f"{MAX_LINES}: `•••` CRITICAL, red; `••` WARNING, yellow; `•` INFO, blue.\n\n"
        f"**Tiles**: the worst of the last values of all series, in {LAST_DAYS} days. It breaks a "
        f"limit of level CRITICAL if it is red, WARNING if yellow, INFO if blue.\n\n"
        f"**Variables** (top right): `show` selects which of the other lists apply.{left_out}\n\n"
        f"*Made by {MARK}: edit the specifications.*"
    )


def _runs_table(place: Place) -> dict[str, Any]:
    columns = {
        schema.RUN_ID: "run",
        **{tag: tag for tag in schema.LINE_TAGS},
        schema.SQUASH_URL: "job page",
        schema.RUN_URL: "run page",
        schema.CODE_CHANGES_COUNTS: "changes",
        **{tag: tag for tag in (*schema.VALUE_TAGS, "pipeline") if tag not in schema.LINE_TAGS},
        schema.CODE_CHANGES: "code changes since the previous run",
    }
    # Tables sort ascending at first, so negative times put the latest first.
    order = f"0 - {identifier(schema.TIMESTAMP)} AS {identifier('order')}"
    query = select(
        [*map(identifier, columns), order],
        place,
        LAST_TIMES,
        SHOWN,
        end=f"ORDER BY time DESC LIMIT {_RUNS}",
    )
    headings = [Column(f"{place.measurement}.{name}", heading) for name, heading in columns.items()]
    hidden = Column(f"{place.measurement}.order", "")
    return cells.table(
        f"Latest jobs, at most {_RUNS}",
        query,
        [Column("time", "time"), *headings, hidden],
        sort_by=hidden.label,
        digits=0,
        colors=cells.stepped_colors(cells.NEUTRAL),
    )


def _metric_block(watched: WatchedMetric, place: Place) -> list[Cell]:
    """Return a graph with its tiles, on half the width if there is one tile."""
    groups = groups_of(watched) or [Group((Part(()),), ())]
    every = [tile for group in groups for tile in _tiles(watched.metric, group, place)]
    tiles = every[:MAX_TILES]
    note = f"{MAX_TILES} of {len(every)} tiles" if len(every) > MAX_TILES else ""
    graph = metric_graph(watched, place, shown=SHOWN, note=note)
    if len(tiles) == 1:
        return [Cell(tiles[0], 0, 0, 2, _HEIGHT), Cell(graph, 2, 0, 4, _HEIGHT)]
    half = cells.COLUMNS // 2
    across = [len(tiles)] if len(tiles) <= 3 else [(len(tiles) + 1) // 2, len(tiles) // 2]
    height = _HEIGHT if len(across) == 1 else _TILE_HEIGHT
    places = [
        (half // count * column, height * row, half // count)
        for row, count in enumerate(across)
        for column in range(count)
    ]
    square = [
        Cell(tile, x, y, width, height) for tile, (x, y, width) in zip(tiles, places, strict=True)
    ]
    return [*square, Cell(graph, half, 0, half, height * len(across))]


def _tiles(metric: Metric, group: Group, place: Place) -> Iterator[dict[str, Any]]:
    """Yield tiles with the worst of the last values of all series of a group.

    Each has a value that could break a limit when no other does: the highest, the lowest, and the
    nearest to any number that values must not be.
    """
    key = schema.split_metric_name(metric.name)[1]
    name = identifier(key)
    parts = (tag for limit in group.limits for tag in limit.specification.series)
    tags = ", ".join(map(identifier, dict.fromkeys((*schema.SERIES_TAGS, *parts))))
    conditions = (LAST_TIMES, SHOWN, group.condition)
    last = f"last({name}) AS {name}"
    series = f"({select([last], place, *conditions, end=f'GROUP BY {tags}')})"
    worst = cells.worst_values(group.limits)
    queries: dict[str, str] = {}
    if worst.highest:
        queries["highest"] = select([f"max({name}) AS {name}"], series)
    if worst.lowest:
        queries["lowest"] = select([f"min({name}) AS {name}"], series)
    for number in worst.nearest:
        distance = identifier(_DISTANCE)
        from_it = select([f"abs({name} {plus(-number)}) AS {distance}", name], series)
        nearest = select([f"min({distance}) AS {distance}", name], f"({from_it})")
        queries[f"nearest to {plain_number(number)}"] = nearest
    for words, query in (queries or {"last": select([last], place, *conditions)}).items():
        yield cells.single_stat(
            " ".join(part for part in (key, group.name, words) if part),
            query,
            suffix=f" {metric.unit}" if metric.unit else "",
            digits=digits_for(group.limits),
            colors=cells.limit_colors(group.limits),
        )


def template_variables(place: Place) -> list[dict[str, Any]]:
    """Return `show`, and a list of the values of each tag; at first everything is shown."""
    choices = {EVERYTHING: _ANY}
    for count in range(1, len(schema.VALUE_TAGS) + 1):
        for tags in combinations(schema.VALUE_TAGS, count):
            choices["only " + " + ".join(tags)] = " AND ".join(
                f"{identifier(tag)} = :{tag}:" for tag in tags
            )
    show = {
        "id": "show",
        "tempVar": SHOWN,
        "type": "map",
        "label": "",
        "values": [
            {"type": "map", "key": key, "value": value, "selected": key == EVERYTHING}
            for key, value in choices.items()
        ],
    }
    return [show, *(_tag_values(tag, place) for tag in schema.VALUE_TAGS)]


def _tag_values(tag: str, place: Place) -> dict[str, Any]:
    return {
        "id": tag,
        "tempVar": f":{tag}:",
        "type": "tagValues",
        "label": "",
        # Chronograf fills the list when the dashboard is opened.
        "values": [],
        "sourceID": "dynamic",
        "query": {
            # Chronograf puts a value between single quotes as it is: one of these letters in it
            # would break all queries.
            "influxql": "SHOW TAG VALUES ON :database: FROM :measurement: WITH KEY=:tagKey: "
            rf"WHERE {identifier(tag)} !~ /['\\]/",
            "db": place.database,
            "rp": place.retention_policy,
            "measurement": place.measurement,
            "tagKey": tag,
            "fieldKey": "",
        },
    }


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
        steps = tuple(cells.level_steps(limits))
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
