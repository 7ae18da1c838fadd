"""The blobs of a job: as they were posted, and their arrays as files for numpy and spreadsheets."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from squash_api.errors import InvalidInputError, NotFoundError
from squash_api.ingest.document import Job
from squash_api.ingest.stored_job import load_job
from squash_api.routes.dependencies import PageDep, SiteDep, id_cursor, next_link, wrong_value
from squash_api.routes.jobs import JobIdDep
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.schema.cells import cell_text
from squash_api.schema.text import finite

router = APIRouter(tags=["jobs"], route_class=KnownParametersRoute)

_MOST_NAMED = 5
_MOST_LETTERS = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Array:
    """An array of numbers: flat, row by row, with None where one is missing, and its shape."""

    key: str
    unit: str
    numbers: Sequence[float | None]
    shape: tuple[int, ...]


@router.get("/job/{job_id}/blobs", responses=errors_of(404, 422))
def get_blobs(request: Request, job_id: JobIdDep, site: SiteDep, page: PageDep) -> Response:
    """List a job's blobs: the identifier, name, keys of the data and URL of each."""
    with site.reader.view() as view:
        _, job = view.ask(load_job, job_id)
    start = id_cursor(page)
    end = start + page.limit
    shown = [
        {
            "identifier": blob.get("identifier"),
            "name": blob.get("name"),
            "keys": list(blob["data"]) if isinstance(blob.get("data"), dict) else [],
            "url": None if path is None else f"{site.settings.url}{path}",
        }
        for blob in job.blobs[start:end]
        for path in (blob_path(job_id, blob.get("identifier")),)
    ]
    link = next_link(request, after=end) if end < len(job.blobs) else None
    return json_reply({"blobs": shown, "next": link})


# `text`: identifiers are any text, with slashes too.
@router.get(
    "/job/{job_id}/blob/{identifier:text}",
    responses={
        200: {"content": {"text/csv": {}, "application/octet-stream": {}}},
        **errors_of(404, 422),
    },
)
def get_blob(
    job_id: JobIdDep,
    identifier: str,
    site: SiteDep,
    *,
    format: Annotated[  # noqa: A002 - the name of the parameter
        Literal["json", "npy", "csv"],
        Query(description="`json`: as it was posted. `npy`, `csv`: its arrays of numbers."),
    ] = "json",
    key: Annotated[
        list[str] | None,
        Query(description="Only this array of the blob; may be repeated. Not for `json`."),
    ] = None,
) -> Response:
    """Return a blob of a job as it was posted, or its arrays of numbers as a file.

    Without `key` these are all arrays of one dimension, which must be of one length. `csv` has a
    column for each, with its unit in the header, and nothing where a number is missing. `npy` is
    for `numpy.load`, with NaN there: an array of the same shape for one array, and a structured
    one for several.
    """
    with site.reader.view() as view:
        _, job = view.ask(load_job, job_id)
    blob = find_blob(job, identifier)
    if format == "json":
        if key:
            raise wrong_value("key", "needs format=npy or format=csv", "unused", place="query")
        return json_reply(blob)
    arrays = chosen_arrays(blob, key or ())
    name = file_name(str(blob.get("name") or "blob"))
    return Response(
        csv_of(arrays) if format == "csv" else npy_of(arrays),
        media_type="text/csv" if format == "csv" else "application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="job-{job_id}-{name}.{format}"'},
    )


def file_name(text: str) -> str:
    """Make of a name the name of a file to download."""
    return _UNSAFE.sub("_", text)[:_MOST_LETTERS]


def blob_path(job_id: int, identifier: Any) -> str | None:
    """Return the path of a blob; None if it has no identifier, or one that no URL can end with."""
    # Clients read dots as steps, however they are quoted.
    if not isinstance(identifier, str) or identifier in {"", ".", ".."}:
        return None
    return f"/job/{job_id}/blob/{quote(identifier, safe='')}"


def find_blob(job: Job, identifier: str) -> dict[str, Any]:
    """Find a blob by its identifier.

    Raises
    ------
    NotFoundError
        If the job has none with it.
    """
    for blob in job.blobs:
        if blob.get("identifier") == identifier:
            return blob
    raise NotFoundError.of("blob", identifier, (str(blob.get("identifier")) for blob in job.blobs))


def chosen_arrays(blob: Mapping[str, Any], keys: Sequence[str]) -> list[Array]:
    """Return the arrays with these keys, or those of one dimension; at least one.

    Several are of one dimension and of the same length. A single one may have more.

    Raises
    ------
    InvalidInputError
        If there are no such arrays.
    """
    data = blob.get("data")
    data = data if isinstance(data, dict) else {}
    found: dict[str, Array] = {}
    for key in keys or data:
        if key not in data:
            known = _listed(data) or "none"
            raise _refused(f"'{_shown(key)}' is not in the blob, which has: {known}")
        array = _read_array(key, data[key])
        if isinstance(array, Array):
            found[key] = array
        elif keys:
            raise _refused(f"'{_shown(key)}' {array}")
    if not found:
        raise _refused("the blob has no array of numbers")
    flat = [array for array in found.values() if len(array.shape) == 1]
    if len(found) == 1 or (not flat and not keys):
        return [_only(found)]
    if keys and len(flat) < len(found):
        deep = next(key for key, array in found.items() if len(array.shape) > 1)
        raise _refused(f"'{_shown(deep)}' has more than one dimension: ask for it alone")
    if len({array.shape for array in flat}) > 1:
        sizes = _listed(f"{array.key} ({len(array.numbers)})" for array in flat)
        raise _refused(f"the arrays are of different lengths: choose some of one length: {sizes}")
    return flat


def csv_of(arrays: Sequence[Array]) -> bytes:
    """Write arrays as CSV, each number as the shortest text that reads back the same.

    Raises
    ------
    InvalidInputError
        If an array has more than two dimensions.
    """
    first = arrays[0]
    if len(first.shape) > 2:
        raise _refused(f"'{_shown(first.key)}' has {len(first.shape)} dimensions: take format=npy")
    columns = [(array.key, array.unit, array.numbers) for array in arrays]
    if len(first.shape) == 2:
        width = first.shape[1]
        columns = [
            (f"{first.key}[{place}]", first.unit, first.numbers[place::width])
            for place in range(width)
        ]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(cell_text(f"{key} [{unit}]" if unit else key) for key, unit, _ in columns)
    rows = zip(*(numbers for _, _, numbers in columns), strict=True)
    writer.writerows(["" if number is None else repr(number) for number in row] for row in rows)
    return text.getvalue().encode()


def npy_of(arrays: Sequence[Array]) -> bytes:
    """Write arrays in numpy's format: one in its shape, several as the fields of one."""
    import numpy as np  # noqa: PLC0415 - slow to import

    columns = [np.array(array.numbers, dtype="<f8").reshape(array.shape) for array in arrays]
    made = columns[0]
    if len(arrays) > 1:
        # numpy renames a field without a name.
        if any(not array.key for array in arrays):
            raise _refused("an array has no name: choose others")
        made = np.empty(columns[0].shape, dtype=[(array.key, "<f8") for array in arrays])
        for array, column in zip(arrays, columns, strict=True):
            made[array.key] = column
    content = BytesIO()
    # Only the last version has names of fields in any script.
    version = (1, 0) if len(arrays) == 1 else (3, 0)
    np.lib.format.write_array(content, made, version=version, allow_pickle=False)
    return content.getvalue()


def _only(found: Mapping[str, Array]) -> Array:
    if len(found) > 1:
        deep = _listed(found)
        raise _refused(f"the arrays have more than one dimension: choose one of: {deep}")
    return next(iter(found.values()))


def _read_array(key: str, datum: Any) -> Array | str:
    """Read an array of numbers, or say why it is not one."""
    value, unit = datum, None
    if isinstance(datum, Mapping) and "value" in datum:
        value, unit = datum["value"], datum.get("unit")
    if not isinstance(value, list):
        return "is not an array"
    rows: list[Any] = value
    shape = [len(rows)]
    while rows and all(isinstance(row, list) for row in rows):
        lengths = {len(row) for row in rows}
        if len(lengths) > 1:
            return "has rows of different lengths"
        shape.append(lengths.pop())
        rows = [item for row in rows for item in row]
    if any(isinstance(item, bool) or not isinstance(item, int | float | None) for item in rows):
        return "is not an array of numbers"
    numbers = [None if item is None else finite(item) for item in rows]
    return Array(key, unit if isinstance(unit, str) else "", numbers, tuple(shape))


def _refused(must: str) -> InvalidInputError:
    error = wrong_value("key", must, "no_array", place="query")
    return InvalidInputError(f"{must[0].upper()}{must[1:]}.", detail=error.detail)


def _listed(names: Any) -> str:
    shown = [_shown(name) for name in names]
    more = len(shown) - _MOST_NAMED
    return ", ".join(shown[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shown(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else f"{name[:_MOST_LETTERS]}\u2026"
