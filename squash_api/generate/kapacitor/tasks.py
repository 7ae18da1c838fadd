"""Kapacitor's load directory: a task per metric, the tasks for late values, handlers. Pure."""

from squash_api.generate.kapacitor.channels import handler_files, topic_of
from squash_api.generate.kapacitor.freshness import freshness_task, heartbeat_task
from squash_api.generate.kapacitor.messages import (
    SHOWN_FIELDS,
    after_field,
    alert_message,
    shown_tags,
    whereabouts,
)
from squash_api.generate.kapacitor.nodes import (
    AlertBranch,
    after_term,
    age_term,
    for_branch_term,
    speaks_for_term,
    task_text,
    term_text,
    unless_gone,
    unless_muted,
)
from squash_api.generate.kapacitor.own import own_tasks
from squash_api.generate.kapacitor.text import comment, reference
from squash_api.generate.kapacitor.verdicts import VERDICT_TASK, verdict_task
from squash_api.judging.alert_plan import Branch, WatchedMetric, expectations, watched_metrics
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import (
    ARTIFACT_URL,
    NOT_FOR,
    SINCE_GOOD,
    SPEAKS_FOR,
    Schema,
    split_metric_name,
)
from squash_api.setting_types import AlertsBy
from squash_api.verify.metrics import Metric

_IS_SILENT = (
    "Grafana tells people of alerts, so no generated handler passes them on: made with "
    "SQUASH_ALERTS_BY=grafana."
)


def kapacitor_files(
    package: MetricsPackage,
    *,
    schema: Schema,
    database: str,
    retention_policy: str,
    alerts_by: AlertsBy = "kapacitor",
) -> dict[str, str]:
    """Return the tasks and handlers by path, sorted; see `Render`.

    If Grafana tells people, the tasks know all states as ever, and there are no handlers.

    Raises
    ------
    SettingsError
        If TICKscript cannot write the name of the database or the retention policy.
    """
    specifications = package.specifications.values()
    watched = watched_metrics(specifications, package.metrics, schema)
    expected = [item for item in expectations(specifications, schema) if not item.is_trial]
    place = (database, retention_policy)
    files = {
        f"kapacitor/tasks/{item.metric.name}.tick": metric_task(item, place)
        for item in watched
        if any(branch.is_tick for branch in item.branches)
    }
    if expected:
        origins = {
            source.file
            for item in expected
            if (source := package.specifications[item.specification].source)
        }
        files["kapacitor/tasks/squash.freshness.tick"] = freshness_task(
            expected, package.metrics, origins, place
        )
    files["kapacitor/tasks/squash.heartbeat.tick"] = heartbeat_task(place)
    files |= {f"kapacitor/tasks/{name}.tick": text for name, text in own_tasks(place).items()}
    channels = {
        branch.channel for item in watched for branch in item.branches if not branch.is_trial
    }
    if channels:
        files[f"kapacitor/tasks/{VERDICT_TASK}.tick"] = verdict_task(channels, place)
    if alerts_by == "kapacitor":
        files |= handler_files({None, *channels, *(item.channel for item in expected)})
    else:
        files = {path: f"{comment(_IS_SILENT)}\n{text}" for path, text in files.items()}
    return dict(sorted(files.items()))


def metric_task(watched: WatchedMetric, place: tuple[str, str]) -> str:
    """Return the task of a metric; `place` is the database and the retention policy it reads.

    It has no branch for limits that the service raises, or of which nobody is told.
    """
    measurement, key = split_metric_name(watched.metric.name)
    branches = [branch for branch in watched.branches if branch.is_tick]
    oldest_s = max(branch.max_age_s for branch in branches)
    keys = {branch.grouping.key for branch in branches}
    is_split = len(keys) > 1
    note = unit_note(watched.metric.name, watched.metric.unit)
    return f"{note}\n" + task_text(
        title=f"Alerts on {watched.metric.name}.",
        files=watched.files,
        place=place,
        measurement=measurement,
        where=f"isPresent({reference(key)}) AND {age_term(oldest_s)}",
        branches=[
            _alert_branch(watched.metric, branch, oldest_s=oldest_s, is_split=is_split)
            for branch in branches
        ],
        defaults={NOT_FOR: ""} | ({SPEAKS_FOR: " ".join(sorted(keys))} if is_split else {}),
    )


def unit_note(metric: str, unit: str) -> str:
    """Return the line of a task that says in which unit it judges the values of its metric."""
    return comment(f"{_unit_of(metric)}'{unit}'.")


def noted_unit(script: str, metric: str) -> str | None:
    """Return the `unit_note` of a task; None if it has none, as one from before there were any."""
    start = comment(_unit_of(metric))
    return next((line for line in script.splitlines() if line.startswith(start)), None)


def _unit_of(metric: str) -> str:
    return f"Values of {metric} have the unit "


def _alert_branch(metric: Metric, branch: Branch, *, oldest_s: int, is_split: bool) -> AlertBranch:
    key = split_metric_name(metric.name)[1]
    where = [term_text(term) for term in branch.terms]
    where.append(for_branch_term(branch.key))
    if is_split:
        where.append(speaks_for_term(branch.grouping.key))
    if branch.max_age_s < oldest_s:
        where.append(age_term(branch.max_age_s))
    conditions: dict[str, list[str]] = {}
    for limit in branch.limits:
        broken = limit.criterion.broken_in_tick(reference(key))
        conditions.setdefault(limit.level, []).append(unless_muted(broken, limit.muted_through))
    days = sorted({day for limit in branch.limits if (day := limit.muted_through)})
    return AlertBranch(
        note=" ".join(limit.label for limit in branch.limits),
        where=" AND ".join(where),
        per=branch.per,
        shown_tags=shown_tags(branch.per),
        shown_fields=(*SHOWN_FIELDS, ARTIFACT_URL, SINCE_GOOD),
        made_fields={after_field(day): after_term(day) for day in days},
        id_part=f"{metric.name}/{branch.key}",
        message=alert_message(metric, branch.limits, max_age_s=branch.max_age_s),
        ending=whereabouts(branch.per, runbook="metric-alert", is_of_value=True),
        conditions={level: [unless_gone(some)] for level, some in conditions.items()},
        topic=topic_of(branch.channel),
    )
