import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import func, select

from squash_api.accounts.accounts import Account, Accounts
from squash_api.accounts.keys import Key
from squash_api.accounts.passwords import Passwords
from squash_api.errors import (
    BusyError,
    ForbiddenError,
    InvalidInputError,
    LastAdminError,
    NameTakenError,
    NotFoundError,
    RecordUnavailableError,
    UnauthorizedError,
)
from squash_api.record.record import Record
from squash_api.record.tables import usage
from tests.support.builders import SECRET, make_settings, open_record
from tests.support.calls import PASSWORD
from tests.support.hashing import PlainHasher


@pytest.fixture
def record(empty_record: Record) -> Record:
    return empty_record


@pytest.fixture
def hasher() -> PlainHasher:
    return PlainHasher()


@pytest.fixture
def accounts(record: Record, hasher: PlainHasher, tmp_path: Path) -> Iterator[Accounts]:
    passwords = Passwords(hasher)
    accounts = Accounts(record, make_settings(tmp_path), secret=SECRET, passwords=passwords)
    yield accounts
    accounts.close()


def other_accounts(record: Record, tmp_path: Path, **settings: Any) -> Accounts:
    passwords = Passwords(PlainHasher())
    return Accounts(record, make_settings(tmp_path, **settings), secret=SECRET, passwords=passwords)


async def refusal(accounts: Accounts, name: str, password: str) -> tuple[str, str, int, bool]:
    with pytest.raises(UnauthorizedError) as caught:
        await accounts.check_password(name, password)
    error = caught.value
    return error.message, error.error, error.status_code, error.challenge


async def test_who_registers_is_a_user_and_can_log_in(accounts: Accounts) -> None:
    registered = await accounts.register("mole", "desert-rose", key=None)
    assert (registered.name, registered.role, registered.is_admin) == ("mole", "user", False)
    assert await accounts.check_password("mole", "desert-rose") == registered


async def test_twelve_parallel_registrations_of_a_name_make_one_user(
    record: Record, tmp_path: Path
) -> None:
    accounts = Accounts(
        record,
        make_settings(tmp_path),
        secret=SECRET,
        passwords=Passwords(PlainHasher()),
    )
    outcomes = await asyncio.gather(
        *(accounts.register("mole", "desert-rose", key=None) for _ in range(12)),
        return_exceptions=True,
    )
    accounts.close()
    assert sum(isinstance(outcome, Account) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, NameTakenError) for outcome in outcomes) == 11


def test_two_processes_cannot_add_the_same_name(accounts: Accounts, tmp_path: Path) -> None:
    second_record = open_record(tmp_path)
    second = other_accounts(second_record, tmp_path)
    outcomes: list[object] = []

    def add(to: Accounts) -> None:
        try:
            outcomes.append(to.add("mole", "desert-rose"))
        except NameTakenError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=add, args=(to,)) for to in (accounts, second) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    second_record.close()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "Account",
        *["NameTakenError"] * 5,
    ]


async def test_the_name_of_a_disabled_user_cannot_be_registered(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    accounts.disable("mole")
    with pytest.raises(NameTakenError):
        await accounts.register("mole", "tunnel-rat", key=None)


ALIKE = [
    ("ada", "ADA"),
    ("root", "Root"),
    ("ada", "\u0430\u0501\u0430"),
    ("Ada Lovelace", "ADA L0VE1ACE"),
    ("straße", "STRASSE"),
    ("\u0430\u0434\u0430", "\u0410\u0414\u0410"),
]


@pytest.mark.parametrize(("old", "new"), [*ALIKE, *((new, old) for old, new in ALIKE)])
async def test_a_name_that_looks_like_anothers_is_refused(
    accounts: Accounts, old: str, new: str
) -> None:
    accounts.add(old, PASSWORD)
    with pytest.raises(NameTakenError, match="looks like that of another user"):
        await accounts.register(new, PASSWORD, key=None)
    with pytest.raises(NameTakenError, match="looks like that of another user"):
        accounts.add(new, PASSWORD)
    assert [user.name for user in accounts.list(limit=9)] == [old]


@pytest.mark.parametrize(("one", "other"), [("ada", "eda"), ("ада", "ида"), ("bot-2", "bot-3")])
async def test_names_that_look_different_are_different(
    accounts: Accounts, one: str, other: str
) -> None:
    accounts.add(one, PASSWORD)
    assert (await accounts.register(other, PASSWORD, key=None)).name == other


async def test_closed_registration_is_forbidden(record: Record, tmp_path: Path) -> None:
    accounts = other_accounts(record, tmp_path, registration="closed")
    with pytest.raises(ForbiddenError, match="closed"):
        await accounts.register("mole", "desert-rose", key=None)
    assert accounts.list(limit=1) == []


@pytest.mark.parametrize("key", [None, "", "Sesame", "sesame2", "s\ud800", "Σ"])
async def test_registration_by_key_refuses_another_key(
    record: Record, tmp_path: Path, key: str | None
) -> None:
    accounts = other_accounts(
        record, tmp_path, registration="key", registration_key=SecretStr("sesame")
    )
    with pytest.raises(ForbiddenError, match="key"):
        await accounts.register("mole", "desert-rose", key=key)
    assert accounts.list(limit=1) == []


async def test_registration_by_key_takes_the_key(record: Record, tmp_path: Path) -> None:
    accounts = other_accounts(
        record, tmp_path, registration="key", registration_key=SecretStr("sésame")
    )
    assert (await accounts.register("mole", "desert-rose", key="sésame")).name == "mole"
    accounts.close()


async def test_a_name_that_cannot_be_had_is_refused(accounts: Accounts) -> None:
    with pytest.raises(InvalidInputError, match="user name"):
        await accounts.register("mo\nle", "desert-rose", key=None)
    with pytest.raises(InvalidInputError, match="user name"):
        accounts.add("mo\nle", "desert-rose")
    assert accounts.list(limit=1) == []


async def test_a_password_that_cannot_be_had_is_refused(accounts: Accounts) -> None:
    with pytest.raises(InvalidInputError, match="password"):
        await accounts.register("mole", "short", key=None)
    with pytest.raises(InvalidInputError, match="password"):
        accounts.add("mole", "short")
    assert accounts.list(limit=1) == []


async def test_a_short_new_password_is_refused_and_the_old_one_stays(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    with pytest.raises(InvalidInputError):
        accounts.set_password("mole", "short")
    assert (await accounts.check_password("mole", "desert-rose")).epoch == 1


@pytest.mark.parametrize(("name", "password"), [("mole", "\ud800"), ("\ud800", "desert-rose")])
async def test_what_cannot_be_encoded_is_invalid_input_at_login_too(
    accounts: Accounts, hasher: PlainHasher, name: str, password: str
) -> None:
    with pytest.raises(InvalidInputError):
        await accounts.check_password(name, password)
    assert hasher.checked == []


async def test_composed_and_decomposed_letters_are_the_same(accounts: Accounts) -> None:
    registered = await accounts.register("Ame\u0301lie", "de\u0301sert-rose", key=None)
    assert await accounts.check_password("Am\u00e9lie", "d\u00e9sert-rose") == registered
    assert registered.name == "Am\u00e9lie"


async def test_unknown_wrong_and_disabled_get_the_same_answer(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    accounts.add("gone", "desert-rose")
    accounts.disable("gone")
    unknown = await refusal(accounts, "nobody", "desert-rose")
    assert unknown == ("Invalid credentials", "Bad Request", 401, False)
    assert await refusal(accounts, "mole", "wrong!") == unknown
    assert await refusal(accounts, "gone", "desert-rose") == unknown
    assert await refusal(accounts, "n" * 129, "desert-rose") == unknown


async def test_unknown_wrong_and_disabled_cost_one_check_each(
    accounts: Accounts, hasher: PlainHasher
) -> None:
    accounts.add("mole", "desert-rose")
    accounts.add("gone", "desert-rose")
    accounts.disable("gone")
    await refusal(accounts, "nobody", "desert-rose")
    await refusal(accounts, "mole", "wrong!")
    await refusal(accounts, "gone", "desert-rose")
    await refusal(accounts, "gone", "desert-rose")
    assert hasher.checked == ["dummy", "v1:desert-rose", "dummy", "dummy"]


async def test_a_remembered_password_is_only_good_for_its_user(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    accounts.add("vole", "meadow-lark")
    await accounts.check_password("mole", "desert-rose")
    await refusal(accounts, "vole", "desert-rose")


async def test_a_changed_password_counts_at_once(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    await accounts.check_password("mole", "desert-rose")
    accounts.set_password("mole", "tunnel-rat")
    await refusal(accounts, "mole", "desert-rose")
    assert (await accounts.check_password("mole", "tunnel-rat")).name == "mole"


async def test_a_disabled_user_is_refused_at_once_though_remembered(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    await accounts.check_password("mole", "desert-rose")
    accounts.disable("mole")
    await refusal(accounts, "mole", "desert-rose")


async def test_an_outdated_hash_is_replaced_at_login_and_tokens_stay(
    accounts: Accounts, hasher: PlainHasher
) -> None:
    added = accounts.add("mole", "desert-rose")
    hasher.prefix = "v2:"
    assert await accounts.check_password("mole", "desert-rose") == added
    assert accounts.list(limit=1)[0].password_hash == "v2:desert-rose"
    assert accounts.check_account(added) == added


async def test_login_works_while_the_record_takes_no_writes(
    accounts: Accounts, record: Record, hasher: PlainHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = accounts.add("mole", "desert-rose")
    hasher.prefix = "v2:"

    def fail(_: object) -> None:
        raise RecordUnavailableError("no space left")

    monkeypatch.setattr(record, "write", fail)
    assert await accounts.check_password("mole", "desert-rose") == added


@pytest.mark.parametrize("scheme", ["JWT", "Bearer"])
async def test_a_token_tells_whose_it_is(accounts: Accounts, scheme: str) -> None:
    added = accounts.add("mole", "desert-rose", role="admin")
    assert await accounts.claim(f"{scheme} {accounts.issue_token(added)}") == added
    assert accounts.check_account(added) == added


def test_two_tokens_of_one_account_differ(accounts: Accounts) -> None:
    added = accounts.add("mole", "desert-rose")
    assert accounts.issue_token(added) != accounts.issue_token(added)


def ended(accounts: Accounts, account: Account) -> tuple[str, str]:
    with pytest.raises(UnauthorizedError) as caught:
        accounts.check_account(asyncio.run(accounts.claim(f"JWT {accounts.issue_token(account)}")))
    return caught.value.message, caught.value.error


def test_a_new_password_ends_tokens(accounts: Accounts) -> None:
    added = accounts.add("mole", "desert-rose")
    accounts.set_password("mole", "desert-rose")
    assert ended(accounts, added) == ("User does not exist", "Invalid JWT")


def test_a_new_role_ends_tokens(accounts: Accounts) -> None:
    added = accounts.add("mole", "desert-rose", role="admin")
    accounts.add("vole", "meadow-lark", role="admin")
    accounts.set_role("mole", "user")
    assert ended(accounts, added) == ("User does not exist", "Invalid JWT")


def test_enabling_brings_a_user_back_but_not_the_tokens(accounts: Accounts) -> None:
    added = accounts.add("mole", "desert-rose")
    accounts.disable("mole")
    accounts.enable("mole")
    assert ended(accounts, added) == ("User does not exist", "Invalid JWT")
    assert asyncio.run(accounts.check_password("mole", "desert-rose")).name == "mole"


ADMINS = ("ada", "bob", "eve")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(ADMINS),
            st.sampled_from(["disable", "demote", "enable", "promote", "put off", "put on"]),
        ),
        max_size=12,
    )
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_once_there_is_an_admin_there_always_is_one(
    accounts: Accounts, steps: list[tuple[str, str]]
) -> None:
    for name in ADMINS:
        with suppress(NameTakenError):
            accounts.add(name, "desert-rose", role="admin")
        accounts.change(name, role=None, is_disabled=False)
        accounts.change(name, role="admin", is_disabled=False)
    ways: dict[str, Callable[[str], object]] = {
        "disable": accounts.disable,
        "enable": accounts.enable,
        "demote": lambda name: accounts.set_role(name, "user"),
        "promote": lambda name: accounts.set_role(name, "admin"),
        "put off": lambda name: accounts.change(name, role="user", is_disabled=True),
        "put on": lambda name: accounts.change(name, role="admin", is_disabled=False),
    }
    for name, step in steps:
        with suppress(LastAdminError, NotFoundError):
            ways[step](name)
        rows = accounts.list(limit=9, is_disabled=False)
        assert "admin" in {row.role for row in rows}, (name, step)


def test_without_any_admin_users_can_be_disabled(accounts: Accounts) -> None:
    accounts.add("mole", "desert-rose")
    accounts.disable("mole")
    assert accounts.list(limit=9, is_disabled=False) == []


def test_a_key_is_not_exchanged_for_a_token(accounts: Accounts) -> None:
    key = Key(1, "0" * 12, "ci", frozenset({"job:write"}), None)
    with pytest.raises(ForbiddenError):
        accounts.issue_token(Account(1, "mole", "user", 1, key))


def test_disabling_ends_tokens(accounts: Accounts) -> None:
    added = accounts.add("mole", "desert-rose")
    accounts.disable("mole")
    assert ended(accounts, added) == ("User does not exist", "Invalid JWT")


def test_a_token_of_a_user_of_another_record_is_void(accounts: Accounts) -> None:
    stranger = Account(99, "mole", "admin", 1)
    assert ended(accounts, stranger) == ("User does not exist", "Invalid JWT")


def test_get_finds_enabled_users_only(accounts: Accounts) -> None:
    added = accounts.add("mole", "desert-rose")
    assert accounts.get("mole") == added
    accounts.disable("mole")
    with pytest.raises(NotFoundError):
        accounts.get("mole")


@pytest.mark.parametrize("name", ["nobody", "\ud800", "a\0b", "n" * 5_000])
def test_names_that_nobody_has_are_not_found(accounts: Accounts, name: str) -> None:
    with pytest.raises(NotFoundError):
        accounts.get(name)
    with pytest.raises(NotFoundError):
        accounts.disable(name)
    with pytest.raises(NotFoundError):
        accounts.set_role(name, "admin")
    with pytest.raises(NotFoundError):
        accounts.set_password(name, "desert-rose")


def test_there_are_two_roles(accounts: Accounts) -> None:
    with pytest.raises(InvalidInputError, match="one of user, admin"):
        accounts.add("mole", "desert-rose", role="king")
    accounts.add("mole", "desert-rose")
    with pytest.raises(InvalidInputError):
        accounts.set_role("mole", "king")
    assert accounts.get("mole").role == "user"


@pytest.mark.usefixtures("real_cost")
async def test_real_hashes_are_argon2id_at_the_cost_that_owasp_asks(
    record: Record, tmp_path: Path
) -> None:
    accounts = Accounts(record, make_settings(tmp_path), secret=SECRET)
    registered = await accounts.register("mole", "désert-rose", key=None)
    assert accounts.list(limit=1)[0].password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await accounts.check_password("mole", "désert-rose") == registered
    await refusal(accounts, "mole", "desert-rose")
    await refusal(accounts, "nobody", "desert-rose")
    accounts.close()


# Registration


async def status_of(accounts: Accounts, name: str, *, key: str | None, address: str) -> int:
    try:
        await accounts.register(name, PASSWORD, key=key, address=address)
    except (BusyError, ForbiddenError, NameTakenError) as error:
        return error.status_code
    return 201


async def test_registrations_are_limited_by_address_and_in_all(
    record: Record, tmp_path: Path
) -> None:
    limits = {"registrations_per_address": 3, "registrations_per_hour": 5}
    accounts = other_accounts(record, tmp_path, **limits)
    found = [
        await status_of(accounts, f"user {i}{j}", key=None, address=f"192.0.2.{i}")
        for i in range(3)
        for j in range(4)
    ]
    assert found == [201, 201, 201, 429, 201, 201, 429, 429, 429, 429, 429, 429]
    # Another process, or a restart.
    again = other_accounts(record, tmp_path, **limits)
    assert await status_of(again, "late", key=None, address="192.0.2.9") == 429
    with pytest.raises(BusyError) as caught:
        await again.register("late", PASSWORD, key=None, address="192.0.2.9")
    assert 0 < caught.value.retry_after_s <= 3600
    assert "in this hour" in caught.value.message
    for each in (accounts, again):
        each.close()


async def test_in_the_next_hour_there_are_registrations_again(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = other_accounts(record, tmp_path, registrations_per_address=1)
    assert await status_of(accounts, "one", key=None, address="192.0.2.1") == 201
    assert await status_of(accounts, "two", key=None, address="192.0.2.1") == 429
    now_ns = time.time_ns()
    monkeypatch.setattr(accounts._limits, "_clock", lambda: now_ns + 3600 * 10**9)
    assert await status_of(accounts, "two", key=None, address="192.0.2.1") == 201
    with record.read() as connection:
        assert connection.execute(select(func.count()).select_from(usage)).scalar_one() == 2
    accounts.close()


async def test_wrong_registration_keys_are_limited_like_wrong_passwords(
    record: Record, tmp_path: Path
) -> None:
    accounts = other_accounts(
        record, tmp_path, registration="key", registration_key=SecretStr("open sesame, please")
    )
    found = [
        await status_of(accounts, "mole", key=f"guess {i}", address="192.0.2.1") for i in range(13)
    ]
    assert found == [403] * 10 + [429] * 3
    right = "open sesame, please"
    assert await status_of(accounts, "mole", key=right, address="192.0.2.1") == 429
    assert await status_of(accounts, "mole", key=right, address="192.0.2.2") == 201
    accounts.close()


async def test_who_has_registered_from_an_address_is_known_there(accounts: Accounts) -> None:
    await accounts.register("mole", PASSWORD, key=None, address="192.0.2.1")
    for i in range(30):
        with suppress(BusyError, UnauthorizedError):
            await accounts.check_password(f"guess {i}", "wrong", address="192.0.2.1")
    accounts._passwords._remembered.clear()
    assert (await accounts.check_password("mole", PASSWORD, address="192.0.2.1")).name == "mole"


# Logging in again within a second


async def logged_in_twice(accounts: Accounts) -> None:
    """Register and log in, until nobody looks into the record for it."""
    await accounts.register("mole", "desert-rose", key=None)
    for _ in range(2):
        await accounts.check_password("mole", "desert-rose")


@pytest.mark.parametrize(
    "change",
    [
        lambda accounts: accounts.set_password("mole", "another-rose"),
        lambda accounts: accounts.disable("mole"),
        lambda accounts: accounts.change("mole", role=None, is_disabled=True),
    ],
)
async def test_a_login_ends_with_a_change_although_it_was_right_a_moment_ago(
    accounts: Accounts, change: Callable[[Accounts], object]
) -> None:
    await logged_in_twice(accounts)
    await asyncio.to_thread(change, accounts)
    await refusal(accounts, "mole", "desert-rose")


async def test_a_login_has_the_new_role_although_it_was_right_a_moment_ago(
    accounts: Accounts,
) -> None:
    await logged_in_twice(accounts)
    await asyncio.to_thread(accounts.set_role, "mole", "admin")
    assert (await accounts.check_password("mole", "desert-rose")).is_admin


async def test_after_a_wrong_password_the_right_one_is_looked_up(
    accounts: Accounts, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    await logged_in_twice(accounts)
    await refusal(accounts, "mole", "dessert-rose")
    monkeypatch.setattr(record, "read", None)
    with pytest.raises(TypeError):
        await accounts.check_password("mole", "desert-rose")


async def test_a_login_ends_at_once_when_another_process_changes_the_password(
    accounts: Accounts, record: Record, tmp_path: Path
) -> None:
    await logged_in_twice(accounts)
    other = other_accounts(record, tmp_path)
    await asyncio.to_thread(other.set_password, "mole", "another-rose")
    await refusal(accounts, "mole", "desert-rose")
    other.close()
