"""A real PostgreSQL in a folder of its own, with a database for each record."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import psycopg

from squash_api.record.database import make_database
from squash_api.record.tables import metadata
from squash_api.record.versions import NEEDED
from tests.support.programs import find_program
from tests.support.server import Server

_USER = "postgres"
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_TRIGGERS = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
_FIRST_IDS = "SELECT setval(c.oid, 1, false) FROM pg_class c WHERE c.relkind = 'S'"
_DISCONNECT_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
_DISCONNECT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_TEMPLATE = "squash_template"
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # The machine of the tests does not lose its power; those that kill the server set them.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "256MB",
}


class PostgreSQL(Server):
    """`postgres`, whose databases are copies of an empty record; `options` are of its own."""

    def __init__(self, **options: str) -> None:
        # It refuses to be root, and pytest's folders are only for whoever runs it.
        folder = Path(tempfile.mkdtemp(prefix="squash-postgresql-"))
        super().__init__(folder, name="postgresql")
        self._options = _OPTIONS | options
        self._programs = Path(find_program("postgres")).resolve().parent
        self._data = folder / "data"
        # By database: a new connection costs as much as what it is for.
        self._administering: dict[str, psycopg.Connection[Any]] = {}

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            shutil.chown(self.folder, _USER, _USER)
        self._run("initdb", "--pgdata", str(self._data), "--auth=trust", "--no-sync", "-U", _USER)
        super().__enter__()
        self.create(_TEMPLATE, template="template1")
        make_database(self.url_of(_TEMPLATE))
        return self

    def __exit__(self, *_: object) -> None:
        for database in list(self._administering):
            self._forget(database)
        # What it would write to the disk in good order is removed anyway.
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self) -> Sequence[str]:
        """Return the command that serves."""
        options = {**self._options, "port": str(self.port)}
        given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return self._as_user("postgres", "-D", str(self._data), *given)

    def is_ready(self) -> bool:
        """Return whether it takes connections."""
        try:
            with closing(self.connect("postgres")):
                return True
        except psycopg.OperationalError:
            return False

    def stop(self) -> int:
        """End it at once; its clients lose their connections."""
        if self._child is not None:
            # SIGTERM, which follows, would wait for the clients.
            self._child.signal(signal.SIGINT)
        return super().stop()

    def kill(self) -> None:
        """End it, with all its processes, as a crash would."""
        if self._child is not None:
            # It ends its own, which a SIGKILL of it alone would leave behind.
            self._child.signal(signal.SIGQUIT)
        super().stop()

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """Connect as the administrator; each statement is a transaction."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=_USER, dbname=database, autocommit=True
        )

    def create(self, database: str, *, template: str = _TEMPLATE) -> None:
        """Make a database: one with an empty record, unless another template is named."""
        with closing(self.connect("postgres")) as connection:
            # Nobody may be using what is copied, and some tests leave a connection open.
            connection.execute(_DISCONNECT_ALL, (template,))
            connection.execute(
                f'CREATE DATABASE "{database}" TEMPLATE "{template}" ENCODING \'UTF8\''.encode()
            )

    def empty(self, database: str) -> bool:
        """Let a database have an empty record again, whoever uses it; False if that cannot be."""
        connection = self._administering.get(database)
        try:
            if connection is not None:
                connection.execute(_DISCONNECT)
        except psycopg.OperationalError:
            # A test has ended all connections, or the server.
            self._forget(database)
            connection = None
        if connection is None:
            connection = self._administering[database] = self.connect(database)
            connection.execute(_DISCONNECT)
        return _empty(connection)

    def drop(self, database: str) -> None:
        """Remove a database, whoever uses it."""
        self._forget(database)
        with closing(self.connect("postgres")) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())

    def url_of(self, database: str) -> str:
        """Return the address of a database, for `SQUASH_DATABASE_URL`."""
        return f"postgresql+psycopg://{_USER}@127.0.0.1:{self.port}/{database}"

    def _forget(self, database: str) -> None:
        """Close the connection that empties a database, if there is one."""
        connection = self._administering.pop(database, None)
        if connection is not None:
            connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            self._as_user(program, *arguments), check=True, capture_output=True, cwd=self.folder
        )

    def _as_user(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() != 0:
            return command
        who = pwd.getpwnam(_USER)
        ids = [f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids, *command]


class Replica(PostgreSQL):
    """A streaming replica of a server, made as docs/facilities.md says."""

    def __init__(self, primary: PostgreSQL, **options: str) -> None:
        super().__init__(**options)
        self._primary = primary

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            shutil.chown(self.folder, _USER, _USER)
        self._run("pg_basebackup", *self.recipe)
        Server.__enter__(self)
        return self

    @property
    def recipe(self) -> Sequence[str]:
        """The options of `pg_basebackup`."""
        source = f"host=127.0.0.1 port={self._primary.port} user={_USER}"
        return (
            *("--dbname", source, "--pgdata", str(self._data)),
            *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"),
        )

    def promote(self) -> None:
        """Let it take writes, and follow nobody any more."""
        with closing(self.connect("postgres")) as connection:
            connection.execute("SELECT pg_promote()")

    def has_all_of(self, primary: PostgreSQL) -> bool:
        """Tell whether it has what the primary has written until now."""
        with closing(primary.connect("postgres")) as connection:
            written = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
        with closing(self.connect("postgres")) as connection:
            query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            found = connection.execute(query, written).fetchone()
        return found is not None and bool(found[0])


def _empty(connection: psycopg.Connection[Any]) -> bool:
    tables = {row[0] for row in connection.execute(_TABLES)}
    if tables != {*metadata.tables, "alembic_version"}:
        return False
    version = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    triggers = [row[0] for row in connection.execute(_TRIGGERS)]
    if version != [(NEEDED,)] or triggers != ["audit_no_change", "job_tell"]:
        return False
    # Neither foreign keys nor triggers: the audit trail refuses otherwise.
    connection.execute("SET session_replication_role = replica")
    # What tables there are stays true.
    connection.execute("DELETE FROM state WHERE key != 'tables'")
    names = metadata.tables.keys() - {"state"}
    connection.execute("".join(f'DELETE FROM "{name}";' for name in names).encode())
    connection.execute(_FIRST_IDS)
    return True
