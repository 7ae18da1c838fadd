"""Measurements of jobs."""

import time
from itertools import chain
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import QueryParams

from squash_api.index.jobs import post_measurement
from squash_api.index.reader import Reader
from squash_api.ingest.stored_job import document_of, load_job
from squash_api.record.jobs import added_measurements, jobs_between, last_job_id
from squash_api.routes.dependencies import (
    MAX_PAGE,
    AccountDep,
    JsonObjectDep,
    Page,
    SiteDep,
    body_of,
    is_count,
    missing_key,
    next_link,
    object_schema,
    wrong_cursor,
    wrong_value,
)
from squash_api.routes.jobs import JobIdDep, measurement_objects
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.schema import answers
from squash_api.site import Site
from squash_api.trends.formats.answer import answer_chunks
from squash_api.trends.formats.json import value_object
from squash_api.trends.parameters import FORMATS, MOST_JSON, openapi_parameters
from squash_api.trends.question import cursor_text, read_question
from squash_api.trends.series import Series

router = APIRouter(tags=["measurements"], route_class=KnownParametersRoute)

_PAGE_BYTES = 32_000_000
_FILES: dict[int | str, dict[str, Any]] = {
    200: {"content": {row.media_type.partition(";")[0]: {} for row in FORMATS.values()}}
}

_TYPES: dict[str, tuple[Any, str]] = {
    "metric": (str, "must be text"),
    "value": (int | float | None, "must be a number or null"),
    "unit": (str | None, "must be text or null"),
    "identifier": (str | None, "must be text or null"),
}


@router.get(
    "/measurements",
    responses={**errors_of(422, 501), **_FILES},
    openapi_extra={"parameters": openapi_parameters("measurements")},
)
def get_measurements(request: Request, site: SiteDep) -> Response:
    """Find measurements, sorted by time, as JSON, CSV or Parquet.

    Every tag is a parameter too, and so is `meta.<key>` for other metadata. A parameter that is
    given several times matches any of its values. With no parameter except `limit` and `after`, all
    measurements are listed in the order of arrival, in the metrics' units; absent ones are null.
    """
    asked = request.query_params.multi_items()
    if {name for name, _ in asked} <= {"limit", "after"}:
        return _all_measurements(request, site)
    question = read_question(asked, schema=site.metrics.schema, now_ns=time.time_ns())
    series = Series(site.reader, question)
    if question.format == "json" and question.points is None:
        found, cursor = series.page(after=question.after, limit=question.limit or MOST_JSON)
        shown = [value_object(value, fields=question.fields) for value in found]
        link = None if cursor is None else next_link(request, after=cursor_text(cursor))
        return json_reply({"measurements": shown, "next": link})
    chunks = answer_chunks(series, question, schema=site.metrics.schema)
    # A failure at the start is still answered as one; later the answer could only break off.
    first = next(chunks)
    return StreamingResponse(
        chain([first], chunks),
        media_type=FORMATS[question.format].media_type,
        headers={"Content-Disposition": f'attachment; filename="measurements.{question.format}"'}
        if question.format != "json"
        else None,
    )


def _all_measurements(request: Request, site: Site) -> Response:
    page = _page(request.query_params)
    site.metrics.refresh()
    found, cursor = list_measurements(site.reader, after=_cursor(page), limit=page.limit)
    link = None if cursor is None else next_link(request, after=f"{cursor[0]}.{cursor[1]}")
    return json_reply({"measurements": found, "next": link})


@router.get("/measurement/{job_id}", responses=errors_of(404))
def get_measurement(job_id: JobIdDep, site: SiteDep) -> Response:
    """List the measurements of one job."""
    with site.reader.view() as view:
        row, job = view.ask(load_job, job_id)
    site.metrics.refresh()
    found = list(measurement_objects(row, job, metrics=site.metrics))
    return json_reply({"measurements": found})


@router.post(
    "/measurement/{job_id}",
    status_code=201,
    responses=errors_of(400, 401, 403, 404, 413, 415, 422, 429),
    openapi_extra=body_of(
        object_schema(
            {
                "metric": {"type": "string"},
                "value": {"type": ["number", "null"]},
                "unit": {"type": ["string", "null"]},
                "identifier": {"type": ["string", "null"]},
            },
            "metric",
            "value",
            "unit",
        ),
        {"metric": "camera.AvgCameraBodySurfaceTemp", "value": 12.75, "unit": "deg_C"},
    ),
)
def post_measurement_(
    job_id: JobIdDep, site: SiteDep, account: AccountDep, document: JsonObjectDep
) -> Response:
    """Add a measurement to a job. It is delivered like the others.

    `metric`, `value` and `unit` are required, `identifier` is optional. Only the job's owner and
    admins may do this.
    """
    _check_types(document)
    row, job = post_measurement(
        site.record,
        site.metrics,
        job_id=job_id,
        document=document,
        account=account,
        limits=site.limits,
    )
    # Whoever asks next must find it.
    site.reader.catch_up_with(job_id)
    site.wake()
    (shown,) = measurement_objects(row, job, metrics=site.metrics)
    return json_reply(shown, status_code=201)


def list_measurements(
    reader: Reader, *, after: tuple[int, int], limit: int
) -> tuple[list[answers.StoredMeasurement], tuple[int, int] | None]:
    """List measurements of all jobs in order of arrival, and the cursor of the next page.

    A cursor is the id of a job, and how many of its measurements earlier pages had.
    """
    found: list[answers.StoredMeasurement] = []
    last, seen = after[0] - 1, after[1]
    while True:
        with reader.view() as view:
            through = view.ask(last_job_id)
            rows = view.ask(
                jobs_between, after=last, through=through, max_bytes=_PAGE_BYTES, limit=50
            )
            added = view.ask(added_measurements, [row.job_id for row in rows])
        if not rows:
            return found, None
        for row in rows:
            last = row.job_id
            if row.body is None:
                continue
            job = document_of(row, added.get(row.job_id, []))
            shown = list(measurement_objects(row, job, metrics=reader.metrics))
            start = seen if row.job_id == after[0] else 0
            room = limit - len(found)
            found.extend(shown[start : start + room])
            if len(shown) > start + room:
                return found, (row.job_id, start + room)
            if len(found) == limit:
                return found, (row.job_id + 1, 0)


def _check_types(document: dict[str, Any]) -> None:
    for key in ("metric", "value", "unit"):
        if key not in document:
            raise missing_key(key)
    for key, (kinds, must) in _TYPES.items():
        value = document.get(key)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise wrong_value(key, must, "type_error")


def _page(asked: QueryParams) -> Page:
    limit = asked.get("limit", "100")
    if not is_count(limit) or not 1 <= int(limit) <= MAX_PAGE:
        must = f"must be a whole number, 1 to {MAX_PAGE}"
        raise wrong_value("limit", must, "int_parsing", place="query")
    return Page(int(limit), asked.get("after"))


def _cursor(page: Page) -> tuple[int, int]:
    job_id, _, seen = (page.after or "0.0").partition(".")
    if not (is_count(job_id) and is_count(seen)):
        raise wrong_cursor("must be a job id and a count", "cursor")
    return int(job_id), int(seen)
