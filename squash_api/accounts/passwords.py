"""Hashes of passwords, and checking them without blocking other requests."""

import asyncio
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from functools import cached_property
from typing import Protocol, TypeVar

from passlib.context import CryptContext

from squash_api.accounts.limits import Lane

REMEMBERED_S = 60.0
"""How long a right password is accepted without hashing it again."""

_MAX_REMEMBERED = 1_024
# Linux gives such a thread a tenth of the processor while another wants it.
_NICE = 10
_Result = TypeVar("_Result")


class Hasher(Protocol):
    """Makes and checks hashes, and blocks while it does."""

    dummy_hash: str
    """A hash that no password has, as expensive to check as a new one."""

    def hash(self, password: str) -> str:
        """Make a new hash, with its salt and parameters."""
        ...

    def verify(self, password: str, stored_hash: str) -> tuple[bool, str | None]:
        """Return whether the password is right, with a new hash if the stored one is outdated."""
        ...


class Argon2Hasher:
    """argon2id, by default at the lowest cost in OWASP's password storage cheat sheet.

    Parameters
    ----------
    memory_kib
        Memory in KiB, which every running check needs.
    passes
        Passes over that memory.
    lanes
        Threads for one hash.
    """

    def __init__(self, *, memory_kib: int = 19_456, passes: int = 2, lanes: int = 1) -> None:
        self._context = CryptContext(
            ["argon2"],
            argon2__type="ID",
            argon2__memory_cost=memory_kib,
            argon2__time_cost=passes,
            argon2__parallelism=lanes,
        )
        # Random bytes instead of a digest: cheap to make, and no password has this hash.
        handler = self._context.handler()
        dummy = handler(use_defaults=True, checksum=secrets.token_bytes(handler.checksum_size))
        self.dummy_hash: str = dummy.to_string()

    def hash(self, password: str) -> str:
        """Make a new hash, with its salt and parameters."""
        return str(self._context.hash(password))

    def verify(self, password: str, stored_hash: str) -> tuple[bool, str | None]:
        """Return whether the password is right, with a new hash if the stored one is outdated.

        No password is right for a stored text that is not an argon2 hash.
        """
        try:
            is_right, new_hash = self._context.verify_and_update(password, stored_hash)
        except ValueError:
            self._context.verify(password, self.dummy_hash)
            return False, None
        return bool(is_right), new_hash


class Passwords:
    """Hashes and checks passwords in a few threads.

    There are two lanes. In one are passwords from addresses that have given the right one of the
    account before. All others are in a lane of their own, with one thread of a lower priority,
    since the threads share the processor with the event loop: guessers delay nothing else.

    A right password is accepted for a minute: a pipeline that dispatches many jobs logs in for
    each. What is remembered is neither name nor password but a keyed digest of both and of the
    stored hash, so a change of the password takes effect at once.

    Parameters
    ----------
    hasher
        Makes and checks the hashes; by default with argon2id.
    threads
        Most hashes computed at a time in the first lane: each takes a core and 19 MiB.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        hasher: Hasher | None = None,
        *,
        threads: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._given = hasher
        self._proven = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._others = ThreadPoolExecutor(
            1, thread_name_prefix="other-password", initializer=_lower_priority
        )
        self._proven_lane, self._others_lane = Lane(threads), Lane(1)
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        # Digest to the time at which it is forgotten, the oldest first.
        self._remembered: dict[bytes, float] = {}

    @cached_property
    def _hasher(self) -> Hasher:
        # Not made before the first password: it takes a twelfth of a start (`benchmarks/`, R9).
        return Argon2Hasher() if self._given is None else self._given

    def turn(self, key: str, *, is_proven: bool) -> AbstractAsyncContextManager[None]:
        """Wait for the turn of a key, such as an address, in one of the lanes.

        Raises
        ------
        BusyError
            If too many wait.
        """
        return (self._proven_lane if is_proven else self._others_lane).turn(key)

    async def hash(self, password: str) -> str:
        """Hash a new password that `clean_new_password` has returned."""
        return await _in(self._others, lambda: self._hasher.hash(password))

    def hash_now(self, password: str) -> str:
        """Hash a new password in this thread, for the command line."""
        return self._hasher.hash(password)

    def remembers(
        self, password: str, *, name: str, stored_hash: str | None, is_renewed: bool = False
    ) -> bool:
        """Tell whether this password was right within the last minute; it may count anew."""
        if stored_hash is None:
            return False
        digest = self._digest(name, password, stored_hash)
        with self._lock:
            is_known = self._remembered.get(digest, -1.0) > self._clock()
        if is_known and is_renewed:
            self._remember(digest)
        return is_known

    def remember(self, password: str, *, name: str, stored_hash: str) -> None:
        """Remember that this password is right."""
        self._remember(self._digest(name, password, stored_hash))

    async def verify(
        self, password: str, *, name: str, stored_hash: str | None, is_proven: bool
    ) -> tuple[bool, str | None]:
        """Return whether the password is right, with a new hash if the stored one is outdated.

        Without a stored hash it is wrong, after the same work.
        """
        if self.remembers(password, name=name, stored_hash=stored_hash):
            return True, None
        threads = self._proven if is_proven else self._others
        is_right, new_hash = await _in(threads, lambda: self._check(password, stored_hash))
        if is_right and stored_hash is not None:
            self.remember(password, name=name, stored_hash=stored_hash)
        return is_right and stored_hash is not None, new_hash

    def _check(self, password: str, stored_hash: str | None) -> tuple[bool, str | None]:
        hasher = self._hasher
        return hasher.verify(password, hasher.dummy_hash if stored_hash is None else stored_hash)

    def close(self) -> None:
        """Stop the threads once the waiting work is done."""
        self._proven.shutdown()
        self._others.shutdown()

    def _remember(self, digest: bytes) -> None:
        with self._lock:
            self._remembered.pop(digest, None)
            if len(self._remembered) >= _MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = self._clock() + REMEMBERED_S

    def _digest(self, name: str, password: str, stored_hash: str) -> bytes:
        # No part can contain the NUL that separates them.
        text = f"{name}\0{password}\0{stored_hash}".encode()
        return hmac.digest(self._key, text, hashlib.sha256)


async def _in(threads: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


def _lower_priority() -> None:
    """Let this thread take only what others leave, where a system has priorities of threads."""
    with suppress(OSError, AttributeError):
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, own + _NICE)
