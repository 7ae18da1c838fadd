"""The pages of runs: the list with their states, and one run with its jobs."""

from fastapi import Request, Response

from squash_api.pages.rendering import render
from squash_api.routes.dependencies import Page
from squash_api.routes.parameters import read_parameters
from squash_api.routes.runs import SPECS, list_runs, read_run, run_path
from squash_api.schema.names import RUN_TAGS
from squash_api.site import Site
from squash_api.standings.runs import RunDetail, RunSummary

_RUNS = 50
_JOBS = 200


def runs_page(request: Request) -> Response:
    """Make the list of runs, newest first."""
    site: Site = request.app.state.site
    given = read_parameters(request, (*RUN_TAGS, "specs", "after"), choices={"specs": SPECS})
    tags = {name: given[name] or "" for name in RUN_TAGS}
    is_now = given["specs"] == "now"
    after = given["after"]
    found = list_runs(site, dict(tags), Page(_RUNS, after), is_now=is_now)
    return render(
        request,
        "runs.html",
        here="/runs",
        runs=found.runs,
        path_of=_path_of,
        next=None if found.after is None else str(found.after),
        after=after,
        tags=tags,
        is_now=is_now,
        query={**tags, "specs": "now" if is_now else None},
    )


def run_page(request: Request) -> Response:
    """Make the page of a run: its jobs, their states, and what changed before it."""
    given = read_parameters(request, ("specs", "after"), choices={"specs": SPECS})
    is_now = given["specs"] == "now"
    run = read_run(request, Page(_JOBS, given["after"]), is_now=is_now)
    return render(
        request,
        "run.html",
        here="/runs",
        run=run,
        path=run_path(run.pipeline, run.run_id),
        is_now=is_now,
        after=given["after"],
        next=None if run.after is None else str(run.after),
        query={"specs": "now" if is_now else None},
        columns=_columns(run),
        shared=_shared(run),
        run_path=run_path,
    )


def _path_of(run: RunSummary) -> str:
    """Return the path of the page of a run, or of a job that belongs to none."""
    if run.run_id is None:
        return f"/job/{run.job_id}"
    return run_path(run.pipeline, run.run_id)


def _shared(run: RunDetail) -> list[tuple[str, str]]:
    """Return the tags that all jobs on the page share, except the pipeline."""
    tags = [set(member.tags.items()) for member in run.members]
    shared = set.intersection(*tags) if tags else set()
    return sorted(pair for pair in shared if pair[0] != "pipeline")


def _columns(run: RunDetail) -> list[str]:
    """Return the tags in which the jobs on the page differ."""
    shared = {*dict(_shared(run)), "pipeline"}
    return sorted({name for member in run.members for name in member.tags} - shared)
