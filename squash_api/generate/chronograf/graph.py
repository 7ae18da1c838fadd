"""The graph of a metric: its values by dataset and filter, and its limits as lines. Pure.

Chronograf 1.10 gives colors to the series of a cell by their place in the order of their names, and
fills the area between each line and zero with its color. So that limits have the colors of their
levels, a dataset has the same color in every graph, and the allowed values are not red, every graph
has the same number of series: besides values and limits some that are never drawn, and some in the
color of the background, whose own fill covers that of the limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor
from typing import Any

from squash_api.generate.chronograf import cells
from squash_api.generate.chronograf.choices import CHRONOGRAF
from squash_api.generate.influxql import identifier, plus, select
from squash_api.generate.metric_graph import MAX_LINES, RANKS, LimitLine, MetricGraph, limit_lines
from squash_api.generate.panels import LEVEL_COLORS, NEUTRAL, VALUE_COLORS
from squash_api.schema import names as schema

FIXED = 40
"""The series of every graph beside those of its values."""

MOST_VALUES = 12
"""Up to so many combinations of dataset and filter, every limit has exactly its color."""

_STOPS = 40
_VALUE_STOPS = 8
_COVERS = 14
# Series are sorted by name: values, then these, then limits, worst last.
_FILLER = "·"


@dataclass(frozen=True, slots=True)
class Palette:
    """The colors along the scale of a graph, and the names of series that are not drawn.

    `fillers` have no values. `covers` have the color of the background.
    """

    colors: tuple[str, ...]
    fillers: tuple[str, ...]
    covers: tuple[str, ...]


def metric_graph(panel: MetricGraph) -> dict[str, Any]:
    """Return the cell of the graph."""
    lines = limit_lines(panel.watched)[:MAX_LINES]
    palette = palette_of(lines)
    # Never drawn: it makes all combinations of the package appear in every graph, in the same
    # order. InfluxDB writes the root of a negative number as null.
    nothing = f"sqrt(mean({identifier(schema.SQUASH_ID)}) * 0 - 1)"
    return cells.line_graph(
        panel.title,
        [
            panel.values_query(CHRONOGRAF, f"{nothing} AS {identifier(f'{_FILLER}0')}"),
            *panel.line_queries(lines, CHRONOGRAF),
            _cover_query(panel, lines, palette),
        ],
        label=panel.label,
        colors=palette.colors,
        about=panel.about,
    )


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
            fillers.append(f"{RANKS[level]}{_FILLER}{place}")
            place += 1
        for _ in some:
            for stop in _stops_of(place):
                if stop < lowest or colors[stop] in VALUE_COLORS:
                    colors[stop] = LEVEL_COLORS[level]
            place += 1
        lowest = _stops_of(place - 1)[0]
    while not is_free():
        fillers.append(f"{_FILLER}9{place}")
        place += 1
    covers: list[str] = []
    while len(covers) < _COVERS and _stops_of(place)[0] > _VALUE_STOPS:
        covers.append(f"{_FILLER}5{place}")
        for stop in _stops_of(place):
            colors[stop] = NEUTRAL
        place += 1
    fillers += [f"{_FILLER}1{number}" for number in range(place, FIXED)]
    return Palette(tuple(colors), tuple(fillers), tuple(covers) if lines else ())


def _stops_of(place: int) -> range:
    """Return the stops around a series, counted from the last, however many values there are."""
    least, most = FIXED + 1, FIXED + 2 * MOST_VALUES - 1
    return range(floor(_STOPS * (1 - place / least)), ceil(_STOPS * (1 - place / most)) + 1)


def _cover_query(panel: MetricGraph, lines: Sequence[LimitLine], palette: Palette) -> str:
    """Return the query for covers and fillers, which has two points: one at each end of the graph.

    The limits are among the fillers, so that their number does not depend on where they apply.
    """
    one = f"count({identifier(panel.key)}) * 0 + 1 AS {identifier('one')}"
    shown = (CHRONOGRAF.times, CHRONOGRAF.shown)
    start = select([one], panel.place, *shown)
    interval = f"GROUP BY time({CHRONOGRAF.interval}) FILL(1)"
    every = select([one], panel.place, *shown, end=interval)
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
