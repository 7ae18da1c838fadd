"""What targets refused for good, lines and deletions: listed, sent again, or given up."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, TypedDict

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from squash_api.record.audit import Actor, note
from squash_api.record.bulk import in_chunks, select_rows
from squash_api.record.deliveries import (
    AT_ONCE_NS,
    LONGEST_REFUSAL_NS,
    Quarantined,
    request_redelivery,
)
from squash_api.record.tables import erasure, quarantine


class QuarantineEntry(TypedDict):
    """What a target refused for good, and why."""

    id: int
    """The entry's id."""
    target: str
    """The target that refused it."""
    job: int
    """The id of its job."""
    what: Literal["deletion", "line"]
    """What was refused: points, or to delete them."""
    measurement: str
    """The measurement in InfluxDB."""
    line: str
    """The line or statement that was sent."""
    reason: str
    """What the target said."""
    since: str
    """When it was refused."""
    dropped: str | None
    """When somebody gave it up."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A refused line, or a refused statement if it `is_deletion`, with the reason of the target.

    `dropped_ns` is when somebody gave it up, None if nobody has.
    """

    entry_id: int
    target: str
    job_id: int
    measurement: str
    line: str
    reason: str
    created_ns: int
    is_deletion: bool
    dropped_ns: int | None

    def to_json(self) -> QuarantineEntry:
        """Describe it for programs."""
        return {
            "id": self.entry_id,
            "target": self.target,
            "job": self.job_id,
            "what": "deletion" if self.is_deletion else "line",
            "measurement": self.measurement,
            "line": self.line,
            "reason": self.reason,
            "since": _moment(self.created_ns),
            "dropped": None if self.dropped_ns is None else _moment(self.dropped_ns),
        }


@dataclass(frozen=True, slots=True)
class Which:
    """Which entries: those that meet all conditions. What is empty or None is no condition.

    `reason` is a part of the reason, in any case of letters.
    """

    entry_ids: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    job_ids: tuple[int, ...] = ()
    reason: str | None = None
    is_dropped: bool = False


def entries(connection: Connection, which: Which, *, after: int, limit: int) -> list[Entry]:
    """Return entries after an id, in order of their ids."""
    query = (
        _ENTRIES.where(quarantine.c.id > after, *_conditions(which))
        .order_by(quarantine.c.id)
        .limit(limit)
    )
    return [Entry(*row) for row in connection.execute(query)]


def retry(connection: Connection, which: Which, *, now_ns: int, by: Actor) -> int:
    """Request that the jobs of entries are sent again in their order; return how many entries.

    Deletions are tried again at once. The entries stay until that is done.
    """
    found = list(_all(connection, which))
    by_target: dict[str, set[int]] = {}
    for entry in found:
        if entry.is_deletion:
            is_row = and_(erasure.c.target == entry.target, erasure.c.job_id == entry.job_id)
            connection.execute(update(erasure).where(is_row).values(again_ns=AT_ONCE_NS))
        else:
            by_target.setdefault(entry.target, set()).add(entry.job_id)
    for target, job_ids in by_target.items():
        request_redelivery(connection, job_ids, targets=[target], request=now_ns)
    _note(connection, by, "quarantine.retry", found)
    return len(found)


def drop(connection: Connection, which: Which, *, now_ns: int, by: Actor) -> int:
    """Give entries up; return how many.

    They are no longer counted, and deletions no longer tried. The status of a job still tells what
    its target does not have.
    """
    found = list(_all(connection, which))
    for entry in found:
        if entry.is_deletion:
            is_row = and_(erasure.c.target == entry.target, erasure.c.job_id == entry.job_id)
            connection.execute(delete(erasure).where(is_row))
    for chunk in in_chunks(entry.entry_id for entry in found):
        connection.execute(
            update(quarantine).where(quarantine.c.id.in_(chunk)).values(dropped_ns=now_ns)
        )
    _note(connection, by, "quarantine.drop", found)
    return len(found)


def mark_not_erased(
    connection: Connection, name: str, refused: Sequence[Quarantined], *, now_ns: int
) -> None:
    """Note the statements with which a target refused to delete points; each is tried again later.

    The waits between two attempts double up to an hour.
    """
    rows = []
    for job_id in {item.job_id for item in refused}:
        is_row = and_(erasure.c.target == name, erasure.c.job_id == job_id)
        refusals = connection.execute(select(erasure.c.refusals).where(is_row)).scalar()
        if refusals is None:
            continue
        wait_ns = min(_FIRST_REFUSAL_NS * 2 ** min(refusals, 16), LONGEST_REFUSAL_NS)
        again = {"refusals": refusals + 1, "again_ns": now_ns + wait_ns}
        connection.execute(update(erasure).where(is_row).values(again))
        rows += [asdict(item) for item in refused if item.job_id == job_id]
        connection.execute(
            delete(quarantine).where(
                quarantine.c.target == name,
                quarantine.c.job_id == job_id,
                quarantine.c.is_deletion,
            )
        )
    if rows:
        same = {"target": name, "created_ns": now_ns, "is_deletion": True}
        connection.execute(insert(quarantine), [{**row, **same} for row in rows])


def refused_lines(connection: Connection, target: str, job_ids: list[int]) -> set[tuple[int, str]]:
    """Return the jobs among these, each with a measurement, of which a target refused the line."""
    rows = connection.execute(
        select(quarantine.c.job_id, quarantine.c.measurement).where(
            quarantine.c.target == target,
            quarantine.c.job_id.in_(job_ids),
            quarantine.c.is_deletion.is_(False),
        )
    )
    return {(row.job_id, row.measurement) for row in rows}


def reason_not_to_delete(connection: Connection, target: str) -> str | None:
    """Return why a target has last refused to delete points; None if it refuses none."""
    return connection.execute(
        select(quarantine.c.reason)
        .where(quarantine.c.target == target, quarantine.c.is_deletion)
        .order_by(quarantine.c.id.desc())
        .limit(1)
    ).scalar()


_PAGE = 1000
_FIRST_REFUSAL_NS = 30 * 10**9
_MOST_NOTED = 100
_ENTRIES = select_rows(quarantine, Entry)


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _note(connection: Connection, by: Actor, action: str, found: list[Entry]) -> None:
    if found:
        subject = ", ".join(sorted({item.target for item in found}))
        jobs = sorted({item.job_id for item in found})[:_MOST_NOTED]
        note(connection, by, action, subject, count=len(found), jobs=jobs)


def _all(connection: Connection, which: Which) -> Iterator[Entry]:
    after = 0
    while page := entries(connection, which, after=after, limit=_PAGE):
        yield from page
        after = page[-1].entry_id


def _conditions(which: Which) -> list[ColumnElement[bool]]:
    is_dropped = quarantine.c.dropped_ns.is_not(None)
    found: list[ColumnElement[bool]] = [is_dropped if which.is_dropped else ~is_dropped]
    for column, values in (
        (quarantine.c.id, which.entry_ids),
        (quarantine.c.target, which.targets),
        (quarantine.c.job_id, which.job_ids),
    ):
        if values:
            found.append(column.in_(values))
    if which.reason is not None:
        found.append(quarantine.c.reason.icontains(which.reason, autoescape=True))
    return found
