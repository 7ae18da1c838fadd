"""Inserting many rows with as little between them and the driver as can be."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Table, insert


def insert_rows(
    connection: Connection,
    table: Table,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert rows of values in the order of `columns`; the values are what the driver takes.

    SQLAlchemy's own way costs several times as much per row, and a job has hundreds of rows in the
    index of measurements (`benchmarks/`).
    """
    if not rows:
        return
    statement, order = _statement(table, columns, connection.dialect)
    parameters: Any = rows
    if order is None:
        parameters = [dict(zip(columns, row, strict=True)) for row in rows]
    elif order != tuple(range(len(columns))):
        parameters = [tuple(row[index] for index in order) for row in rows]
    connection.exec_driver_sql(statement, list(parameters))


@lru_cache(maxsize=64)
def _statement(
    table: Table, columns: tuple[str, ...], dialect: Dialect
) -> tuple[str, tuple[int, ...] | None]:
    """Return the statement, and the order of its parameters (None if they go by name)."""
    compiled = insert(table).inline().compile(dialect=dialect, column_keys=list(columns))
    if not compiled.positional:
        return str(compiled), None
    return str(compiled), tuple(columns.index(name) for name in compiled.positiontup or ())
