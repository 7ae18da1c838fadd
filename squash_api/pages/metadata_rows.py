"""A job's metadata as rows of a table, and the links in it. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from markupsafe import Markup, escape

from squash_api.pages.rendering import link_markup
from squash_api.schema.names import FIELD_SOURCES, RUN_URL
from squash_api.schema.text import SentNumber, link_text

MOST_ROWS = 1000
"""Further metadata is only in the JSON of the job."""

DEEPEST = 6
"""Deeper objects are not indented further."""

_LONG = 300
_URL = re.compile(r"https?://[^\s<>\"'`\\^{|}\[\]]+", re.IGNORECASE)
# At the end of a URL these belong to the sentence around it.
_TAIL = ".,;:!?)"


@dataclass(frozen=True, slots=True)
class MetadataRow:
    """A key at a depth, and its value as text; None if the value is the rows that follow."""

    depth: int
    key: str
    text: str | None

    @property
    def is_long(self) -> bool:
        """Whether the text is folded at first."""
        return self.text is not None and len(self.text) > _LONG


def metadata_rows(meta: Mapping[str, Any]) -> list[MetadataRow]:
    """Write the metadata, except the packages, as rows in their order; objects before their keys.

    If there are more than `MOST_ROWS`, one row more than that is returned.
    """
    rows = _walk({key: value for key, value in meta.items() if key != "packages"})
    return list(islice(rows, MOST_ROWS + 1))


def links_in(rows: list[MetadataRow]) -> list[tuple[str, str]]:
    """Find the URLs in the values; return each once, with the first key that has it."""
    found: dict[str, str] = {}
    for row in rows:
        for url, _ in _urls(row.text or "", row.key):
            found.setdefault(url, row.key)
    return [(key, url) for url, key in found.items()]


def linked(text: str, key: str = "") -> Markup:
    """Turn the http and https URLs in the text of a key into links; everything else is escaped."""
    made, end = Markup(), 0
    for url, start in _urls(text, key):
        made += escape(text[end:start]) + link_markup(url)
        end = start + len(url)
    return made + escape(text[end:])


def _walk(meta: Mapping[str, Any]) -> Iterator[MetadataRow]:
    """Yield rows, without recursion: metadata may be nested deeper than Python can recurse."""
    stack: list[Iterator[tuple[str, Any]]] = [iter(meta.items())]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        key, value = entry
        depth = min(len(stack) - 1, DEEPEST)
        if isinstance(value, dict) and value:
            yield MetadataRow(depth, key, None)
            stack.append(iter(value.items()))
        else:
            yield MetadataRow(depth, key, _text_of(value))


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else _json_of(value)


def _json_of(value: Any) -> str:
    """Write JSON, with the digits of numbers as they were sent, also of those in lists."""
    if isinstance(value, SentNumber):
        return value.text
    if isinstance(value, list):
        return f"[{', '.join(map(_json_of, value))}]"
    if isinstance(value, dict):
        items = (f"{json.dumps(key, ensure_ascii=False)}: {_json_of(value[key])}" for key in value)
        return f"{{{', '.join(items)}}}"
    return json.dumps(value, ensure_ascii=False)


def _urls(text: str, key: str) -> Iterator[tuple[str, int]]:
    """Find the URLs in the text of a key, and where they start."""
    is_address = key in FIELD_SOURCES[RUN_URL]
    if is_address or len(text.split()) == 1:
        url = text if is_address else text.rstrip(_TAIL)
        if link_text(url) is not None:
            yield url, 0
            return
    for match in _URL.finditer(text):
        url = match[0].rstrip(_TAIL)
        if link_text(url) is not None:
            yield url, match.start()
