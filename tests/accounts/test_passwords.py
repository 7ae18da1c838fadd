import asyncio
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from squash_api.accounts import passwords as module
from squash_api.accounts.passwords import Argon2Hasher, Passwords
from tests.support.hashing import Clock, PlainHasher


@pytest.fixture
def hasher() -> PlainHasher:
    return PlainHasher()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def passwords(hasher: PlainHasher, clock: Clock) -> Iterator[Passwords]:
    passwords = Passwords(hasher, threads=2, clock=clock)
    yield passwords
    hasher.go.set()
    passwords.close()


async def check(
    passwords: Passwords,
    password: str = "desert",
    *,
    name: str = "mole",
    stored_hash: str | None = "v1:desert",
    is_proven: bool = True,
) -> bool:
    is_right, _ = await passwords.verify(
        password, name=name, stored_hash=stored_hash, is_proven=is_proven
    )
    return is_right


def cheap_argon2(passes: int = 1) -> Argon2Hasher:
    return Argon2Hasher(memory_kib=64, passes=passes)


def test_argon2_knows_its_own_hashes_by_the_password() -> None:
    hasher = cheap_argon2()
    stored_hash = hasher.hash("désert")
    assert hasher.verify("désert", stored_hash) == (True, None)
    assert hasher.verify("desert", stored_hash) == (False, None)


def test_argon2_salts() -> None:
    hasher = cheap_argon2()
    assert hasher.hash("desert") != hasher.hash("desert")


@pytest.mark.usefixtures("real_cost")
def test_argon2_costs_by_default_what_owasp_asks() -> None:
    assert Argon2Hasher().hash("desert").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_the_dummy_hash_has_the_parameters_of_a_new_hash_and_no_password() -> None:
    hasher = cheap_argon2(passes=3)
    parameters = hasher.hash("desert").split("$")[:4]
    assert hasher.dummy_hash.split("$")[:4] == parameters
    assert [len(part) for part in hasher.dummy_hash.split("$")] == [
        len(part) for part in hasher.hash("desert").split("$")
    ]
    assert hasher.verify("", hasher.dummy_hash) == (False, None)


def test_an_outdated_hash_gets_a_new_one_if_the_password_is_right() -> None:
    old, new = cheap_argon2(passes=1), cheap_argon2(passes=2)
    stored_hash = old.hash("desert")
    is_right, new_hash = new.verify("desert", stored_hash)
    assert is_right
    assert new_hash is not None
    assert "t=2" in new_hash
    assert new.verify("desert", new_hash) == (True, None)
    assert new.verify("wrong!", stored_hash) == (False, None)


@pytest.mark.parametrize("stored_hash", ["", "!", "$argon2id$nonsense", "$2b$12$abc"])
def test_a_stored_text_that_is_no_hash_fits_no_password(stored_hash: str) -> None:
    assert cheap_argon2().verify(stored_hash, stored_hash) == (False, None)


async def test_without_a_stored_hash_the_dummy_is_checked(
    passwords: Passwords, hasher: PlainHasher
) -> None:
    assert not await check(passwords, stored_hash=None)
    assert hasher.checked == ["dummy"]


async def test_a_right_password_is_believed_for_a_minute(
    passwords: Passwords, hasher: PlainHasher, clock: Clock
) -> None:
    assert await check(passwords)
    clock.now += 59.9
    assert await check(passwords)
    assert len(hasher.checked) == 1
    clock.now += 0.1
    assert await check(passwords)
    assert len(hasher.checked) == 2


async def test_a_wrong_password_is_checked_each_time(
    passwords: Passwords, hasher: PlainHasher
) -> None:
    assert not await check(passwords, "wrong!")
    assert not await check(passwords, "wrong!")
    assert len(hasher.checked) == 2


async def test_another_name_password_or_hash_is_not_believed(
    passwords: Passwords, hasher: PlainHasher
) -> None:
    assert await check(passwords)
    assert await check(passwords, name="vole")
    assert not await check(passwords, "wrong!")
    assert not await check(passwords, stored_hash="v1:tunnel")
    assert len(hasher.checked) == 4


async def test_what_is_believed_is_bounded_and_the_oldest_goes_first(
    passwords: Passwords, hasher: PlainHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 2)
    for name in ("a", "b", "c"):
        await check(passwords, name=name)
    assert len(passwords._remembered) == 2
    await check(passwords, name="c")
    await check(passwords, name="b")
    assert len(hasher.checked) == 3
    await check(passwords, name="a")
    assert len(hasher.checked) == 4


async def test_nothing_readable_is_remembered(passwords: Passwords) -> None:
    await check(passwords)
    (digest,) = passwords._remembered
    assert len(digest) == 32
    other = Passwords(PlainHasher())
    await check(other)
    other.close()
    assert digest not in other._remembered


async def test_a_believed_password_needs_no_thread(
    passwords: Passwords, hasher: PlainHasher
) -> None:
    assert await check(passwords)
    hasher.go.clear()
    flood = [asyncio.create_task(check(passwords, f"wrong {i}")) for i in range(5)]
    await asyncio.sleep(0)
    assert passwords.remembers("desert", name="mole", stored_hash="v1:desert")
    assert await check(passwords)
    hasher.go.set()
    assert await asyncio.gather(*flood) == [False] * 5


async def test_passwords_from_unknown_addresses_hold_up_no_others(
    passwords: Passwords, hasher: PlainHasher
) -> None:
    held = threading.Event()
    plain_verify = hasher.verify

    def verify(password: str, stored_hash: str) -> tuple[bool, str | None]:
        if threading.current_thread().name.startswith("other"):
            assert held.wait(30)
        return plain_verify(password, stored_hash)

    hasher.verify = verify  # type: ignore[method-assign]
    guesses = [
        asyncio.create_task(check(passwords, f"wrong {i}", is_proven=False)) for i in range(9)
    ]
    assert await check(passwords)
    held.set()
    assert await asyncio.gather(*guesses) == [False] * 9


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no priorities of threads")
async def test_they_are_hashed_by_one_thread_of_a_low_priority(
    passwords: Passwords, hasher: PlainHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def verify(_password: str, _stored_hash: str) -> tuple[bool, str | None]:
        thread = threading.get_native_id()
        seen.add((thread, os.getpriority(os.PRIO_PROCESS, thread)))
        return False, None

    monkeypatch.setattr(hasher, "verify", verify)
    await asyncio.gather(*(check(passwords, f"wrong {i}", is_proven=False) for i in range(9)))
    (others,) = seen
    await check(passwords, "wrong")
    (own,) = seen - {others}
    assert others[1] == min(own[1] + 10, 19)
    assert own[1] == os.getpriority(os.PRIO_PROCESS, 0)


async def test_the_event_loop_runs_on_while_a_password_is_checked(
    passwords: Passwords, hasher: PlainHasher
) -> None:
    hasher.go.clear()
    login = asyncio.create_task(check(passwords))
    assert await asyncio.to_thread(hasher.started.wait, 30)
    assert not login.done()
    hasher.go.set()
    assert await login


async def test_a_hasher_that_breaks_breaks_one_check_only(
    passwords: Passwords, hasher: PlainHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_password: str, _stored_hash: str) -> tuple[bool, str | None]:
        raise MemoryError

    monkeypatch.setattr(hasher, "verify", fail)
    with pytest.raises(MemoryError):
        await check(passwords)
    monkeypatch.undo()
    assert await check(passwords)


def test_hash_now_hashes_in_this_thread(passwords: Passwords) -> None:
    assert passwords.hash_now("desert") == "v1:desert"
