"""Queries on users. A user is never deleted, so that a name always means the same person."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from squash_api.errors import NameTakenError, NotFoundError
from squash_api.record.tables import user


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user as stored. Tokens given out at another `epoch` are void."""

    user_id: int
    name: str
    password_hash: str
    role: str
    epoch: int
    is_disabled: bool
    created_ns: int


_USERS = select(
    user.c.id,
    user.c.name,
    user.c.password_hash,
    user.c.role,
    user.c.epoch,
    user.c.is_disabled,
    user.c.created_ns,
)
_BY_NAME = _USERS.where(user.c.name == bindparam("wanted"))
_BY_ID = _USERS.where(user.c.id == bindparam("wanted"))


def find_user(connection: Connection, name: str) -> UserRow | None:
    """Return the user of exactly this name, disabled or not."""
    row = connection.execute(_BY_NAME, {"wanted": name}).one_or_none()
    return None if row is None else UserRow(*row)


def get_user(connection: Connection, user_id: int) -> UserRow | None:
    """Return the user with this id, disabled or not."""
    row = connection.execute(_BY_ID, {"wanted": user_id}).one_or_none()
    return None if row is None else UserRow(*row)


def list_users(
    connection: Connection, *, after: str = "", limit: int, is_disabled: bool | None = None
) -> list[UserRow]:
    """Return at most `limit` users by name, from the first name behind `after`.

    `is_disabled` picks the users of one kind; None takes all.
    """
    query = _USERS.where(user.c.name > after).order_by(user.c.name).limit(limit)
    if is_disabled is not None:
        query = query.where(user.c.is_disabled.is_(is_disabled))
    return [UserRow(*row) for row in connection.execute(query)]


def add_user(
    connection: Connection, *, name: str, password_hash: str, role: str, created_ns: int
) -> UserRow:
    """Store a new user.

    Raises
    ------
    NameTakenError
        If the name is or was somebody's. The transaction can go on.
    """
    values = {
        "name": name,
        "password_hash": password_hash,
        "role": role,
        "epoch": 1,
        "is_disabled": False,
        "created_ns": created_ns,
    }
    try:
        # The constraint decides, since on PostgreSQL another process may be faster than a query.
        with connection.begin_nested():
            connection.execute(insert(user), values)
    except IntegrityError as error:
        if find_user(connection, name) is None:
            raise
        raise NameTakenError(f"User `{name}` already exists.") from error
    added = find_user(connection, name)
    assert added is not None  # noqa: S101  for mypy
    return added


def set_password(connection: Connection, name: str, *, password_hash: str) -> None:
    """Replace the password of an enabled user and end the user's tokens.

    Raises
    ------
    NotFoundError
        If there is no such user, or a disabled one.
    """
    _change(connection, name, password_hash=password_hash)


def set_role(connection: Connection, name: str, *, role: str) -> None:
    """Replace the role of an enabled user and end the user's tokens, which carry the old role.

    Raises
    ------
    NotFoundError
        If there is no such user, or a disabled one.
    """
    _change(connection, name, role=role)


def disable(connection: Connection, name: str) -> None:
    """Disable an enabled user for good and end the user's tokens. The name stays taken.

    Raises
    ------
    NotFoundError
        If there is no such user, or a disabled one.
    """
    _change(connection, name, is_disabled=True)


def update_hash(connection: Connection, user_id: int, *, old_hash: str, new_hash: str) -> None:
    """Replace the hash by another of the same password; tokens stay valid.

    Nothing happens if the password has changed meanwhile.
    """
    connection.execute(
        update(user)
        .where(user.c.id == user_id, user.c.password_hash == old_hash)
        .values(password_hash=new_hash)
    )


def _change(connection: Connection, name: str, **values: str | bool) -> None:
    is_enabled: ColumnElement[bool] = user.c.is_disabled.is_(False)
    changed = connection.execute(
        update(user).where(user.c.name == name, is_enabled).values(epoch=user.c.epoch + 1, **values)
    )
    if changed.rowcount == 0:
        raise NotFoundError(f"There is no user `{name}`, or it is disabled.")
