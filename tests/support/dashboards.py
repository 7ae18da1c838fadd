"""Dashboards of small metrics packages, made for a test, and points as the service makes them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from squash_api.generate.chronograf.dashboards import chronograf_files
from squash_api.index.code_changes import PackageChange, changes_text
from squash_api.influx.points import job_to_points
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Schema
from tests.support.metrics_packages import METRICS, SPECS, write_metrics_package

SCHEMA = Schema()
PA1 = """
---
name: PA1.minimum
threshold: {value: 8.5, unit: mmag, operator: "<="}
tags: [minimum]
"""


def dashboards(
    tmp_path: Path,
    *,
    metrics: str = METRICS,
    specs: str = SPECS + PA1,
    database: str = "squash",
    retention_policy: str = "autogen",
) -> dict[str, dict[str, Any]]:
    """Return the dashboards of a package, as Chronograf reads them, by the stem of their file."""
    package = load_metrics_package(write_metrics_package(tmp_path, metrics=metrics, specs=specs))
    assert package.problems == ()
    files = chronograf_files(
        package, schema=SCHEMA, database=database, retention_policy=retention_policy
    )
    return {
        Path(path).stem: json.loads(text.replace("{{`{{`}}", "{{"))
        for path, text in files.items()
        if path.endswith(".dashboard")
    }


def job_lines(
    number: int,
    time_ns: int,
    values: Mapping[str, float],
    *,
    changes: tuple[PackageChange, ...] = (),
    **meta: Any,
) -> list[str]:
    """Return the lines of a job, whose page is at `https://squash.example.org/job/<number>`."""
    points = job_to_points(
        job_id=number,
        squash_url=f"https://squash.example.org/job/{number}",
        time_ns=time_ns,
        values=values,
        context=SCHEMA.context(meta),
        code_changes=(changes_text(changes), len(changes)),
    )
    return [point.line for point in points]
