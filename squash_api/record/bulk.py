"""Inserting many rows with as little between them and the driver as can be."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of values in the order of the table's columns.

    SQLAlchemy's own way costs several times as much per row, and an index of measurements has
    hundreds of rows a job (`benchmarks/`).
    """
    if not rows:
        return
    compiled = insert(table).compile(dialect=connection.dialect)
    names = [column.name for column in table.columns]
    if compiled.positional:
        order = [names.index(name) for name in compiled.positiontup or ()]
        parameters: Any = (
            list(rows)
            if order == list(range(len(names)))
            else [tuple(row[index] for index in order) for row in rows]
        )
    else:
        parameters = [dict(zip(names, row, strict=True)) for row in rows]
    connection.exec_driver_sql(str(compiled), parameters)
