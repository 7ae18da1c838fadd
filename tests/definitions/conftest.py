"""A record in which metrics and specifications can be defined."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.definitions import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world
