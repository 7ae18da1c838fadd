"""User names and passwords: their form, and what new ones must not be."""

import gzip
import unicodedata
from functools import cache
from importlib import resources
from itertools import pairwise

from squash_api.errors import Detail, InvalidInputError, NotFoundError
from squash_api.record.lookalikes import has_unseen, scripts_of

MAX_BYTES = 1_024
"""Longest user name or password that is accepted, in bytes of UTF-8, before and after NFKC."""

MAX_NAME = 128
"""Longest user name, in characters."""

MIN_CHARACTERS = 8
"""Shortest new password."""

ROLES = ("user", "admin")
"""A user may change and delete only their own; an admin may change and delete everything."""


def clean_credential(text: str, *, field: str) -> str:
    """Normalize a user name or password, the `field` of a body, to NFKC.

    Raises
    ------
    InvalidInputError
        If it is too long, or has characters that hashes and databases do not accept.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _invalid(field, "contains characters that cannot be encoded") from None
    # The JSON decoder replaces lone surrogates by U+FFFD.
    if "\ufffd" in text:
        raise _invalid(field, "contains characters that cannot be encoded")
    if "\0" in text:
        raise _invalid(field, "contains a NUL character")
    if size <= MAX_BYTES:
        text = unicodedata.normalize("NFKC", text)
        size = len(text.encode())
    if size > MAX_BYTES:
        raise _invalid(field, f"is longer than {MAX_BYTES} bytes")
    return text


def clean_known_name(name: str) -> str:
    """Return the name as stored; `NotFoundError` if no user can have it."""
    try:
        return clean_credential(name, field="username")
    except InvalidInputError:
        raise NotFoundError("There is no user of that name.") from None


def check_role(role: str) -> None:
    """Raise `InvalidInputError` if there is no such role."""
    if role not in ROLES:
        raise InvalidInputError(f"There is no role `{role}`: it is one of {', '.join(ROLES)}.")


def clean_new_password(password: str, *, name: str) -> str:
    """Normalize a new password of a user; like `clean_credential`, but it must not be guessed soon.

    As in NIST's SP 800-63B: long enough, and none of those that are tried first. There are no rules
    on which characters it has.
    """
    password = clean_credential(password, field="password")
    if len(password) < MIN_CHARACTERS:
        raise _invalid("password", f"is shorter than {MIN_CHARACTERS} characters")
    if not password.strip():
        raise _invalid("password", "is blank")
    folded = password.casefold().strip()
    if folded == name.casefold():
        raise _invalid("password", "is the user name")
    if _is_a_row(folded):
        raise _invalid("password", "is one character repeated, or characters in a row")
    if folded in common_passwords():
        raise _invalid("password", "is one of the most common ones, which are tried first")
    return password


def _is_a_row(text: str) -> bool:
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    return len(steps) <= 1 and steps <= {-1, 0, 1}


@cache
def common_passwords() -> frozenset[str]:
    """Read the common passwords of 8 characters or more, in lower case.

    They are those among the 30,000 most frequent in `zxcvbn` 4.5.0 (MIT), which has them from
    leaked lists.
    """
    packed = resources.files("squash_api.accounts").joinpath("common_passwords.txt.gz")
    return frozenset(gzip.decompress(packed.read_bytes()).decode().splitlines())


def clean_new_name(name: str) -> str:
    """Normalize a new user name; like `clean_credential`, but it must be readable and short too."""
    name = clean_credential(name, field="username")
    if not name:
        raise _invalid("username", "is empty")
    if len(name) > MAX_NAME:
        raise _invalid("username", f"is longer than {MAX_NAME} characters")
    if name != name.strip():
        raise _invalid("username", "begins or ends with a space")
    if not name.isprintable() or has_unseen(name):
        raise _invalid("username", "contains characters that cannot be printed")
    if "/" in name or name in {".", ".."}:
        raise _invalid("username", "cannot be part of a URL")
    scripts = scripts_of(name)
    if len(scripts) > 1:
        raise _invalid("username", f"mixes letters of {' and '.join(scripts)}: use one of them")
    return name


def _invalid(field: str, problem: str) -> InvalidInputError:
    """Make the error that says what is wrong with the user name or password."""
    noun = "user name" if field == "username" else field
    return InvalidInputError(f"The {noun} {problem}.", detail=[Detail(("body", field), problem)])
