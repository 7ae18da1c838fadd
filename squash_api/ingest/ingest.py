"""Accepting a job: decode it, assess each value, and store it before anything is promised.

Each stage has a short way for nearly all jobs, and a whole way for all others: decoding
(`document.py`), assessing (`assessment.py`), storing (`record/storing.py`), and the route. A short
way returns None where it is not sure, and otherwise what the whole way would have returned
(`tests/ingest/test_short_ways.py`).
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from squash_api.accounts.accounts import Account
from squash_api.errors import (
    MOST_PLACES,
    Detail,
    InvalidInputError,
    RecordUnavailableError,
    SkippedInStrictModeError,
    nearest,
)
from squash_api.ingest.assessment import MOST_CONVERSIONS, Assessment, Skip, assess, assess_short
from squash_api.ingest.document import (
    DOCUMENT_KEYS,
    MEASURED_KEYS,
    Job,
    decode_job,
    digest_job,
    reread_job,
)
from squash_api.judging.wording import counted
from squash_api.record.metrics import KnownMetrics, Metrics
from squash_api.record.record import Record
from squash_api.record.storing import JobStore, NewJob, Stale, Stored

SMALL_BYTES = 64_000
"""Only a smaller body is read where all requests wait for it; 16 MB take seconds."""

_MOST_ATTEMPTS = 20
_MOST_NAMED = 5
_MOST_LETTERS = 100
# So that large jobs do not hold up small ones with something that is to be looked up.
_SMALL_JUDGES = ThreadPoolExecutor(2, thread_name_prefix="judge")
_LARGE_JUDGES = ThreadPoolExecutor(2, thread_name_prefix="judge-large")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wire:
    """A form in which jobs are received, and the functions that read its bodies.

    `decode` checks a received body, and raises as `decode_job` does. `reread` reads a body that
    `decode` has accepted. `digest` returns 16 bytes that do not depend on the order of its keys.
    """

    decode: Callable[[bytes], Job]
    reread: Callable[[bytes], Job]
    digest: Callable[[bytes], bytes]


# The record does not say which wire a job had, since there is only one.
VERIFY = "lsst.verify"
WIRES = {VERIFY: Wire(decode_job, reread_job, digest_job)}


def measured_in(body: bytes) -> set[tuple[str, str | None]]:
    """Return the metrics of a job that has been accepted, with their identifiers."""
    return {(item.metric, item.identifier) for item in WIRES[VERIFY].reread(body).measurements}


_STORE = JobStore(WIRES[VERIFY].digest, measured_in)


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


async def ingest_job(
    body: bytes,
    *,
    wire: Wire,
    account: Account,
    record: Record,
    metrics: Metrics,
    is_strict: bool,
) -> Ingested:
    """Accept a job; when this returns, the job is on the disk.

    Raises
    ------
    MalformedJsonError, InvalidInputError
        If the body is not a job; nothing is stored.
    SkippedInStrictModeError
        If `is_strict` and a value would be skipped; nothing is stored.
    ForbiddenError
        If the job was sent with a key that may not write to a package in it; nothing is stored.
    """
    received_ns = record.now_ns()
    arrived = _Arrived(body, wire, account, received_ns, is_strict=is_strict)
    for _ in range(_MOST_ATTEMPTS):
        new, outcome = await _judge(arrived, metrics)
        stored = await record.write_batched(_STORE, new)
        if isinstance(stored, Stale) or outcome.new_units:
            await asyncio.to_thread(metrics.refresh)
        if isinstance(stored, Stored):
            if outcome.absent or outcome.skipped or outcome.new_units:
                _log_left_out(stored, outcome)
            return Ingested(stored, outcome)
    raise RecordUnavailableError("The metrics are changing too fast to judge this job. Try again.")


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A body that has arrived, and what it is judged with."""

    body: bytes
    wire: Wire
    account: Account
    received_ns: int
    is_strict: bool


@dataclass(frozen=True, slots=True)
class _Read:
    """The document of a body, and what does not depend on metrics."""

    job: Job
    asked_ns: int
    time_note: str | None
    identifiers_digest: bytes | None


def _read(arrived: _Arrived) -> _Read:
    job = arrived.wire.decode(arrived.body)
    if arrived.account.key is not None:
        arrived.account.require_namespaces(_places(job))
    return _Read(job, *job.time_ns(received_ns=arrived.received_ns), job.identifiers_digest())


async def _judge(arrived: _Arrived, metrics: Metrics) -> tuple[NewJob, Outcome]:
    """Judge a job by the metrics as they are now, so that others need not wait for it.

    The document is not kept: the documents of all jobs that wait for the disk would push each other
    out of the processor's cache, which costs more than decoding those again that are stale.
    """
    # If these change before the job is stored, the writer returns `Stale`.
    known = metrics.now
    is_small = len(arrived.body) <= SMALL_BYTES
    judged = None
    if is_small:
        read = _read(arrived)
        usual = assess_short(read.job, known.by_name)
        judged = None if usual is None else (read, usual)
    if judged is None:
        judged = await asyncio.get_running_loop().run_in_executor(
            _SMALL_JUDGES if is_small else _LARGE_JUDGES, _judge_whole, arrived, metrics, known
        )
    read, assessment = judged
    job, notes = read.job, [] if read.time_note is None else [read.time_note]
    if job.bare_tokens or job.unknown_keys or assessment.without_unit:
        notes.extend(_notes(job, assessment))
    new = NewJob(
        user_id=arrived.account.user_id,
        user_epoch=arrived.account.epoch,
        received_ns=arrived.received_ns,
        asked_ns=read.asked_ns,
        revision=known.revision,
        identifiers_digest=read.identifiers_digest,
        is_deliverable=bool(assessment.values),
        body=arrived.body,
        new_units=assessment.new_units,
    )
    outcome = Outcome(
        len(assessment.values),
        assessment.absent,
        assessment.skipped,
        assessment.undeclared,
        assessment.new_units,
        tuple(notes),
    )
    return new, outcome


def _places(job: Job) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield where the metrics of a job are in its body, and their names."""
    for index, item in enumerate(job.measurements):
        yield ("body", "measurements", index, "metric"), item.metric


def _judge_whole(
    arrived: _Arrived, metrics: Metrics, known: KnownMetrics
) -> tuple[_Read, Assessment]:
    read = _read(arrived)
    assessment = assess(read.job, metrics=known.by_name, schema=metrics.schema)
    if assessment.has_too_many_units:
        raise InvalidInputError(
            f"The job has more than {MOST_CONVERSIONS} different units; nothing was stored. Send "
            "it in parts.",
            detail=[Detail(("body", "measurements"), "too many different units", "too_many")],
        )
    if arrived.is_strict and assessment.skipped:
        raise _strict_error(assessment, read.job)
    return read, assessment


def _notes(job: Job, assessment: Assessment) -> Iterator[str]:
    """Yield what was read otherwise than the sender may think."""
    if job.bare_tokens:
        yield f"{job.bare_tokens} bare NaN or Infinity in the body were read as null"
    for key in job.unknown_keys[:_MOST_NAMED]:
        near = nearest(key, (*DOCUMENT_KEYS, *MEASURED_KEYS))
        yield f"the key `{key[:_MOST_LETTERS]}` has no meaning in a job and was ignored{near}"
    names = assessment.without_unit
    if names:
        others = len(names) - _MOST_NAMED
        more = f" and {others} more" if others > 0 else ""
        listed = ", ".join(name[:_MOST_LETTERS] for name in names[:_MOST_NAMED])
        yield f"no unit given, the metric's is taken if it has one: {listed}{more}"


def _strict_error(assessment: Assessment, job: Job) -> SkippedInStrictModeError:
    places: dict[str, list[int]] = {}
    for index, item in enumerate(job.measurements):
        places.setdefault(item.metric, []).append(index)
    return SkippedInStrictModeError(
        f"{len(assessment.skipped)} of {counted(len(job.measurements), 'measurement')} would be "
        "skipped; "
        "nothing was stored. Fix them, or send without strict=true.",
        detail=[
            # Those replaced by a later one come first, in the order of the document.
            Detail(("body", "measurements", places[skip.metric].pop(0)), skip.reason, "skipped")
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
