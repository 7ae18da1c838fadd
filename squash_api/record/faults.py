"""What a database says when it fails, and what we say then."""

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from squash_api.errors import RecordUnavailableError, runbook_of_record
from squash_api.logs import Seldom, words_of

NOT_WRITTEN = "The record cannot be written at the moment"
LOCKED = "The record is locked by another process"
DAMAGED = "The record is damaged"
# What we say when the database or the operating system says this.
_REASONS = {
    "disk is full": "The disk of the record is full",
    "No space left on device": "The disk of the record is full",
    "is locked": LOCKED,
    "readonly database": "The disk or the file of the record can only be read",
    "Read-only file system": "The disk or the file of the record can only be read",
    "disk image is malformed": DAMAGED,
    "file is not a database": DAMAGED,
    "unable to open database file": "The files of the record cannot be opened",
    "Too many open files": "The files of the record cannot be opened",
    "disk I/O error": "The disk of the record fails",
    "conflict with recovery": "The replica had to go on with the record while this was read",
    # PostgreSQL's.
    "lock timeout": LOCKED,
    **dict.fromkeys(
        ("read-only transaction", "during recovery", "recovery is in progress"),
        "The database of the record can only be read",
    ),
    **dict.fromkeys(
        ("authentication failed", "no pg_hba.conf entry"),
        "The database of the record refuses the user or the password",
    ),
    "invalid page": DAMAGED,
    "could not read block": DAMAGED,
    "too many clients": "The database of the record takes no more connections",
    "connection slots": "The database of the record takes no more connections",
    **dict.fromkeys(
        (
            "onnection refused",
            "onnection timeout",
            "resolve host",
            "server closed the connection",
            "terminating connection",
            "connection is closed",
            "connection failed",
            "connection is lost",
            "system is starting up",
            "system is shutting down",
        ),
        "The database of the record cannot be reached",
    ),
}
# PostgreSQL's codes for a table, or a right to it, that somebody has taken away.
_TAKEN_AWAY = {"42501", "42P01"}
_log = structlog.get_logger(__name__)


class TransactionLostError(Exception):
    """The database has ended the transaction itself, as SQLite does when the disk is full."""


def is_fault(outcome: Any) -> bool:
    """Tell whether the database failed, rather than the work."""
    if isinstance(outcome, IntegrityError | ProgrammingError | DataError):
        return getattr(outcome.orig, "sqlstate", None) in _TAKEN_AWAY
    return isinstance(outcome, RecordUnavailableError | DBAPIError | PoolTimeoutError)


def is_locked(outcome: Any) -> bool:
    """Tell whether another process held the lock for too long."""
    return is_fault(outcome) and reason_of(outcome) == LOCKED


def log_failure(
    seldom: Seldom, log: Callable[..., None], event: str, error: Exception, **facts: Any
) -> None:
    """Log a failure: one of the disk or the database in a few words, one of our code whole.

    One of the database that lasts is logged seldom: each request that fails for it has a line.
    """
    if not is_fault(error):
        is_known = isinstance(error, TransactionLostError)
        log(event, error=words_of(error), exc_info=None if is_known else error, **facts)
        return
    reason = reason_of(error)
    if seldom.is_due(f"{event}: {reason}"):
        runbook = runbook_of_record(reason)
        log(event, error=words_of(error), reason=reason, runbook=runbook, **facts)


def unavailable(error: Exception) -> RecordUnavailableError:
    """Say what the caller of a write can know of a fault of the database."""
    reason = reason_of(error)
    return RecordUnavailableError(f"{reason}; nothing was stored. Try again.", reason=reason)


def lost(reason: str | None) -> RecordUnavailableError:
    """Say what the caller of a write can know if its files are no longer those of the record."""
    message = f"{reason}; it is not known whether this was stored. Try again."
    return RecordUnavailableError(message, reason=reason)


def reason_of(error: object) -> str:
    """Return why the record is unavailable, as we say it."""
    known: str | None = getattr(error, "reason", None)
    text = str(getattr(error, "orig", None) or error)
    return known or next((why for words, why in _REASONS.items() if words in text), NOT_WRITTEN)


def told_of(seldom: Seldom, error: Exception) -> RecordUnavailableError:
    """Log a fault of the database that a write met, and say what its caller can know."""
    log_failure(seldom, _log.error, "write failed", error)
    return unavailable(error)
