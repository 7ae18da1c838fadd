"""A running Chronograf: reading and changing its dashboards."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from squash_api.generate.output import MARK
from squash_api.generate.servers import Server, ServerError, Thing

_DASHBOARDS = "/chronograf/v1/dashboards"
# A server assigns id and organization itself, and does not know the mark of a file.
_NOT_SENT = ("id", "organization", "generated")
# What Chronograf itself adds to a dashboard; queryConfig is made from the query.
_GIVEN = frozenset({"id", "i", "links", "organization", "queryConfig", "generated"})
# Chronograf reads files as Go templates, but not requests.
_QUOTED_BRACES = ("{{`{{`}}", "{{")


@dataclass(frozen=True, slots=True)
class Dashboard(Thing):
    """A dashboard of Chronograf; `id` is the server's or the file's."""

    kind: ClassVar[str] = "dashboard"
    name: str
    id: str
    document: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: it contains the mark."""
        return MARK in json.dumps(self.document)

    def equals(self, other: Any) -> bool:
        """Return whether another dashboard has all that this one has.

        Servers add keys, and write notes with HTML entities.
        """
        return isinstance(other, Dashboard) and _covers(self.document, other.document)

    def rank(self, ours: Any, /) -> tuple[Any, ...]:
        """Put the one that the server reads from our file first, else the oldest."""
        return (not self.is_of_file(ours), int(self.id) if self.id.isdecimal() else 0, self.id)

    def is_of_file(self, ours: Any) -> bool:
        """Return whether the server reads it from our file: stored ones have other ids."""
        return isinstance(ours, Dashboard) and ours.id == self.id


class Chronograf(Server):
    """A running Chronograf."""

    what = "Chronograf"
    probe = _DASHBOARDS

    @staticmethod
    def read(_kind: str, _stem: str, text: str, /) -> Thing:
        """Return the dashboard in a file."""
        document = json.loads(text.replace(*_QUOTED_BRACES))
        return Dashboard(document["name"], str(document["id"]), document)

    def things(self) -> list[Thing]:
        """Return all dashboards."""
        return [*self.dashboards()]

    def dashboards(self) -> list[Dashboard]:
        """Return all dashboards, including those that are not ours."""
        found = self.call("GET", _DASHBOARDS)
        return [
            Dashboard(str(item.get("name") or ""), str(item["id"]), item)
            for item in found.get("dashboards") or []
        ]

    def put(self, thing: Thing, there: Thing | None) -> None:
        """Create a dashboard under an id of the server, or replace the content of one."""
        if not isinstance(thing, Dashboard):
            return
        document = {key: value for key, value in thing.document.items() if key not in _NOT_SENT}
        if not isinstance(there, Dashboard):
            self.call("POST", _DASHBOARDS, document=document)
        elif there.is_of_file(thing):
            raise ServerError(
                "the server reads it from a file: update that in its resources directory"
            )
        else:
            self.call("PUT", _path(there), document=document)

    def remove(self, thing: Thing) -> None:
        """Remove a dashboard; fails if the server reads it from a file."""
        if isinstance(thing, Dashboard):
            self.call("DELETE", _path(thing))
            # The server itself reports success.
            if any(other.id == thing.id for other in self.dashboards()):
                raise ServerError(
                    "the server reads it from a file: remove that from its resources directory"
                )


def _path(dashboard: Dashboard) -> str:
    return f"{_DASHBOARDS}/{quote(dashboard.id, safe='')}"


def _covers(ours: Any, theirs: Any) -> bool:
    """Return whether theirs has all that ours has."""
    if ours in (None, [], {}):
        return theirs in (None, [], {})
    if isinstance(ours, Mapping):
        return isinstance(theirs, Mapping) and all(
            _covers(value, theirs.get(key)) for key, value in ours.items() if key not in _GIVEN
        )
    if isinstance(ours, list):
        is_as_long = isinstance(theirs, list) and len(ours) == len(theirs)
        return is_as_long and all(map(_covers, ours, theirs))
    if isinstance(ours, str):
        return isinstance(theirs, str) and html.unescape(ours) == html.unescape(theirs)
    return bool(ours == theirs)
