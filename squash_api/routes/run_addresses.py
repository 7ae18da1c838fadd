"""The address of a run, whatever it and its pipeline are called. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from squash_api.storable import tag_text

_NO_PIPELINE = "-"
_DOTS = frozenset({".", ".."})
_START = "/runs/"


def run_path(pipeline: str | None, run_id: str) -> str:
    """Return the path of a run, below the public root.

    Both names are quoted. `-` stands for no pipeline. Browsers would take a name of dots for a
    folder, so that one, and one that begins with `-`, has another `-` in front.
    """
    first = _NO_PIPELINE if pipeline is None else _segment(pipeline)
    return f"{_START}{first}/{_segment(run_id)}"


def readings_of(scope: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """Return the pipelines and runs that the address of a request may mean, the likeliest first.

    A server on the way may have undone the quoting of slashes: then every slash may be the one
    between both names.
    """
    raw = bytes(scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace")
    quoted = raw[raw.find(_START) + len(_START) :].split("/") if _START in raw else []
    found = []
    if len(quoted) == 2:
        found.append((unquote(quoted[0]), unquote(quoted[1])))
    parts = str(scope["path"]).removeprefix(_START).split("/")
    found.extend(
        ("/".join(parts[:index]), "/".join(parts[index:])) for index in range(1, len(parts))
    )
    return list(dict.fromkeys((_pipeline_of(first), _name_of(last)) for first, last in found))


def _segment(name: str) -> str:
    guarded = f"-{name}" if name in _DOTS or name.startswith("-") else name
    return quote(guarded, safe="")


def _name_of(segment: str) -> str:
    """Return a name as the record keeps what jobs call it."""
    return tag_text(segment.removeprefix("-")) or ""


def _pipeline_of(segment: str) -> str | None:
    return None if segment == _NO_PIPELINE else _name_of(segment)
