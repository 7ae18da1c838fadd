"""Structured logs: one JSON object per line on standard error.

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
import traceback
import warnings
from collections.abc import Iterator, MutableMapping
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
_MOST_LETTERS = 500
# Of exceptions that others caused.
_MOST_CAUSES = 10
_Event = MutableMapping[str, Any]


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
        message = str(error).partition("\n")[0] if isinstance(error, _SAFE) else ""
    return f"{name}: {message[:_MOST_LETTERS]}" if message else name


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


def configure_logs() -> None:
    """Write JSON lines from structlog, from libraries, and for what nobody has caught."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *processors,
            _with_exception,
            structlog.processors.JSONRenderer(serializer=_to_bytes),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_first_line_only)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _with_exception,
                structlog.processors.JSONRenderer(serializer=_to_text),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).setLevel(logging.INFO)
    threading.excepthook = _log_uncaught
    sys.unraisablehook = _log_uncaught
    warnings.showwarning = _log_warning


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
    return _CREDENTIALS.sub(lambda found: f"{found[1] or 'eyJ'}...", text)


def _to_bytes(event: Any, **options: Any) -> bytes:
    return _to_text(event, **options).encode()


def _to_text(event: Any, **_options: Any) -> str:
    try:
        text = orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:
        # A lone surrogate, or a number beyond 64 bits: logging must never fail.
        text = json.dumps(event, default=repr, skipkeys=True)
    return without_credentials(text)
