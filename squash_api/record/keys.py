"""Queries on API keys. A key is never deleted, so that the audit trail can name it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Select, bindparam, insert, or_, select, update

from squash_api.record.tables import api_key, user
from squash_api.record.users import UserRow


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as stored; `user_name` is its owner's. `namespaces` of None are all."""

    key_id: int
    user_id: int
    user_name: str
    name: str
    public_id: str
    scopes: tuple[str, ...]
    namespaces: tuple[str, ...] | None
    created_ns: int
    expires_ns: int | None
    revoked_ns: int | None
    last_used_ns: int | None


_KEYS = select(
    api_key.c.id,
    api_key.c.user_id,
    user.c.name,
    *(api_key.c[each.name] for each in fields(KeyRow)[3:]),
).join_from(api_key, user, api_key.c.user_id == user.c.id)
_WITH_OWNER = (
    _KEYS.add_columns(
        api_key.c.secret_digest,
        user.c.password_hash,
        user.c.role,
        user.c.epoch,
        user.c.is_disabled,
        user.c.created_ns.label("user_created_ns"),
    )
).where(api_key.c.public_id == bindparam("wanted"))
_COLUMNS = len(fields(KeyRow))


def find_key(connection: Connection, public_id: str) -> tuple[KeyRow, bytes, UserRow] | None:
    """Return the key with this public part, revoked or not, its secret's digest, and its owner."""
    row = connection.execute(_WITH_OWNER, {"wanted": public_id}).one_or_none()
    if row is None:
        return None
    owner = UserRow(
        row.user_id,
        row.name,
        row.password_hash,
        row.role,
        row.epoch,
        row.is_disabled,
        row.user_created_ns,
    )
    return _row(row[:_COLUMNS]), row.secret_digest, owner


def list_keys(
    connection: Connection, *, user_id: int | None = None, after: int = 0, limit: int
) -> list[KeyRow]:
    """Return at most `limit` keys by id from the first after `after`, of one user or of all."""
    query = _KEYS.where(api_key.c.id > after).order_by(api_key.c.id).limit(limit)
    if user_id is not None:
        query = query.where(api_key.c.user_id == user_id)
    return [_row(row) for row in connection.execute(query)]


def living_keys(connection: Connection, user_id: int, *, now_ns: int) -> Sequence[KeyRow]:
    """Return the keys of a user that are neither revoked nor expired."""
    return [_row(row) for row in connection.execute(_living(user_id, now_ns))]


def add_key(
    connection: Connection,
    *,
    user_id: int,
    name: str,
    public_id: str,
    secret_digest: bytes,
    scopes: Collection[str],
    namespaces: Collection[str] | None,
    created_ns: int,
    expires_ns: int | None,
) -> KeyRow:
    """Store a new key."""
    connection.execute(
        insert(api_key).values(
            user_id=user_id,
            name=name,
            public_id=public_id,
            secret_digest=secret_digest,
            scopes=json.dumps(list(scopes)),
            namespaces=None if namespaces is None else json.dumps(list(namespaces)),
            created_ns=created_ns,
            expires_ns=expires_ns,
        )
    )
    query = _KEYS.where(api_key.c.public_id == public_id)
    return _row(connection.execute(query).one())


def revoke_key(connection: Connection, key_id: int, *, revoked_ns: int) -> None:
    """Revoke a key, for good; one that is revoked already stays as it is."""
    connection.execute(
        update(api_key)
        .where(api_key.c.id == key_id, api_key.c.revoked_ns.is_(None))
        .values(revoked_ns=revoked_ns)
    )


def touch_key(connection: Connection, key_id: int, *, now_ns: int, seen_ns: int | None) -> None:
    """Note that a key was used now, unless it has been noted since the last use was `seen_ns`."""
    connection.execute(
        update(api_key)
        .where(api_key.c.id == key_id, api_key.c.last_used_ns.is_not_distinct_from(seen_ns))
        .values(last_used_ns=now_ns)
    )


def _living(user_id: int, now_ns: int) -> Select[Any]:
    return _KEYS.where(
        api_key.c.user_id == user_id,
        api_key.c.revoked_ns.is_(None),
        or_(api_key.c.expires_ns.is_(None), api_key.c.expires_ns > now_ns),
    )


def _row(found: Any) -> KeyRow:
    key_id, user_id, user_name, name, public_id, scopes, namespaces, *times = found
    return KeyRow(
        key_id,
        user_id,
        user_name,
        name,
        public_id,
        tuple(json.loads(scopes)),
        None if namespaces is None else tuple(json.loads(namespaces)),
        *times,
    )
