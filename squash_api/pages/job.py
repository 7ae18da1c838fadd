"""The page of a job: its measurements, the verdicts on them, and what changed before it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any

import orjson
from fastapi import Request, Response
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool

from squash_api.index.reader import View
from squash_api.ingest.document import Job
from squash_api.ingest.stored_job import load_job
from squash_api.judging.limits import Verdict
from squash_api.judging.states import NO_LIMIT, count_states
from squash_api.judging.wording import number_text
from squash_api.pages.blobs import BlobData, Numbers, chosen, read_blob
from squash_api.pages.metadata_rows import MOST_ROWS, linked, links_in, metadata_rows
from squash_api.pages.rendering import render
from squash_api.record.deliveries import job_deliveries
from squash_api.record.jobs import JobRow, current_revision
from squash_api.record.metrics import Metrics
from squash_api.routes.blobs import blob_path
from squash_api.routes.jobs import job_id_of, measurement_objects
from squash_api.routes.middleware import page_policy
from squash_api.routes.parameters import read_parameters
from squash_api.routes.runs import SPECS, run_path
from squash_api.schema.artifacts import Artifact, artifacts_of
from squash_api.schema.names import RUN_ID, RUN_URL, Context
from squash_api.settings import InfluxTarget, Settings
from squash_api.site import Site
from squash_api.standings.job_states import job_report
from squash_api.standings.last_passing import Comparison, Place, compare, place_of, previous_run

MOST_BLOBS = 100
"""Further blobs are only in the JSON of the job."""

MOST_ARTIFACTS = 100
"""Further artifacts are only in the JSON of the job."""

_NAMES = ("specs", "blob", "y", "x")

_MOST_LINKS = 50
_MOST_PICTURES = 24


@dataclass(frozen=True, slots=True)
class ShownBlob:
    """A blob, and which of its arrays to draw: `y`, as a histogram or over `x`.

    `path` is where the blob itself is; None if it has no URL.
    """

    data: BlobData
    y: Numbers | None
    x: Numbers | None
    is_open: bool
    path: str | None


async def job_page(request: Request) -> Response:
    """Make the page of a job."""
    job_id = await job_id_of(request.path_params["job_id"])
    reply = await run_in_threadpool(_page, request, job_id)
    site: Site = request.app.state.site
    if site.settings.artifact_hosts:
        reply.headers["Content-Security-Policy"] = page_policy(site.settings.artifact_hosts)
    return reply


def _page(request: Request, job_id: int) -> Response:
    site: Site = request.app.state.site
    site.reader.catch_up()
    asked = read_parameters(request, _NAMES, choices={"specs": SPECS})
    is_now = asked["specs"] == "now"
    with site.reader.view() as view:
        row, job = view.ask(load_job, job_id)
        names = [item.name for item in site.delivered_to if isinstance(item, InfluxTarget)]
        deliveries = view.ask(job_deliveries, row, targets=names)
        revision = view.ask(current_revision) if is_now else row.revision
    judge = partial(job_report, definitions=site.definitions, metrics=site.metrics)
    verdicts = judge(row, job, is_now=is_now, evidence=site.evidence)
    verdicts.sort(key=attrgetter("order"))
    context = site.metrics.schema.context(job.meta)
    place = place_of(site.reader, site.states, job_id, revision=revision)
    with site.reader.view() as view:
        comparisons = _comparisons(view, job_id, place)
    return render(
        request,
        "job.html",
        here="/runs",
        job_id=job_id,
        row=row,
        is_now=is_now,
        verdicts=verdicts,
        alerts=site.alerts.of_jobs([job_id]),
        counts=count_states(item.word for item in verdicts if not item.is_trial),
        measurements=list(_measurements(row, job, verdicts, site.metrics)),
        context=context,
        run=_run(context),
        place=place,
        comparisons=comparisons,
        packages=job.packages,
        deliveries=deliveries,
        **_metadata(job, site.settings),
        blobs=_blobs(job_id, job, asked),
        more_blobs=max(len(job.blobs) - MOST_BLOBS, 0),
        partners_of=_partners_of,
        limit_markup=_limit_markup,
    )


def _metadata(job: Job, settings: Settings) -> dict[str, Any]:
    """Return the metadata, and what they link to: first the artifacts, some of them as pictures."""
    found = artifacts_of(job.meta)
    artifacts = found[:MOST_ARTIFACTS]
    urls = {item.url for item in artifacts}
    rows = metadata_rows(job.meta)
    return {
        "artifacts": artifacts,
        "more_artifacts": len(found) - len(artifacts),
        "pictures": pictures_of(found, settings),
        "rows": rows[:MOST_ROWS],
        "has_more_rows": len(rows) > MOST_ROWS,
        "links": [item for item in links_in(rows) if item[1] not in urls][:_MOST_LINKS],
        "linked": linked,
    }


def pictures_of(found: Sequence[Artifact], settings: Settings) -> frozenset[str]:
    """Return the URLs of the first artifacts that a page shows as pictures."""
    hosts, is_https = set(settings.artifact_hosts), settings.is_https
    shown = (item.url for item in found if item.may_be_shown(hosts, is_https=is_https))
    return frozenset(islice(shown, _MOST_PICTURES))


def _limit_markup(verdict: Verdict) -> Markup:
    """Write what a value must meet, with its numbers marked as values."""
    criterion = verdict.limit.criterion
    value = Markup('<span class="value">{}</span>')
    numbers = (value.format(number_text(number)) for number in criterion.numbers)
    if verdict.members:
        return Markup("{}: {}").format(criterion.pattern(), ", ".join(verdict.members))
    return Markup(escape(criterion.pattern())).format(*numbers)  # noqa: S704 - escaped


def _measurements(
    row: JobRow, job: Job, verdicts: Sequence[Verdict], metrics: Metrics
) -> Iterator[dict[str, Any]]:
    """Yield what was measured, with its worst verdict, why it is left out, and its blobs' places.

    The verdicts come worst first.
    """
    worst: dict[str, Verdict] = {}
    for verdict in verdicts:
        if not verdict.is_trial:
            worst.setdefault(verdict.metric, verdict)
    # An identifier may be anything.
    places = {
        identifier: index
        for index, blob in enumerate(job.blobs)
        if isinstance(identifier := blob.get("identifier"), str)
    }
    for item in measurement_objects(row, job, metrics=metrics):
        metric, value = item["metric"], item["value"]
        known = metrics.now.by_name.get(metric)
        reason = item.get("skipped") or ("null, NaN or infinite" if value is None else "")
        yield {
            "metric": metric,
            "value": value,
            "unit": item["unit"],
            "is_number": isinstance(value, int | float) and not reason,
            "state": worst[metric].word if metric in worst else NO_LIMIT,
            "reason": reason,
            "is_undeclared": known is not None and not known.is_declared,
            "blobs": [(blob["name"], places[blob["identifier"]]) for blob in item["blobs"]],
        }


def _run(context: Context) -> dict[str, Any] | None:
    """Return the run that a job names, and the path of its page; None if it names none."""
    run_id = context.fields.get(RUN_ID)
    if not isinstance(run_id, str):
        return None
    return {
        "id": run_id,
        "path": run_path(context.tags.get("pipeline"), run_id),
        "url": context.fields.get(RUN_URL),
    }


def _comparisons(view: View, job_id: int, place: Place | None) -> list[tuple[str, Comparison]]:
    """Compare a job with earlier ones; return what each is, in words, and the differences."""
    before = previous_run(view, job_id)
    words = "the previous run"
    if before is None and place is not None and place.previous is not None:
        before, words = place.previous.job_id, "the previous job in this series"
    passing = None if place is None or place.last_passing is None else place.last_passing.job_id
    others = {words: before, "the last one that passed": passing}
    found = ((text, compare(view, job_id, other)) for text, other in others.items())
    return [(text, comparison) for text, comparison in found if comparison is not None]


def _blobs(job_id: int, job: Job, asked: Mapping[str, str | None]) -> list[ShownBlob]:
    """Return the first blobs; the one that the URL names is open, and shows what it asks for."""
    shown = []
    for index, blob in enumerate(job.blobs[:MOST_BLOBS]):
        data = read_blob(index, blob)
        is_open = asked["blob"] == str(index)
        view = chosen(data, asked["y"] or "", asked["x"] or "") if is_open else None
        view = view or data.first_view()
        y, x = view or (None, None)
        path = blob_path(job_id, blob.get("identifier"))
        shown.append(ShownBlob(data, y, x, is_open, path))
    return shown


def _partners_of(data: BlobData) -> str:
    """Return what each array can be shown over, as JSON."""
    return orjson.dumps([[item.key for item in data.partners(y)] for y in data.arrays]).decode()
