"""A small metrics package on disk."""

from pathlib import Path

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
