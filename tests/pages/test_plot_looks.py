import re
from pathlib import Path

import pytest

from squash_api.pages import rendering
from squash_api.pages.plots import COLOURS, PALETTES, ThemeName, bokeh_theme

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
