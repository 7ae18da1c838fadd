"""A badge that shows how a verification package is doing, as SVG for a README. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

from squash_api.judging.states import (
    CRITICAL,
    INFO,
    LATE,
    NEVER_SEEN,
    NO_LIMIT,
    NOT_MEASURED,
    OLD,
    PASSED,
    RANKS,
    WARNING,
    State,
    worst_state,
)
from squash_api.judging.wording import counted
from squash_api.reports.texts import name_text
from squash_api.schema.text import clean_text

_HEIGHT = 20
_PADDING = 6.0
# Widths of Verdana's characters at 11 px; all others have the middle width.
_NARROW, _MIDDLE, _WIDE = 4.3, 6.9, 9.6
_WIDTHS = {
    **dict.fromkeys("ijl.,:;|!'I[]()ftr/\\- ", _NARROW),
    **dict.fromkeys("mwMWQGOD@%", _WIDE),
}
_GREEN, _BLUE, _YELLOW, _RED, _GREY = "#1a7440", "#0b57a4", "#8a5a00", "#b3140c", "#59636e"
# White text on these has a contrast of at least 4.5 to 1.
_COLOURS: Mapping[State, str] = {
    CRITICAL: _RED,
    **dict.fromkeys((WARNING, LATE, NOT_MEASURED), _YELLOW),
    INFO: _BLUE,
    PASSED: _GREEN,
    **dict.fromkeys((NO_LIMIT, OLD, NEVER_SEEN), _GREY),
}
_LEFT = "#3b434b"


@dataclass(frozen=True, slots=True)
class Word:
    """The text on the right of a badge, and its colour."""

    text: str
    colour: str


def word_of(counts: Mapping[State, int]) -> Word:
    """Sum up metrics, which are counted by their states: the worst, and how many are in it.

    How many are well, or have no limit, is not said.
    """
    worst = worst_state(counts, NEVER_SEEN)
    is_bad = RANKS[worst] < RANKS[PASSED]
    text = f"{counted(counts[worst], 'metric')} {worst}" if is_bad else worst
    return Word(text, _COLOURS[worst])


def badge_svg(label: str, word: Word) -> str:
    """Draw the badge, with its text for screen readers; it loads nothing."""
    shown = name_text("".join(filter(str.isprintable, clean_text(label)))) or "squash"
    left, right = (text_width(text) + 2 * _PADDING for text in (shown, word.text))
    width = left + right
    title = escape(f"{shown}: {word.text}", {'"': "&quot;"})
    texts = "".join(
        f'<text x="{start + _PADDING:.1f}" y="14" textLength="{text_width(text):.1f}" '
        f'lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        for start, text in ((0.0, shown), (left, word.text))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.1f}" height="{_HEIGHT}" '
        f'role="img" aria-label="{title}">'
        f"<title>{title}</title>"
        f'<clipPath id="r"><rect width="{width:.1f}" height="{_HEIGHT}" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left:.1f}" height="{_HEIGHT}" fill="{_LEFT}"/>'
        f'<rect x="{left:.1f}" width="{right:.1f}" height="{_HEIGHT}" fill="{word.colour}"/></g>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{texts}</g>'
        "</svg>\n"
    )


def text_width(text: str) -> float:
    """Estimate the width of a text in px; the badge stretches it to exactly that."""
    return sum(_WIDTHS.get(character, _MIDDLE) for character in text)
