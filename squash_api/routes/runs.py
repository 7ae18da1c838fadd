"""Runs of pipelines: their jobs, and what changed in the code since the run before."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from squash_api.code_changes import CodeChangeReader
from squash_api.errors import NotFoundError
from squash_api.jobs import job_object
from squash_api.record.runs import jobs_of_run
from squash_api.routes.dependencies import MAX_PAGE, PartsDep
from squash_api.routes.error_responses import errors_of
from squash_api.routes.json_reply import json_reply
from squash_api.storable import tag_text
from squash_api.stored_job import load_job

router = APIRouter(tags=["runs"])

CiNameQuery = Annotated[
    str | None, Query(max_length=1000, description="The pipeline that the run is of.")
]


# `path`: what a run is called may hold slashes.
@router.get("/jenkins/{ci_id:path}", responses=errors_of(404, 422))
def get_jenkins(ci_id: str, parts: PartsDep, ci_name: CiNameQuery = None) -> Response:
    """Return the first job of a Jenkins run, and the ids of all its jobs as `jobs`."""
    parts.deriver.catch_up()
    parts.vocabulary.refresh()
    run_id, pipeline = _as_kept(ci_id, ci_name)
    with parts.record.read() as connection:
        runs = jobs_of_run(
            connection, run_id, pipeline=pipeline, env_name="jenkins", limit=MAX_PAGE
        )
        if not runs:
            raise NotFoundError(f"There is no job of the Jenkins run {ci_id}.")
        row, job = load_job(connection, runs[0].job_id)
    shown = job_object(row, job, vocabulary=parts.vocabulary)
    return json_reply({**shown, "jobs": [run.job_id for run in runs]})


@router.get("/code_changes/{ci_id:path}", responses=errors_of(422))
def get_code_changes(ci_id: str, parts: PartsDep, ci_name: CiNameQuery = None) -> Response:
    """Return the packages that differ from the run before, of the same pipeline.

    `packages` lists name, git_sha and git_url of those changed or new, `removed` those that are
    gone; `counts` is how many there are of both. An unknown run has nulls and empty lists.
    """
    parts.deriver.catch_up()
    run_id, pipeline = _as_kept(ci_id, ci_name)
    with parts.record.read() as connection:
        runs = jobs_of_run(connection, run_id, pipeline=pipeline, limit=MAX_PAGE)
        run = next((run for run in runs if run.package_set_id is not None), None)
        run = run or (runs[0] if runs else None)
        changes = CodeChangeReader().read(connection, run) if run else None
    packages = (changes.packages or ()) if changes else ()
    return json_reply(
        {
            "id": ci_id if run else None,
            "previous_id": changes.previous_run_id if changes else None,
            "packages": [
                [item.name, item.git_sha, item.git_url] for item in packages if not item.removed
            ],
            "removed": [
                [item.name, item.git_sha, item.git_url] for item in packages if item.removed
            ],
            "counts": len(packages),
        }
    )


def _as_kept(ci_id: str, ci_name: str | None) -> tuple[str, str | None]:
    """Return a run and its pipeline as the record keeps what jobs call them."""
    return tag_text(ci_id) or "", None if ci_name is None else tag_text(ci_name) or ""
