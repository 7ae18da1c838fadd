import asyncio
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from squash_api.errors import RecordUnavailableError, SettingsError
from squash_api.record.record import Record
from squash_api.record.state import get_state, set_state
from squash_api.record.tables import state
from tests.support.builders import open_record


def fact(record: Record, key: str) -> str | None:
    with record.read() as connection:
        return get_state(connection, key)


def test_what_is_written_is_read_back(record: Record) -> None:
    record.write(lambda connection: set_state(connection, "a", "b"))
    assert fact(record, "a") == "b"


def test_what_is_written_is_there_when_the_record_is_opened_again(tmp_path: Path) -> None:
    record = open_record(tmp_path)
    record.write(lambda connection: set_state(connection, "a", "b"))
    record.close()
    record = open_record(tmp_path)
    assert fact(record, "a") == "b"
    record.close()


def test_a_record_that_cannot_be_opened_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError):
        Record.open("nonsense")


async def test_batched_work_gets_the_items_and_gives_an_outcome_for_each(record: Record) -> None:
    def double(_connection: Connection, items: Sequence[int], /) -> list[int]:
        return [2 * item for item in items]

    outcomes = await asyncio.gather(*(record.write_batched(double, item) for item in range(5)))
    assert outcomes == [0, 2, 4, 6, 8]


def test_a_database_that_fails_while_reading_is_unavailable(record: Record) -> None:
    with pytest.raises(RecordUnavailableError), record.read() as connection:
        connection.execute(text("SELECT * FROM no_such_table"))


def test_connections_that_are_all_busy_make_the_record_unavailable(record: Record) -> None:
    busy = PoolTimeoutError("QueuePool limit reached")
    with (
        patch.object(record._engine, "connect", side_effect=busy),
        pytest.raises(RecordUnavailableError),
        record.read(),
    ):
        pass


def test_an_error_of_the_reader_is_not_one_of_the_record(record: Record) -> None:
    with pytest.raises(KeyError), record.read():
        raise KeyError


def test_a_violated_constraint_reaches_the_caller(record: Record) -> None:
    with pytest.raises(IntegrityError):
        record.write(
            lambda connection: connection.execute(insert(state), [{"key": "a", "value": ""}] * 2)
        )


def test_a_closed_record_takes_nothing_more(tmp_path: Path) -> None:
    record = open_record(tmp_path)
    record.close()
    with pytest.raises(RecordUnavailableError):
        record.write(lambda connection: set_state(connection, "a", "b"))
