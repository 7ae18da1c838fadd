"""Queries on failed attempts, on the addresses that a user has logged in from, and on uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, case, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from squash_api.record.bulk import select_rows
from squash_api.record.tables import attempt, usage

# Each failure adds three rows at most, so the table shrinks whatever comes.
_PRUNED_AT_ONCE = 20
# A clock that was ahead has left times that say nothing.
_AHEAD_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Attempt:
    """The failures of one `owner` that still count, and when the last one was."""

    owner: str
    failures: int
    last_ns: int
    is_proven: bool
    expires_ns: int


_OF_OWNERS = select_rows(attempt, Attempt).where(
    attempt.c.owner.in_(bindparam("owners", expanding=True))
)


def read_attempts(
    connection: Connection, owners: Sequence[str], *, now_ns: int, forget_ns: int
) -> dict[str, Attempt]:
    """Return what is known of owners, by owner; failures older than `forget_ns` do not count."""
    found = {}
    for row in connection.execute(_OF_OWNERS, {"owners": list(owners)}):
        known = Attempt(*row)
        is_old = known.last_ns < now_ns - forget_ns or known.last_ns > now_ns + _AHEAD_NS
        failures = 0 if is_old else known.failures
        found[known.owner] = Attempt(
            known.owner,
            failures,
            known.last_ns,
            known.is_proven and known.expires_ns > now_ns,
            known.expires_ns,
        )
    return found


def count_failure(connection: Connection, owner: str, *, now_ns: int, forget_ns: int) -> None:
    """Add a failure, and delete a few rows of which nothing counts any more."""
    is_old = or_(attempt.c.last_ns < now_ns - forget_ns, attempt.c.last_ns > now_ns + _AHEAD_NS)
    until_ns = now_ns + forget_ns
    _upsert(
        connection,
        owner,
        change={
            "failures": case((is_old, 1), else_=attempt.c.failures + 1),
            "last_ns": now_ns,
            "expires_ns": case(
                (attempt.c.expires_ns < until_ns, until_ns), else_=attempt.c.expires_ns
            ),
        },
        new={"failures": 1, "last_ns": now_ns, "is_proven": False, "expires_ns": until_ns},
    )
    _prune(connection, now_ns)


def prove(
    connection: Connection, owner: str, *, now_ns: int, until_ns: int, siblings: str, most: int
) -> None:
    """Remember that the right password came from here; of the `siblings` keep only the last `most`.

    They are the owners that begin with this text.
    """
    proven = {"failures": 0, "last_ns": now_ns, "is_proven": True, "expires_ns": until_ns}
    _upsert(connection, owner, change=proven, new=proven)
    own = and_(
        attempt.c.owner >= siblings,
        attempt.c.owner < f"{siblings}\x7f",
        attempt.c.is_proven.is_(True),
    )
    others = select(attempt.c.owner).where(own).order_by(attempt.c.expires_ns.desc()).offset(most)
    _delete(connection, list(connection.execute(others.limit(_PRUNED_AT_ONCE)).scalars()))
    _prune(connection, now_ns)


def count_use(connection: Connection, owner: str, *, kind: str, from_ns: int, most: int) -> bool:
    """Count one more use since `from_ns`, the beginning of an hour, unless there were `most`.

    Counts of this kind from before that are deleted. Returns whether it was counted.
    """
    connection.execute(delete(usage).where(usage.c.kind == kind, usage.c.from_ns < from_ns))
    here = and_(usage.c.owner == owner, usage.c.kind == kind, usage.c.from_ns == from_ns)
    changed = connection.execute(
        update(usage).where(here, usage.c.count < most).values(count=usage.c.count + 1)
    )
    if changed.rowcount:
        return True
    if connection.execute(select(usage.c.count).where(here)).scalar_one_or_none() is not None:
        return False
    connection.execute(insert(usage).values(owner=owner, kind=kind, from_ns=from_ns, count=1))
    return True


def _upsert(
    connection: Connection, owner: str, *, change: Mapping[str, object], new: Mapping[str, object]
) -> None:
    changing = update(attempt).where(attempt.c.owner == owner).values(**change)
    if connection.execute(changing).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(attempt).values(owner=owner, **new))
    except IntegrityError:
        # On PostgreSQL another process may have been faster.
        connection.execute(changing)


def _prune(connection: Connection, now_ns: int) -> None:
    old = select(attempt.c.owner).where(attempt.c.expires_ns < now_ns)
    chosen = old.order_by(attempt.c.expires_ns).limit(_PRUNED_AT_ONCE)
    _delete(connection, list(connection.execute(chosen).scalars()))


def _delete(connection: Connection, owners: list[str]) -> None:
    if owners:
        connection.execute(delete(attempt).where(attempt.c.owner.in_(owners)))
