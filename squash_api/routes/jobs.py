"""Jobs: posting and reading them, their blobs, verdicts and delivery, and events of new jobs."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from math import inf
from typing import Annotated, Any, Literal, cast

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from squash_api.accounts.accounts import Account
from squash_api.errors import NotFoundError, UnauthorizedError, help_link
from squash_api.index.deriver import dataset_of
from squash_api.index.jobs import delete_job
from squash_api.ingest.assessment import Assessment, assess
from squash_api.ingest.document import Job, Measured
from squash_api.ingest.ingest import SMALL_BYTES, Ingested, Outcome
from squash_api.ingest.reducing import Reduced, with_reduced
from squash_api.ingest.stored_job import MAX_ID, load_job
from squash_api.judging.wording import date_text
from squash_api.record.deliveries import JobDelivery, job_deliveries
from squash_api.record.jobs import JobEvent, JobRow, Received, job_ids
from squash_api.record.metrics import Metrics
from squash_api.routes.admission import network_of
from squash_api.routes.dependencies import (
    AccountDep,
    PageDep,
    SiteDep,
    body_of,
    id_cursor,
    is_count,
    next_link,
    object_schema,
    paged_reply,
    read_body,
)
from squash_api.routes.parameters import KnownParametersRoute, read_flag
from squash_api.routes.replies import FORM, JOB_ID, USER, errors_of, first_of, json_reply
from squash_api.routes.scopes import require_scope
from squash_api.schema import answers
from squash_api.schema.artifacts import artifacts_of
from squash_api.schema.names import Cleaning
from squash_api.schema.text import MAX_TEXT_BYTES
from squash_api.settings import InfluxTarget
from squash_api.site import Site
from squash_api.standings.job_states import job_report
from squash_api.wires import simple_job

router = APIRouter(tags=["jobs"], route_class=KnownParametersRoute)
status_router = APIRouter(tags=["jobs"], route_class=KnownParametersRoute)
events_router = APIRouter(tags=["events"], route_class=KnownParametersRoute)

_JOB_DOCUMENTATION = {
    "parameters": [
        {
            "name": "strict",
            "in": "query",
            "required": False,
            "schema": {"type": "boolean", "default": False},
            "description": "Refuse the job if any value would be skipped.",
        }
    ],
    **body_of(
        object_schema(
            {
                "measurements": {
                    "type": ["array", "null"],
                    "items": object_schema(
                        {
                            "metric": {"type": "string"},
                            "value": {"type": ["number", "string", "boolean", "null"]},
                            "unit": {"type": ["string", "null"]},
                            "identifier": {"type": ["string", "null"]},
                        },
                        "metric",
                    ),
                    "description": "Each with `metric`, `value` and `unit`.",
                },
                "blobs": {
                    "type": ["array", "null"],
                    "items": {"type": "object"},
                    "description": "Each with `identifier`, `name` and `data`.",
                },
                "meta": {
                    "type": ["object", "null"],
                    "description": "Anything; `env` and `packages` have a meaning of their own.",
                },
            }
        ),
        {
            "measurements": [
                {"metric": "camera.AvgCameraBodySurfaceTemp", "value": 12.5, "unit": "deg_C"}
            ],
            "blobs": [],
            "meta": {"instrument": "LSSTCam", "filter_name": "r", "visit": 903334},
        },
        form=object_schema(
            {
                "name": {"type": "string", "description": "The pipeline or CI job."},
                "build": {"type": "string"},
                "runtime": {"type": "string", "format": "date-time"},
                "url": {"type": "string"},
                "status": {"type": "string", "description": "0 for success."},
                "measurements": {
                    "type": "string",
                    "description": "A list of objects with `metric` and `value`, as JSON.",
                },
            },
            "name",
        ),
        form_example={
            "name": "nightly",
            "build": "42",
            "url": "https://ci.example.org/nightly/42",
            "status": "0",
            "measurements": '[{"metric": "PA1", "value": 9.5}]',
        },
    ),
}


async def job_id_of(job_id: str) -> int:
    """Read a job's id from a URL; anything that cannot be one is not found."""
    if not job_id.isascii() or not job_id.isdigit() or len(job_id) > 19 or int(job_id) > MAX_ID:
        raise NotFoundError(f"There is no job {job_id[:40]}.")
    return int(job_id)


JobIdDep = Annotated[int, Depends(job_id_of)]


@router.post(
    "/job",
    status_code=202,
    responses={
        200: {
            "description": "The same job was received before.",
            "content": {"application/json": {"schema": {}}},
        },
        201: {
            "description": "A simple job was accepted.",
            "content": {"application/json": {"schema": {}}},
        },
        **errors_of(400, 401, 403, 413, 415, 422, 429),
    },
    openapi_extra=_JOB_DOCUMENTATION,
)
async def post_job(request: Request) -> Response:
    """Accept a job, as `lsst.verify`'s `Job.dispatch` sends it, or a simple job.

    A 202 means that the job is on disk and will reach every InfluxDB. The reply names the metrics
    whose values are `absent` (null, NaN or infinite) or `skipped` (with the reason), and those that
    are `undeclared` (their values are stored). Posting the same job again returns 200 and the id of
    the first.

    A simple job is a form; or JSON with `name`, `build`, `runtime`, `url` or `status`, and neither
    `meta` nor `blobs`, that is sent with HTTP Basic. It is answered in the same way, but by 201.
    """
    # Every dependency that FastAPI resolves costs as much here as a quarter of the job.
    site: Site = request.app.state.site
    address = (request.scope.get("client") or (None,))[0]
    authorization = request.headers.get("authorization")
    account = await site.accounts.claim(authorization, address=address)
    request.scope[USER] = account.name
    if account.key is not None:
        require_scope(request, account)
    is_strict = bool(request.scope["query_string"]) and read_flag(request, "strict")
    body = await read_body(request, max_bytes=site.settings.max_body_bytes, takes_form=True)
    is_basic = authorization is not None and authorization.lstrip()[:5].lower() == "basic"
    is_form = request.headers.get("content-type", "").lstrip()[: len(FORM)].lower() == FORM
    received = Received(body)
    if is_basic or is_form:
        received = await _simple(body, site.settings.default_package, is_form=is_form)
    ingested = await take_in(request, site, account, received, is_strict=is_strict)
    accepted = 202 if received.wire is None else 201
    content = receipt_of(site, ingested)
    return json_reply(content, status_code=200 if ingested.stored.is_repeat else accepted)


async def _simple(body: bytes, package: str, *, is_form: bool) -> Received:
    """Return what was received by Basic or in a form: a simple job, or one of lsst.verify."""
    address = simple_job.address_of(package)
    if is_form:
        return Received(body, simple_job.FORM_NAME, address)
    is_simple = (
        simple_job.is_simple(body)
        if len(body) <= SMALL_BYTES
        else await run_in_threadpool(simple_job.is_simple, body)
    )
    return Received(body, simple_job.NAME, address) if is_simple else Received(body)


async def take_in(
    request: Request, site: Site, account: Account, received: Received, *, is_strict: bool = False
) -> Ingested:
    """Store a job that a request has brought; raise as `ingest_job` does."""
    now_ns = site.record.now_ns()
    ingest = partial(site.ingest, received, received_ns=now_ns, is_strict=is_strict)
    try:
        ingested: Ingested = await ingest(account=account)
    except UnauthorizedError:
        # A key's owner may have changed in the second for which the key is remembered.
        ingested = await ingest(account=await _checked(site, account))
    site.wake()
    site.figures.count_job(ingested)
    request.scope[JOB_ID] = ingested.stored.job_id
    return ingested


def receipt_of(site: Site, ingested: Ingested) -> answers.Receipt:
    """Say what became of a job that was posted."""
    stored, outcome = ingested.stored, ingested.outcome
    notes = list(outcome.notes)
    if stored.same_measurements_as is not None:
        notes.insert(0, f"same measurements as job {stored.same_measurements_as}")
    if stored.is_repeat:
        notes.insert(0, "received before; nothing was stored again")
    # Old clients take the id from between the first two back-ticks.
    sentences = [f"Request for creating Job `{stored.job_id}` received", *notes]
    counts = {"absent": len(outcome.absent), "skipped": len(outcome.skipped)}
    left_out = [f"{count} {word}" for word, count in counts.items() if count]
    if left_out:
        sentences.append(f"left out: {', '.join(left_out)}")
    return {
        "message": "; ".join(sentences),
        "status": f"{site.settings.url}/status/{stored.job_id}",
        "id": stored.job_id,
        **(_left_out(outcome) if left_out or outcome.undeclared else _NOTHING_LEFT_OUT),
        "notes": notes,
    }


async def _checked(site: Site, account: Account) -> Account:
    return await run_in_threadpool(site.accounts.check_account, account)


_NOTHING_LEFT_OUT: answers.LeftOut = {"absent": [], "skipped": [], "undeclared": []}


def _left_out(
    outcome: Outcome | Assessment, cleanings: Sequence[Cleaning] | None = None
) -> answers.LeftOut:
    """Return what a reply says of a job's values, at most so many of each kind.

    With `cleanings` it says `cleaned` too.
    """
    lists: dict[str, Sequence[Any]] = {name: getattr(outcome, name) for name in _NOTHING_LEFT_OUT}
    found = first_of(lists if cleanings is None else {**lists, "cleaned": cleanings})
    # Names and keys that cannot be stored may have any length.
    found["absent"] = [name[:MAX_TEXT_BYTES] for name in found["absent"]]
    found["undeclared"] = [name[:MAX_TEXT_BYTES] for name in found["undeclared"]]
    found["skipped"] = [
        {"metric": item.metric[:MAX_TEXT_BYTES], "reason": item.reason} for item in found["skipped"]
    ]
    if cleanings is not None:
        found["cleaned"] = [
            {"key": item.key[:MAX_TEXT_BYTES], "reason": item.reason} for item in found["cleaned"]
        ]
    return cast("answers.LeftOut", found)


@router.get("/jobs", responses=errors_of(422))
def get_jobs(request: Request, site: SiteDep, page: PageDep) -> Response:
    """List the ids of all jobs, lowest first."""
    with site.reader.view() as view:
        ids = view.ask(job_ids, after=id_cursor(page), limit=page.limit + 1)
    return paged_reply(request, page, "ids", ids)


@router.get("/job/{job_id}", responses=errors_of(404))
def get_job(job_id: JobIdDep, site: SiteDep) -> Response:
    """Return a job: its measurements in the metrics' units, and its metadata."""
    with site.reader.view() as view:
        row, job = view.ask(load_job, job_id)
    site.metrics.refresh()
    return json_reply(job_object(row, job, metrics=site.metrics))


@router.delete("/job/{job_id}", responses=errors_of(401, 403, 404))
def delete_job_(job_id: JobIdDep, site: SiteDep, account: AccountDep) -> Response:
    """Delete a job, and its points from every InfluxDB. Only its owner and admins may do this."""
    # So that the index tells which metrics other jobs have.
    site.reader.catch_up()
    delete_job(site.record, job_id, account=account)
    site.metrics.refresh()
    site.wake()
    return json_reply({"message": f"Job {job_id} deleted."})


@router.get("/job/{job_id}/artifacts", responses=errors_of(404, 422))
def get_artifacts(request: Request, job_id: JobIdDep, site: SiteDep, page: PageDep) -> Response:
    """List a job's artifacts: the URLs in its metadata, in their order.

    Each has its `key`, `url`, `type` and `description`; the last two may be null. They are values
    that are URLs of http or https, and objects with one as their `url`.
    """
    with site.reader.view() as view:
        _, job = view.ask(load_job, job_id)
    artifacts = artifacts_of(job.meta)
    start = id_cursor(page)
    end = start + page.limit
    link = next_link(request, after=end) if end < len(artifacts) else None
    return json_reply({"artifacts": artifacts[start:end], "next": link})


@router.get("/job/{job_id}/report", responses=errors_of(404, 422))
def get_job_report(
    job_id: JobIdDep,
    site: SiteDep,
    specs: Annotated[
        Literal["receipt", "now"],
        Query(
            description="Judge by the specifications in force when the job arrived, or by today's."
        ),
    ] = "receipt",
) -> Response:
    """Judge a job: return a verdict for each specification that applies to it, sorted by name."""
    with site.reader.view() as view:
        row, job = view.ask(load_job, job_id)
    verdicts = job_report(
        row,
        job,
        definitions=site.definitions,
        metrics=site.metrics,
        is_now=specs == "now",
        evidence=site.evidence,
    )
    return json_reply([verdict.to_json() for verdict in verdicts])


def job_object(row: JobRow, job: Job, *, metrics: Metrics) -> answers.StoredJob:
    """Describe a job as the API shows it; dates are in UTC."""
    meta = {**job.meta, "packages": list(job.packages)}
    return {
        "id": row.job_id,
        "date_created": date_text(row.time_ns),
        "date_received": date_text(row.received_ns),
        "time_ns": row.time_ns,
        "ci_dataset": dataset_of(job, metrics.schema.context(job.meta)),
        "s3_uri": None,
        "measurements": list(measurement_objects(row, job, metrics=metrics)),
        "meta": meta,
    }


def measurement_objects(
    row: JobRow, job: Job, *, metrics: Metrics
) -> Iterator[answers.StoredMeasurement]:
    """Yield a job's measurements in the metric's unit; skipped ones as posted, with the reason.

    Those that metrics have from arrays come last.
    """
    known = metrics.now.by_name
    job = with_reduced(job, metrics.now.reductions)
    outcome = assess(job, metrics=known, schema=metrics.schema, user_id=row.user_id)
    skipped = {skip.metric: skip.reason for skip in outcome.skipped}
    names = {
        identifier: blob.get("name")
        for blob in job.blobs
        if isinstance(identifier := blob.get("identifier"), str)
    }
    latest = {item.metric: item for item in job.measurements}
    for metric, item in latest.items():
        shown: answers.StoredMeasurement = {
            "metric": metric,
            "value": outcome.values.get(metric),
            "unit": outcome.in_own_unit.get(metric, _unit_in_force(metric, item, metrics)),
            "identifier": item.identifier,
            "job": row.job_id,
            "blobs": [
                {"identifier": reference, "name": names[reference], "s3_uri": None}
                for reference in item.blob_refs or []
                if reference in names
            ],
        }
        if isinstance(item, Reduced) and metric in known:
            shown["reduced"] = known[metric].derivation.to_json().get("reduce")
        if metric in skipped and metric not in outcome.values:
            shown |= {"value": item.value, "unit": item.unit, "skipped": skipped[metric]}
        yield shown


def _unit_in_force(metric: str, item: Measured, metrics: Metrics) -> str | None:
    known = metrics.now.by_name.get(metric)
    return item.unit if known is None or known.unit is None else known.unit


# The words and numbers that clients of the original read.
_MESSAGES = {
    "SUCCESS": (204, "The job is in every InfluxDB."),
    "FAILURE": (400, "InfluxDB refused a part of the job"),
    "STARTED": (202, "The job is being sent to InfluxDB."),
    "PENDING": (202, "The job is stored and waits to be sent to InfluxDB."),
}


@status_router.get("/status/{job_id}", responses=errors_of(404))
def get_status(job_id: JobIdDep, site: SiteDep) -> Response:
    """Return whether a job has reached InfluxDB, and what was left out or cleaned.

    `status` is SUCCESS once every target has the job, or if there is no target or nothing to
    deliver. It is FAILURE if a target permanently refused a line; `message` is then the error of
    that target, and the header Link has the entry of the runbook. Otherwise it is PENDING, then
    STARTED.
    """
    with site.reader.view() as view:
        row, job = view.ask(load_job, job_id)
        names = [item.name for item in site.delivered_to if isinstance(item, InfluxTarget)]
        deliveries = view.ask(job_deliveries, row, targets=names)
    site.metrics.refresh()
    schema = site.metrics.schema
    known = site.metrics.now.by_name
    job = with_reduced(job, site.metrics.now.reductions)
    outcome = assess(job, metrics=known, schema=schema, user_id=row.user_id)
    cleanings = schema.context(job.meta).cleanings
    overall = _overall(deliveries)
    is_refused = overall["status"] == "FAILURE"
    return json_reply(
        {
            **overall,
            "targets": {item.target: item.state for item in deliveries},
            **_left_out(outcome, cleanings),
        },
        headers={"Link": help_link(site.settings.url, "quarantine")} if is_refused else None,
    )


def _overall(deliveries: list[JobDelivery]) -> dict[str, Any]:
    if not deliveries:
        return {
            "status": "SUCCESS",
            "message": "The job is stored; no InfluxDB is configured.",
            "status_code": 204,
        }
    states = {item.state for item in deliveries}
    state = states.pop() if len(states) == 1 else "FAILURE" if "FAILURE" in states else "STARTED"
    status_code, message = _MESSAGES[state]
    if state == "FAILURE":
        reasons = [f"{item.target}: {reason}" for item in deliveries for reason in item.reasons]
        message = f"{message}: {'; '.join(reasons)}"
    return {"status": state, "message": message, "status_code": status_code}


_EVENT_STREAM = "text/event-stream"
# A logout, or a key that is revoked, ends no connection by itself.
_MOST_S_FOR_USERS = 300.0


@events_router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {_EVENT_STREAM: {"schema": {"type": "string"}}}},
        **errors_of(422, 429),
    },
)
async def get_events(
    request: Request,
    site: SiteDep,
    after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="Start after the job with this id.")
    ] = None,
    since_s: Annotated[
        float,
        Query(ge=0, le=1e9, description="Without `after`: start with those of the last seconds."),
    ] = 0.0,
    last_event_id: Annotated[
        str | None, Header(description="The same, as browsers send it when they reconnect.")
    ] = None,
) -> StreamingResponse:
    """Send an event for each new job within a second, for as long as the connection is open.

    Each event is named `job`. Its id is the job's, and its data are
    `{"job": <id>, "metrics": <number of metrics measured>}`. A client that reconnects first gets
    the jobs that it missed, at most the newest 1000. A comment is sent every 15 seconds. With
    `SQUASH_READ=users` the stream ends after five minutes, and who reconnects is asked again who
    they are.
    """
    address = network_of(request.client.host if request.client else "")
    site.events.check_room(address)
    if last_event_id is not None and is_count(last_event_id):
        after = int(last_event_id)
    most_s = inf if site.settings.read == "open" else _MOST_S_FOR_USERS
    return StreamingResponse(
        _event_lines(
            site.events.listen(after=after, since_s=since_s, address=address),
            until=time.monotonic() + most_s,
        ),
        media_type=_EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _event_lines(
    found: AsyncGenerator[JobEvent | None], *, until: float
) -> AsyncIterator[bytes]:
    """Write events until a time of the monotonic clock, or soon after."""
    async with aclosing(found):
        async for item in found:
            if time.monotonic() > until:
                return
            if item is None:
                yield b": no news\n\n"
            else:
                data = orjson.dumps({"job": item.job_id, "metrics": item.metrics})
                yield b"id: %d\nevent: job\ndata: %b\n\n" % (item.job_id, data)
