"""Pages from templates: one environment, one set of headers, and how values are written."""

from collections.abc import Mapping, Sequence
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

from squash_api.errors import Detail
from squash_api.judging.wording import NOTHING, number_text, percent_text
from squash_api.schema.names import HEADLINE_TAGS, VALUE_TAGS
from squash_api.schema.text import is_link
from squash_api.site import Site

# Bokeh puts styles of its own into what it draws; scripts come from here alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def render(request: Request, template: str, *, status_code: int = 200, **values: Any) -> Response:
    """Return a page made from a template of `templates/`.

    Parameters
    ----------
    request
        What is answered.
    template
        The template's file name.
    status_code
        Status of the reply.
    values
        What the template asks for, beside `root`, the path that all addresses begin with, and
        `static`, which gives the address of a file to load.
    """
    site: Site = request.app.state.site
    root = site.settings.url_path
    text = (
        environment()
        .get_template(template)
        .render(
            root=root,
            static=lambda name: f"{root}/static/{name}?v={version('squash-api')}",
            **values,
        )
    )
    return Response(
        text, status_code=status_code, headers=HEADERS, media_type="text/html; charset=utf-8"
    )


def failure_page(
    request: Request, status_code: int, *, message: str, detail: Sequence[Detail]
) -> Response:
    """Return the page that says what failed, and where in the request."""
    return render(
        request,
        "failure.html",
        status_code=status_code,
        phrase=HTTPStatus(status_code).phrase,
        message=message,
        detail=detail,
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates; every text is escaped, and a name that is not given is an error."""
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
    )
    made.globals.update(headline_tags=HEADLINE_TAGS, value_tags=VALUE_TAGS)
    return made


def moment_text(time_ns: int | None) -> str:
    """Return a time in ns since 1970 as day and minute, in UTC; a dash where there is none."""
    if time_ns is None:
        return NOTHING
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M")


def link_markup(url: Any, text: Any = None) -> Markup:
    """Return a link if the URL is one of http or https, else what it says as text."""
    shown = escape(url if text is None else text)
    if not isinstance(url, str) or not is_link(url):
        return Markup(shown)  # noqa: S704 - escaped above
    return Markup('<a href="{}" rel="noopener noreferrer nofollow">{}</a>').format(url, shown)


def path_text(name: Any) -> str:
    """Return a name as a part of a path: everything but letters, digits, `.`, `_`, `-` quoted."""
    return quote(str(name), safe="")


def query_text(values: Mapping[str, str | None], **changes: str | None) -> str:
    """Return a query string of those values that there are, with some of them changed."""
    kept = {**values, **changes}
    pairs = [f"{quote(key)}={quote(text, safe='')}" for key, text in kept.items() if text]
    return f"?{'&'.join(pairs)}" if pairs else "?"
