"""Queries on users. A user is never deleted, so that a name always means the same person."""

from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from squash_api.errors import LastAdminError, NameTakenError, NotFoundError
from squash_api.record.bulk import select_rows
from squash_api.record.lookalikes import skeleton
from squash_api.record.tables import ended_session, user


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user as stored. Tokens issued at another `epoch` are not valid."""

    user_id: int
    name: str
    password_hash: str
    role: str
    epoch: int
    is_disabled: bool
    created_ns: int


_USERS = select_rows(user, UserRow)
_BY_NAME = _USERS.where(user.c.name == bindparam("wanted"))
_BY_ID = _USERS.where(user.c.id == bindparam("wanted"))
_ENDED = select(ended_session.c.session).where(ended_session.c.session == bindparam("wanted"))


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
    """Return at most `limit` users by name, from the first name after `after`.

    `is_disabled` chooses disabled or enabled users; None chooses all.
    """
    query = _USERS.where(user.c.name > after).order_by(user.c.name).limit(limit)
    if is_disabled is not None:
        query = query.where(user.c.is_disabled.is_(is_disabled))
    return [UserRow(*row) for row in connection.execute(query)]


def check_free(connection: Connection, name: str) -> None:
    """Raise `NameTakenError` if a user has or had this name, or one that looks like it."""
    alike = or_(user.c.name == name, user.c.skeleton == skeleton(name))
    names = connection.execute(select(user.c.name).where(alike)).scalars().all()
    if name in names:
        raise NameTakenError(f"User `{name}` already exists.")
    if names:
        raise NameTakenError(
            f"The user name `{name}` looks like that of another user; choose another one."
        )


def add_user(
    connection: Connection, *, name: str, password_hash: str, role: str, created_ns: int
) -> UserRow:
    """Store a new user.

    Raises
    ------
    NameTakenError
        If a user has or had this name, or one that looks like it. The transaction can go on.
    """
    try:
        # The constraint decides, since on PostgreSQL another process may be faster than a query.
        with connection.begin_nested():
            connection.execute(
                insert(user).values(
                    name=name,
                    skeleton=skeleton(name),
                    password_hash=password_hash,
                    role=role,
                    created_ns=created_ns,
                )
            )
    except IntegrityError as error:
        try:
            check_free(connection, name)
        except NameTakenError as taken:
            raise taken from error
        raise
    added = find_user(connection, name)
    assert added is not None  # noqa: S101  for mypy
    return added


def change_user(
    connection: Connection, name: str, *, was_disabled: bool = False, **values: str | bool
) -> int:
    """Change columns of an enabled user, or a disabled one; end the user's tokens; return the id.

    Raises
    ------
    NotFoundError
        If there is no such user.
    """
    row = find_user(connection, name)
    if row is None or row.is_disabled is not was_disabled:
        state = "enabled" if was_disabled else "disabled"
        raise NotFoundError(f"There is no user `{name}`, or it is {state}.")
    connection.execute(
        update(user).where(user.c.id == row.user_id).values(epoch=user.c.epoch + 1, **values)
    )
    return row.user_id


def require_other_admin(connection: Connection, name: str) -> None:
    """Check, before a user is disabled or demoted, that an enabled admin will be left.

    Raises
    ------
    LastAdminError
        If this user is the only one.
    """
    # Locked where transactions run side by side, so that two admins cannot remove each other.
    admins = select(user.c.name).where(user.c.role == "admin", user.c.is_disabled.is_(False))
    if list(connection.scalars(admins.with_for_update())) == [name]:
        raise LastAdminError(
            f"`{name}` is the last admin: make somebody else one first, for instance with "
            "squash user role NAME admin."
        )


def update_hash(connection: Connection, user_id: int, *, old_hash: str, new_hash: str) -> None:
    """Replace the hash with another of the same password; tokens stay valid.

    Does nothing if the password has changed in the meantime.
    """
    connection.execute(
        update(user)
        .where(user.c.id == user_id, user.c.password_hash == old_hash)
        .values(password_hash=new_hash)
    )


def is_session_ended(connection: Connection, session_id: str) -> bool:
    """Return whether somebody has logged out of a session."""
    return connection.execute(_ENDED, {"wanted": session_id}).one_or_none() is not None


def end_session(connection: Connection, session_id: str, *, expires_ns: int, now_ns: int) -> None:
    """Remember until it expires that a session has ended, and forget those that have expired."""
    connection.execute(delete(ended_session).where(ended_session.c.expires_ns < now_ns))
    # Another process may be ending the same one.
    with suppress(IntegrityError), connection.begin_nested():
        connection.execute(insert(ended_session).values(session=session_id, expires_ns=expires_ns))
