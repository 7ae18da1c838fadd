"""The blobs of a job: their single values and arrays, and plots of the arrays.

A plot is a histogram of one array, or one array over another.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from statistics import median
from typing import Any

from fastapi import APIRouter, Response

from squash_api.errors import NotFoundError
from squash_api.ingest.stored_job import load_job
from squash_api.judging.wording import counted
from squash_api.pages.plots import PALETTES, ThemeName, bokeh_theme, empty_figure, load_bokeh
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.jobs import JobIdDep
from squash_api.routes.replies import json_reply
from squash_api.schema.notebooks import BLOB as NOTEBOOK
from squash_api.schema.notebooks import PAGE
from squash_api.schema.text import finite

# Our own script draws the reply, which may change with it; programs get blobs at /job/<id>/blob.
router = APIRouter(include_in_schema=False)

FEWEST_VALUES = 5
"""Shorter arrays are written out."""

MOST_POINTS = 4000
"""A plot has at most so many points."""

_MOST_LETTERS = 2000
# Of a log, the end is shown.
_MOST_LETTERS_OF_A_LOG = 200_000
_LOG = "log"
_FEWEST_BINS, _MOST_BINS = 10, 80
# Values farther out than this, in widths of the middle half, are counted in the outermost bins.
_REACH = 10
_HEIGHT = 340
_ERROR_ENDINGS = ("_err", "_error", "err", "_sigma", "_std")


@dataclass(frozen=True, slots=True)
class Single:
    """A datum that cannot be plotted: its value as text."""

    key: str
    label: str
    unit: str
    description: str
    text: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """An array of numbers; several dimensions follow each other row by row.

    `values` has None where a number is missing. `shape` says in words how many there are.
    """

    key: str
    label: str
    unit: str
    description: str
    values: Sequence[float | None]
    shape: str
    is_flat: bool

    @property
    def axis_label(self) -> str:
        """The text at an axis: the label, or else the key, with the unit."""
        name = self.label or self.key
        return f"{name} [{self.unit}]" if self.unit else name

    @property
    def present(self) -> list[float]:
        """The values without those that are missing."""
        return [value for value in self.values if value is not None]

    def summary(self) -> tuple[float, float, float]:
        """Return the smallest value, the median and the largest value."""
        found = self.present
        return min(found), median(found), max(found)


@dataclass(frozen=True, slots=True)
class BlobData:
    """A blob of a job, and its place among the job's blobs.

    `log` is its text if it is the output of a pipeline: a blob of that name that has only texts.
    `is_notebook` says that it is the page and the file of a notebook, which has a page of its own.
    """

    index: int
    name: str
    identifier: str | None
    singles: Sequence[Single]
    arrays: Sequence[Numbers]
    log: str = ""
    is_notebook: bool = False

    def array(self, key: str) -> Numbers | None:
        """Return the array with a key, or None."""
        return next((item for item in self.arrays if item.key == key), None)

    def partners(self, of: Numbers) -> list[Numbers]:
        """Return the arrays that can be plotted over this one."""
        return [
            item
            for item in self.arrays
            if item.key != of.key
            and item.is_flat
            and of.is_flat
            and len(item.values) == len(of.values)
        ]

    def error_of(self, array: Numbers) -> Numbers | None:
        """Return the array that holds the uncertainties of this one, to judge by the keys."""
        names = {f"{array.key}{ending}".lower() for ending in _ERROR_ENDINGS}
        found = (item for item in self.partners(array) if item.key.lower() in names)
        return next((item for item in found if item.unit == array.unit), None)

    def first_view(self) -> tuple[Numbers, Numbers | None] | None:
        """Choose an array to show first, and the one to show it over, or None.

        Others are shown over an array whose numbers only grow, or only fall.
        """
        errors = {found.key for item in self.arrays if (found := self.error_of(item))}
        for x in self.arrays:
            partners = [item for item in self.partners(x) if item.key not in errors]
            if partners and x.key not in errors and is_in_order(x):
                return next((y for y in partners if not is_in_order(y)), partners[0]), x
        return (self.arrays[0], None) if self.arrays else None


def read_blob(index: int, blob: Mapping[str, Any]) -> BlobData:
    """Read a blob with any content."""
    identifier, data = blob.get("identifier"), blob.get("data")
    singles: list[Single] = []
    arrays: list[Numbers] = []
    if isinstance(data, dict):
        for key, datum in data.items():
            found = _read_datum(key, datum)
            (singles if isinstance(found, Single) else arrays).append(found)  # type: ignore[arg-type]
    elif data is not None:
        singles.append(Single("", "", "", "", _text_of(data)))
    return BlobData(
        index,
        _word(blob.get("name")) or "blob",
        identifier if isinstance(identifier, str) else None,
        singles,
        arrays,
        _log_of(blob),
        blob.get("name") == NOTEBOOK and isinstance(data, dict) and PAGE in data,
    )


def _log_of(blob: Mapping[str, Any]) -> str:
    """Return the end of a log, without what could disturb a page; empty if a blob is none."""
    data = blob.get("data")
    if blob.get("name") != _LOG or not isinstance(data, dict):
        return ""
    texts = [item.get("value") if isinstance(item, dict) else item for item in data.values()]
    if not all(isinstance(text, str) for text in texts):
        return ""
    text = "\n".join(map(str, texts))[-_MOST_LETTERS_OF_A_LOG:]
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def is_in_order(array: Numbers) -> bool:
    """Check that each value is larger than the previous one, or each one smaller."""
    values = array.present
    if len(values) != len(array.values) or len(values) < FEWEST_VALUES:
        return False
    pairs = list(pairwise(values))
    return all(a < b for a, b in pairs) or all(a > b for a, b in pairs)


def _read_datum(key: str, datum: Any) -> Single | Numbers:
    """Read a datum; anything but an object with a value is itself the value."""
    value, about = datum, {}
    if isinstance(datum, dict) and "value" in datum:
        value, about = datum["value"], datum
    label, unit, description = (_word(about.get(name)) for name in ("label", "unit", "description"))
    numbers = _numbers_of(value)
    if numbers is None:
        return Single(key, label, unit, description, _text_of(value))
    values, shape, is_flat = numbers
    return Numbers(key, label, unit, description, values, shape, is_flat)


def _numbers_of(value: Any) -> tuple[list[float | None], str, bool] | None:
    """Read a list of numbers, or nested ones; None if it holds anything else, or too few."""
    if not isinstance(value, list):
        return None
    rows: list[Any] = value
    dimensions = [len(rows)]
    while rows and all(isinstance(item, list) for item in rows):
        rows = [item for row in rows for item in row]
        dimensions.append(len(rows))
    found = [_number_of(item) for item in rows]
    if any(item is False for item in found):
        return None
    values = [item for item in found if item is not False]
    if sum(item is not None for item in values) < FEWEST_VALUES:
        return None
    if len(dimensions) == 1:
        return values, counted(len(values), "value"), True
    return values, f"{len(values)} values in {dimensions[0]} rows", False


def _number_of(item: Any) -> Any:
    """Read a number: None if it is missing or not finite, False if it is not a number."""
    if item is None:
        return None
    if isinstance(item, bool) or not isinstance(item, int | float):
        return False
    return finite(item)


def _text_of(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}\u2026"


def _word(value: Any) -> str:
    """Put a text in one line; anything but text is empty."""
    return " ".join(value.split())[:_MOST_LETTERS] if isinstance(value, str) else ""


@router.get("/job/{job_id}/plot")
def get_blob_plot(
    job_id: JobIdDep,
    site: SiteDep,
    *,
    blob: int = 0,
    y: str = "",
    x: str = "",
    theme: ThemeName = "light",
) -> Response:
    """Plot an array of a blob, over another or as a histogram, in Bokeh's form."""
    with site.reader.view() as view:
        _, job = view.ask(load_job, job_id)
    if not 0 <= blob < len(job.blobs):
        raise NotFoundError(f"Job {job_id} has no blob number {blob}.")
    data = read_blob(blob, job.blobs[blob])
    found = chosen(data, y, x)
    if found is None:
        raise NotFoundError("The blob has no such arrays.")
    item, note = draw(data, *found, theme)
    return json_reply({"item": item, "note": note})


def chosen(data: BlobData, y: str, x: str) -> tuple[Numbers, Numbers | None] | None:
    """Return the arrays with these keys; without any key, those to show first."""
    if not y:
        return data.first_view()
    array = data.array(y)
    if array is None:
        return None
    over = next((item for item in data.partners(array) if item.key == x), None)
    return None if x and over is None else (array, over)


def draw(
    data: BlobData, y: Numbers, x: Numbers | None, theme: ThemeName
) -> tuple[dict[str, Any], str]:
    """Make a plot in the form that `Bokeh.embed.embed_item` takes, and a note on it."""
    if x is None:
        plot, note = _histogram(y, theme)
    else:
        plot, note = _pairs(x, y, data.error_of(y), theme)
    item = load_bokeh().embed.json_item(plot, theme=bokeh_theme(theme))
    return dict(item), note


def bins_of(values: Sequence[float]) -> tuple[list[int], list[float], int]:
    """Count the values in each bin; return the counts, the edges, and how many are far out.

    Values far from all others are counted in the first or the last bin, or all others would share
    one bin.
    """
    import numpy as np  # noqa: PLC0415

    found = np.sort(np.asarray(values, dtype=float))
    places = (0, len(found) // 4, 3 * len(found) // 4, -1)
    low, lower, upper, high = (float(found[place]) for place in places)
    reach = _REACH * (upper - lower)
    if reach > 0 and isfinite(reach):
        low, high = max(low, lower - reach), min(high, upper + reach)
    beyond = int(np.count_nonzero((found < low) | (found > high)))
    count = int(min(max(2 * len(found) ** (1 / 3), _FEWEST_BINS), _MOST_BINS))
    if not high > low or not isfinite(high - low):
        return [len(found)], [low, high], 0
    counts, edges = np.histogram(np.clip(found, low, high), bins=count, range=(low, high))
    return [int(item) for item in counts], [float(item) for item in edges], beyond


def thinned(x: Sequence[float], y: Sequence[float], *, most: int) -> list[int]:
    """Choose which of many points to draw; return their places, in order.

    Points that follow each other make a part; its smallest and its largest `y` and `x` stay.
    """
    if len(y) <= most:
        return list(range(len(y)))
    parts = max(most // 4, 1)
    kept: set[int] = set()
    for part in range(parts):
        indices = range(part * len(y) // parts, (part + 1) * len(y) // parts)
        for values in (x, y):
            kept.add(min(indices, key=values.__getitem__))
            kept.add(max(indices, key=values.__getitem__))
    return sorted(kept)


def _histogram(array: Numbers, theme: ThemeName) -> tuple[Any, str]:
    models = load_bokeh().models
    values = array.present
    counts, edges, beyond = bins_of(values)
    if len(edges) == 2 and edges[0] == edges[1]:
        half = abs(edges[0]) / 20 or 0.5
        edges = [edges[0] - half, edges[1] + half]
    plot = empty_figure(x_label=array.axis_label[:100], y_label="Number", height=_HEIGHT)
    source = models.ColumnDataSource({"count": counts, "left": edges[:-1], "right": edges[1:]})
    plot.quad(
        left="left",
        right="right",
        bottom=0,
        top="count",
        source=source,
        fill_color=PALETTES[theme][0],
        fill_alpha=0.8,
        line_color=None,
    )
    plot.y_range.start = 0
    plot.add_tools(
        models.HoverTool(tooltips=[("from", "@left"), ("to", "@right"), ("number", "@count")])
    )
    missing = len(array.values) - len(values)
    notes = [
        counted(len(values), "value"),
        f"{missing} missing" if missing else "",
        f"{beyond} far out, counted in the outermost bins" if beyond else "",
    ]
    return plot, ", ".join(filter(None, notes))


def _pairs(x: Numbers, y: Numbers, error: Numbers | None, theme: ThemeName) -> tuple[Any, str]:
    models = load_bokeh().models
    columns = _complete(x, y, error)
    kept = thinned(columns[0], columns[1], most=MOST_POINTS)
    count = len(columns[0])
    xs, ys, spreads = ([column[index] for index in kept] for column in columns)
    plot = empty_figure(x_label=x.axis_label[:100], y_label=y.axis_label[:100], height=_HEIGHT)
    colour = PALETTES[theme][0]
    if error is not None:
        plot.segment(
            x0=xs,
            x1=xs,
            y0=[value - spread for value, spread in zip(ys, spreads, strict=True)],
            y1=[value + spread for value, spread in zip(ys, spreads, strict=True)],
            line_color=colour,
            line_alpha=0.6,
        )
    is_line = is_in_order(x)
    source = models.ColumnDataSource({"x": xs, "y": ys})
    if is_line:
        plot.line("x", "y", source=source, line_color=colour, line_width=1.5)
    points = plot.scatter(
        "x",
        "y",
        source=source,
        size=6 if is_line else 4,
        fill_color=colour,
        fill_alpha=1.0 if is_line else 0.5,
        line_color=None,
    )
    plot.add_tools(
        models.HoverTool(renderers=[points], tooltips=[("x", "@x"), ("y", "@y")], limit=2)
    )
    notes = [
        counted(len(xs), "point")
        if len(xs) == count
        else f"{len(xs)} of {counted(count, 'point')}",
        f"with {error.label or error.key}" if error else "",
    ]
    return plot, ", ".join(filter(None, notes))


def _complete(x: Numbers, y: Numbers, error: Numbers | None) -> list[list[float]]:
    """Return the complete pairs, as columns, and their uncertainties."""
    errors: Sequence[float | None] = error.values if error else [0.0] * len(y.values)
    rows = [
        (left, value, spread or 0.0)
        for left, value, spread in zip(x.values, y.values, errors, strict=True)
        if left is not None and value is not None
    ]
    return [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
