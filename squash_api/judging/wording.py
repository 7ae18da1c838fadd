"""Numbers and times as text.

Numbers have six significant digits for people, more where a value and its limit would look the
same, and are exact and without exponent for files.
"""

from datetime import UTC, datetime
from decimal import Decimal

NOTHING = "\u2013"
"""A dash, in place of a missing value."""


def number_text(number: float | None, *others: float | None) -> str:
    """Return a number with at most six digits, or all if it would look the same as another."""
    if number is None:
        return NOTHING
    text = f"{number:.6g}"
    is_close = any(
        other is not None and number != other and f"{other:.6g}" == text for other in others
    )
    return repr(number) if is_close else text


def percent_text(part: float | None) -> str:
    """Return a fraction, such as a margin, as a percentage with its sign, which 0 has none of."""
    if part is None:
        return NOTHING
    return f"{100 * part:+.3g} %" if part else "0 %"


def exact_number(number: float) -> str:
    """Return a number as TICKscript and Go templates read it: exact, with a point, no exponent."""
    digits = format(Decimal(repr(float(number))), "f")
    return digits if "." in digits else f"{digits}.0"


def plain_number(number: float) -> str:
    """Return a number as people write it: exact, without exponent or trailing zeros."""
    text = exact_number(number).rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, such as `2 metrics`; `series` is its own plural."""
    plural = noun if number == 1 or noun == "series" else f"{noun}s"
    return f"{number} {plural}"


def date_text(time_ns: int) -> str:
    """Write a time, in ns since 1970, as clients of the original read it: to the second, in UTC."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
