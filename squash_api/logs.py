"""Structured logs: one JSON object per line on standard error; on a terminal, lines for people.

Every line has the process that wrote it, every line of a request its id as `request`, every line
about a job its id as `job`, or among `jobs`.

Nothing of a request's body, and no secret, belongs there. So an exception is logged as its type,
where it was raised and in which lines of code, and with its message only if that cannot contain
values: Python, SQLAlchemy and pydantic put what they could not read into theirs.
"""

import json
import linecache
import logging
import re
import sqlite3
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from types import TracebackType
from typing import Any

import orjson
import structlog

from squash_api.errors import RecordUnavailableError, SettingsError

# An API key, of which the public part stays, and a JSON Web Token.
_CREDENTIALS = re.compile(r"(sq_[0-9a-f]{12}_)[0-9a-zA-Z]+|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
# Their messages are about the code or the machine, or are ours and name no input.
_SAFE = (
    AttributeError,
    ImportError,
    IndexError,
    MemoryError,
    NameError,
    NotImplementedError,
    RecordUnavailableError,
    RecursionError,
    SettingsError,
    ZeroDivisionError,
    sqlite3.Error,
)
# Of a driver that is not always installed: about connections, locks and disks.
_SAFE_BY_NAME = {"psycopg.OperationalError"}
_MOST_LETTERS = 500
# Of exceptions that others caused.
_MOST_CAUSES = 10
_Event = MutableMapping[str, Any]
# Of the whole process, as logging is: what every line has, and whether jobs are logged one by one.
_always: dict[str, str] = {}
_logs_jobs = threading.Event()
# Of libraries. What psycopg warns of is raised too, and logged with its reason.
_LEVELS = {"uvicorn": logging.INFO, "uvicorn.error": logging.INFO, "psycopg": logging.ERROR}
# What lasts is logged again so often.
_SELDOM_S = 60.0
# What every line has is not repeated on a terminal, and what stands at its front.
_AT_FRONT = ("timestamp", "level", "event", "exception", "process", "instance")


def words_of(error: BaseException) -> str:
    """Say what an exception is, without anything that somebody has sent.

    A failure of the database is that of its driver, such as `disk I/O error`; the file of an
    `OSError` is left out.
    """
    cause = getattr(error, "orig", None)
    if isinstance(cause, BaseException):
        return words_of(cause)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
    if isinstance(error, OSError):
        message = error.strerror or ""
    else:
        message = str(error).partition("\n")[0] if _is_safe(error) else ""
    return f"{name}: {message[:_MOST_LETTERS]}" if message else name


def _is_safe(error: BaseException) -> bool:
    return isinstance(error, _SAFE) or any(
        _full_name(kind) in _SAFE_BY_NAME for kind in type(error).__mro__
    )


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def describe(error: BaseException) -> str:
    """Describe an exception like Python does, with its causes, but in the words of `words_of`."""
    return "".join(_described(error, set())).rstrip("\n")


def _described(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause, link = error.__cause__, "was the direct cause of"
    if cause is None and not error.__suppress_context__:
        cause, link = error.__context__, "came up before"
    if cause is not None and id(cause) not in seen and len(seen) < _MOST_CAUSES:
        yield from _described(cause, seen)
        yield f"\nThe exception above {link} this one:\n\n"
    yield "Traceback (most recent call last):\n"
    for frame in traceback.extract_tb(error.__traceback__):
        line = linecache.getline(frame.filename, frame.lineno or 0).strip()
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}\n'
        if line:
            yield f"    {line}\n"
    yield f"{words_of(error)}\n"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions[:_MOST_CAUSES]:
            yield "Of this group:\n"
            yield from _described(each, seen)


def configure_logs(process: str = "") -> None:
    """Write lines from structlog, from libraries, and for what nobody has caught.

    They are of JSON, unless standard error is a terminal. Each has the name of the `process`, if it
    is given.
    """
    _always.clear()
    if process:
        _always["process"] = process
    to_text = _for_people if sys.stderr.isatty() else _to_text
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _with_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*processors, _with_exception, lambda *found: to_text(found[-1]).encode()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_first_line_only)
    handler.addFilter(_lost_connection_in_a_line)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _with_exception,
                lambda *found: to_text(found[-1]),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name, level in _LEVELS.items():
        logging.getLogger(name).handlers = []
        logging.getLogger(name).setLevel(level)
    threading.excepthook = _log_uncaught
    sys.unraisablehook = _log_uncaught
    warnings.showwarning = _log_warning


def follow_settings(*, instance: str | None, logs_jobs: bool) -> None:
    """Name the instance in every line from now on, and log jobs one by one or not."""
    if instance:
        _always["instance"] = instance
    (_logs_jobs.set if logs_jobs else _logs_jobs.clear)()


logs_jobs: Callable[[], bool] = _logs_jobs.is_set
"""Tell whether what becomes of each job is logged."""


def note_jobs(log: Any, event: str, jobs: Iterable[int], **facts: Any) -> None:
    """Log what has become of some jobs, by their ids in order, if that is wanted."""
    if logs_jobs():
        found = sorted(set(jobs))
        if found:
            log.info(event, jobs=found, **facts)


class Seldom:
    """Tells when to log what lasts: the first time, and then once a minute until it is over."""

    def __init__(self) -> None:
        self._logged_s: dict[str, float] = {}

    def is_due(self, what: str) -> bool:
        """Tell whether this is to be logged now, and count it as logged."""
        now_s = time.monotonic()
        if now_s - self._logged_s.get(what, float("-inf")) < _SELDOM_S:
            return False
        self._logged_s[what] = now_s
        return True

    def over(self) -> None:
        """Begin anew: nothing of what was logged lasts."""
        if self._logged_s:
            self._logged_s.clear()


def _with_process(_logger: object, _method: str, event: _Event) -> _Event:
    """Put into the event what every line has."""
    event.update(_always)
    return event


def _with_exception(_logger: object, _method: str, event: _Event) -> _Event:
    """Put the description of an exception into the event, instead of the exception."""
    found = event.pop("exc_info", None)
    error = sys.exc_info()[1] if found is True else found
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event


def _first_line_only(record: logging.LogRecord) -> bool:
    """Keep only the first line of what libraries log: asyncio shows exceptions in the others."""
    record.msg, record.args = record.getMessage().partition("\n")[0][:_MOST_LETTERS], None
    return True


def _lost_connection_in_a_line(record: logging.LogRecord) -> bool:
    """Say in words what SQLAlchemy's pool shows as a traceback: the database ended a connection."""
    error = (record.exc_info or (None, None))[1]
    if error is not None and record.name.startswith("sqlalchemy.pool"):
        record.msg, record.exc_info = f"a connection to the database: {words_of(error)}", None
    return True


def _log_uncaught(found: Any) -> None:
    """Log an exception that has ended a thread, or that Python could not raise anywhere."""
    error: BaseException | None = found.exc_value
    trace: TracebackType | None = found.exc_traceback
    if error is not None:
        structlog.get_logger(__name__).error(
            "uncaught exception", exc_info=error.with_traceback(trace)
        )


def _log_warning(  # noqa: PLR0917  as Python calls it
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """Log where a warning comes from; astropy's contain the units that it cannot read."""
    del message, file, line
    structlog.get_logger(__name__).warning(
        "a warning of Python", category=category.__name__, place=f"{filename}:{lineno}"
    )


def without_credentials(text: str) -> str:
    """Hide keys and tokens in a text, such as a path into which somebody has pasted one."""
    # Looking for both is much faster than the expression.
    if "sq_" not in text and "eyJ" not in text:
        return text
    return _CREDENTIALS.sub(lambda found: f"{found[1] or 'eyJ'}...", text)


def _for_people(event: _Event) -> str:
    """Write time, level, event and the rest as `key=value`, then an exception on its own lines."""
    rest = {key: value for key, value in event.items() if key not in _AT_FRONT}
    words = " ".join(f"{key}={_to_text(value)}" for key, value in rest.items())
    # As JSON, but for the quotes: no letter may control the terminal.
    said = _to_text(event.get("event", ""))[1:-1]
    line = f"{event.get('timestamp', '')[11:19]} {event.get('level', ''):<8} {said} {words}"
    shown = (_to_text(part)[1:-1] for part in event.get("exception", "").splitlines())
    return "\n".join([line.rstrip(), *shown])


def _to_text(event: Any) -> str:
    try:
        text = orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:
        # A lone surrogate, or a number beyond 64 bits: logging must never fail.
        text = json.dumps(event, default=repr, skipkeys=True)
    return without_credentials(text)
