"""Definitions of metrics and specifications: rows are only ever added, the newest is in force."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import Connection, func, insert, or_, select

from squash_api.record.bulk import in_chunks, select_rows
from squash_api.record.jobs import current_revision
from squash_api.record.tables import definition

Kind = Literal["metric", "spec"]
Origin = Literal["api", "yaml"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionRow:
    """The meaning of a name from one revision on; a `document` of None ends its definition.

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
        connection.execute(insert(definition), [_values(row) for row in rows])
    return current_revision(connection)


def newest_revisions(
    connection: Connection,
    kind: Kind,
    *,
    names: Iterable[str] | None = None,
    through: int | None = None,
) -> dict[str, int]:
    """Return the newest revision of each name, including names that are no longer defined.

    Only of `names`, if given, and as of the revision `through`, if given.
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


def has_yaml(connection: Connection) -> bool:
    """Return whether YAML has ever defined anything."""
    query = select(definition.c.revision).where(definition.c.origin == "yaml").limit(1)
    return connection.execute(query).first() is not None


def definitions_at(connection: Connection, revisions: Iterable[int]) -> list[DefinitionRow]:
    """Return the rows of these revisions."""
    return [
        _row(found)
        for chunk in in_chunks(revisions)
        for found in connection.execute(
            _DEFINITION.where(definition.c.revision.in_(chunk))
        ).mappings()
    ]


def current(
    connection: Connection, kind: Kind, *, names: Iterable[str] | None = None
) -> dict[str, DefinitionRow]:
    """Return the present definitions by name; only of these names, if given."""
    revisions = newest_revisions(connection, kind, names=names)
    return _defined(definitions_at(connection, revisions.values()))


def in_force(connection: Connection, kind: Kind, revision: int) -> dict[str, DefinitionRow]:
    """Return the definitions in force at a revision, by name."""
    revisions = newest_revisions(connection, kind, through=revision)
    return _defined(definitions_at(connection, revisions.values()))


def one(connection: Connection, kind: Kind, name: str) -> DefinitionRow | None:
    """Return the present definition of a name, or None if it is not defined."""
    return current(connection, kind, names=[name]).get(name)


def names_with_key(connection: Connection, kind: Kind, *keys: str) -> set[str]:
    """Return the names that have ever been defined with one of these keys."""
    has_key = (definition.c.document.contains(f'"{key}": ', autoescape=True) for key in keys)
    query = select(definition.c.name).where(definition.c.kind == kind, or_(*has_key))
    return set(connection.execute(query.distinct()).scalars())


def owner_of(connection: Connection, kind: Kind, name: str) -> int | None:
    """Return the user who defined a name, whoever has changed it since; None for YAML."""
    is_named = (definition.c.kind == kind) & (definition.c.name == name)
    begin = select(func.coalesce(func.max(definition.c.revision), 0)).where(
        is_named, or_(definition.c.document.is_(None), definition.c.origin != "api")
    )
    return connection.execute(
        select(definition.c.user_id)
        .where(is_named, definition.c.revision > begin.scalar_subquery())
        .order_by(definition.c.revision)
        .limit(1)
    ).scalar_one_or_none()


def expected_since(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return since when (ns) each of these specifications has had an `expect` without a break."""
    return _since(connection, names, lambda document: document.get("expect") is not None)


def on_trial_since(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return since when (ns) each of these specifications has been on trial without a break."""
    return _since(connection, names, lambda document: (document.get("alert") or {}).get("trial"))


def _since(
    connection: Connection, names: Iterable[str], has_it: Callable[[Mapping[str, Any]], Any]
) -> dict[str, int]:
    since: dict[str, int] = {}
    query = _DEFINITION.where(definition.c.kind == "spec").order_by(definition.c.revision)
    for chunk in in_chunks(names):
        for found in connection.execute(query.where(definition.c.name.in_(chunk))).mappings():
            row = _row(found)
            if row.document is None or not has_it(row.document):
                since.pop(row.name, None)
            else:
                since.setdefault(row.name, row.created_ns)
    return since


_DEFINITION = select_rows(definition, DefinitionRow)


def _values(row: DefinitionRow) -> dict[str, Any]:
    document = None if row.document is None else json.dumps(row.document)
    values = {each.name: getattr(row, each.name) for each in fields(row)[1:]}
    return values | {"document": document}


def _row(found: Any) -> DefinitionRow:
    document = None if found["document"] is None else json.loads(found["document"])
    return DefinitionRow(**{**found, "document": document})


def _defined(rows: Iterable[DefinitionRow]) -> dict[str, DefinitionRow]:
    return {row.name: row for row in rows if row.document is not None}
