import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from squash_api.accounts import limits as module
from squash_api.accounts.accounts import Account, Accounts
from squash_api.accounts.limits import MAX_WAIT_S, Lane, Limits, network_of
from squash_api.accounts.passwords import Passwords
from squash_api.errors import BusyError, UnauthorizedError
from squash_api.record.audit import list_noted
from squash_api.record.record import Connection, Record
from squash_api.record.tables import attempt
from tests.support.builders import SECRET, make_settings, open_record
from tests.support.hashing import Clock, PlainHasher

HOME = "192.0.2.1"
RIGHT = "desert rose"
HOUR_NS = 3600 * 10**9


class Times:
    """ns since 1970 UTC that a test moves."""

    def __init__(self) -> None:
        self.now = time.time_ns()

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def hasher() -> PlainHasher:
    return PlainHasher()


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def record(empty_record: Record) -> Record:
    return empty_record


def process(
    record: Record, folder: Path, hasher: PlainHasher, times: Times, clock: Clock | None = None
) -> Accounts:
    """Make what one process of the service has."""
    return Accounts(
        record,
        make_settings(folder),
        secret=SECRET,
        passwords=Passwords(hasher, clock=clock or time.monotonic),
        limits=Limits(record, clock=times, slowed_s=0),
    )


@pytest.fixture
def accounts(
    record: Record, tmp_path: Path, hasher: PlainHasher, times: Times
) -> Iterator[Accounts]:
    accounts = process(record, tmp_path, hasher, times)
    accounts.add("ada", RIGHT)
    accounts.add("bob", RIGHT)
    yield accounts
    accounts.close()


async def outcome(
    accounts: Accounts, password: str, *, address: str = HOME, name: str = "ada"
) -> int:
    """Return the status that a login gets."""
    try:
        await accounts.check_password(name, password, address=address)
    except (BusyError, UnauthorizedError) as error:
        return error.status_code
    return 200


def rows(record: Record) -> int:
    with record.read() as connection:
        return connection.execute(select(func.count()).select_from(attempt)).scalar_one()


async def test_after_some_wrong_passwords_the_next_must_wait_and_is_not_hashed(
    accounts: Accounts, hasher: PlainHasher
) -> None:
    found = [await outcome(accounts, f"wrong {i}") for i in range(9)]
    assert found == [401] * 5 + [429] * 4
    assert await outcome(accounts, RIGHT) == 429
    assert len(hasher.checked) == 5


async def test_the_wait_doubles_and_has_an_end(accounts: Accounts, times: Times) -> None:
    waits = []
    for number in range(17):
        assert await outcome(accounts, f"wrong {number}") == 401
        if number < 4:
            continue
        with pytest.raises(BusyError) as caught:
            await accounts.check_password("ada", RIGHT, address=HOME)
        waits.append(caught.value.retry_after_s)
        times.now += waits[-1] * 10**9
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *[MAX_WAIT_S] * 3]
    assert await outcome(accounts, RIGHT) == 200


async def test_after_the_wait_the_right_password_gets_in(accounts: Accounts, times: Times) -> None:
    for i in range(5):
        await outcome(accounts, f"wrong {i}")
    assert await outcome(accounts, RIGHT) == 429
    times.now += 10**9
    assert await outcome(accounts, RIGHT) == 200
    assert await outcome(accounts, "wrong") == 401


async def test_who_has_logged_in_from_here_is_judged_by_their_own_wrong_passwords(
    accounts: Accounts,
) -> None:
    assert await outcome(accounts, RIGHT) == 200
    for i in range(40):
        await outcome(accounts, f"wrong {i}", name="bob")
        await outcome(accounts, f"wrong {i}", name=f"guess {i}")
    assert await outcome(accounts, "wrong", name="nobody") == 429
    assert [await outcome(accounts, f"wrong {i}") for i in range(4)] == [401] * 4
    assert await outcome(accounts, RIGHT) == 200


async def test_a_hundred_and_twenty_guessers_elsewhere_do_not_keep_the_user_out(
    accounts: Accounts, hasher: PlainHasher
) -> None:
    assert await outcome(accounts, RIGHT) == 200
    guesses = [
        outcome(accounts, f"wrong {i} {n}", address=f"198.51.100.{n}")
        for i in range(8)
        for n in range(120)
    ]
    logins = [outcome(accounts, RIGHT) for _ in range(40)]
    fresh = outcome(accounts, RIGHT, address="203.0.113.9")
    found = await asyncio.gather(*guesses, *logins, fresh)
    assert found[len(guesses) :] == [200] * 41
    assert set(found[: len(guesses)]) == {401, 429}
    assert len(hasher.checked) <= 120 * 5 + 2


async def test_guessers_at_the_users_own_address_do_not_keep_them_out(
    record: Record, tmp_path: Path, times: Times
) -> None:
    """Not while the user logs in now and then: the password is known to be right."""
    clock = Clock()
    accounts = process(record, tmp_path, PlainHasher(), times, clock)
    await accounts.register("ada", RIGHT, key=None, address=HOME)
    assert await outcome(accounts, RIGHT) == 200
    for i in range(40):
        await outcome(accounts, f"wrong {i}")
        assert await outcome(accounts, RIGHT) == 200
    for _ in range(10):
        await outcome(accounts, "wrong")
    for _ in range(10):
        assert await outcome(accounts, "wrong") == 429
        assert await outcome(accounts, RIGHT) == 200
        clock.now += 50


async def test_that_is_no_way_to_try_many_passwords(
    accounts: Accounts, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_BELIEVED", 20)
    assert await outcome(accounts, RIGHT) == 200
    for i in range(10):
        await outcome(accounts, f"wrong {i}")
    assert {await outcome(accounts, f"guess {i}") for i in range(20)} == {429}
    assert await outcome(accounts, RIGHT) == 429
    assert await outcome(accounts, RIGHT, name="bob") == 200
    times.now += HOUR_NS
    assert await outcome(accounts, RIGHT) == 200


async def test_at_an_unknown_address_the_right_password_is_not_told_before_its_time(
    accounts: Accounts,
) -> None:
    assert await outcome(accounts, RIGHT) == 200
    for i in range(5):
        await outcome(accounts, f"wrong {i}", address="198.51.100.1")
    assert await outcome(accounts, RIGHT, address="198.51.100.1") == 429


async def test_one_address_cannot_try_one_password_for_many_names(accounts: Accounts) -> None:
    found = [await outcome(accounts, "desert", name=f"name {i}") for i in range(40)]
    assert found == [401] * 20 + [429] * 20
    assert await outcome(accounts, "desert", name="name 1", address="198.51.100.1") == 401


async def test_many_addresses_cannot_try_one_account_without_end(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FREE_OF_ACCOUNT", 30)
    found = [await outcome(accounts, "wrong", address=f"198.51.100.{i}") for i in range(60)]
    assert found == [401] * 30 + [429] * 30
    assert await outcome(accounts, "wrong", address="203.0.113.1", name="bob") == 401


async def test_a_restart_and_another_process_know_the_same(
    accounts: Accounts, tmp_path: Path, times: Times
) -> None:
    for i in range(5):
        await outcome(accounts, f"wrong {i}")
    await outcome(accounts, RIGHT, address="198.51.100.1")
    second_record = open_record(tmp_path)
    second = process(second_record, tmp_path, PlainHasher(), times)
    assert await outcome(second, RIGHT) == 429
    for i in range(40):
        await outcome(second, f"wrong {i}", address="198.51.100.1", name=f"name {i}")
    assert await outcome(second, RIGHT, address="198.51.100.1") == 200
    second.close()
    second_record.close()


async def test_a_clock_that_was_ahead_locks_nobody_out(accounts: Accounts, times: Times) -> None:
    times.now += 24 * HOUR_NS
    for i in range(12):
        await outcome(accounts, f"wrong {i}")
    assert await outcome(accounts, RIGHT) == 429
    times.now -= 24 * HOUR_NS
    assert await outcome(accounts, RIGHT) == 200
    for i in range(30):
        await outcome(accounts, f"wrong {i}", address="198.51.100.1")
    times.now -= 30 * 10**9
    with pytest.raises(BusyError) as caught:
        await accounts.check_password("ada", RIGHT, address="198.51.100.1")
    assert caught.value.retry_after_s <= MAX_WAIT_S


async def test_wrong_passwords_of_a_year_leave_nothing(
    accounts: Accounts, record: Record, times: Times
) -> None:
    assert await outcome(accounts, RIGHT) == 200
    most = 0
    for hour in range(40):
        for i in range(3):
            await outcome(accounts, "wrong", name=f"name {hour} {i}", address=f"10.0.{hour}.{i}")
        times.now += HOUR_NS
        most = max(most, rows(record))
    assert most <= 3 * 3 * 2 + 1
    assert await outcome(accounts, RIGHT) == 200


async def test_proven_addresses_of_an_account_are_bounded(
    accounts: Accounts, record: Record, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_PROVEN", 5)
    monkeypatch.setattr("squash_api.accounts.passwords.REMEMBERED_S", -1.0)
    assert await outcome(accounts, RIGHT, name="bob") == 200
    for i in range(20):
        times.now += 10**9
        assert await outcome(accounts, RIGHT, address=f"10.0.0.{i}") == 200
    assert rows(record) == 5 + 1


async def test_a_right_password_is_noted_once_a_day(
    accounts: Accounts, record: Record, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.accounts.passwords.REMEMBERED_S", -1.0)
    writes = []
    plain_write = record.write

    def write(work: Callable[[Connection], Any]) -> Any:
        writes.append(work)
        return plain_write(work)

    monkeypatch.setattr(record, "write", write)
    for _ in range(10):
        assert await outcome(accounts, RIGHT) == 200
        times.now += HOUR_NS
    assert len(writes) == 1
    times.now += 20 * HOUR_NS
    await outcome(accounts, RIGHT)
    assert len(writes) == 2


async def test_forty_users_may_log_in_for_the_first_time_at_once(
    accounts: Accounts,
) -> None:
    users = [accounts.add(f"user {i}", RIGHT) for i in range(40)]
    found = await asyncio.gather(
        *(accounts.check_password(user.name, RIGHT, address=HOME) for user in users)
    )
    assert found == users
    assert all(isinstance(account, Account) for account in found)


async def test_forty_logins_of_one_user_hash_once(accounts: Accounts, hasher: PlainHasher) -> None:
    found = await asyncio.gather(*(outcome(accounts, RIGHT) for _ in range(40)))
    assert found == [200] * 40
    assert len(hasher.checked) == 1


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("fe80::1%eth0", "fe80::1%eth1"),
    ],
)
def test_addresses_that_one_customer_has_count_as_one(address: str, other: str) -> None:
    assert network_of(address) == network_of(other)


@pytest.mark.parametrize("address", ["", "x" * 100_000, "a\0b", "192.0.2.1", "2001:db8::1"])
def test_any_address_fits_the_table(address: str) -> None:
    assert len(network_of(address)) <= 45
    assert network_of(address) != network_of("203.0.113.1")


# Lanes


async def test_in_a_lane_each_key_has_its_turn() -> None:
    lane, order = Lane(1), []

    async def work(key: str) -> None:
        async with lane.turn(key):
            order.append(key)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(key) for key in "aaaaab"))
    assert order == list("aabaaa")


async def test_too_many_that_wait_are_busy_and_the_lane_is_free_again_after_them() -> None:
    for _ in range(3):
        lane = Lane(2, max_waiting=5, max_of_key=3)
        go = asyncio.Event()

        async def work(key: str, lane: Lane = lane, go: asyncio.Event = go) -> None:
            async with lane.turn(key):
                await go.wait()

        tasks = [asyncio.create_task(work(key)) for key in "aaaaaabbbb"]
        await asyncio.sleep(0)
        go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in found if error] == [BusyError] * 3
        assert lane._free == 2


async def test_who_goes_away_gives_the_place_back() -> None:
    lane = Lane(1)
    go = asyncio.Event()

    async def work() -> None:
        async with lane.turn("a"):
            await go.wait()

    tasks = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.sleep(0)
    tasks[2].cancel()
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (lane._free, lane._waiting, lane._count) == (1, {}, 0)


async def test_the_audit_trail_has_whose_passwords_are_guessed_once_in_an_hour(
    accounts: Accounts, record: Record, times: Times
) -> None:
    for i in range(30):
        await outcome(accounts, f"wrong {i}")
        await outcome(accounts, f"wrong {i}", name="nobody", address="198.51.100.1")
        times.now += 10 * 10**9
    with record.read() as connection:
        (entry,) = list_noted(connection, limit=9, action="login")
    assert (entry.action, entry.subject, entry.address) == ("login.limited", "ada", HOME)
