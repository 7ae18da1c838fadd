"""Which tables a record has, and which releases can use them.

A migration expands the tables: what the release before reads and writes stays as it is. So that
release goes on while the new one runs on the same record, and can be started again. Only when no
supported release uses something any more does a migration contract, and `NEEDED` is raised to it.

Alembic's table has the newest migration that code must know: releases refuse a record with one
that they do not know. What the tables have beyond it is in `state`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
    update,
)

from squash_api.errors import SettingsError
from squash_api.record.lookalikes import skeleton
from squash_api.record.tables import metadata, metric, own_unit, state, user

VERSION = "0006"
"""The newest migration of `migrations/versions`."""

NEEDED = "0004"
"""The newest migration that code must know to use the tables; those after it only expand."""

RELEASES: Mapping[str, str] = {
    "1.2": "0002",
    "1.3": "0002",
    "2.0": "0003",
    "2.1": "0004",
    "2.2": "0004",
    "2.3": "0005",
    "2.4": "0006",
    "2.5": "0006",
    "2.6": "0006",
}
"""The releases that can use these tables, each with the newest migration that it knows."""

MIGRATIONS = Path(__file__).parent / "migrations"

_PRESENT = "tables"
# As Alembic makes it.
_ALEMBIC = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


@dataclass(frozen=True, slots=True)
class Tables:
    """The newest migration of a record's tables, and the newest that code must know of them."""

    present: str
    needed: str


def tables_of(connection: Connection) -> Tables | None:
    """Return what tables a record has; None if it has none."""
    names = inspect(connection).get_table_names()
    if _ALEMBIC.name not in names:
        return None
    needed: str | None = connection.execute(select(_ALEMBIC.c.version_num)).scalar()
    if needed is None:
        return None
    present = None
    if state.name in names:
        present = connection.execute(_SELECT_PRESENT).scalar()
    return Tables(max(present or needed, needed), needed)


def are_current(connection: Connection, place: str) -> bool:
    """Tell whether a record has all tables that this release needs.

    Raises
    ------
    SettingsError
        If a later release has changed them so that this one cannot use them.
    """
    found = tables_of(connection)
    if found is not None and found.needed > VERSION:
        raise SettingsError(
            f"SQUASH_DATABASE_URL: the record at {place} is of a later release: its tables are of "
            f"version {found.needed}, and this release knows them up to {VERSION}. Start the later "
            "release; or restore the backup that was made before the upgrade"
        )
    return found is not None and found.present >= VERSION and found.needed >= NEEDED


def make_tables(connection: Connection) -> None:
    """Make the tables of this release in an empty database, in an open transaction."""
    metadata.create_all(connection)
    _ALEMBIC.create(connection)
    _stamp(connection, needed=NEEDED, present=VERSION)


def upgrade(connection: Connection) -> None:
    """Give a record the tables of this release, in an open transaction that writes."""
    found = tables_of(connection)
    if found is None or found.present < VERSION:
        # Alembic takes a third of a second to import.
        from alembic import command, config  # noqa: PLC0415

        alembic = config.Config()
        alembic.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        alembic.attributes["connection"] = connection
        if found is not None:
            _stamp(connection, needed=found.present, present=found.present)
        command.upgrade(alembic, "head")
    elif found.needed < NEEDED:
        _mend(connection)
    _stamp(connection, needed=NEEDED, present=max(VERSION, found.present if found else VERSION))


def go_back(connection: Connection, release: str) -> Tables:
    """Let an older release use a record, which nobody may be using.

    The tables stay; when a newer release is started again, nothing is lost.

    Raises
    ------
    SettingsError
        If that release cannot use the tables.
    """
    needed = RELEASES.get(".".join(release.removeprefix("v").split(".")[:2]))
    if needed is None:
        raise SettingsError(
            f"no release {release} can use this record: name one of {', '.join(RELEASES)}"
        )
    found = tables_of(connection)
    present = VERSION if found is None else found.present
    # Releases that know nothing of them would add values to them that nobody sees.
    gone = metric.c.is_gone.is_(True)
    connection.execute(
        delete(own_unit).where(own_unit.c.metric_id.in_(select(metric.c.id).where(gone)))
    )
    connection.execute(delete(metric).where(gone))
    _stamp(connection, needed=needed, present=present)
    return Tables(present, needed)


def _stamp(connection: Connection, *, needed: str, present: str) -> None:
    connection.execute(delete(_ALEMBIC))
    connection.execute(insert(_ALEMBIC).values(version_num=needed))
    connection.execute(delete(state).where(state.c.key == _PRESENT))
    if present != needed:
        connection.execute(insert(state).values(key=_PRESENT, value=present))


def _mend(connection: Connection) -> None:
    """Fill in what an older release has left out while it used the tables: see migration 0004."""
    taken = set(connection.execute(select(user.c.skeleton)).scalars())
    bare = select(user.c.id, user.c.name).where(user.c.skeleton.is_(None)).order_by(user.c.id)
    for row in connection.execute(bare).all():
        looks_like = skeleton(row.name)
        if looks_like not in taken:
            taken.add(looks_like)
            named = update(user).where(user.c.id == row.id)
            connection.execute(named.values(skeleton=looks_like))


_SELECT_PRESENT = select(state.c.value).where(state.c.key == _PRESENT)
