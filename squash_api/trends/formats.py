"""Writes measurements as JSON, CSV and Parquet while they are read, with every bit kept.

A row is one value of a metric. The columns do not depend on the values: time (UTC, to the ns), job,
metric, value, unit, run_id, run_url, version_tag, all tags, and the metadata that is asked for.
What a job does not have is empty in CSV and null in the others.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from typing import Any

import orjson

from squash_api.errors import Detail, InvalidInputError, NotAvailableError
from squash_api.schema.names import TEXT_SUFFIX, Schema
from squash_api.trends.question import ALL_FIELDS, Question, column_of
from squash_api.trends.series import JobValues, Series, Value, values_of

JobLists = Iterable[Sequence[JobValues]]

MEDIA_TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
    "parquet": "application/vnd.apache.parquet",
}
MOST_FIELDS = 1000
"""At most this many columns of metadata."""

_CHUNK_BYTES = 256_000
_ROWS_OF_A_GROUP = 50_000
_MUST_BE_QUOTED = re.compile('[",\\r\\n]')
_OWN_COLUMNS = ("time", "job", "metric", "value", "unit", "run_id", "run_url", "version_tag")


@dataclass(frozen=True, slots=True)
class Columns:
    """The tags and the metadata that have columns."""

    tags: Sequence[str]
    fields: Sequence[str] = ()

    def names(self) -> list[str]:
        """List the names of all columns, in order."""
        return [*_OWN_COLUMNS, *map(column_of, self.tags), *self.fields]


def answer_chunks(series: Series, question: Question, *, schema: Schema) -> Iterator[bytes]:
    """Yield the answer to a question in its format, in chunks.

    Raises
    ------
    InvalidInputError
        If all metadata is asked for, and there are too many columns.
    NotAvailableError
        If the format needs a library that is not installed.
    """
    fields = question.fields
    if question.points is not None:
        jobs = series.downsampled_jobs(question.points)
    else:
        jobs = series.jobs(after=question.after, limit=question.limit)
    if question.format == "json":
        return json_chunks(values_of(jobs), fields=fields)
    if ALL_FIELDS in fields:
        fields = tuple(series.field_names())
        if len(fields) > MOST_FIELDS:
            raise InvalidInputError(
                f"The jobs have {len(fields)} metadata keys, too many for a table: name those that "
                "you need.",
                detail=[Detail(("query", "fields"), f"more than {MOST_FIELDS} columns")],
            )
    columns = Columns(schema.tags, fields)
    return (csv_chunks if question.format == "csv" else parquet_chunks)(jobs, columns)


def time_text(time_ns: int) -> str:
    """Write a time in ISO 8601, to the ns, in UTC."""
    seconds, rest = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


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


def json_chunks(values: Iterable[Value], *, fields: Sequence[str] = ()) -> Iterator[bytes]:
    """Yield the JSON of a page with all values, in chunks."""
    separator = b'{"measurements":['
    waiting: list[bytes] = []
    for value in values:
        waiting += (separator, orjson.dumps(value_object(value, fields=fields)))
        separator = b","
        if len(waiting) >= 1000:
            yield b"".join(waiting)
            waiting.clear()
    yield b"".join([*waiting, separator if separator != b"," else b"", b'],"next":null}'])


def csv_chunks(jobs: JobLists, columns: Columns) -> Iterator[bytes]:
    """Yield CSV with a header in UTF-8, in chunks.

    Numbers are the shortest text that reads back the same. Text is quoted where CSV requires it,
    and never changed.
    """
    waiting = [",".join(map(_quoted, columns.names())), "\n"]
    size = 0
    quoted = cache(_quoted)
    for some in jobs:
        for item in some:
            start = f"{time_text(item.job.time_ns)},{item.job.job_id},"
            end = f"{_job_text(item, columns)}\n"
            for metric, unit, value in item.values:
                number = "" if value is None else repr(value)
                waiting.append(f"{start}{quoted(metric)},{number},{quoted(unit or '')},{end}")
            size += len(item.values) * (len(start) + len(end) + 50)
            if size > _CHUNK_BYTES:
                yield "".join(waiting).encode()
                waiting.clear()
                size = 0
    if waiting:
        yield "".join(waiting).encode()


def parquet_chunks(jobs: JobLists, columns: Columns) -> Iterator[bytes]:
    """Yield a Parquet file, in chunks.

    Raises
    ------
    NotAvailableError
        If pyarrow is not installed; raised by the call itself.
    """
    if find_spec("pyarrow") is None:
        raise NotAvailableError(
            "Parquet needs the library pyarrow, which is not installed here: ask for CSV, or have "
            "squash-api[parquet] installed."
        )
    return _parquet_chunks(jobs, columns)


def _parquet_chunks(jobs: JobLists, columns: Columns) -> Iterator[bytes]:
    pa = _pyarrow()
    schema = _parquet_schema(columns)
    sink = _Sink()
    with pa.parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), schema) as writer:
        waiting: list[JobValues] = []
        rows = 0
        for some in jobs:
            waiting.extend(some)
            rows += sum(len(item.values) for item in some)
            if rows >= _ROWS_OF_A_GROUP:
                writer.write_batch(_batch(waiting, columns, schema))
                waiting, rows = [], 0
                yield sink.taken()
        if waiting:
            writer.write_batch(_batch(waiting, columns, schema))
    yield sink.taken()


class _Sink:
    """A file whose content can be taken while it is being written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.closed = False

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def flush(self) -> None:
        """Do nothing: everything can be taken at once."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _pyarrow() -> Any:
    """Import the library, which may not be installed, and is slow to import."""
    import pyarrow.parquet  # noqa: PLC0415

    return pyarrow


def _parquet_schema(columns: Columns) -> Any:
    pa = _pyarrow()
    types = {"time": pa.timestamp("ns", tz="UTC"), "job": pa.int64(), "value": pa.float64()}
    types |= {name: pa.float64() for name in columns.fields if not name.endswith(TEXT_SUFFIX)}
    return pa.schema([(name, types.get(name, pa.string())) for name in columns.names()])


def _batch(items: Sequence[JobValues], columns: Columns, schema: Any) -> Any:
    """Make rows; what belongs to a job is repeated for each of its values."""
    import numpy as np  # noqa: PLC0415

    pa = _pyarrow()
    places = pa.array(np.repeat(np.arange(len(items)), [len(item.values) for item in items]))
    of_values = list(zip(*(entry for item in items for entry in item.values), strict=True))
    arrays = []
    for column, read in zip(schema, _readers(columns), strict=True):
        if column.name in _VALUE_COLUMNS:
            array = pa.array(of_values[_VALUE_COLUMNS.index(column.name)], type=column.type)
        else:
            array = pa.array([read(item) for item in items], type=column.type).take(places)
        arrays.append(array)
    return pa.record_batch(arrays, schema=schema)


# In the order of `JobValues.values`.
_VALUE_COLUMNS = ("metric", "unit", "value")


def _readers(columns: Columns) -> list[Callable[[JobValues], Any]]:
    """Make a reader for each column, which gives a job's entry; those of values are not called."""
    return [
        lambda item: item.job.time_ns,
        lambda item: item.job.job_id,
        *(lambda _: None for _ in _VALUE_COLUMNS),
        lambda item: item.job.run_id,
        lambda item: item.job.run_url,
        lambda item: item.job.version_tag,
        *((lambda item, name=name: item.tags.get(name)) for name in columns.tags),
        *((lambda item, name=name: item.job.fields.get(name)) for name in columns.fields),
    ]


def _job_text(item: JobValues, columns: Columns) -> str:
    """Write the cells after the unit."""
    job = item.job
    return ",".join(
        [
            *(_quoted(text or "") for text in (job.run_id, job.run_url, job.version_tag)),
            *(_quoted(item.tags.get(name, "")) for name in columns.tags),
            *(_cell(job.fields.get(name)) for name in columns.fields),
        ]
    )


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    if _MUST_BE_QUOTED.search(text) is None:
        return text
    return '"' + text.replace('"', '""') + '"'
