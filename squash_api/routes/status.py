"""How far a job is on its way to InfluxDB."""

from typing import Any

from fastapi import APIRouter, Response

from squash_api.ingest.assessment import assess
from squash_api.ingest.stored_job import load_job
from squash_api.record.deliveries import JobDelivery, job_deliveries
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.jobs import JobIdDep
from squash_api.routes.replies import errors_of, json_reply

router = APIRouter(tags=["jobs"])

# The words and numbers that clients of the original read.
_MESSAGES = {
    "SUCCESS": (204, "The job is in every InfluxDB."),
    "FAILURE": (400, "InfluxDB refused a part of the job"),
    "STARTED": (202, "The job is being sent to InfluxDB."),
    "PENDING": (202, "The job is stored and waits to be sent to InfluxDB."),
}


@router.get("/status/{job_id}", responses=errors_of(404))
def get_status(job_id: JobIdDep, site: SiteDep) -> Response:
    """Say whether a job has reached InfluxDB, and what was left out of it or cleaned.

    `status` is SUCCESS when every target has the job (at once when there is none, or nothing to
    deliver), FAILURE when a target refused a line for good, with its words in `message`, else
    PENDING, then STARTED.
    """
    with site.reader.view() as view:
        row, job = view.ask(load_job, job_id)
        names = [target.name for target in site.settings.targets]
        deliveries = view.ask(job_deliveries, row, targets=names)
    site.metrics.refresh()
    schema = site.metrics.schema
    outcome = assess(job, metrics=site.metrics.now.by_name, schema=schema)
    cleanings = schema.context(job.meta).cleanings
    return json_reply(
        {
            **_overall(deliveries),
            "targets": {item.target: item.state for item in deliveries},
            "absent": outcome.absent,
            "skipped": [{"metric": skip.metric, "reason": skip.reason} for skip in outcome.skipped],
            "undeclared": outcome.undeclared,
            "cleaned": [{"key": item.key, "reason": item.reason} for item in cleanings],
        }
    )


def _overall(deliveries: list[JobDelivery]) -> dict[str, Any]:
    states = {item.state for item in deliveries}
    if not states:
        return {
            "status": "SUCCESS",
            "message": "The job is stored; no InfluxDB is configured.",
            "status_code": 204,
        }
    state = states.pop() if len(states) == 1 else "FAILURE" if "FAILURE" in states else "STARTED"
    status_code, message = _MESSAGES[state]
    reasons = [f"{item.target}: {reason}" for item in deliveries for reason in item.reasons]
    if state == "FAILURE":
        message = f"{message}: {'; '.join(reasons)}"
    return {"status": state, "message": message, "status_code": status_code}
