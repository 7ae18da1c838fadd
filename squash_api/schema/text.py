"""Text and numbers as InfluxDB can hold them, and how a metadata value becomes text."""

import json
import re
from functools import lru_cache
from math import isfinite
from typing import Any

MAX_TEXT_BYTES = 1000
"""Longest tag value, metadata key or metric name, in bytes of UTF-8."""

MAX_FIELD_TEXT_BYTES = 64_000
"""InfluxDB's limit of a string field is 64 kB."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOOSE_BACKSLASHES = re.compile(r'\\+(?=[,= "]|\Z)')
_LINK = re.compile(r"https?://[^\s]+\Z", re.IGNORECASE)
# Below this an integral float prints as an integer, and JSON integers end here; above, its digits
# would be invented.
_INTEGRAL_LIMIT = 2**64


def is_link(text: str) -> bool:
    """Return whether the text is an http or https URL; no others are ever rendered."""
    return _LINK.match(text) is not None


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

    Integral numbers print as integers, also inside lists; booleans as `true` and `false`; lists
    as compact JSON; spaces as `_`. Equal values have equal texts. Null, objects, numbers that are
    not finite and empty text have no text.
    """
    if isinstance(value, str):
        is_short = len(value) <= MAX_TEXT_BYTES
        return _text_tag(value) if is_short else _text_tag.__wrapped__(value)
    plain = _plain(value)
    if plain is None or isinstance(plain, dict):
        return None
    if type(plain) is int:
        return str(plain)
    text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return _text_tag.__wrapped__(text)


# Most texts of a job are in previous jobs too.
@lru_cache(maxsize=8192)
def _text_tag(text: str) -> str | None:
    return clean_text(text).replace(" ", "_") or None


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if -_INTEGRAL_LIMIT < value < _INTEGRAL_LIMIT:
            return int(value) if value == int(value) else value
        return finite(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def finite(value: float) -> float | None:
    """Return the number as a 64-bit float, or None if it is not finite or does not fit."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
