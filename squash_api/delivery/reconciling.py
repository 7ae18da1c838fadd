"""Comparison of an InfluxDB with the record, job by job in order of time.

A window holds the jobs of some time and, in InfluxDB, everything up to the next window. So what
the record does not have is found too, and memory is bounded however long the record is.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from squash_api.delivery.batches import MOST_BYTES, MOST_JOBS, PointMaker
from squash_api.influx.client import (
    DatabaseMissingError,
    InfluxClient,
    InfluxMisconfiguredError,
    InfluxRefusedError,
    NotImplementedByItError,
    QueryRejectedError,
    statement_error,
)
from squash_api.influx.reading import (
    FIRST_NS,
    LAST_NS,
    StoredPoint,
    count_points,
    measurement_names,
    parse_line,
    read_points,
)
from squash_api.record.audit import UNKNOWN, Actor, note
from squash_api.record.deliveries import (
    Erasure,
    request_redelivery,
    request_rewriting,
)
from squash_api.record.jobs import jobs_at, jobs_by_time
from squash_api.record.losses import times_to_erase, waiting_jobs
from squash_api.record.quarantine import reason_not_to_delete, refused_lines
from squash_api.record.record import Connection, Record
from squash_api.schema.names import SQUASH_URL

# More in one window are read in parts.
_MOST_POINTS = 20_000
_MOST_EXAMPLES = 20
_COUNTS = (
    *("jobs", "points", "waiting", "refused", "missing", "altered", "unknown", "pruned"),
    "lasting",
)


@dataclass(slots=True)
class Comparison:
    """How an InfluxDB differs from the record.

    `jobs` were compared. Of the others nothing can be said: `waiting` have not been sent as they
    are now. Of the jobs, those `missing` lack points, those `altered` have other values, tags or
    fields, or more points than they should. `refused` lines are in quarantine. `unknown` are points
    of jobs that the record does not have, of which `pruned` have been deleted. `examples` are
    the first differences, in words. If InfluxDB cannot delete, `cannot` says so: then `lasting` of
    the altered jobs, and the unknown points, cannot be mended.
    """

    target: str
    jobs: int = 0
    points: int = 0
    waiting: int = 0
    refused: int = 0
    missing: int = 0
    altered: int = 0
    unknown: int = 0
    pruned: int = 0
    lasting: int = 0
    cannot: str | None = None
    examples: list[str] = field(default_factory=list)
    first_ns: int | None = None
    last_ns: int | None = None

    @property
    def is_same(self) -> bool:
        """Whether InfluxDB holds what the record says."""
        return not (self.missing or self.altered or self.unknown)

    def to_json(self) -> dict[str, Any]:
        """Describe it for programs."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        cannot = {} if self.cannot is None else {"cannot": self.cannot}
        return {"target": self.target, **counts, **cannot, "examples": self.examples}

    def differs(self, time_ns: int, example: str) -> None:
        """Note a difference at a time."""
        self.first_ns = time_ns if self.first_ns is None else min(self.first_ns, time_ns)
        self.last_ns = time_ns if self.last_ns is None else max(self.last_ns, time_ns)
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(example)


@dataclass(frozen=True, slots=True)
class _Window:
    """Jobs by their time (ns), and the time that belongs to them, both ends included."""

    jobs: dict[int, int]
    first_ns: int
    last_ns: int


@dataclass(slots=True)
class _Differences:
    """What differs in a window: jobs without points; measurements of jobs; points of no job.

    Of the altered, the `lasting` have more than they should, which only a deletion takes away.
    """

    missing: set[int] = field(default_factory=set)
    altered: set[tuple[int, str]] = field(default_factory=set)
    lasting: set[tuple[int, str]] = field(default_factory=set)
    unknown: set[tuple[str, int]] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    refused: int = 0
    points: int = 0

    def alters(self, job_id: int, point: StoredPoint, *, is_lasting: bool) -> None:
        """Note that a job's point differs."""
        key = (job_id, point.measurement)
        self.altered.add(key)
        if is_lasting:
            self.lasting.add(key)

    def also_in(self, other: "_Differences") -> "_Differences":
        """Return those that were seen twice; the counts are those of this one."""
        return _Differences(
            self.missing & other.missing,
            self.altered & other.altered,
            self.lasting & other.lasting,
            self.unknown & other.unknown,
            self.waiting,
            self.refused,
            self.points,
        )


def _fields_of(point: StoredPoint) -> dict[str, float | str]:
    """Return the fields, without where the link to the job leads: each sender has its own."""
    return {**point.fields, SQUASH_URL: SQUASH_URL in point.fields}


class Reconciler:
    """Compares one target, and asks for what differs to be sent again.

    Nobody else may use `points`. `by` is whom the audit trail names for what is changed.
    """

    def __init__(
        self, client: InfluxClient, record: Record, points: PointMaker, *, by: Actor = UNKNOWN
    ) -> None:
        self._client = client
        self._name = client.target.name
        self._record = record
        self._points = points
        self._by = by
        self._names: set[str] = set()
        self._cannot: str | None = None

    def compare(
        self,
        *,
        since_ns: int | None = None,
        until_ns: int | None = None,
        is_repaired: bool = False,
        is_pruned: bool = False,
    ) -> Iterator[Comparison]:
        """Compare the jobs of a time, and yield what has been found after each window.

        With `is_repaired` the record is asked to send again what differs; with `is_pruned` points
        of jobs that the record does not have are deleted.

        Raises
        ------
        InfluxError
            If InfluxDB cannot be read.
        """
        # Who may not ask for its version, has one that is asked to do what must be done.
        with suppress(InfluxRefusedError, InfluxMisconfiguredError):
            self._client.ping()
        self._cannot = self._why_it_cannot_delete()
        found = Comparison(self._name, cannot=self._cannot)
        try:
            self._names = measurement_names(self._client)
        except DatabaseMissingError:
            self._names = set()
        for window in self._windows(since_ns, until_ns):
            differences = self._look(window)
            if differences.missing or differences.altered or differences.unknown:
                # Jobs come and change meanwhile.
                differences = self._look(window).also_in(differences)
            self._note(window, differences, found)
            if is_repaired:
                self._repair(window, differences)
            if is_pruned and differences.unknown and self._cannot is None:
                found.pruned += self._prune(differences.unknown)
                found.cannot = self._cannot
            yield found

    def _why_it_cannot_delete(self) -> str | None:
        """Say why it never deletes points, as far as that is known; None if it is to be asked."""
        server = self._client.server
        if server is not None and server.kind is not None and server.kind.deletes.value is not None:
            return server.refusal_to_delete()
        # Of others only what they have said is known.
        with self._record.read() as connection:
            said = reason_not_to_delete(connection, self._name)
        never = said is not None and isinstance(statement_error(said), NotImplementedByItError)
        return said if never else None

    def _windows(self, since_ns: int | None, until_ns: int | None) -> Iterator[_Window]:
        first_ns = FIRST_NS if since_ns is None else max(since_ns, FIRST_NS)
        end_ns = LAST_NS if until_ns is None else min(until_ns, LAST_NS)
        while first_ns <= end_ns:
            with self._record.read() as connection:
                jobs = jobs_by_time(
                    connection,
                    after_ns=first_ns - 1,
                    until_ns=end_ns,
                    max_bytes=MOST_BYTES,
                    limit=MOST_JOBS,
                )
            last_ns = jobs[-1][0] if jobs else end_ns
            yield _Window(dict(jobs), first_ns, last_ns)
            first_ns = last_ns + 1

    def _look(self, window: _Window) -> _Differences:
        """Compare a window: first the state of delivery, then the record, then InfluxDB."""
        job_ids = sorted(window.jobs.values())
        with self._record.read() as connection:
            waiting = waiting_jobs(connection, self._name, job_ids)
            refused = refused_lines(connection, self._name, job_ids)
            # Those that can never be deleted are said.
            doomed = times_to_erase(connection, self._name) if self._cannot is None else ()
        batch = self._points.make(job_ids, after=None) if job_ids else None
        lines = [] if batch is None else batch.points
        found = _Differences(waiting=waiting)
        expected: dict[tuple[str, int], StoredPoint] = {}
        for item in lines:
            point = parse_line(item.line)
            job_id = window.jobs[point.time_ns]
            if (job_id, item.measurement) in refused:
                found.refused += 1
            elif job_id not in waiting:
                expected[item.measurement, point.time_ns] = point
        names = self._names | {item.measurement for item in lines}
        for point in self._read(names, window.first_ns, window.last_ns):
            key = (point.measurement, point.time_ns)
            owner = window.jobs.get(point.time_ns)
            wanted = expected.get(key)
            found.points += 1
            if owner is None:
                if point.time_ns not in doomed:
                    found.unknown.add(key)
            elif owner in waiting or (owner, point.measurement) in refused:
                continue
            elif wanted is None or wanted.tags != point.tags:
                found.alters(owner, point, is_lasting=True)
            else:
                del expected[key]
                if _fields_of(wanted) != _fields_of(point):
                    has_more = bool(point.fields.keys() - wanted.fields.keys())
                    found.alters(owner, point, is_lasting=has_more)
        found.missing = {window.jobs[time_ns] for _, time_ns in expected}
        return found

    def _read(self, names: set[str], first_ns: int, last_ns: int) -> Iterator[StoredPoint]:
        """Read the points of a time; where there are more than expected, in parts."""
        try:
            counts = count_points(self._client, names, first_ns=first_ns, last_ns=last_ns)
            if sum(counts.values()) <= _MOST_POINTS or first_ns == last_ns:
                yield from read_points(self._client, counts, first_ns=first_ns, last_ns=last_ns)
                return
        except DatabaseMissingError:
            return
        except QueryRejectedError as error:
            if not error.is_cut or first_ns == last_ns:
                raise
        middle = (first_ns + last_ns) // 2
        yield from self._read(names, first_ns, middle)
        yield from self._read(names, middle + 1, last_ns)

    def _note(self, window: _Window, differences: _Differences, found: Comparison) -> None:
        altered = {job_id for job_id, _ in differences.altered}
        found.jobs += len(window.jobs) - len(differences.waiting)
        found.points += differences.points
        found.waiting += len(differences.waiting)
        found.refused += differences.refused
        found.missing += len(differences.missing - altered)
        found.altered += len(altered)
        if self._cannot is not None:
            found.lasting += len({job_id for job_id, _ in differences.lasting})
        found.unknown += len(differences.unknown)
        for time_ns, job_id in window.jobs.items():
            if job_id in altered:
                found.differs(time_ns, f"job {job_id}: its points are not those of the record")
            elif job_id in differences.missing:
                found.differs(time_ns, f"job {job_id}: points are missing")
        for measurement, time_ns in sorted(differences.unknown):
            found.differs(time_ns, f"{measurement} at {time_ns}: the record has no such job")

    def _repair(self, window: _Window, differences: _Differences) -> None:
        """Request that points are written again, and those that have too much deleted before.

        Where nothing can be deleted, they are only written again, unless that would not mend them.
        """
        if self._cannot is not None:
            lasting = {job_id for job_id, _ in differences.lasting}
            altered = {job_id for job_id, _ in differences.altered}
            self._send_again((differences.missing | altered) - lasting)
            return
        times = {job_id: time_ns for time_ns, job_id in window.jobs.items()}
        measurements: dict[int, list[str]] = {}
        for job_id, measurement in sorted(differences.altered):
            measurements.setdefault(job_id, []).append(measurement)
        rewritten = [
            Erasure(job_id, times[job_id], tuple(names)) for job_id, names in measurements.items()
        ]
        self._send_again(differences.missing - measurements.keys(), rewritten)

    def _send_again(self, job_ids: set[int], rewritten: Sequence[Erasure] = ()) -> None:
        if not job_ids and not rewritten:
            return

        def work(connection: Connection) -> None:
            names = [self._name]
            request_rewriting(connection, rewritten, targets=names)
            request_redelivery(connection, job_ids, targets=names, request=time.time_ns())
            jobs = sorted({*job_ids, *(item.job_id for item in rewritten)})
            shown = jobs[:_MOST_EXAMPLES]
            note(connection, self._by, "reconcile.repair", self._name, count=len(jobs), jobs=shown)

        self._record.write(work)

    def _prune(self, unknown: set[tuple[str, int]]) -> int:
        """Delete points of no job; return how many."""
        count = len(unknown)
        try:
            self._client.delete_points(sorted(unknown))
        except NotImplementedByItError as refusal:
            self._cannot = refusal.reason
            return 0
        self._record.write(
            lambda connection: note(
                connection, self._by, "reconcile.prune", self._name, count=count
            )
        )
        # A job may have come with just this time, and been sent.
        with self._record.read() as connection:
            new = jobs_at(connection, {time_ns for _, time_ns in unknown})
        self._send_again(set(new))
        return len(unknown)
