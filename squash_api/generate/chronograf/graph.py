"""The graph of a metric: its values by dataset and filter, and its limits as lines. Pure.

Chronograf 1.10 gives colors to the series of a cell by their place in the order of their names, and
fills the area between each line and zero with its color. So that limits have the colors of their
levels, a dataset has the same color in every graph, and the allowed values are not red, every graph
has the same number of series: besides values and limits some that are never drawn, and some in the
color of the background, whose own fill covers that of the limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from math import ceil, floor
from typing import Any

from squash_api.generate.chronograf import cells
from squash_api.generate.chronograf.queries import (
    GRAPH_TIMES,
    Place,
    either,
    identifier,
    plus,
    select,
)
from squash_api.judging.alert_plan import Branch, WatchedMetric
from squash_api.judging.alerts import LEVELS, Level, severity_of
from squash_api.judging.kinds.criterion import Bound
from squash_api.judging.limits import Limit
from squash_api.judging.wording import plain_number
from squash_api.schema import names as schema
from squash_api.schema.names import Term
from squash_api.verify.metrics import Metric

MAX_LINES = 6
"""The most limits that a graph draws; more cannot be distinguished."""

FIXED = 40
"""The series of every graph beside those of its values."""

MOST_VALUES = 12
"""Up to so many combinations of dataset and filter, every limit has exactly its color."""

_STOPS = 40
_VALUE_STOPS = 8
_COVERS = 14
_MAX_NAMED_LINES = 3
_MAX_LABELS = 3
# Series are sorted by name: values, then these, then limits, worst last.
_FILLER = "·"
_RANKS = {level: "•" * rank for rank, level in enumerate(LEVELS, start=1)}
# No color of a level is among them, or between two neighbors.
VALUE_COLORS = (
    "#7CE490",
    "#1FB8A6",
    "#FFFFFF",
    "#B07CFF",
    "#FF8FD2",
    "#8C8C8C",
    "#B6D94C",
    "#3F8F5B",
)


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
class Palette:
    """The colors along the scale of a graph, and the names of series that are not drawn.

    `fillers` have no values. `covers` have the color of the background.
    """

    colors: tuple[str, ...]
    fillers: tuple[str, ...]
    covers: tuple[str, ...]


def metric_graph(
    watched: WatchedMetric, place: Place, *, shown: str, note: str = ""
) -> dict[str, Any]:
    """Return the graph; `shown` is a condition on its values, `note` stands in its name."""
    metric = watched.metric
    key = schema.split_metric_name(metric.name)[1]
    lines = limit_lines(watched)
    drawn = lines[:MAX_LINES]
    palette = palette_of(drawn)
    return cells.line_graph(
        "   ".join(part for part in (axis_label(metric), *_limits_named(lines), note) if part),
        [
            _values_query(key, place, shown),
            *_line_queries(key, drawn, place, shown),
            _cover_query(key, drawn, palette, place, shown),
        ],
        label=axis_label(metric),
        colors=palette.colors,
        about=_about(watched, lines),
    )


def axis_label(metric: Metric) -> str:
    """Return the name of a metric with its unit, as titles and axes have it."""
    key = schema.split_metric_name(metric.name)[1]
    return f"{key} [{metric.unit}]" if metric.unit else key


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
        groups = sorted({branch.terms for _, branch in pairs}, key=terms_order)
        lines.append(LimitLine(level, bound, (*labels, *others), tuple(groups)))
    return sorted(
        lines, key=lambda line: (-severity_of(line.level), () not in line.groups, line.bound)
    )


def terms_order(terms: tuple[Term, ...]) -> tuple[int, list[tuple[str, str]]]:
    """Return the key that sorts groups of values, the widest first."""
    return len(terms), [(term.name, repr(term.value)) for term in terms]


def palette_of(lines: Sequence[LimitLine]) -> Palette:
    """Place the colors of limits, worst first, at the end of the scale, before them the covers.

    Chronograf spreads the colors evenly over all series. Where a series falls on the scale depends
    a little on how many combinations there are values for, so each has all stops that it may get,
    and fillers keep different colors apart.
    """
    colors = [VALUE_COLORS[stop % len(VALUE_COLORS)] for stop in range(_STOPS + 1)]
    fillers: list[str] = []
    place, lowest = 0, _STOPS + 1

    def is_free() -> bool:
        return _stops_of(place)[-1] < lowest

    for level, some in groupby(lines, key=lambda line: line.level):
        while not is_free():
            fillers.append(f"{_RANKS[level]}{_FILLER}{place}")
            place += 1
        for _ in some:
            for stop in _stops_of(place):
                if stop < lowest or colors[stop] in VALUE_COLORS:
                    colors[stop] = cells.LEVEL_COLORS[level][1]
            place += 1
        lowest = _stops_of(place - 1)[0]
    while not is_free():
        fillers.append(f"{_FILLER}9{place}")
        place += 1
    covers: list[str] = []
    while len(covers) < _COVERS and _stops_of(place)[0] > _VALUE_STOPS:
        covers.append(f"{_FILLER}5{place}")
        for stop in _stops_of(place):
            colors[stop] = cells.NEUTRAL[1]
        place += 1
    fillers += [f"{_FILLER}1{number}" for number in range(place, FIXED)]
    return Palette(tuple(colors), tuple(fillers), tuple(covers) if lines else ())


def _stops_of(place: int) -> range:
    """Return the stops around a series, counted from the last, however many values there are."""
    least, most = FIXED + 1, FIXED + 2 * MOST_VALUES - 1
    return range(floor(_STOPS * (1 - place / least)), ceil(_STOPS * (1 - place / most)) + 1)


def _values_query(key: str, place: Place, shown: str) -> str:
    """Return the query for the values.

    Its second column is never drawn: it makes all combinations of the package appear in every
    graph, in the same order. InfluxDB writes the root of a negative number as null.
    """
    tags = ", ".join(map(identifier, schema.LINE_TAGS))
    nothing = f"sqrt(mean({identifier(schema.SQUASH_ID)}) * 0 - 1)"
    return select(
        [
            f"mean({identifier(key)}) AS {identifier(key)}",
            f"{nothing} AS {identifier(f'{_FILLER}0')}",
        ],
        place,
        GRAPH_TIMES,
        shown,
        end=f"GROUP BY time(:interval:), {tags} FILL(none)",
    )


def _line_queries(key: str, lines: Sequence[LimitLine], place: Place, shown: str) -> list[str]:
    """Return a query for all lines that are drawn at the same points."""
    columns: dict[str, list[str]] = {}
    for line in lines:
        # InfluxQL has constants only where there are values.
        text = f"mean({identifier(key)}) * 0 {plus(line.bound.number)} AS {identifier(line.name)}"
        columns.setdefault(either(line.groups), []).append(text)
    return [
        select(texts, place, GRAPH_TIMES, shown, where, end="GROUP BY time(:interval:) FILL(none)")
        for where, texts in columns.items()
    ]


def _cover_query(
    key: str, lines: Sequence[LimitLine], palette: Palette, place: Place, shown: str
) -> str:
    """Return the query for covers and fillers, which has two points: one at each end of the graph.

    The limits are among the fillers, so that their number does not depend on where they apply.
    """
    one = f"count({identifier(key)}) * 0 + 1 AS {identifier('one')}"
    times = (GRAPH_TIMES, shown)
    start = select([one], place, *times)
    every = select([one], place, *times, end="GROUP BY time(:interval:) FILL(1)")
    end = select([f"last({identifier('one')}) AS {identifier('one')}"], f"({every})")
    numbers = [line.bound.number for line in lines]
    # An area is filled as far as zero, on either side of it.
    heights = sorted({max(0.0, *numbers), min(0.0, *numbers)} - {0.0}) if numbers else []
    columns = [
        f"{identifier('one')} * 0 {plus(heights[number % len(heights)])} AS {identifier(name)}"
        for number, name in enumerate(palette.covers)
        if heights
    ]
    columns += [
        f"sqrt(0 - {identifier('one')}) AS {identifier(name)}"
        for name in (*palette.fillers, *(line.name for line in lines))
    ]
    return select(columns, f"({start}), ({end})")


def _limits_named(lines: Sequence[LimitLine]) -> list[str]:
    """Return the limits for the name of a graph, or how many of them it draws."""
    if len(lines) <= _MAX_NAMED_LINES:
        return [line.name for line in lines]
    if len(lines) > MAX_LINES:
        return [f"{MAX_LINES} of {len(lines)} limits"]
    return [f"{len(lines)} limits"]


def _about(watched: WatchedMetric, lines: Sequence[LimitLine]) -> str:
    metric = watched.metric
    unit = f" {metric.unit}" if metric.unit else ""
    limits = [f"- {line.level}: {line.text}{unit} ({', '.join(line.labels)})" for line in lines]
    limits += [_not_drawn(limit) for branch in watched.branches for limit in branch.limits]
    return "\n".join([escape(metric.description, quote=False), "", *filter(None, limits)])


def _not_drawn(limit: Limit) -> str:
    """Return the words on a limit that no constant line can show; empty for others.

    InfluxQL has neither the median of the values before each one nor their deviation from it.
    """
    criterion = limit.criterion
    if criterion.bounds:
        return ""
    words = f"{criterion.words(plain_number)} {criterion.unit}".rstrip()
    where = "; drawn on the metric's page" if limit.history else ""
    return f"- {limit.level}: {words} ({limit.label}{where})"
