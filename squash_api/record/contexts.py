"""The tags and other metadata of jobs, as their points in InfluxDB carry them.

Derived together with the index of measurements.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from squash_api.record.bulk import insert_rows
from squash_api.record.tables import job_context, tag_set
from squash_api.schema import FIELD_SOURCES, Context

_CHUNK = 500
_OWN_COLUMNS = tuple(FIELD_SOURCES)
_COLUMNS = (
    "job_id",
    "version",
    "time_ns",
    "received_ns",
    "tag_set_id",
    *_OWN_COLUMNS,
    "fields",
)


@dataclass(frozen=True, slots=True)
class JobContext:
    """A job's metadata under InfluxDB's names, with the time of its points and of its receipt."""

    job_id: int
    time_ns: int
    received_ns: int
    context: Context


@dataclass(frozen=True, slots=True)
class ChangedJob:
    """A job whose context or measurements are new, or were derived again, or are gone.

    `tag_set_id` is None once the job is deleted.
    """

    job_id: int
    version: int
    time_ns: int
    tag_set_id: int | None


def store_contexts(connection: Connection, items: Sequence[JobContext]) -> None:
    """Store the contexts of jobs, in place of what was there."""
    if not items:
        return
    version = newest_version(connection) + 1
    ids = [item.job_id for item in items]
    connection.execute(delete(job_context).where(job_context.c.job_id.in_(ids)))
    sets = _tag_sets(connection, items)
    rows = []
    for item, tag_set_id in zip(items, sets, strict=True):
        fields = dict(item.context.fields)
        own = [fields.pop(name, None) for name in _OWN_COLUMNS]
        rows.append(
            (
                item.job_id,
                version,
                item.time_ns,
                item.received_ns,
                tag_set_id,
                *own,
                orjson.dumps(fields).decode(),
            )
        )
    insert_rows(connection, job_context, _COLUMNS, rows)


def forget_context(connection: Connection, job_id: int) -> None:
    """Take out what a deleted job said; that it has changed can still be read."""
    version = newest_version(connection) + 1
    emptied = dict.fromkeys(_COLUMNS[_COLUMNS.index("tag_set_id") :])
    connection.execute(
        update(job_context).where(job_context.c.job_id == job_id).values(version=version, **emptied)
    )


def newest_version(connection: Connection) -> int:
    """Return the version of the last change; 0 if there is none."""
    return int(connection.execute(_NEWEST_VERSION).scalar_one())


def changed_jobs(connection: Connection, *, after: int, limit: int) -> list[ChangedJob]:
    """Return jobs that have changed after a version, the first change first.

    All changes of a version are returned together, even if they are more than `limit`.
    """
    rows = connection.execute(_CHANGED, {"after": after, "limit": limit}).all()
    if len(rows) == limit:
        rows = connection.execute(
            _CHANGED_THROUGH, {"after": after, "through": rows[-1].version}
        ).all()
    return [ChangedJob(*row) for row in rows]


def contexts_of(connection: Connection, job_ids: Iterable[int]) -> dict[int, JobContext]:
    """Return the contexts of those jobs that have one, by id."""
    wanted = sorted(set(job_ids))
    found: dict[int, JobContext] = {}
    texts: dict[int, dict[str, str]] = {}
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        rows = connection.execute(_CONTEXT, {"ids": chunk}).all()
        texts.update(tags_of_sets(connection, {row.tag_set_id for row in rows} - texts.keys()))
        for row in rows:
            own = {name: getattr(row, name) for name in _OWN_COLUMNS}
            fields = {name: value for name, value in own.items() if value is not None}
            context = Context(texts[row.tag_set_id], {**orjson.loads(row.fields), **fields})
            found[row.job_id] = JobContext(row.job_id, row.time_ns, row.received_ns, context)
    return found


def tags_of_sets(connection: Connection, ids: Iterable[int]) -> dict[int, dict[str, str]]:
    """Return the tags of each of these sets."""
    wanted = sorted(ids)
    return {
        row.id: orjson.loads(row.document)
        for start in range(0, len(wanted), _CHUNK)
        for row in connection.execute(_TAG_SETS, {"ids": wanted[start : start + _CHUNK]})
    }


_NEWEST_VERSION = select(func.coalesce(func.max(job_context.c.version), 0))
_BY_VERSION = (
    select(
        job_context.c.job_id,
        job_context.c.version,
        job_context.c.time_ns,
        job_context.c.tag_set_id,
    )
    .where(job_context.c.version > bindparam("after"))
    .order_by(job_context.c.version, job_context.c.job_id)
)
_CHANGED = _BY_VERSION.limit(bindparam("limit"))
_CHANGED_THROUGH = _BY_VERSION.where(job_context.c.version <= bindparam("through"))
_CONTEXT = select(job_context).where(
    job_context.c.job_id.in_(bindparam("ids", expanding=True)),
    job_context.c.tag_set_id.is_not(None),
)
_TAG_SETS = select(tag_set.c.id, tag_set.c.document).where(
    tag_set.c.id.in_(bindparam("ids", expanding=True))
)


def _tag_sets(connection: Connection, items: Sequence[JobContext]) -> list[int]:
    """Return the id of each job's set of tags; a set is stored once, however many have it."""
    digests = [_digest(item.context.tags) for item in items]
    documents = dict(digests)
    query = select(tag_set.c.digest, tag_set.c.id).where(tag_set.c.digest.in_(list(documents)))
    known = {row.digest: row.id for row in connection.execute(query)}
    new = [{"digest": key, "document": text} for key, text in documents.items() if key not in known]
    if new:
        connection.execute(insert(tag_set), new)
        known = {row.digest: row.id for row in connection.execute(query)}
    return [known[digest] for digest, _ in digests]


def _digest(tags: Mapping[str, Any]) -> tuple[bytes, str]:
    document = orjson.dumps(tags, option=orjson.OPT_SORT_KEYS)
    return blake2b(document, digest_size=16).digest(), document.decode()
