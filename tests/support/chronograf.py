"""A real Chronograf of its own for tests, and what its pages do with a dashboard's queries."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.programs import find_program
from tests.support.server import Server, is_up, local_url


class Chronograf(Server):
    """One Chronograf that reads its resources from a folder.

    `environment` is all that it has, beside a home.
    """

    def __init__(self, folder: Path, resources: Path, **environment: str) -> None:
        super().__init__(folder, name="chronograf")
        self.resources = resources
        self.environment = environment

    @property
    def url(self) -> str:
        """Address of its API."""
        return f"{local_url(self.port)}/chronograf/v1"

    def command(self) -> Sequence[str]:
        """Return the program with its options."""
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--bolt-path": str(self.folder / "chronograf.db"),
            "--resources-path": str(self.resources),
            "--canned-path": str(self.folder),
        }
        words = [word for option in options.items() for word in option]
        return [find_program("chronograf"), *words, "--reporting-disabled"]

    def variables(self) -> Mapping[str, str]:
        """Return its environment."""
        return {**super().variables(), **self.environment}

    def is_ready(self) -> bool:
        """Return whether it answers."""
        return is_up(f"{self.url}/sources")

    def call(self, method: str, path: str, document: object = None) -> Any:
        """Return the answer to a call of the API, which must succeed; None if it is empty."""
        reply = httpx.request(
            method, f"{self.url}{path}", json=document, timeout=30, trust_env=False
        )
        assert reply.is_success, f"{reply.status_code} {reply.text}"
        return reply.json() if reply.content else None


def without_dashboards(chronograf: str, resources: Path) -> None:
    """Take all dashboards away, those of files too; `chronograf` is its address."""
    for place in resources.iterdir():
        place.unlink()
    with httpx.Client(base_url=f"{chronograf}/chronograf/v1", trust_env=False, timeout=60) as http:
        for dashboard in http.get("/dashboards").json()["dashboards"]:
            http.delete(f"/dashboards/{dashboard['id']}")


def queries_of(dashboard: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each query of a dashboard's cells with its cell."""
    for cell in dashboard["cells"]:
        for query in cell["queries"]:
            if query["query"]:
                yield cell, query["query"]


def rendered(
    query: str,
    dashboard: Mapping[str, Any],
    *,
    chosen: Mapping[str, str] | None = None,
    lower: str = "now() - 60d",
    upper: str = "now()",
    interval: str = "1h",
) -> str:
    """Return a query as the pages of Chronograf 1.10 send it.

    Parameters
    ----------
    chosen
        By the name of a variable without colons: the key for `show`, the value for a tag. What is
        not chosen is as it is when the dashboard is opened, and a tag has no value then.
    """
    chosen = chosen or {}
    # A variable whose values name others is replaced before those.
    for template in sorted(dashboard["templates"], key=lambda item: item["type"] != "map"):
        name = template["tempVar"]
        choice = chosen.get(name.strip(":"))
        if template["type"] == "map":
            (value,) = (
                item["value"]
                for item in template["values"]
                if (item["selected"] if choice is None else item["key"] == choice)
            )
            query = query.replace(name, value)
        elif choice is not None:
            query = query.replace(name, f"'{choice}'")
    times = {":dashboardTime:": lower, ":upperDashboardTime:": upper, ":interval:": interval}
    for name, text in times.items():
        query = query.replace(name, text)
    assert not re.search(r":[a-zA-Z]+:", query), query
    return query
