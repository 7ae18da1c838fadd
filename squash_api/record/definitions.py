"""Definitions of metrics and specifications: rows are only ever added, the newest is in force."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, or_, select

from squash_api.record.bulk import in_chunks
from squash_api.record.jobs import current_revision
from squash_api.record.tables import definition

Kind = Literal["metric", "spec"]
Origin = Literal["api", "yaml"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionRow:
    """What a name means from one revision on. A `document` of None means it is defined no more.

    `revision` is 0 until the row is stored. `source` is file and line, for YAML; `user_id` is who
    wrote it, for the API.
    """

    revision: int = 0
    kind: Kind
    name: str
    document: dict[str, Any] | None
    origin: Origin
    source: str | None = None
    user_id: int | None = None
    created_ns: int


def append_definitions(connection: Connection, rows: Sequence[DefinitionRow]) -> int:
    """Store definitions in this order; return the newest revision."""
    if rows:
        connection.execute(
            insert(definition),
            [
                {
                    "kind": row.kind,
                    "name": row.name,
                    "document": None if row.document is None else json.dumps(row.document),
                    "origin": row.origin,
                    "source": row.source,
                    "user_id": row.user_id,
                    "created_ns": row.created_ns,
                }
                for row in rows
            ],
        )
    return current_revision(connection)


def newest_revisions(
    connection: Connection,
    kind: Kind,
    *,
    names: Iterable[str] | None = None,
    through: int | None = None,
) -> dict[str, int]:
    """Return the newest revision of each name, of those that are defined no more too.

    Parameters
    ----------
    names
        Only these.
    through
        As of this revision.
    """
    query = (
        select(definition.c.name, func.max(definition.c.revision))
        .where(definition.c.kind == kind)
        .group_by(definition.c.name)
    )
    if through is not None:
        query = query.where(definition.c.revision <= through)
    if names is None:
        return {row[0]: row[1] for row in connection.execute(query)}
    return {
        row[0]: row[1]
        for chunk in in_chunks(names)
        for row in connection.execute(query.where(definition.c.name.in_(chunk)))
    }


def definitions_at(connection: Connection, revisions: Iterable[int]) -> list[DefinitionRow]:
    """Return the rows of these revisions."""
    return [
        _row(found)
        for chunk in in_chunks(revisions)
        for found in connection.execute(_DEFINITION.where(definition.c.revision.in_(chunk)))
    ]


def current(
    connection: Connection, kind: Kind, *, names: Iterable[str] | None = None
) -> dict[str, DefinitionRow]:
    """Return what is defined now, by name; only of these names, if given."""
    revisions = newest_revisions(connection, kind, names=names)
    return _defined(definitions_at(connection, revisions.values()))


def in_force(connection: Connection, kind: Kind, revision: int) -> dict[str, DefinitionRow]:
    """Return what was defined as of a revision, by name."""
    revisions = newest_revisions(connection, kind, through=revision)
    return _defined(definitions_at(connection, revisions.values()))


def one(connection: Connection, kind: Kind, name: str) -> DefinitionRow | None:
    """Return what a name means now, or None if it is not defined."""
    return current(connection, kind, names=[name]).get(name)


def owner_of(connection: Connection, kind: Kind, name: str) -> int | None:
    """Return the user who defined a name, whoever has changed it since; None if it is YAML's."""
    is_it = (definition.c.kind == kind) & (definition.c.name == name)
    begin = select(func.coalesce(func.max(definition.c.revision), 0)).where(
        is_it, or_(definition.c.document.is_(None), definition.c.origin != "api")
    )
    return connection.execute(
        select(definition.c.user_id)
        .where(is_it, definition.c.revision > begin.scalar_subquery())
        .order_by(definition.c.revision)
        .limit(1)
    ).scalar_one_or_none()


def expected_since(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return since when (ns) each of these specifications says without a break what it expects."""
    since: dict[str, int] = {}
    query = _DEFINITION.where(definition.c.kind == "spec").order_by(definition.c.revision)
    for chunk in in_chunks(names):
        for found in connection.execute(query.where(definition.c.name.in_(chunk))):
            row = _row(found)
            if row.document is None or row.document.get("expect") is None:
                since.pop(row.name, None)
            else:
                since.setdefault(row.name, row.created_ns)
    return since


_DEFINITION = select(
    definition.c.revision,
    definition.c.kind,
    definition.c.name,
    definition.c.document,
    definition.c.origin,
    definition.c.source,
    definition.c.user_id,
    definition.c.created_ns,
)


def _row(found: Any) -> DefinitionRow:
    return DefinitionRow(
        revision=found.revision,
        kind=found.kind,
        name=found.name,
        document=None if found.document is None else json.loads(found.document),
        origin=found.origin,
        source=found.source,
        user_id=found.user_id,
        created_ns=found.created_ns,
    )


def _defined(rows: Iterable[DefinitionRow]) -> dict[str, DefinitionRow]:
    return {row.name: row for row in rows if row.document is not None}
