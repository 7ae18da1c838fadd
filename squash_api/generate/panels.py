"""What dashboards show, for any program: panels and their places on a grid. Pure.

Each program's own package turns a panel into what that program reads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from squash_api.generate.limits import level_steps
from squash_api.generate.metric_graph import MetricGraph
from squash_api.judging.limits import Limit
from squash_api.judging.own import OwnAlert
from squash_api.judging.wording import plain_number

COLUMNS = 12
"""The width of the grid."""

FINE = "#4ED8A0"
CLOSE = "#9394FF"
NEUTRAL = "#292933"
"""The background of panels in Chronograf."""

LEVEL_COLORS = {"CRITICAL": "#DC4E58", "WARNING": "#FFB94A", "INFO": "#22ADF6"}

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

Steps = Sequence[tuple[float, str]]
"""The number from which on values have a color; the first is minus infinity."""

PLAIN: Steps = ((-inf, NEUTRAL),)
"""No colors."""


@dataclass(frozen=True, slots=True)
class Note:
    """Markdown."""

    text: str


@dataclass(frozen=True, slots=True)
class Tile:
    """The last value of a query with one series.

    Parameters
    ----------
    column
        The column of the value in the response.
    digits
        Its decimal places.
    path
        The page of the service that it is about.
    """

    title: str
    query: str
    column: str
    digits: int
    steps: Steps
    suffix: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, sorted ascending by a column.

    `columns` are their headings by their names in the response; others are hidden. `digits` are the
    decimal places of all numbers, `steps` the colors of all numbers but the time.
    """

    title: str
    query: str
    measurement: str
    columns: Mapping[str, str]
    sort_by: str
    digits: int
    steps: Steps = PLAIN

    @property
    def hidden(self) -> list[str]:
        """The columns of the response that are not shown."""
        return sorted({self.sort_by, "time"} - set(self.columns))


@dataclass(frozen=True, slots=True)
class Graph:
    """Fields over time, a line for each and each combination of the tags.

    `alerts` are those on these fields.
    """

    title: str
    query: str
    fields: Sequence[str]
    tags: tuple[str, ...]
    alerts: Sequence[OwnAlert]

    @property
    def about(self) -> str:
        """Markdown on the alerts on what it shows."""
        return "\n".join(
            f"- {limit.level} unless {alert.field} {limit.criterion.words(plain_number)}: "
            f"docs/runbook.md#{alert.name}"
            for alert in self.alerts
            for limit in alert.limits
        )


Panel = Note | Tile | Table | Graph | MetricGraph


@dataclass(frozen=True, slots=True)
class Cell:
    """A panel and its place, in units of the grid."""

    panel: Panel
    x: int
    y: int
    w: int
    h: int

    def moved(self, x: int, y: int) -> "Cell":
        """Return the cell moved to the right and down."""
        return replace(self, x=self.x + x, y=self.y + y)


def limit_steps(limits: Sequence[Limit]) -> Steps:
    """Return the colors of a value by the levels of the limits that it breaks."""
    if not limits:
        return PLAIN
    return [
        (start, FINE if level is None else LEVEL_COLORS[level])
        for start, level in level_steps(limits)
    ]


def stacked(blocks: Iterable[Sequence[Cell]], *, top: int) -> list[Cell]:
    """Place blocks of cells below each other from `top` on, those of half the width in pairs.

    Programs move cells up into any gap. So a block that waits for the second half of its row
    lets wider ones pass, and only the last row may have a gap.

    Parameters
    ----------
    blocks
        Rectangles without gaps from 0, 0; those of half the width are equally high.
    """
    placed: list[Cell] = []
    waiting: Sequence[Cell] | None = None
    for block in blocks:
        if max(cell.x + cell.w for cell in block) > COLUMNS // 2:
            row = block
        elif waiting is None:
            waiting = block
            continue
        else:
            row = [*waiting, *(cell.moved(COLUMNS // 2, 0) for cell in block)]
            waiting = None
        placed.extend(cell.moved(0, top) for cell in row)
        top += max(cell.y + cell.h for cell in row)
    return [*placed, *(cell.moved(0, top) for cell in waiting or ())]
