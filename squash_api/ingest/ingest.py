"""Taking a job in: decode it, judge each value, and store it before anything is promised."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from squash_api.accounts.accounts import Account
from squash_api.errors import Detail, RecordUnavailableError, SkippedInStrictModeError
from squash_api.ingest.assessment import Assessment, Skip, assess
from squash_api.ingest.document import Job, digest_identifiers, digest_job, receive_job
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.record.storing import NewJob, Stale, Stored, store_jobs
from squash_api.record.storing_at_once import store_at_once
from squash_api.record.writer import Shortened

_MOST_ATTEMPTS = 20
_STORE = Shortened(whole=store_jobs, short=store_at_once)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job comes to: how many values are `kept`, and what is left out of it.

    `absent`, `skipped`, `undeclared` and `new_units` are those of its `Assessment`. `notes` are
    sentences for the reply: the time that was taken, tokens that are not JSON.
    """

    kept: int
    absent: Sequence[str] = ()
    skipped: Sequence[Skip] = ()
    undeclared: Sequence[str] = ()
    new_units: Mapping[str, str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ingested:
    """An accepted job: where it is in the record, and what it comes to."""

    stored: Stored
    outcome: Outcome

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the reply, those about other jobs first."""
        notes = []
        if self.stored.is_repeat:
            notes.append("received before; nothing was stored again")
        if self.stored.same_measurements_as is not None:
            notes.append(f"same measurements as job {self.stored.same_measurements_as}")
        return (*notes, *self.outcome.notes)


async def ingest_job(
    body: bytes, *, account: Account, record: Record, vocabulary: Vocabulary, is_strict: bool
) -> Ingested:
    """Accept a job: when this returns it is on the disk.

    Raises
    ------
    MalformedJsonError, InvalidInputError
        If the body is not a job; nothing is stored.
    SkippedInStrictModeError
        If `is_strict` and a value would be skipped; nothing is stored.
    """
    received_ns = time.time_ns()
    for _ in range(_MOST_ATTEMPTS):
        new, outcome = _judge(
            body,
            account=account,
            vocabulary=vocabulary,
            is_strict=is_strict,
            received_ns=received_ns,
        )
        stored = await record.write_batched(_STORE, new)
        if isinstance(stored, Stale) or outcome.new_units:
            await asyncio.to_thread(vocabulary.refresh)
        if isinstance(stored, Stored):
            _log_left_out(stored, outcome)
            return Ingested(stored, outcome)
    raise RecordUnavailableError("The metrics are changing too fast to judge this job. Try again.")


def _judge(
    body: bytes,
    *,
    account: Account,
    vocabulary: Vocabulary,
    is_strict: bool,
    received_ns: int,
) -> tuple[NewJob, Outcome]:
    """Judge a job by the metrics as they are now.

    The document is given up at once: those of all jobs that wait for the disk would push each
    other out of the processor's cache, which costs more than to decode again what comes back.
    """
    job = receive_job(body)
    asked_ns, time_note = job.time_ns(received_ns=received_ns)
    # Read first: should the metrics change in between, the writer sends the job back.
    revision = vocabulary.revision
    assessment = assess(job, metrics=vocabulary.metrics, schema=vocabulary.schema)
    if is_strict and assessment.skipped:
        raise _strict_error(assessment, job)
    new = NewJob(
        user_id=account.user_id,
        user_epoch=account.epoch,
        received_ns=received_ns,
        asked_ns=asked_ns,
        revision=revision,
        identifiers_digest=digest_identifiers(job),
        is_deliverable=bool(assessment.values),
        body=body,
        digest_of=digest_job,
        new_units=assessment.new_units,
    )
    outcome = Outcome(
        len(assessment.values),
        assessment.absent,
        assessment.skipped,
        assessment.undeclared,
        assessment.new_units,
        _notes(job, time_note),
    )
    return new, outcome


def _strict_error(assessment: Assessment, job: Job) -> SkippedInStrictModeError:
    places: dict[str, list[int]] = {}
    for index, item in enumerate(job.measurements):
        places.setdefault(item.metric, []).append(index)
    return SkippedInStrictModeError(
        f"{len(assessment.skipped)} of {len(job.measurements)} measurements would be skipped; "
        "nothing was stored. Mend them, or send without strict=true.",
        detail=[
            # Those replaced by a later one come first, in the order of the document.
            Detail(("body", "measurements", places[skip.metric].pop(0)), skip.reason, "skipped")
            for skip in assessment.skipped
        ],
    )


def _notes(job: Job, time_note: str | None) -> tuple[str, ...]:
    notes = [] if time_note is None else [time_note]
    if job.bare_tokens:
        notes.append(f"{job.bare_tokens} bare NaN or Infinity in the body were read as null")
    return tuple(notes)


def _log_left_out(stored: Stored, outcome: Outcome) -> None:
    if outcome.absent or outcome.skipped:
        _log.info(
            "job accepted with values left out",
            job=stored.job_id,
            absent=outcome.absent,
            skipped={skip.metric: skip.reason for skip in outcome.skipped},
        )
    if outcome.new_units:
        _log.info("metrics met", job=stored.job_id, units=outcome.new_units)
