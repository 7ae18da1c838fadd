"""A record with jobs of chosen times, values and metadata."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.measured_jobs import MeasuredJobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    with MeasuredJobs(tmp_path) as jobs:
        yield jobs
