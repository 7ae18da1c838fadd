"""Measurements as JSON: a page, or all that is asked for as one page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import orjson

from squash_api.trends.formats.answer import Columns, JobLists, time_text
from squash_api.trends.question import ALL_FIELDS
from squash_api.trends.series import Value, values_of


class FoundValue(TypedDict):
    """A value of a metric, and the job that it is of."""

    metric: str
    """The metric's full name."""
    value: float | None
    """The value, in `unit`; null if it is absent."""
    unit: str | None
    """The metric's unit, in astropy's spelling, or the one that was asked for."""
    job: int
    """The job's id."""
    time: str
    """When it was measured, to the nanosecond."""
    time_ns: int
    """The same, in nanoseconds since 1970."""
    run_id: str | None
    """The id of its run."""
    run_url: str | None
    """URL of the run where it ran."""
    version_tag: str | None
    """The release of the software."""
    tags: Mapping[str, str]
    """The tags of its series."""
    fields: NotRequired[dict[str, Any]]
    """The metadata that were asked for as `fields`, by name."""


def value_object(value: Value, *, fields: Sequence[str] = ()) -> FoundValue:
    """Describe a value for JSON, with these fields; `*` stands for all that the job has."""
    shown: FoundValue = {
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
