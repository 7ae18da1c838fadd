"""Measurements as CSV."""

import re
from collections.abc import Iterator
from functools import cache

from squash_api.schema.cells import cell_text
from squash_api.trends.formats.answer import Columns, JobLists, time_text
from squash_api.trends.series import JobValues

_CHUNK_BYTES = 256_000
_MUST_BE_QUOTED = re.compile('[",\\r\\n]')


def csv_chunks(jobs: JobLists, columns: Columns) -> Iterator[bytes]:
    """Yield CSV with a header in UTF-8, in chunks.

    Numbers are the shortest text that reads back the same. Text is quoted where CSV requires it,
    and begins with a `'` where a spreadsheet would run it.
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
    text = cell_text(text)
    if _MUST_BE_QUOTED.search(text) is None:
        return text
    return '"' + text.replace('"', '""') + '"'
