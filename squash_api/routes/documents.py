"""The project's own documentation, `docs/*.md`, as an installed service has it, by section."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# A link to `docs/` in the repository; an installed package has the files here.
FOLDER = Path(__file__).parents[1] / "pages" / "documents"

_FIRST = "quickstart"
_HEADING = re.compile(r"^(#{1,4}) +(.*?)\s*$")
_FENCE = "```"
_LINK = re.compile(r"\[([^\]]*)\]\([^)\s]*\)")
_MARKS = re.compile(r"`|\*\*|^\s*[|>#-]+|\|", re.MULTILINE)
_RULE = re.compile(r"^\|[-| :]+\|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """What stands below a heading, up to the next one; the first section has the document's title.

    `depth` is that of the heading, from 1. `text` is Markdown.
    """

    document: str
    title: str
    anchor: str
    depth: int
    text: str

    @property
    def address(self) -> str:
        """Its address below the public root."""
        # The page of the API is this document, with what the code adds to it.
        path = "/docs" if self.document == API else f"/docs/{self.document}"
        return path if self.depth == 1 else f"{path}#{self.anchor}"

    @property
    def plain(self) -> str:
        """Its text without the signs of Markdown, in one line."""
        text = _MARKS.sub(" ", _LINK.sub(r"\1", _RULE.sub("", self.text)))
        return " ".join(text.split())


API = "http-api"
"""The document that describes the HTTP API, a section for each route."""


@lru_cache(maxsize=1)
def documents() -> dict[str, tuple[Section, ...]]:
    """Read all documents: their sections by the name of the document, the first one to read first.

    None if the package was installed without them.
    """
    paths = sorted(FOLDER.glob("*.md"), key=lambda path: (path.stem != _FIRST, path.stem))
    return {
        path.stem: tuple(_sections(path.stem, path.read_text(encoding="utf-8"))) for path in paths
    }


def anchor_of(heading: str) -> str:
    """Return the anchor of a heading, spelled as GitHub does."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _sections(document: str, text: str) -> Iterator[Section]:
    title, depth = document, 1
    lines: list[str] = []
    is_code = False
    for line in text.splitlines():
        is_code ^= line.startswith(_FENCE)
        heading = None if is_code else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        if lines:
            yield Section(document, title, anchor_of(title), depth, "\n".join(lines))
        lines = []
        title, depth = heading[2], len(heading[1])
    yield Section(document, title, anchor_of(title), depth, "\n".join(lines))
