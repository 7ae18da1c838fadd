"""`/report`: the page, and the same as one file that can be mailed or kept.

The matrix of a report becomes tables, one for each package, with only the columns that it has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response

from squash_api.judging.alerts import LEVELS
from squash_api.judging.states import RANKS, State, added, count_states
from squash_api.judging.wording import NOTHING
from squash_api.pages.rendering import environment, render
from squash_api.reports import texts as report_words
from squash_api.reports.document import Cell, Column, Report, Row
from squash_api.routes.reports import make_report
from squash_api.site import Site
from squash_api.trends.parameters import ASKED, PARAMETERS

# The file contains its styles, and never loads anything.
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
_SERVED_POLICY = f"{_FILE_POLICY}; frame-ancestors 'none'"
_STYLES = ("squash.css", "report.css")
_BETWEEN_RULES = re.compile(r"/\*.*?\*/|^\s+|\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Group:
    """The number of columns below the heading of a dataset."""

    label: str
    span: int


@dataclass(frozen=True, slots=True)
class Line:
    """A metric, with a cell or None in each column of its table."""

    row: Row
    cells: list[Cell | None]


@dataclass(frozen=True, slots=True)
class PackageTable:
    """The part of the matrix that belongs to one package: its metrics and series by state."""

    package: str
    groups: list[Group]
    labels: list[str]
    lines: list[Line]
    counts: Mapping[State, int]
    series: Mapping[State, int]


def report_page(request: Request) -> Response:
    """Make the page of a report, or with `format=html` the report as one file."""
    asked = request.query_params.multi_items()
    site: Site = request.app.state.site
    report = make_report(site, asked)
    if request.query_params.get("format") == "html":
        return Response(
            report_file(report),
            headers={
                "Content-Security-Policy": _SERVED_POLICY,
                "Content-Disposition": 'inline; filename="squash-report.html"',
            },
            media_type="text/html; charset=utf-8",
        )
    return render(
        request,
        "report.html",
        here="/report",
        **_values(report, base=site.settings.url_path),
        levels=LEVELS,
        hints={name: PARAMETERS[name].description("report") for name in ASKED["report"]},
    )


def report_file(report: Report) -> str:
    """Write a report as one HTML file, with its styles inside and absolute links."""
    template = environment().get_template("report_file.html")
    return template.render(**_values(report, base=report.url), policy=_FILE_POLICY, style=_style())


def _values(report: Report, *, base: str) -> dict[str, Any]:
    return {
        "report": report,
        "tables": package_tables(report),
        "words": report_words,
        "base": base,
        "query": urlencode([(name, text) for name, item in report.asked.items() for text in item]),
    }


def package_tables(report: Report) -> list[PackageTable]:
    """Make the tables, those with the worst broken limits first."""
    by_package: dict[str, list[Row]] = {}
    for row in report.rows:
        by_package.setdefault(row.package, []).append(row)
    found = [_table(name, rows, report.columns) for name, rows in by_package.items()]
    worst = {name: min(RANKS[row.state] for row in rows) for name, rows in by_package.items()}
    return sorted(found, key=lambda table: (worst[table.package], table.package))


def _table(package: str, rows: Sequence[Row], columns: Sequence[Column]) -> PackageTable:
    used = sorted({cell.column for row in rows for cell in row.cells})
    lines = []
    for row in rows:
        cells = {cell.column: cell for cell in row.cells}
        lines.append(Line(row, [cells.get(index) for index in used]))
    headings = groupby(_heading(columns[index]) for index in used)
    groups = [Group(label, len(list(found))) for label, found in headings]
    return PackageTable(
        package,
        groups,
        [columns[index].filter or NOTHING for index in used],
        lines,
        count_states(row.state for row in rows),
        added(cell.states for row in rows for cell in row.cells),
    )


def _heading(column: Column) -> str:
    named = [item for item in (column.instrument, column.dataset) if item is not None]
    return " ".join(named) or NOTHING


@lru_cache(maxsize=1)
def _style() -> str:
    directory = Path(__file__).parent / "static"
    return "".join(
        _BETWEEN_RULES.sub("", (directory / name).read_text(encoding="utf-8")) for name in _STYLES
    )
