"""The pages of notebooks that ran by themselves: the list of their runs, and one of them.

What a run has left is shown in a frame of its own, without scripts and without our rights.
"""

from collections.abc import Mapping
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from squash_api.pages.metric import choices_of
from squash_api.pages.rendering import render
from squash_api.routes.dependencies import MAX_PAGE, Page
from squash_api.routes.jobs import job_id_of
from squash_api.routes.middleware import PAGE_POLICY
from squash_api.routes.notebooks import (
    RESULTS,
    Asked,
    list_notebooks,
    read_filters,
    read_notebook,
    result_of,
)
from squash_api.routes.parameters import read_number, read_parameters
from squash_api.routes.runs import run_path
from squash_api.schema.notebooks import template_of
from squash_api.site import Site

_RUNS = 50
# Longer parameters of a URL are refused.
_LONGEST_FILTER = 1000
_NAMES = ("template", "version_tag", "run", "result", "parameter", "limit", "after")
# A page may have a frame, which has its own policy.
_POLICY = f"{PAGE_POLICY.decode()}; frame-src 'self'"


def notebooks_page(request: Request) -> Response:
    """Make the list of runs, the newest first; a single run that was asked for by name is shown."""
    site: Site = request.app.state.site
    given = read_parameters(request, _NAMES, choices={"result": RESULTS}, lists=("parameter",))
    parameters = read_filters(filter(None, request.query_params.getlist("parameter")))
    limit = read_number(given, "limit", default=_RUNS, most=MAX_PAGE)
    asked = Asked(
        given["template"], given["version_tag"], given["run"], given["result"], parameters
    )
    found = list_notebooks(site, asked, Page(limit, given["after"]))
    if asked.run is not None and len(found.runs) == 1 and found.after is None:
        # Jobs name their page by their run: they do not know their id when they are sent.
        address = f"{site.settings.url_path}/notebook/{found.runs[0].job_id}"
        return RedirectResponse(address, status_code=303)
    pipelines = site.reader.run_tags().get("pipeline", [])
    templates = [name for item in pipelines if (name := template_of(item))]
    chosen = {"template": asked.template} if asked.template else {}
    return render(
        request,
        "notebooks.html",
        here="/notebooks",
        runs=found.runs,
        result_of=result_of,
        results=RESULTS,
        asked=asked,
        templates=choices_of({"template": templates}, ("template",), chosen)["template"],
        after=given["after"],
        next=None if found.after is None else str(found.after),
        limit=given["limit"],
        query={name: given[name] for name in _NAMES if name not in ("after", "parameter")},
        parameters=parameters,
        parameter_query=_parameter_query,
        longest=_LONGEST_FILTER,
    )


async def notebook_page(request: Request) -> Response:
    """Make the page of one run: how it went, and the notebook in a frame."""
    job_id = await job_id_of(request.path_params["job_id"])
    return await run_in_threadpool(_page, request, job_id)


def _page(request: Request, job_id: int) -> Response:
    read_parameters(request, ())
    site: Site = request.app.state.site
    item = read_notebook(site, job_id)
    reply = render(
        request,
        "notebook.html",
        here="/notebooks",
        item=item,
        result=result_of(item),
        run_path=None if item.run_id is None else run_path(item.pipeline, item.run_id),
        parameter_query=_parameter_query,
        longest=_LONGEST_FILTER,
        alerts=site.alerts.of_jobs([item.job_id]),
    )
    reply.headers["Content-Security-Policy"] = _POLICY
    return reply


def _parameter_query(parameters: Mapping[str, str]) -> str:
    """Write filters on parameters as a part of a query string, which begins with `&`."""
    return "".join(
        f"&parameter={quote(f'{name}={text}', safe='')}" for name, text in parameters.items()
    )
