from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Column, inspect

from squash_api.record.tables import metadata
from tests.support.builders import open_new_database

COLUMNS = [column for table in metadata.sorted_tables for column in table.columns]


def test_the_migrations_give_exactly_these_tables(tmp_path: Path) -> None:
    engine = open_new_database(tmp_path)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_migrations_give_exactly_these_indexes_and_constraints(tmp_path: Path) -> None:
    engine = open_new_database(tmp_path)
    found = inspect(engine)
    for table in metadata.sorted_tables:
        indexes = {
            (item["name"], tuple(item["column_names"])) for item in found.get_indexes(table.name)
        }
        assert indexes == {
            (index.name, tuple(column.name for column in index.columns)) for index in table.indexes
        }
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [
            column.name for column in table.primary_key.columns
        ]
    engine.dispose()


@pytest.mark.parametrize(
    "column", [column for column in COLUMNS if column.name.endswith("_ns")], ids=str
)
def test_times_have_64_bits(column: Column[int]) -> None:
    assert isinstance(column.type, BigInteger)


@pytest.mark.parametrize(
    "column", [column for column in COLUMNS if column.name in {"id", "job_id", "user_id"}], ids=str
)
def test_ids_have_64_bits(column: Column[int]) -> None:
    assert isinstance(column.type, BigInteger)


@pytest.mark.parametrize("name", ["job", "definition", "user_account"])
def test_ids_are_never_given_twice(tmp_path: Path, name: str) -> None:
    engine = open_new_database(tmp_path)
    with engine.connect() as connection:
        query = f"SELECT sql FROM sqlite_master WHERE name = '{name}'"
        assert "AUTOINCREMENT" in connection.exec_driver_sql(query).scalar_one()
    engine.dispose()
