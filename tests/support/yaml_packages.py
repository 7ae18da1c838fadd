"""Metrics packages written for a test, and where the real ones of `../shared` are."""

from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"

METRICS = """\
    latency: {description: Shutter to alert., unit: s}
    frac: {description: A part., unit: '%'}
    frac2: {description: Another part., unit: '%'}
    """


def write_package(directory: Path, files: dict[str, str], *, metrics: str = METRICS) -> Path:
    """Write a metrics package; specification files are named by their path under `specs/demo`."""
    (directory / "metrics").mkdir(parents=True)
    (directory / "specs").mkdir()
    (directory / "metrics" / "demo.yaml").write_text(dedent(metrics))
    for name, text in files.items():
        path = directory / "specs" / f"demo/{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return directory


def shared(name: str) -> Path:
    """Return a path of the shared data, or skip the test where it is not there."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"needs the data that is not committed: {name}")
    return path
