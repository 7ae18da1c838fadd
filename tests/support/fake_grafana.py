"""A Grafana's HTTP API as its documentation of version 11.6 says, where a real one cannot be had.

Pages: "Dashboard", "Folder", "Folder/Dashboard Search", "Data source" and "Other" (health).
"""

import copy
import json
from typing import Any

import httpx

from tests.support.fake_grafana_alerting import FakeAlerting

TOKEN = "glsa_dummy"
_UNKNOWN = {"message": "Not found"}


class FakeGrafana:
    """Keeps dashboards, folders and `alerting`.

    Use it as `httpx.MockTransport(fake)` or in an `HttpServer`.
    Dashboards whose uids are in `of_files` were provisioned.
    """

    def __init__(self, *, version: str = "11.6.0") -> None:
        self.version = version
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.folders: dict[str, dict[str, Any]] = {}
        self.folder_of: dict[str, str] = {}
        self.sources: dict[str, dict[str, Any]] = {}
        self.of_files: set[str] = set()
        self.is_admin = True
        self.requests: list[tuple[str, str]] = []
        self.sent: list[tuple[str, Any]] = []
        """What was written, body by path."""
        self.refused: set[str] = set()
        """The paths that answer that something is wrong with the server."""
        self.alerting = FakeAlerting()
        self._last_id = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.requests.append((request.method, request.url.path))
        if request.url.path == "/api/health":
            body = {"commit": "0", "database": "ok"}
            return httpx.Response(
                200, json={**body, "version": self.version} if self.version else body
            )
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return httpx.Response(401, json={"message": "Unauthorized"})
        if request.method in ("POST", "PUT"):
            self.sent.append((request.url.path, json.loads(request.read())))
        if request.method != "GET" and request.url.path in self.refused:
            return httpx.Response(500, json={"message": "Internal Server Error"})
        status, body_ = self._answer(request)
        return httpx.Response(204) if status == 204 else httpx.Response(status, json=body_)

    def _answer(self, request: httpx.Request) -> tuple[int, Any]:
        parts = request.url.path.strip("/").split("/")[1:]
        match request.method, parts:
            case method, ["v1", "provisioning", *rest]:
                body = json.loads(request.read() or b"null")
                return self.alerting.answer(method, rest, body, request.headers)
            case "GET", ["search"]:
                return 200, self._search(request.url.params)
            case _, ["folders", *rest]:
                return self._folder(request, rest)
            case "GET", ["dashboards", "uid", uid] if uid in self.dashboards:
                meta = {"provisioned": uid in self.of_files, "folderUid": self.folder_of.get(uid)}
                return 200, {"dashboard": self.dashboards[uid], "meta": meta}
            case "DELETE", ["dashboards", "uid", uid] if uid in self.dashboards:
                if uid in self.of_files:
                    return 400, {"message": "provisioned dashboard cannot be deleted"}
                title = self.dashboards.pop(uid)["title"]
                return 200, {"message": f"Dashboard {title} deleted", "title": title}
            case "POST", ["dashboards", "db"]:
                return self._save(json.loads(request.read()))
            case "GET", ["datasources", *_] if not self.is_admin:
                return 403, {"message": "You'll need additional permissions"}
            case "GET", ["datasources", "uid", uid] if uid in self.sources:
                return 200, self.sources[uid]
        return 404, _UNKNOWN

    def _search(self, params: httpx.QueryParams) -> list[dict[str, Any]]:
        if params["type"] == "dash-folder":
            return [item for item in self.folders.values() if params["query"] in item["title"]]
        assert params["type"] == "dash-db"
        return [
            {"uid": uid, "title": item["title"], "type": "dash-db"}
            for uid, item in self.dashboards.items()
            if params["tag"] in item.get("tags", [])
        ]

    def _folder(self, request: httpx.Request, rest: list[str]) -> tuple[int, Any]:
        match request.method, rest:
            case "GET", [uid] if uid in self.folders:
                return 200, self.folders[uid]
            case "POST", []:
                folder = json.loads(request.read())
                self.folders[folder["uid"]] = folder
                return 200, folder
            case _:
                return 404, _UNKNOWN

    def _save(self, body: dict[str, Any]) -> tuple[int, Any]:
        given = body["dashboard"]
        uid = given["uid"]
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        if uid in self.of_files:
            return 400, {"message": "Cannot save provisioned dashboard"}
        if not given.get("title"):
            return 400, {"message": "Dashboard title cannot be empty"}
        if uid in self.dashboards and not body.get("overwrite"):
            return 412, {"message": "The dashboard has been changed by someone else"}
        self._last_id += 1
        version = self.dashboards.get(uid, {}).get("version", 0) + 1
        added = {"id": self._last_id, "version": version, "fiscalYearStartMonth": 0}
        self.dashboards[uid] = {**copy.deepcopy(given), **added}
        self.folder_of[uid] = body["folderUid"]
        return 200, {"uid": uid, "status": "success", "version": version}
