"""A Kapacitor and a Chronograf without anything in them, for comparing with running servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.chronograf import Chronograf
from tests.support.kapacitord import Kapacitord
from tests.support.programs import find_program

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
    with Chronograf(folder, resources) as server:
        yield f"http://127.0.0.1:{server.port}"


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
