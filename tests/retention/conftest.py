"""A record to which jobs come one by one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.observatory import Observatory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as site:
        yield site
