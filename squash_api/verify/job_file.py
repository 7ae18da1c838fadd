"""Job documents on disk, as pipelines write them, bare NaN included.

Imports only the standard library, as `squash_api.verify.measurement` does. The service checks
documents in `squash_api.ingest.document`.
"""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any
from uuid import uuid4

from squash_api.verify.measurement import DocumentError, plain

_PARTS: tuple[tuple[str, type], ...] = (("measurements", list), ("blobs", list), ("meta", dict))


def read_job_file(path: str | Path) -> tuple[dict[str, Any], int]:
    """Read those parts of a job file that are sent: `measurements`, `blobs` and `meta`.

    Returns
    -------
    tuple
        The parts, and the number of values that became null because they are not finite.

    Raises
    ------
    DocumentError
        With the file's name, and the line and column where it stops being JSON.
    """
    try:
        document, lost = parse_json(Path(path).read_bytes())
        return job_parts(document), lost
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
    except DocumentError as error:
        message = str(error)
    raise DocumentError(f"{path}: {message}")


def parse_json(data: bytes) -> tuple[Any, int]:
    """Read JSON in which there may be bare NaN; return it, and how many numbers became null.

    Raises
    ------
    DocumentError
        With the line and column where it stops being JSON.
    """
    lost: list[str] = []

    def number(text: str) -> float | None:
        value = float(text)
        if isfinite(value):
            return value
        lost.append(text)
        return None

    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, parse_constant=lost.append, parse_float=number), len(lost)
    except UnicodeDecodeError as error:
        message = f"not JSON: it is not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except ValueError:
        message = "not JSON that can be read: a number has too many digits"
    except RecursionError:
        message = "not a job: it is nested too deeply"
    raise DocumentError(message)


def job_parts(document: Any) -> dict[str, Any]:
    """Return `measurements`, `blobs` and `meta` of a job document, empty where absent.

    Raises
    ------
    DocumentError
        If it has none of the three, or one is not a list or an object.
    """
    if not isinstance(document, Mapping) or not any(name in document for name, _ in _PARTS):
        raise DocumentError("not a job: it is not an object with measurements, blobs and meta")
    parts = {name: document.get(name) or kind() for name, kind in _PARTS}
    for name, kind in _PARTS:
        if not isinstance(parts[name], kind):
            shown = "a list" if kind is list else "an object"
            raise DocumentError(f"not a job: {name} is not {shown}")
    return parts


def identified(document: Any) -> dict[str, Any]:
    """Return the parts of a job with identifiers for all measurements: it can be sent twice."""
    parts: dict[str, Any] = plain(job_parts(document), "job")
    for item in parts["measurements"]:
        if isinstance(item, dict) and not item.get("identifier"):
            item["identifier"] = uuid4().hex
    return parts
