"""Numbers and times as text.

Numbers have six significant digits for people, more where a value and its limit would look the
same, and are exact and without exponent for files.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil, log10, ulp

NOTHING = "\u2013"
"""A dash, in place of a missing value."""

HUGE = 1e15
"""From here on the messages of alerts write values with an exponent."""

_FEW = 6


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


def precisions(limits: Sequence[float]) -> list[int]:
    """Return numbers of decimals to show a value next to its limits, fewest first.

    The first is two more than any limit has. The next is for a value that still looks the same as a
    limit; with the last one, any two different values look different.
    """
    enough = max(max(0, ceil(-log10(max(ulp(limit) / 2, ulp(0.0))))) for limit in limits)
    most = max(len(plain_number(limit).partition(".")[2]) for limit in limits)
    found = [min(most + 2, enough)]
    more = _FEW
    while found[-1] < enough:
        found.append(min(found[-1] + more, enough))
        more *= 2
    return found


def beside(value: float, limits: Sequence[float]) -> str:
    """Return a value as the messages of alerts write it next to its limits.

    It has as many decimals as `precisions` says. A huge one gets an exponent, unless a limit is
    huge too.
    """
    if not limits:
        return number_text(value)
    if abs(value) >= HUGE and all(abs(limit) < HUGE for limit in limits):
        return f"{value:.3e}"
    text = ""
    for decimals in precisions(limits):
        text = f"{value:.{decimals}f}"
        alike = {f"{limit:.{decimals}f}".removeprefix("-") for limit in limits}
        if value in limits or text.removeprefix("-") not in alike:
            break
    return text


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, such as `2 metrics`; `series` is its own plural."""
    plural = noun if number == 1 or noun == "series" else f"{noun}s"
    return f"{number} {plural}"


def date_text(time_ns: int) -> str:
    """Write a time, in ns since 1970, as clients of the original read it: to the second, in UTC."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ranges_text(values: Iterable[str], *, most: int = 20) -> str:
    """Write values in their order, whole numbers that follow each other as one: `12, 40-41, a`.

    Of more than `most` such parts, the others are counted.
    """
    parts: list[list[str]] = []
    for text in values:
        last = parts[-1][-1] if parts else ""
        if _is_number(last) and _is_number(text) and text == str(int(last) + 1).zfill(len(last)):
            parts[-1][1:] = [text]
        else:
            parts.append([text])
    texts = ["-".join(part) for part in parts]
    more = len(parts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
