"""A running Chronograf: its dashboards, and how they are changed."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from squash_api.generate.output import MARK
from squash_api.generate.servers import Server, ServerError, Thing

_DASHBOARDS = "/chronograf/v1/dashboards"
# A server gives its own id and organization; the mark of a file means nothing to it.
_NOT_SENT = ("id", "organization", "generated")
# What Chronograf gives to a dashboard by itself; queryConfig is made from the query.
_GIVEN = frozenset({"id", "i", "links", "organization", "queryConfig", "generated"})
# Chronograf reads files, but no requests, as Go templates.
_QUOTED_BRACES = ("{{`{{`}}", "{{")


@dataclass(frozen=True, slots=True)
class Dashboard(Thing):
    """A dashboard of Chronograf; `id` is the server's, or that of the file it was read from."""

    kind: ClassVar[str] = "dashboard"
    name: str
    id: str
    document: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: a note or a description in it has the mark."""
        return MARK in json.dumps(self.document)

    def equals(self, other: Any) -> bool:
        """Tell whether another dashboard shows all that this one says.

        A server adds keys to it, and writes notes with HTML entities.
        """
        return isinstance(other, Dashboard) and _covers(self.document, other.document)

    def rank(self, ours: Any, /) -> tuple[Any, ...]:
        """Return what puts the one of our file first, if the server reads files, else the oldest.

        A server that stores a dashboard gives it an id of its own.
        """
        return (not self.is_of_file(ours), int(self.id) if self.id.isdecimal() else 0, self.id)

    def is_of_file(self, ours: Any) -> bool:
        """Tell whether a server has read it from our file."""
        return isinstance(ours, Dashboard) and ours.id == self.id


class Chronograf(Server):
    """One Chronograf, known to be one."""

    what = "Chronograf"
    probe = _DASHBOARDS

    @staticmethod
    def read(_kind: str, _stem: str, text: str, /) -> Thing:
        """Return the dashboard that a file holds."""
        document = json.loads(text.replace(*_QUOTED_BRACES))
        return Dashboard(document["name"], str(document["id"]), document)

    def things(self) -> list[Thing]:
        """Return all dashboards."""
        return [*self.dashboards()]

    def dashboards(self) -> list[Dashboard]:
        """Return all dashboards, those too that are not ours."""
        found = self.call("GET", _DASHBOARDS)
        return [
            Dashboard(str(item.get("name") or ""), str(item["id"]), item)
            for item in found.get("dashboards") or []
        ]

    def put(self, thing: Thing, there: Thing | None) -> None:
        """Make a dashboard under an id of the server's own, or give one another content."""
        if not isinstance(thing, Dashboard):
            return
        document = {key: value for key, value in thing.document.items() if key not in _NOT_SENT}
        if not isinstance(there, Dashboard):
            self.call("POST", _DASHBOARDS, document=document)
        elif there.is_of_file(thing):
            raise ServerError(
                "the server reads it from a file: update its folder of resources instead"
            )
        else:
            self.call("PUT", _path(there), document=document)

    def remove(self, thing: Thing) -> None:
        """Remove a dashboard; one that the server reads from a file stays, and that is told."""
        if isinstance(thing, Dashboard):
            self.call("DELETE", _path(thing))
            # The server does not say so.
            if any(other.id == thing.id for other in self.dashboards()):
                raise ServerError("the server reads it from a file: remove that from its folder")


def _path(dashboard: Dashboard) -> str:
    return f"{_DASHBOARDS}/{quote(dashboard.id, safe='')}"


def _covers(ours: Any, theirs: Any) -> bool:
    """Tell whether all that is said in ours is said in theirs."""
    if ours in (None, [], {}):
        return theirs in (None, [], {})
    if isinstance(ours, Mapping):
        return isinstance(theirs, Mapping) and all(
            _covers(value, theirs.get(key)) for key, value in ours.items() if key not in _GIVEN
        )
    if isinstance(ours, list):
        return (
            isinstance(theirs, list)
            and len(ours) == len(theirs)
            and all(map(_covers, ours, theirs))
        )
    if isinstance(ours, str):
        return isinstance(theirs, str) and html.unescape(ours) == html.unescape(theirs)
    return bool(ours == theirs)
