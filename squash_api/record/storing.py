"""Storing jobs: many in one transaction, each with a time of its own.

The short way is one statement, which is its own transaction. While a statement runs, other threads
have the interpreter; between two statements the writer must wait for it. So storing a group of jobs
by one statement lets other threads read at the same time (`benchmarks/`). The whole way checks each
job, by several statements in a transaction that may contain other work.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    Connection,
    Dialect,
    Pool,
    and_,
    bindparam,
    cast,
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

from squash_api.errors import OverLimitError, UnauthorizedError
from squash_api.record.bulk import Prepared, insert_rows, prepare
from squash_api.record.jobs import Received, current_revision
from squash_api.record.metrics import have_other_units, known_units, note_metrics, note_own_units
from squash_api.record.tables import definition, job, user
from squash_api.record.usage import Brings, Ledger

_MOST_TWINS = 20
_MOST_GIVEN = 10_000
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
    "wire",
    "address",
)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is ready to be stored.

    `new_units` are the units of metrics that the job is the first to measure, `new_own_units` those
    of values that do not convert to a unit that another user has brought. If the definitions
    have changed since `revision`, or the units since then, the job is `Stale`. `brings` is what
    counts against the limits of its user; None if all of it is surely known.
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
    new_own_units: dict[str, str] = field(default_factory=dict)
    brings: Brings | None = None
    wire: str | None = None
    address: str | None = None

    @property
    def received(self) -> Received:
        """What was received of the job."""
        return Received(self.body, self.wire, self.address)


@dataclass(frozen=True, slots=True)
class Stored:
    """A job in the record. With `is_repeat` it was there already, and nothing was stored."""

    job_id: int
    received_ns: int
    time_ns: int
    is_repeat: bool = False
    same_measurements_as: int | None = None


@dataclass(frozen=True, slots=True)
class Stale:
    """The metrics have changed since the job was judged: judge it and submit it again."""


@dataclass(frozen=True, slots=True)
class JobStore:
    """Work for the record: storing jobs in order, no two with the same time.

    `digest_of` returns 16 bytes that are the same for jobs with the same content, and `names_of`
    the metrics of a job with the identifiers of their measurements.
    """

    digest_of: Callable[[Received], bytes]
    names_of: Callable[[Received], Collection[object]]
    # By the pool of a record's connections: the last time given to jobs that asked for one taken.
    _given: "WeakKeyDictionary[Pool, dict[int, int]]" = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )

    def short(self, connection: Connection, items: Sequence[NewJob], /) -> list[Stored] | None:
        """Store jobs if none needs the checks of `whole`; otherwise store nothing, return None.

        That is: no account has changed, the jobs were judged by the present metrics and bring
        nothing new, no job has the identifiers of another, and none asks for a time that is taken,
        unless the last time that was given for it is known: the records of a run all ask for one.
        """
        if any(item.brings is not None for item in items):
            return None
        return self._insert_usual(connection, items)

    def _insert_usual(self, connection: Connection, items: Sequence[NewJob]) -> list[Stored] | None:
        """Store jobs by one statement, as `short` does, whatever they count against limits."""
        given_times = self._given.get(connection.engine.pool) or {}
        accounts = dict.fromkeys((item.user_id, item.user_epoch) for item in items)
        digests = [digest for item in items if (digest := item.identifiers_digest) is not None]
        times = _times_of(items, given_times)
        if (
            len(set(times)) < len(times)
            or len(set(digests)) < len(digests)
            or any(
                item.new_units or item.new_own_units or item.revision != items[0].revision
                for item in items
            )
        ):
            return None
        size, users = _size(len(items)), _size(len(accounts))
        given: list[object] = []
        for item, time_ns in zip(items, times, strict=True):
            given += _row(item, time_ns=time_ns)
        given += [None] * (len(_COLUMNS) * (size - len(items)))
        given.append(items[0].revision)
        for account in _filled(list(accounts), users):
            given += account
        given.append(len(accounts))
        given += _filled(digests or [b""], size)
        given += _filled(times, size)
        insertion = _insertion(size, users, connection.dialect)
        stored = connection.exec_driver_sql(insertion.text, insertion.pack(given))
        ids = {row[0]: row[1] for row in stored}
        if not ids:
            return None
        for item, time_ns in zip(items, times, strict=True):
            if time_ns != item.asked_ns:
                given_times[item.asked_ns] = time_ns
        return [
            Stored(ids[time_ns], item.received_ns, time_ns)
            for item, time_ns in zip(items, times, strict=True)
        ]

    def whole(
        self, connection: Connection, items: Sequence[NewJob], /
    ) -> list[Stored | Stale | Exception]:
        """Check and store each job.

        Its user must be enabled and within their limits, it must not be in the record already, and
        the metrics must still be those that it was judged by.
        """
        return self._count_usual(connection, items) or self._store_each(connection, items)

    def _store_each(
        self, connection: Connection, items: Sequence[NewJob]
    ) -> list[Stored | Stale | Exception]:
        epochs = _user_epochs(connection, items)
        revision = current_revision(connection)
        twins = _twins(connection, items)
        known = known_units(connection, (name for item in items for name in item.new_units))
        ledger = Ledger(connection)
        outcomes: list[Stored | Stale | Exception] = []
        new: list[_Ready] = []
        by_identifiers: dict[bytes | None, list[_Ready]] = {}
        for index, item in enumerate(items):
            ready, key = _Ready(index, item, self.digest_of), item.identifiers_digest
            # Stays so for a repeat of a job of this batch, which is stored only below.
            outcomes.append(Stale())
            if epochs.get(item.user_id) != item.user_epoch:
                outcomes[index] = UnauthorizedError("User does not exist", error="Invalid JWT")
                continue
            repeat = _find_repeat(connection, ready) if key in twins else None
            if repeat is not None:
                outcomes[index] = repeat
                continue
            is_outdated = item.revision != revision or _is_outdated(connection, item, known)
            if is_outdated or any(ready.repeats(other) for other in by_identifiers.get(key, ())):
                continue
            refusal = _charge(ledger, item, known)
            if refusal is not None:
                outcomes[index] = refusal
                continue
            known.update(_note_metrics(connection, item, known))
            new.append(ready)
            if key is not None:
                by_identifiers.setdefault(key, []).append(ready)
        ledger.store()
        for ready, (job_id, time_ns) in zip(new, self._insert(connection, new), strict=True):
            key, received_ns = ready.item.identifiers_digest, ready.item.received_ns
            has_twins = key in twins or len(by_identifiers.get(key, ())) > 1
            twin = self._find_twin(connection, ready.item, before=job_id) if has_twins else None
            outcomes[ready.index] = Stored(job_id, received_ns, time_ns, same_measurements_as=twin)
        return outcomes

    def _count_usual(
        self, connection: Connection, items: Sequence[NewJob]
    ) -> list[Stored | Stale | Exception] | None:
        """Store jobs that only count against quotas; if one needs more, store nothing, return None.

        A group of jobs is counted by four statements, where each job of its own took as many: with
        quotas, the writer is three times as fast (`benchmarks/`, R1).
        """
        brings = [item.brings for item in items]
        if not brings or not all(each is not None and each.is_counted_only for each in brings):
            return None
        ledger = Ledger(connection)
        if any(_charge(ledger, item, {}) is not None for item in items):
            return None
        stored = self._insert_usual(connection, items)
        if stored is None:
            return None
        ledger.store()
        return [*stored]

    def last_ids(self, outcomes: Sequence[Stored | Stale | Exception], /) -> dict[str, int]:
        """Return the last id of a job among these."""
        ids = (item.job_id for item in outcomes if isinstance(item, Stored))
        return {"job": max(ids, default=0)}

    def _insert(self, connection: Connection, new: "list[_Ready]") -> list[tuple[int, int]]:
        """Insert jobs, and remember the times that are given for taken ones."""
        given_times = self._given.setdefault(connection.engine.pool, {})
        inserted = _insert(connection, new)
        for ready, (_, time_ns) in zip(new, inserted, strict=True):
            if time_ns != ready.item.asked_ns:
                if len(given_times) >= _MOST_GIVEN:
                    given_times.clear()
                given_times[ready.item.asked_ns] = time_ns
        return inserted

    def _find_twin(self, connection: Connection, item: NewJob, *, before: int) -> int | None:
        """Return the first job with measurements of the same metrics and identifiers."""
        names = self.names_of(item.received)
        same = (job.c.identifiers_digest == item.identifiers_digest, job.c.id < before)
        query = _RECEIVED.where(*same).order_by(job.c.id).limit(_MOST_TWINS)
        rows = connection.execute(query)
        found = (row[0] for row in rows if self.names_of(Received(*row[1:])) == names)
        return next(found, None)


def _times_of(items: Sequence[NewJob], given: Mapping[int, int]) -> list[int]:
    """Return the times that jobs ask for, or the next after the last that was given for one."""
    if not given:
        return [item.asked_ns for item in items]
    last: dict[int, int] = {}
    times = []
    for item in items:
        asked_ns = item.asked_ns
        before = last.get(asked_ns) or given.get(asked_ns)
        times.append(asked_ns if before is None else before + 1)
        if before is not None:
            last[asked_ns] = before + 1
    return times


def insert_job(connection: Connection, item: NewJob) -> int:
    """Store a job that the service has made itself, whoever its user is; return its id."""
    ((job_id, _),) = _insert(connection, [_Ready(0, item, _no_digest)])
    return job_id


def _no_digest(_: Received) -> bytes:
    return b""


def _size(number: int) -> int:
    """Round up to a power of two, since a statement is prepared for each size."""
    return 1 << (number - 1).bit_length()


def _filled(given: Sequence[_Value], size: int) -> list[_Value]:
    """Repeat the last value until there are `size` values."""
    return [*given, *([given[-1]] * (size - len(given)))]


@lru_cache(maxsize=64)
def _insertion(jobs: int, accounts: int, dialect: Dialect) -> Prepared:
    """Prepare the statement, with its parameters in the order in which they are made here.

    A row without a user only fills up the size.
    """
    parameters = _Parameters()
    columns = [job.c[name] for name in _COLUMNS]
    # PostgreSQL takes values in a list for text, unless it is told.
    rows = [
        tuple(cast(parameters.make(column), column.type) for column in columns) for _ in range(jobs)
    ]
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
    # In a subquery, or WITH would come first: the driver begins to write only where INSERT does.
    statement = insert(job).from_select(_COLUMNS, select(chosen), include_defaults=False)
    return prepare(statement.returning(job.c.time_ns, job.c.id), parameters.names, dialect)


class _Parameters:
    """Parameters of a statement; `names` are in the order in which they were made."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def make(self, like: Column[Any]) -> BindParameter[Any]:
        """Make a parameter for a value of a column."""
        name = f"p{len(self.names)}"
        self.names.append(name)
        return bindparam(name, type_=like.type)


def _row(item: NewJob, *, time_ns: int, digest: bytes | None = None) -> tuple[object, ...]:
    """Return the values of a job's row, in the order of `_COLUMNS`."""
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
        item.wire,
        item.address,
    )


@dataclass(slots=True)
class _Ready:
    """A job to be stored. Its digest is computed only if another job has its identifiers.

    Computing it costs as much as everything else about accepting a job.
    """

    index: int
    item: NewJob
    digest_of: Callable[[Received], bytes]
    digest: bytes | None = None

    def content(self) -> bytes:
        """Return the digest of the job."""
        if self.digest is None:
            self.digest = self.digest_of(self.item.received)
        return self.digest

    def repeats(self, other: "_Ready") -> bool:
        """Return whether the same user has sent the same content."""
        return self.item.user_id == other.item.user_id and self.content() == other.content()


# Built once: building a statement costs several times as much as running it.
_RECEIVED = select(job.c.id, job.c.body, job.c.wire, job.c.address)
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
    undigested = _RECEIVED.where(*same, job.c.digest.is_(None))
    for job_id, *received in connection.execute(undigested).all():
        digest = ready.digest_of(Received(*received))
        connection.execute(update(job).where(job.c.id == job_id).values(digest=digest))
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


def _is_outdated(connection: Connection, item: NewJob, known: Mapping[str, str | None]) -> bool:
    """Return whether a unit has changed since a job was judged."""
    return any(
        unit is not None and known.get(name) not in (None, unit)
        for name, unit in item.new_units.items()
    ) or have_other_units(connection, item.new_own_units, by=item.user_id)


def _charge(ledger: Ledger, item: NewJob, known: Mapping[str, str | None]) -> OverLimitError | None:
    if item.brings is None:
        return None
    return ledger.charge(item.brings, new_metrics=len(item.new_units.keys() - known.keys()))


def _note_metrics(
    connection: Connection, item: NewJob, known: Mapping[str, str | None]
) -> dict[str, str | None]:
    changes = {
        name: unit
        for name, unit in item.new_units.items()
        if name not in known or (known[name] is None and unit is not None)
    }
    if changes:
        note_metrics(connection, changes, by=item.user_id)
    note_own_units(connection, item.new_own_units, by=item.user_id)
    return changes


def _insert(connection: Connection, new: list[_Ready]) -> list[tuple[int, int]]:
    """Insert jobs in order, so that their ids ascend; return the id and time of each."""
    if not new:
        return []
    asked = Counter(ready.item.asked_ns for ready in new)
    taken = set(_ids_by_time(connection, list(asked)))
    free: dict[int, Iterator[int]] = {}
    times: list[int] = []
    rows: list[tuple[object, ...]] = []
    for ready in new:
        wanted = ready.item.asked_ns
        time_ns: int | None = wanted
        if wanted in taken:
            time_ns = next((each for each in free.get(wanted, ()) if each not in taken), None)
        if time_ns is None:
            insert_rows(connection, job, _COLUMNS, rows)
            rows = []
            time_ns = connection.execute(_NEXT_FREE, {"asked": wanted}).scalar_one()
            if asked[wanted] > 1:
                # The records of a run come by the dozen, and all ask for the same.
                free[wanted] = _free_after(connection, time_ns, asked[wanted])
        taken.add(time_ns)
        times.append(time_ns)
        rows.append(_row(ready.item, time_ns=time_ns, digest=ready.digest))
    insert_rows(connection, job, _COLUMNS, rows)
    ids = _ids_by_time(connection, times)
    return [(ids[time_ns], time_ns) for time_ns in times]


def _free_after(connection: Connection, time_ns: int, number: int) -> Iterator[int]:
    """Return the free times among the next ones, ascending: what `_NEXT_FREE` would find."""
    following = range(time_ns + 1, time_ns + number)
    taken = _ids_by_time(connection, following)
    return (each for each in following if each not in taken)


def _ids_by_time(connection: Connection, times: Sequence[int]) -> dict[int, int]:
    return {row[0]: row[1] for row in connection.execute(_AT_TIMES, {"times": times})}


# The first free time after a taken one. The search begins at the last time that was given to a job
# that asked for the same: all times between are taken, so many equal dates cost no more than two.
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
