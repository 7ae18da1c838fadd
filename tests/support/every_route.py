"""The address of every route of an application, with something behind those that name things."""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import FastAPI

from squash_api.routes.later import put_all

NAME = "hushed"
"""In the names of all that `JOB` keeps, and in every address of it."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")

JOB: dict[str, Any] = {
    "measurements": [{"metric": f"{NAME}.Metric", "value": 1.5, "unit": "m", "blob_refs": ["b"]}],
    "blobs": [{"identifier": f"{NAME}-blob", "name": NAME, "data": {}}],
    "meta": {
        "instrument": NAME,
        "env": {"ci_name": f"{NAME}-pipeline", "ci_id": f"{NAME}-run"},
    },
}

_PARTS = {
    "{job_id}": "1",
    "{name:text}": f"{NAME}.Metric",
    "/webhooks/{name}": "/webhooks/hook",
    "{name}": f"{NAME}.Metric",
    "{identifier:text}": f"{NAME}-blob",
    "{package:text}": NAME,
    "{pipeline:text}": f"{NAME}-pipeline",
    "{run_id:text}": f"{NAME}-run",
    "{ci_id:text}": f"{NAME}-run",
    "{key_id}": "sq_0",
    "{alert_id}": "1",
    "{silence_id}": "1",
    "{cluster_id}": "squash",
    "{topic}": "lsst.dm.topic",
}


def addresses_of(app: FastAPI) -> list[str]:
    """Return the addresses, where `JOB` is the job 1 of the application."""
    put_all(app)
    found = set(_paths(app.routes))
    assert len(found) > 40
    for name, part in _PARTS.items():
        found = {path.replace(name, part) for path in found}
    nameless = [path for path in found if "{" in path]
    assert not nameless, f"say in _PARTS what is behind {nameless}"
    return sorted(found)


def _paths(routes: Iterable[Any], above: str = "") -> Iterator[str]:
    """Yield the path of every route, also those within others."""
    for route in routes:
        path = above + getattr(route, "path", "")
        # FastAPI keeps what it includes in a router of its own.
        within = getattr(route, "original_router", route)
        inner = getattr(within, "routes", None)
        if inner is None:
            yield path
        else:
            yield from _paths(inner, path)
