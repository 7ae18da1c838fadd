"""Kapacitor as a receiver of points: it takes what InfluxDB takes, at an address of its own.

Written to directly, its tasks run without any InfluxDB. What it has taken is in its memory only.
"""

from typing import Any
from urllib.parse import quote

import httpx
import orjson

from squash_api.influx.client import (
    InfluxClient,
    InfluxError,
    InfluxMisconfiguredError,
    InfluxUnavailableError,
    query_error,
)
from squash_api.settings import InfluxTarget, KapacitorTarget

_TASK_FIELDS = ("id", "last-enabled", "modified", "executing")


class KapacitorClient(InfluxClient):
    """One Kapacitor; the parameters and errors are those of `InfluxClient`."""

    def __init__(
        self,
        target: KapacitorTarget,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float | None = None,
    ) -> None:
        place = InfluxTarget(
            name=target.name, url=f"{target.url}/kapacitor/v1", database=target.database
        )
        super().__init__(place, transport=transport, timeout_s=timeout_s)
        # Without the name of the retention policy it answers 204 too, and no task sees the point.
        self._write_to["rp"] = target.retention_policy

    def process(self) -> str | None:
        """Return what names the running process, another after a restart; None if unknown."""
        try:
            found = self._get("/debug/vars").get("kapacitor")
        except InfluxUnavailableError:
            raise
        except InfluxError:
            return None
        # The key of a statistic is made at the start of the process (measured on 1.5.7).
        names = [
            str(key)
            for key, item in (found.items() if isinstance(found, dict) else ())
            if isinstance(item, dict)
            and isinstance(tags := item.get("tags"), dict)
            and tags.get("task") == "task_master:main"
            and tags.get("parent") == "write_points"
        ]
        return min(names, default=None)

    def tasks(self) -> dict[str, tuple[Any, ...]]:
        """Return for each task what changes when it is started, by its id."""
        params = {"fields": list(_TASK_FIELDS), "limit": "-1"}
        found = self._get("/tasks", params=params).get("tasks") or []
        return {str(item.get("id")): tuple(map(item.get, _TASK_FIELDS)) for item in found}

    def scripts(self) -> dict[str, str]:
        """Return the TICKscript of each task as it was written, by its id."""
        params = {"fields": ["id", "script"], "script-format": "raw", "limit": "-1"}
        found = self._get("/tasks", params=params).get("tasks") or []
        return {str(item.get("id")): str(item.get("script") or "") for item in found}

    def raised(self, topics: str) -> dict[str, tuple[str, str]]:
        """Return the alerts that are not OK, in the topics of a pattern.

        By id, with the time of the point that changed the state last, as ISO 8601, and the topic.
        """
        found: dict[str, tuple[str, str]] = {}
        listed = self._get("/alerts/topics", params={"pattern": topics})
        for topic in listed.get("topics") or []:
            place = f"/alerts/topics/{quote(str(topic['id']))}/events"
            # After a restart 1.5.7 finds none for any other level (measured).
            events = self._get(place, params={"min-level": "OK"}).get("events") or []
            states = {str(item["id"]): item["state"] for item in events}
            found.update(
                (name, (str(state["time"]), str(topic["id"])))
                for name, state in states.items()
                if state["level"] != "OK"
            )
        return found

    def _get(self, path: str, **content: Any) -> dict[str, Any]:
        reply = self._request("GET", path, **content)
        if reply.status_code != 200:
            raise query_error(reply.status_code, self._words(reply))
        try:
            body = orjson.loads(reply.content)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            raise InfluxMisconfiguredError("what answers at this address is not a Kapacitor")
        return body

    def _words(self, reply: httpx.Response) -> str | None:
        # It says in plain text which line it cannot parse.
        is_its_own = "X-Kapacitor-Version" in reply.headers
        return super()._words(reply) or (reply.text.strip() or None if is_its_own else None)
