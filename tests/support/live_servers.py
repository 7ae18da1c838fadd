"""A Kapacitor and a Chronograf without anything in them, for comparing with running servers."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.kapacitord import Kapacitord
from tests.support.ports import free_port
from tests.support.programs import find_program
from tests.support.site import wait_for

_HINT = "it is in no package registry; a stand-in is tested in its place"


@contextmanager
def empty_kapacitord(folder: Path) -> Iterator[str]:
    """Run a real Kapacitor and give its address; skip the test where there is none."""
    find_program("kapacitord", hint=_HINT)
    (folder / "load").mkdir()
    with Kapacitord(folder / "server", folder / "load") as server:
        yield f"http://127.0.0.1:{server.port}"


@contextmanager
def empty_chronograf(folder: Path, resources: Path) -> Iterator[str]:
    """Run a real Chronograf and give its address; skip the test where there is none."""
    binary = find_program("chronograf", hint=_HINT)
    port = free_port()
    words = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--bolt-path": str(folder / "chronograf.db"),
        "--resources-path": str(resources),
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [binary, "--reporting-disabled", *(word for pair in words.items() for word in pair)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={"HOME": str(folder), "PATH": os.environ.get("PATH", "")},
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text(errors="replace")[-3000:]
        try:
            return httpx.get(f"{url}/ping", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(answers, timeout_s=60)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def empty(kapacitor: str) -> None:
    """Take all tasks and handlers away."""
    with httpx.Client(base_url=f"{kapacitor}/kapacitor/v1", trust_env=False, timeout=60) as http:
        for task in http.get("/tasks", params={"fields": "id", "limit": -1}).json()["tasks"]:
            http.delete(f"/tasks/{task['id']}")
        for topic in http.get("/alerts/topics").json()["topics"]:
            place = f"/alerts/topics/{topic['id']}"
            for handler in http.get(f"{place}/handlers").json()["handlers"]:
                http.delete(f"{place}/handlers/{handler['id']}")
            http.delete(place)


def without_dashboards(chronograf: str, resources: Path) -> None:
    """Take all dashboards away, those of files too."""
    for place in resources.iterdir():
        place.unlink()
    with httpx.Client(base_url=f"{chronograf}/chronograf/v1", trust_env=False) as http:
        for dashboard in http.get("/dashboards").json()["dashboards"]:
            http.delete(f"/dashboards/{dashboard['id']}")
