"""Writes measurements in the format that is asked for, while they are read; every bit is kept.

A row is one value of a metric. The columns do not depend on the values: time (UTC, to the ns), job,
metric, value, unit, run_id, run_url, version_tag, all tags, and the metadata that is asked for.
What a job does not have is empty in text, and null where the format has it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec

from squash_api.errors import Detail, InvalidInputError, NotAvailableError
from squash_api.schema.names import Schema
from squash_api.trends.parameters import FORMATS, Format
from squash_api.trends.question import ALL_FIELDS, Question, column_of
from squash_api.trends.series import JobValues, Series

JobLists = Iterable[Sequence[JobValues]]

Writer = Callable[[JobLists, "Columns"], Iterator[bytes]]
"""Yields an answer in one format, in chunks; never none."""

MOST_FIELDS = 1000
"""At most this many columns of metadata."""

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
    wanted, fields = FORMATS[question.format], question.fields
    if question.points is not None:
        jobs = series.downsampled_jobs(question.points)
    else:
        jobs = series.jobs(after=question.after, limit=question.limit)
    if wanted.is_table and ALL_FIELDS in fields:
        fields = tuple(series.field_names())
        if len(fields) > MOST_FIELDS:
            raise InvalidInputError(
                f"The jobs have {len(fields)} metadata keys, too many for a table: name those that "
                "you need.",
                detail=[Detail(("query", "fields"), f"more than {MOST_FIELDS} columns")],
            )
    return _writer(wanted)(jobs, Columns(schema.tags, fields))


def _writer(wanted: Format) -> Writer:
    if wanted.needs and find_spec(wanted.needs) is None:
        raise NotAvailableError(
            f"{wanted.title} needs the library {wanted.needs}, which is not installed here: run "
            f"pip install {wanted.needs}, or ask for CSV."
        )
    module, _, function = wanted.writer.partition(":")
    writer: Writer = getattr(import_module(module), function)
    return writer


def time_text(time_ns: int) -> str:
    """Write a time in ISO 8601, to the ns, in UTC."""
    seconds, rest = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
