"""Jobs that follow each other with the same values of some tags."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson
from sqlalchemy import Connection, or_, select

from squash_api.record.tables import job_context, tag_set
from squash_api.storable import MAX_TEXT_BYTES

_CHUNK = 500
# Databases bear no more than some hundred in one condition, nor long ones.
_MOST_PATTERNS = 50


@dataclass(frozen=True, slots=True)
class SeriesJob:
    """A job of a series. Its `time_ns` is that of its points."""

    job_id: int
    time_ns: int
    run_id: str | None


def tag_sets_where(
    connection: Connection,
    tags: Mapping[str, Collection[str]],
    is_wanted: Callable[[dict[str, str]], bool] | None = None,
) -> dict[int, dict[str, str]]:
    """Return the sets of tags in which each tag has one of its values, by id.

    `is_wanted` may leave out more of them.
    """
    query = select(tag_set.c.id, tag_set.c.document)
    for name, values in tags.items():
        # The document is JSON as orjson writes it, where a tag can only look like this. LIKE may
        # take small letters for capitals, so that it finds too many.
        if len(values) > _MOST_PATTERNS or max(map(len, values), default=0) > MAX_TEXT_BYTES:
            continue
        texts = [orjson.dumps({name: value}).decode()[1:-1] for value in values]
        query = query.where(
            or_(*(tag_set.c.document.contains(text, autoescape=True) for text in texts))
        )
    found = {}
    for row in connection.execute(query):
        document: dict[str, str] = orjson.loads(row.document)
        if all(document.get(name) in values for name, values in tags.items()) and (
            is_wanted is None or is_wanted(document)
        ):
            found[row.id] = document
    return found


def neighbours(
    connection: Connection,
    tag_set_ids: Iterable[int],
    time_ns: int,
    *,
    direction: Literal["earlier", "later"],
    limit: int,
) -> list[SeriesJob]:
    """Return the jobs with these sets of tags next to a time, the nearest first."""
    time = job_context.c.time_ns
    is_earlier = direction == "earlier"
    found: list[SeriesJob] = []
    for chunk in _chunks(sorted(tag_set_ids)):
        query = (
            select(job_context.c.job_id, time, job_context.c.run_id)
            .where(
                job_context.c.tag_set_id.in_(chunk),
                time < time_ns if is_earlier else time > time_ns,
            )
            .order_by(time.desc() if is_earlier else time)
            .limit(limit)
        )
        found.extend(SeriesJob(*row) for row in connection.execute(query))
    found.sort(key=lambda item: item.time_ns, reverse=is_earlier)
    return found[:limit]


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
