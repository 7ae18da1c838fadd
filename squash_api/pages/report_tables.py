"""The matrix of a report as tables, one for each package, with only the columns it has. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from squash_api.reporting.document import RANKS, Cell, Column, Report, Row

NOTHING = "\u2013"


@dataclass(frozen=True, slots=True)
class Group:
    """Columns below one heading: those of a dataset."""

    label: str
    span: int


@dataclass(frozen=True, slots=True)
class Line:
    """A metric, with a cell or None for each column of its table."""

    row: Row
    cells: list[Cell | None]


@dataclass(frozen=True, slots=True)
class PackageTable:
    """The part of the matrix that is of one package."""

    package: str
    groups: list[Group]
    labels: list[str]
    lines: list[Line]
    broken: int


def package_tables(report: Report) -> list[PackageTable]:
    """Return the tables, those with the worst violations first."""
    by_package: dict[str, list[Row]] = {}
    for row in report.rows:
        by_package.setdefault(row.package, []).append(row)
    found = [_table(name, rows, report.columns) for name, rows in by_package.items()]
    worst = {name: max(RANKS[row.state] for row in rows) for name, rows in by_package.items()}
    return sorted(found, key=lambda table: (-worst[table.package], table.package))


def _table(package: str, rows: Sequence[Row], columns: Sequence[Column]) -> PackageTable:
    used = sorted({cell.column for row in rows for cell in row.cells})
    lines = []
    for row in rows:
        cells = {cell.column: cell for cell in row.cells}
        lines.append(Line(row, [cells.get(index) for index in used]))
    groups: list[Group] = []
    for index in used:
        column = columns[index]
        named = [item for item in (column.instrument, column.dataset) if item is not None]
        label = " ".join(named) or NOTHING
        if groups and groups[-1].label == label:
            groups[-1] = Group(label, groups[-1].span + 1)
        else:
            groups.append(Group(label, 1))
    return PackageTable(
        package,
        groups,
        [columns[index].filter or NOTHING for index in used],
        lines,
        sum(cell.broken for row in rows for cell in row.cells),
    )
