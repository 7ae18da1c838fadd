"""Storing jobs: many in one transaction, each with a time of its own.

The short way is one statement, which is its own transaction. While a statement runs, other threads
have the interpreter; between two statements the writer has to wait for it. So one statement for a
group of jobs is what lets jobs be read while others are stored (`benchmarks/`). The whole way looks
at each job, by several statements in a transaction that others may be part of.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    Connection,
    Dialect,
    and_,
    bindparam,
    column,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
    values,
)
from sqlalchemy.exc import DBAPIError

from squash_api.errors import RecordUnavailableError, UnauthorizedError
from squash_api.record.bulk import Prepared, insert_rows, prepare
from squash_api.record.jobs import current_revision
from squash_api.record.metrics import known_units, meet_metrics
from squash_api.record.tables import definition, job, user

_Value = TypeVar("_Value")
_COLUMNS = (
    "user_id",
    "received_ns",
    "asked_ns",
    "time_ns",
    "revision",
    "digest",
    "identifiers_digest",
    "is_deliverable",
    "size",
    "body",
)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is ready to be stored.

    `new_units` are the metrics that the job is the first to measure, and their units, as judged
    against the metrics at `revision`; if either has changed meanwhile the job is `Stale`.
    """

    user_id: int
    user_epoch: int
    received_ns: int
    asked_ns: int
    revision: int
    identifiers_digest: bytes | None
    is_deliverable: bool
    body: bytes
    new_units: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """A job in the record. `is_repeat`: it was there before, and nothing was stored."""

    job_id: int
    received_ns: int
    time_ns: int
    is_repeat: bool = False
    same_measurements_as: int | None = None


@dataclass(frozen=True, slots=True)
class Stale:
    """The metrics have changed since the job was judged: judge it again and come back."""


@dataclass(frozen=True, slots=True)
class JobStore:
    """Work for the record: storing jobs in their order, so that no two have the same time.

    Parameters
    ----------
    digest_of
        Tells equal bodies by 16 bytes.
    """

    digest_of: Callable[[bytes], bytes]

    def short(self, connection: Connection, items: Sequence[NewJob], /) -> list[Stored] | None:
        """Store jobs, if all that `whole` looks for is as usual.

        That is: nobody's account has changed, the metrics are those that the jobs were judged by
        and no job brings another, no job has the identifiers of another, and nobody asks for a time
        that is taken.

        Returns
        -------
        list or None
            None if `whole` has to look at each job; then nothing is stored.

        Raises
        ------
        RecordUnavailableError
            If the jobs are stored and their ids cannot be read.
        """
        accounts = dict.fromkeys((item.user_id, item.user_epoch) for item in items)
        digests = [digest for item in items if (digest := item.identifiers_digest) is not None]
        times = [item.asked_ns for item in items]
        if (
            len(set(times)) < len(times)
            or len(set(digests)) < len(digests)
            or any(item.new_units or item.revision != items[0].revision for item in items)
        ):
            return None
        size, users = _size(len(items)), _size(len(accounts))
        given: list[object] = []
        for item in items:
            given += _row(item, time_ns=item.asked_ns)
        given += [None] * (len(_COLUMNS) * (size - len(items)))
        given.append(items[0].revision)
        for account in _filled(list(accounts), users):
            given += account
        given.append(len(accounts))
        given += _filled(digests or [b""], size)
        times = _filled(times, size)
        insertion = _insertion(size, users, connection.dialect)
        found = _ids_at(size, connection.dialect)
        stored = connection.exec_driver_sql(insertion.text, insertion.pack([*given, *times]))
        if stored.rowcount != len(items):
            return None
        try:
            rows = connection.exec_driver_sql(found.text, found.pack(times))
            ids = {row[0]: row[1] for row in rows}
        except DBAPIError as error:
            raise RecordUnavailableError(
                "The record cannot be read at the moment; the job has been stored. Try again."
            ) from error
        return [Stored(ids[item.asked_ns], item.received_ns, item.asked_ns) for item in items]

    def whole(
        self, connection: Connection, items: Sequence[NewJob], /
    ) -> list[Stored | Stale | Exception]:
        """Store jobs, each checked on the way.

        Checked are its user, whether it is here already, and whether the metrics are still those it
        was judged by.
        """
        epochs = _user_epochs(connection, items)
        revision = current_revision(connection)
        twins = _twins(connection, items)
        known = _known_units(connection, items)
        outcomes: list[Stored | Stale | Exception] = []
        new: list[_Ready] = []
        by_identifiers: dict[bytes | None, list[_Ready]] = {}
        for index, item in enumerate(items):
            ready, key = _Ready(index, item, self.digest_of), item.identifiers_digest
            # Until it has been stored, a job of this batch is taken for one to come back for.
            outcomes.append(Stale())
            if epochs.get(item.user_id) != item.user_epoch:
                outcomes[index] = UnauthorizedError("User does not exist", error="Invalid JWT")
                continue
            repeat = _find_repeat(connection, ready) if key in twins else None
            if repeat is not None:
                outcomes[index] = repeat
                continue
            is_outdated = item.revision != revision or _is_outdated(item.new_units, known)
            if is_outdated or any(ready.repeats(other) for other in by_identifiers.get(key, ())):
                continue
            known.update(_meet_metrics(connection, item.new_units, known))
            new.append(ready)
            if key is not None:
                by_identifiers.setdefault(key, []).append(ready)
        for ready, (job_id, time_ns) in zip(new, _insert(connection, new), strict=True):
            key, received_ns = ready.item.identifiers_digest, ready.item.received_ns
            twin = twins.get(key)
            if key is not None:
                twins.setdefault(key, job_id)
            outcomes[ready.index] = Stored(job_id, received_ns, time_ns, same_measurements_as=twin)
        return outcomes


def _size(number: int) -> int:
    """Return the power of two that is enough: for each size a statement has to be prepared."""
    return 1 << (number - 1).bit_length()


def _filled(given: Sequence[_Value], size: int) -> list[_Value]:
    """Repeat the last value up to a size."""
    return [*given, *([given[-1]] * (size - len(given)))]


@lru_cache(maxsize=64)
def _insertion(jobs: int, accounts: int, dialect: Dialect) -> Prepared:
    """Return the statement; its parameters go in the order in which they are made here.

    A job without a user is none.
    """
    parameters = _Parameters()
    columns = [job.c[name] for name in _COLUMNS]
    rows = [tuple(parameters.make(column) for column in columns) for _ in range(jobs)]
    given = values(*(column(each.name, each.type) for each in columns), name="new")
    new = given.data(rows).cte("new", nesting=True)
    revision = select(func.coalesce(func.max(definition.c.revision), literal_column("0")))
    is_usual = [revision.scalar_subquery() == parameters.make(definition.c.revision)]
    known = [
        and_(user.c.id == parameters.make(user.c.id), user.c.epoch == parameters.make(user.c.epoch))
        for _ in range(accounts)
    ]
    unchanged = select(func.count()).where(or_(*known), user.c.is_disabled.is_(False))
    is_usual.append(unchanged.scalar_subquery() == parameters.make(user.c.id))
    same = [parameters.make(job.c.identifiers_digest) for _ in range(jobs)]
    is_usual.append(~exists().where(job.c.identifiers_digest.in_(same)))
    times = [parameters.make(job.c.time_ns) for _ in range(jobs)]
    is_usual.append(~exists().where(job.c.time_ns.in_(times)))
    chosen = select(new).where(new.c.user_id.is_not(None), *is_usual).subquery("usual")
    # Inside a subquery, or WITH would come first: the driver counts the rows of an INSERT alone.
    statement = insert(job).from_select(_COLUMNS, select(chosen), include_defaults=False)
    return prepare(statement, parameters.names, dialect)


@lru_cache(maxsize=64)
def _ids_at(jobs: int, dialect: Dialect) -> Prepared:
    parameters = _Parameters()
    times = [parameters.make(job.c.time_ns) for _ in range(jobs)]
    found = select(job.c.time_ns, job.c.id).where(job.c.time_ns.in_(times))
    return prepare(found, parameters.names, dialect)


class _Parameters:
    """Parameters of a statement, with their names in the order in which they were made."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def make(self, like: Column[Any]) -> BindParameter[Any]:
        """Make another, for a value of this column."""
        name = f"p{len(self.names)}"
        self.names.append(name)
        return bindparam(name, type_=like.type)


def _row(item: NewJob, *, time_ns: int, digest: bytes | None = None) -> tuple[object, ...]:
    """Return what is inserted for a job, in the order of `_COLUMNS`."""
    return (
        item.user_id,
        item.received_ns,
        item.asked_ns,
        time_ns,
        item.revision,
        digest,
        item.identifiers_digest,
        item.is_deliverable,
        len(item.body),
        item.body,
    )


@dataclass(slots=True)
class _Ready:
    """A job on its way in. Its digest is worked out only where its identifiers are met again.

    It costs as much as all the rest of taking a job in.
    """

    index: int
    item: NewJob
    digest_of: Callable[[bytes], bytes]
    digest: bytes | None = None

    def content(self) -> bytes:
        """Return the digest."""
        if self.digest is None:
            self.digest = self.digest_of(self.item.body)
        return self.digest

    def repeats(self, other: "_Ready") -> bool:
        """Tell whether the same user sends the same content."""
        return self.item.user_id == other.item.user_id and self.content() == other.content()


# Built once: to build a statement costs several times as much as to run it.
_EPOCHS = select(user.c.id, user.c.epoch).where(
    user.c.id.in_(bindparam("ids", expanding=True)), user.c.is_disabled.is_(False)
)
_TWINS = (
    select(job.c.identifiers_digest, func.min(job.c.id))
    .where(job.c.identifiers_digest.in_(bindparam("digests", expanding=True)))
    .group_by(job.c.identifiers_digest)
)
_AT_TIMES = select(job.c.time_ns, job.c.id).where(
    job.c.time_ns.in_(bindparam("times", expanding=True))
)


def _user_epochs(connection: Connection, items: Sequence[NewJob]) -> dict[int, int]:
    ids = list({item.user_id for item in items})
    return {row[0]: row[1] for row in connection.execute(_EPOCHS, {"ids": ids})}


def _find_repeat(connection: Connection, ready: _Ready) -> Stored | None:
    """Return the first job that the same user has sent with the same content."""
    same = (
        job.c.identifiers_digest == ready.item.identifiers_digest,
        job.c.user_id == ready.item.user_id,
    )
    undigested = select(job.c.id, job.c.body).where(*same, job.c.digest.is_(None))
    for row in connection.execute(undigested).all():
        digest = ready.digest_of(row.body)
        connection.execute(update(job).where(job.c.id == row.id).values(digest=digest))
    found = connection.execute(
        select(job.c.id, job.c.received_ns, job.c.time_ns)
        .where(*same, job.c.digest == ready.content())
        .order_by(job.c.id)
        .limit(1)
    ).first()
    return None if found is None else Stored(*found, is_repeat=True)


def _twins(connection: Connection, items: Sequence[NewJob]) -> dict[bytes | None, int]:
    """Return the first stored job for each set of measurement identifiers."""
    digests = list({item.identifiers_digest for item in items if item.identifiers_digest})
    if not digests:
        return {}
    return {row[0]: row[1] for row in connection.execute(_TWINS, {"digests": digests})}


def _known_units(connection: Connection, items: Sequence[NewJob]) -> dict[str, str | None]:
    names = {name for item in items for name in item.new_units}
    return known_units(connection, names) if names else {}


def _is_outdated(new_units: dict[str, str | None], known: dict[str, str | None]) -> bool:
    return any(
        unit is not None and known.get(name) not in (None, unit) for name, unit in new_units.items()
    )


def _meet_metrics(
    connection: Connection, new_units: dict[str, str | None], known: dict[str, str | None]
) -> dict[str, str | None]:
    changes = {
        name: unit
        for name, unit in new_units.items()
        if name not in known or (known[name] is None and unit is not None)
    }
    if changes:
        meet_metrics(connection, changes)
    return changes


def _insert(connection: Connection, new: list[_Ready]) -> list[tuple[int, int]]:
    """Insert jobs in the order given, so that their ids ascend; return id and time of each."""
    taken = _taken_times(connection, {ready.item.asked_ns for ready in new})
    times: list[int] = []
    rows: list[tuple[object, ...]] = []
    for ready in new:
        time_ns = ready.item.asked_ns
        if time_ns in taken:
            insert_rows(connection, job, _COLUMNS, rows)
            rows = []
            time_ns = connection.execute(_NEXT_FREE, {"asked": time_ns}).scalar_one()
        taken.add(time_ns)
        times.append(time_ns)
        rows.append(_row(ready.item, time_ns=time_ns, digest=ready.digest))
    insert_rows(connection, job, _COLUMNS, rows)
    if not times:
        return []
    by_time = {row[0]: row[1] for row in connection.execute(_AT_TIMES, {"times": times})}
    return [(by_time[time_ns], time_ns) for time_ns in times]


def _taken_times(connection: Connection, asked: set[int]) -> set[int]:
    if not asked:
        return set()
    return {row[0] for row in connection.execute(_AT_TIMES, {"times": list(asked)})}


# The first free time after a taken one. The search begins at the last time that was given to a job
# which asked for the same: all between the two is taken, so a long run of equal dates costs no more
# than a short one.
_taken, _next = job.alias("taken"), job.alias("next")
_NEXT_FREE = (
    select(_taken.c.time_ns + 1)
    .where(
        _taken.c.time_ns
        >= func.coalesce(
            select(func.max(job.c.time_ns))
            .where(job.c.asked_ns == bindparam("asked", type_=BigInteger))
            .scalar_subquery(),
            bindparam("asked", type_=BigInteger),
        ),
        ~exists().where(_next.c.time_ns == _taken.c.time_ns + 1),
    )
    .order_by(_taken.c.time_ns)
    .limit(1)
)
