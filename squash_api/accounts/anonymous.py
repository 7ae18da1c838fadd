"""Records that anyone may send: to which topics, and whose jobs they are."""

import asyncio
import time
from collections.abc import Callable, Sequence

from squash_api.accounts.accounts import Account
from squash_api.errors import UnauthorizedError
from squash_api.record.audit import UNKNOWN, note
from squash_api.record.record import Connection, Record
from squash_api.record.users import UserRow, add_user, find_user
from squash_api.wires.sasquatch import is_within

ANONYMOUS = "sasquatch/anonymous"
"""Whose jobs those are; nobody can register a name with a slash."""

_NO_HASH = "!"
REMEMBERED_S = 1.0
"""How long the account is taken without a look at the record, as a key is."""


def has_none(header: str | None) -> bool:
    """Tell whether an `Authorization` header has no credentials.

    Clients of Sasquatch without a token send `Bearer na`, or `Bearer` and nothing.
    """
    return (header or "").lower().split() in ([], ["bearer"], ["bearer", "na"])


class Anonymous:
    """Lets anyone send records to the topics of some namespaces.

    `clock` is in monotonic seconds.
    """

    def __init__(
        self,
        record: Record,
        namespaces: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._namespaces = namespaces
        self._clock = clock
        self._known: Account | None = None
        self._known_until = 0.0

    async def account_for(self, topic: str) -> Account:
        """Return the account of those who send to a topic without credentials.

        Raises
        ------
        UnauthorizedError
            If the topic is in none of the namespaces, or the account has been disabled.
        """
        if not any(is_within(topic, namespace) for namespace in self._namespaces):
            listed = ", ".join(self._namespaces) or "no namespace"
            raise UnauthorizedError(
                f"The topic `{topic[:100]}` needs an API key, sent as `Authorization: Bearer "
                f"sq_...`: without one, records are taken for {listed} "
                "(SQUASH_ANONYMOUS_NAMESPACES).",
                error="Authorization Required",
                challenge=True,
            )
        known = self._known
        if known is None or self._clock() > self._known_until:
            known = await asyncio.to_thread(self._read)
            self._known, self._known_until = known, self._clock() + REMEMBERED_S
        return known

    def _read(self) -> Account:
        with self._record.read() as connection:
            row = find_user(connection, ANONYMOUS)
        row = self._record.write(_ensure) if row is None else row
        if row.is_disabled:
            raise UnauthorizedError(
                f"The user `{ANONYMOUS}` is disabled: send a key.", error="Invalid JWT"
            )
        return Account(row.user_id, row.name, row.role, row.epoch)


def _ensure(connection: Connection) -> UserRow:
    """Make the user, unless another process was as fast. No password is right for it."""
    row = find_user(connection, ANONYMOUS)
    if row is not None:
        return row
    created_ns = time.time_ns()
    added = add_user(
        connection, name=ANONYMOUS, password_hash=_NO_HASH, role="user", created_ns=created_ns
    )
    note(connection, UNKNOWN, "user.add", ANONYMOUS, role=added.role)
    return added
