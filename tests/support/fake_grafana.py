"""A Grafana's HTTP API as its documentation of version 11.6 says, where a real one cannot be had.

Pages: "Dashboard", "Folder", "Folder/Dashboard Search", "Data source" and "Other" (health).
"""

import copy
import json
from typing import Any

import httpx

TOKEN = "glsa_dummy"
_UNKNOWN = {"message": "Not found"}


class FakeGrafana:
    """Keeps dashboards and folders; use it as `httpx.MockTransport(fake)` or in an `HttpServer`.

    Dashboards whose uids are in `of_files` were provisioned.
    """

    def __init__(self, *, version: str = "11.6.0") -> None:
        self.version = version
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.folders: dict[str, dict[str, Any]] = {}
        self.folder_of: dict[str, str] = {}
        self.sources: dict[str, dict[str, Any]] = {}
        self.of_files: set[str] = set()
        self.requests: list[tuple[str, str]] = []
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
        status, body_ = self._answer(request)
        return httpx.Response(status, json=body_)

    def _answer(self, request: httpx.Request) -> tuple[int, Any]:
        parts = request.url.path.strip("/").split("/")[1:]
        match request.method, parts:
            case "GET", ["search"]:
                tag = request.url.params["tag"]
                assert request.url.params["type"] == "dash-db"
                return 200, [
                    {"uid": uid, "title": item["title"], "type": "dash-db"}
                    for uid, item in self.dashboards.items()
                    if tag in item.get("tags", [])
                ]
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
            case "GET", ["folders", uid] if uid in self.folders:
                return 200, self.folders[uid]
            case "POST", ["folders"]:
                folder = json.loads(request.read())
                self.folders[folder["uid"]] = folder
                return 200, folder
            case "GET", ["datasources", "uid", uid] if uid in self.sources:
                return 200, self.sources[uid]
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
