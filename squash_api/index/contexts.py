"""The tags and other metadata of jobs, as their points in InfluxDB carry them.

Jobs with the same tags share a set of tags, which never changes.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, bindparam, delete, func, or_, select, update

from squash_api.record.bulk import in_chunks, insert_rows, is_wanted, rows_of, store_documents
from squash_api.record.tables import job, job_context, tag_set
from squash_api.schema.names import FIELD_SOURCES, Context
from squash_api.schema.text import MAX_TEXT_BYTES

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
# Databases accept only some hundred patterns in one condition, and no long ones.
_MOST_PATTERNS = 50
_MOST_REMEMBERED_SETS = 10_000

Tags = Mapping[str, str]
TagSets = dict[int, Tags]
"""Sets of tags that have been read, by id."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """A job's metadata under InfluxDB's names, with the time of its points and of its receipt."""

    job_id: int
    time_ns: int
    received_ns: int
    context: Context


@dataclass(frozen=True, slots=True)
class ChangedJob:
    """A job whose context or measurements are new, derived again or deleted.

    `tag_set_id` is None once the job is deleted; `deleted_tag_set_id` is then what it was, if that
    is known.
    """

    job_id: int
    version: int
    time_ns: int
    tag_set_id: int | None
    deleted_tag_set_id: int | None = None


@dataclass(frozen=True, slots=True)
class SeriesJob:
    """A job of a series. Its `time_ns` is that of its points."""

    job_id: int
    time_ns: int
    run_id: str | None


class TagValues:
    """The values that some tags have had in any job, for people to choose from.

    It remembers them, and reads only new sets of tags. Safe to use from many threads.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._through = 0
        self._found: dict[str, set[str]] = {name: set() for name in names}

    def read(self, connection: Connection) -> dict[str, list[str]]:
        """Return the values of each tag, sorted."""
        with self._lock:
            for row in connection.execute(_NEW_TAG_SETS, {"after": self._through}):
                tags: Tags = orjson.loads(row.document)
                for name, values in self._found.items():
                    if name in tags:
                        values.add(tags[name])
                self._through = row.id
            return {name: sorted(values) for name, values in self._found.items()}


class Contexts:
    """Reads the contexts of jobs. Deleted jobs have none.

    `known` are sets of tags that have been read before; those that are read now are added.
    """

    def __init__(self, connection: Connection, known: TagSets | None = None) -> None:
        self._connection = connection
        self._known: TagSets = {} if known is None else known

    def of(self, job_ids: Iterable[int]) -> dict[int, JobContext]:
        """Return the contexts of those jobs that have one, by id."""
        found: dict[int, JobContext] = {}
        for chunk in in_chunks(job_ids):
            rows = self._connection.execute(_CONTEXTS, {"wanted": chunk}).all()
            tags = self.tags(row.tag_set_id for row in rows)
            for row in rows:
                own = {name: getattr(row, name) for name in _OWN_COLUMNS}
                fields = {name: value for name, value in own.items() if value is not None}
                context = Context(
                    dict(tags[row.tag_set_id]), {**orjson.loads(row.fields), **fields}
                )
                found[row.job_id] = JobContext(row.job_id, row.time_ns, row.received_ns, context)
        return found

    def tags(self, tag_set_ids: Iterable[int]) -> TagSets:
        """Return the tags of each of these sets."""
        found: TagSets = {}
        unknown = []
        for number in tag_set_ids:
            tags = self._known.get(number)
            if tags is None:
                unknown.append(number)
            else:
                found[number] = tags
        rows = rows_of(self._connection, _TAG_SETS, unknown)
        read: TagSets = {row.id: orjson.loads(row.document) for row in rows}
        if len(self._known) + len(read) > _MOST_REMEMBERED_SETS:
            self._known.clear()
        self._known.update(read)
        return {**found, **read}

    def tag_sets_where(
        self,
        tags: Mapping[str, Collection[str]],
        suits: Callable[[Tags], bool] | None = None,
    ) -> TagSets:
        """Return the sets of tags in which each tag has one of its values, by id.

        Only those for which `suits` is true are returned.
        """
        query = select(tag_set.c.id, tag_set.c.document)
        for name, values in tags.items():
            # The document is JSON as orjson writes it, where a tag can only look like this. LIKE
            # may ignore case and so find too many.
            if len(values) > _MOST_PATTERNS or max(map(len, values), default=0) > MAX_TEXT_BYTES:
                continue
            texts = [orjson.dumps({name: value}).decode()[1:-1] for value in values]
            query = query.where(
                or_(*(tag_set.c.document.contains(text, autoescape=True) for text in texts))
            )
        found: TagSets = {}
        for row in self._connection.execute(query):
            document: dict[str, str] = orjson.loads(row.document)
            if all(document.get(name) in values for name, values in tags.items()) and (
                suits is None or suits(document)
            ):
                found[row.id] = document
        return found

    def tag_sets_of(self, job_ids: Iterable[int]) -> set[int]:
        """Return the ids of the sets of tags of these jobs."""
        query = select(job_context.c.tag_set_id).where(
            job_context.c.job_id.in_(list(job_ids)), job_context.c.tag_set_id.is_not(None)
        )
        return set(self._connection.execute(query).scalars())

    def neighbours(
        self,
        tag_set_ids: Iterable[int],
        time_ns: int,
        *,
        direction: Literal["earlier", "later"],
        limit: int,
    ) -> list[SeriesJob]:
        """Return the jobs with these sets of tags just before or after a time, nearest first."""
        time = job_context.c.time_ns
        is_earlier = direction == "earlier"
        found: list[SeriesJob] = []
        for chunk in in_chunks(tag_set_ids):
            query = (
                select(job_context.c.job_id, time, job_context.c.run_id)
                .where(
                    job_context.c.tag_set_id.in_(chunk),
                    time < time_ns if is_earlier else time > time_ns,
                )
                .order_by(time.desc() if is_earlier else time)
                .limit(limit)
            )
            found.extend(SeriesJob(*row) for row in self._connection.execute(query))
        found.sort(key=lambda item: item.time_ns, reverse=is_earlier)
        return found[:limit]

    def newest_first(
        self, tag_set_ids: Iterable[int], *, after_ns: int, before_ns: int, limit: int
    ) -> list[tuple[int, int]]:
        """Return job and time (ns) of the newest jobs with these sets of tags between two times."""
        found: list[tuple[int, int]] = []
        times = {"after": after_ns, "before": before_ns, "limit": limit}
        for chunk in in_chunks(tag_set_ids):
            # With one set an index has the jobs in order of time; in a list of one, it is not used.
            query, sets = (_OF_SET, chunk[0]) if len(chunk) == 1 else (_OF_SETS, chunk)
            rows: Any = self._connection.execute(query, {**times, "wanted": sets}).all()
            found.extend((row.job_id, row.time_ns) for row in rows)
        return sorted(found, key=itemgetter(1), reverse=True)[:limit]

    def tag_sets_after(self, tag_set_id: int) -> dict[int, Tags]:
        """Return the sets of tags that have been stored after this one, by id; none is kept."""
        rows = self._connection.execute(_NEW_TAG_SETS, {"after": tag_set_id})
        return {row.id: orjson.loads(row.document) for row in rows}

    def at(self, times: Iterable[int]) -> dict[int, int]:
        """Return the jobs that have these times (ns), by time."""
        return {row.time_ns: row.job_id for row in rows_of(self._connection, _AT, times)}

    def versions(self, job_ids: Iterable[int]) -> dict[int, int]:
        """Return a number for each of these jobs that grows when the job is derived again."""
        return {row.job_id: row.version for row in rows_of(self._connection, _VERSIONS, job_ids)}

    def revisions(self, job_ids: Iterable[int]) -> dict[int, int]:
        """Return the revision of the definitions when each of these jobs was received."""
        return {row.id: row.revision for row in rows_of(self._connection, _REVISIONS, job_ids)}

    def changed(self, *, after: int, limit: int) -> list[ChangedJob]:
        """Return jobs that have changed since a version, oldest change first.

        All changes of a version are returned together, even if there are more than `limit`.
        """
        rows = self._connection.execute(_CHANGED, {"after": after, "limit": limit}).all()
        if len(rows) == limit:
            rows = self._connection.execute(
                _CHANGED_THROUGH, {"after": after, "through": rows[-1].version}
            ).all()
        return [ChangedJob(*row) for row in rows]

    def newest_version(self) -> int:
        """Return the version of the newest change; 0 if there is none."""
        return _newest_version(self._connection)

    def first_since(self, received_ns: int) -> int | None:
        """Return the first job that was received at this time or later, or None."""
        return self._connection.execute(_SINCE, {"received_ns": received_ns}).scalar_one_or_none()

    def last_job(self) -> int:
        """Return the highest id of a job; 0 if there is none."""
        return int(self._connection.execute(_LAST).scalar_one())


def store_contexts(connection: Connection, items: Sequence[JobContext]) -> None:
    """Store the contexts of jobs, replacing those that are there."""
    if not items:
        return
    version = _newest_version(connection) + 1
    ids = [item.job_id for item in items]
    connection.execute(delete(job_context).where(job_context.c.job_id.in_(ids)))
    sets = store_documents(
        connection,
        tag_set,
        [orjson.dumps(item.context.tags, option=orjson.OPT_SORT_KEYS) for item in items],
    )
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


def forget_contexts(connection: Connection, job_ids: Sequence[int]) -> None:
    """Delete the contexts of deleted jobs; that they have changed can still be read."""
    version = _newest_version(connection) + 1
    emptied = dict.fromkeys(_COLUMNS[_COLUMNS.index("tag_set_id") :])
    # What it was is read before anything is changed.
    connection.execute(
        update(job_context)
        .where(job_context.c.job_id.in_(job_ids), _HAS_CONTEXT)
        .values(deleted_tag_set_id=job_context.c.tag_set_id, version=version, **emptied)
    )


def _newest_version(connection: Connection) -> int:
    return int(connection.execute(_NEWEST_VERSION).scalar_one())


_HAS_CONTEXT = job_context.c.tag_set_id.is_not(None)
_CONTEXTS = select(job_context).where(is_wanted(job_context.c.job_id), _HAS_CONTEXT)
_VERSIONS = select(job_context.c.job_id, job_context.c.version).where(
    is_wanted(job_context.c.job_id), _HAS_CONTEXT
)
_REVISIONS = select(job.c.id, job.c.revision).where(is_wanted(job.c.id))
_TAG_SETS = select(tag_set.c.id, tag_set.c.document).where(is_wanted(tag_set.c.id))
_NEW_TAG_SETS = (
    select(tag_set.c.id, tag_set.c.document)
    .where(tag_set.c.id > bindparam("after"))
    .order_by(tag_set.c.id)
)
_NEWEST_FIRST = (
    select(job_context.c.job_id, job_context.c.time_ns)
    .where(job_context.c.time_ns > bindparam("after"), job_context.c.time_ns < bindparam("before"))
    .order_by(job_context.c.time_ns.desc())
    .limit(bindparam("limit"))
)
_OF_SET = _NEWEST_FIRST.where(job_context.c.tag_set_id == bindparam("wanted"))
_OF_SETS = _NEWEST_FIRST.where(is_wanted(job_context.c.tag_set_id))
_AT = select(job_context.c.time_ns, job_context.c.job_id).where(
    is_wanted(job_context.c.time_ns), _HAS_CONTEXT
)
_NEWEST_VERSION = select(func.coalesce(func.max(job_context.c.version), 0))
_BY_VERSION = (
    select(
        job_context.c.job_id,
        job_context.c.version,
        job_context.c.time_ns,
        job_context.c.tag_set_id,
        job_context.c.deleted_tag_set_id,
    )
    .where(job_context.c.version > bindparam("after"))
    .order_by(job_context.c.version, job_context.c.job_id)
)
_CHANGED = _BY_VERSION.limit(bindparam("limit"))
_CHANGED_THROUGH = _BY_VERSION.where(job_context.c.version <= bindparam("through"))
_SINCE = select(func.min(job_context.c.job_id)).where(
    job_context.c.received_ns >= bindparam("received_ns")
)
_LAST = select(func.coalesce(func.max(job_context.c.job_id), 0))
