"""Tasks, handlers and dashboards: as files hold them, and as servers do."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

import yaml

from squash_api.generate.files import MARK

Kind = Literal["task", "handler", "dashboard"]

TOPICS = "metrics*"
"""The pattern of the topics that are ours alone to name."""

_KIND_OF: Mapping[str, Kind] = {".tick": "task", ".yaml": "handler", ".dashboard": "dashboard"}
# What Chronograf gives to a dashboard by itself; queryConfig is made from the query.
_GIVEN = frozenset({"id", "i", "links", "organization", "queryConfig", "generated"})

# Chronograf reads files, but no requests, as Go templates.
_QUOTED_BRACES = ("{{`{{`}}", "{{")


@dataclass(frozen=True, slots=True)
class Task:
    """A task of Kapacitor, with its TICKscript as it was given."""

    name: str
    script: str
    is_enabled: bool = True
    is_executing: bool = True
    error: str = ""
    kind: ClassVar[Kind] = "task"

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: it is called like a metric and its script has the mark."""
        return "." in self.name and MARK in self.script

    @property
    def trouble(self) -> str:
        """Why it raises no alerts; empty if it runs."""
        if self.is_executing:
            return ""
        return f"does not run: {self.error or 'stopped'}" if self.is_enabled else "disabled"

    def equals(self, other: Any) -> bool:
        """Tell whether another task does the same."""
        return isinstance(other, Task) and self.script.strip() == other.script.strip()


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler of a topic of Kapacitor."""

    topic: str
    name: str
    kind_of_handler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    match: str = ""
    kind: ClassVar[Kind] = "handler"

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: it is called after its topic and its kind."""
        return self.name == f"{self.topic}-{self.kind_of_handler}"

    @property
    def trouble(self) -> str:
        """Why it does not work: Kapacitor does not say."""
        return ""

    def equals(self, other: Any) -> bool:
        """Tell whether another handler does the same."""
        return isinstance(other, Handler) and (
            (self.kind_of_handler, dict(self.options), self.match)
            == (other.kind_of_handler, dict(other.options), other.match)
        )


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard of Chronograf; `id` is the server's, or that of the file it was read from."""

    name: str
    id: str
    document: Mapping[str, Any]
    kind: ClassVar[Kind] = "dashboard"

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: a note or a description in it has the mark."""
        return MARK in json.dumps(self.document)

    @property
    def trouble(self) -> str:
        """Why it does not work: Chronograf does not say."""
        return ""

    def equals(self, other: Any) -> bool:
        """Tell whether another dashboard shows all that this one says.

        A server adds keys to it, and writes notes with HTML entities.
        """
        return isinstance(other, Dashboard) and _covers(self.document, other.document)


LiveObject = Task | Handler | Dashboard
Key = tuple[Kind, str]


def key_of(thing: LiveObject) -> Key:
    """Return the kind and the name by which an object is found on every side."""
    if isinstance(thing, Handler):
        return thing.kind, f"{thing.topic}/{thing.name}"
    return thing.kind, thing.name


def kind_of_file(path: str) -> Kind | None:
    """Return what a file of the generated folders holds; None for Chronograf's connections."""
    return _KIND_OF.get(PurePosixPath(path).suffix)


def object_in(path: str, text: str) -> LiveObject | None:
    """Return what a file holds; None if it cannot be read, or is of none of the three kinds."""
    kind = kind_of_file(path)
    if kind is None:
        return None
    if kind == "task":
        return Task(PurePosixPath(path).stem, text)
    try:
        document = (
            yaml.safe_load(text) if kind == "handler" else json.loads(text.replace(*_QUOTED_BRACES))
        )
        if kind == "dashboard":
            return Dashboard(document["name"], str(document["id"]), document)
        return Handler(
            topic=document["topic"],
            name=document["id"],
            kind_of_handler=document["kind"],
            options=document.get("options") or {},
            match=document.get("match") or "",
        )
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError):
        return None


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
