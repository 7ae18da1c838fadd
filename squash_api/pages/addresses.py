"""The pages by their paths (programs get JSON there), and the files that pages load."""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter, Response

from squash_api.errors import NotFoundError
from squash_api.pages.account import (
    account_page,
    audit_page,
    login_page,
    logout_page,
    users_page,
)
from squash_api.pages.alerts import alert_page, alerts_page
from squash_api.pages.docs import docs_page, document_page
from squash_api.pages.front import front_page
from squash_api.pages.job import job_page
from squash_api.pages.metric import metric_page
from squash_api.pages.notebooks import notebook_page, notebooks_page
from squash_api.pages.report import report_page
from squash_api.pages.runs import run_page, runs_page
from squash_api.pages.search import search_page
from squash_api.pages.specs import specs_page


class Page(NamedTuple):
    """A path below the public root, what makes the page, and its label if the menu has it."""

    path: str
    make: Callable[..., Any] | Callable[..., Awaitable[Any]]
    label: str = ""


PAGES = (
    Page("/", front_page, "Metrics"),
    Page("/alerts", alerts_page, "Alerts"),
    Page("/alert/{alert_id}", alert_page),
    Page("/runs", runs_page, "Runs"),
    Page("/runs/{pipeline:text}/{run_id:text}", run_page),
    Page("/notebooks", notebooks_page, "Notebooks"),
    Page("/notebook/{job_id}", notebook_page),
    Page("/specs", specs_page, "Specifications"),
    Page("/report", report_page, "Report"),
    Page("/docs", docs_page, "Docs"),
    Page("/docs/{name}", document_page),
    Page("/search", search_page),
    Page("/job/{job_id}", job_page),
    Page("/metric/{name:text}", metric_page),
    Page("/login", login_page),
    Page("/logout", logout_page),
    Page("/account", account_page),
    Page("/users", users_page),
    Page("/audit", audit_page),
)
"""All pages; the menu has them in this order."""

MENU = tuple((page.path, page.label) for page in PAGES if page.label)
"""The paths and labels of the menu on every page."""

router = APIRouter(include_in_schema=False)

_OWN = Path(__file__).parent / "static"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BOKEH = frozenset({"bokeh.min.js", "bokeh-gl.min.js"})


@router.get("/static/{name}")
def get_static(name: str) -> Response:
    """Return a file that pages load; its URL changes with the version of this software."""
    content, kind = _read(name)
    return Response(
        content,
        media_type=kind,
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


@lru_cache(maxsize=32)
def _read(name: str) -> tuple[bytes, str]:
    directory = _bokeh_directory() if name in _BOKEH else _OWN
    path = directory / name
    # A name with a separator would leave the directory.
    if path.parent != directory or path.suffix not in _KINDS or not path.is_file():
        raise NotFoundError(f"There is no file {name[:100]}.")
    return path.read_bytes(), f"{_KINDS[path.suffix]}; charset=utf-8"


def _bokeh_directory() -> Path:
    # Not imported: that takes a second, and only its files are needed.
    spec = find_spec("bokeh")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("bokeh")
    return Path(spec.origin).parent / "server" / "static" / "js"
