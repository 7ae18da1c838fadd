"""A real Chronograf of its own for tests, and what its pages do with a dashboard's queries."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.ports import free_port
from tests.support.programs import find_program

START_TIMEOUT_S = 60.0


class Chronograf:
    """One Chronograf on a loopback port that reads its resources from a folder.

    `environment` is all that it has, beside a home.
    """

    def __init__(self, root: Path, resources: Path, **environment: str) -> None:
        self.root = root
        self.resources = resources
        self.environment = environment
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of its API."""
        return f"http://127.0.0.1:{self.port}/chronograf/v1"

    def __enter__(self) -> Self:
        binary = find_program("chronograf", hint="its own builds are in no package registry")
        self.root.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--bolt-path": str(self.root / "chronograf.db"),
            "--resources-path": str(self.resources),
            "--canned-path": str(self.root),
        }
        words = [word for option in options.items() for word in option]
        with (self.root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [binary, *words, "--reporting-disabled"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                env={"HOME": str(self.root), **self.environment},
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def call(self, method: str, path: str, document: object = None) -> Any:
        """Return the answer to a call of the API, which must succeed; None if it is empty."""
        reply = httpx.request(
            method, f"{self.url}{path}", json=document, timeout=30, trust_env=False
        )
        assert reply.is_success, f"{reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def log(self) -> str:
        """Return what it has logged."""
        return (self.root / "log").read_text(errors="replace")

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        assert self._process is not None
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"chronograf ended:\n{self.log()[-2000:]}"
            try:
                reply = httpx.get(f"{self.url}/sources", timeout=5, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            if reply.is_success:
                return
            time.sleep(0.1)
        raise RuntimeError(f"chronograf did not answer:\n{self.log()[-2000:]}")


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
