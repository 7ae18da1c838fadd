"""Metrics packages written for a test, and where the real ones of `../shared` are."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"

METRICS = """
AM1:
  description: Repeatability of positions.
  unit: marcsec
  tags: astrometry
PA1: {description: Repeatability of brightness., unit: mmag}
"""

SPECS = """
id: limit
metric: AM1
threshold: {operator: "<=", unit: marcsec}
---
name: minimum
base: "#limit"
threshold: {value: 20}
tags: [minimum, night]
---
name: design
base: "#limit"
threshold: {value: 10}
tags: [design]
---
name: stretch
base: "#limit"
threshold: {value: 5}
tags: [stretch, night]
---
name: PA1.design_r
threshold: {value: 5, unit: mmag, operator: "<="}
metadata_query: {filter_name: r}
tags: [design]
"""

_DEMO_METRICS = """\
    latency: {description: Shutter to alert., unit: s}
    frac: {description: A part., unit: '%'}
    frac2: {description: Another part., unit: '%'}
    """


def write_metrics_package(
    directory: Path, *, metrics: str = METRICS, specs: str = SPECS, name: str = "demo"
) -> Path:
    """Write a metrics package with one file of each kind, and return its directory."""
    package = directory / name
    (package / "metrics").mkdir(parents=True)
    (package / "specs" / "validate").mkdir(parents=True)
    (package / "metrics" / "validate.yaml").write_text(metrics)
    (package / "specs" / "validate" / "limits.yaml").write_text(specs)
    return package


def write_package(
    directory: Path,
    files: dict[str, str],
    *,
    metrics: str = _DEMO_METRICS,
    rules: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write a metrics package; files are named by their path under `specs/demo` or `rules/demo`."""
    (directory / "metrics").mkdir(parents=True)
    (directory / "specs").mkdir()
    (directory / "metrics" / "demo.yaml").write_text(dedent(metrics))
    placed = {f"specs/demo/{name}": text for name, text in files.items()}
    placed |= {f"rules/demo/{name}": text for name, text in rules.items()}
    for name, text in placed.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return directory


def shared(name: str) -> Path:
    """Return a path of the shared data, or skip the test where it is not there."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"needs the data that is not committed: {name}")
    return path
