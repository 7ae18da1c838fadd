"""What Grafana does with a dashboard's queries, as its documentation says."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from squash_api.generate.grafana.files import grafana_files
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Schema
from tests.support.dashboards import PA1
from tests.support.metrics_packages import METRICS, SPECS, write_metrics_package


def grafana_dashboards(
    tmp_path: Path,
    *,
    metrics: str = METRICS,
    specs: str = SPECS + PA1,
    retention_policy: str = "autogen",
) -> dict[str, dict[str, Any]]:
    """Return the dashboards of a package, by uid."""
    package = load_metrics_package(write_metrics_package(tmp_path, metrics=metrics, specs=specs))
    assert package.problems == ()
    files = grafana_files(
        package, schema=Schema(), database="squash", retention_policy=retention_policy
    )
    return {Path(path).stem: json.loads(text) for path, text in files.items() if "json" in path}


def queries_of(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what has each query of a dashboard, and the query."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["query"]
    for kind, items in (("list", "templating"), ("annotation", "annotations")):
        for item in dashboard[items]["list"]:
            yield f"{kind} {item['name']}", item["query"]


def rendered(
    query: str,
    *,
    start_ms: int,
    end_ms: int,
    interval: str = "1h",
    chosen: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return a query as Grafana sends it; `chosen` are the values of lists, else it is all."""

    def as_regex(found: re.Match[str]) -> str:
        values = (chosen or {}).get(found[1])
        if values is None:
            return ".*"
        texts = [re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value) for value in values]
        return texts[0] if len(texts) == 1 else f"({'|'.join(texts)})"

    query = query.replace("$timeFilter", f"time >= {start_ms}ms and time <= {end_ms}ms")
    query = query.replace("$__interval", interval)
    query = re.sub(r"\$\{(\w+):regex\}", as_regex, query)
    assert not re.search(r"\$(\w|\{)", query), query
    return query
