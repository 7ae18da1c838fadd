"""Statements on many values, and on the rows that a dataclass holds.

Rows are inserted by statements that are compiled once. SQLAlchemy's own way costs several times as
much per row, and a job has hundreds of rows in the index of measurements (`benchmarks/`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Select,
    Table,
    bindparam,
    insert,
    select,
)
from sqlalchemy.sql.base import Executable

CHUNK = 4096
"""Most values in one condition: databases accept some ten thousand in a statement."""

_Value = TypeVar("_Value", int, str)


def in_chunks(values: Iterable[_Value], *, size: int = CHUNK) -> Iterator[list[_Value]]:
    """Yield sorted values, each once, in lists of at most `size`."""
    wanted = sorted(set(values))
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def select_rows(table: Table, row: type[Any]) -> Select[Any]:
    """Select the columns that a dataclass has fields for, in their order.

    Its first field is the table's primary key, whatever its name is.
    """
    return select(*table.primary_key, *(table.c[each.name] for each in fields(row)[1:]))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as the driver executes it.

    `pack` turns values, in the order in which their names were given, into the parameters of one
    execution.
    """

    text: str
    pack: Callable[[Sequence[Any]], Any]


def prepare(
    statement: Executable, names: Sequence[str], dialect: Dialect, **options: Any
) -> Prepared:
    """Compile a statement that has parameters of these names; `options` are for `compile`."""
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
    """Insert rows of values that the driver can use as they are, in the order of `columns`."""
    if rows:
        statement = _insertion(table, columns, connection.dialect)
        connection.exec_driver_sql(statement.text, [statement.pack(row) for row in rows])


def is_wanted(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition, for queries of `rows_of`, that a column has one of the values."""
    return column.in_(bindparam("wanted", expanding=True))


def rows_of(
    connection: Connection, query: Select[Any], values: Iterable[_Value], **parameters: Any
) -> Iterator[Any]:
    """Yield the rows of a query for wanted values, however many these are."""
    for chunk in in_chunks(values):
        yield from connection.execute(query, {"wanted": chunk, **parameters})


def store_documents(connection: Connection, table: Table, documents: Sequence[bytes]) -> list[int]:
    """Store each distinct document once, found by its digest; return the id of each."""
    digests = [blake2b(document, digest_size=16).digest() for document in documents]
    texts = dict(zip(digests, documents, strict=True))
    if not texts:
        return []
    query = select(table.c.digest, table.c.id).where(table.c.digest.in_(list(texts)))
    known = {row.digest: row.id for row in connection.execute(query)}
    new = [
        {"digest": digest, "document": text.decode()}
        for digest, text in texts.items()
        if digest not in known
    ]
    if new:
        connection.execute(insert(table), new)
        known = {row.digest: row.id for row in connection.execute(query)}
    return [known[digest] for digest in digests]


@lru_cache(maxsize=64)
def _insertion(table: Table, columns: tuple[str, ...], dialect: Dialect) -> Prepared:
    return prepare(insert(table).inline(), columns, dialect, column_keys=list(columns))
