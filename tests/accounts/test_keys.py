import asyncio
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.accounts.accounts import Account
from squash_api.accounts.key_ring import KeyRing
from squash_api.accounts.keys import (
    REMEMBERED_S,
    Key,
    KeyReader,
    is_key,
    make_key,
)
from squash_api.errors import ForbiddenError, UnauthorizedError
from squash_api.record.audit import UNKNOWN
from squash_api.record.record import Record
from squash_api.record.users import change_user
from tests.support.builders import add_test_user, open_record
from tests.support.hashing import Clock

DIGITS = "0123456789abcdef"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(record: Record, clock: Clock) -> KeyReader:
    return KeyReader(record, clock=clock)


@pytest.fixture
def ring(record: Record) -> KeyRing:
    return KeyRing(record)


def new_key(ring: KeyRing, **changes: object) -> str:
    wanted: dict[str, object] = {"scopes": ["job:write"], "by": UNKNOWN}
    _, text = ring.create("ada", "ci", **(wanted | changes))  # type: ignore[arg-type]
    return text


async def refusal(reader: KeyReader, text: str) -> str:
    with pytest.raises(UnauthorizedError) as caught:
        await reader.check(text)
    assert caught.value.status_code == 401
    return caught.value.message


async def test_a_key_tells_whose_it_is_and_what_it_may(ring: KeyRing, reader: KeyReader) -> None:
    text = new_key(ring, scopes=["job:read", "job:write"], namespaces=["p"])
    key, owner = await reader.check(text)
    assert (key.name, key.scopes, key.namespaces) == (
        "ci",
        frozenset({"job:write", "job:read"}),
        frozenset({"p"}),
    )
    assert owner.name == "ada"
    assert text.startswith(f"sq_{key.public_id}_")


def test_the_record_does_not_have_the_secret(ring: KeyRing, tmp_path: Path) -> None:
    secret = new_key(ring).split("_")[2]
    for file in tmp_path.glob("squash.db*"):
        content = file.read_bytes()
        assert secret.encode() not in content
        assert bytes.fromhex(secret) not in content
        assert bytes.fromhex(secret)[:32] not in content


def test_no_two_keys_are_alike() -> None:
    made = [make_key() for _ in range(100)]
    assert len({key.text for key in made}) == len({key.public_id for key in made}) == 100


KEY = make_key().text


@given(place=st.integers(3, len(KEY) - 1), digit=st.sampled_from(DIGITS))
def test_a_wrong_character_is_told_from_a_wrong_key(place: int, digit: str) -> None:
    mistyped = KEY[:place] + digit + KEY[place + 1 :]
    assert is_key(mistyped) is (mistyped == KEY)


@given(st.integers(3, len(KEY) - 1))
def test_a_key_that_is_cut_off_is_none(length: int) -> None:
    assert not is_key(KEY[:length])
    assert not is_key(KEY[-length:])


@given(st.text() | st.from_regex(r"sq_[0-9a-f]{12}_[0-9a-f]{72}", fullmatch=True))
def test_no_text_breaks_the_reading_of_keys(text: str) -> None:
    assert not is_key(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1],
        lambda key: key.upper(),
        lambda key: key + "0",
        lambda key: key[:20] + key[21:] + "0",
        lambda key: key.replace("_", "-"),
        lambda key: key.translate({ord("0"): "\u0660"}),
        lambda key: key[:3],
    ],
)
async def test_a_mistyped_key_says_so(
    ring: KeyRing, reader: KeyReader, change: Callable[[str], str]
) -> None:
    assert "mistyped" in await refusal(reader, change(new_key(ring)))


async def test_an_unknown_key_and_a_wrong_secret_get_the_same_answer(
    ring: KeyRing, reader: KeyReader
) -> None:
    own, other = new_key(ring), make_key()
    forged = f"sq_{own.split('_')[1]}_{other.text.split('_')[2][:64]}"
    # Whoever forges can compute a checksum too.
    forged += f"{zlib.crc32(forged.encode()):08x}"
    unknown = await refusal(reader, other.text)
    assert await refusal(reader, forged) == unknown == "The key is not one of this service"


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_revoked_key_is_refused_everywhere_within_a_second(
    ring: KeyRing, reader: KeyReader, clock: Clock, *, is_known: bool
) -> None:
    text = new_key(ring)
    if is_known:
        await reader.check(text)
    ring.revoke(text.split("_")[1], by=UNKNOWN)
    clock.now += REMEMBERED_S if is_known else 0
    assert await refusal(reader, text) == f"The key `{text.split('_')[1]}` (ci) was revoked"


async def test_within_a_second_the_record_is_read_once(
    ring: KeyRing, reader: KeyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = new_key(ring)
    key, _ = await reader.check(text)
    monkeypatch.setattr(reader, "_look_up", None)
    assert (await reader.check(text))[0] == key


async def test_only_whoever_has_the_secret_learns_that_a_key_was_revoked(
    ring: KeyRing, reader: KeyReader
) -> None:
    text = new_key(ring)
    public_id = text.split("_")[1]
    ring.revoke(public_id, by=UNKNOWN)
    other = f"sq_{public_id}_{'0' * 64}"
    assert "not one of" in await refusal(reader, f"{other}{zlib.crc32(other.encode()):08x}")


async def test_an_expired_key_is_refused_at_once(
    ring: KeyRing, reader: KeyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_ns = time.time_ns() + 60 * 10**9
    text = new_key(ring, expires_ns=ends_ns)
    await reader.check(text)
    monkeypatch.setattr(time, "time_ns", lambda: ends_ns)
    assert (await refusal(reader, text)).endswith("has expired")


async def test_a_key_of_a_disabled_user_is_refused(
    record: Record, ring: KeyRing, reader: KeyReader, clock: Clock
) -> None:
    text = new_key(ring)
    key, _ = await reader.check(text)
    record.write(lambda connection: change_user(connection, "ada", is_disabled=True))
    with pytest.raises(UnauthorizedError, match="User does not exist"):
        reader.check_again(key)
    clock.now += REMEMBERED_S
    assert await refusal(reader, text) == "User does not exist"


async def test_a_key_has_the_role_that_its_owner_has_now(
    record: Record, ring: KeyRing, reader: KeyReader, clock: Clock
) -> None:
    record.write(lambda connection: change_user(connection, "ada", role="admin"))
    text = new_key(ring, scopes=["admin"])
    assert (await reader.check(text))[1].role == "admin"
    record.write(lambda connection: change_user(connection, "ada", role="user"))
    clock.now += REMEMBERED_S
    key, owner = await reader.check(text)
    account = Account(owner.user_id, owner.name, owner.role, owner.epoch, key)
    assert not account.is_admin
    with pytest.raises(ForbiddenError, match="ada, is an admin"):
        account.require_scope("admin")


def last_use(ring: KeyRing) -> int | None:
    return ring.list(limit=10)[0].last_used_ns


async def settled(reader: KeyReader) -> None:
    await asyncio.gather(*reader._touching)


async def test_the_last_use_is_noted_once_a_minute(
    ring: KeyRing, reader: KeyReader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = new_key(ring)
    assert last_use(ring) is None
    now_ns = time.time_ns()
    used = []
    for seconds in (0, 30, 59, 61, 62, 122):
        moment = now_ns + seconds * 10**9
        monkeypatch.setattr("squash_api.accounts.keys.time.time_ns", lambda at=moment: at)
        clock.now += 2
        await reader.check(text)
        await settled(reader)
        last_ns = last_use(ring)
        assert last_ns is not None
        used.append((last_ns - now_ns) // 10**9)
    assert used == [0, 0, 0, 61, 61, 122]


async def test_a_refused_key_is_not_used(ring: KeyRing, reader: KeyReader) -> None:
    text = new_key(ring)
    forged = make_key().text
    await refusal(reader, forged)
    await refusal(reader, text[:-1])
    await settled(reader)
    assert last_use(ring) is None


async def test_a_record_that_cannot_be_written_takes_keys_all_the_same(
    ring: KeyRing, reader: KeyReader, record: Record
) -> None:
    text = new_key(ring)
    record.require_writable()
    record._closed = True
    try:
        await reader.check(text)
        await settled(reader)
    finally:
        record._closed = False
    assert last_use(ring) is None


async def test_many_keys_take_bounded_memory(
    record: Record, reader: KeyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.accounts.keys._MAX_REMEMBERED", 3)
    ring = KeyRing(record)
    for _ in range(10):
        await reader.check(new_key(ring))
    assert len(reader._remembered) <= 3
    assert len(reader._touched) <= 3


# What an account may do with a key

CI = Key(1, "0a1b2c3d4e5f", "ci", frozenset({"job:write"}), frozenset({"p", "q"}))


def test_a_refusal_names_the_scope_and_the_key() -> None:
    with pytest.raises(ForbiddenError) as caught:
        Account(1, "ada", "admin", 1, CI).require_scope("definitions:write")
    for words in ("definitions:write", "0a1b2c3d4e5f", "ci", "`job:write`"):
        assert words in caught.value.message


def test_without_the_scope_admin_a_key_of_an_admin_is_a_user_s() -> None:
    assert Account(1, "ada", "admin", 1).is_admin
    assert not Account(1, "ada", "admin", 1, CI).is_admin


def test_a_key_names_the_places_outside_its_namespaces() -> None:
    names = ["p.a", "x.a", "q.b", "pp.a", "P.a", "p", "nodot", ".a", "p .a"]
    with pytest.raises(ForbiddenError) as caught:
        Account(1, "ada", "user", 1, CI).require_namespaces(
            (("body", index), name) for index, name in enumerate(names)
        )
    assert [item.loc[1] for item in caught.value.detail] == [1, 3, 4, 6, 7, 8]


def test_a_refusal_for_many_places_is_short() -> None:
    with pytest.raises(ForbiddenError) as caught:
        Account(1, "ada", "user", 1, CI).require_namespaces(
            (("body", index), "x" * 100_000) for index in range(100_000)
        )
    assert len(caught.value.detail) == 20
    assert "99999 more" in caught.value.message
    assert len(str(caught.value.detail)) + len(caught.value.message) < 20_000


def test_a_key_of_another_record_is_not_taken(tmp_path: Path, ring: KeyRing) -> None:
    text = new_key(ring)
    other = open_record(tmp_path / "other")
    add_test_user(other, "ada")
    try:
        assert "not one of" in asyncio.run(refusal(KeyReader(other), text))
    finally:
        other.close()
