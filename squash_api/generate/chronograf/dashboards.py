"""Chronograf's resource directory: dashboards and connections. Pure."""

from hashlib import sha256
from typing import Any

from squash_api.generate.chronograf.cells import Content
from squash_api.generate.chronograf.connections import (
    ORGANIZATION,
    connection_files,
    json_text,
    resource_text,
)
from squash_api.generate.chronograf.overview import overview_dashboard
from squash_api.generate.chronograf.own import own_dashboard
from squash_api.generate.chronograf.package import package_dashboard
from squash_api.judging.alert_plan import watched_metrics
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema

FOLDER = "chronograf"
OVERVIEW_STEM = "squash-overview"
OVERVIEW_ID = 1000
_OVERVIEW_NAME = "SQuaSH overview"
OWN_STEM = "squash-service"
OWN_ID = 1001
# A comma sorts after the space of the overview's name, and before the colon of the packages'.
_OWN_NAME = "SQuaSH, the service itself"
_CHRONOGRAF_VERSION = "1.10.9"
# Dashboards made in the UI count from 1, and win over files with the same id.
_FIRST_ID = 10**9


def chronograf_files(
    package: MetricsPackage, *, schema: Schema, database: str, retention_policy: str
) -> dict[str, str]:
    """Return the files of Chronograf's resource directory by path; see `Render`.

    They are a dashboard for each verification package, the overview, one of the service itself, and
    the connections.
    """
    dashboards = _dashboards(
        package, schema=schema, database=database, retention_policy=retention_policy
    )
    texts = {f"{stem}.dashboard": resource_text(document) for stem, document in dashboards.items()}
    texts |= connection_files(database=database, retention_policy=retention_policy)
    return {f"{FOLDER}/{name}": text for name, text in texts.items()}


def export_files(
    package: MetricsPackage, *, schema: Schema, database: str, retention_policy: str
) -> dict[str, str]:
    """Return the same dashboards by file name, for "Import Dashboard" in the UI."""
    dashboards = _dashboards(
        package,
        schema=schema,
        database=database,
        retention_policy=retention_policy,
        with_links=False,
    )
    meta = {"chronografVersion": _CHRONOGRAF_VERSION, "sources": {}}
    return {
        f"{stem}.json": json_text({"meta": meta, "dashboard": document})
        for stem, document in dashboards.items()
    }


def dashboard_ids(names: list[str]) -> dict[str, int]:
    """Return a number for each package's dashboard, which rarely depends on other packages."""
    numbers: dict[str, int] = {}
    for name in sorted(names):
        number = _FIRST_ID + int.from_bytes(sha256(name.encode()).digest()[:4]) % _FIRST_ID
        while number in numbers.values():
            number += 1
        numbers[name] = number
    return numbers


def _dashboards(
    package: MetricsPackage,
    *,
    schema: Schema,
    database: str,
    retention_policy: str,
    with_links: bool = True,
) -> dict[str, dict[str, Any]]:
    watched = watched_metrics(package.specifications.values(), package.metrics, schema)
    names = sorted({metric.package for metric in package.metrics.values()})
    numbers = dashboard_ids(names)
    overview = overview_dashboard(
        numbers if with_links else {},
        own=OWN_ID if with_links else None,
        database=database,
        retention_policy=retention_policy,
    )
    own = own_dashboard(database=database, retention_policy=retention_policy)
    found = {
        OVERVIEW_STEM: _document(_OVERVIEW_NAME, OVERVIEW_ID, overview),
        OWN_STEM: _document(_OWN_NAME, OWN_ID, own),
    }
    for name in names:
        content = package_dashboard(
            name,
            [metric for metric in package.metrics.values() if metric.package == name],
            [item for item in watched if item.metric.package == name],
            database=database,
            retention_policy=retention_policy,
        )
        found[name] = _document(f"SQuaSH: {name}", numbers[name], content)
    return found


def _document(name: str, number: int, content: Content) -> dict[str, Any]:
    identity = {"id": str(number), "name": name, "organization": ORGANIZATION}
    return {**identity, **content.to_json()}
