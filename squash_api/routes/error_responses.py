"""The one body of all failures, as the OpenAPI document describes it."""

from typing import Any

from pydantic import BaseModel, Field


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
