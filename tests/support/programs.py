"""Programs that tests run and that are not Python's: where they are, or how to get them."""

import os
import shutil
from pathlib import Path

import pytest

# Also when PATH is short.
_PLACES = [
    *("/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/influxdb", "/opt/kapacitor"),
    *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True),
]
_IN_NO_REGISTRY = "its own builds are in no package registry"
_HINTS = {
    "chromium": "install Debian's package chromium",
    "chronograf": _IN_NO_REGISTRY,
    "curl": "install Debian's package curl",
    "docker-compose": "install Debian's package docker-compose",
    "influxd": "install Debian's package influxdb",
    "kapacitord": _IN_NO_REGISTRY,
    "openssl": "install Debian's package openssl",
    "postgres": "install Debian's package postgresql",
    "make": "install Debian's package make",
    "script": "install Debian's package bsdutils",
    "sqlite3": "install Debian's package sqlite3",
}


def where_is(name: str) -> str | None:
    """Return where a program is, or None."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))


def find_program(name: str) -> str:
    """Return where a program is; without it the test is skipped, or fails where CI demands it.

    What CI demands stands in `SQUASH_TEST_REQUIRE`, by commas.
    """
    found = where_is(name)
    if found is not None:
        return found
    message = f"{name} is missing: {_HINTS[name]}"
    if name in os.environ.get("SQUASH_TEST_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)
