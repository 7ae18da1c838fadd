"""API keys: their form, and checking one at about the cost of a token.

A key is `sq_<id>_<secret>`: the id is public, the secret is 32 random bytes and a checksum, in
hexadecimal. Source of the form: the tokens of GitHub, which a scanner of secrets finds by their
prefix, and of which a wrong letter is told from a wrong key.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from squash_api.errors import RecordUnavailableError, UnauthorizedError
from squash_api.record.keys import KeyRow, find_key, touch_key
from squash_api.record.record import Record
from squash_api.record.users import UserRow

PREFIX = "sq_"

SCOPES = {
    "job:write": "post and delete jobs, and add measurements to them",
    "job:read": "read everything that pages and the API show",
    "definitions:write": "define, change and withdraw metrics and specifications",
    "alerts:write": "acknowledge and silence alerts",
    "admin": "manage users and keys, read the audit trail, and change what is another user's",
}
"""What a key may be for. None includes another: `admin` alone does not post jobs."""

REMEMBERED_S = 1.0
"""How long a key is taken without a look at the record: so a revocation takes this long."""

_UNKNOWN = "The key is not one of this service"
_TOUCHED_S = 60
_MAX_REMEMBERED = 4_096
_ID_BYTES, _SECRET_BYTES = 6, 32
_FORM = re.compile(r"sq_([0-9a-f]{12})_([0-9a-f]{64})([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Key:
    """What a request may do that is sent with a key. `namespaces` of None are all packages."""

    key_id: int
    public_id: str
    name: str
    scopes: frozenset[str]
    namespaces: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that nobody has yet: the whole `text`, and what the record keeps of it."""

    text: str
    public_id: str
    digest: bytes


def make_key() -> NewKey:
    """Make a key from random bytes."""
    public_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_bytes(_SECRET_BYTES)
    text = f"{PREFIX}{public_id}_{secret.hex()}"
    return NewKey(f"{text}{_checksum(text)}", public_id, hashlib.sha256(secret).digest())


def is_key(text: str) -> bool:
    """Tell whether a text is a whole key, as no password is by chance."""
    match = _FORM.fullmatch(text)
    return match is not None and hmac.compare_digest(match[3], _checksum(text[: -len(match[3])]))


def _parse_key(text: str) -> tuple[str, bytes]:
    """Return the public part of a key, and the digest of its secret."""
    match = _FORM.fullmatch(text)
    if match is None or not is_key(text):
        _refuse("The key is mistyped or cut off: copy the whole of it, from `sq_` on")
    return match[1], hashlib.sha256(bytes.fromhex(match[2])).digest()


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


@dataclass(frozen=True, slots=True)
class _Found:
    """A valid key as the record had it; `read_at` is in monotonic seconds."""

    key: Key
    owner: UserRow
    expires_ns: int | None
    read_at: float


class KeyReader:
    """Checks keys that requests are sent with. Safe to use from many threads.

    `clock` is in monotonic seconds.
    """

    def __init__(self, record: Record, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._clock = clock
        # By the digest of the whole key, so that a look-up takes a time that tells nothing. Only
        # valid keys are remembered: nobody can fill this with others.
        self._remembered: dict[bytes, _Found] = {}
        # When each key was last noted as used, in ns since 1970.
        self._touched: dict[str, int] = {}
        self._touching: set[asyncio.Future[None]] = set()

    async def check(self, text: str) -> tuple[Key, UserRow]:
        """Return the rights of a key, and its owner, both as they were at most a second ago.

        Raises
        ------
        UnauthorizedError
            If it is no key, or not a valid one any more.
        """
        whole = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        found = self._remembered.get(whole)
        if found is None or found.read_at + REMEMBERED_S <= self._clock():
            found = await self._look_up(text, whole)
        if found.expires_ns is not None and found.expires_ns <= time.time_ns():
            _refuse_expired(found.key, found.owner)
        return found.key, found.owner

    def check_again(self, key: Key) -> tuple[Key, UserRow]:
        """Return what `check` does for a key that it has checked, as the record has it now."""
        stored = self._read(key.public_id)
        if stored is None:
            _refuse(_UNKNOWN)
        found = _valid(stored[0], stored[2], self._clock())
        return found.key, found.owner

    async def _look_up(self, text: str, whole: bytes) -> _Found:
        self._remembered.pop(whole, None)
        public_id, digest = _parse_key(text)
        read_at = self._clock()
        stored = await asyncio.to_thread(self._read, public_id)
        # An unknown key is compared too, and gets the same answer as a wrong secret.
        is_right = hmac.compare_digest(digest, bytes(32) if stored is None else stored[1])
        if stored is None or not is_right:
            _refuse(_UNKNOWN)
        row, _, owner = stored
        found = _valid(row, owner, read_at)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[whole] = found
        self._note_use(row)
        return found

    def _read(self, public_id: str) -> tuple[KeyRow, bytes, UserRow] | None:
        with self._record.read() as connection:
            return find_key(connection, public_id)

    def _note_use(self, row: KeyRow) -> None:
        """Note about once a minute that a key is used; nobody waits for it."""
        if self._record.only_reads is not None:
            return
        now_ns = time.time_ns()
        last_ns = max(row.last_used_ns or 0, self._touched.get(row.public_id, 0))
        # A clock that was ahead must not silence this.
        if 0 <= now_ns - last_ns < _TOUCHED_S * 10**9:
            return
        if len(self._touched) >= _MAX_REMEMBERED:
            self._touched.clear()
        self._touched[row.public_id] = now_ns
        touching = asyncio.get_running_loop().run_in_executor(None, self._touch, row, now_ns)
        self._touching.add(touching)
        touching.add_done_callback(self._touching.discard)

    def _touch(self, row: KeyRow, now_ns: int) -> None:
        # The next use tries again, in a minute.
        with suppress(RecordUnavailableError):
            self._record.write(
                lambda connection: touch_key(
                    connection, row.key_id, now_ns=now_ns, seen_ns=row.last_used_ns
                )
            )


def _valid(row: KeyRow, owner: UserRow, read_at: float) -> _Found:
    """Return what a key may and whose it is; refuse one that is not valid any more."""
    namespaces = None if row.namespaces is None else frozenset(row.namespaces)
    key = Key(row.key_id, row.public_id, row.name, frozenset(row.scopes), namespaces)
    if owner.is_disabled:
        _refuse("User does not exist", error="Invalid JWT", user=owner.name)
    if row.revoked_ns is not None:
        _refuse(f"The key `{key.public_id}` ({key.name}) was revoked", user=owner.name)
    if row.expires_ns is not None and row.expires_ns <= time.time_ns():
        _refuse_expired(key, owner)
    return _Found(key, owner, row.expires_ns, read_at)


def _refuse_expired(key: Key, owner: UserRow) -> NoReturn:
    _refuse(f"The key `{key.public_id}` ({key.name}) has expired", user=owner.name)


def _refuse(message: str, *, error: str = "Invalid token", user: str | None = None) -> NoReturn:
    raise UnauthorizedError(message, error=error, user=user)
