"""A running Chronograf: its dashboards, and how they are changed."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from squash_api.generate.live.http import JsonServer, LiveError
from squash_api.generate.live.objects import Dashboard

_DASHBOARDS = "/chronograf/v1/dashboards"
# A server gives its own id and organization; the mark of a file means nothing to it.
_NOT_SENT = ("id", "organization", "generated")


class Chronograf:
    """One Chronograf, known to be one.

    Raises
    ------
    UnreachableError
        If there is none at the address.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        # Unknown addresses are answered too, with a page, and without the header.
        self._server = JsonServer(url, "Chronograf", probe=_DASHBOARDS, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def dashboards(self) -> list[Dashboard]:
        """Return all dashboards, those too that are not ours."""
        found = self._server.call("GET", _DASHBOARDS)
        return [
            Dashboard(str(document.get("name") or ""), str(document["id"]), document)
            for document in found.get("dashboards") or []
        ]

    def create_dashboard(self, dashboard: Dashboard) -> None:
        """Make a dashboard, under an id of the server's own.

        Raises
        ------
        LiveError
            With Chronograf's words.
        """
        self._server.call("POST", _DASHBOARDS, document=_sent(dashboard.document))

    def replace_dashboard(self, old: Dashboard, dashboard: Dashboard) -> None:
        """Give a dashboard another content; its address stays.

        Raises
        ------
        LiveError
            With Chronograf's words.
        """
        self._server.call("PUT", _path(old), document=_sent(dashboard.document))

    def delete_dashboard(self, dashboard: Dashboard) -> None:
        """Take a dashboard away.

        Raises
        ------
        LiveError
            If it is there all the same: the server reads it from a file, and did not say so.
        """
        self._server.call("DELETE", _path(dashboard))
        if any(other.id == dashboard.id for other in self.dashboards()):
            raise LiveError("the server reads it from a file: remove that from its folder")


def _path(dashboard: Dashboard) -> str:
    return f"{_DASHBOARDS}/{quote(dashboard.id, safe='')}"


def _sent(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in _NOT_SENT}
