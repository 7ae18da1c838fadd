"""How many wrong passwords are checked, and how many users are registered.

Wrong passwords are counted in the record, so that a restart forgets none and processes share them:
for each account at each address, for each address, and for each account. From some number on, the
next password is looked at only after a wait, which doubles with each wrong one up to
`MAX_WAIT_S`; an hour without a wrong one forgets them. Nobody is locked out for ever.

Who attacks an account must not keep out its user: an address from which the right password has come
is *proven* for that account, and there only its own wrong passwords count. The passwords of others
wait for their turn, one at a time, by address.
"""

import asyncio
import hashlib
import ipaddress
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from squash_api.errors import BusyError
from squash_api.record import attempts
from squash_api.record.attempts import Attempt
from squash_api.record.audit import Actor, note
from squash_api.record.record import Connection, Record

MAX_WAIT_S = 900
"""Longest wait after a wrong password."""

_FORGET_NS = 3600 * 10**9
_HOUR_NS = 3600 * 10**9
# How long an address stays proven; a login renews it, at most once a day.
_PROVEN_NS = 90 * 86_400 * 10**9
_RENEWED_NS = 86_400 * 10**9
_MOST_PROVEN = 256
# At most one entry about an account in the audit trail in this time.
_NOTED_S = 3600
# Wrong passwords without a wait.
_FREE_IF_PROVEN = 10
_FREE_OF_PAIR = 5
_FREE_OF_ADDRESS = 20
# Of an account, the addresses count from which a wrong password has come.
_FREE_OF_ACCOUNT = 200
_FREE_OF_KEY = 10
# A refusal takes the longer, the more there are at the moment: most guessers wait for an answer
# before they guess again, so all together guess some 20 times in a second.
_SLOWED_S = 0.05
_MOST_SLOWED_S = 3.0
_MOST_SLOWED = 256
# How often in an hour somebody at a proven address who must wait may still be believed, because the
# password is the one that was right within the last minute.
_MOST_BELIEVED = 1_000
# Where the record is only read, so many who failed are remembered.
_MOST_HERE = 10_000
_RETRY_AFTER_S = 2


def network_of(address: str | None) -> str:
    """Return what counts as one address: of IPv6, the /64 that one customer has.

    `address` is as the server tells it; None if it does not know it.
    """
    if not address:
        return "none"
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        # Whoever sits behind a proxy that passes on any text can make up as many as they like.
        return f"other {_digest(address)}"
    if isinstance(ip, ipaddress.IPv6Address):
        mapped = ip.ipv4_mapped
        return str(mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who gives a password: the owners of their failures."""

    account: str
    address: str
    pair: str
    siblings: str
    sent_from: str | None

    @classmethod
    def of(cls, name: str, address: str | None) -> "Caller":
        """Make the one who gives this account's name from this address."""
        account, network = _digest(name), network_of(address)
        siblings = f"login {account} at "
        return cls(
            f"login {account}",
            f"address {network}",
            f"{siblings}{_digest(network)}",
            siblings,
            address,
        )

    @property
    def owners(self) -> tuple[str, str, str]:
        """Whose failures matter."""
        return self.account, self.address, self.pair


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a caller: `wait_s` is 0 if the password may be looked at now."""

    is_proven: bool
    failures: int
    wait_s: int
    is_fresh: bool
    """Whether nothing needs to be written after the right password."""


class Lane:
    """Lets a few at a time do something, each key in its turn. For one event loop.

    Parameters
    ----------
    places
        Most that do it at a time.
    max_waiting, max_of_key
        Most that wait, in all and of one key; further ones get a `BusyError`.
    """

    def __init__(self, places: int, *, max_waiting: int = 256, max_of_key: int = 64) -> None:
        self._free = places
        self._max_waiting = max_waiting
        self._max_of_key = max_of_key
        self._count = 0
        # The key whose turn is next comes first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for a place, and keep it."""
        await self._enter(key)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, key: str) -> None:
        if self._free:
            self._free -= 1
            return
        waiting = self._waiting.get(key, deque())
        if self._count >= self._max_waiting or len(waiting) >= self._max_of_key:
            raise BusyError(
                f"Too many passwords are being checked; try again in {_RETRY_AFTER_S} s.",
                retry_after_s=_RETRY_AFTER_S,
            )
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, waiting).append(place)
        self._count += 1
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            key = next(iter(self._waiting))
            waiting = self._waiting.pop(key)
            place = waiting.popleft()
            self._count -= 1
            if waiting:
                self._waiting[key] = waiting
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class Limits:
    """Counts wrong passwords and registrations, and says who must wait.

    Parameters
    ----------
    clock
        ns since 1970 UTC.
    slowed_s
        How much longer a refusal takes for each one at the moment.
    """

    def __init__(
        self,
        record: Record,
        *,
        clock: Callable[[], int] = time.time_ns,
        slowed_s: float = _SLOWED_S,
    ) -> None:
        self._record = record
        self._clock = clock
        self._slowed_s = slowed_s
        self._slowed = 0
        self._believed = 0
        self._believed_hour = 0
        # Of a service that only reads.
        self._here: dict[str, Attempt] = {}
        self._here_lock = threading.Lock()

    def standing(self, connection: Connection, caller: Caller) -> Standing:
        """Look up how a caller stands."""
        now_ns = self._clock()
        found = attempts.read_attempts(
            connection, caller.owners, now_ns=now_ns, forget_ns=_FORGET_NS
        )
        for owner in caller.owners:
            here = self._here.get(owner)
            if here is not None and here.last_ns >= now_ns - _FORGET_NS:
                there = found.get(owner, here)
                failures = max(there.failures, here.failures)
                found[owner] = replace(there, failures=failures, last_ns=here.last_ns)
        pair = found.get(caller.pair)
        if pair is not None and pair.is_proven:
            wait_s = _wait_s(pair, _FREE_IF_PROVEN, now_ns)
            is_new = pair.expires_ns > now_ns + _PROVEN_NS - _RENEWED_NS
            is_fresh = is_new and not pair.failures
            return Standing(True, pair.failures, wait_s, is_fresh)
        wait_s = max(
            _wait_s(pair, _FREE_OF_PAIR, now_ns),
            _wait_s(found.get(caller.address), _FREE_OF_ADDRESS, now_ns),
            _wait_s(found.get(caller.account), _FREE_OF_ACCOUNT, now_ns),
        )
        return Standing(False, 0 if pair is None else pair.failures, wait_s, is_fresh=False)

    def may_believe(self, standing: Standing) -> bool:
        """Tell whether a password may be compared with the last right one, and count that.

        One who need not wait may. Of those at a proven address who must, only so many, or they
        could try any number of passwords while its user is at work.
        """
        if not standing.wait_s:
            return True
        hour = self._clock() // _HOUR_NS
        if hour != self._believed_hour:
            self._believed, self._believed_hour = 0, hour
        if not standing.is_proven or self._believed >= _MOST_BELIEVED:
            return False
        self._believed += 1
        return True

    def count_wrong(self, caller: Caller, standing: Standing, *, user: str | None) -> None:
        """Count a wrong password; if it is the one of a `user`, the audit trail has who must wait.

        Names that nobody has are not in the trail: strangers could fill it with them.
        """
        owners = [caller.pair]
        if not standing.is_proven:
            owners.append(caller.address)
            if not standing.failures:
                owners.append(caller.account)

        if self._record.only_reads is not None:
            self._count_here(owners)
            return

        def work(connection: Connection) -> None:
            self._count(connection, owners)
            if user is not None and self.standing(connection, caller).wait_s:
                by = Actor(address=caller.sent_from)
                note(connection, by, "login.limited", user, once_in_s=_NOTED_S)

        self._record.write(work)

    def _count_here(self, owners: Sequence[str]) -> None:
        """Count a wrong password in this process, which cannot write it into the record."""
        now_ns = self._clock()
        with self._here_lock:
            for owner in owners:
                before = self._here.pop(owner, None)
                is_old = before is None or before.last_ns < now_ns - _FORGET_NS
                failures = 1 if before is None or is_old else before.failures + 1
                self._here[owner] = Attempt(
                    owner, failures, now_ns, is_proven=False, expires_ns=now_ns
                )
            while len(self._here) > _MOST_HERE:
                # The one that has been quiet for longest.
                del self._here[next(iter(self._here))]

    def prove(self, connection: Connection, caller: Caller) -> None:
        """Remember that the right password came, or that the user was registered, from here."""
        now_ns = self._clock()
        attempts.prove(
            connection,
            caller.pair,
            now_ns=now_ns,
            until_ns=now_ns + _PROVEN_NS,
            siblings=caller.siblings,
            most=_MOST_PROVEN,
        )

    def check_key(self, address: str | None) -> None:
        """Raise `BusyError` if too many wrong registration keys came from an address. Blocks."""
        owner = _key_owner(address)
        now_ns = self._clock()
        with self._record.read() as connection:
            found = attempts.read_attempts(connection, [owner], now_ns=now_ns, forget_ns=_FORGET_NS)
        wait_s = _wait_s(found.get(owner), _FREE_OF_KEY, now_ns)
        if wait_s:
            raise too_many("wrong registration keys", wait_s)

    def count_wrong_key(self, address: str | None) -> None:
        """Count a wrong registration key. Blocks."""
        self._record.write(lambda connection: self._count(connection, [_key_owner(address)]))

    def count_registration(self, address: str | None, *, per_address: int, in_all: int) -> None:
        """Count a registration. Blocks.

        Raises
        ------
        BusyError
            If there have been too many in this hour, from here or in all.
        """
        now_ns = self._clock()
        from_ns = now_ns - now_ns % _HOUR_NS
        left_s = math.ceil((from_ns + _HOUR_NS - now_ns) / 10**9)
        most = {f"address {network_of(address)}": per_address, "all": in_all}

        def count(connection: Connection) -> None:
            for owner, number in most.items():
                # Raising undoes what was counted before.
                if not attempts.count_use(
                    connection, owner, kind="registration", from_ns=from_ns, most=number
                ):
                    here = "" if owner == "all" else " from this address"
                    raise too_many(f"users were registered{here} in this hour", left_s)

        self._record.write(count)

    async def slow(self) -> None:
        """Let a refusal take its time, unless too many do."""
        if self._slowed < _MOST_SLOWED:
            self._slowed += 1
            try:
                await asyncio.sleep(min(self._slowed * self._slowed_s, _MOST_SLOWED_S))
            finally:
                self._slowed -= 1

    def _count(self, connection: Connection, owners: list[str]) -> None:
        now_ns = self._clock()
        for owner in owners:
            attempts.count_failure(connection, owner, now_ns=now_ns, forget_ns=_FORGET_NS)


def too_many(what: str, wait_s: int) -> BusyError:
    """Make the error for one who must wait."""
    return BusyError(f"Too many {what}; try again in {wait_s} s.", retry_after_s=wait_s)


def _wait_s(attempt: Attempt | None, free: int, now_ns: int) -> int:
    if attempt is None or attempt.failures < free:
        return 0
    longest_s = min(1 << min(attempt.failures - free, 16), MAX_WAIT_S)
    left_s = math.ceil((attempt.last_ns - now_ns) / 10**9) + longest_s
    # A clock that was set back must not make it longer.
    return max(0, min(left_s, longest_s))


def _key_owner(address: str | None) -> str:
    return f"key {network_of(address)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
