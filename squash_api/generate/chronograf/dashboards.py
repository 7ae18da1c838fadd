"""Chronograf's resource directory: dashboards and connections. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from squash_api.generate.chronograf import cells
from squash_api.generate.chronograf.choices import CHRONOGRAF, template_variables
from squash_api.generate.chronograf.connections import (
    ORGANIZATION,
    SOURCE_ID,
    connection_files,
    resource_text,
)
from squash_api.generate.chronograf.graph import metric_graph
from squash_api.generate.influxql import Place
from squash_api.generate.output import json_text
from squash_api.generate.overview import overview_dashboard
from squash_api.generate.own import own_dashboard
from squash_api.generate.package import package_dashboard
from squash_api.generate.panels import VALUE_COLORS, Cell, Graph, Note, Panel, Table, Tile
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
    package: MetricsPackage,
    *,
    schema: Schema,
    database: str,
    retention_policy: str,
    alerts_by: str = "",  # noqa: ARG001 - dashboards are the same
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
    package: MetricsPackage,
    *,
    schema: Schema,
    database: str,
    retention_policy: str,
    alerts_by: str = "",  # noqa: ARG001 - dashboards are the same
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
    place = Place(database, retention_policy, "")
    links = {name: _url(numbers[name], "30d") for name in names} if with_links else {}
    overview = overview_dashboard(place, links, own=_url(OWN_ID, "6h") if with_links else "")
    found = {
        OVERVIEW_STEM: document_of(_OVERVIEW_NAME, OVERVIEW_ID, overview),
        OWN_STEM: document_of(_OWN_NAME, OWN_ID, own_dashboard(place, CHRONOGRAF)),
    }
    for name in names:
        there = replace(place, measurement=name)
        shown = package_dashboard(
            [metric for metric in package.metrics.values() if metric.package == name],
            [item for item in watched if item.metric.package == name],
            there,
            CHRONOGRAF,
        )
        variables = template_variables(there)
        found[name] = document_of(f"SQuaSH: {name}", numbers[name], shown, variables)
    return found


def _url(number: int, length: str) -> str:
    return f"/sources/{SOURCE_ID}/dashboards/{number}{CHRONOGRAF.range_url.format(length)}"


def document_of(
    name: str, number: int, shown: Sequence[Cell], templates: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return a dashboard as Chronograf reads it."""
    return {
        "id": str(number),
        "name": name,
        "organization": ORGANIZATION,
        "cells": [cells.placed(_body(cell.panel), cell, at) for at, cell in enumerate(shown)],
        "templates": list(templates),
    }


def _body(panel: Panel) -> dict[str, Any]:
    """Return a panel as Chronograf reads it."""
    if isinstance(panel, Note):
        return cells.note(panel.text)
    if isinstance(panel, Tile):
        return cells.single_stat(panel)
    if isinstance(panel, Table):
        return cells.table(panel)
    if isinstance(panel, Graph):
        colors, about = VALUE_COLORS, panel.about
        return cells.line_graph(
            panel.title, [panel.query], label=panel.title, colors=colors, about=about
        )
    return metric_graph(panel)
