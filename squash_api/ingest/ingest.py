"""Accepting a job: decode it, assess each value, and store it before anything is promised.

Each stage has a short way for nearly all jobs, and a whole way for all others: decoding
(`document.py`), assessing (`assessment.py`), storing (`record/storing.py`), and the route. A short
way returns None where it is not sure, and otherwise what the whole way would have returned
(`tests/ingest/test_short_ways.py`).
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from typing import Any

import structlog

from squash_api.accounts.accounts import Account
from squash_api.errors import (
    MOST_PLACES,
    Detail,
    InvalidInputError,
    RecordUnavailableError,
    SkippedInStrictModeError,
    SquashError,
    nearest,
)
from squash_api.ingest.assessment import MOST_CONVERSIONS, Assessment, Skip, assess, assess_short
from squash_api.ingest.document import (
    DOCUMENT_KEYS,
    MEASURED_KEYS,
    Job,
    decode_job,
    digest_job,
    digest_parts,
    job_of,
    reread_job,
)
from squash_api.ingest.reducing import Reduced, with_reduced
from squash_api.judging.wording import counted
from squash_api.record.jobs import Received
from squash_api.record.metrics import KnownMetrics, Metrics
from squash_api.record.record import Record
from squash_api.record.storing import JobStore, NewJob, Stale, Stored
from squash_api.record.usage import NO_LIMITS, Brings, Limits
from squash_api.schema.names import CONTRACT_FIELDS
from squash_api.wires import sasquatch, simple_job
from squash_api.wires.parts import Parts

SMALL_BYTES = 64_000
"""Only a smaller body is read where all requests wait for it; 16 MB take seconds."""

_MOST_ATTEMPTS = 20
_MOST_NAMED = 5
_MOST_LETTERS = 100
_MOST_OUTLINES = 100_000
# So that large jobs do not hold up small ones with something that is to be looked up.
_SMALL_JUDGES = ThreadPoolExecutor(2, thread_name_prefix="judge")
_LARGE_JUDGES = ThreadPoolExecutor(2, thread_name_prefix="judge-large")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wire:
    """A form in which jobs are received, and the functions that read what was received.

    `decode` checks it, and raises as `decode_job` does. `reread` reads what `decode` has accepted.
    `digest` returns 16 bytes that do not depend on the order of its keys.
    """

    decode: Callable[[Received], Job]
    reread: Callable[[Received], Job]
    digest: Callable[[Received], bytes]


def wire_of(read: Callable[[bytes, str | None], Parts]) -> Wire:
    """Make a wire of a function that reads a body, and what the URL said beside it."""

    def decode(received: Received) -> Job:
        return job_of(read(received.body, received.address))

    def digest(received: Received) -> bytes:
        return digest_parts(read(received.body, received.address))

    return Wire(decode, decode, digest)


WIRES: Mapping[str | None, Wire] = {
    None: Wire(
        lambda received: decode_job(received.body),
        lambda received: reread_job(received.body),
        lambda received: digest_job(received.body),
    ),
    simple_job.NAME: wire_of(simple_job.read_simple_job),
    simple_job.FORM_NAME: wire_of(simple_job.read_simple_form),
    sasquatch.WIRE: wire_of(sasquatch.read_record),
}
"""The wires by their names in the record; lsst.verify's has none."""


def reread(received: Received) -> Job:
    """Read what has been accepted; what only a later release can read measures nothing."""
    wire = WIRES.get(received.wire)
    if wire is None:
        _log_unknown(received.wire)
        return Job()
    return wire.reread(received)


def can_read(received: Received) -> bool:
    """Tell whether what was accepted can still be read, and whatever is derived from it."""
    try:
        reread(received)
    except (SquashError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return True


def measured_in(received: Received) -> set[tuple[str, str | None]]:
    """Return the metrics of a job that has been accepted, with their identifiers."""
    return {(item.metric, item.identifier) for item in reread(received).measurements}


def digest_of(received: Received) -> bytes:
    """Return 16 bytes that are the same for what was accepted by one wire with one content."""
    wire = WIRES.get(received.wire)
    if wire is not None:
        return wire.digest(received)
    return blake2b(f"{received.wire} ".encode() + received.body, digest_size=16).digest()


@cache
def _log_unknown(wire: str | None) -> None:
    _log.warning(
        "jobs of a wire that this release does not know are taken for empty: start the release "
        "that received them",
        wire=wire,
        runbook="record-wire",
    )


_STORE = JobStore(digest_of, measured_in)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many values of a job are `kept`, and what its `Assessment` says otherwise.

    `notes` are for the reply, on the time that was used and on tokens that are not JSON.
    """

    kept: int
    absent: Sequence[str] = ()
    skipped: Sequence[Skip] = ()
    undeclared: Sequence[str] = ()
    new_units: Mapping[str, str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ingested:
    """An accepted job: where it is in the record, and what was kept of it."""

    stored: Stored
    outcome: Outcome


class Budget:
    """What jobs and their users may bring, and what this process has seen them bring.

    `outlines` are those of metadata in which all names are known to the record.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.has_quotas = limits.has_quotas
        self.outlines: set[int] = set()

    def remember(self, outline: int) -> None:
        """Keep an outline; the record, which is asked otherwise, knows its names."""
        if len(self.outlines) >= _MOST_OUTLINES:
            self.outlines.clear()
        self.outlines.add(outline)

    def check_metadata(self, meta: Mapping[str, Any]) -> None:
        """Raise `InvalidInputError` if a job has too many keys in its metadata."""
        most, left, count = self.limits.metadata_per_job, [meta], 0
        while left:
            node = left.pop()
            count += len(node)
            if most and count > most:
                raise _too_many("meta", f"more than {most} metadata keys", "metadata_per_job")
            left += [value for value in node.values() if isinstance(value, dict)]

    def check_new_metrics(self, names: Collection[str]) -> None:
        """Raise `InvalidInputError` if a job measures too many metrics for the first time."""
        most = self.limits.new_metrics_per_job
        if most and len(names) > most:
            what = f"{len(names)} metrics that were never measured, more than {most}"
            raise _too_many("measurements", what, "new_metrics_per_job")


def _too_many(part: str, what: str, setting: str) -> InvalidInputError:
    return InvalidInputError(
        f"The job has {what}; nothing was stored. Send it in parts, or have an admin raise "
        f"SQUASH_{setting.upper()}.",
        detail=[Detail(("body", part), f"has {what}", "too_many")],
    )


async def ingest_job(
    received: Received,
    *,
    account: Account,
    record: Record,
    metrics: Metrics,
    received_ns: int,
    is_strict: bool,
    budget: Budget,
) -> Ingested:
    """Accept a job; when this returns, the job is on the disk.

    `received_ns` comes from `Record.now_ns`.

    Raises
    ------
    MalformedJsonError, InvalidInputError
        If the body is not a job; nothing is stored.
    SkippedInStrictModeError
        If `is_strict` and a value would be skipped; nothing is stored.
    ForbiddenError
        If the job was sent with a key that may not write to a package in it; nothing is stored.
    OverLimitError
        If its user has used up a limit; nothing is stored.
    """
    arrived = _Arrived(received, account, received_ns, is_strict=is_strict, budget=budget)
    for _ in range(_MOST_ATTEMPTS):
        new, outcome, outline = await _judge(arrived, metrics)
        stored = await record.write_batched(_STORE, new)
        if isinstance(stored, Stale) or new.new_units or new.new_own_units:
            await asyncio.to_thread(metrics.refresh)
        if isinstance(stored, Stored):
            if outcome.absent or outcome.skipped or outcome.new_units:
                _log_left_out(stored, outcome)
            if new.brings is not None and outline is not None and not stored.is_repeat:
                budget.remember(outline)
            return Ingested(stored, outcome)
    raise RecordUnavailableError("The metrics are changing too fast to judge this job. Try again.")


@dataclass(frozen=True, slots=True)
class _Arrived:
    """What has arrived, and what it is judged with."""

    received: Received
    account: Account
    received_ns: int
    is_strict: bool
    budget: Budget


@dataclass(frozen=True, slots=True)
class _Read:
    """The document of a body, and what does not depend on metrics.

    `is_known` says that its metadata surely brings no new name.
    """

    job: Job
    outline: int | None
    is_known: bool
    asked_ns: int
    time_note: str | None
    identifiers_digest: bytes | None


def _read(arrived: _Arrived, tag_keys: Collection[str], known: KnownMetrics) -> _Read:
    job = WIRES[arrived.received.wire].decode(arrived.received)
    if arrived.account.key is not None:
        # The address of another wire is no topic, and gives no key a right.
        is_topic = arrived.received.wire == sasquatch.WIRE
        topic = arrived.received.address if is_topic else None
        arrived.account.require_namespaces(_places(job), topic=topic)
    asked_ns, time_note = job.time_ns(received_ns=arrived.received_ns)
    outline = job.outline(tag_keys)
    is_known = outline in arrived.budget.outlines
    identifiers = job.identifiers_digest()
    job = with_reduced(job, known.reductions) if known.reductions else job
    return _Read(job, outline, is_known, asked_ns, time_note, identifiers)


async def _judge(arrived: _Arrived, metrics: Metrics) -> tuple[NewJob, Outcome, int | None]:
    """Judge a job by the metrics as they are now, so that others need not wait for it.

    The document is not kept: the documents of all jobs that wait for the disk would push each other
    out of the processor's cache, which costs more than decoding those again that are stale.
    """
    # If these change before the job is stored, the writer returns `Stale`.
    known = metrics.now
    is_small = len(arrived.received.body) <= SMALL_BYTES
    judged: tuple[_Read, Assessment, Brings | None] | None = None
    if is_small:
        read = _read(arrived, metrics.schema.tag_keys, known)
        usual = assess_short(read.job, known.by_name) if read.is_known else None
        judged = None if usual is None else (read, usual, _counts(arrived))
    if judged is None:
        judged = await asyncio.get_running_loop().run_in_executor(
            _SMALL_JUDGES if is_small else _LARGE_JUDGES, _judge_whole, arrived, metrics, known
        )
    read, assessment, brings = judged
    new = NewJob(
        user_id=arrived.account.user_id,
        user_epoch=arrived.account.epoch,
        received_ns=arrived.received_ns,
        asked_ns=read.asked_ns,
        revision=known.revision,
        identifiers_digest=read.identifiers_digest,
        is_deliverable=bool(assessment.values),
        body=arrived.received.body,
        new_units=assessment.new_units,
        new_own_units=assessment.new_own_units,
        brings=brings,
        wire=arrived.received.wire,
        address=arrived.received.address,
    )
    return new, _outcome(read, assessment), read.outline


def _outcome(read: _Read, assessment: Assessment) -> Outcome:
    job, notes = read.job, [] if read.time_note is None else [read.time_note]
    if job.bare_tokens or job.unknown_keys or assessment.without_unit or assessment.in_own_unit:
        notes.extend(_notes(job, assessment))
    return Outcome(
        len(assessment.values),
        assessment.absent,
        assessment.skipped,
        assessment.undeclared,
        assessment.new_units,
        tuple(notes),
    )


def _judge_whole(
    arrived: _Arrived, metrics: Metrics, known: KnownMetrics
) -> tuple[_Read, Assessment, Brings | None]:
    read = _read(arrived, metrics.schema.tag_keys, known)
    arrived.budget.check_metadata(read.job.meta)
    assessment = assess(
        read.job,
        metrics=known.by_name,
        schema=metrics.schema,
        user_id=arrived.account.user_id,
    )
    if assessment.has_too_many_units:
        raise InvalidInputError(
            f"The job has more than {MOST_CONVERSIONS} different units; nothing was stored. Send "
            "it in parts.",
            detail=[Detail(("body", "measurements"), "too many different units", "too_many")],
        )
    if arrived.is_strict and assessment.skipped:
        raise _strict_error(assessment, read.job)
    new_metrics = assessment.new_units.keys() - known.by_name.keys()
    arrived.budget.check_new_metrics(new_metrics)
    if read.is_known and not assessment.new_units:
        return read, assessment, _counts(arrived)
    return read, assessment, _brings(arrived, read, assessment, metrics)


def _counts(arrived: _Arrived) -> Brings | None:
    """Return what a job counts that surely brings no new name; None if nothing is counted."""
    if not arrived.budget.has_quotas or arrived.account.is_admin:
        return None
    return Brings(
        user_id=arrived.account.user_id,
        now_ns=arrived.received_ns,
        limits=arrived.budget.limits,
        jobs=1,
        size=len(arrived.received.body),
    )


def _brings(arrived: _Arrived, read: _Read, assessment: Assessment, metrics: Metrics) -> Brings:
    context = metrics.schema.context(read.job.meta)
    return Brings(
        user_id=arrived.account.user_id,
        now_ns=arrived.received_ns,
        limits=NO_LIMITS if arrived.account.is_admin else arrived.budget.limits,
        tags=context.tags,
        metadata=context.fields.keys() - CONTRACT_FIELDS,
        values=len(assessment.values),
        jobs=1,
        size=len(arrived.received.body),
    )


def _places(job: Job) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield where the metrics of a job are in its body, and their names."""
    for index, item in enumerate(job.measurements):
        yield job.place_of_metric(index), item.metric


def _notes(job: Job, assessment: Assessment) -> Iterator[str]:
    """Yield what was read otherwise than the sender may think."""
    if job.bare_tokens:
        yield f"{job.bare_tokens} bare NaN or Infinity in the body were read as null"
    for key in job.unknown_keys[:_MOST_NAMED]:
        near = nearest(key, (*DOCUMENT_KEYS, *MEASURED_KEYS))
        yield f"the key `{key[:_MOST_LETTERS]}` has no meaning in a job and was ignored{near}"
    if assessment.without_unit and job.has_units:
        listed = _listed(assessment.without_unit)
        yield f"no unit given, the metric's is taken if it has one: {listed}"
    if assessment.in_own_unit:
        listed = _listed([f"{name} in '{unit}'" for name, unit in assessment.in_own_unit.items()])
        yield (
            "kept in your unit, which does not convert to the one that another user has given the "
            f"metric; a definition from YAML or an admin will decide: {listed}"
        )


def _listed(names: Sequence[str]) -> str:
    others = len(names) - _MOST_NAMED
    more = f" and {others} more" if others > 0 else ""
    return ", ".join(name[:_MOST_LETTERS] for name in names[:_MOST_NAMED]) + more


def _strict_error(assessment: Assessment, job: Job) -> SkippedInStrictModeError:
    places: dict[str, list[tuple[str | int, ...]]] = {}
    for index, item in enumerate(job.measurements):
        place = ("body", "blobs") if isinstance(item, Reduced) else job.place_of(index)
        places.setdefault(item.metric, []).append(place)
    return SkippedInStrictModeError(
        f"{len(assessment.skipped)} of {counted(len(job.measurements), 'measurement')} would be "
        "skipped; "
        "nothing was stored. Fix them, or send without strict=true.",
        detail=[
            # Those replaced by a later one come first, in the order of the document.
            Detail(places[skip.metric].pop(0), skip.reason, "skipped")
            for skip in assessment.skipped[:MOST_PLACES]
        ],
        more=max(len(assessment.skipped) - MOST_PLACES, 0),
    )


def _log_left_out(stored: Stored, outcome: Outcome) -> None:
    if outcome.absent or outcome.skipped:
        _log.info(
            "job accepted with values left out",
            job=stored.job_id,
            absent=len(outcome.absent),
            skipped=len(outcome.skipped),
        )
    if outcome.new_units:
        _log.info("new metrics", job=stored.job_id, metrics=len(outcome.new_units))
