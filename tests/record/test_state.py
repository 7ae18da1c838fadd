from sqlalchemy import Connection

from squash_api.record.state import get_state, set_state


def test_a_fact_that_was_never_noted_is_none(connection: Connection) -> None:
    assert get_state(connection, "a") is None


def test_a_noted_fact_is_found(connection: Connection) -> None:
    set_state(connection, "a", "1")
    set_state(connection, "b", "2")
    assert get_state(connection, "a") == "1"


def test_a_fact_is_replaced(connection: Connection) -> None:
    set_state(connection, "a", "1")
    set_state(connection, "a", "2")
    assert get_state(connection, "a") == "2"
