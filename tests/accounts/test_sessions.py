import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from squash_api.accounts.accounts import Account, Accounts
from squash_api.accounts.sessions import Session, Sessions
from squash_api.accounts.tokens import Tokens
from squash_api.errors import (
    ForbiddenError,
    NotFoundError,
    RecordUnavailableError,
    UnauthorizedError,
)
from squash_api.record.record import Record
from squash_api.record.tables import ended_session
from tests.support.builders import SECRET, make_settings, open_record
from tests.support.hashing import Clock

PASSWORD = "a password of tests"


@pytest.fixture
def clock() -> Clock:
    # PyJWT has no clock but the real one.
    clock = Clock()
    clock.now = time.time()
    return clock


@pytest.fixture
def accounts(empty_record: Record, tmp_path: Path) -> Iterator[Accounts]:
    accounts = Accounts(empty_record, make_settings(tmp_path), secret=SECRET)
    yield accounts
    accounts.close()


@pytest.fixture
def sessions(empty_record: Record, accounts: Accounts, clock: Clock) -> Sessions:
    return Sessions(empty_record, accounts, secret=SECRET, hours=12, clock=clock)


@pytest.fixture
def ada(accounts: Accounts) -> Account:
    return accounts.add("ada", PASSWORD)


def refusal(sessions: Sessions, text: str) -> str:
    with pytest.raises(UnauthorizedError) as caught:
        sessions.check(text)
    return caught.value.message


def test_a_session_is_that_of_its_account(sessions: Sessions, ada: Account) -> None:
    assert sessions.check(sessions.begin(ada)).account == ada


def test_a_session_ends_after_its_hours_however_it_is_used(
    sessions: Sessions, ada: Account, clock: Clock
) -> None:
    text = sessions.begin(ada)
    for _ in range(11):
        clock.now += 3600
        sessions.check(text)
    clock.now += 3600 + 20
    assert refusal(sessions, text) == "Signature has expired"


def test_a_session_ends_by_a_logout_for_every_process(
    sessions: Sessions, ada: Account, tmp_path: Path
) -> None:
    text, other = sessions.begin(ada), sessions.begin(ada)
    sessions.end(sessions.check(text))
    assert refusal(sessions, text) == "Session has ended"
    elsewhere = open_record(tmp_path)
    accounts = Accounts(elsewhere, make_settings(tmp_path), secret=SECRET)
    assert refusal(Sessions(elsewhere, accounts, secret=SECRET, hours=12), text) == (
        "Session has ended"
    )
    accounts.close()
    elsewhere.close()
    assert sessions.check(other).account == ada


def test_a_session_that_has_ended_can_end_again(sessions: Sessions, ada: Account) -> None:
    session = sessions.check(sessions.begin(ada))
    sessions.end(session)
    sessions.end(session)


@pytest.mark.usefixtures("ada")
def test_a_session_ends_with_its_user(sessions: Sessions, accounts: Accounts) -> None:
    changes: list[Callable[[], object]] = [
        lambda: accounts.set_password("ada", "another password"),
        lambda: accounts.disable("ada"),
        lambda: accounts.set_role("ada", "admin"),
    ]
    for change in changes:
        text = sessions.begin(accounts.get("ada"))
        sessions.check(text)
        change()
        assert refusal(sessions, text) == "User does not exist"
        with suppress(NotFoundError):
            accounts.enable("ada")
            assert refusal(sessions, text) == "User does not exist"


def test_what_has_expired_is_forgotten(
    sessions: Sessions, empty_record: Record, ada: Account, clock: Clock
) -> None:
    sessions.end(sessions.check(sessions.begin(ada)))
    clock.now += 14 * 3600
    late = Session(ada, "late", int(clock.now) + 1)
    sessions.end(late)
    with empty_record.read() as connection:
        assert connection.scalars(select(ended_session.c.session)).all() == ["late"]


def test_a_token_is_no_session_and_a_session_no_token(sessions: Sessions, ada: Account) -> None:
    tokens = Tokens(SECRET, minutes=60)
    token = tokens.issue(user_id=ada.user_id, name="ada", role="user", epoch=ada.epoch)
    assert refusal(sessions, token) == "Token is not one of this service"
    with pytest.raises(UnauthorizedError, match="not one of this service"):
        tokens.read(sessions.begin(ada))


@pytest.mark.parametrize("secret", ["another secret of tests, longer than 32 bytes", ""])
def test_a_session_is_signed(sessions: Sessions, ada: Account, secret: str) -> None:
    claims = jwt.decode(sessions.begin(ada), options={"verify_signature": False})
    algorithm = "HS256" if secret else "none"
    headers = {"typ": "squash-session+jwt"}
    assert refusal(sessions, jwt.encode(claims, secret, algorithm, headers=headers)) in {
        "Signature verification failed",
        "Token cannot be read",
    }


def test_a_logout_that_cannot_be_written_is_not_said_to_be_one(
    sessions: Sessions, empty_record: Record, ada: Account
) -> None:
    session = sessions.check(sessions.begin(ada))
    empty_record.close()
    with pytest.raises(RecordUnavailableError):
        sessions.end(session)


@given(st.text(), st.text(), st.text())
def test_only_the_token_of_the_owner_is_that_of_a_form(owner: str, other: str, token: str) -> None:
    sessions = Sessions(None, None, secret=SECRET, hours=1)  # type: ignore[arg-type]
    if owner:
        sessions.check_form(owner, sessions.form_token(owner))
    for given_token in (token, sessions.form_token(other) if other != owner else "", None):
        with pytest.raises(ForbiddenError):
            sessions.check_form(owner, given_token)
    with pytest.raises(ForbiddenError):
        sessions.check_form("", sessions.form_token(""))
