"""Trends as small as a word: inline SVG, drawn in the colours of the page."""

from collections.abc import Sequence
from math import isfinite

from markupsafe import Markup

from squash_api.judging.wording import counted, number_text

WIDTH = 132
HEIGHT = 30
_EDGE = 3.0
# A limit farther away than this, in ranges of the values, would make the line flat.
_NEAR = 4.0


def sparkline(
    values: Sequence[float],
    *,
    unit: str | None = None,
    limits: Sequence[float] = (),
    level: str = "critical",
) -> Markup:
    """Draw values, in order, as a line with a dot at the last one; without values it is empty.

    A limit is a dashed line in the colour of the level, if it is anywhere near the values. The unit
    is read aloud with them.
    """
    if not values:
        return Markup("")
    low, high = min(values), max(values)
    near = [limit for limit in limits if _is_near(limit, low, high)]
    low, high = min(low, *near, high), max(low, *near, high)
    step = (WIDTH - 2 * _EDGE) / max(len(values) - 1, 1)
    start = _EDGE if len(values) > 1 else WIDTH / 2
    points = [
        (start + place * step, _height(value, low, high)) for place, value in enumerate(values)
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    lines = Markup("").join(
        Markup('<path class="spark-limit spark-{2}" d="M0 {0}H{1}"/>').format(
            f"{_height(limit, low, high):.1f}", WIDTH, level
        )
        for limit in near
    )
    x, y = points[-1]
    return Markup(
        '<svg class="spark" role="img" aria-label="{label}" width="{width}" height="{height}" '
        'viewBox="0 0 {width} {height}">{lines}<path class="spark-line" d="{path}"/>'
        '<circle cx="{x}" cy="{y}" r="2.5"/></svg>'
    ).format(
        label=_label(values, unit),
        width=WIDTH,
        height=HEIGHT,
        lines=lines,
        path=path,
        x=f"{x:.1f}",
        y=f"{y:.1f}",
    )


def _is_near(limit: float, low: float, high: float) -> bool:
    span = high - low
    beyond = max(limit - high, low - limit, 0.0)
    # If all values are the same, only the limit gives a scale.
    return isfinite(limit) and (span == 0 or beyond <= _NEAR * span)


def _height(value: float, low: float, high: float) -> float:
    """Return how far down a value is drawn. Halves are used, so that no range is infinite."""
    span = high / 2 - low / 2
    part = 0.5 if span == 0 else (value / 2 - low / 2) / span
    return HEIGHT - _EDGE - part * (HEIGHT - 2 * _EDGE)


def _label(values: Sequence[float], unit: str | None) -> str:
    last = f"{number_text(values[-1])}{f' {unit}' if unit else ''}"
    if len(values) == 1:
        return f"Trend: one value, {last}"
    low, high = number_text(min(values)), number_text(max(values))
    return f"Trend of {counted(len(values), 'value')} between {low} and {high}, the last {last}"
