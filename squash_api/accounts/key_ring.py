"""The keys of users: making, listing and revoking them."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypedDict

from squash_api.accounts.accounts import Account
from squash_api.accounts.credentials import clean_credential
from squash_api.accounts.keys import PREFIX, SCOPES, make_key
from squash_api.errors import Detail, ForbiddenError, InvalidInputError, NotFoundError
from squash_api.judging.wording import date_text
from squash_api.record.audit import Actor, note
from squash_api.record.keys import KeyRow, add_key, find_key, list_keys, living_keys, revoke_key
from squash_api.record.record import Connection, Record
from squash_api.record.users import find_user

MAX_KEYS: Final = 100
"""Most living keys of a user."""

_MAX_NAME = 128
_MAX_NAMESPACES = 100
_MAX_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a new key is to be."""

    name: str
    scopes: list[str]
    namespaces: list[str] | None
    expires_ns: int | None

    def check(self, now_ns: int) -> None:
        """Raise `InvalidInputError` if the parts do not fit each other, or the time."""
        if self.expires_ns is not None and not now_ns < self.expires_ns <= _MAX_NS:
            raise _invalid("expires", "must be in the future")
        if "admin" in self.scopes and self.namespaces is not None:
            raise _invalid("namespaces", "do not limit an admin: give either them or that scope")


class KeyRing:
    """Makes, lists and revokes keys. Safe to use from many threads."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def create(
        self,
        owner: str,
        name: str,
        *,
        scopes: Sequence[str],
        namespaces: Sequence[str] | None = None,
        expires_ns: int | None = None,
        by: Account | Actor,
    ) -> tuple[KeyRow, str]:
        """Make a key for the user `owner`, and return it and its text, which is kept nowhere.

        `by` is who makes it: a user, for themselves or as an admin, or a command.

        Raises
        ------
        InvalidInputError
            If the name, a scope, a namespace or the expiry cannot be one, or there are too many.
        ForbiddenError
            If it is for somebody else, or has the scope `admin`, and `by` is not an admin; or if
            the owner is none.
        NotFoundError
            If there is no such owner.
        """
        owner = clean_credential(owner, field="user")
        now_ns = time.time_ns()
        wanted = _Wanted(
            _clean_name(name),
            _clean_scopes(scopes),
            _clean_namespaces(namespaces),
            expires_ns,
        )
        wanted.check(now_ns)
        if isinstance(by, Account):
            _check_rights(by, owner, wanted.scopes)
        new = make_key()

        def work(connection: Connection) -> KeyRow:
            row = add_key(
                connection,
                user_id=_owner_id(connection, owner, wanted, now_ns=now_ns),
                public_id=new.public_id,
                secret_digest=new.digest,
                created_ns=now_ns,
                **asdict(wanted),
            )
            note(connection, _actor(by), "key.create", new.public_id, owner=owner, **asdict(wanted))
            return row

        return self._record.write(work), new.text

    def list(self, *, user_id: int | None = None, after: int = 0, limit: int) -> Sequence[KeyRow]:
        """List at most `limit` keys after the one with the id `after`: a user's, or all."""
        with self._record.read() as connection:
            return list_keys(connection, user_id=user_id, after=after, limit=limit)

    def revoke(self, public_id: str, *, by: Account | Actor) -> KeyRow:
        """Revoke a key, for good; every process refuses it within a second.

        `public_id` may be the whole key, which is what people have at hand.

        Raises
        ------
        NotFoundError
            If there is no such key, or it is another user's and `by` is not an admin.
        """
        public_id = public_id.removeprefix(PREFIX).partition("_")[0]

        def work(connection: Connection) -> KeyRow:
            found = find_key(connection, public_id)
            is_seen = found is not None and (
                not isinstance(by, Account) or by.is_admin or by.user_id == found[0].user_id
            )
            if found is None or not is_seen:
                raise NotFoundError(f"There is no key `{public_id[:40]}`.")
            row = found[0]
            if row.revoked_ns is None:
                revoke_key(connection, row.key_id, revoked_ns=time.time_ns())
                owner = row.user_name
                note(connection, _actor(by), "key.revoke", public_id, owner=owner, name=row.name)
            return row

        return self._record.write(work)


KeyState = Literal["revoked", "expired", "valid"]


class Key(TypedDict):
    """An API key, as far as it can be shown."""

    id: str
    """The public part of the key."""
    name: str
    """What its owner calls it."""
    user: str
    """Its owner."""
    scopes: list[str]
    """What it may be used for."""
    namespaces: list[str] | None
    """Packages or namespaces that it may write to; null for all."""
    state: KeyState
    """Whether it can be used."""
    created: str
    """When it was made."""
    expires: str | None
    """When it ends by itself; null for never."""
    revoked: str | None
    """When it was revoked."""
    last_used: str | None
    """When it was last used, to the minute or so."""


def state_of(row: KeyRow, *, now_ns: int) -> KeyState:
    """Say whether a key is `revoked`, `expired` or `valid`."""
    if row.revoked_ns is not None:
        return "revoked"
    is_over = row.expires_ns is not None and row.expires_ns <= now_ns
    return "expired" if is_over else "valid"


def key_object(row: KeyRow) -> Key:
    """Describe a key for JSON; its secret is not known."""
    return {
        "id": row.public_id,
        "name": row.name,
        "user": row.user_name,
        "scopes": list(row.scopes),
        "namespaces": None if row.namespaces is None else list(row.namespaces),
        "state": state_of(row, now_ns=time.time_ns()),
        "created": date_text(row.created_ns),
        "expires": _date(row.expires_ns),
        "revoked": _date(row.revoked_ns),
        "last_used": _date(row.last_used_ns),
    }


def _date(time_ns: int | None) -> str | None:
    return None if time_ns is None else date_text(time_ns)


def _actor(by: Account | Actor) -> Actor:
    return by.actor if isinstance(by, Account) else by


def _owner_id(connection: Connection, owner: str, wanted: _Wanted, *, now_ns: int) -> int:
    """Return the id of the user who is to own a key; raise as `KeyRing.create` does."""
    user = find_user(connection, owner)
    if user is None or user.is_disabled:
        raise NotFoundError(f"There is no user `{owner}`, or it is disabled.")
    if "admin" in wanted.scopes and user.role != "admin":
        raise ForbiddenError(
            f"A key has the scope `admin` only if its owner is an admin; `{owner}` is none."
        )
    if len(living_keys(connection, user.user_id, now_ns=now_ns)) >= MAX_KEYS:
        raise InvalidInputError(f"`{owner}` has {MAX_KEYS} keys: revoke those that are not used.")
    return user.user_id


def _check_rights(by: Account, owner: str, scopes: Sequence[str]) -> None:
    if owner != by.name and not by.is_admin:
        raise ForbiddenError("Only admins may make a key for somebody else.")
    if "admin" in scopes and not by.is_admin:
        raise ForbiddenError("Only an admin may make a key with the scope `admin`.")


def _clean_name(name: str) -> str:
    name = clean_credential(name, field="name").strip()
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise _invalid("name", f"must be 1 to {_MAX_NAME} characters that can be printed")
    return name


def _clean_scopes(scopes: Sequence[str]) -> list[str]:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        wrong = f": `{unknown[0][:40]}` is none" if unknown else ""
        raise _invalid("scopes", f"must be some of {', '.join(SCOPES)}{wrong}")
    return [scope for scope in SCOPES if scope in scopes]


def _clean_namespaces(namespaces: Sequence[str] | None) -> list[str] | None:
    if namespaces is None:
        return None
    found = sorted({clean_credential(name, field="namespaces").strip() for name in namespaces})
    if not 0 < len(found) <= _MAX_NAMESPACES:
        raise _invalid("namespaces", f"must be 1 to {_MAX_NAMESPACES} packages, or be left out")
    # One with dots is of topics.
    wrong = [name for name in found if not all(name.split(".")) or not name.isprintable()]
    if wrong:
        raise _invalid(
            "namespaces",
            "must be packages, such as validate_drp, or namespaces of topics, such as lsst.dm, not "
            f"`{wrong[0][:40]}`",
        )
    return found


def _invalid(field: str, must: str) -> InvalidInputError:
    return InvalidInputError(f"`{field}` {must}.", detail=[Detail(("body", field), must)])
