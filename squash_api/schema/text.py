"""Text and numbers as InfluxDB can hold them, and how a metadata value becomes text."""

import json
import re
from decimal import Context, Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, Self
from urllib.parse import quote

import orjson

MAX_TEXT_BYTES = 1000
"""Longest tag value, metadata key or metric name, in bytes of UTF-8."""

MAX_FIELD_TEXT_BYTES = 64_000
"""InfluxDB's limit of a string field is 64 kB."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOOSE_BACKSLASHES = re.compile(r'\\+(?=[,= "]|\Z)')
# A name before the host may look like the host, and a password would be in every link.
_LINK = re.compile(r"https?://[^\s/?#|<>\"\\^`{}@]+(?:[/?#]|\Z)", re.IGNORECASE)
_LOOSE_PERCENT = re.compile("%(?![0-9a-fA-F]{2})")
_URL_SAFE = "%:/?#[]@!$&'()*+,;=~"
# Below this an integral float prints as an integer, and JSON integers end here; above, its digits
# would be invented.
_INTEGRAL_LIMIT = 2**64


class SentNumber(float):
    """A number that a float rounds, with its digits as they were sent."""

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Self:
        """Read the text of a number."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    @property
    def is_rounded(self) -> bool:
        """Whether the float, written with as many digits, is another number."""
        sent = Decimal(self.text)
        digits = Context(prec=len(sent.as_tuple().digits), Emin=-(10**6), Emax=10**6)
        return not isfinite(self) or digits.create_decimal(Decimal(float(self))) != sent


def as_sent(value: Any) -> Any:
    """Write a `SentNumber` into JSON as it came. For `default` of `orjson.dumps`.

    Raises
    ------
    TypeError
        If the value is another.
    """
    if isinstance(value, SentNumber):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} is no JSON")


class RepairedText(str):
    """Text in which lone surrogates, which cannot be stored, have become U+FFFD."""

    __slots__ = ()


def repaired(text: str) -> str:
    """Return text that can be stored."""
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    return RepairedText(_SURROGATE.sub("\ufffd", text))


def sent_number(text: str) -> float:
    """Read the text of a number of JSON with a point or an exponent."""
    number = float(text)
    # As it is usually written: comparing decimals costs more than all else here.
    is_held = repr(number) == text
    is_held = is_held or not isfinite(number) or Decimal(text) == Decimal(repr(number))
    return number if is_held else SentNumber(text)


def sent_integer(text: str) -> int | float:
    """Read the text of a whole number of JSON."""
    # More digits than a float can count; Python itself refuses thousands.
    number = int(text) if len(text) < 400 else None
    if number is None:
        return float(text)
    return number if -(2**63) <= number < _INTEGRAL_LIMIT else SentNumber(text)


def link_text(text: str) -> str | None:
    """Return an http or https URL as it can be written everywhere; None if it is no such URL.

    Blanks, `|`, `<` and whatever else does not belong in a URL are percent-encoded; what is encoded
    already stays as it is. No other links, nor any with a user or password, are ever stored or
    rendered.
    """
    url = clean_text(text).strip()
    if _LINK.match(url) is None:
        return None
    return quote(_LOOSE_PERCENT.sub("%25", url), safe=_URL_SAFE)


def clean_text(text: str) -> str:
    """Make text safe for every position of the line protocol.

    Lone surrogates become U+FFFD. Control characters (newlines too) are removed, and so are
    backslashes at the end or before a comma, equals sign, space or quote, which cannot be escaped.
    `#!~#` separates series and field in InfluxDB's files, so that a name that contains it is
    another one after a restart (measured on 1.6.7): its `!` is removed.
    """
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    if "\\" in text:
        text = _LOOSE_BACKSLASHES.sub("", text)
    return text.replace("#!~", "#~") if "#!~" in text else text


def tag_text(value: Any) -> str | None:
    """Return the text of a metadata value in InfluxDB, or None if it has none.

    Integral numbers print as integers, also inside lists, and numbers that a float would round as
    they were sent; booleans as `true` and `false`; lists as compact JSON; spaces as `_`. Null,
    objects, numbers that are not finite and empty text have no text.
    """
    if isinstance(value, str):
        is_short = len(value) <= MAX_TEXT_BYTES
        return _text_tag(value) if is_short else _text_tag.__wrapped__(value)
    if isinstance(value, dict) or value is None:
        return None
    text = _compact(value)
    if text == "null":
        return None
    return _text_tag.__wrapped__(text) if isinstance(value, list | tuple) else text


def is_changed(value: Any) -> bool:
    """Tell whether `tag_text` takes more out of a value than its blanks."""
    if isinstance(value, str):
        return isinstance(value, RepairedText) or clean_text(value) != value
    if isinstance(value, list | tuple):
        return any(map(is_changed, value)) or clean_text(text := _compact(value)) != text
    if isinstance(value, dict):
        return any(map(is_changed, (*value, *value.values())))
    return False


# Most texts of a job are in previous jobs too.
@lru_cache(maxsize=8192)
def _text_tag(text: str) -> str | None:
    return clean_text(text).replace(" ", "_") or None


def _compact(value: Any) -> str:
    """Write a value as compact JSON, with equal numbers written alike."""
    if isinstance(value, str | bool) or value is None:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, SentNumber):
        return value.text
    if isinstance(value, int | float):
        if -_INTEGRAL_LIMIT < value < _INTEGRAL_LIMIT and value == int(value):
            return str(int(value))
        number = finite(value)
        return json.dumps(number) if number in (None, value) else str(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_compact, value))}]"
    if isinstance(value, dict):
        items = (f"{_compact(key)}:{_compact(value[key])}" for key in sorted(value))
        return f"{{{','.join(items)}}}"
    return json.dumps(value, ensure_ascii=False)


def finite(value: float) -> float | None:
    """Return the number as a 64-bit float, or None if it is not finite or does not fit."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
