"""Accounts: registering, logging in, and what a user may do."""

import asyncio
import hmac
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from squash_api.accounts.credentials import (
    check_role,
    clean_credential,
    clean_known_name,
    clean_new_name,
    clean_new_password,
)
from squash_api.accounts.keys import PREFIX, Key, KeyReader, is_key
from squash_api.accounts.limits import Caller, Limits, Standing, too_many
from squash_api.accounts.passwords import Passwords
from squash_api.accounts.tokens import PasswordCredentials, Tokens, parse_authorization
from squash_api.errors import (
    BusyError,
    Detail,
    ForbiddenError,
    NotFoundError,
    RecordUnavailableError,
    UnauthorizedError,
)
from squash_api.record import users
from squash_api.record.audit import UNKNOWN, Actor, note
from squash_api.record.keys import living_keys, revoke_key
from squash_api.record.record import Connection, Record
from squash_api.record.users import UserRow
from squash_api.settings import Settings
from squash_api.wires.sasquatch import is_within

_MOST_PLACES = 20


@dataclass(frozen=True, slots=True)
class Account:
    """A user who has been authenticated. Void once the record has another `epoch`.

    `key` is what the request was sent with, unless it was a token or a password. `address` is where
    it came from, if that is known.
    """

    user_id: int
    name: str
    role: str
    epoch: int
    key: Key | None = None
    address: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the request may change everything, not only what is the user's own."""
        return self.role == "admin" and (self.key is None or "admin" in self.key.scopes)

    @property
    def actor(self) -> Actor:
        """Who the audit trail names."""
        key_id = None if self.key is None else self.key.key_id
        return Actor(user_id=self.user_id, key_id=key_id, address=self.address)

    def require_scope(self, scope: str) -> None:
        """Raise `ForbiddenError` if the request was sent with a key that is not for this."""
        key = self.key
        if key is None:
            return
        if scope not in key.scopes:
            has = ", ".join(f"`{name}`" for name in sorted(key.scopes))
            raise ForbiddenError(
                f"This needs a key with the scope `{scope}`: the key `{key.public_id}` "
                f"({key.name}) has {has}."
            )
        if scope == "admin" and self.role != "admin":
            raise ForbiddenError(
                f"This needs the scope `admin`, which the key `{key.public_id}` ({key.name}) has "
                f"only while its owner, {self.name}, is an admin."
            )

    def require_namespaces(
        self, places: Iterable[tuple[tuple[str | int, ...], str]], *, topic: str | None = None
    ) -> None:
        """Check that a key may write to the packages of metrics, or of specifications.

        `places` are where each is in the request, and its name. What is sent to a topic within one
        of its namespaces may have any package.

        Raises
        ------
        ForbiddenError
            With the places of those that it may not write to in its `detail`, at most 20.
        """
        if self.key is None or self.key.namespaces is None:
            return
        allowed = self.key.namespaces
        if topic is not None and any(is_within(topic, namespace) for namespace in allowed):
            return
        wrong, count = [], 0
        for loc, name in places:
            if name.partition(".")[0] not in allowed:
                count += 1
                if count <= _MOST_PLACES:
                    wrong.append((loc, name[:200]))
        if wrong:
            listed = ", ".join(sorted(allowed))
            others = f" (and {count - 1} more)" if count > 1 else ""
            kind, beside = "packages", ""
            if topic is not None:
                kind, beside = "namespaces", f"the topic `{topic[:249]}`, nor for the package of "
            raise ForbiddenError(
                f"The key `{self.key.public_id}` ({self.key.name}) is for the {kind} {listed}: "
                f"not for {beside}`{wrong[0][1]}`{others}. Nothing was stored.",
                detail=[
                    Detail(loc, f"'{name}' is in none of the key's packages: {listed}")
                    for loc, name in wrong
                ],
            )


class Accounts:
    """Registering, logging in, and administering users.

    Parameters
    ----------
    settings
        Say who may register, and how long tokens are valid.
    secret, previous
        The key that signs tokens, from `require_secret`, and from `previous_secret` the one that
        did before.
    passwords
        Hashes and checks passwords; a new one by default.
    limits
        Counts wrong passwords; a new one by default.
    """

    def __init__(
        self,
        record: Record,
        settings: Settings,
        *,
        secret: str,
        previous: str | None = None,
        passwords: Passwords | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._record = record
        self._settings = settings
        self._tokens = Tokens(secret, previous=previous, minutes=settings.token_minutes)
        self._passwords = Passwords() if passwords is None else passwords
        self._limits = Limits(record) if limits is None else limits
        self._keys = KeyReader(record)

    def close(self) -> None:
        """Stop the threads that check passwords. The record stays open."""
        self._passwords.close()

    async def register(
        self, name: str, password: str, *, key: str | None, address: str | None = None
    ) -> Account:
        """Add a user who registers from an address; `key` is the registration key that they sent.

        Raises
        ------
        ForbiddenError
            If registration is closed, or the key is wrong.
        InvalidInputError
            If the name or the password is not allowed.
        NameTakenError
            If the name is or was another user's, or looks like it. There is no way to choose a
            name without telling.
        BusyError
            If there were too many wrong keys or registrations, or too many passwords are waiting.
        """
        await self._check_registration(key, address)
        name = clean_new_name(name)
        password = clean_new_password(password, name=name)
        caller = Caller.of(name, address)
        async with self._passwords.turn(caller.address, is_proven=False):
            await asyncio.to_thread(
                self._limits.count_registration,
                address,
                per_address=self._settings.registrations_per_address,
                in_all=self._settings.registrations_per_hour,
            )
            await asyncio.to_thread(self._check_free, name)
            password_hash = await self._passwords.hash(password)
            account = await asyncio.to_thread(
                self._add,
                name,
                password_hash,
                role="user",
                by=Actor(address=address),
                action="user.register",
                caller=caller,
            )
        self._passwords.remember(password, name=name, stored_hash=password_hash)
        return account

    async def claim(self, header: str | None, *, address: str | None = None) -> Account:
        """Return the account that an `Authorization` header claims, which came from an address.

        A token is checked without the record, and a key by what the record had in the last second:
        `check_account` checks whether the user is still enabled, or the writer does in the
        transaction that stores something.

        Raises
        ------
        UnauthorizedError
            If the token or key is missing or invalid, or the name and password are wrong.
        BusyError
            If there were too many wrong passwords.
        """
        credentials = parse_authorization(header)
        if isinstance(credentials, PasswordCredentials):
            return await self.check_password(
                credentials.name, credentials.password, address=address
            )
        if credentials.startswith(PREFIX):
            return _account_of_key(*await self._keys.check(credentials))
        claims = self._tokens.read(credentials)
        return Account(claims.user_id, claims.name, claims.role, claims.epoch)

    async def check_password(
        self, name: str, password: str, *, address: str | None = None
    ) -> Account:
        """Return the account with this name and password, which came from an address.

        An unknown user, a disabled one and a wrong password get the same answer after the same
        work. A key counts as a password too, for clients that have no other place for one.

        Raises
        ------
        UnauthorizedError
            If there is none.
        InvalidInputError
            If the name or the password has characters that none can have.
        BusyError
            If there were too many wrong passwords, or too many are waiting.
        """
        name = clean_credential(name, field="username")
        password = clean_credential(password, field="password")
        if is_key(password):
            account = _account_of_key(*await self._keys.check(password))
            if account.name != name:
                raise UnauthorizedError("Invalid credentials", error="Bad Request", user=name)
            return account
        caller = Caller.of(name, address)
        try:
            row, standing = await asyncio.to_thread(self._look, name, caller)
            if (
                row is not None
                and self._limits.may_believe(standing)
                and self._passwords.remembers(
                    password,
                    name=name,
                    stored_hash=_hash_of(row),
                    # While others guess here, nothing but this lets the user in.
                    is_renewed=bool(standing.wait_s),
                )
            ):
                return _account(row)
            return await self._check_in_turn(name, password, caller, is_proven=standing.is_proven)
        except BusyError:
            await self._limits.slow()
            raise

    async def _check_in_turn(
        self, name: str, password: str, caller: Caller, *, is_proven: bool
    ) -> Account:
        key = caller.pair if is_proven else caller.address
        async with self._passwords.turn(key, is_proven=is_proven):
            # Others may have failed before it was this one's turn.
            row, standing = await asyncio.to_thread(self._look, name, caller)
            if standing.wait_s:
                raise too_many("wrong passwords", standing.wait_s)
            stored_hash = _hash_of(row)
            is_right, new_hash = await self._passwords.verify(
                password, name=name, stored_hash=stored_hash, is_proven=is_proven
            )
            if row is None or not is_right:
                known = None if row is None else row.name
                await asyncio.to_thread(self._limits.count_wrong, caller, standing, user=known)
                raise UnauthorizedError("Invalid credentials", error="Bad Request", user=name)
            if new_hash is not None or not standing.is_fresh:
                # If this fails, the next login tries again.
                with suppress(RecordUnavailableError):
                    await asyncio.to_thread(self._note_login, row, caller, new_hash)
        return _account(row)

    def issue_token(self, account: Account) -> str:
        """Make a new token for an authenticated user.

        Raises
        ------
        ForbiddenError
            If the user has sent a key: a token may do what the key must not.
        """
        if account.key is not None:
            raise ForbiddenError("A key cannot be exchanged for a token: send the key itself.")
        return self._tokens.issue(
            user_id=account.user_id, name=account.name, role=account.role, epoch=account.epoch
        )

    def check_account(self, account: Account) -> Account:
        """Return the account as the record has it now. Blocks while it reads.

        Raises
        ------
        UnauthorizedError
            If the user is disabled, or the password or the role has changed since; if the request
            was sent with a key, only if the key is not valid any more.
        """
        if account.key is not None:
            return _account_of_key(*self._keys.check_again(account.key), address=account.address)
        with self._record.read() as connection:
            row = users.get_user(connection, account.user_id)
        if row is None or row.is_disabled or row.epoch != account.epoch:
            raise UnauthorizedError("User does not exist", error="Invalid JWT", user=account.name)
        return replace(_account(row), address=account.address)

    def get(self, name: str) -> Account:
        """Return an enabled user, or raise `NotFoundError`."""
        with self._record.read() as connection:
            row = users.find_user(connection, clean_known_name(name))
        if row is None or row.is_disabled:
            others = self.list(after="", limit=1000, is_disabled=False)
            raise NotFoundError.of("user", name, (other.name for other in others))
        return _account(row)

    def add(self, name: str, password: str, *, role: str = "user", by: Actor = UNKNOWN) -> Account:
        """Add a user, whatever the settings say about registration.

        Raises
        ------
        InvalidInputError
            If the name, the password or the role is not allowed.
        NameTakenError
            If the name is or was another user's, or looks like it.
        """
        name = clean_new_name(name)
        password = clean_new_password(password, name=name)
        check_role(role)
        password_hash = self._passwords.hash_now(password)
        return self._add(name, password_hash, role=role, by=by, action="user.add")

    async def change_password(self, account: Account, *, present: str, new: str) -> Account:
        """Change a user's own password, and return the account with its new epoch.

        All tokens and sessions of the user end.

        Raises
        ------
        UnauthorizedError
            If the present password is wrong.
        InvalidInputError
            If the new one is not allowed.
        BusyError
            If too many passwords are waiting.
        """
        checked = await self.check_password(account.name, present, address=account.address)
        if checked.key is not None:
            raise UnauthorizedError("Invalid credentials", error="Bad Request", user=account.name)
        password_hash = await self._passwords.hash(clean_new_password(new, name=account.name))
        await asyncio.to_thread(
            self._record.write,
            lambda connection: _set_password(
                connection, account.name, password_hash, account.actor
            ),
        )
        return await asyncio.to_thread(self.get, account.name)

    def set_password(self, name: str, password: str, *, by: Actor = UNKNOWN) -> None:
        """Change the password of an enabled user, and end the user's tokens.

        Raises
        ------
        InvalidInputError
            If the password is not allowed.
        NotFoundError
            If the user does not exist or is disabled.
        """
        name = clean_known_name(name)
        password = clean_new_password(password, name=name)
        password_hash = self._passwords.hash_now(password)
        self._record.write(lambda connection: _set_password(connection, name, password_hash, by))

    def set_role(self, name: str, role: str, *, by: Actor = UNKNOWN) -> None:
        """Change the role of an enabled user, and end the user's tokens.

        Raises
        ------
        InvalidInputError
            If the role does not exist.
        NotFoundError
            If the user does not exist or is disabled.
        LastAdminError
            If no admin would be left.
        """
        check_role(role)
        name = clean_known_name(name)
        self._record.write(lambda connection: _set_role(connection, name, role, by))

    def disable(self, name: str, *, by: Actor = UNKNOWN) -> int:
        """Disable a user, end the user's tokens, revoke the user's keys; return how many.

        The name stays taken.

        Raises
        ------
        NotFoundError
            If the user does not exist or is disabled already.
        LastAdminError
            If no admin would be left.
        """
        name = clean_known_name(name)
        return self._record.write(lambda connection: _disable(connection, name, by))

    def enable(self, name: str, *, by: Actor = UNKNOWN) -> None:
        """Enable a disabled user again, with the password and role of before, but without keys.

        Raises
        ------
        NotFoundError
            If the user does not exist or is not disabled.
        """
        name = clean_known_name(name)
        self._record.write(lambda connection: _enable(connection, name, by))

    def change(
        self, name: str, *, role: str | None, is_disabled: bool | None, by: Actor = UNKNOWN
    ) -> UserRow:
        """Change the role of a user, disable or enable the user, or both; None changes nothing.

        Raises
        ------
        InvalidInputError
            If the role does not exist.
        NotFoundError
            If there is no such user, or a disabled one is to get another role.
        LastAdminError
            If no admin would be left.
        """
        if role is not None:
            check_role(role)
        name = clean_known_name(name)

        def work(connection: Connection) -> UserRow:
            row = users.find_user(connection, name)
            if row is None:
                raise NotFoundError(f"There is no user `{name}`.")
            if is_disabled is False and row.is_disabled:
                _enable(connection, name, by)
            if role is not None and role != row.role:
                _set_role(connection, name, role, by)
            if is_disabled and not row.is_disabled:
                _disable(connection, name, by)
            return users.find_user(connection, name) or row

        return self._record.write(work)

    def list(
        self, *, after: str = "", limit: int, is_disabled: bool | None = None
    ) -> Sequence[UserRow]:
        """List at most `limit` users after the name `after`, sorted by name.

        `is_disabled` filters them; None lists all.
        """
        with self._record.read() as connection:
            return users.list_users(connection, after=after, limit=limit, is_disabled=is_disabled)

    async def _check_registration(self, key: str | None, address: str | None) -> None:
        settings = self._settings
        if settings.registration == "closed":
            raise ForbiddenError("Registration is closed; ask an administrator for an account.")
        if settings.registration == "key":
            expected = settings.registration_key
            given = (key or "").encode(errors="surrogatepass")
            try:
                await asyncio.to_thread(self._limits.check_key, address)
            except BusyError:
                await self._limits.slow()
                raise
            if expected is None or not hmac.compare_digest(
                given, expected.get_secret_value().encode()
            ):
                await asyncio.to_thread(self._limits.count_wrong_key, address)
                raise ForbiddenError("Registration needs the right `key`.")

    def _check_free(self, name: str) -> None:
        with self._record.read() as connection:
            users.check_free(connection, name)

    def _add(
        self,
        name: str,
        password_hash: str,
        *,
        role: str,
        by: Actor,
        action: str,
        caller: Caller | None = None,
    ) -> Account:
        created_ns = time.time_ns()

        def work(connection: Connection) -> UserRow:
            row = users.add_user(
                connection,
                name=name,
                password_hash=password_hash,
                role=role,
                created_ns=created_ns,
            )
            note(connection, by, action, name, role=role)
            if caller is not None:
                self._limits.prove(connection, caller)
            return row

        return _account(self._record.write(work))

    def _look(self, name: str, caller: Caller) -> tuple[UserRow | None, Standing]:
        with self._record.read() as connection:
            row = users.find_user(connection, name)
            return row, self._limits.standing(connection, caller)

    def _note_login(self, row: UserRow, caller: Caller, new_hash: str | None) -> None:
        def note(connection: Connection) -> None:
            self._limits.prove(connection, caller)
            if new_hash is not None:
                users.update_hash(
                    connection, row.user_id, old_hash=row.password_hash, new_hash=new_hash
                )

        self._record.write(note)


def _hash_of(row: UserRow | None) -> str | None:
    return None if row is None or row.is_disabled else row.password_hash


def _set_password(connection: Connection, name: str, password_hash: str, by: Actor) -> None:
    users.change_user(connection, name, password_hash=password_hash)
    note(connection, by, "user.password", name)


def _set_role(connection: Connection, name: str, role: str, by: Actor) -> None:
    if role != "admin":
        users.require_other_admin(connection, name)
    users.change_user(connection, name, role=role)
    note(connection, by, "user.role", name, role=role)


def _disable(connection: Connection, name: str, by: Actor) -> int:
    """Disable a user and revoke the user's keys; return how many."""
    users.require_other_admin(connection, name)
    user_id = users.change_user(connection, name, is_disabled=True)
    now_ns = time.time_ns()
    keys = living_keys(connection, user_id, now_ns=now_ns)
    for key in keys:
        revoke_key(connection, key.key_id, revoked_ns=now_ns)
    note(connection, by, "user.disable", name, keys=[key.public_id for key in keys])
    return len(keys)


def _enable(connection: Connection, name: str, by: Actor) -> None:
    users.change_user(connection, name, was_disabled=True, is_disabled=False)
    note(connection, by, "user.enable", name)


def _account(row: UserRow) -> Account:
    return Account(row.user_id, row.name, row.role, row.epoch)


def _account_of_key(key: Key, owner: UserRow, *, address: str | None = None) -> Account:
    return Account(owner.user_id, owner.name, owner.role, owner.epoch, key, address)
