"""How plots look, in light and in dark: colours, the font, and the theme that Bokeh takes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

ThemeName = Literal["light", "dark"]

FONT = "system-ui, sans-serif"

# As the variables of squash.css, which canvases cannot read.
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
# After Okabe and Ito, for all kinds of sight; three to one and more against the ground.
PALETTES: Mapping[ThemeName, Sequence[str]] = {
    "light": ("#0072b2", "#b85000", "#00805c", "#a8488a", "#5b57c2", "#7a6600", "#47525c"),
    "dark": ("#56b4e9", "#ff9e4a", "#3dd6a3", "#e79ac7", "#a9a6ff", "#e8d84a", "#c9d1d9"),
}


def bokeh_theme(name: ThemeName) -> Any:
    """Return a theme, as Bokeh takes it."""
    from bokeh.themes import Theme  # noqa: PLC0415

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
    return Theme(
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
