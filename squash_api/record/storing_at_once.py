"""Storing usual jobs by one statement, which is its own transaction.

While a statement runs, other threads have the interpreter; between two statements the writer has to
wait for it. So one statement for a group of jobs is what lets jobs be read while others are stored
(`benchmarks/`).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import (
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
    values,
)
from sqlalchemy.exc import DBAPIError

from squash_api.errors import RecordUnavailableError
from squash_api.record.bulk import Prepared, prepare
from squash_api.record.storing import COLUMNS, NewJob, Stored, row_of
from squash_api.record.tables import definition, job, user

_Value = TypeVar("_Value")


def store_at_once(connection: Connection, items: Sequence[NewJob], /) -> list[Stored] | None:
    """Store jobs in their order, if all that `store_jobs` looks for is as usual.

    That is: nobody's account has changed, the metrics are those that the jobs were judged by and no
    job brings another, no job has the identifiers of another, and nobody asks for a time that is
    taken.

    Returns
    -------
    list or None
        None if `store_jobs` has to look at each job; then nothing is stored.

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
    size = _size(len(items))
    statement = _insertion(size, _size(len(accounts)), connection.dialect)
    parameters: list[object] = []
    for item in items:
        parameters += row_of(item, time_ns=item.asked_ns)
    parameters += [None] * (len(COLUMNS) * (size - len(items)))
    parameters.append(items[0].revision)
    for account in _filled(list(accounts), _size(len(accounts))):
        parameters += account
    parameters.append(len(accounts))
    parameters += _filled(digests or [b""], size)
    parameters += _filled(times, size)
    stored = connection.exec_driver_sql(statement.text, statement.arguments(parameters))
    if stored.rowcount != len(items):
        return None
    found = _ids_at(size, connection.dialect)
    try:
        rows = connection.exec_driver_sql(found.text, found.arguments(_filled(times, size)))
        ids = {row[0]: row[1] for row in rows}
    except DBAPIError as error:
        raise RecordUnavailableError(
            "The record cannot be read at the moment; the job has been stored. Try again."
        ) from error
    return [Stored(ids[item.asked_ns], item.received_ns, item.asked_ns) for item in items]


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
    columns = [job.c[name] for name in COLUMNS]
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
    statement = insert(job).from_select(COLUMNS, select(chosen), include_defaults=False)
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
