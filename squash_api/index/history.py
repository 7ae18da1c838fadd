"""The history of series: the jobs that name a metric, newest first, with their runs and values.

A series is given by the sets of tags that its jobs have, and what else these must meet, as for
`index/newest.py`. Jobs are in the order of their times, whenever they were received.
"""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from squash_api.index.reader import View
from squash_api.record.bulk import in_chunks, is_wanted
from squash_api.record.tables import job_context, measurement
from squash_api.schema.names import Context

# Most of those who ask look at a few runs.
_FIRST_PAGE = 8
_PAGE = 100
_LAST_NS = 2**63 - 1
# A query of one set has them in order from an index; of many sets it sorts what it finds.
_MOST_APART = 16
# A metric that fewer jobs name than these, among more than those, is looked for by its name.
_FEW_VALUES = 2_000
_MANY_JOBS = 20_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A job of a series. `value` is None if the job names the metric without a usable value.

    The run is `pipeline` and `run_id`; a job without `run_id` is a run of its own.
    """

    job_id: int
    time_ns: int
    pipeline: str | None
    run_id: str | None
    value: float | None

    @property
    def run(self) -> tuple[str | None, str | int]:
        """What entries of the same run have in common."""
        return (self.pipeline, self.run_id) if self.run_id is not None else (None, self.job_id)


def history_of(
    view: View,
    metric_id: int,
    tag_sets: Sequence[int],
    *,
    through_ns: int = _LAST_NS,
    suits: Callable[[Context], bool] | None = None,
) -> Iterator[Entry]:
    """Yield the entries of a series, newest first, reading only as many as are asked for.

    Parameters
    ----------
    tag_sets
        The sets of tags of its jobs.
    through_ns
        Only entries of this time and before.
    suits
        Only entries of jobs with a suitable context.
    """
    if view.ask(_is_rare, metric_id, tag_sets):
        found = _all_entries(view, metric_id, set(tag_sets), through_ns)
    else:
        found = _merged_entries(view, metric_id, tag_sets, through_ns)
    if suits is None:
        yield from found
        return
    while some := list(islice(found, _FIRST_PAGE)):
        contexts = view.contexts.of(item.job_id for item in some)
        for item in some:
            if item.job_id in contexts and suits(contexts[item.job_id].context):
                yield item


def _is_rare(connection: Connection, metric_id: int, tag_sets: Sequence[int]) -> bool:
    """Tell whether few jobs name a metric, and any of these sets has very many jobs.

    Then nearly all of those would be looked at in vain.
    """
    of_metric = {"metric": metric_id, "offset": _FEW_VALUES}
    if connection.execute(_VALUE_AT, of_metric).one_or_none() is not None:
        return False
    return any(
        connection.execute(_JOB_AT, {"wanted": number, "offset": _MANY_JOBS}).one_or_none()
        for number in tag_sets
    )


def _all_entries(
    view: View, metric_id: int, tag_sets: AbstractSet[int], through_ns: int
) -> Iterator[Entry]:
    """Yield the entries of a metric that few jobs name, all of which are read."""
    rows = view.ask(_page, _OF_METRIC, {"metric": metric_id})
    some = [row for row in rows if row.tag_set_id in tag_sets and row.time_ns <= through_ns]
    yield from _made(view, sorted(some, key=lambda row: -row.time_ns))


def _merged_entries(
    view: View, metric_id: int, tag_sets: Sequence[int], through_ns: int
) -> Iterator[Entry]:
    parts = [[number] for number in tag_sets]
    if len(parts) > _MOST_APART:
        parts = list(in_chunks(tag_sets))
    return merge(
        *(_entries(view, metric_id, part, through_ns) for part in parts),
        key=lambda item: -item.time_ns,
    )


def _entries(
    view: View, metric_id: int, tag_sets: Sequence[int], through_ns: int
) -> Iterator[Entry]:
    query, sets = (_OF_SET, tag_sets[0]) if len(tag_sets) == 1 else (_OF_SETS, list(tag_sets))
    size = _FIRST_PAGE
    while True:
        wanted: Any = {"metric": metric_id, "wanted": sets, "through": through_ns, "limit": size}
        rows = view.ask(_page, query, wanted)
        yield from _made(view, rows)
        if len(rows) < size:
            return
        # No two jobs share a time.
        through_ns, size = rows[-1].time_ns - 1, _PAGE


def _made(view: View, rows: Sequence[Any]) -> Iterator[Entry]:
    tags = view.contexts.tags({row.tag_set_id for row in rows})
    for row in rows:
        pipeline = tags[row.tag_set_id].get("pipeline")
        yield Entry(row.job_id, row.time_ns, pipeline, row.run_id, row.value)


def _page(connection: Connection, query: Select[Any], wanted: Any) -> Sequence[Any]:
    return connection.execute(query, wanted).all()


_OF_METRIC = (
    select(
        job_context.c.job_id,
        job_context.c.time_ns,
        job_context.c.tag_set_id,
        job_context.c.run_id,
        measurement.c.value,
    )
    .select_from(job_context.join(measurement, measurement.c.job_id == job_context.c.job_id))
    .where(measurement.c.metric_id == bindparam("metric"))
)
_ENTRIES = (
    _OF_METRIC.where(job_context.c.time_ns <= bindparam("through"))
    .order_by(job_context.c.time_ns.desc())
    .limit(bindparam("limit"))
)
_OF_SET = _ENTRIES.where(job_context.c.tag_set_id == bindparam("wanted"))
_OF_SETS = _ENTRIES.where(is_wanted(job_context.c.tag_set_id))
_VALUE_AT = (
    select(measurement.c.job_id)
    .where(measurement.c.metric_id == bindparam("metric"))
    .order_by(measurement.c.job_id)
    .limit(1)
    .offset(bindparam("offset"))
)
_JOB_AT = (
    select(job_context.c.job_id)
    .where(job_context.c.tag_set_id == bindparam("wanted"))
    .order_by(job_context.c.time_ns)
    .limit(1)
    .offset(bindparam("offset"))
)
