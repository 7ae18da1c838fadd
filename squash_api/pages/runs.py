"""The pages of runs: the list with their states, and one run with its jobs."""

from collections.abc import Mapping

from fastapi import Request, Response

from squash_api.pages.metric import choices_of
from squash_api.pages.rendering import query_text, render
from squash_api.routes.dependencies import MAX_PAGE, Page
from squash_api.routes.parameters import read_number, read_parameters
from squash_api.routes.runs import SPECS, list_runs, read_run, run_path
from squash_api.schema.names import RUN_TAGS
from squash_api.schema.text import tag_text
from squash_api.site import Site
from squash_api.standings.runs import RunDetail, RunSummary

_RUNS = 50
_JOBS = 200
_MOST_CHOICES = 1000


def runs_page(request: Request) -> Response:
    """Make the list of runs, newest first."""
    site: Site = request.app.state.site
    given = read_parameters(
        request, (*RUN_TAGS, "specs", "limit", "after"), choices={"specs": SPECS}
    )
    tags = {name: tag_text(given[name]) or "" for name in RUN_TAGS}
    is_now = given["specs"] == "now"
    after = given["after"]
    limit = read_number(given, "limit", default=_RUNS, most=MAX_PAGE)
    found = list_runs(site, dict(tags), Page(limit, after), is_now=is_now)
    return render(
        request,
        "runs.html",
        here="/runs",
        runs=found.runs,
        path_of=_path_of,
        next=None if found.after is None else str(found.after),
        after=after,
        tags=tags,
        choices=_choices(site, tags),
        is_now=is_now,
        limit=given["limit"],
        query={**tags, "specs": "now" if is_now else None, "limit": given["limit"]},
    )


def run_page(request: Request) -> Response:
    """Make the page of a run: its jobs, their states, and what changed before it."""
    given = read_parameters(request, ("specs", "limit", "after"), choices={"specs": SPECS})
    is_now = given["specs"] == "now"
    limit = read_number(given, "limit", default=_JOBS, most=MAX_PAGE)
    run = read_run(request, Page(limit, given["after"]), is_now=is_now)
    site: Site = request.app.state.site
    return render(
        request,
        "run.html",
        here="/runs",
        run=run,
        alerts=site.alerts.of_jobs(member.job.job_id for member in run.members),
        path=run_path(run.pipeline, run.run_id),
        is_now=is_now,
        after=given["after"],
        next=None if run.after is None else str(run.after),
        query={"specs": "now" if is_now else None, "limit": given["limit"]},
        columns=_columns(run),
        shared=_shared(run),
        run_path=run_path,
        reports=_reports(run),
    )


def _choices(site: Site, tags: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what each filter can be set to, as many as people can look through."""
    known = {name: values[:_MOST_CHOICES] for name, values in site.reader.run_tags().items()}
    return choices_of(known, RUN_TAGS, {name: text for name, text in tags.items() if text})


def _reports(run: RunDetail) -> list[tuple[str, str]]:
    """Return the reports on a run, each with its label and path, the likeliest first."""
    about = {"run": run.run_id, "pipeline": run.pipeline}
    others = {"the previous run": run.before, "the last run that passed": run.last_passing}
    # By run, so that one that is both is there once.
    labels: dict[str, list[str]] = {}
    for label, other in others.items():
        if other is not None and other.run_id is not None:
            labels.setdefault(other.run_id, []).append(label)
    found = [
        (f"compared with {' and '.join(words)}", f"/report{query_text(about, compare_run=other)}")
        for other, words in labels.items()
    ]
    return [*found, ("on this run alone", f"/report{query_text(about)}")]


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
