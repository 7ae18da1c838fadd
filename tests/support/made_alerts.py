"""Alerts in a record, as the engine would have opened them, for tests of what people do."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

from squash_api.judging.alerts import level_of
from squash_api.record.alerts import OPEN, NewEvent, add_events, add_group, write_alerts
from squash_api.record.record import Connection, Record

DAY_NS = 86_400 * 10**9
METRIC = "demo.PA1"
LIMITS = {3: "minimum", 2: "design", 1: "stretch"}


def broken_limit(metric: str, severity: int, value: float) -> dict[str, Any]:
    """Return a verdict on a value that breaks a limit of 8 mmag, as the judge writes it."""
    return {
        "specification": f"{metric}.{LIMITS[severity]}",
        "status": "failed",
        "metric": metric,
        "value": value,
        "unit": "mmag",
        "operator": "<=",
        "threshold": 8.0,
        "level": level_of(severity),
        "margin": (8.0 - value) / 8.0,
    }


def open_alerts(
    record: Record,
    *all_tags: Mapping[str, str],
    metric: str = METRIC,
    severity: int = 3,
    value: float = 9.5,
    opened_ns: int | None = None,
    run: tuple[str, str] | None = ("nightly", "7"),
    **other: Any,
) -> list[int]:
    """Open an alert for each of these tags, all in one group, and return their ids.

    `other` are fields of `AlertRow`; without a `branch` it is one that nobody else has.
    """
    branch = other.pop("branch", uuid.uuid4().hex[:12])
    now_ns = time.time_ns() if opened_ns is None else opened_ns

    def work(connection: Connection) -> list[int]:
        group_id = add_group(
            connection,
            metric=metric,
            branch=branch,
            key={"run": None if run is None else list(run), "tags": {}},
            now_ns=now_ns,
            is_gathering=False,
        )
        found = []
        for tags in all_tags or [{"detector": "1"}]:
            values = {
                "branch": branch,
                "state": OPEN,
                "severity": severity,
                "worst": severity,
                "opened_ns": now_ns,
                "time_ns": now_ns,
                "value": value,
                "unit": "mmag",
                "broken": [broken_limit(metric, severity, value)],
            }
            row = {"group_id": group_id, "metric": metric, "tags": tags, **values, **other}
            (alert_id,) = write_alerts(connection, opened=[row])
            opened = NewEvent(alert_id, now_ns, "opened", severity, other.get("job_id"))
            add_events(connection, [opened])
            found.append(alert_id)
        return found

    return record.write(work)
