"""Reports on runs, periods and releases, and badges that show how packages stand."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from squash_api.errors import Detail, InvalidInputError
from squash_api.judging.states import count_states
from squash_api.reports.badge import badge_svg, word_of
from squash_api.reports.document import Report
from squash_api.reports.texts import report_junit, report_markdown
from squash_api.routes.dependencies import SiteDep
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of
from squash_api.schema.text import tag_text
from squash_api.site import Site
from squash_api.standings.board import Wanted
from squash_api.trends.parameters import REPORT_FORMATS, openapi_parameters
from squash_api.trends.question import read_report_question

router = APIRouter(tags=["reports"], route_class=KnownParametersRoute)

_FILES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}, "text/markdown": {}, "application/xml": {}}}
}
_BADGE = "image/svg+xml"
BADGE_AGE_S = 60
"""How long a badge may be cached."""

TagQuery = Annotated[str | None, Query(max_length=1000)]


@router.get(
    "/report",
    responses={**errors_of(422), **_FILES},
    openapi_extra={"parameters": openapi_parameters("report")},
)
def get_report(request: Request, site: SiteDep) -> Response:
    """Report on a run, a period or a release: which limits are met or broken, what is missing.

    The report judges the last value of each metric and combination of tags by the specifications
    in force now. If no run, release or time is given, it covers the last seven days.
    """
    asked = request.query_params.multi_items()
    chosen = _format_of(asked)
    report = make_report(site, asked)
    if chosen == "md":
        return _file(report_markdown(report).encode(), "text/markdown; charset=utf-8", "md")
    if chosen == "xml":
        level = report.asked.get("level", ["INFO"])[0].upper()
        return _file(report_junit(report, level=level), "application/xml", "xml")
    return Response(orjson.dumps(report), media_type="application/json")


def make_report(site: Site, asked: Sequence[tuple[str, str]]) -> Report:
    """Make the report that the parameters of a request describe.

    Raises
    ------
    InvalidInputError
        If a parameter is wrong.
    """
    now_ns = time.time_ns()
    wanted = read_report_question([item for item in asked if item[0] != "format"], now_ns=now_ns)
    return site.reports.report(wanted, now_ns=now_ns)


# `text`: names of packages may contain slashes.
@router.get(
    "/badge/{package:text}.svg",
    response_class=Response,
    responses={**errors_of(422), 200: {"content": {_BADGE: {}}}},
)
def get_badge(
    package: str,
    site: SiteDep,
    *,
    dataset: TagQuery = None,
    filter_: Annotated[str | None, Query(alias="filter", max_length=1000)] = None,
    instrument: TagQuery = None,
    pipeline: TagQuery = None,
    label: Annotated[str | None, Query(max_length=60)] = None,
) -> Response:
    """Draw a badge with the worst state of a package's metrics, and how many are in it.

    The states are those of the page `/`. The tags filter the values. `label` replaces the
    package's name on the left.
    """
    site.reader.catch_up()
    named = {"dataset": dataset, "filter": filter_, "instrument": instrument, "pipeline": pipeline}
    where = {name: tag_text(text) or "" for name, text in named.items() if text}
    wanted = Wanted(package=package, values=where)
    found = site.board.filtered(site.board.entries(), wanted)
    word = word_of(count_states(entry.state for entry in found))
    return Response(
        badge_svg(label or package, word),
        media_type=_BADGE,
        headers={"Cache-Control": f"public, max-age={BADGE_AGE_S}"},
    )


def _format_of(asked: Sequence[tuple[str, str]]) -> str:
    chosen = [text for name, text in asked if name == "format" and text]
    if chosen and chosen[0] not in REPORT_FORMATS:
        message = f"A report comes as {', '.join(REPORT_FORMATS)}"
        raise InvalidInputError(f"{message}.", detail=[Detail(("query", "format"), message)])
    return chosen[0] if chosen else "json"


def _file(content: bytes, media_type: str, ending: str) -> Response:
    return Response(
        content,
        media_type=media_type,
        headers={"Content-Disposition": f'inline; filename="squash-report.{ending}"'},
    )
