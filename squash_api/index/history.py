"""The history of series: the jobs that name a metric, newest first, with their runs and values.

A series is given by the sets of tags that its jobs have, and what else these must meet, as for
`index/newest.py`. Jobs are in the order of their times, whenever they were received.
"""

from collections.abc import Callable, Iterator, Sequence
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
    parts = [[number] for number in tag_sets]
    if len(parts) > _MOST_APART:
        parts = list(in_chunks(tag_sets))
    found = merge(
        *(_entries(view, metric_id, part, through_ns) for part in parts),
        key=lambda item: -item.time_ns,
    )
    if suits is None:
        yield from found
        return
    while some := list(islice(found, _FIRST_PAGE)):
        contexts = view.contexts.of(item.job_id for item in some)
        for item in some:
            if item.job_id in contexts and suits(contexts[item.job_id].context):
                yield item


def _entries(
    view: View, metric_id: int, tag_sets: Sequence[int], through_ns: int
) -> Iterator[Entry]:
    query, sets = (_OF_SET, tag_sets[0]) if len(tag_sets) == 1 else (_OF_SETS, list(tag_sets))
    size = _FIRST_PAGE
    while True:
        wanted: Any = {"metric": metric_id, "wanted": sets, "through": through_ns, "limit": size}
        rows = view.ask(_page, query, wanted)
        tags = view.contexts.tags({row.tag_set_id for row in rows})
        for row in rows:
            pipeline = tags[row.tag_set_id].get("pipeline")
            yield Entry(row.job_id, row.time_ns, pipeline, row.run_id, row.value)
        if len(rows) < size:
            return
        # No two jobs share a time.
        through_ns, size = rows[-1].time_ns - 1, _PAGE


def _page(connection: Connection, query: Select[Any], wanted: Any) -> Sequence[Any]:
    return connection.execute(query, wanted).all()


_ENTRIES = (
    select(
        job_context.c.job_id,
        job_context.c.time_ns,
        job_context.c.tag_set_id,
        job_context.c.run_id,
        measurement.c.value,
    )
    .select_from(job_context.join(measurement, measurement.c.job_id == job_context.c.job_id))
    .where(
        measurement.c.metric_id == bindparam("metric"),
        job_context.c.time_ns <= bindparam("through"),
    )
    .order_by(job_context.c.time_ns.desc())
    .limit(bindparam("limit"))
)
_OF_SET = _ENTRIES.where(job_context.c.tag_set_id == bindparam("wanted"))
_OF_SETS = _ENTRIES.where(is_wanted(job_context.c.tag_set_id))
