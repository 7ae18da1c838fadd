import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from squash_api.judging.alerts import LEVELS
from squash_api.judging.kinds.criterion import Bound
from squash_api.judging.kinds.threshold import Threshold
from squash_api.pages import rendering
from squash_api.pages.plots import (
    COLOURS,
    KEPT,
    PALETTES,
    LimitLine,
    Line,
    Picture,
    Point,
    ThemeName,
    bokeh_theme,
    colour_of,
    dash_of,
    draw,
    limit_text,
    limits_in_reach,
    points_of,
    warm_up,
)
from tests.support.plots import made_plots

HOSTILE = "</script><script>alert(1)</script> $$x$$ \u202e @{job} \" ' \\"


def point(y: float = 1.0, **changes: Any) -> Point:
    return Point(**{"x": y, "y": y, "time": 1.8e12, "job": 7, **changes})


def line(*ys: float, label: str = "r", **changes: Any) -> Line:
    return Line(label, [point(y) for y in ys], **changes)


def limit(threshold: float, *, level: str = "WARNING", operator: str = "<=") -> LimitLine:
    return LimitLine("design", level, bound(operator, threshold))


def bound(operator: str, number: float) -> Bound:
    (found,) = Threshold(number, "", operator).bounds
    return found


def picture(*lines: Line, limits: tuple[LimitLine, ...] = (), is_time: bool = True) -> Picture:
    return Picture("Date (UTC)", "p.a (mmag)", lines, limits, is_time=is_time)


def models(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the attributes of the models that have a name."""
    found = {}
    waiting: list[Any] = [item]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            waiting += node.values()
            if "name" in node.get("attributes", {}):
                found[node["attributes"]["name"]] = node["attributes"]
        elif isinstance(node, list):
            waiting += node
    return found


def data(item: dict[str, Any], source: str) -> dict[str, list[Any]]:
    return dict(models(item)[source]["data"]["entries"])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("is_time", [True, False])
def test_bokeh_reads_what_is_drawn(theme: ThemeName, *, is_time: bool) -> None:
    from bokeh.document import Document
    from bokeh.models import ColumnDataSource

    drawn = draw(picture(line(1.0, 2.0), limits=(limit(1.5),), is_time=is_time), theme)
    document = Document.from_json(drawn["doc"])
    source = document.get_model_by_name("points")
    assert isinstance(source, ColumnDataSource)
    assert list(source.data["y"]) == [1.0, 2.0]
    assert {len(values) for values in source.data.values()} == {2}


def test_plots_do_not_share_their_data() -> None:
    first = draw(picture(line(1.0)), "light")
    draw(picture(line(2.0)), "light")
    assert data(first, "points")["y"] == [1.0]


def test_axes_say_what_they_show_as_plain_text() -> None:
    drawn = draw(Picture("a $$x$$", "b", ()), "light")
    assert models(drawn)["x label"]["text"] == "a $$x$$"
    assert '"MathText"' not in str(drawn)


def test_no_script_comes_along_and_no_address() -> None:
    text = str(draw(picture(line(1.0)), "light"))
    assert "CustomJS" not in text
    assert "http" not in text


def test_hostile_texts_are_data() -> None:
    hostile = Line(HOSTILE, [point(run=HOSTILE, tags=HOSTILE, changes=HOSTILE, state=HOSTILE)])
    drawn = data(draw(picture(hostile), "light"), "points")
    assert all(drawn[name] == [HOSTILE] for name in ("label", "run", "tags", "changes", "state"))


def test_broken_points_differ_in_shape_and_have_the_colour_of_their_level() -> None:
    found = points_of([Line("r", [point(severity=severity) for severity in range(4)])], "light")
    assert len(set(found["marker"])) == 4
    assert found["size"] == sorted(found["size"])
    assert found["fill"][1:] == [COLOURS["light"][level] for level in LEVELS]
    assert set(found["colour"]) == {found["fill"][0]}


def test_many_points_are_smaller() -> None:
    few, many = (points_of([line(*map(float, range(n)))], "light")["size"][0] for n in (9, 999))
    assert many < few


def test_lines_differ_in_colour_and_then_in_dash() -> None:
    lines = [line(1.0) for _ in range(21)]
    looks = {
        (colour_of(one, index, "light"), dash_of(one, index)) for index, one in enumerate(lines)
    }
    assert len(looks) == 21


def test_points_of_a_line_are_joined_over_time_only() -> None:
    lines = (line(1.0, 2.0), line(3.0, is_joined=False))
    assert data(draw(picture(*lines), "light"), "joints")["ys"] == [[1.0, 2.0]]
    assert data(draw(picture(*lines, is_time=False), "light"), "joints")["ys"] == []


def test_a_limit_is_drawn_by_its_level() -> None:
    limits = tuple(
        limit(value, level=level)
        for value, level in ((1.0, "INFO"), (2.0, "WARNING"), (3.0, "CRITICAL"))
    )
    drawn = data(draw(picture(line(1.0, 3.0), limits=limits), "light"), "limits")
    assert drawn["dash"] == ["dotted", "dashed", "solid"]
    assert len(set(drawn["colour"])) == 3
    assert drawn["text"][2] == "CRITICAL: design \u2264 3"


def test_the_text_of_a_lower_limit_stands_below_it() -> None:
    limits = (limit(1.0, operator=">="), limit(3.0))
    drawn = data(draw(picture(line(1.0, 3.0), limits=limits), "light"), "limits")
    assert drawn["baseline"] == ["top", "bottom"]


def test_texts_of_close_limits_stand_beside_each_other() -> None:
    limits = (limit(1.0), limit(1.01), limit(3.0))
    shifts = data(draw(picture(line(1.0, 3.0), limits=limits), "light"), "limits")["shift"]
    assert shifts[0] == shifts[2] == 0
    assert shifts[1] > 100


def test_a_limit_that_would_press_the_values_flat_is_out_of_reach() -> None:
    near, far = limit(12.0), limit(1e6)
    assert limits_in_reach(picture(line(1.0, 3.0), limits=(far, near))) == [near]


@pytest.mark.parametrize("ys", [(), (5.0,), (5.0, 5.0)])
def test_values_that_do_not_differ_reach_every_limit(ys: tuple[float, ...]) -> None:
    assert limits_in_reach(picture(line(*ys), limits=(limit(1e6),))) == [limit(1e6)]


def test_a_limit_says_what_it_applies_to() -> None:
    some = LimitLine("design", "INFO", bound("!=", 2.0), "filter r")
    assert limit_text(some) == "INFO: design \u2260 2 (filter r)"


def test_plots_can_be_made_ahead() -> None:
    warm_up()
    assert draw(picture(), "light")["doc"]


STYLES = (Path(rendering.__file__).parent / "static" / "squash.css").read_text("utf-8")
THEMES: tuple[ThemeName, ...] = ("light", "dark")


def brightness(colour: str) -> float:
    """Return the relative luminance of WCAG."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((brightness(first), brightness(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_plots_have_the_colours_of_the_pages(theme: ThemeName) -> None:
    styles = STYLES.split("@media", 1)[theme == "dark"]
    found = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", styles))
    assert {
        name.lower(): colour for name, colour in COLOURS[theme].items()
    }.items() <= found.items()


@pytest.mark.parametrize("theme", THEMES)
def test_lines_stand_out_from_the_ground(theme: ThemeName) -> None:
    ground = COLOURS[theme]["ground"]
    assert min(contrast(colour, ground) for colour in PALETTES[theme]) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_texts_can_be_read(theme: ThemeName) -> None:
    colours = COLOURS[theme]
    texts = ("text", "faint", "INFO", "WARNING", "CRITICAL")
    assert min(contrast(colours[name], colours["ground"]) for name in texts) >= 4.5


def test_both_themes_have_as_many_colours() -> None:
    assert len(PALETTES["light"]) == len(PALETTES["dark"])


@pytest.mark.parametrize("theme", THEMES)
def test_bokeh_takes_the_theme(theme: ThemeName) -> None:
    from bokeh.models import Plot

    plot = Plot()
    bokeh_theme(theme).apply_to_model(plot)
    assert plot.background_fill_color == COLOURS[theme]["ground"]


def test_the_kept_plots_are_those_that_bokeh_makes() -> None:
    def numbered(plots: Any) -> str:
        """Number the ids anew: Bokeh counts on."""
        ids: dict[str, str] = {}
        text = orjson.dumps(plots).decode()
        return re.sub(r'"p\d+"', lambda found: ids.setdefault(found[0], f'"{len(ids)}"'), text)

    kept = orjson.loads(KEPT.read_bytes())
    assert numbered(kept) == numbered(made_plots()), "run python -m tests.support.plots"
