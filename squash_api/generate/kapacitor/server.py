"""A running Kapacitor: reading and changing its tasks and handlers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

import yaml

from squash_api.generate.output import MARK
from squash_api.generate.servers import Note, Server, ServerError, Thing, UnreachableError

TOPICS = "metrics*"
"""The pattern of the topics that only we use."""

_ROOT = "/kapacitor/v1"
_TASK_FIELDS = ("id", "script", "status", "executing", "error")


@dataclass(frozen=True, slots=True)
class Task(Thing):
    """A task of Kapacitor, with its TICKscript as written."""

    kind: ClassVar[str] = "task"
    name: str
    script: str
    is_enabled: bool = True
    is_executing: bool = True
    error: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: it has a name like a metric, and the mark in its script."""
        return "." in self.name and MARK in self.script

    @property
    def trouble(self) -> str:
        """Why it raises no alerts; empty if it runs."""
        if self.is_executing:
            return ""
        return f"does not run: {self.error or 'stopped'}" if self.is_enabled else "disabled"

    def equals(self, other: Any) -> bool:
        """Return whether another task does the same."""
        return isinstance(other, Task) and self.script.strip() == other.script.strip()

    @property
    def path(self) -> str:
        """Its path on the server."""
        return f"{_ROOT}/tasks/{quote(self.name)}"


@dataclass(frozen=True, slots=True)
class Handler(Thing):
    """A handler of a topic of Kapacitor."""

    kind: ClassVar[str] = "handler"
    topic: str
    name: str
    kind_of_handler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    match: str = ""

    @property
    def title(self) -> str:
        """The names of its topic and itself."""
        return f"{self.topic}/{self.name}"

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: its name consists of its topic and its kind."""
        return self.name == f"{self.topic}-{self.kind_of_handler}"

    def equals(self, other: Any) -> bool:
        """Return whether another handler does the same."""
        return isinstance(other, Handler) and (
            (self.kind_of_handler, dict(self.options), self.match)
            == (other.kind_of_handler, dict(other.options), other.match)
        )

    @property
    def path(self) -> str:
        """Its path on the server."""
        return f"{_handlers_path(self.topic)}/{quote(self.name)}"


class Kapacitor(Server):
    """A running Kapacitor."""

    what = "Kapacitor"
    probe = f"{_ROOT}/ping"

    @staticmethod
    def read(kinds: Sequence[str], stem: str, text: str, /) -> Sequence[Thing]:
        """Return the task or the handler in a file."""
        if Task.kind in kinds:
            return [Task(stem, text)]
        document = yaml.safe_load(text)
        return [_handler(document["topic"], document)]

    def things(self) -> list[Thing]:
        """Return all tasks, and the handlers of our topics."""
        return [*self.tasks(), *self.handlers()]

    def tasks(self) -> list[Task]:
        """Return all tasks, with their scripts as written."""
        params = {"fields": list(_TASK_FIELDS), "limit": "-1", "script-format": "raw"}
        found = self.call("GET", f"{_ROOT}/tasks", params=params)
        return [_task(document) for document in found.get("tasks") or []]

    def handlers(self) -> list[Handler]:
        """Return the handlers of our topics."""
        params = {"pattern": TOPICS}
        topics = self.call("GET", f"{_ROOT}/alerts/topics", params=params)
        found: list[Handler] = []
        for topic in topics.get("topics") or []:
            name = str(topic["id"])
            listed = self.call("GET", _handlers_path(name))
            found.extend(_handler(name, document) for document in listed.get("handlers") or [])
        return found

    def notes(self) -> list[Note]:
        """Say which InfluxDBs it subscribes to: what it gets from them it may get twice."""
        return [
            Note(
                f"Kapacitor at {self.place} subscribes to its InfluxDB {item.get('name')!r}. If "
                "the service writes to Kapacitor (SQUASH_KAPACITOR_URL), every value arrives "
                "twice, and old ones raise alerts",
                "set disable-subscriptions = true, restart Kapacitor, and drop its subscriptions "
                'in InfluxDB (SHOW SUBSCRIPTIONS, DROP SUBSCRIPTION "..." ON ...)',
                "subscription",
            )
            for item in self._options("influxdb")
            if item.get("enabled") and not item.get("disable-subscriptions")
        ]

    def is_mute(self) -> bool:
        """Return whether it is known to send nothing to Slack, as the generated handlers want."""
        options = self._options("slack")
        return bool(options) and not any(item.get("enabled") for item in options)

    def _options(self, section: str) -> list[dict[str, Any]]:
        """Return the options of each part of a section of its configuration."""
        try:
            found = self.call("GET", f"{_ROOT}/config/{section}")
        except ServerError:
            # The interface may be switched off.
            return []
        return [item.get("options") or {} for item in found.get("elements") or []]

    def put(self, thing: Thing, there: Thing | None) -> None:
        """Create or replace a handler, or a task, which must then run."""
        if isinstance(thing, Task):
            if isinstance(there, Task):
                self._update_task(there, thing.script)
            else:
                self._create_task(thing)
        elif isinstance(thing, Handler):
            document = {
                "id": thing.name,
                "kind": thing.kind_of_handler,
                "options": dict(thing.options),
                "match": thing.match,
            }
            if there is None:
                self.call("POST", _handlers_path(thing.topic), document=document)
            else:
                self.call("PUT", thing.path, document=document)

    def remove(self, thing: Thing) -> None:
        """Remove a task or a handler."""
        if isinstance(thing, Task | Handler):
            self.call("DELETE", thing.path)

    def _create_task(self, task: Task) -> None:
        """Create a task; one that does not start is removed again."""
        document = {"id": task.name, "type": "stream", "script": task.script, "status": "enabled"}
        try:
            _check(self.call("POST", f"{_ROOT}/tasks", document=document))
        except UnreachableError:
            raise
        except ServerError as error:
            # A script that fails at the start is stored; one that is refused (400) is not.
            if error.status_code != 400:
                self.remove(task)
            raise

    def _update_task(self, old: Task, script: str) -> None:
        """Replace the script of a task; if the new one does not run, restore the old one."""
        try:
            self._restart(old, script)
        except UnreachableError:
            raise
        except ServerError as error:
            try:
                self._restart(old, old.script)
            except UnreachableError:
                raise
            except ServerError as again:
                raise ServerError(
                    f"{error}; the previous script does not start either: {again}"
                ) from None
            raise

    def _restart(self, task: Task, script: str) -> None:
        # A new script runs only after the task was disabled and enabled again; enabling a failed
        # task does nothing, because it counts as enabled.
        self.call("PATCH", task.path, document={"script": script, "status": "disabled"})
        _check(self.call("PATCH", task.path, document={"status": "enabled"}))


def _check(document: Mapping[str, Any]) -> None:
    # The error of an earlier start stays while the task runs.
    if not document.get("executing"):
        raise ServerError(str(document.get("error") or "it does not run"))


def _task(document: Mapping[str, Any]) -> Task:
    return Task(
        name=str(document["id"]),
        script=str(document.get("script") or ""),
        is_enabled=document.get("status") == "enabled",
        is_executing=bool(document.get("executing")),
        error=str(document.get("error") or ""),
    )


def _handler(topic: str, document: Mapping[str, Any]) -> Handler:
    return Handler(
        topic=topic,
        name=str(document["id"]),
        kind_of_handler=str(document.get("kind") or ""),
        options=dict(document.get("options") or {}),
        match=str(document.get("match") or ""),
    )


def _handlers_path(topic: str) -> str:
    return f"{_ROOT}/alerts/topics/{quote(topic)}/handlers"
