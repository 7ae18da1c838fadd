"""Storing jobs: many in one transaction, each with a time of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import BigInteger, Connection, bindparam, exists, func, select, update

from squash_api.errors import UnauthorizedError
from squash_api.record.bulk import insert_rows
from squash_api.record.jobs import current_revision
from squash_api.record.metrics import known_units, meet_metrics
from squash_api.record.tables import job, user


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is ready to be stored.

    `new_units` are the metrics that the job is the first to measure, and their units, as judged
    against the metrics at `revision`; if either has changed meanwhile the job is `Stale`.
    `digest_of` tells equal bodies, whatever the order of their keys.
    """

    user_id: int
    user_epoch: int
    received_ns: int
    asked_ns: int
    revision: int
    identifiers_digest: bytes | None
    is_deliverable: bool
    body: bytes
    digest_of: Callable[[bytes], bytes]
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


def store_jobs(
    connection: Connection, items: Sequence[NewJob], /
) -> list[Stored | Stale | Exception]:
    """Store jobs in one transaction, in their order.

    Each is checked on the way: its user, whether it is here already, whether the metrics are still
    those it was judged by. No two jobs share a time.
    """
    epochs = _user_epochs(connection, items)
    revision = current_revision(connection)
    twins = _twins(connection, items)
    known = _known_units(connection, items)
    outcomes: list[Stored | Stale | Exception] = []
    new: list[_Ready] = []
    by_identifiers: dict[bytes | None, list[_Ready]] = {}
    for index, item in enumerate(items):
        ready, key = _Ready(index, item), item.identifiers_digest
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


@dataclass(slots=True)
class _Ready:
    """A job on its way in. Its digest is worked out only where its identifiers are met again.

    It costs as much as all the rest of taking a job in.
    """

    index: int
    item: NewJob
    digest: bytes | None = None

    def content(self) -> bytes:
        """Return the digest."""
        if self.digest is None:
            self.digest = self.item.digest_of(self.item.body)
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
        values = {"digest": ready.item.digest_of(row.body)}
        connection.execute(update(job).where(job.c.id == row.id).values(values))
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
            insert_rows(connection, job, COLUMNS, rows)
            rows = []
            time_ns = connection.execute(_NEXT_FREE, {"asked": time_ns}).scalar_one()
        taken.add(time_ns)
        times.append(time_ns)
        rows.append(row_of(ready.item, time_ns=time_ns, digest=ready.digest))
    insert_rows(connection, job, COLUMNS, rows)
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


COLUMNS = (
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


def row_of(item: NewJob, *, time_ns: int, digest: bytes | None = None) -> tuple[object, ...]:
    """Return what is inserted for a job, in the order of `COLUMNS`."""
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
