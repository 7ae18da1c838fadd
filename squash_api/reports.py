"""Verdicts on stored jobs."""

from squash_api.definitions import Definitions
from squash_api.record.jobs import JobRow
from squash_api.verify.assessment import KnownMetric, assess
from squash_api.verify.job import Job
from squash_api.verify.judging import Verdict, judge_job
from squash_api.vocabulary import Vocabulary


def job_report(
    row: JobRow,
    job: Job,
    *,
    definitions: Definitions,
    vocabulary: Vocabulary,
    is_now: bool,
) -> list[Verdict]:
    """Judge a job by the specifications in force at its receipt, or by today's; sorted by name."""
    revision = None if is_now else row.revision
    vocabulary.refresh()
    schema = vocabulary.schema
    declared = definitions.metrics_in_force(revision)
    metrics = {
        item.metric: KnownMetric(declared[item.metric].unit, is_declared=True)
        if item.metric in declared
        else vocabulary.metrics.get(item.metric)
        for item in job.measurements
    }
    known = {name: metric for name, metric in metrics.items() if metric is not None}
    outcome = assess(job, metrics=known, schema=schema)
    in_force = definitions.specifications_in_force(revision)
    values = {name: outcome.values.get(name) for name in known}
    units = {name: metric.unit or "" for name, metric in known.items()}
    specifications = [spec for name in known for spec in in_force.get(name, ())]
    return judge_job(values, units, specifications, schema.context(job.meta), schema)
