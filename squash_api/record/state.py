"""Single facts about the record as a whole."""

from sqlalchemy import Connection, delete, insert, select

from squash_api.record.tables import state


def get_state(connection: Connection, key: str) -> str | None:
    """Return a fact, or None if it was never noted."""
    return connection.execute(select(state.c.value).where(state.c.key == key)).scalar_one_or_none()


def set_state(connection: Connection, key: str, value: str) -> None:
    """Note a fact, in place of what was noted before."""
    connection.execute(delete(state).where(state.c.key == key))
    connection.execute(insert(state).values(key=key, value=value))
