"""Statements compiled once, with as little between them and the driver as can be.

SQLAlchemy's own way costs several times as much per row, and a job has hundreds of rows in the
index of measurements (`benchmarks/`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Table, insert
from sqlalchemy.sql.base import Executable


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as a driver takes it.

    `pack` makes of its values, which are what the driver takes and in the order in which their
    names were given, what the driver wants for one execution.
    """

    text: str
    pack: Callable[[Sequence[Any]], Any]


def prepare(
    statement: Executable, names: Sequence[str], dialect: Dialect, **options: Any
) -> Prepared:
    """Compile a statement whose parameters have these names.

    `options` are those of SQLAlchemy's `compile`.
    """
    compiled: Any = statement.compile(dialect=dialect, **options)  # type: ignore[attr-defined]
    if not compiled.positional:
        return Prepared(str(compiled), lambda values: dict(zip(names, values, strict=True)))
    places = {name: place for place, name in enumerate(names)}
    order = [places[name] for name in compiled.positiontup or ()]
    is_in_order = order == list(range(len(names)))
    return Prepared(str(compiled), tuple if is_in_order else itemgetter(*order))


def insert_rows(
    connection: Connection,
    table: Table,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert rows of values in the order of `columns`; the values are what the driver takes."""
    if rows:
        statement = _insertion(table, columns, connection.dialect)
        connection.exec_driver_sql(statement.text, [statement.pack(row) for row in rows])


@lru_cache(maxsize=64)
def _insertion(table: Table, columns: tuple[str, ...], dialect: Dialect) -> Prepared:
    return prepare(insert(table).inline(), columns, dialect, column_keys=list(columns))
