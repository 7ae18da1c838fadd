"""How numbers, margins and limits are written: for people, for files and for machines.

Six significant digits are enough for people, unless a value and its limit would look the same.
Files and alerts write a number exactly and without exponent.
"""

from decimal import Decimal

NOTHING = "\u2013"
"""A dash, in place of what is not there."""


def number_text(number: float | None, *beside: float | None) -> str:
    """Return a number with six digits at most, or as many as tell it from those `beside` it."""
    if number is None:
        return NOTHING
    text = f"{number:.6g}"
    is_close = any(
        other is not None and number != other and f"{other:.6g}" == text for other in beside
    )
    return repr(number) if is_close else text


def percent_text(part: float | None) -> str:
    """Return a part of one, such as a margin, as per cent with its sign."""
    return NOTHING if part is None else f"{100 * part:+.3g} %"


def exact_number(number: float) -> str:
    """Return a float of TICKscript or of a Go template: exact, without exponent, with a point."""
    digits = format(Decimal(repr(float(number))), "f")
    return digits if "." in digits else f"{digits}.0"


def plain_number(number: float) -> str:
    """Return a number as people write it: exact, without exponent and idle zeros."""
    text = exact_number(number).rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
