"""What pages load: our own styles and scripts, and Bokeh's, from the installed package."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Response

from squash_api.errors import NotFoundError

router = APIRouter(include_in_schema=False)

_OWN = Path(__file__).parent / "static"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BOKEH = frozenset({"bokeh.min.js", "bokeh-gl.min.js"})


@router.get("/static/{name}")
def get_static(name: str) -> Response:
    """Return a file that pages load; its address changes with the version of this software."""
    found = _read(name)
    if found is None:
        raise NotFoundError(f"There is no file {name[:100]}.")
    content, kind = found
    return Response(
        content,
        media_type=kind,
        headers={
            "Cache-Control": "public, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        },
    )


@lru_cache(maxsize=32)
def _read(name: str) -> tuple[bytes, str] | None:
    folder = _bokeh_folder() if name in _BOKEH else _OWN
    path = folder / name
    # A name with a separator would leave the folder.
    if path.parent != folder or path.suffix not in _KINDS or not path.is_file():
        return None
    return path.read_bytes(), f"{_KINDS[path.suffix]}; charset=utf-8"


def _bokeh_folder() -> Path:
    # Not imported: that takes a second, and only its files are wanted.
    spec = find_spec("bokeh")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("bokeh")
    return Path(spec.origin).parent / "server" / "static" / "js"
