"""A record in PostgreSQL, for any number of processes on any number of machines.

Cursors of delivery, of the index, of events and caches rest on one rule: ids and versions become
visible in their order. So every transaction that writes first takes one lock, which PostgreSQL
gives back when it has committed and others see what it wrote; whoever takes it next gets later ids.
Transactions that read take no lock, and see one state of the record.
"""

import time
from typing import Any

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from squash_api.errors import RecordUnavailableError, SettingsError

# Of this database only: other records, in other databases of the server, have their own.
_LOCK = 0x5351_7561_5348
_BUSY_TIMEOUT_MS = 2_000
# A process that hangs in the middle of writing must not hold the lock for ever. A setting of the
# server, the database or the URL counts more.
_IDLE_TIMEOUT_MS = 30_000
# How long a lost connection's commit is inquired about. Restarts are over by then.
_INQUIRY_S = 5.0
_PAUSE_S = 0.1
_DRIVER = "postgresql+psycopg"
# Of a session, whatever the server's own are: a commit returns when it is on the disk, as a 202
# promises, and compiling a query costs more than our queries take.
_SESSION = f"""
    SELECT set_config('lock_timeout', '{_BUSY_TIMEOUT_MS}', false), set_config('jit', 'off', false),
        set_config('synchronous_commit', CASE current_setting('synchronous_commit')
            WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""
_IDLE = "current_setting('idle_in_transaction_session_timeout')"
_BEGIN = f"""
    SELECT set_config('lock_timeout', %s, true),
        set_config('idle_in_transaction_session_timeout',
            CASE {_IDLE} WHEN '0' THEN '{_IDLE_TIMEOUT_MS}' ELSE {_IDLE} END, true),
        pg_advisory_xact_lock({_LOCK}), pg_current_xact_id()::text
"""
TRANSACTION = "squash_transaction"
"""What `Connection.info` has the id of a transaction under, if its commit can be inquired about."""

_ADVICE = {
    "password authentication failed": "check user and password in the URL",
    "no password supplied": "give it in the URL, in PGPASSWORD or in ~/.pgpass",
    "does not exist": "make it, or name another: see docs/scaling.md",
    "permission denied": "let the user of the URL own the database: see docs/scaling.md",
    "Connection refused": "start PostgreSQL, or name another host or port",
    "resolve host": "check the host in the URL",
    "timeout": "see whether PostgreSQL runs, and another program holds its locks",
    "too many clients": "raise max_connections: each process of SQuaSH opens up to 16",
}


def checked_url(url: URL, /) -> URL:
    """Return the URL, with the one driver that is supported.

    Raises
    ------
    SettingsError
        If it names another one.
    """
    if url.drivername not in {"postgresql", _DRIVER}:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the driver '{url.drivername.partition('+')[2]}' is not "
            f"supported: write {_DRIVER}://USER@HOST/DATABASE"
        )
    return url.set(drivername=_DRIVER)


def options(url: URL, /) -> dict[str, Any]:
    """Return how connections are made and kept; what the URL says counts more."""
    given = {
        "application_name": "squash",
        "connect_timeout": 5,
        # A host that is gone without a word is noticed within half a minute.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "client_encoding": "utf8",
    }
    return {
        "connect_args": {name: value for name, value in given.items() if name not in url.query},
        # A server allows 100 in all, unless it is set up for more.
        "pool_size": 4,
        "max_overflow": 12,
        "pool_pre_ping": True,
    }


def exists(_url: URL, /) -> bool:
    """Tell that there is something to connect to; connecting makes nothing."""
    return True


def first_damage(engine: Engine, /, *, within_s: float | None = None) -> str | None:
    """Read every row, unless there is little time; return the first that cannot be read.

    PostgreSQL itself notices damage when it reads, if it has checksums.
    """
    if within_s is not None:
        return None
    try:
        with engine.connect() as connection:
            for name in connection.exec_driver_sql(_TABLES).scalars().all():
                connection.exec_driver_sql(f'SELECT sum(length("{name}"::text)) FROM "{name}"')  # noqa: S608
    except DBAPIError as error:
        return str(error.orig).partition("\n")[0]
    return None


def prepare(engine: Engine, /) -> None:
    """Set up every connection."""
    event.listen(engine, "connect", _connect)


def file_of(_engine: Engine, /) -> None:
    """Return None: the server keeps the files."""


def news_of(engine: Engine, /) -> "News":
    """Return what tells of new jobs."""
    return News(engine)


def advice(engine: Engine, /) -> str | None:
    """Say why jobs are not safe in this database; None if they are, as far as it tells."""
    with engine.connect() as connection:
        off = [
            name
            for name in ("fsync", "full_page_writes")
            if connection.exec_driver_sql(f"SHOW {name}").scalar_one() == "off"
        ]
    if off:
        return f"PostgreSQL runs with {' and '.join(off)} off: a crash of its machine loses jobs"
    return None


def why(_engine: Engine, error: str, /) -> str:
    """Say more of why a record cannot be opened than PostgreSQL does, in one line."""
    said = " ".join(error.split())
    hint = next((words for part, words in _ADVICE.items() if part in said), None)
    return said if hint is None else f"{said}: {hint}"


def begin(connection: Connection, /) -> None:
    """Begin a transaction that sees one state of the record, or one that alone may write."""
    given = connection.get_execution_options()
    # Imported where there is a connection: the driver is not always installed.
    from psycopg import IsolationLevel  # noqa: PLC0415

    driver: Any = connection.connection.driver_connection
    if given.get("squash_mode", "read") == "read":
        driver.isolation_level = IsolationLevel.REPEATABLE_READ
        driver.read_only = True
        return
    # Each statement sees what was committed before it, so all of them see what the last writer did.
    driver.isolation_level = IsolationLevel.READ_COMMITTED
    # As the session has it: who sets a database to be read only means us too.
    driver.read_only = None
    patience_ms = max(_BUSY_TIMEOUT_MS, int(1000 * given.get("squash_patience_s", 0.0)))
    row = connection.exec_driver_sql(_BEGIN, (str(patience_ms),)).one()
    connection.info[TRANSACTION] = row[-1]


def was_committed(engine: Engine, transaction: str, /) -> bool:
    """Tell whether a transaction was committed whose connection was lost meanwhile.

    Raises
    ------
    RecordUnavailableError
        If PostgreSQL cannot be asked, or no longer knows it.
    """
    ends_s = time.monotonic() + _INQUIRY_S
    query = "SELECT pg_xact_status(%s::xid8)"
    while True:
        reason: DBAPIError | None = None
        try:
            with engine.connect() as connection:
                status = connection.exec_driver_sql(query, (transaction,)).scalar_one()
        except DBAPIError as error:
            status, reason = "in progress", error
        if status in {"committed", "aborted"}:
            return bool(status == "committed")
        if status is None or time.monotonic() > ends_s:
            raise RecordUnavailableError(
                "The connection to the database of the record was lost; it is not known whether "
                "this was stored. Try again."
            ) from reason
        time.sleep(_PAUSE_S)


class News:
    """Hears of the jobs that any process stores, over a connection of its own. For one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pooled: Any = None

    def wait(self, timeout_s: float) -> bool:
        """Wait until somebody has stored a job, or for so long; tell whether somebody has.

        What was stored before the first call, or while there was no connection, is not told.

        Raises
        ------
        RecordUnavailableError
            If there is no connection; the next call makes another one.
        """
        from psycopg import Error  # noqa: PLC0415

        try:
            if self._pooled is None:
                self._pooled = self._engine.raw_connection()
                self._pooled.detach()
                self._pooled.dbapi_connection.autocommit = True
                self._pooled.dbapi_connection.execute("LISTEN squash_job")
            told = self._pooled.dbapi_connection.notifies(timeout=timeout_s, stop_after=1)
            return any(True for _ in told)
        except (DBAPIError, PoolTimeoutError, Error) as error:
            self.close()
            raise RecordUnavailableError("The database does not tell of new jobs.") from error

    def close(self) -> None:
        """Close the connection."""
        pooled, self._pooled = self._pooled, None
        if pooled is not None:
            pooled.close()


def _connect(connection: Any, _record: Any) -> None:
    connection.autocommit = True
    connection.execute(_SESSION)
    connection.autocommit = False


_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
