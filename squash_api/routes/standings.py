"""How every metric stands now, as the page `/` shows it, for programs."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from squash_api.alerts.freshness import ExpectedSeries
from squash_api.judging.states import State, count_states
from squash_api.judging.wording import date_text
from squash_api.routes.dependencies import PageDep, SiteDep, id_cursor, next_link
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.schema import answers
from squash_api.schema.text import tag_text
from squash_api.standings.board import Entry, Row, Wanted, in_state, worst_first

router = APIRouter(tags=["overview"], route_class=KnownParametersRoute)

TextQuery = Annotated[str | None, Query(max_length=1000)]


@router.get("/standings", responses=errors_of(422))
def get_standings(
    request: Request,
    site: SiteDep,
    *,
    page: PageDep,
    package: TextQuery = None,
    dataset: TextQuery = None,
    filter_: Annotated[str | None, Query(alias="filter", max_length=1000)] = None,
    instrument: TextQuery = None,
    tag: TextQuery = None,
    state: State | None = None,
    q: TextQuery = None,
) -> Response:
    """List all metrics with their states, worst first, and the newest value of each series.

    `metrics` counts the metrics in each state. `tag` is a tag of the metric, or `name=value` for a
    tag of its values; `state` selects the metrics whose worst state it is (`late`: all that are
    late); `q` is a part of the metric's name.
    """
    site.reader.catch_up()
    named = {"dataset": dataset, "filter": filter_, "instrument": instrument}
    values = {name: tag_text(text) or "" for name, text in named.items() if text}
    wanted = Wanted(package=package, values=values, tag=tag, state=state, text=q)
    narrowed = site.board.filtered(site.board.entries(), wanted)
    found = worst_first(in_state(narrowed, state))
    start = id_cursor(page)
    end = start + page.limit
    return json_reply(
        {
            "metrics": count_states(entry.state for entry in narrowed),
            "standings": [_entry_object(entry, site.settings.url) for entry in found[start:end]],
            "next": next_link(request, after=end) if end < len(found) else None,
        }
    )


def _entry_object(entry: Entry, url: str) -> answers.Standing:
    return {
        "metric": entry.name,
        "unit": entry.unit,
        "state": entry.state,
        "states": list(entry.states),
        "series": [_row_object(row, url) for row in entry.rows],
        "late": [_late_object(series) for series in entry.late],
    }


def _row_object(row: Row, url: str) -> answers.StandingSeries:
    standing = row.standing
    return {
        "state": row.worst,
        "states": list(row.states),
        "tags": dict(standing.tags),
        "value": standing.value,
        "date": date_text(standing.time_ns),
        "job": f"{url}/job/{standing.job_id}",
        "run_id": standing.run_id,
        "broken": list(standing.broken),
        "verdict": None if row.verdict is None else row.verdict.to_json(),
        "late": None if row.late is None else _late_object(row.late),
    }


def _late_object(series: ExpectedSeries) -> answers.LateSeries:
    told: answers.LateSeries = {
        "specification": series.specification,
        "level": series.level,
        "tags": dict(series.tags),
        "late_s": series.late_s,
        "since": date_text(series.since_ns),
    }
    if series.missing:
        told["missing"] = series.missing
    return told
