"""Reading what a report needs: every value that is asked for once, in windows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from squash_api.index.derived import derived_through, tags_of_sets
from squash_api.index.deriver import Deriver
from squash_api.index.windows import MOST_JOBS, Plan, Wanted, waiting_for_rederivation
from squash_api.record.metrics import MetricRow, metrics_since
from squash_api.record.record import Record
from squash_api.reports.limits import Limits
from squash_api.reports.results import Results
from squash_api.trends.question import Question

_MOST_REMEMBERED_SETS = 10_000


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics that the record knows, by id, and the version that this was read at."""

    rows: Mapping[int, MetricRow]
    version: int


def read_metrics(record: Record) -> Metrics:
    """Return all metrics that were declared or measured."""
    with record.read() as connection:
        rows = metrics_since(connection, 0)
    return Metrics(
        {row.metric_id: row for row in rows}, max((row.version for row in rows), default=0)
    )


def read_results(
    record: Record,
    deriver: Deriver,
    *,
    metrics: Metrics,
    names: Collection[str],
    limits: Limits,
    question: Question,
) -> Results | None:
    """Judge all values that are asked for; the index is up to date already.

    Parameters
    ----------
    metrics
        What `read_metrics` has returned.
    names
        Those to read.
    limits
        What to judge by.

    Returns
    -------
    Results or None
        None if the unit of a metric has changed meanwhile: everything is to be read again.

    Raises
    ------
    InvalidInputError
        If there are too many metrics and combinations of tags.
    """
    chosen = {number: row for number, row in metrics.rows.items() if row.name in names}
    results = Results(chosen, limits)
    with record.read() as connection:
        plan = Plan(connection, _wanted(chosen, limits, question, derived_through(connection)))
    tags: dict[int, Mapping[str, str]] = {}
    at_ns: int | None = -1
    while at_ns is not None:
        with record.read() as connection:
            jobs, entries, through_ns = plan.entries(connection, after_ns=at_ns, jobs=MOST_JOBS)
            stale = waiting_for_rederivation(connection, jobs)
            if not stale:
                if _have_new_units(connection, metrics, chosen):
                    return None
                if len(tags) > _MOST_REMEMBERED_SETS:
                    tags.clear()
                unknown = {job.tag_set_id for job in jobs.values()} - tags.keys()
                tags.update(tags_of_sets(connection, unknown))
                results.take(jobs, entries, tags)
                at_ns = through_ns
        if stale:
            deriver.rederive(stale)
    return results


def _wanted(
    chosen: Mapping[int, MetricRow], limits: Limits, question: Question, through: int
) -> Wanted:
    return Wanted(
        metric_ids=sorted(chosen),
        tags=question.tags,
        run_ids=question.runs,
        version_tags=question.version_tags,
        since_ns=question.since_ns,
        until_ns=question.until_ns,
        through=through,
        has_fields=limits.needs_fields,
        has_absent=True,
    )


def _have_new_units(
    connection: Connection, metrics: Metrics, chosen: Mapping[int, MetricRow]
) -> bool:
    return any(
        row.metric_id in chosen and row.unit != chosen[row.metric_id].unit
        for row in metrics_since(connection, metrics.version)
    )
