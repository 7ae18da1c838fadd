"""Opening the database of the record, and beginning its transactions."""

from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text

from squash_api.errors import SettingsError
from squash_api.record.engines import sqlite

VERSION = "0002"
"""The newest migration of `migrations/versions`."""


class _EngineModule(Protocol):
    """What differs between databases: a module of `engines/`."""

    def checked_url(self, url: URL, /) -> URL:
        """Return the URL to open; raise `SettingsError` if it cannot be."""

    def prepare(self, engine: Engine, /, *, is_made: bool) -> None:
        """Prepare an engine before its first connection."""

    def begin(self, connection: Connection, /) -> None:
        """Begin a transaction; the option `squash_mode` may be `write` or `statement`."""


# Any other database that SQLAlchemy knows is opened without preparation.
_ENGINES: dict[str, _EngineModule] = {"sqlite": sqlite}


def open_database(url: str, *, is_made: bool = True) -> Engine:
    """Open the record, made if `is_made` and it does not exist, and migrate its tables.

    Raises
    ------
    SettingsError
        If the URL is wrong, or the database cannot be opened or migrated.
    """
    try:
        parsed = make_url(url)
        kind = _ENGINES.get(parsed.get_backend_name())
        parsed = parsed if kind is None else kind.checked_url(parsed)
        engine = create_engine(parsed, pool_size=8, max_overflow=32)
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(f"SQUASH_DATABASE_URL: {error}") from error
    try:
        if kind is not None:
            kind.prepare(engine, is_made=is_made)
            event.listen(engine, "begin", kind.begin)
        _migrate(engine)
    except Exception as error:
        engine.dispose()
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record at {make_url(url).render_as_string()} cannot be "
            f"opened: {getattr(error, 'orig', None) or error}"
        ) from error
    return engine


def writing(engine: Engine) -> Engine:
    """Return the engine for transactions that write."""
    return engine.execution_options(squash_mode="write")


def by_statement(engine: Engine) -> Engine:
    """Return the engine for transactions that end with each statement, if the database can."""
    return engine.execution_options(squash_mode="statement")


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        is_known = inspect(connection).has_table("alembic_version")
        query = text("SELECT version_num FROM alembic_version")
        if is_known and connection.execute(query).scalar() == VERSION:
            return
    # Alembic takes a third of a second to import.
    from alembic import command, config  # noqa: PLC0415

    alembic = config.Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with writing(engine).begin() as connection:
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "head")
