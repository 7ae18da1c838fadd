import time
import unicodedata
from typing import Any, Literal

import pytest

from squash_api.accounts.accounts import Account
from squash_api.accounts.key_ring import MAX_KEYS, KeyRing, key_object
from squash_api.accounts.keys import Key
from squash_api.errors import ForbiddenError, InvalidInputError, NotFoundError
from squash_api.record.audit import Actor, list_noted
from squash_api.record.record import Record
from squash_api.record.users import change_user
from tests.support.builders import add_test_user

ADA = Account(1, "ada", "user", 1)
BOB = Account(2, "bob", "user", 1)
ROOT = Account(2, "bob", "admin", 2)
COMMAND = Actor(command="squash key create (root)")


@pytest.fixture
def ring(record: Record) -> KeyRing:
    return KeyRing(record)


@pytest.fixture
def with_admin(record: Record) -> None:
    record.write(lambda connection: change_user(connection, "bob", role="admin"))


def create(ring: KeyRing, by: Account | Actor = ADA, owner: str = "ada", **changes: Any) -> str:
    row, _ = ring.create(owner, "ci", **({"scopes": ["job:write"], "by": by} | changes))
    return row.public_id


def test_a_user_makes_lists_and_revokes_a_key(ring: KeyRing) -> None:
    row, text = ring.create(
        " ada".strip(), " ci ", scopes=["job:write", "job:read", "job:read"], by=ADA
    )
    assert (row.user_name, row.name, row.scopes) == ("ada", "ci", ("job:write", "job:read"))
    assert ring.list(user_id=1, limit=9) == [row]
    assert row.public_id in text
    ring.revoke(row.public_id, by=ADA)
    (revoked,) = ring.list(user_id=1, limit=9)
    assert key_object(revoked)["state"] == "revoked"
    assert text.split("_")[2] not in str(key_object(revoked))


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["job:write", "everything"]},
        {"scopes": ["JOB:WRITE"]},
        {"namespaces": []},
        {"namespaces": ["p..a"]},
        {"namespaces": [".p"]},
        {"namespaces": [""]},
        {"namespaces": ["p\n"] * 2 + ["a\tb"]},
        {"namespaces": [f"p{number}" for number in range(101)]},
        {"expires_ns": 1},
        {"expires_ns": 2**63},
    ],
)
def test_what_cannot_be_a_key_is_refused_and_not_stored(
    ring: KeyRing, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        create(ring, **wrong)
    (place,) = caught.value.detail
    assert place.loc[1] in {"scopes", "namespaces", "expires"}
    assert ring.list(limit=9) == []


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 129, "a\0b", "\ud800"])
def test_a_name_that_cannot_be_shown_is_refused(ring: KeyRing, name: str) -> None:
    with pytest.raises(InvalidInputError):
        ring.create("ada", name, scopes=["job:write"], by=ADA)


@pytest.mark.usefixtures("with_admin")
def test_only_an_admin_makes_keys_for_others_and_keys_of_admins(ring: KeyRing) -> None:
    with pytest.raises(ForbiddenError, match="somebody else"):
        create(ring, ADA, "bob")
    with pytest.raises(ForbiddenError, match="Only an admin"):
        create(ring, ADA, scopes=["admin"])
    with pytest.raises(ForbiddenError, match="owner is an admin"):
        create(ring, ROOT, "ada", scopes=["admin"])
    with pytest.raises(ForbiddenError, match="owner is an admin"):
        create(ring, COMMAND, "ada", scopes=["job:write", "admin"])
    create(ring, ROOT, "ada")
    create(ring, ROOT, "bob", scopes=["admin"])
    create(ring, COMMAND, "bob", scopes=["admin"])


@pytest.mark.usefixtures("with_admin")
def test_a_key_without_the_scope_admin_makes_no_key_of_an_admin(ring: KeyRing) -> None:
    key = Key(1, "0" * 12, "x", frozenset({"job:write"}), None)
    with pytest.raises(ForbiddenError):
        create(ring, Account(2, "bob", "admin", 2, key), "bob", scopes=["admin"])


@pytest.mark.usefixtures("with_admin")
def test_a_key_of_an_admin_has_no_namespaces(ring: KeyRing) -> None:
    with pytest.raises(InvalidInputError, match="do not limit an admin"):
        create(ring, ROOT, "bob", scopes=["admin"], namespaces=["p"])


@pytest.mark.parametrize("owner", ["nobody", "Ada", ""])
def test_a_key_needs_an_owner(ring: KeyRing, owner: str) -> None:
    with pytest.raises(NotFoundError):
        create(ring, COMMAND, owner)


def test_a_disabled_user_gets_no_key(record: Record, ring: KeyRing) -> None:
    record.write(lambda connection: change_user(connection, "ada", is_disabled=True))
    with pytest.raises(NotFoundError):
        create(ring, COMMAND)


def test_a_user_has_at_most_a_hundred_valid_keys(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create(ring)
    ends_ns = time.time_ns() + 60 * 10**9
    create(ring, expires_ns=ends_ns)
    monkeypatch.setattr(time, "time_ns", lambda: ends_ns)
    for _ in range(MAX_KEYS - 1):
        create(ring)
    with pytest.raises(InvalidInputError, match="has 100 keys"):
        create(ring)
    create(ring, BOB, "bob")
    ring.revoke(first, by=ADA)
    create(ring)


@pytest.mark.usefixtures("with_admin")
def test_only_its_owner_and_admins_revoke_a_key(ring: KeyRing) -> None:
    for by in (ADA, ROOT, COMMAND):
        key = create(ring)
        with pytest.raises(NotFoundError):
            ring.revoke(key, by=Account(9, "eve", "user", 1))
        assert ring.revoke(key, by=by).public_id == key


def test_a_key_is_revoked_once(ring: KeyRing, record: Record) -> None:
    key = create(ring)
    ring.revoke(key, by=ADA)
    (first,) = ring.list(limit=9)
    ring.revoke(key, by=ADA)
    assert ring.list(limit=9) == [first]
    with record.read() as connection:
        assert len(list_noted(connection, limit=9, action="key.revoke")) == 1


@pytest.mark.parametrize("key", ["", "0" * 12, "x" * 100_000, "a' OR 1=1"])
def test_an_unknown_key_cannot_be_revoked(ring: KeyRing, key: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        ring.revoke(key, by=ADA)
    assert len(caught.value.message) < 100


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC"])
def test_an_owner_may_be_spelled_as_unicode_likes(
    record: Record, ring: KeyRing, form: Literal["NFC", "NFD", "NFKC"]
) -> None:
    add_test_user(record, "Jürgen")
    create(ring, COMMAND, unicodedata.normalize(form, "Jürgen"))
    assert ring.list(limit=9)[0].user_name == "Jürgen"
