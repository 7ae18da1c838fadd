"""Tokens (JSON Web Tokens, made and read as RFC 8725 says) and the `Authorization` header."""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import jwt

from squash_api.errors import UnauthorizedError

LEEWAY_S = 10
"""Tolerated difference between the clocks of two machines."""

_ALGORITHM = "HS256"
_ISSUER = _AUDIENCE = "squash"
_TYPE = "squash+jwt"
SESSION_TYPE = "squash-session+jwt"
"""The type of what a browser keeps in a cookie: never good as a token, nor a token as it."""

_REQUIRED = ("exp", "nbf", "iat", "iss", "aud", "sub", "jti", "identity", "name", "role", "epoch")
_MAX_TOKEN = 8_192
_MAX_ID = 2**63 - 1
_REMEMBERED_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says about its bearer; `expires_at` is in s since 1970 UTC.

    `token_id` is another for each token.
    """

    user_id: int
    name: str
    role: str
    epoch: int
    expires_at: int
    token_id: str


@dataclass(frozen=True, slots=True)
class PasswordCredentials:
    """A name and a password from the header, not checked yet."""

    name: str
    password: str


class Tokens:
    """Makes and reads tokens. Pure: only the record can tell whether the user still exists.

    `secret` is the key, of 32 bytes or more. Tokens signed with the `previous` one are read too, so
    that the secret can be replaced while tokens live. Tokens expire after `minutes`; `clock` is in
    s since 1970 UTC. Tokens of another `kind` are not read.
    """

    def __init__(
        self,
        secret: str,
        *,
        previous: str | None = None,
        minutes: int,
        clock: Callable[[], float] = time.time,
        kind: str = _TYPE,
    ) -> None:
        self._secret = secret
        self._kind = kind
        # The present one first: tokens of before 2.1 do not name theirs, so both are tried.
        self._secrets = {_secret_id(each): each for each in (secret, previous) if each is not None}
        self._life_s = minutes * 60
        self._clock = clock
        self._jwt = jwt.PyJWT(
            options={
                "require": list(_REQUIRED),
                "enforce_minimum_key_length": True,
                # `read` compares it with `clock`, for remembered tokens too.
                "verify_exp": False,
            }
        )
        # Only what is signed with our secrets, so nobody can fill it with forgeries.
        self._known: dict[str, Claims] = {}

    def issue(self, *, user_id: int, name: str, role: str, epoch: int) -> str:
        """Make a new token."""
        now = int(self._clock())
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": str(user_id),
            "identity": user_id,
            "name": name,
            "role": role,
            "epoch": epoch,
            "iat": now,
            "nbf": now,
            "exp": now + self._life_s,
            "jti": secrets.token_hex(16),
        }
        headers = {"typ": self._kind, "kid": _secret_id(self._secret)}
        token = self._jwt.encode(claims, self._secret, _ALGORITHM, headers=headers)
        # It comes back at once; verifying costs three times as much as making it (`benchmarks/`).
        self._remember(token, _claims(claims))
        return token

    def read(self, token: str) -> Claims:
        """Check a token's signature, times and form, and return its claims.

        Raises
        ------
        UnauthorizedError
            If any of them is wrong; its message says which.
        """
        claims = self._known.get(token)
        if claims is None:
            claims = self._verify(token)
            self._remember(token, claims)
        if claims.expires_at <= self._clock() - LEEWAY_S:
            _refuse("Signature has expired")
        return claims

    def _remember(self, token: str, claims: Claims) -> None:
        if len(self._known) >= _REMEMBERED_TOKENS:
            # All of those in use are verified once more.
            self._known.clear()
        self._known[token] = claims

    def _verify(self, token: str) -> Claims:
        if len(token) > _MAX_TOKEN:
            _refuse("Token cannot be read")
        try:
            decoded = self._decode(token)
        except jwt.InvalidSignatureError:
            _refuse("Signature verification failed")
        except jwt.ImmatureSignatureError:
            _refuse("The token is not yet valid (nbf)")
        except jwt.MissingRequiredClaimError as error:
            _refuse(f'Token is missing the "{error.claim}" claim')
        except (jwt.InvalidIssuerError, jwt.InvalidAudienceError):
            _refuse("Token is not one of this service")
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            _refuse("Token cannot be read")
        if decoded["header"].get("typ") != self._kind:
            _refuse("Token is not one of this service")
        return _claims(decoded["payload"])

    def _decode(self, token: str) -> dict[str, Any]:
        """Decode a token with the secret that its header names, or else with each."""
        named = jwt.get_unverified_header(token).get("kid")
        wanted = [secret for kid, secret in self._secrets.items() if named in (None, kid)]
        for secret in wanted:
            with suppress(jwt.InvalidSignatureError):
                return self._jwt.decode_complete(
                    token,
                    secret,
                    algorithms=[_ALGORITHM],
                    issuer=_ISSUER,
                    audience=_AUDIENCE,
                    leeway=LEEWAY_S,
                )
        raise jwt.InvalidSignatureError


def parse_authorization(header: str | None) -> str | PasswordCredentials:
    """Return the token of an `Authorization` header, or for `Basic` the name and password.

    Raises
    ------
    UnauthorizedError
        In the words of flask_jwt, which old clients print.
    """
    parts = (header or "").split()
    if not parts:
        raise UnauthorizedError(
            "Request does not contain an access token",
            error="Authorization Required",
            challenge=True,
        )
    scheme = parts[0].lower()
    if scheme not in {"jwt", "bearer", "basic"}:
        _refuse("Unsupported authorization type", error="Invalid JWT header")
    if len(parts) == 1:
        _refuse("Token missing", error="Invalid JWT header")
    if len(parts) > 2:
        _refuse("Token contains spaces", error="Invalid JWT header")
    return _parse_basic(parts[1]) if scheme == "basic" else parts[1]


def _parse_basic(text: str) -> PasswordCredentials:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        _refuse("Basic credentials are not base64", error="Invalid JWT header")
    try:
        plain = raw.decode()
    except UnicodeDecodeError:
        # Python's requests sends Latin-1.
        plain = raw.decode("latin-1")
    name, colon, password = plain.partition(":")
    if not colon:
        _refuse("Basic credentials contain no password", error="Invalid JWT header")
    return PasswordCredentials(name, password)


def _secret_id(secret: str) -> str:
    """Return a name for a secret that tells nothing about it."""
    return hmac.digest(secret.encode(), b"squash kid", hashlib.sha256).hex()[:8]


def _claims(payload: dict[str, Any]) -> Claims:
    """Check that claims have the types that `issue` gives them."""
    user_id, epoch, expires_at = payload["identity"], payload["epoch"], payload["exp"]
    name, role, token_id = payload["name"], payload["role"], payload["jti"]
    is_sound = (
        all(type(number) is int for number in (user_id, epoch, expires_at))
        and 0 < user_id <= _MAX_ID
        and payload["sub"] == str(user_id)
        and isinstance(name, str)
        and isinstance(role, str)
        and isinstance(token_id, str)
    )
    if not is_sound:
        _refuse("Token cannot be read")
    return Claims(user_id, name, role, epoch, expires_at, token_id)


def _refuse(description: str, *, error: str = "Invalid token") -> NoReturn:
    raise UnauthorizedError(description, error=error)
