"""JSON replies, written by orjson: values go out as the shortest text that reads back the same.

The one body of all failures, as the OpenAPI document describes it.
"""

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel, Field


def json_reply(content: Any, *, status_code: int = 200) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(content), status_code=status_code, media_type="application/json")


class ErrorDetail(BaseModel):
    """One place in the input and what is wrong there."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorBody(BaseModel):
    """Every failure, whatever its status. A 401 also has `error` and `description`."""

    message: str = Field(description="A sentence for people.")
    code: str = Field(description="A stable word for programs.")
    status_code: int
    detail: list[ErrorDetail]
    error: str | None = None
    description: str | None = None


def errors_of(*status_codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for these statuses."""
    return {status_code: {"model": ErrorBody} for status_code in status_codes}


def date_text(time_ns: int) -> str:
    """Return a time as clients of the original read it: seconds, in UTC."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
