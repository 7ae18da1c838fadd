"""Opening the database of the record, and beginning its transactions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import DBAPIError

from squash_api.errors import SettingsError
from squash_api.record.engines import postgresql, sqlite
from squash_api.record.engines.postgresql import ENCODED, TRANSACTION, News, Replication
from squash_api.record.engines.sqlite_file import SEE, RecordFile
from squash_api.record.tables import state, triggers_of
from squash_api.record.versions import (
    VERSION,
    Tables,
    are_current,
    make_tables,
    tables_of,
    upgrade,
)

MOVED_TO = "moved_to"
"""In `state`, where a record is now that was moved out of a database that is not a file."""

_SETTING = "SQUASH_DATABASE_URL: "
# A start looks for damage for so long.
_CHECK_S = 0.5

PATIENCE_S = 30.0
"""How long a start, or a command, waits for another process that writes."""


class _EngineModule(Protocol):
    """What differs between databases: a module of `engines/`."""

    def checked_url(self, url: URL, /) -> URL:
        """Return the URL to open; raise `SettingsError` if it cannot be."""

    def options(self, url: URL, /) -> dict[str, Any]:
        """Return the options of `create_engine`."""

    def exists(self, url: URL, /) -> bool:
        """Tell whether there is something to connect to; a checked URL.

        Raises `SettingsError` if there was, and it is gone.
        """

    def first_damage(self, engine: Engine, /, *, within_s: float | None = None) -> str | None:
        """Look for damage to what is stored, for so long; return the first that is found."""

    def file_of(self, engine: Engine, /) -> RecordFile | None:
        """Return the file of a record that has been opened, if it is one."""

    def fill(self, connection: Connection, table: Table, rows: Sequence[Any], /) -> None:
        """Add rows to a table; raise `SettingsError` if one is refused."""

    def last_ids(self, connection: Connection, /) -> dict[str, int]:
        """Return the last id that each table has given."""

    def raise_ids(self, connection: Connection, ids: Mapping[str, int], /) -> None:
        """Let the ids of tables go on behind these."""

    def problems(self, connection: Connection, /) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the tables themselves: a kind, and words."""

    def triggers(self, connection: Connection, /) -> set[str]:
        """Return the names of the triggers that work."""

    def news_of(self, engine: Engine, /) -> News | None:
        """Return what tells of jobs that other processes store, if the database does."""

    def prepare(self, engine: Engine, /) -> None:
        """Prepare an engine before its first connection."""

    def advice(self, engine: Engine, /) -> str | None:
        """Say why a record should not be where it is, or None."""

    def replication(self, engine: Engine, /) -> Replication | None:
        """Return how a replica follows; None if the database is none."""

    def why(self, engine: Engine, error: str, /) -> tuple[str, str]:
        """Say why the record cannot be opened, from what the database says.

        The second is the entry of the runbook on that.
        """

    def begin(self, connection: Connection, /) -> None:
        """Begin a transaction.

        The option `squash_mode` may be `write`, `statement`, or `alone`: nobody else may be
        writing, for however long. And `squash_patience_s` is how long
        at least to wait for another process that writes.
        """

    def was_committed(self, engine: Engine, transaction: str, /) -> bool:
        """Tell whether a transaction was committed whose connection was lost meanwhile.

        Raises `RecordUnavailableError` if that cannot be known.
        """


_log = structlog.get_logger(__name__)

_ENGINES: dict[str, _EngineModule] = {"sqlite": sqlite, "postgresql": postgresql}
_Result = TypeVar("_Result")


def make_database(url: str) -> bool:
    """Make an empty record, unless there is one; tell whether it was made.

    Raises
    ------
    SettingsError
        If the URL is wrong, the directory does not exist, the database cannot be opened, or it has
        tables that are not a record's.
    """
    parsed, kind = _parse(url)
    kind.exists(parsed)
    engine = _connect(parsed, kind)
    with _explained(engine, kind):
        is_new = not _is_record(engine)
        if is_new and inspect(engine).get_table_names():
            raise _other_database(url)
        if is_new and kind.replication(engine) is not None:
            raise SettingsError(
                f"SQUASH_DATABASE_URL: {place_of(url)} is a replica, and there is no record on it "
                "yet: start the service on its primary first"
            )
        if is_new:
            is_new = _make_tables(engine)
        else:
            _require_here(engine)
    engine.dispose()
    return is_new


def _other_database(url: str) -> SettingsError:
    return SettingsError(
        f"SQUASH_DATABASE_URL: {place_of(url)} is another database, not a record: name another "
        "place"
    )


def open_database(url: str, *, is_checked: bool = False, only_reads: bool = False) -> Engine:
    """Open the record, and migrate its tables.

    With `is_checked`, look for damage first, for about a second. A record that is a replica, or
    that this process `only_reads`, is not migrated: it must have the tables of this release.

    Raises
    ------
    SettingsError
        If the URL is wrong, there is no record, it is damaged, or cannot be opened or migrated.
    """
    parsed, kind = _parse(url)
    missing = SettingsError(
        f"SQUASH_DATABASE_URL: there is no record at {place_of(url)}: name the one you mean, or "
        "make an empty one with: squash record init"
    )
    if not kind.exists(parsed):
        raise missing
    engine = _connect(parsed, kind)
    with _explained(engine, kind):
        if not _is_record(engine):
            raise missing
        _require_here(engine)
        if is_checked:
            _require_whole(engine, kind)
            if (advice := kind.advice(engine)) is not None:
                _log.warning(advice, place=place_of(url), runbook="record-unsafe")
        if only_reads or kind.replication(engine) is not None:
            require_tables(engine)
        else:
            _migrate(engine)
    return engine


def replication_of(engine: Engine) -> Replication | None:
    """Return how a replica follows the record that it is a copy of; None if it is none."""
    return _kind_of(engine.url).replication(engine)


def require_tables(engine: Engine) -> None:
    """Raise `SettingsError` unless a record that is only read has the tables of this release."""
    place = place_of(_full(engine))
    with engine.connect() as connection:
        if are_current(connection, place):
            return
        found = tables_of(connection)
    if found is None or found.present < VERSION:
        there = "none" if found is None else f"version {found.present}"
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record at {place} is of an earlier release, and this "
            f"service only reads it: its tables are of {there}, and this release needs {VERSION}. "
            "Upgrade the service that writes first; or run the earlier release here meanwhile",
            runbook="only_reads",
        )


@contextmanager
def said_of(option: str) -> Iterator[None]:
    """Say what is wrong with a URL of this option, rather than of the setting."""
    try:
        yield
    except SettingsError as error:
        if not error.message.startswith(_SETTING):
            raise
        words = error.message.removeprefix(_SETTING)
        raise SettingsError(f"{option}: {words}", runbook=error.runbook) from error


@contextmanager
def opened_anyhow(url: str) -> Iterator[Engine]:
    """Open a database, whatever is in it, for as long as the context; nothing is made or migrated.

    Raises
    ------
    SettingsError
        If the URL is wrong, or the database cannot be opened or fails.
    """
    parsed, kind = _parse(url)
    engine = _connect(parsed, kind)
    try:
        with _explained(engine, kind):
            yield engine
    finally:
        engine.dispose()


def damage_of(url: str) -> str | None:
    """Look at everything that is stored; return the first damage that is found.

    Raises
    ------
    SettingsError
        If there is no record.
    """
    parsed, kind = _parse(url)
    if not kind.exists(parsed):
        raise SettingsError(f"SQUASH_DATABASE_URL: there is no record at {place_of(url)}")
    engine = _connect(parsed, kind)
    with _explained(engine, kind):
        try:
            found = kind.first_damage(engine)
        except DBAPIError as error:
            if not _is_damage(str(error.orig)):
                raise
            found = str(error.orig)
    engine.dispose()
    return found


@dataclass(frozen=True, slots=True)
class Seen:
    """What a record is like, as seen without changing it.

    `tables` are what it has, `advice` why it should not be where it is, and `damage` the
    first damage that is found in about a second.
    """

    tables: Tables
    advice: str | None
    damage: str | None


def look_at(url: str) -> Seen | None:
    """Look at a record that may be in use; nothing is made or migrated. None if there is none.

    Raises
    ------
    SettingsError
        If the URL is wrong, the record cannot be opened, there was one, or it is something else.
    """
    parsed, kind = _parse(url)
    if not kind.exists(parsed):
        return None
    engine = _connect(parsed, kind)
    with _explained(engine, kind):
        with engine.connect() as connection:
            tables = tables_of(connection)
        if tables is None:
            if inspect(engine).get_table_names():
                raise _other_database(url)
            engine.dispose()
            return None
        advice = kind.advice(engine)
        damage = kind.first_damage(engine, within_s=_CHECK_S)
    engine.dispose()
    return Seen(tables, advice, damage)


def _is_damage(reason: str) -> bool:
    return "malformed" in reason or "not a database" in reason


def file_of(engine: Engine) -> RecordFile | None:
    """Return the file of an open record, if the database is one."""
    return _kind_of(engine.url).file_of(engine)


def news_of(engine: Engine) -> News | None:
    """Return what tells of jobs that other processes store, if the database does."""
    return _kind_of(engine.url).news_of(engine)


def _require_whole(engine: Engine, kind: _EngineModule) -> None:
    damage = kind.first_damage(engine, within_s=_CHECK_S)
    if damage is not None:
        raise _damage_error(str(engine.url.database), damage)


def _damage_error(place: str, damage: str) -> SettingsError:
    text = f"SQUASH_DATABASE_URL: {damaged(place, damage)}"
    return SettingsError(text, runbook="record-damaged")


def damaged(place: str, damage: str) -> str:
    """Say that a record is damaged, and what to do."""
    return (
        f"the record at {place} is damaged ({damage}): restore a backup with: squash record "
        "restore BACKUP; or copy what can be read with: squash record salvage --to NEW; "
        f"{SEE}"
    )


def place_of(url: str) -> str:
    """Return the whole path of a record's file, or its URL without the password."""
    parsed, _ = _parse(url)
    return parsed.render_as_string() if parsed.host else str(parsed.database)


def file_at(url: str) -> Path | None:
    """Return the file of a record; None if it is in a database that is not a file."""
    parsed, kind = _parse(url)
    return Path(parsed.database or "") if kind is sqlite else None


def fill(connection: Connection, table: Table, rows: Sequence[Any]) -> None:
    """Add rows to a table, in the order of its columns.

    Raises
    ------
    SettingsError
        If the database refuses one.
    """
    _kind_of(connection.engine.url).fill(connection, table, rows)


def last_ids(connection: Connection) -> dict[str, int]:
    """Return the last id that each table has given, also to rows that are gone."""
    return _kind_of(connection.engine.url).last_ids(connection)


def raise_ids(connection: Connection, ids: Mapping[str, int]) -> None:
    """Let the ids of tables go on behind these."""
    _kind_of(connection.engine.url).raise_ids(connection, ids)


def problems(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the tables themselves: a kind, and words."""
    kind = _kind_of(connection.engine.url)
    yield from kind.problems(connection)
    for name in sorted(triggers_of(connection.dialect.name) - kind.triggers(connection)):
        yield "trigger", f"the trigger {name} is missing or disabled"


def _parse(url: str) -> tuple[URL, _EngineModule]:
    try:
        parsed = make_url(url)
    except Exception as error:
        # SQLAlchemy's message may have a part of the password.
        raise SettingsError(f"{_SETTING}it is no URL of a database: {ENCODED}") from error
    kind = _kind_of(parsed)
    return kind.checked_url(parsed), kind


def _kind_of(url: URL) -> _EngineModule:
    kind = _ENGINES.get(url.get_backend_name())
    if kind is None:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: a record cannot be in '{url.get_backend_name()}': name "
            "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
        )
    return kind


def _connect(url: URL, kind: _EngineModule) -> Engine:
    try:
        engine = create_engine(url, hide_parameters=True, **kind.options(url))
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: {url.drivername} needs the Python package '{error.name}', which "
            "is not installed: install it with: pip install "
            f"'squash-api[{url.get_backend_name()}]'; or name another database"
        ) from error
    except Exception as error:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: {url.render_as_string()} cannot be opened: {error}"
        ) from error
    kind.prepare(engine)
    event.listen(engine, "begin", kind.begin)
    return engine


@contextmanager
def _explained(engine: Engine, kind: _EngineModule) -> Iterator[None]:
    """Turn failures into `SettingsError`, after which the engine is of no use."""
    try:
        yield
    except Exception as error:
        engine.dispose()
        if isinstance(error, SettingsError):
            raise
        reason = str(getattr(error, "orig", None) or error)
        if _is_damage(reason):
            raise _damage_error(str(engine.url.database), reason) from error
        words, entry = kind.why(engine, reason)
        text = f"the record at {engine.url.render_as_string()} cannot be opened: {words}"
        raise SettingsError(f"{_SETTING}{text}", runbook=entry) from error


def writing(engine: Engine, *, patience_s: float = 0.0) -> Engine:
    """Return the engine for transactions that write.

    Each waits a few seconds for another process that writes, or `patience_s` if that is longer.
    """
    return engine.execution_options(squash_mode="write", squash_patience_s=patience_s)


def alone(engine: Engine) -> Engine:
    """Return the engine for transactions of any length, during which nobody else writes.

    To begin one raises `SettingsError` if another process uses a database that is not a file.
    """
    return engine.execution_options(squash_mode="alone")


def by_statement(engine: Engine) -> Engine:
    """Return the engine for transactions that end with each statement, if the database can."""
    return engine.execution_options(squash_mode="statement")


def transact(engine: Engine, work: Callable[..., _Result], *given: Any) -> _Result:
    """Do work with a connection, and with what is given, in a transaction, and commit it.

    If the connection is lost during the commit, the database is asked what became of it.

    Raises
    ------
    RecordUnavailableError
        If that cannot be known.
    """
    transaction: str | None = None
    try:
        with engine.begin() as connection:
            result = work(connection, *given)
            transaction = connection.info.get(TRANSACTION)
    except DBAPIError as error:
        is_unclear = transaction is not None and error.connection_invalidated
        if not is_unclear or not _kind_of(engine.url).was_committed(engine, str(transaction)):
            raise
    return result


def _require_here(engine: Engine) -> None:
    with engine.connect() as connection:
        moved_to = connection.execute(select(state.c.value).where(state.c.key == MOVED_TO)).scalar()
    if moved_to is not None:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record of {place_of(_full(engine))} was moved to {moved_to}:"
            " name that"
        )


def _full(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def _is_record(engine: Engine) -> bool:
    with engine.connect() as connection:
        return tables_of(connection) is not None


def _make_tables(engine: Engine) -> bool:
    """Make the tables, unless another process just has; tell whether they were made."""
    with writing(engine, patience_s=PATIENCE_S).begin() as connection:
        if is_new := tables_of(connection) is None:
            make_new_tables(connection)
    return is_new


def make_new_tables(connection: Connection) -> None:
    """Make the tables of an empty record, in an open transaction.

    Raises
    ------
    SettingsError
        If the database is not fit for them.
    """
    make_tables(connection)
    for _, what in problems(connection):
        raise SettingsError(f"SQUASH_DATABASE_URL: {what}")


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if are_current(connection, place_of(_full(engine))):
            return
    with writing(engine, patience_s=PATIENCE_S).begin() as connection:
        upgrade(connection)
