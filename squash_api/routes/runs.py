"""Runs of pipelines: their URLs, how they stand, their jobs, and what changed in the code."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote, unquote, urlencode

from fastapi import APIRouter, Query, Request, Response

from squash_api.errors import NotFoundError
from squash_api.index.runs import NEWEST_NS
from squash_api.ingest.stored_job import load_job
from squash_api.judging.wording import date_text
from squash_api.routes.dependencies import (
    MAX_PAGE,
    Page,
    PageDep,
    SiteDep,
    id_cursor,
    next_link,
    wrong_cursor,
)
from squash_api.routes.jobs import job_object
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.schema import answers
from squash_api.schema.names import RUN_TAGS
from squash_api.schema.text import tag_text
from squash_api.site import Site
from squash_api.standings.runs import RunDetail, RunList, RunMember, RunsOverview, RunSummary

_NO_PIPELINE = "-"
_DOTS = frozenset({".", ".."})
_START = "/runs/"


def run_path(pipeline: str | None, run_id: str) -> str:
    """Return the path of a run, below the public root.

    Both names are quoted. `-` stands for no pipeline. Browsers would take a name of dots for a
    directory, so it has a `-` in front, and so does a name that begins with `-`.
    """
    first = _NO_PIPELINE if pipeline is None else _segment(pipeline)
    return f"{_START}{first}/{_segment(run_id)}"


def readings_of(scope: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """List the pipelines and runs that the URL of a request may mean, the likeliest first.

    A proxy may have unquoted the slashes in the names: then any slash may be the one between them.
    """
    raw = bytes(scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace")
    quoted = raw[raw.find(_START) + len(_START) :].split("/") if _START in raw else []
    found = []
    if len(quoted) == 2:
        found.append((unquote(quoted[0]), unquote(quoted[1])))
    parts = str(scope["path"]).removeprefix(_START).split("/")
    found.extend(
        ("/".join(parts[:index]), "/".join(parts[index:])) for index in range(1, len(parts))
    )
    return list(dict.fromkeys((_pipeline_of(first), _name_of(last)) for first, last in found))


def _segment(name: str) -> str:
    guarded = f"-{name}" if name in _DOTS or name.startswith("-") else name
    return quote(guarded, safe="")


def _name_of(segment: str) -> str:
    """Turn a part of a path into a name as the record has it."""
    return tag_text(segment.removeprefix("-")) or ""


def _pipeline_of(segment: str) -> str | None:
    return None if segment == _NO_PIPELINE else _name_of(segment)


router = APIRouter(tags=["runs"], route_class=KnownParametersRoute)

CiNameQuery = Annotated[str | None, Query(max_length=1000, description="The run's pipeline.")]


_Specs = Literal["receipt", "now"]

SPECS: tuple[str, ...] = get_args(_Specs)
"""The specifications to judge by: those in force at receipt, or now."""

SpecsQuery = Annotated[
    _Specs,
    Query(description="Judge by the specifications in force when the jobs arrived, or by today's."),
]


def _tag_query(description: str, *, alias: str | None = None) -> Any:
    return Query(alias=alias, max_length=1000, description=description)


@router.get("/runs", responses=errors_of(422))
def get_runs(
    request: Request,
    site: SiteDep,
    *,
    page: PageDep,
    pipeline: Annotated[str | None, _tag_query("Only runs of this pipeline.")] = None,
    dataset: Annotated[str | None, _tag_query("Only jobs with this dataset.")] = None,
    filter_: Annotated[
        str | None, _tag_query("Only jobs with this filter.", alias="filter")
    ] = None,
    specs: SpecsQuery = "receipt",
) -> Response:
    """List runs by pipeline and dataset with the verdicts on their jobs, newest first.

    A page may have fewer runs than `limit` even if `next` is not null. A job that belongs to no run
    has an entry of its own.
    """
    tags = {"pipeline": pipeline, "dataset": dataset, "filter": filter_}
    found = list_runs(site, tags, page, is_now=specs == "now")
    link = None if found.after is None else next_link(request, after=found.after)
    url = site.settings.url
    return json_reply({"runs": [_summary_object(run, url) for run in found.runs], "next": link})


# `text`: the names of pipelines and runs may contain slashes.
@router.get("/runs/{pipeline:text}/{run_id:text}", responses=errors_of(404, 422))
def get_run(
    request: Request,
    pipeline: str,  # noqa: ARG001 - both are read from the URL as it was sent
    run_id: str,  # noqa: ARG001 - likewise
    *,
    site: SiteDep,
    page: PageDep,
    specs: SpecsQuery = "receipt",
) -> Response:
    """Return a run: its jobs, the verdicts on them, and the packages that changed before it.

    Percent-encode both names, slashes included. Write `-` for no pipeline, and put a `-` in front
    of a name that begins with `-` or consists of dots.
    """
    detail = read_run(request, page, is_now=specs == "now")
    url = site.settings.url
    link = None
    if detail.after is not None:
        query = urlencode({"limit": page.limit, "specs": specs, "after": detail.after})
        link = f"{url}{run_path(detail.pipeline, detail.run_id)}?{query}"
    return json_reply({**_detail_object(detail, url), "next": link})


def list_runs(site: Site, tags: dict[str, str | None], page: Page, *, is_now: bool) -> RunList:
    """List runs whose jobs have these tags, in the words of the jobs; None or empty means any."""
    site.reader.catch_up()
    kept = {name: tag_text(text) or "" for name in RUN_TAGS if (text := tags.get(name))}
    return RunsOverview(site.reader, site.states).list_runs(
        tags=kept, after=_time_cursor(page), limit=page.limit, is_now=is_now
    )


def read_run(request: Request, page: Page, *, is_now: bool) -> RunDetail:
    """Read the run that the URL of a request names.

    Raises
    ------
    NotFoundError
        If it does not exist.
    """
    site: Site = request.app.state.site
    site.reader.catch_up()
    return RunsOverview(site.reader, site.states).run(
        readings_of(request.scope), after=id_cursor(page), limit=page.limit, is_now=is_now
    )


# `text`: the id of a run may contain slashes.
@router.get("/jenkins/{ci_id:text}", responses=errors_of(404, 422))
def get_jenkins(ci_id: str, site: SiteDep, ci_name: CiNameQuery = None) -> Response:
    """Return the first job of a Jenkins run, and the ids of all its jobs as `jobs`."""
    site.reader.catch_up()
    site.metrics.refresh()
    run_id, pipeline = _as_kept(ci_id, ci_name)
    with site.reader.view() as view:
        runs = view.runs.first_jobs(run_id, pipeline=pipeline, env_name="jenkins", limit=MAX_PAGE)
        if not runs:
            raise NotFoundError(f"There is no job of the Jenkins run {ci_id}.")
        row, job = view.ask(load_job, runs[0].job_id)
    shown = job_object(row, job, metrics=site.metrics)
    return json_reply({**shown, "jobs": [run.job_id for run in runs]})


@router.get("/code_changes/{ci_id:text}", responses=errors_of(422))
def get_code_changes(ci_id: str, site: SiteDep, ci_name: CiNameQuery = None) -> Response:
    """Return the packages that differ from the previous run of the same pipeline.

    `packages` lists the name, git_sha and git_url of each changed or new package, `removed` the
    same of each package that is gone, and `counts` is the number of both. `unknown` names packages
    that may have changed: one of the runs does not give their commit. `counts` is null if one of
    the runs lists no packages. For an unknown run the ids are null and the lists are empty.
    """
    site.reader.catch_up()
    run_id, pipeline = _as_kept(ci_id, ci_name)
    with site.reader.view() as view:
        runs = view.runs.first_jobs(run_id, pipeline=pipeline, limit=MAX_PAGE)
        run = next((run for run in runs if run.package_set_id is not None), None)
        run = run or (runs[0] if runs else None)
        changes = view.changes_since_previous_run([run.job_id])[run.job_id] if run else None
    packages = (changes.packages or ()) if changes else ()
    return json_reply(
        {
            "id": ci_id if run else None,
            "previous_id": changes.previous_run_id if changes else None,
            "packages": [
                [item.name, item.git_sha, item.git_url] for item in packages if not item.is_gone
            ],
            "removed": [
                [item.name, item.git_sha, item.git_url] for item in packages if item.is_gone
            ],
            "unknown": list(changes.unknown) if changes else [],
            "counts": None if changes and changes.packages is None else len(packages),
        }
    )


def _as_kept(ci_id: str, ci_name: str | None) -> tuple[str, str | None]:
    """Turn a run id and a pipeline into what the record has for them."""
    return tag_text(ci_id) or "", None if ci_name is None else tag_text(ci_name) or ""


def _time_cursor(page: Page) -> int | None:
    """Read the time, in ns, before which the list continues."""
    text = page.after
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > NEWEST_NS:
        raise wrong_cursor("must be a time in ns", "int_parsing")
    return int(text)


def _summary_object(run: RunSummary, url: str) -> answers.Run:
    path = f"/job/{run.job_id}" if run.run_id is None else run_path(run.pipeline, run.run_id)
    return {
        "pipeline": run.pipeline,
        "run_id": run.run_id,
        "dataset": run.dataset,
        "filters": list(run.filters),
        "url": f"{url}{path}",
        "run_url": run.run_url,
        "version_tag": run.version_tag,
        "date": date_text(run.time_ns),
        "jobs": run.jobs,
        "newest_job": run.job_id,
        "measurements": run.measurements,
        "complete": run.is_complete,
        **run.state.to_json(),
    }


def _detail_object(run: RunDetail, url: str) -> answers.RunDetails:
    return {
        "pipeline": run.pipeline,
        "run_id": run.run_id,
        "run_url": run.newest.run_url,
        "version_tag": run.newest.version_tag,
        "date": date_text(run.newest.time_ns),
        "number_of_jobs": run.jobs,
        "complete": run.looked_at == run.jobs,
        "measurements": run.measurements,
        **run.state.to_json(),
        "faults": [
            {"metric": item.metric, "state": item.state, "jobs": item.jobs, "of": item.judged}
            for item in run.faults
        ],
        "run_before": None if run.before is None else run.before.to_json(),
        "last_passing": None if run.last_passing is None else run.last_passing.to_json(),
        "jobs": [_member_object(member, url) for member in run.members],
    }


def _member_object(member: RunMember, url: str) -> answers.JobOfRun:
    return {
        "id": member.job.job_id,
        "url": f"{url}/job/{member.job.job_id}",
        "date": date_text(member.job.time_ns),
        "tags": dict(member.tags),
        "measurements": member.job.measurement_count,
        **member.state.to_json(),
    }
