"""Pages from templates: one environment, and how values are written."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from squash_api.alerts.freshness import ExpectedSeries
from squash_api.alerts.seen import Counts
from squash_api.errors import (
    Detail,
    RecordUnavailableError,
    runbook_of_record,
    runbook_path,
)
from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.states import MEANINGS, STATES, counts_text, slug_of
from squash_api.judging.wording import NOTHING, counted, number_text, percent_text
from squash_api.routes.door import login_link, may_read, session_of
from squash_api.routes.health import Reading, delivery_health, reading_of
from squash_api.routes.replies import REQUEST_ID
from squash_api.schema.names import HEADLINE_TAGS, VALUE_TAGS
from squash_api.schema.text import link_text
from squash_api.site import Site

# What HTTP calls an unprocessable entity is, for people who open a page, what they asked for.
_HEADINGS = {404: "Not found", 422: "Wrong parameter"}


def render(request: Request, template: str, *, status_code: int = 200, **values: Any) -> Response:
    """Make a page from a template of `templates/`.

    In addition to `values`, a template has `root`, the path that all URLs begin with, `menu`,
    `static`, which gives the URL of a file to load, and what is around every page: the `session` of
    who is logged in with the `form_token` of its forms, or the address of the `login`; the
    `release` and, for those who may read, the `alert_counts`, the health of `delivery` and of the
    record (its `trouble`, and `trouble_runbook`, the entry on that).
    """
    site: Site = request.app.state.site
    root = site.settings.url_path

    def static(name: str) -> str:
        return f"{root}/static/{name}?v={version('squash-api')}"

    session = session_of(request)
    is_reader = may_read(request)
    trouble = site.record.trouble if is_reader else None
    made = environment().get_template(template)
    around = {
        "root": root,
        "menu": request.app.state.menu,
        "static": static,
        "session": session,
        "form_token": session and site.sessions.form_token(session.session_id),
        "login": login_link(request, site),
        "release": version("squash-api"),
        "is_reader": is_reader,
        "delivery": delivery_health(site) if is_reader else (),
        "reading": _reading(site) if is_reader else None,
        "alert_counts": _alert_counts(site) if is_reader else None,
        "trouble": trouble,
        "trouble_runbook": runbook_of_record(trouble),
    }
    text = made.render(around | values)
    return Response(text, status_code=status_code, media_type="text/html; charset=utf-8")


def _reading(site: Site) -> Reading | None:
    """Return how a service is that only reads; None if it writes, or its record is unavailable."""
    try:
        return reading_of(site)
    except RecordUnavailableError:
        return None


def _alert_counts(site: Site) -> Counts | None:
    """Count the living alerts, quickly enough for every page; None if they cannot be read."""
    try:
        return site.alerts.counts()
    except RecordUnavailableError:
        return None


def failure_page(
    request: Request, status_code: int, *, message: str, detail: Sequence[Detail], runbook: str
) -> Response:
    """Make the page that says what failed, and where in the request; each thing once.

    It links to the entry `runbook`.
    """
    said = message.lower()
    return render(
        request,
        "failure.html",
        status_code=status_code,
        phrase=_HEADINGS.get(status_code, HTTPStatus(status_code).phrase),
        message=message,
        runbook=runbook,
        detail=[item for item in detail if item.msg.lower() not in said],
        request_id=request.scope.get(REQUEST_ID) if status_code >= 500 else None,
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Load the templates. Every text is escaped, and a name that is not given is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number_text,
        percent=percent_text,
        moment=moment_text,
        link=link_markup,
        path=path_text,
        tags=tags_text,
        named_tags=named_tags_text,
        code=code_markup,
        runbook=runbook_path,
        limit=criterion_text,
        late=late_text,
        slug=slug_of,
        counts=counts_text,
        counted=counted,
    )
    made.globals.update(
        counted=counted,
        headline_tags=HEADLINE_TAGS,
        value_tags=VALUE_TAGS,
        query_text=query_text,
        states=STATES,
        meanings=MEANINGS,
    )
    return made


def moment_text(time_ns: int | None) -> str:
    """Write a time in ns since 1970 as day and minute, in UTC; None is a dash."""
    if time_ns is None:
        return NOTHING
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M")


def link_markup(url: Any, text: Any = None) -> Markup:
    """Link to a URL of http or https; anything else is shown as text."""
    shown = escape(url if text is None else text)
    address = link_text(url) if isinstance(url, str) else None
    if address is None:
        return Markup(shown)  # noqa: S704 - escaped above
    return Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>').format(address, shown)


def code_markup(text: str) -> Markup:
    """Write what stands between backticks as code."""
    parts = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def path_text(name: Any) -> str:
    """Quote a name as one part of a path: all but letters, digits, `.`, `_` and `-`."""
    return quote(str(name), safe="")


def query_text(values: Mapping[str, str | None], **changes: str | None) -> str:
    """Write values as a query string, some of them changed; empty ones are left out."""
    kept = {**values, **changes}
    pairs = [f"{quote(key)}={quote(text, safe='')}" for key, text in kept.items() if text]
    return f"?{'&'.join(pairs)}" if pairs else "?"


def tags_text(tags: Iterable[tuple[str, str]]) -> str:
    """Write tags in a few words; without tags it is empty."""
    # The values of headline tags speak for themselves.
    words = (value if name in HEADLINE_TAGS else f"{name} {value}" for name, value in tags)
    return " · ".join(words)


def named_tags_text(tags: Iterable[tuple[str, str]]) -> str:
    """Write tags with their names; without tags it is empty."""
    return " · ".join(f"{name} {value}" for name, value in tags)


def criterion_text(criterion: Criterion) -> str:
    """Write what a value must meet."""
    return criterion.words(number_text)


def late_text(series: ExpectedSeries) -> str:
    """Describe how late a value is, and how long it has been missing."""
    waited = f"the last came on {series.since}" if series.job_id else f"none since {series.since}"
    missing = f"{series.missing}; " if series.missing else ""
    specification = series.specification.rpartition(".")[2]
    return f"{span_text(series.late_s)} late: {missing}{waited} ({specification})"


def span_text(seconds: float) -> str:
    """Write a span of time in its largest unit, rounded down; the smallest is a minute."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "less than 1 min"
