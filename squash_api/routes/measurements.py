"""Measurements of jobs."""

from typing import Any

from fastapi import APIRouter, Request, Response

from squash_api.errors import Detail, InvalidInputError, MissingFieldError
from squash_api.jobs import list_measurements, measurement_objects, post_measurement
from squash_api.routes.dependencies import (
    AccountDep,
    JsonObjectDep,
    Page,
    PageDep,
    PartsDep,
    is_count,
    next_link,
)
from squash_api.routes.error_responses import errors_of
from squash_api.routes.jobs import JobIdDep
from squash_api.routes.json_reply import json_reply
from squash_api.stored_job import load_job

router = APIRouter(tags=["measurements"])

_TYPES: dict[str, tuple[Any, str]] = {
    "metric": (str, "must be text"),
    "value": (int | float | None, "must be a number or null"),
    "unit": (str | None, "must be text or null"),
    "identifier": (str | None, "must be text or null"),
}


@router.get("/measurements", responses=errors_of(422))
def get_measurements(request: Request, parts: PartsDep, page: PageDep) -> Response:
    """List measurements in order of arrival, in the metrics' units; absent ones are null."""
    parts.vocabulary.refresh()
    found, cursor = list_measurements(
        parts.record, parts.vocabulary, after=_cursor(page), limit=page.limit
    )
    link = None if cursor is None else next_link(request, parts, after=f"{cursor[0]}.{cursor[1]}")
    return json_reply({"measurements": found, "next": link})


@router.get("/measurement/{job_id}", responses=errors_of(404))
def get_measurement(job_id: JobIdDep, parts: PartsDep) -> Response:
    """List the measurements of one job."""
    with parts.record.read() as connection:
        _, job = load_job(connection, job_id)
    parts.vocabulary.refresh()
    found = list(measurement_objects(job_id, job, vocabulary=parts.vocabulary))
    return json_reply({"measurements": found})


@router.post(
    "/measurement/{job_id}",
    status_code=201,
    responses=errors_of(400, 401, 403, 404, 413, 415, 422),
)
def post_measurement_(
    job_id: JobIdDep, parts: PartsDep, account: AccountDep, document: JsonObjectDep
) -> Response:
    """Add a measurement to a job; it reaches InfluxDB like the others.

    `metric`, `value` and `unit` are required, `identifier` is not. For the job's owner and admins.
    """
    _check_types(document)
    shown = post_measurement(
        parts.record, parts.vocabulary, job_id=job_id, document=document, account=account
    )
    parts.background.wake()
    return json_reply(shown, status_code=201)


def _check_types(document: dict[str, Any]) -> None:
    for key in ("metric", "value", "unit"):
        if key not in document:
            raise MissingFieldError(
                f"The body needs `{key}`.", detail=[Detail(("body", key), "is missing", "missing")]
            )
    for key, (kinds, must) in _TYPES.items():
        value = document.get(key)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise InvalidInputError(
                f"`{key}` {must}.", detail=[Detail(("body", key), must, "type_error")]
            )


def _cursor(page: Page) -> tuple[int, int]:
    job_id, _, seen = (page.after or "0.0").partition(".")
    if not (is_count(job_id) and is_count(seen)):
        raise InvalidInputError(
            "The cursor `after` must be the one of a `next` link.",
            detail=[Detail(("query", "after"), "must be a job id and a count", "cursor")],
        )
    return int(job_id), int(seen)
