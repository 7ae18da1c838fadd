from collections.abc import Iterator

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from squash_api.record.bulk import insert_rows, prepare

TABLE = Table(
    "t",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("first", String, nullable=False),
    Column("second", Integer),
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        TABLE.create(connection)
        yield connection
    engine.dispose()


def stored(connection: Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(select(TABLE).order_by(TABLE.c.id))]


@pytest.mark.parametrize("columns", [("first", "second"), ("second", "first")])
def test_values_go_where_the_columns_say(connection: Connection, columns: tuple[str, ...]) -> None:
    values = {"first": ["a", "b"], "second": [1, 2]}
    rows = list(zip(*(values[name] for name in columns), strict=True))
    insert_rows(connection, TABLE, columns, rows)
    assert stored(connection) == [(1, "a", 1), (2, "b", 2)]


def test_columns_left_out_take_their_default(connection: Connection) -> None:
    insert_rows(connection, TABLE, ("first",), [("a",)])
    assert stored(connection) == [(1, "a", None)]


def test_no_rows_are_no_statement(connection: Connection) -> None:
    insert_rows(connection, TABLE, ("first",), [])
    assert stored(connection) == []


def test_thousands_of_rows_are_one_call(connection: Connection) -> None:
    insert_rows(connection, TABLE, ("first", "second"), [(str(n), n) for n in range(5_000)])
    assert len(stored(connection)) == 5_000


def test_a_broken_rule_is_reported_as_by_sqlalchemy(connection: Connection) -> None:
    connection.execute(insert(TABLE), [{"id": 1, "first": "a"}])
    with pytest.raises(IntegrityError):
        insert_rows(connection, TABLE, ("id", "first"), [(1, "b")])


class _Recording:
    """A connection of another database, that keeps what it is asked to do."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.calls: list[tuple[str, object]] = []

    def exec_driver_sql(self, statement: str, parameters: object) -> None:
        self.calls.append((statement, parameters))


def test_a_driver_that_takes_names_gets_names() -> None:
    connection = _Recording(postgresql.dialect(paramstyle="pyformat"))  # type: ignore[no-untyped-call]
    insert_rows(connection, TABLE, ("second", "first"), [(1, "a")])  # type: ignore[arg-type]
    ((statement, parameters),) = connection.calls
    assert "RETURNING" not in statement
    assert "%(first)s" in statement
    assert parameters == [{"first": "a", "second": 1}]


@pytest.mark.parametrize("names", [("x", "y"), ("y", "x")])
def test_values_go_where_a_prepared_statement_names_them(
    connection: Connection, names: tuple[str, ...]
) -> None:
    statement = select(bindparam("x", type_=Integer), bindparam("y", type_=Integer))
    prepared = prepare(statement, names, connection.dialect)
    values = {"x": 1, "y": 2}
    arguments = prepared.pack([values[name] for name in names])
    assert tuple(connection.exec_driver_sql(prepared.text, arguments).one()) == (1, 2)


def test_values_go_by_name_where_the_driver_takes_names() -> None:
    statement = select(bindparam("x", type_=Integer))
    prepared = prepare(statement, ("x",), postgresql.dialect(paramstyle="pyformat"))  # type: ignore[no-untyped-call]
    assert prepared.pack([1]) == {"x": 1}
