"""Notebooks that ran by themselves: the list of their runs, and what each left.

Their pages come from whoever may post jobs. They are shown where no script runs, and never with the
rights of our own pages.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query, Request, Response

from squash_api.errors import NotFoundError
from squash_api.index.reader import View
from squash_api.index.values import LastValue
from squash_api.ingest.stored_job import load_job
from squash_api.judging.wording import date_text
from squash_api.routes.blobs import file_name
from squash_api.routes.dependencies import (
    Page,
    PageDep,
    SiteDep,
    id_cursor,
    next_link,
    wrong_value,
)
from squash_api.routes.jobs import JobIdDep
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.routes.runs import run_path
from squash_api.schema import answers
from squash_api.schema.names import META_PREFIX, RUN_ID, TEXT_SUFFIX, Context
from squash_api.schema.notebooks import (
    BLOB,
    CELLS,
    DURATION,
    FAILED_CELLS,
    FILE,
    NAME_KEY,
    PAGE,
    RUN_KEY,
    pipeline_of,
    read_run_text,
)
from squash_api.schema.text import SentNumber, tag_text
from squash_api.site import Site
from squash_api.standings.job_states import JobState

router = APIRouter(tags=["notebooks"], route_class=KnownParametersRoute)

# No script, no form, no request to anywhere; links open beside it.
_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; font-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
# A list goes back at most this many runs before it returns where to go on.
_MOST_LOOKED_AT = 5000
_WINDOW = 500
# JSON is written with integers up to 64 bits, and a float has none beyond this.
_LARGEST = 2**53

Result = Literal["failed", "finished"]

RESULTS: tuple[Result, ...] = get_args(Result)
"""Whether a cell failed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which runs are wanted; None and nothing mean any. `parameters` are texts by name."""

    template: str | None = None
    version_tag: str | None = None
    run: str | None = None
    result: str | None = None
    parameters: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class NotebookRun:
    """A run of a notebook; `time_ns` is when it ended. None is what its job does not say."""

    job_id: int
    time_ns: int
    template: str
    pipeline: str | None
    run_id: str | None
    version_tag: str | None
    parameters: Mapping[str, Any]
    is_failed: bool
    problem: str | None
    cells: int | None
    duration_s: float | None
    state: JobState

    @property
    def shown_parameters(self) -> list[tuple[str, str]]:
        """Its parameters that have a value, but for the release, as texts to filter a list by."""
        return [
            (name, parameter_text(value))
            for name, value in self.parameters.items()
            if value not in (self.version_tag, None, "")
        ]


@dataclass(frozen=True, slots=True)
class NotebookList:
    """Some runs, the newest first; `after` is where the next ones begin, None if there are none."""

    runs: Sequence[NotebookRun]
    after: int | None


@router.get("/notebooks", responses=errors_of(422))
def get_notebooks(
    request: Request,
    site: SiteDep,
    *,
    page: PageDep,
    template: Annotated[
        str | None, Query(max_length=1000, description="Only runs of this template.")
    ] = None,
    version_tag: Annotated[
        str | None, Query(max_length=1000, description="Only runs about this release.")
    ] = None,
    run: Annotated[str | None, Query(max_length=1000, description="Only of this run.")] = None,
    result: Annotated[
        Result | None, Query(description="Only runs in which a cell `failed`, or none did.")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        Query(description="Only runs with this parameter, `name=value`; may be repeated."),
    ] = None,
) -> Response:
    """List runs of notebooks, the newest first.

    A page may have fewer runs than `limit` even if `next` is not null.
    """
    asked = Asked(template, version_tag, run, result, read_filters(parameter or ()))
    found = list_notebooks(site, asked, page)
    link = None if found.after is None else next_link(request, after=found.after)
    shown = [notebook_object(item, site.settings.url) for item in found.runs]
    return json_reply({"notebooks": shown, "next": link})


@router.get("/notebook/{job_id}", responses=errors_of(404, 422))
def get_notebook(job_id: JobIdDep, site: SiteDep) -> Response:
    """Return a run of a notebook, by its job."""
    return json_reply(notebook_object(read_notebook(site, job_id), site.settings.url))


@router.get(
    "/notebook/{job_id}/html",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}}, **errors_of(404, 422)},
)
def get_notebook_html(job_id: JobIdDep, site: SiteDep) -> Response:
    """Return the notebook as a page, as far as it ran. Nothing in it runs as a script."""
    text = _kept(site, job_id, PAGE)
    return Response(
        text,
        media_type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": _POLICY},
    )


@router.get(
    "/notebook/{job_id}/ipynb",
    response_class=Response,
    responses={
        200: {"content": {"application/x-ipynb+json": {"schema": {"type": "object"}}}},
        **errors_of(404, 422),
    },
)
def get_notebook_ipynb(job_id: JobIdDep, site: SiteDep) -> Response:
    """Return the executed notebook as a file."""
    text = _kept(site, job_id, FILE)
    name = file_name(read_notebook(site, job_id).template)
    disposition = f'attachment; filename="{name}-{job_id}.ipynb"'
    return Response(
        text,
        media_type="application/x-ipynb+json",
        headers={"Content-Disposition": disposition},
    )


def list_notebooks(site: Site, asked: Asked, page: Page) -> NotebookList:
    """List runs of notebooks, those that were received last first."""
    site.reader.catch_up()
    before = id_cursor(page) or None
    found: list[NotebookRun] = []
    with site.reader.view() as view:
        known = view.metrics.by_name.get(FAILED_CELLS)
        tag_sets: Collection[int] | None = None
        if asked.template is not None:
            pipeline = tag_text(pipeline_of(asked.template)) or ""
            tag_sets = view.contexts.tag_sets_where({"pipeline": {pipeline}})
        if known is None or tag_sets == {}:
            return NotebookList([], None)
        for _ in range(_MOST_LOOKED_AT // _WINDOW):
            rows = view.values.last(
                known.metric_id, tag_sets=tag_sets, limit=_WINDOW, before=before
            )
            runs = (item for item in _runs_of(view, rows) if _suits(item, asked))
            found += islice(runs, page.limit + 1 - len(found))
            before = rows[-1].job_id if len(rows) == _WINDOW else None
            if before is None or len(found) > page.limit:
                break
    after = before
    if len(found) > page.limit:
        after = found[page.limit - 1].job_id
    return NotebookList(_judged(site, found[: page.limit]), after)


def read_notebook(site: Site, job_id: int) -> NotebookRun:
    """Return the run that a job is of.

    Raises
    ------
    NotFoundError
        If there is no such job, or it is of no notebook.
    """
    site.reader.catch_up()
    with site.reader.view() as view:
        known = view.metrics.by_name.get(FAILED_CELLS)
        values = {} if known is None else view.values.of_metric(known.metric_id, [job_id])
        rows = [LastValue(job_id, value, 0, 0) for value in values.values()]
        found = list(_runs_of(view, rows))
    if not found:
        raise NotFoundError(f"Job {job_id} is no run of a notebook.")
    return _judged(site, found)[0]


def read_filters(texts: Iterable[str]) -> dict[str, str]:
    """Read filters on parameters, each `name=value`.

    Raises
    ------
    InvalidInputError
        If one is not of this form.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise wrong_value("parameter", "must be name=value", "value_error", place="query")
        found[name] = value
    return found


def parameter_text(value: Any) -> str:
    """Write the value of a parameter as it is given on the command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Notebook(answers.JudgedState):
    """A run of a notebook, and how it stands; null is what its job does not say."""

    job: int
    """The id of its job."""
    url: str
    """URL of the run."""
    html: str
    """URL of the notebook as a page."""
    ipynb: str
    """URL of the executed notebook as a file."""
    template: str
    """The notebook that was run."""
    parameters: dict[str, Any]
    """The parameters that it was run with, by name."""
    version_tag: str | None
    """The release that it is about."""
    run_id: str | None
    """The run that it is about."""
    run: str | None
    """URL of the run that it is part of."""
    date: str
    """When it ended."""
    result: Result
    """Whether a cell failed."""
    problem: str | None
    """What went wrong."""
    cells: int | None
    """Number of cells that ran."""
    duration_s: float | None
    """How long it ran, in seconds."""


def notebook_object(item: NotebookRun, url: str) -> Notebook:
    """Return a run as the API shows it."""
    address = f"{url}/notebook/{item.job_id}"
    return {
        "job": item.job_id,
        "url": address,
        "html": f"{address}/html",
        "ipynb": f"{address}/ipynb",
        "template": item.template,
        "parameters": _as_json(item.parameters),
        "version_tag": item.version_tag,
        "run_id": item.run_id,
        "run": None if item.run_id is None else f"{url}{run_path(item.pipeline, item.run_id)}",
        "date": date_text(item.time_ns),
        "result": result_of(item),
        "problem": item.problem,
        "cells": item.cells,
        "duration_s": item.duration_s,
        **item.state.to_json(),
    }


def result_of(item: NotebookRun) -> Result:
    """Return which of `RESULTS` a run has."""
    return RESULTS[0] if item.is_failed else RESULTS[1]


def _as_json(value: Any) -> Any:
    """Return a parameter as JSON can be written of it: whole numbers have any length."""
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return SentNumber(str(value)) if isinstance(value, int) and abs(value) > _LARGEST else value


def _runs_of(view: View, rows: Sequence[LastValue]) -> Iterator[NotebookRun]:
    """Yield the runs of jobs, in their order."""
    ids = [row.job_id for row in rows]
    contexts = view.contexts.of(ids)
    numbers = [
        {} if known is None else view.values.of_metric(known.metric_id, ids)
        for known in (view.metrics.by_name.get(name) for name in (CELLS, DURATION))
    ]
    for row in rows:
        if (job := contexts.get(row.job_id)) is None:
            continue
        context = job.context
        said = read_run_text(_text(context, RUN_KEY))
        cells, duration_s = (found.get(row.job_id) for found in numbers)
        yield NotebookRun(
            job_id=row.job_id,
            time_ns=job.time_ns,
            template=said["template"] or _text(context, NAME_KEY) or "notebook",
            pipeline=context.tags.get("pipeline"),
            run_id=_own(context, RUN_ID),
            version_tag=_own(context, "version_tag"),
            parameters=said["parameters"],
            is_failed=row.value != 0,
            problem=said["problem"],
            cells=None if cells is None or abs(cells) > _LARGEST else int(cells),
            duration_s=duration_s,
            state=JobState(),
        )


def _judged(site: Site, runs: Sequence[NotebookRun]) -> list[NotebookRun]:
    states = site.states.of({item.job_id for item in runs})
    return [replace(item, state=states.get(item.job_id, item.state)) for item in runs]


def _suits(item: NotebookRun, asked: Asked) -> bool:
    return (
        asked.version_tag in (None, item.version_tag)
        and asked.run in (None, item.run_id)
        and asked.result in (None, result_of(item))
        and all(
            name in item.parameters and parameter_text(item.parameters[name]) == text
            for name, text in (asked.parameters or {}).items()
        )
    )


def _text(context: Context, key: str) -> str | None:
    found = context.fields.get(f"{META_PREFIX}{key}{TEXT_SUFFIX}")
    return found if isinstance(found, str) else None


def _own(context: Context, name: str) -> str | None:
    found = context.fields.get(name)
    return found if isinstance(found, str) else None


def _kept(site: Site, job_id: int, key: str) -> str:
    """Return what a job has kept of its notebook.

    Raises
    ------
    NotFoundError
        If there is no such job, or it has not kept this.
    """
    with site.reader.view() as view:
        _, job = view.ask(load_job, job_id)
    for blob in job.blobs:
        data = blob.get("data")
        if blob.get("name") == BLOB and isinstance(data, dict):
            found = data.get(key)
            text = found.get("value") if isinstance(found, dict) else found
            if isinstance(text, str):
                return text
    raise NotFoundError(f"Job {job_id} has kept no notebook.")
