"""A running Grafana: reading and changing its dashboards and its alerting.

Source: Grafana's documentation of its HTTP API, "Dashboard", "Folder", "Folder/Dashboard Search"
and "Health", version 11.6. Later versions answer at these paths too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

import httpx

from squash_api.generate.grafana.alerting_server import Alerting
from squash_api.generate.grafana.alerting_things import AlertingThing, things_of
from squash_api.generate.grafana.connections import FOLDER_TITLE, FOLDER_UID, SOURCE_UID
from squash_api.generate.output import MARK, read_yaml
from squash_api.generate.servers import Note, Server, ServerError, Thing, UnreachableError, covers

_MOST = 5000
_TAG = "squash"
# What a server counts or moves on by itself.
_GIVEN = frozenset({"id", "version", "schemaVersion", "generated"})


@dataclass(frozen=True, slots=True)
class GrafanaDashboard(Thing):
    """A dashboard of Grafana by its uid; one that `is_of_file` cannot be changed by requests."""

    kind: ClassVar[str] = "Grafana dashboard"
    name: str
    document: Mapping[str, Any]
    is_of_file: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: it says so."""
        return MARK in str(self.document.get("description"))

    def equals(self, other: Any) -> bool:
        """Return whether another dashboard has all that this one has; servers add defaults."""
        return isinstance(other, GrafanaDashboard) and covers(
            self.document, other.document, given=_GIVEN
        )


class Grafana(Server):
    """A running Grafana."""

    what = "Grafana"
    probe = "/api/health"
    access = "set SQUASH_GRAFANA_TOKEN to the token of a service account with the role Editor"

    @staticmethod
    def read(kinds: Sequence[str], _stem: str, text: str, /) -> Sequence[Thing]:
        """Return the dashboard in a file, or what alerting has of it."""
        if GrafanaDashboard.kind not in kinds:
            return [*things_of(read_yaml(text))]
        document = json.loads(text)
        return [GrafanaDashboard(document["uid"], document)]

    def things(self) -> list[Thing]:
        """Return the dashboards with the tag of ours and the alerting, also what is not ours."""
        params = {"type": "dash-db", "tag": _TAG, "limit": str(_MOST)}
        uids = [str(item["uid"]) for item in self.listed("/api/search", params=params)]
        found = [self._dashboard(uid) for uid in uids]
        dashboards = [item for item in found if item is not None]
        return [*Alerting(self).things(), *dashboards]

    def notes(self) -> list[Note]:
        """Say whether the data source of the dashboards is missing, as far as we may know it."""
        try:
            if self.get(f"/api/datasources/uid/{SOURCE_UID}") is not None:
                return []
        except UnreachableError:
            # Only an Admin may look at data sources.
            return []
        return [
            Note(
                f"Grafana at {self.place} has no data source of the uid {SOURCE_UID}, so its "
                "dashboards of SQuaSH are empty, and its alert rules fail",
                "mount grafana/provisioning, see docs/grafana.md",
                "generated-files",
            )
        ]

    def put(self, thing: Thing, there: Thing | None) -> None:
        """Create or replace something; a dashboard in the folder of ours."""
        if isinstance(thing, AlertingThing):
            Alerting(self).put(thing, there if isinstance(there, AlertingThing) else None)
        if not isinstance(thing, GrafanaDashboard):
            return
        _refuse_of_file(there, "update")
        if self.get(f"/api/folders/{FOLDER_UID}") is None:
            folder = {"uid": FOLDER_UID, "title": FOLDER_TITLE}
            self.call("POST", "/api/folders", document=folder)
        document = {key: value for key, value in thing.document.items() if key not in _GIVEN}
        document["schemaVersion"] = thing.document.get("schemaVersion")
        # There may be one of the same uid that is not seen, because it lacks the tag.
        body = {"dashboard": document, "folderUid": FOLDER_UID, "overwrite": True, "message": MARK}
        self.call("POST", "/api/dashboards/db", document=body)

    def remove(self, thing: Thing) -> None:
        """Remove something; fails if the server reads it from a file."""
        if isinstance(thing, AlertingThing):
            Alerting(self).remove(thing)
        _refuse_of_file(thing, "remove")
        if isinstance(thing, GrafanaDashboard):
            self.call("DELETE", _path(thing.name))

    def _dashboard(self, uid: str) -> GrafanaDashboard | None:
        found = self.get(_path(uid))
        # It may have been removed meanwhile.
        if found is None:
            return None
        is_of_file = bool((found.get("meta") or {}).get("provisioned"))
        return GrafanaDashboard(uid, found.get("dashboard") or {}, is_of_file)

    def _introduce(self) -> None:
        reply = self.send("GET", self.probe)
        try:
            body = reply.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or "database" not in body:
            raise self.is_no_such_server()
        # Grafana may be told to hide its version.
        version = str(body.get("version") or "")
        self.greeting = httpx.Headers({**reply.headers, f"X-{self.what}-Version": version})


def _refuse_of_file(thing: Thing | None, change: str) -> None:
    if isinstance(thing, GrafanaDashboard) and thing.is_of_file:
        raise ServerError(
            f"the server reads it from a file: {change} that in its folder of dashboards"
        )


def _path(uid: str) -> str:
    return f"/api/dashboards/uid/{quote(uid, safe='')}"
