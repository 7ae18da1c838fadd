import pytest
from sqlalchemy import Connection

from squash_api.errors import NameTakenError, NotFoundError
from squash_api.record.record import Record
from squash_api.record.users import (
    UserRow,
    add_user,
    change_user,
    find_user,
    get_user,
    list_users,
    update_hash,
)


@pytest.fixture
def record(empty_record: Record) -> Record:
    return empty_record


def add(record: Record, name: str = "mole", role: str = "user") -> UserRow:
    return record.write(
        lambda connection: add_user(
            connection, name=name, password_hash="hash", role=role, created_ns=7
        )
    )


def find(record: Record, name: str = "mole") -> UserRow:
    with record.read() as connection:
        row = find_user(connection, name)
    assert row is not None
    return row


def names(record: Record, *, after: str = "", limit: int = 10) -> list[str]:
    with record.read() as connection:
        return [row.name for row in list_users(connection, after=after, limit=limit)]


def test_an_added_user_is_found_by_name_and_by_id(record: Record) -> None:
    added = add(record, role="admin")
    with record.read() as connection:
        assert get_user(connection, added.user_id) == added
        assert find_user(connection, "mole") == added
    assert added == UserRow(added.user_id, "mole", "hash", "admin", 1, False, 7)


def test_unknown_users_are_none(record: Record) -> None:
    with record.read() as connection:
        assert find_user(connection, "mole") is None
        assert get_user(connection, 1) is None


def test_a_name_that_looks_like_anothers_is_not_given(record: Record) -> None:
    add(record, "mole")
    with pytest.raises(NameTakenError, match="looks like that of another user"):
        add(record, "Mole")
    assert names(record) == ["mole"]


def test_a_name_is_given_once(record: Record) -> None:
    add(record)
    with pytest.raises(NameTakenError, match="`mole` already exists"):
        add(record)


def test_a_name_stays_taken_once_its_user_is_disabled(record: Record) -> None:
    add(record)
    record.write(lambda connection: change_user(connection, "mole", is_disabled=True))
    with pytest.raises(NameTakenError):
        add(record)


def test_the_transaction_goes_on_after_a_taken_name(record: Record) -> None:
    add(record)

    def work(connection: Connection) -> None:
        with pytest.raises(NameTakenError):
            add_user(connection, name="mole", password_hash="h", role="user", created_ns=1)
        add_user(connection, name="vole", password_hash="h", role="user", created_ns=1)

    record.write(work)
    assert names(record) == ["mole", "vole"]


def test_users_are_listed_by_name_in_pages(record: Record) -> None:
    for name in ("c", "a", "d", "b"):
        add(record, name)
    assert names(record, limit=3) == ["a", "b", "c"]
    assert names(record, after="c", limit=3) == ["d"]


def test_disabled_users_can_be_left_out_of_the_list_or_listed_alone(record: Record) -> None:
    add(record, "gone")
    add(record, "here")
    record.write(lambda connection: change_user(connection, "gone", is_disabled=True))
    with record.read() as connection:
        assert [u.name for u in list_users(connection, limit=9, is_disabled=False)] == ["here"]
        assert [u.name for u in list_users(connection, limit=9, is_disabled=True)] == ["gone"]


def test_a_new_password_raises_the_epoch(record: Record) -> None:
    add(record)
    record.write(lambda connection: change_user(connection, "mole", password_hash="new"))
    assert (find(record).password_hash, find(record).epoch) == ("new", 2)


def test_a_new_role_raises_the_epoch(record: Record) -> None:
    add(record)
    record.write(lambda connection: change_user(connection, "mole", role="admin"))
    assert (find(record).role, find(record).epoch) == ("admin", 2)


def test_disabling_raises_the_epoch(record: Record) -> None:
    add(record)
    record.write(lambda connection: change_user(connection, "mole", is_disabled=True))
    assert (find(record).is_disabled, find(record).epoch) == (True, 2)


def test_a_change_touches_one_user_only(record: Record) -> None:
    add(record)
    other = add(record, "vole")
    record.write(lambda connection: change_user(connection, "mole", role="admin"))
    assert find(record, "vole") == other


def test_a_disabled_user_cannot_be_changed(record: Record) -> None:
    add(record)
    record.write(lambda connection: change_user(connection, "mole", is_disabled=True))
    with pytest.raises(NotFoundError):
        record.write(lambda connection: change_user(connection, "mole", is_disabled=True))
    with pytest.raises(NotFoundError):
        record.write(lambda connection: change_user(connection, "mole", role="admin"))
    with pytest.raises(NotFoundError):
        record.write(lambda connection: change_user(connection, "mole", password_hash="new"))
    assert find(record).epoch == 2


def test_changing_an_unknown_user_is_not_found(record: Record) -> None:
    with pytest.raises(NotFoundError, match="no user `mole`"):
        record.write(lambda connection: change_user(connection, "mole", role="admin"))


def test_a_fresh_hash_of_the_same_password_keeps_the_epoch(record: Record) -> None:
    user_id = add(record).user_id
    record.write(lambda connection: update_hash(connection, user_id, old_hash="hash", new_hash="n"))
    assert (find(record).password_hash, find(record).epoch) == ("n", 1)


def test_a_fresh_hash_never_replaces_a_password_changed_meanwhile(record: Record) -> None:
    user_id = add(record).user_id
    record.write(lambda connection: change_user(connection, "mole", password_hash="changed"))
    record.write(lambda connection: update_hash(connection, user_id, old_hash="hash", new_hash="n"))
    assert find(record).password_hash == "changed"
