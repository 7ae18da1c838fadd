"""Sessions of people on the pages: a signed cookie, and the token of each form that they send."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from squash_api.accounts.accounts import Account, Accounts
from squash_api.accounts.tokens import SESSION_TYPE, Tokens
from squash_api.errors import ForbiddenError, UnauthorizedError
from squash_api.record import users
from squash_api.record.record import Record


@dataclass(frozen=True, slots=True)
class Session:
    """A login of an account on the pages, until `expires_at` in s since 1970 UTC."""

    account: Account
    session_id: str
    expires_at: int


class Sessions:
    """Begins, checks and ends sessions, for all processes that share the record and the secret.

    A session is a token of a type of its own. It needs the record only to end early: by a logout,
    or when the user is disabled or gets another password or role. So people can log in to see what
    is wrong while the record cannot be written.

    Parameters
    ----------
    accounts
        Know whether the user of a session may still use it.
    secret, previous
        The key that signs, from `require_secret`, and from `previous_secret` the one that did
        before.
    hours
        How long a session lasts. It is never prolonged.
    clock
        Seconds since 1970 UTC.
    """

    def __init__(
        self,
        record: Record,
        accounts: Accounts,
        *,
        secret: str,
        previous: str | None = None,
        hours: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._record = record
        self._accounts = accounts
        self._secrets = [each.encode() for each in (secret, previous) if each is not None]
        self._clock = clock
        self.seconds = hours * 3600
        self._tokens = Tokens(
            secret, previous=previous, minutes=hours * 60, kind=SESSION_TYPE, clock=clock
        )

    def begin(self, account: Account) -> str:
        """Begin a session of somebody who has just given the right password."""
        return self._tokens.issue(
            user_id=account.user_id, name=account.name, role=account.role, epoch=account.epoch
        )

    def check(self, text: str) -> Session:
        """Return the session whose text a browser has sent. Blocks while it reads the record.

        Raises
        ------
        UnauthorizedError
            If it is none of this service, or has ended.
        """
        claims = self._tokens.read(text)
        claimed = Account(claims.user_id, claims.name, claims.role, claims.epoch)
        account = self._accounts.check_account(claimed)
        with self._record.read() as connection:
            is_ended = users.is_session_ended(connection, claims.token_id)
        if is_ended:
            raise UnauthorizedError("Session has ended", error="Invalid token", user=claims.name)
        return Session(account, claims.token_id, claims.expires_at)

    def end(self, session: Session) -> None:
        """End a session, wherever its text is kept.

        Raises
        ------
        RecordUnavailableError
            If that cannot be written. The session goes on.
        """
        # A token is good for a little longer than it says.
        expires_ns = (session.expires_at + 3600) * 10**9
        now_ns = int(self._clock() * 10**9)
        self._record.write(
            lambda connection: users.end_session(
                connection, session.session_id, expires_ns=expires_ns, now_ns=now_ns
            )
        )

    def form_token(self, owner: str) -> str:
        """Return what a form must send, which only pages of its owner have.

        The owner is the id of a session or, before there is one, a random text in a cookie. Source:
        OWASP, cross-site request forgery prevention, signed double-submit cookie.
        """
        return _form_token(self._secrets[0], owner)

    def check_form(self, owner: str, token: str | None) -> None:
        """Raise `ForbiddenError` unless a form has the token of its owner."""
        given = (token or "").encode(errors="replace")
        expected = [_form_token(secret, owner).encode() for secret in self._secrets]
        if not owner or not any(hmac.compare_digest(each, given) for each in expected):
            raise ForbiddenError("This form is not from this page, or too old: load it again.")


def _form_token(secret: bytes, owner: str) -> str:
    return hmac.new(secret, f"form\0{owner}".encode(), hashlib.sha256).hexdigest()


def new_owner() -> str:
    """Make up an owner of forms for somebody who is not logged in."""
    return secrets.token_hex(16)
