"""Documents of events: what webhooks and Kafka are told of alerts, jobs and refusals, as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from squash_api.definitions.in_force import Snapshot
from squash_api.delivery.telling import ACKNOWLEDGED, News, words_of
from squash_api.index.contexts import JobContext
from squash_api.index.reader import View
from squash_api.judging.alert_texts import alert_path, group_path
from squash_api.judging.alerts import level_of
from squash_api.judging.wording import date_text
from squash_api.record.alerts import AlertRow
from squash_api.schema.names import FIELD_SOURCES, split_metric_name

MOST_LISTED = 100
"""Most alerts of a group, and metrics of a job, that a document lists; it counts the others."""

MOST_LIMITS = 20


def body_of(event: str, time_ns: int, data: Mapping[str, Any]) -> str:
    """Return the body of an event, JSON, as it is stored, signed and sent."""
    document = {"type": event, "timestamp": date_text(time_ns), "data": data}
    return json.dumps(document, separators=(",", ":"))


def news_document(view: View, news: News, snapshot: Snapshot, *, root: str) -> dict[str, Any]:
    """Describe what is new in a group of alerts; `root` is the public root of the service."""
    message = words_of(view, news, snapshot, root=root)
    alerts = news.alerts
    worst = max(max(item.severity for item in alerts) or max(i.worst for i in alerts), 1)
    data = {
        "text": message.plain(),
        "severity": level_of(worst),
        "metric": _only(item.metric for item in alerts),
        "package": _only(split_metric_name(item.metric)[0] for item in alerts),
        "group": news.group.group_id,
        "group_url": root + group_path(news.group.group_id),
        "run": news.group.key.get("run"),
        "tags": news.group.key.get("tags") or {},
        "count": len(alerts),
        "alerts": [_alert(item, root) for item in alerts[:MOST_LISTED]],
    }
    if news.event == ACKNOWLEDGED:
        data |= {"by": news.by, "note": news.note, "link": news.link}
    return data


def job_document(job: JobContext, measured: Sequence[str], *, root: str) -> dict[str, Any]:
    """Describe a job that is in the index, with the names of what it measured."""
    fields = job.context.fields
    return {
        "job": job.job_id,
        "job_url": f"{root}/job/{job.job_id}",
        "time": date_text(job.time_ns),
        **{name: fields.get(name) for name in FIELD_SOURCES},
        "tags": job.context.tags,
        "metrics": measured[:MOST_LISTED],
        "count": len(measured),
    }


def _only(names: Iterable[str]) -> str | None:
    """Return what all names are; None if they are several."""
    first, *others = {*names}
    return None if others else first


def _alert(item: AlertRow, root: str) -> dict[str, Any]:
    return {
        "id": item.alert_id,
        "url": root + alert_path(item.alert_id),
        "metric": item.metric,
        "tags": dict(item.tags),
        "state": item.state,
        "severity": level_of(item.severity) if item.severity else None,
        "worst": level_of(max(item.worst, 1)),
        "value": item.value,
        "unit": item.unit,
        "opened": date_text(item.opened_ns),
        "resolved": None if item.resolved_ns is None else date_text(item.resolved_ns),
        "job": item.job_id,
        "limits": [
            str(each["specification"])
            for each in item.broken[:MOST_LIMITS]
            if each.get("specification")
        ],
    }
