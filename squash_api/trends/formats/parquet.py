"""Measurements as Parquet, by pyarrow: a module that may be imported only if it is installed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from squash_api.schema.names import TEXT_SUFFIX
from squash_api.trends.formats.answer import Columns, JobLists
from squash_api.trends.series import JobValues

_ROWS_OF_A_GROUP = 50_000


def parquet_chunks(jobs: JobLists, columns: Columns) -> Iterator[bytes]:
    """Yield a Parquet file, in chunks."""
    schema = _schema(columns)
    sink = _Sink()
    with ParquetWriter(pa.PythonFile(sink, mode="w"), schema) as writer:
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


def _schema(columns: Columns) -> Any:
    types = {"time": pa.timestamp("ns", tz="UTC"), "job": pa.int64(), "value": pa.float64()}
    types |= {name: pa.float64() for name in columns.fields if not name.endswith(TEXT_SUFFIX)}
    return pa.schema([(name, types.get(name, pa.string())) for name in columns.names()])


def _batch(items: Sequence[JobValues], columns: Columns, schema: Any) -> Any:
    """Make rows; what belongs to a job is repeated for each of its values."""
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
