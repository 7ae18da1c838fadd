"""A record in PostgreSQL, for any number of processes on any number of machines.

Cursors of delivery, of the index, of events and caches rest on one rule: ids and versions become
visible in their order. So every transaction that writes first takes one lock, which PostgreSQL
gives back when it has committed and others see what it wrote; whoever takes it next gets later ids.
Transactions that read take no lock, and see one state of the record.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, Table, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from squash_api.errors import RecordUnavailableError, SettingsError
from squash_api.record.tables import metadata

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
# A primary speaks every 30 s, unless it is set up otherwise.
_SILENCE_S = 60.0
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
ENCODED = (
    "write postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:///FILE, with %40 for "
    "@, %3A for : and %2F for / in user and password; or give the password in PGPASSWORD"
)
"""What to do about a URL that cannot be read."""

TRANSACTION = "squash_transaction"
"""What `Connection.info` has the id of a transaction under, if its commit can be inquired about."""

# What to do about what PostgreSQL says, and the entry of the runbook on it.
_ADVICE = {
    # What earlier versions do not have.
    "pg_current_xact_id": ("PostgreSQL 13 or later is needed", "server-version"),
    "password authentication failed": ("check user and password in the URL", "record-refused"),
    "no password supplied": ("give it in the URL, in PGPASSWORD or in ~/.pgpass", "record-refused"),
    "no pg_hba.conf entry": ("let pg_hba.conf of the server admit this user", "record-refused"),
    "does not exist": ("make it, or name another: see docs/scaling.md", "settings"),
    "permission denied": (
        "let the user of the URL own the database: see docs/scaling.md",
        "record-refused",
    ),
    "Connection refused": (
        "start PostgreSQL, or name another host or port",
        "record-unreachable",
    ),
    "resolve host": ("check the host in the URL", "record-unreachable"),
    "timeout": (
        "see whether PostgreSQL runs, and whether another program holds its locks",
        "record-unreachable",
    ),
    "too many clients": (
        "raise max_connections: each process of SQuaSH opens up to 16",
        "record-connections",
    ),
    "read-only transaction": (
        "name the primary; or end default_transaction_read_only where it is set",
        "record-read-only",
    ),
    "SSL": ("correct sslmode in the URL, or how the server is set up for SSL", "settings"),
    "connection option": ("correct what stands behind ? in the URL", "settings"),
    **dict.fromkeys(
        ("is lost", "server closed the connection", "terminating connection", "starting up"),
        (
            "PostgreSQL has ended the connection: see why in its log, and try again when it runs",
            "record-unreachable",
        ),
    ),
}
# SQLSTATEs by their class that tell nothing of what is stored: connections, users, rights, limits,
# locks, and stops of the server.
_NO_DAMAGE = ("08", "28", "3D", "42", "53", "55", "57")


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
    if any("@" in part for part in (url.host or "", url.database or "")):
        # What stands there is a part of the password, and not shown.
        raise SettingsError(f"SQUASH_DATABASE_URL: it has more than one @: {ENCODED}")
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
        # No column is of that type, and looking for it costs as much as connecting.
        "use_native_hstore": False,
    }


def exists(_url: URL, /) -> bool:
    """Tell that there is something to connect to; connecting makes nothing."""
    return True


def first_damage(engine: Engine, /, *, within_s: float | None = None) -> str | None:
    """Read every row, unless there is little time; return the first that cannot be read.

    PostgreSQL itself notices damage when it reads, if it has checksums. If its extension amcheck is
    there and the user may, tables and indexes are compared too.

    Raises
    ------
    DBAPIError
        If PostgreSQL cannot be asked.
    """
    if within_s is not None:
        return None
    try:
        with engine.connect() as connection:
            for name in _own_tables(connection):
                connection.exec_driver_sql(f'SELECT sum(length("{name}"::text)) FROM "{name}"')  # noqa: S608
            for query in (_DAMAGED_TABLES, _DAMAGED_INDEXES):
                if connection.exec_driver_sql(_AMCHECK, (query.function,)).scalar_one():
                    found = connection.exec_driver_sql(query.sql).scalars().first()
                    if found:
                        return str(found)
    except DBAPIError as error:
        code = getattr(error.orig, "sqlstate", None)
        if code is None or code.startswith(_NO_DAMAGE):
            raise
        return str(error.orig).partition("\n")[0]
    return None


def _own_tables(connection: Connection) -> list[str]:
    found = connection.exec_driver_sql(_TABLES).scalars().all()
    return [name for name in found if name in metadata.tables]


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


@dataclass(frozen=True, slots=True)
class Replication:
    """How a replica follows the record that it is a copy of.

    `is_linked` is whether it is connected to it; `as_of_ns`, in ns since 1970 UTC, is when the
    replica was last as that is, and `lag_s` how long ago. Both are None if that is unknown.
    """

    is_linked: bool
    as_of_ns: int | None
    lag_s: float | None


def replication(engine: Engine, /) -> Replication | None:
    """Return how a replica follows; None if this is no replica, or not any more."""
    with engine.connect() as connection:
        row = connection.exec_driver_sql(_REPLICATION).one()
    if not row.is_replica:
        return None
    # Who is connected to a primary that is silent for longer has lost it, and does not know yet.
    is_linked = row.has_receiver and (row.heard_s is None or row.heard_s < _SILENCE_S)
    if is_linked and row.has_all:
        return Replication(True, time.time_ns(), 0.0)
    if row.behind_s is None:
        return Replication(is_linked, None, None)
    lag_s = max(float(row.behind_s), 0.0)
    return Replication(is_linked, time.time_ns() - int(lag_s * 1e9), lag_s)


def why(_engine: Engine, error: str, /) -> tuple[str, str]:
    """Say in one line why a record cannot be opened and what to do; and the runbook's entry."""
    # More lines are PostgreSQL's own advice.
    said = error.partition("\n")[0]
    found = next((advice for part, advice in _ADVICE.items() if part in said), None)
    return (said, "record_unavailable") if found is None else (f"{said}: {found[0]}", found[1])


def begin(connection: Connection, /) -> None:
    """Begin a transaction that sees one state of the record, or one that alone may write."""
    given = connection.get_execution_options()
    # Imported where there is a connection: the driver is not always installed.
    from psycopg import IsolationLevel  # noqa: PLC0415

    driver: Any = connection.connection.driver_connection
    mode = given.get("squash_mode", "read")
    if mode == "read":
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
    if mode == "alone":
        _require_alone(connection)
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def was_committed(engine: Engine, transaction: str, /) -> bool:
    """Tell whether a transaction was committed whose connection was lost meanwhile.

    Raises
    ------
    RecordUnavailableError
        If PostgreSQL cannot be asked, or no longer knows it.
    """
    ends_s = time.monotonic() + _INQUIRY_S
    query = "SELECT pg_xact_status(%s::xid8)"
    # Without the lock, which the lost connection may still hold.
    reading = engine.execution_options(squash_mode="read")
    while True:
        reason: Exception | None = None
        try:
            with reading.connect() as connection:
                status = connection.exec_driver_sql(query, (transaction,)).scalar_one()
        except (DBAPIError, PoolTimeoutError) as error:
            status, reason = "in progress", error
        if status in {"committed", "aborted"}:
            return bool(status == "committed")
        if status is None or time.monotonic() > ends_s:
            raise RecordUnavailableError(
                "The connection to the database of the record was lost; it is not known whether "
                "this was stored. Try again."
            ) from reason
        time.sleep(_PAUSE_S)


def _require_alone(connection: Connection) -> None:
    """Raise `SettingsError` if another process of SQuaSH is connected to the database."""
    ends_s = time.monotonic() + _INQUIRY_S
    while users := connection.exec_driver_sql(_USERS).scalars().all():
        # A process that has just ended is known for a moment more.
        if time.monotonic() > ends_s:
            raise SettingsError(
                f"the record at {connection.engine.url.render_as_string()} is in use, from "
                f"{', '.join(users)}: stop the service, `squash deliver` and other commands first"
            )
        time.sleep(_PAUSE_S)


def fill(connection: Connection, table: Table, rows: Sequence[Sequence[Any]], /) -> None:
    """Add rows to a table, by COPY.

    Raises
    ------
    SettingsError
        If PostgreSQL refuses one.
    """
    from psycopg import Error  # noqa: PLC0415

    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    driver: Any = connection.connection.driver_connection
    try:
        with (
            driver.cursor() as cursor,
            cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy,
        ):
            for row in rows:
                copy.write_row(row)
    except Error as error:
        raise SettingsError(" ".join(str(error).split())) from error


def last_ids(connection: Connection, /) -> dict[str, int]:
    """Return the last id that each table has given, also to rows that were never committed."""
    return {row.name: row.last for row in connection.exec_driver_sql(_LAST_IDS) if row.last}


def raise_ids(connection: Connection, ids: Mapping[str, int], /) -> None:
    """Let the ids of tables go on behind these."""
    known = last_ids(connection)
    for name, last in ids.items():
        column = metadata.tables[name].autoincrement_column
        if column is not None and last > known.get(name, 0):
            connection.exec_driver_sql(
                "SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (name, column.name, last)
            )


def set_aside(connection: Connection, /) -> str | None:
    """Move the tables of a record into a schema of their own; return it, or None if none is there.

    It can be undone until the transaction is committed.
    """
    names = connection.exec_driver_sql(_TABLES).scalars().all()
    if not names:
        return None
    schemas = set(connection.exec_driver_sql("SELECT nspname FROM pg_namespace").scalars())
    number = 1
    while (schema := f"squash_old_{number}") in schemas:
        number += 1
    connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    for name in names:
        connection.exec_driver_sql(f'ALTER TABLE "{name}" SET SCHEMA {schema}')
    for name in connection.exec_driver_sql(_FUNCTIONS).scalars().all():
        connection.exec_driver_sql(f"ALTER FUNCTION {name}() SET SCHEMA {schema}")
    return schema


def problems(connection: Connection, /) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the tables themselves: a kind, and words."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        yield "encoding", f"the database has the encoding {encoding}, and needs UTF8"
    given = last_ids(connection)
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None:
            continue
        query = f'SELECT coalesce(max("{column.name}"), 0) FROM "{table.name}"'  # noqa: S608
        last = connection.exec_driver_sql(query).scalar_one()
        next_one = given.get(table.name, 0) + 1
        if next_one <= last:
            what = f"the next id of {table.name} would be {next_one}, and the last is {last}"
            yield "ids", f"{what}: stop the service, and raise it with: squash record accept"


def triggers(connection: Connection, /) -> set[str]:
    """Return the names of the triggers that work."""
    return set(connection.exec_driver_sql(_ENABLED).scalars())


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
            reason = "The database of the record does not tell of new jobs"
            raise RecordUnavailableError(f"{reason}.", reason=reason) from error

    def close(self) -> None:
        """Close the connection."""
        pooled, self._pooled = self._pooled, None
        if pooled is not None:
            pooled.close()


def _connect(connection: Any, _record: Any) -> None:
    connection.autocommit = True
    connection.execute(_SESSION)
    connection.autocommit = False


# `heard_s` only if the user may see it (pg_read_all_stats). A receiver that has no connection ends.
_REPLICATION = """
    SELECT pg_is_in_recovery() AS is_replica,
        pg_last_wal_receive_lsn() IS NOT DISTINCT FROM pg_last_wal_replay_lsn() AS has_all,
        extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS behind_s,
        EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE pid IS NOT NULL) AS has_receiver,
        (SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)
            FROM pg_stat_wal_receiver) AS heard_s
"""
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1"
_FUNCTIONS = """
    SELECT proname FROM pg_proc JOIN pg_namespace AS n ON n.oid = pronamespace
    WHERE n.nspname = current_schema() AND proname IN ('squash_refuse', 'squash_tell')
"""
_ENABLED = """
    SELECT tgname FROM pg_trigger JOIN pg_class AS c ON c.oid = tgrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND NOT tgisinternal AND tgenabled <> 'D'
"""
_LAST_IDS = """
    SELECT c.relname AS name, pg_sequence_last_value(d.objid) AS last FROM pg_depend AS d
    JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_class AS c ON c.oid = d.refobjid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE d.deptype IN ('a', 'i') AND n.nspname = current_schema()
"""
# Other processes of ours, by the name that all of them give.
_USERS = """
    SELECT coalesce(client_addr::text, 'this machine') || ' (process ' || pid || ')'
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND application_name = current_setting('application_name')
"""
_AMCHECK = """
    SELECT coalesce((SELECT bool_and(has_function_privilege(oid, 'execute'))
        FROM pg_proc WHERE proname = %s), false)
"""


class _Comparison(NamedTuple):
    """A query of the first damage, by a function of the extension amcheck."""

    function: str
    sql: str


_DAMAGED_TABLES = _Comparison(
    "verify_heapam",
    """
    SELECT c.relname || ': ' || found.msg FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace, verify_heapam(c.oid) AS found
    WHERE n.nspname = current_schema() AND c.relkind = 'r' LIMIT 1
    """,
)
# It raises an error, which names index and row.
_DAMAGED_INDEXES = _Comparison(
    "bt_index_check",
    """
    SELECT bt_index_check(c.oid, true)::text FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_index AS i ON i.indexrelid = c.oid
    JOIN pg_am AS a ON a.oid = c.relam
    WHERE n.nspname = current_schema() AND c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid
    """,
)
