"""The pages by their paths (programs get JSON there), and the files that pages load."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Response

from squash_api.errors import NotFoundError


class Page(NamedTuple):
    """A path below the public root, what makes the page, and its label if the menu has it.

    `place` names a module of this package and a function in it, which is imported when it is first
    called.
    """

    path: str
    place: str
    label: str = ""


PAGES = (
    Page("/", "front:front_page", "Metrics"),
    Page("/alerts", "alerts:alerts_page", "Alerts"),
    Page("/alert/{alert_id}", "alerts:alert_page"),
    Page("/runs", "runs:runs_page", "Runs"),
    Page("/runs/{pipeline:text}/{run_id:text}", "runs:run_page"),
    Page("/notebooks", "notebooks:notebooks_page", "Notebooks"),
    Page("/notebook/{job_id}", "notebooks:notebook_page"),
    Page("/specs", "specs:specs_page", "Specifications"),
    Page("/report", "report:report_page", "Report"),
    Page("/docs", "docs:docs_page", "Docs"),
    Page("/docs/{name}", "docs:document_page"),
    Page("/search", "search:search_page"),
    Page("/job/{job_id}", "job:job_page"),
    Page("/metric/{name:text}", "metric:metric_page"),
    Page("/login", "account:login_page"),
    Page("/logout", "account:logout_page"),
    Page("/account", "account:account_page"),
    Page("/users", "account:users_page"),
    Page("/audit", "account:audit_page"),
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
