"""JSON replies, written by orjson: values go out as the shortest text that reads back the same."""

from typing import Any

import orjson
from fastapi import Response


def json_reply(content: Any, *, status_code: int = 200) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(content), status_code=status_code, media_type="application/json")
