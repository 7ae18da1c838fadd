"""Choosing between the two answers of a URL: the page for people or the JSON for programs.

A part of a path may be any text, `{name:text}`.
"""

from urllib.parse import parse_qs

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.routing import Match, Route
from starlette.types import Scope

_NAMES = {"text/html": 2, "text/*": 1, "application/json": 2, "application/*": 1, "*/*": 0}


class _TextConvertor(PathConvertor):
    """The rest of a path, whatever it is: starlette's own `path` ends before a line break."""

    regex = "(?s:.*)"


register_url_convertor("text", _TextConvertor())


def prefers_html(accept: str | None) -> bool:
    """Return whether an Accept header ranks HTML above JSON.

    `*/*`, no header, and what clients of the original send (`version=1.0`) mean JSON.
    """
    accept = (accept or "").lower()
    if "html" not in accept:
        return False
    html, json = _Rank(), _Rank()
    for part in accept.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name not in _NAMES:
            continue
        weight = _weight(parameters)
        if name.startswith("text/"):
            html.take(_NAMES[name], weight)
        elif name == "*/*":
            html.take(0, weight)
            json.take(0, weight)
        else:
            json.take(_NAMES[name], weight)
    return html.weight > json.weight


class _Rank:
    """The weight of a media type: that of the most precise range that includes it."""

    def __init__(self) -> None:
        self.weight = 0.0
        self._precision = -1

    def take(self, precision: int, weight: float) -> None:
        if precision > self._precision:
            self.weight, self._precision = weight, precision


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


class PageRoute(Route):
    """A route for those who prefer HTML; all others are left to the route of the API.

    A `format` in the query overrides the header, since a page may link to a file.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match GET requests for HTML, and name the route under which requests are counted."""
        match, child = super().matches(scope)
        if match is not Match.FULL or not means_html(scope):
            return Match.NONE, {}
        return match, {**child, "route": self}


def means_html(scope: Scope) -> bool:
    """Return whether a request is for a page, by its Accept header or its `format`."""
    query = scope["query_string"]
    asked = parse_qs(query.decode("latin-1")).get("format") if query else None
    return asked[0] == "html" if asked else prefers_html(_accept(scope))


def _accept(scope: Scope) -> str | None:
    values = [value for key, value in scope["headers"] if key == b"accept"]
    return b",".join(values).decode("latin-1") if values else None
