"""The dashboard of a verification package: metrics with their limits, and the last runs. Pure.

Limits are lines, colored by level. Template variables choose the values that are shown. Because
Chronograf's lists of tag values have no choice for all, and a point may lack a tag, the variable
`show` selects which of the others apply; its values refer to them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import Any

from squash_api.generate.chronograf import cells
from squash_api.generate.chronograf.cells import Cell, Column, Content
from squash_api.generate.chronograf.queries import (
    GRAPH_TIMES,
    LAST_DAYS,
    LAST_TIMES,
    Place,
    condition,
    either,
    identifier,
    plus,
    select,
)
from squash_api.generate.output import MARK
from squash_api.judging.alert_plan import Branch, WatchedMetric
from squash_api.judging.alerts import LEVELS, Level, severity_of
from squash_api.judging.kinds.criterion import Bound
from squash_api.judging.limits import Limit
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

MAX_LINES = 6
"""The most limits that a graph draws; more cannot be distinguished."""

MAX_GROUPS = 6
"""The most tiles with a last value that a metric has."""

MAX_METRICS = 120
"""The most metrics on a dashboard: those with specifications first, then by name."""

_RUNS = 100
_TOP_HEIGHT = 4
_HEIGHT = 3
_TILE_HEIGHT = 2
_MAX_NAMED_LINES = 3
# Chronograf accepts only the ranges of its own menu in a URL.
_RANGES = {"2 days": "2d", "7 days": "7d", "30 days": "30d"}
_MAX_LABELS = 3
# Lines are colored in the order of their names, so these sort after all metrics, worst last.
_RANKS = {level: "•" * rank for rank, level in enumerate(LEVELS, start=1)}


@dataclass(frozen=True, slots=True)
class LimitLine:
    """Limits with one bound, drawn as one line.

    `groups` are the terms of their branches: the line is drawn where points match one of them.
    """

    level: Level
    bound: Bound
    labels: tuple[str, ...]
    groups: tuple[tuple[Term, ...], ...]

    @property
    def name(self) -> str:
        """The name of the line in a graph, such as `••• minimum ≤ 20`."""
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
    """The values to which the same limits apply: those of points that match the terms."""

    terms: tuple[Term, ...]
    limits: tuple[Limit, ...]

    @property
    def name(self) -> str:
        """The values of the terms; without links where there are others."""
        texts = [
            plain_number(term.value) if isinstance(term.value, float) else term.value
            for term in self.terms
        ]
        telling = [text for text in texts if link_text(text) is None]
        return " ".join(telling or texts)


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
        f"{MAX_LINES}: `•••` CRITICAL, `••` WARNING, `•` INFO.\n\n"
        f"**Tiles**: the last value in {LAST_DAYS} days. It breaks a limit of level CRITICAL if it "
        f"is red, WARNING if yellow, INFO if blue.\n\n"
        f"**Variables** (top right): `show` selects which of the other lists apply.{left_out}\n\n"
        f"*Made by {MARK}: edit the specifications.*"
    )


def _runs_table(place: Place) -> dict[str, Any]:
    columns = {
        schema.RUN_ID: "run",
        **{tag: tag for tag in schema.LINE_TAGS},
        schema.RUN_URL: "run page",
        schema.SQUASH_URL: "job page",
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
    groups = groups_of(watched) or [Group((), ())]
    tiles = [_tile(watched.metric, group, place) for group in groups[:MAX_GROUPS]]
    graph = _graph(watched, len(groups), place)
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


def _tile(metric: Metric, group: Group, place: Place) -> dict[str, Any]:
    key = schema.split_metric_name(metric.name)[1]
    column = f"last({identifier(key)}) AS {identifier(key)}"
    query = select([column], place, LAST_TIMES, SHOWN, condition(group.terms))
    return cells.single_stat(
        f"{key} {group.name}".strip(),
        query,
        suffix=_suffix(metric.unit),
        digits=digits_for(group.limits),
        colors=cells.limit_colors(group.limits),
    )


def _graph(watched: WatchedMetric, groups: int, place: Place) -> dict[str, Any]:
    metric = watched.metric
    key = schema.split_metric_name(metric.name)[1]
    lines = limit_lines(watched)
    tags = ", ".join(map(identifier, schema.LINE_TAGS))
    values = select(
        [f"mean({identifier(key)}) AS {identifier(key)}"],
        place,
        GRAPH_TIMES,
        SHOWN,
        end=f"GROUP BY time(:interval:), {tags} FILL(none)",
    )
    return cells.line_graph(
        _graph_name(key, lines, groups),
        [values, *_line_queries(key, lines[:MAX_LINES], place)],
        label=f"{key} [{metric.unit}]" if metric.unit else key,
        suffix=_suffix(metric.unit),
        about=_about(watched, lines),
    )


def _graph_name(key: str, lines: Sequence[LimitLine], groups: int) -> str:
    """Return the name of a graph with its limits, or with the number that it leaves out."""
    parts = [key]
    if len(lines) <= _MAX_NAMED_LINES:
        parts.extend(line.name for line in lines)
    elif len(lines) > MAX_LINES:
        parts.append(f"{MAX_LINES} of {len(lines)} limits")
    else:
        parts.append(f"{len(lines)} limits")
    if groups > MAX_GROUPS:
        parts.append(f"{MAX_GROUPS} of {groups} tiles")
    return "   ".join(parts)


def _line_queries(key: str, lines: Sequence[LimitLine], place: Place) -> list[str]:
    """Return a query for all lines that are drawn at the same points."""
    columns: dict[str, list[str]] = {}
    for line in lines:
        # InfluxQL has constants only where there are values.
        text = f"mean({identifier(key)}) * 0 {plus(line.bound.number)} AS {identifier(line.name)}"
        columns.setdefault(either(line.groups), []).append(text)
    return [
        select(texts, place, GRAPH_TIMES, SHOWN, where, end="GROUP BY time(:interval:) FILL(none)")
        for where, texts in columns.items()
    ]


def _about(watched: WatchedMetric, lines: Sequence[LimitLine]) -> str:
    metric = watched.metric
    limits = [
        f"- {line.level}: {line.text}{_suffix(metric.unit)} ({', '.join(line.labels)})"
        for line in lines
    ]
    return "\n".join([escape(metric.description, quote=False), "", *limits])


def _suffix(unit: str) -> str:
    return f" {unit}" if unit else ""


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
            "influxql": "SHOW TAG VALUES ON :database: FROM :measurement: WITH KEY=:tagKey:",
            "db": place.database,
            "rp": place.retention_policy,
            "measurement": place.measurement,
            "tagKey": tag,
            "fieldKey": "",
        },
    }


def limit_lines(metric: WatchedMetric) -> list[LimitLine]:
    """Return the lines of all limits, worst first, then the widest and lowest first."""
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
    """Return the groups of values with limits of their own, the widest first.

    A limit counts for a group if all points of the group match its terms.
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


def digits_for(limits: Iterable[Limit]) -> int:
    """Return the decimal places that show values near these limits to three figures, at least 2."""
    sizes = [abs(number) for limit in limits for number in limit.criterion.numbers if number]
    digits = 2
    while sizes and digits < 12 and min(sizes) * 10**digits < 100:
        digits += 1
    return digits


def _terms_order(terms: tuple[Term, ...]) -> tuple[int, list[tuple[str, str]]]:
    return len(terms), [(term.name, repr(term.value)) for term in terms]
