"""A running Chronograf: reading and changing its dashboards."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, ClassVar
from urllib.parse import quote

from squash_api.generate.output import MARK
from squash_api.generate.servers import Server, ServerError, Thing, covers

_DASHBOARDS = "/chronograf/v1/dashboards"
_SOURCES = "/chronograf/v1/sources"
# A tag of our annotations.
_OUR_TAG = "squash"
# Times of InfluxDB end in 2262.
_END_NS = 2**63 - 1
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
        return isinstance(other, Dashboard) and covers(self.document, other.document, given=_GIVEN)

    def rank(self, ours: Any, /) -> tuple[Any, ...]:
        """Put the one that the server reads from our file first, else the oldest."""
        return (not self.is_of_file(ours), int(self.id) if self.id.isdecimal() else 0, self.id)

    def is_of_file(self, ours: Any) -> bool:
        """Return whether the server reads it from our file: stored ones have other ids."""
        return isinstance(ours, Dashboard) and ours.id == self.id


@dataclass(frozen=True, slots=True)
class Annotation:
    """What changed in the code with a run; times are in ns, and `key` is kept as a tag of it."""

    time_ns: int
    text: str
    pipeline: str | None
    run_id: str

    @property
    def key(self) -> str:
        """What tells it from others, in letters that no tag can lose."""
        name = json.dumps([self.pipeline, self.run_id])
        return sha256(name.encode()).hexdigest()[:16]


class Chronograf(Server):
    """A running Chronograf."""

    what = "Chronograf"
    probe = _DASHBOARDS

    @staticmethod
    def read(_kinds: Sequence[str], _stem: str, text: str, /) -> Sequence[Thing]:
        """Return the dashboard in a file."""
        document = json.loads(text.replace(*_QUOTED_BRACES))
        return [Dashboard(document["name"], str(document["id"]), document)]

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

    def annotations(self, *, since_ns: int) -> set[str]:
        """Return the keys of our annotations since a time."""
        span = {"since": _moment(since_ns), "until": _moment(_END_NS)}
        found = self.call("GET", f"{self._source()}/annotations", params=span)
        tags = [item.get("tags") or {} for item in found.get("annotations") or []]
        return {item[_OUR_TAG] for item in tags if _OUR_TAG in item}

    def annotate(self, item: Annotation) -> None:
        """Add an annotation.

        Chronograf keeps it in InfluxDB, in the database `chronograf` of the source.
        """
        tags = {_OUR_TAG: item.key, **({"pipeline": item.pipeline} if item.pipeline else {})}
        moment = _moment(item.time_ns)
        document = {"startTime": moment, "endTime": moment, "text": item.text, "tags": tags}
        self.call("POST", f"{self._source()}/annotations", document=document)

    def _source(self) -> str:
        """Return the path of the InfluxDB that dashboards show: the default one."""
        sources = self.call("GET", _SOURCES).get("sources") or []
        if not sources:
            raise ServerError("it has no InfluxDB: add one as a connection")
        chosen = next((item for item in sources if item.get("default")), sources[0])
        return f"{_SOURCES}/{quote(str(chosen['id']), safe='')}"

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


def _moment(time_ns: int) -> str:
    """Return a time as Go reads it, to the millisecond."""
    moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns // 10**6 % 1000:03}Z"


def _path(dashboard: Dashboard) -> str:
    return f"{_DASHBOARDS}/{quote(dashboard.id, safe='')}"
