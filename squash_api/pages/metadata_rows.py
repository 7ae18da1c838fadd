"""A job's metadata as rows that can be read, and the links in it. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from squash_api.pages.rendering import link_markup
from squash_api.schema.text import is_link

MOST_ROWS = 1000
"""Of more metadata the rest is left to the JSON of the job."""

DEEPEST = 6
"""Deeper objects are written no further to the right."""

_LONG = 300
_URL = re.compile(r"https?://[^\s<>\"'`\\^{|}\[\]]+", re.IGNORECASE)
# These are rather of the sentence that an address stands in.
_TAIL = ".,;:!?)"


@dataclass(frozen=True, slots=True)
class MetadataRow:
    """A key of the metadata at a depth, and its value as text; None if it holds the next rows."""

    depth: int
    key: str
    text: str | None

    @property
    def is_long(self) -> bool:
        """Whether the text had better be folded."""
        return self.text is not None and len(self.text) > _LONG


def metadata_rows(meta: Mapping[str, Any]) -> list[MetadataRow]:
    """Return the metadata but for the packages, objects before what is in them, in their order.

    One more row than `MOST_ROWS` says that there are more.
    """
    found: list[MetadataRow] = []
    for row in _walk({key: value for key, value in meta.items() if key != "packages"}):
        found.append(row)
        if len(found) > MOST_ROWS:
            break
    return found


def links_in(rows: list[MetadataRow]) -> list[tuple[str, str]]:
    """Return the addresses in the values, each once, with the key that it was found under first."""
    found: dict[str, str] = {}
    for row in rows:
        for url in _urls(row.text or ""):
            found.setdefault(url, row.key)
    return [(key, url) for url, key in found.items()]


def linked(text: str) -> Markup:
    """Return a text with the addresses of http and https in it as links; all else is escaped."""
    made, end = Markup(), 0
    for match in _URL.finditer(text):
        url = _trimmed(match[0])
        if is_link(url):
            made += escape(text[end : match.start()])
            made += link_markup(url)
            end = match.start() + len(url)
    return made + escape(text[end:])


def _walk(meta: Mapping[str, Any]) -> Iterator[MetadataRow]:
    """Yield rows, without recursion: metadata may be nested deeper than Python may call."""
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
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield MetadataRow(depth, key, text)


def _urls(text: str) -> Iterator[str]:
    for match in _URL.finditer(text):
        url = _trimmed(match[0])
        if is_link(url):
            yield url


def _trimmed(url: str) -> str:
    return url.rstrip(_TAIL)
