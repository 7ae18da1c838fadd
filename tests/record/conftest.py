"""An open record with two users, ada (1) and bob (2)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from squash_api.record.record import Record
from tests.support.builders import add_test_user, open_record


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = open_record(tmp_path)
    add_test_user(record, "ada")
    add_test_user(record, "bob")
    yield record
    record.close()


@pytest.fixture
def connection(record: Record) -> Iterator[Connection]:
    """A transaction that sees its own changes and is undone at the end."""
    with record._engine.connect() as connection:
        yield connection
