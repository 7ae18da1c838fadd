"""The alerting of a Grafana as its documentation says, for `FakeGrafana`.

Page "Alerting Provisioning HTTP API", version 11.6. What it adds by itself is what answers in
issues of Grafana and of its Terraform provider show.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

REDACTED = "[REDACTED]"
_UPDATED = "2026-11-28T10:00:00Z"

Answer = tuple[int, Any]


class FakeAlerting:
    """Keeps rules by uid, contact points by uid, and the rest by name; `tree` has the policies."""

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, Any]] = {}
        self.intervals: dict[tuple[str, str], int] = {}
        self.points: dict[str, dict[str, Any]] = {
            "": {"uid": "", "name": "grafana-default-email", "type": "email", "settings": {}}
        }
        self.mutes: dict[str, dict[str, Any]] = {}
        self.templates: dict[str, dict[str, Any]] = {}
        self.tree: dict[str, Any] = {"receiver": "grafana-default-email", "group_by": ["alertname"]}

    def answer(self, method: str, parts: list[str], body: Any, headers: httpx.Headers) -> Answer:
        """Answer a request for what is below `/api/v1/provisioning`."""
        provenance = "" if "X-Disable-Provenance" in headers else "api"
        match method, parts:
            case "GET", ["alert-rules"]:
                return 200, [*self.rules.values()]
            case "DELETE", ["alert-rules", uid] if uid in self.rules:
                return self._delete(self.rules, uid)
            case _, ["folder", folder, "rule-groups", group]:
                return self._group(method, (folder, group), body, provenance)
            case _, ["policies"]:
                return self._policies(method, body, provenance)
            case _, ["templates", *rest]:
                return self._template(method, rest, body, provenance)
            case _, ["contact-points", *rest]:
                return self._point(method, rest, body, provenance)
            case _, ["mute-timings", *rest]:
                return self._mute(method, rest, body, provenance)
            case _:
                return 404, {"message": "Not found"}

    def _group(self, method: str, key: tuple[str, str], body: Any, provenance: str) -> Answer:
        folder, name = key
        there = {
            uid: rule
            for uid, rule in self.rules.items()
            if (rule["folderUID"], rule["ruleGroup"]) == key
        }
        if method == "GET":
            if not there:
                return 404, {"message": "rule group not found"}
            group = {"title": name, "folderUid": folder, "interval": self.intervals.get(key, 60)}
            return 200, copy.deepcopy({**group, "rules": [*there.values()]})
        if any(rule["provenance"] not in ("", "api") for rule in there.values()):
            return 409, {"message": "cannot change provenance from 'file' to 'api'"}
        titles = [rule["title"] for rule in body["rules"]]
        if len(set(titles)) < len(titles):
            return 400, {"message": "rule title under the same organisation and folder"}
        for uid in there:
            del self.rules[uid]
        for rule in copy.deepcopy(body["rules"]):
            assert (rule["folderUID"], rule["ruleGroup"]) == key
            for item in rule["data"]:
                item["queryType"] = ""
                item["model"] |= {"intervalMs": 1000, "maxDataPoints": 43200}
            added = {"id": len(self.rules) + 1, "updated": _UPDATED, "provenance": provenance}
            self.rules[rule["uid"]] = {**rule, **added}
        self.intervals[key] = body["interval"]
        return 200, body

    def _policies(self, method: str, body: Any, provenance: str) -> Answer:
        if method == "GET":
            return 200, copy.deepcopy(self.tree)
        if self.tree.get("provenance", "") not in ("", provenance):
            return 409, {"message": "cannot change provenance"}
        receivers = {point["name"] for point in self.points.values()}
        for route in _routes(body):
            if route.get("receiver", body["receiver"]) not in receivers:
                return 400, {"message": f"receiver '{route['receiver']}' does not exist"}
            if not set(route.get("mute_time_intervals", [])) <= self.mutes.keys():
                return 400, {"message": "mute time interval does not exist"}
        self.tree = {**copy.deepcopy(body), **({"provenance": provenance} if provenance else {})}
        return 202, {"message": "policies updated"}

    def _template(self, method: str, rest: list[str], body: Any, provenance: str) -> Answer:
        match method, rest:
            case "GET", []:
                found = [*self.templates.values()]
                return (200, found) if found else (404, {"message": "Not found"})
            case "PUT", [name]:
                text = body["template"].strip()
                self.templates[name] = {"name": name, "template": text, "provenance": provenance}
                return 202, self.templates[name]
            case "DELETE", [name] if name in self.templates:
                return self._delete(self.templates, name)
        return 404, {"message": "Not found"}

    def _point(self, method: str, rest: list[str], body: Any, provenance: str) -> Answer:
        match method, rest:
            case "GET", []:
                return 200, [_redacted(point) for point in self.points.values()]
            case "POST", [] if body["uid"] in self.points:
                return 409, {"message": "receiver with the same uid exists"}
            case ("POST", []) | ("PUT", [_]):
                if not body["settings"]["url"].startswith("https://"):
                    return 400, {"msg": "token must be specified when using the Slack chat API"}
                self.points[body["uid"]] = {**copy.deepcopy(body), "provenance": provenance}
                return 202, _redacted(body)
            case "DELETE", [uid] if uid in self.points:
                name = self.points[uid]["name"]
                if any(route.get("receiver") == name for route in _routes(self.tree)):
                    return 409, {"message": f"contact point {name} is used by policies"}
                return self._delete(self.points, uid)
        return 404, {"message": "Not found"}

    def _mute(self, method: str, rest: list[str], body: Any, provenance: str) -> Answer:
        match method, rest:
            case "GET", []:
                return 200, [*self.mutes.values()]
            case "POST", [] if body["name"] in self.mutes:
                return 400, {"message": "time interval with this name exists"}
            case ("POST", []) | ("PUT", [_]):
                spans = [
                    {key: _shortest(value) for key, value in span.items()}
                    for span in body["time_intervals"]
                ]
                self.mutes[body["name"]] = {
                    "name": body["name"],
                    "time_intervals": spans,
                    "provenance": provenance,
                }
                return 201, body
            case "DELETE", [name] if name in self.mutes:
                if any(name in r.get("mute_time_intervals", []) for r in _routes(self.tree)):
                    return 409, {"message": f"{name} is used by policies"}
                return self._delete(self.mutes, name)
        return 404, {"message": "Not found"}

    def _delete(self, kept: dict[str, dict[str, Any]], key: str) -> Answer:
        if kept[key].get("provenance") not in ("", "api", None):
            return 409, {"message": "cannot delete what was provisioned from a file"}
        del kept[key]
        return 204, None


def _routes(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield tree
    for route in tree.get("routes") or ():
        yield from _routes(route)


def _redacted(point: Mapping[str, Any]) -> dict[str, Any]:
    settings = point["settings"]
    return {**point, "settings": {**settings, **({"url": REDACTED} if "url" in settings else {})}}


def _shortest(value: Any) -> Any:
    """Return ranges as Prometheus writes them: one number where both ends are the same."""
    if isinstance(value, str):
        return value
    return [item.split(":")[0] if len(set(item.split(":"))) == 1 else item for item in value]
