"""Structured logs: one JSON object per line on standard error."""

import json
import logging
import re
import sys
from typing import Any

import orjson
import structlog

# An API key, of which the public part stays, and a JSON Web Token.
_CREDENTIALS = re.compile(r"(sq_[0-9a-f]{12}_)[0-9a-zA-Z]+|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")


def configure_logs() -> None:
    """Write JSON lines from structlog, and from libraries that use the standard module."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *processors,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_bytes),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
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
