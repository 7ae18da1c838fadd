"""Grafana's files: its data source and folder, and the dashboards. Pure."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from squash_api.generate.grafana.alerting import alerting_files
from squash_api.generate.grafana.choices import GRAFANA, service_variable, tag_variables
from squash_api.generate.grafana.connections import (
    DASHBOARDS,
    SOURCE,
    connection_files,
    uid_of,
)
from squash_api.generate.grafana.panels import name_of, panel_of
from squash_api.generate.influxql import Place, identifier, select
from squash_api.generate.output import MARK, json_text
from squash_api.generate.overview import overview_dashboard
from squash_api.generate.own import own_dashboard
from squash_api.generate.package import package_dashboard
from squash_api.generate.panels import Cell
from squash_api.judging.alert_plan import watched_metrics
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema import names as schema_names
from squash_api.schema import watch as watch_names
from squash_api.schema.names import Schema
from squash_api.setting_types import AlertsBy

OVERVIEW_UID = "squash-overview"
OWN_UID = "squash-service"
_TAG = "squash"
_SCHEMA_VERSION = 41
_TO_THE_OTHERS = {
    "type": "dashboards",
    "title": "SQuaSH",
    "tags": [_TAG],
    "asDropdown": True,
    "keepTime": False,
    "includeVars": False,
    "targetBlank": False,
    "icon": "dashboard",
    "tooltip": "",
    "url": "",
}
_LAST_DAY = "time > now() - 1d"
_IDS = 10**9


def grafana_files(
    package: MetricsPackage,
    *,
    schema: Schema,
    database: str,
    retention_policy: str,
    alerts_by: AlertsBy = "kapacitor",
) -> dict[str, str]:
    """Return the files of `grafana/` by path; see `Render`."""
    found = dashboards(package, schema=schema, retention_policy=retention_policy)
    texts = {f"{DASHBOARDS}/{item['uid']}.json": json_text(item) for item in found}
    rules = alerting_files(
        package, schema=schema, retention_policy=retention_policy, alerts_by=alerts_by
    )
    return {**connection_files(database=database), **texts, **rules}


def dashboard_uid(package: str) -> str:
    """Return the uid of the dashboard of a verification package."""
    return uid_of("squash-package", package)


def graph_ids(cells: Sequence[Cell]) -> list[int]:
    """Return a number for each panel, which rarely depends on the others."""
    numbers: dict[int, None] = {}
    for cell in cells:
        digest = sha256(name_of(cell.panel).encode()).digest()
        number = 1 + int.from_bytes(digest[:4]) % _IDS
        while number in numbers:
            number += 1
        numbers[number] = None
    return list(numbers)


def dashboards(
    package: MetricsPackage, *, schema: Schema, retention_policy: str
) -> list[dict[str, Any]]:
    """Return the dashboards: the overview, that of the service itself, one for each package."""
    names = sorted({metric.package for metric in package.metrics.values()})
    links = {name: f"/d/{dashboard_uid(name)}?from=now-30d&to=now" for name in names}
    found = [
        _dashboard(
            OVERVIEW_UID,
            "SQuaSH overview",
            overview_dashboard(_place(""), links, own=f"/d/{OWN_UID}"),
            variables=[service_variable(_place(watch_names.STANDING), times=_LAST_DAY)],
            retention_policy=retention_policy,
            start="now-24h",
        ),
        _dashboard(
            OWN_UID,
            "SQuaSH, the service itself",
            own_dashboard(_place(""), GRAFANA),
            variables=[service_variable(_place(watch_names.SERVICE), times=_LAST_DAY)],
            retention_policy=retention_policy,
            start="now-6h",
        ),
    ]
    watched = watched_metrics(package.specifications.values(), package.metrics, schema)
    for name in names:
        place = _place(name)
        metrics = [metric for metric in package.metrics.values() if metric.package == name]
        limited = [item for item in watched if item.metric.package == name]
        found.append(
            _dashboard(
                dashboard_uid(name),
                f"SQuaSH: {name}",
                package_dashboard(metrics, limited, place, GRAFANA),
                variables=[*tag_variables(place), service_variable(place, times=GRAFANA.times)],
                retention_policy=retention_policy,
                annotations=[_code_changes(place)],
            )
        )
    return found


def _place(measurement: str) -> Place:
    # Each request names the database and the retention policy beside the query.
    return Place("", "", measurement)


def _dashboard(
    uid: str,
    title: str,
    cells: Sequence[Cell],
    *,
    retention_policy: str,
    variables: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]] = (),
    start: str = "now-30d",
) -> dict[str, Any]:
    return {
        "uid": uid,
        "title": title,
        "description": f"Made by {MARK}: edit the specifications.",
        "tags": [_TAG],
        "timezone": "utc",
        "editable": False,
        # A time that is pointed at is shown in every graph.
        "graphTooltip": 1,
        "time": {"from": start, "to": "now"},
        "refresh": "5m",
        "schemaVersion": _SCHEMA_VERSION,
        "links": [_TO_THE_OTHERS],
        "templating": {"list": list(variables)},
        "annotations": {"list": list(annotations)},
        "panels": [
            panel_of(cell, number, retention_policy=retention_policy)
            for cell, number in zip(cells, graph_ids(cells), strict=True)
        ],
    }


def _code_changes(place: Place) -> dict[str, Any]:
    """Return the annotations of runs in which the code had changed."""
    columns = {"textColumn": schema_names.CODE_CHANGES, "tagsColumn": schema_names.RUN_ID}
    changed = f"{identifier(schema_names.CODE_CHANGES_COUNTS)} > 0"
    query = select(map(identifier, columns.values()), place, GRAFANA.times, changed)
    return {
        "name": "Code changes",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "light-blue",
        "query": query,
        **columns,
    }
