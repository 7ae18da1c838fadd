"""Measurements as JSON: a page, or all that is asked for as one page."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from squash_api.trends.formats.answer import Columns, JobLists, time_text
from squash_api.trends.question import ALL_FIELDS
from squash_api.trends.series import Value, values_of


def value_object(value: Value, *, fields: Sequence[str] = ()) -> dict[str, Any]:
    """Describe a value for JSON, with these fields; `*` stands for all that the job has."""
    shown: dict[str, Any] = {
        "metric": value.metric,
        "value": value.value,
        "unit": value.unit,
        "job": value.job_id,
        "time": time_text(value.time_ns),
        "time_ns": value.time_ns,
        "run_id": value.run_id,
        "run_url": value.run_url,
        "version_tag": value.version_tag,
        "tags": value.tags,
    }
    if fields:
        has_all = ALL_FIELDS in fields
        names = value.fields if has_all else [name for name in fields if name in value.fields]
        shown["fields"] = {name: value.fields[name] for name in names}
    return shown


def json_chunks(jobs: JobLists, columns: Columns) -> Iterator[bytes]:
    """Yield the JSON of a page with all values, in chunks."""
    separator = b'{"measurements":['
    waiting: list[bytes] = []
    for value in values_of(jobs):
        waiting += (separator, orjson.dumps(value_object(value, fields=columns.fields)))
        separator = b","
        if len(waiting) >= 1000:
            yield b"".join(waiting)
            waiting.clear()
    yield b"".join([*waiting, separator if separator != b"," else b"", b'],"next":null}'])
