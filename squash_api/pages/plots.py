"""Plots of a metric: from plain rows to the document that Bokeh draws in the browser. Pure.

Making Bokeh's models takes a hundred times as long as filling in the points, and importing it half
a second. So the models of each theme and kind of axis are kept in `plots.json`, as
`tests/support/plots.py` writes it, and a plot is a copy of their JSON with its own data. Bokeh is
imported only if another release of it is installed than that which made them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import orjson

from squash_api.judging.alerts import level_of
from squash_api.judging.kinds.criterion import Bound
from squash_api.judging.wording import number_text

ThemeName = Literal["light", "dark"]

KEPT = Path(__file__).with_name("plots.json")
"""The plots without data, and the release of Bokeh that made them."""

FONT = "system-ui, sans-serif"

# The same as the variables in squash.css, which canvases cannot read.
COLOURS: Mapping[ThemeName, Mapping[str, str]] = {
    "light": {
        "ground": "#ffffff",
        "text": "#1b2126",
        "faint": "#55616d",
        "line": "#cdd5dc",
        "INFO": "#0b57a4",
        "WARNING": "#8a5a00",
        "CRITICAL": "#b3140c",
    },
    "dark": {
        "ground": "#14181c",
        "text": "#e8ecef",
        "faint": "#a8b3bd",
        "line": "#3a444e",
        "INFO": "#8cc2fa",
        "WARNING": "#f5c563",
        "CRITICAL": "#ff9c94",
    },
}
# After Okabe and Ito, for all kinds of sight; the contrast with the ground is at least 3:1.
PALETTES: Mapping[ThemeName, Sequence[str]] = {
    "light": ("#0072b2", "#b85000", "#00805c", "#a8488a", "#5b57c2", "#7a6600", "#47525c"),
    "dark": ("#56b4e9", "#ff9e4a", "#3dd6a3", "#e79ac7", "#a9a6ff", "#e8d84a", "#c9d1d9"),
}


_MARKERS = ("circle", "square", "triangle", "diamond")
_DASHES = ("solid", "dashed", "dotted", "dotdash")
_LEVEL_DASHES = {"CRITICAL": "solid", "WARNING": "dashed", "INFO": "dotted"}
# With more points than this, they are drawn smaller.
_MANY = 400
_SMALL, _LARGE = 4, 7
# By severity. A broken INFO limit is not an alarm.
_LARGER = (0, 0, 4, 6)
# A limit is shown if the values still take this fraction of the picture's height.
_LEAST_PART = 1 / 12
_HEIGHT = 440
# The width of the picture if there is a single value.
_DAYS_MS = 2 * 86_400_000
_OWN_COLUMNS = ("x", "y", "time", "job", "value", "run", "tags", "changes", "state")
_COLUMNS = (*_OWN_COLUMNS, "line", "label", "colour", "marker", "size", "fill")


@dataclass(frozen=True, slots=True)
class Point:
    """One value, and what the plot says about it.

    The `time` is in ms since 1970, and so is `x` if it is the time.
    `severity` is 0 if the value breaks no limit, else 1 for INFO, 2 for WARNING, 3 for CRITICAL.
    """

    x: float
    y: float
    time: float
    job: int
    value: str = ""
    run: str = ""
    tags: str = ""
    changes: str = ""
    state: str = ""
    severity: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """Points that belong together, in order.

    Points of several series are not joined. Those of the rest have no colour of their own.
    """

    label: str
    points: Sequence[Point]
    is_joined: bool = True
    is_rest: bool = False


@dataclass(frozen=True, slots=True)
class LimitLine:
    """A bound, in the unit of the plot. `scope` says what it applies to, if not to everything."""

    name: str
    level: str
    bound: Bound
    scope: str = ""


@dataclass(frozen=True, slots=True)
class MovingLimit:
    """One side of a limit that moves with the values of a line, which is given by its index.

    `xs` are as in points, `ys` the limit there.
    """

    line: int
    name: str
    level: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True, slots=True)
class StepLine:
    """A change of level in a line, by its index, at a time in ms since 1970."""

    line: int
    time: float


@dataclass(frozen=True, slots=True)
class Picture:
    """What to draw."""

    x_label: str
    y_label: str
    lines: Sequence[Line]
    limits: Sequence[LimitLine] = field(default=())
    is_time: bool = True
    steps: Sequence[StepLine] = field(default=())
    moving: Sequence[MovingLimit] = field(default=())


_NOTHING = Picture("", "", ())


def draw(picture: Picture, theme: ThemeName) -> dict[str, Any]:
    """Make the plot in the form that `Bokeh.embed.embed_item` takes.

    Its models `points`, `joints` and `limits` are data sources: the values, each with the number of
    its line; the lines that join them; and the limits that are in reach. If there are any, `steps`
    are the changes of level.
    """
    has_steps = bool(picture.steps)
    empty = _empty_plot(theme, is_time=picture.is_time, has_steps=has_steps)
    item: dict[str, Any] = orjson.loads(empty)
    models = dict(_named_models(item))
    points = points_of(picture.lines, theme)
    _fill(models["points"], points)
    _fill(models["joints"], _joints_of(picture, theme))
    _fill(models["limits"], _limits_of(picture, theme))
    if has_steps:
        _fill(models["steps"], _steps_of(picture, theme))
    models["x label"]["text"] = picture.x_label
    models["y label"]["text"] = picture.y_label
    return item


def warm_up() -> None:
    """Import in advance what the first plot of a blob would wait for."""
    load_bokeh()


def colour_of(line: Line, index: int, theme: ThemeName) -> str:
    """Choose the colour of a line by its place among the lines."""
    palette = PALETTES[theme]
    return COLOURS[theme]["faint"] if line.is_rest else palette[index % len(palette)]


def dash_of(line: Line, index: int) -> str:
    """Choose the dashes of a line by its place; empty if its points are not joined."""
    return _DASHES[index // len(PALETTES["light"]) % len(_DASHES)] if line.is_joined else ""


def points_of(lines: Sequence[Line], theme: ThemeName) -> dict[str, list[Any]]:
    """Write the points of lines as the columns of a data source."""
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    size = _SMALL if sum(len(line.points) for line in lines) > _MANY else _LARGE
    for index, line in enumerate(lines):
        colour = colour_of(line, index, theme)
        for point in line.points:
            columns["line"].append(index)
            columns["label"].append(line.label)
            columns["colour"].append(colour)
            columns["marker"].append(_MARKERS[point.severity])
            columns["size"].append(size + _LARGER[point.severity])
            is_broken = point.severity > 0
            columns["fill"].append(
                COLOURS[theme][level_of(point.severity)] if is_broken else colour
            )
        for name in _OWN_COLUMNS:
            columns[name] += [getattr(point, name) for point in line.points]
    return columns


def limit_text(limit: LimitLine) -> str:
    """Describe a limit: its level, its name, and what a value must meet."""
    scope = f" ({limit.scope})" if limit.scope else ""
    return f"{limit.level}: {limit.name} {limit.bound.words(number_text)}{scope}"


def limits_in_reach(picture: Picture) -> list[LimitLine]:
    """Return the limits, by height, that fit into a picture whose values stay legible."""
    limits = sorted(picture.limits, key=lambda item: item.bound.number)
    values = [point.y for line in picture.lines for point in line.points]
    reach = (max(values) - min(values)) / _LEAST_PART if values else 0.0
    if not reach:
        return limits
    low, high = max(values) - reach, min(values) + reach
    return [item for item in limits if low <= item.bound.number <= high]


def _joints_of(picture: Picture, theme: ThemeName) -> dict[str, list[Any]]:
    lines = [
        (index, line)
        for index, line in enumerate(picture.lines)
        if picture.is_time and line.is_joined
    ]
    moving = picture.moving if picture.is_time else ()
    return {
        "line": [index for index, _ in lines] + [item.line for item in moving],
        "xs": [[point.x for point in line.points] for _, line in lines]
        + [list(item.xs) for item in moving],
        "ys": [[point.y for point in line.points] for _, line in lines]
        + [list(item.ys) for item in moving],
        "colour": [colour_of(line, index, theme) for index, line in lines]
        + [COLOURS[theme][item.level] for item in moving],
        "dash": [dash_of(line, index) for index, line in lines] + ["dotted"] * len(moving),
    }


def _steps_of(picture: Picture, theme: ThemeName) -> dict[str, list[Any]]:
    return {
        "line": [step.line for step in picture.steps],
        "x": [step.time for step in picture.steps],
        "colour": [colour_of(picture.lines[step.line], step.line, theme) for step in picture.steps],
    }


def _limits_of(picture: Picture, theme: ThemeName) -> dict[str, list[Any]]:
    """Write the limits in reach as columns; texts of close limits stand next to each other."""
    shown = limits_in_reach(picture)
    ys = [point.y for line in picture.lines for point in line.points]
    ys += [item.bound.number for item in shown]
    close = 0.07 * (max(ys) - min(ys)) if ys else 0.0
    shifts: list[int] = []
    for index, item in enumerate(shown):
        before = shown[index - 1].bound.number if index else None
        is_close = before is not None and item.bound.number - before < close
        shifts.append(shifts[-1] + len(limit_text(shown[index - 1])) * 7 + 16 if is_close else 0)
    is_upper = [item.bound.is_upper for item in shown]
    return {
        "y": [item.bound.number for item in shown],
        "text": [limit_text(item) for item in shown],
        "colour": [COLOURS[theme][item.level] for item in shown],
        "dash": [_LEVEL_DASHES[item.level] for item in shown],
        "shift": shifts,
        "rise": [3 if upper else -3 for upper in is_upper],
        "baseline": ["bottom" if upper else "top" for upper in is_upper],
    }


def _named_models(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find the named models in a document's JSON; yield their names and attributes."""
    if isinstance(node, list):
        for item in node:
            yield from _named_models(item)
    elif isinstance(node, dict):
        if node.get("type") == "object" and "name" in node.get("attributes", {}):
            yield node["attributes"]["name"], node["attributes"]
        for item in node.values():
            yield from _named_models(item)


def _fill(source: dict[str, Any], columns: Mapping[str, Sequence[Any]]) -> None:
    source["data"] = {"type": "map", "entries": list(columns.items())}


@lru_cache(maxsize=8)
def _empty_plot(theme: ThemeName, *, is_time: bool, has_steps: bool = False) -> bytes:
    kept = _kept()
    if kept["bokeh"] != version("bokeh"):
        return make_empty_plot(theme, is_time=is_time, has_steps=has_steps)
    return orjson.dumps(kept["plots"][key_of(theme, is_time=is_time, has_steps=has_steps)])


@cache
def _kept() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(KEPT.read_bytes())
    return found


def key_of(theme: ThemeName, *, is_time: bool, has_steps: bool) -> str:
    """Return the key that `plots.json` has a plot without data under."""
    return " ".join((theme, "time" if is_time else "number", *(["steps"] if has_steps else ())))


def make_empty_plot(theme: ThemeName, *, is_time: bool, has_steps: bool) -> bytes:
    """Make a plot without data, with Bokeh, as JSON."""
    ranges = load_bokeh().models.DataRange1d
    plot = empty_figure(
        name="plot",
        height=_HEIGHT,
        x_axis_type="datetime" if is_time else "linear",
        x_range=ranges(name="x", range_padding=0.03, default_span=_DAYS_MS if is_time else 2.0),
        # Room for the text of a limit at either end.
        y_range=ranges(name="y", range_padding=0.16),
    )
    plot.xaxis.axis_label.name = "x label"
    plot.yaxis.axis_label.name = "y label"
    _add_limits(plot, theme)
    if has_steps:
        steps = load_bokeh().models.ColumnDataSource(_steps_of(_NOTHING, theme), name="steps")
        plot.vspan(x="x", source=steps, line_color="colour", line_dash="dotted", line_width=2)
    _add_values(plot, theme)
    return orjson.dumps(load_bokeh().embed.json_item(plot, theme=bokeh_theme(theme)))


def _add_values(plot: Any, theme: ThemeName) -> None:
    """Add points, the lines that join them, and the tooltip."""
    models = load_bokeh().models
    joints = models.ColumnDataSource(_joints_of(_NOTHING, theme), name="joints")
    plot.multi_line(
        "xs", "ys", source=joints, color="colour", alpha=0.55, width=1.5, line_dash="dash"
    )
    points = plot.scatter(
        "x",
        "y",
        source=models.ColumnDataSource(points_of((), theme), name="points"),
        marker="marker",
        size="size",
        fill_color="fill",
        line_color="colour",
        line_width=1.5,
        fill_alpha=0.9,
    )
    points.nonselection_glyph = None
    tooltips = [
        ("series", "@label"),
        ("value", "@value"),
        ("state", "@state"),
        ("date", "@time{%F %T} UTC"),
        ("run", "@run"),
        ("job", "@job{0}"),
        ("tags", "@tags"),
        ("code changes", "@changes"),
    ]
    plot.add_tools(
        models.HoverTool(
            renderers=[points],
            tooltips=tooltips,
            formatters={"@time": "datetime"},
            limit=2,
            visible=False,
        ),
        models.TapTool(renderers=[points], visible=False),
    )


def _add_limits(plot: Any, theme: ThemeName) -> None:
    """Add limits across the whole plot; the y-axis includes them."""
    models = load_bokeh().models
    limits = models.ColumnDataSource(_limits_of(_NOTHING, theme), name="limits")
    plot.hspan(y="y", source=limits, line_color="colour", line_dash="dash", line_width=2)
    plot.add_layout(
        models.LabelSet(
            x=6,
            x_units="screen",
            y="y",
            x_offset="shift",
            y_offset="rise",
            text="text",
            text_baseline="baseline",
            text_color="colour",
            text_font_size="12px",
            text_font={"value": FONT},
            background_fill_color=COLOURS[theme]["ground"],
            background_fill_alpha=0.75,
            source=limits,
            level="overlay",
        )
    )


def empty_figure(*, x_label: str = "", y_label: str = "", **changes: Any) -> Any:
    """Make a figure of the page's width, with our tools; `changes` are more options of Bokeh's."""
    bokeh = load_bokeh()
    plot = bokeh.plotting.figure(
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag="box_zoom",
        active_scroll=None,
        toolbar_location="above",
        **changes,
    )
    plot.toolbar.logo = None
    # Plain, or two dollar signs in a label would be taken for mathematics.
    plot.xaxis.axis_label = bokeh.models.PlainText(text=x_label)
    plot.yaxis.axis_label = bokeh.models.PlainText(text=y_label)
    return plot


@cache
def load_bokeh() -> Any:
    """Import the library."""
    import bokeh.plotting  # noqa: PLC0415

    return bokeh


def bokeh_theme(name: ThemeName) -> Any:
    """Make a theme for Bokeh."""
    colours = COLOURS[name]
    ground, text, faint, line = (colours[key] for key in ("ground", "text", "faint", "line"))
    axis = {
        "axis_label_text_color": text,
        "axis_label_text_font": FONT,
        "axis_label_text_font_style": "normal",
        "axis_label_text_font_size": "14px",
        "major_label_text_color": text,
        "major_label_text_font": FONT,
        "major_label_text_font_size": "12px",
        "axis_line_color": faint,
        "major_tick_line_color": faint,
        "minor_tick_line_color": line,
    }
    return load_bokeh().themes.Theme(
        json={
            "attrs": {
                "Plot": {
                    "background_fill_color": ground,
                    "border_fill_color": ground,
                    "outline_line_color": line,
                },
                "Grid": {"grid_line_color": line, "grid_line_alpha": 0.6},
                "Axis": axis,
            }
        }
    )
