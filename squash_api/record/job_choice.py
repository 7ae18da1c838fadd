"""Which jobs a question is about: those with some tags, and those that are named."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import orjson
from sqlalchemy import Connection, bindparam, or_, select

from squash_api.record.tables import job_context, job_run, tag_set
from squash_api.storable import MAX_TEXT_BYTES

_CHUNK = 4096
# Databases bear no more than some hundred in one condition, nor long ones.
_MOST_PATTERNS = 50


def matching_sets(connection: Connection, tags: Mapping[str, Collection[str]]) -> frozenset[int]:
    """Return the sets of tags in which each of these tags has one of its values."""
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
    found = set()
    for row in connection.execute(query):
        document = orjson.loads(row.document)
        if all(document.get(name) in values for name, values in tags.items()):
            found.add(row.id)
    return frozenset(found)


def listed_jobs(
    connection: Connection,
    *,
    job_ids: Collection[int] | None,
    run_ids: Collection[str],
    since_ns: int | None,
    until_ns: int | None,
) -> list[tuple[int, int]] | None:
    """Return time and id of jobs that are named and of these runs, in the order of time.

    Both ends of the time count. None is returned if neither jobs nor runs are named.
    """
    ids = None if job_ids is None else set(job_ids)
    if run_ids:
        query = select(job_run.c.job_id).where(job_run.c.run_id.in_(list(run_ids)))
        of_runs = set(connection.execute(query).scalars())
        ids = of_runs if ids is None else ids & of_runs
    if ids is None:
        return None
    return sorted(
        (row.time_ns, row.job_id)
        for chunk in _chunks(sorted(ids))
        for row in connection.execute(_TIMES, {"jobs": chunk})
        if (since_ns is None or since_ns <= row.time_ns)
        and (until_ns is None or row.time_ns <= until_ns)
    )


_TIMES = select(job_context.c.time_ns, job_context.c.job_id).where(
    job_context.c.job_id.in_(bindparam("jobs", expanding=True)),
    job_context.c.tag_set_id.is_not(None),
)


def _chunks(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
