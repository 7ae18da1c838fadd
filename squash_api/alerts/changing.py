"""What becomes of alerts, in the writer's transaction: they open, change, end; events say so.

Whoever changes alerts reads them again in the same transaction, so that nothing is overtaken.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from squash_api.alerts.evaluating import Key, Present
from squash_api.alerts.grouping import Groups
from squash_api.judging.alert_texts import ENDED, LATE
from squash_api.judging.alerts import PER_JOB
from squash_api.record.alerts import (
    ACKNOWLEDGED,
    OPEN,
    RESOLVED,
    AlertRow,
    NewEvent,
    add_events,
    is_put_aside,
    living_alerts,
    living_alerts_of,
    write_alerts,
)
from squash_api.record.record import Connection
from squash_api.record.silences import SilenceRow, active_silences, silencing

_RELEASED: Mapping[str, Any] = {
    "state": OPEN,
    "acknowledged_by": None,
    "acknowledged_ns": None,
    "acknowledged_severity": None,
    "acknowledged_until_ns": None,
    "note": None,
    "link": None,
}


class Changes:
    """Changes of alerts in one transaction; `close` stores them.

    Parameters
    ----------
    silences
        Those that last now.
    quiet_ns
        How long nothing must join a group until it is complete.
    is_found_at_start
        Whether this is the first look at a record that had jobs before it had alerts. What opens is
        then no news: it is grouped whatever its run is, the groups are complete at once, and their
        keys say `found`, as do the events `opened`.
    """

    def __init__(
        self,
        connection: Connection,
        silences: Sequence[SilenceRow],
        *,
        quiet_ns: int,
        now_ns: int,
        is_found_at_start: bool = False,
    ) -> None:
        self._connection = connection
        self._silences = silences
        self._now_ns = now_ns
        self._is_found = is_found_at_start
        self._groups = Groups(connection, quiet_ns=quiet_ns, now_ns=now_ns)
        self._opened: list[dict[str, Any]] = []
        self._changed: list[tuple[AlertRow, Mapping[str, Any]]] = []
        self._events: list[NewEvent] = []
        self.counts: Counter[str] = Counter()

    def apply(self, present: Iterable[Present]) -> None:
        """Make the alerts of series what their present is."""
        wanted = list(present)
        rows = living_alerts_of(self._connection, {item.key.metric for item in wanted})
        living = {Key.of(row): row for row in rows}
        for item in sorted(wanted, key=_order):
            row = living.get(item.key)
            if item.severity == 0:
                if row is not None:
                    self._resolve(row, item)
            elif row is not None:
                self._change(row, item)
            elif item.may_open and not self._is_put_aside(item):
                self._open(item)

    def end(self, rows: Iterable[AlertRow], *, why: str) -> None:
        """End alerts whatever their series are."""
        known = {row.alert_id for row in rows}
        if known:
            for row in living_alerts(self._connection):
                if row.alert_id in known:
                    self._resolve(row, Present(Key.of(row), why=why))

    def close(self) -> None:
        """Store everything."""
        ids = write_alerts(self._connection, opened=self._opened, changed=self._changed)
        for alert_id, values in zip(ids, self._opened, strict=True):
            detail: dict[str, Any] = {"value": values["value"]}
            if values["silence_id"] is not None:
                detail["silence"] = values["silence_id"]
            if self._is_found:
                detail["found"] = "at start"
            self._note("opened", alert_id, values["severity"], values["job_id"], detail)
        add_events(self._connection, self._events)
        self._groups.close()

    def _is_put_aside(self, item: Present) -> bool:
        """Return whether somebody has resolved that it is late, and nothing has come since."""
        job_id = None if item.speaking is None else item.speaking.job_id
        key = item.key
        return key.branch.startswith(LATE) and is_put_aside(
            self._connection, key.metric, key.branch, dict(key.tags), job_id
        )

    def _open(self, item: Present) -> None:
        tags = dict(item.key.tags)
        speaking = item.speaking
        silence = silencing(self._silences, item.key.metric, tags)
        run = None
        if speaking is not None and speaking.run_id is not None:
            run = [speaking.pipeline, speaking.run_id]
        shared: dict[str, Any] = {"run": run}
        if self._is_found:
            shared = {"run": None, "found": "at start"}
        if item.group == PER_JOB:
            shared |= {"channel": item.channel, "trial": item.is_trial}
        job_id = None if speaking is None else speaking.job_id
        group_id = self._groups.place(
            item.key.metric, item.key.branch, tags, item.group, shared=shared, job_id=job_id
        )
        self._opened.append(
            {
                "group_id": group_id,
                "metric": item.key.metric,
                "branch": item.key.branch,
                "tags": tags,
                "state": OPEN,
                "is_trial": item.is_trial,
                "severity": item.severity,
                "worst": item.severity,
                "opened_ns": self._now_ns,
                "opened_job_id": job_id,
                "silence_id": None if silence is None else silence.silence_id,
                **_speaking(item),
                "broken": list(item.broken),
            }
        )

    def _change(self, row: AlertRow, item: Present) -> None:
        values: dict[str, Any] = {
            **_speaking(item),
            "broken": list(item.broken),
            "severity": item.severity,
            "worst": max(row.worst, item.severity),
        }
        seen = row.acknowledged_severity
        if row.state == ACKNOWLEDGED and seen is not None and item.severity > seen:
            values |= _RELEASED
        if all(getattr(row, name) == value for name, value in values.items()):
            return
        self._changed.append((row, values))
        job_id = values["job_id"]
        if item.severity != row.severity:
            kind = "worsened" if item.severity > row.severity else "eased"
            detail = {"value": values["value"], "before": row.severity}
            self._note(kind, row.alert_id, item.severity, job_id, detail)
        if "state" in values:
            self._note(
                "released", row.alert_id, item.severity, job_id, {**_had(row), "why": "worsened"}
            )

    def _resolve(self, row: AlertRow, item: Present) -> None:
        values: dict[str, Any] = {"state": RESOLVED, "severity": 0, "resolved_ns": self._now_ns}
        if item.why in ENDED:
            values["broken"] = ended(row, item.why)
        if item.why != "undefined":
            values |= _speaking(item)
        self._changed.append((row, values))
        job_id, value = values.get("job_id", row.job_id), values.get("value", row.value)
        detail = {"value": value, "why": item.why, "before": row.severity}
        self._note("resolved", row.alert_id, 0, job_id, detail)

    def _note(
        self,
        kind: str,
        alert_id: int,
        severity: int,
        job_id: int | None,
        detail: Mapping[str, Any],
    ) -> None:
        self.counts[kind] += 1
        self._events.append(
            NewEvent(alert_id, self._now_ns, kind, severity, job_id=job_id, detail=detail)
        )


def release_overdue(connection: Connection, *, now_ns: int) -> None:
    """End the acknowledgements whose time is over."""
    due = [
        row
        for row in living_alerts(connection)
        if row.state == ACKNOWLEDGED
        and row.acknowledged_until_ns is not None
        and row.acknowledged_until_ns <= now_ns
    ]
    write_alerts(connection, changed=[(row, _RELEASED) for row in due])
    add_events(
        connection,
        [
            NewEvent(
                row.alert_id,
                now_ns,
                "released",
                row.severity,
                job_id=row.job_id,
                detail={**_had(row), "why": "until"},
            )
            for row in due
        ],
    )


def silences_changed(
    living: Iterable[AlertRow], silences: Sequence[SilenceRow]
) -> list[tuple[AlertRow, int | None]]:
    """Return the alerts that another silence is for than they were last seen under, or none.

    Each has the id of the one that lasts now.
    """
    found = []
    for row in living:
        if silences or row.silence_id is not None:
            silence = silencing(silences, row.metric, row.tags)
            silence_id = None if silence is None else silence.silence_id
            if silence_id != row.silence_id:
                found.append((row, silence_id))
    return found


def mark_silenced(connection: Connection, *, now_ns: int) -> None:
    """Note on living alerts which silence is for them now, with an event for each change.

    Whoever makes or ends a silence may call it in the same transaction; the engine does in time.
    """
    silences = active_silences(connection, now_ns=now_ns)
    changed = silences_changed(living_alerts(connection), silences)
    write_alerts(
        connection, changed=[(row, {"silence_id": silence_id}) for row, silence_id in changed]
    )
    add_events(
        connection,
        [
            NewEvent(
                row.alert_id,
                now_ns,
                "unsilenced" if silence_id is None else "silenced",
                row.severity,
                job_id=row.job_id,
                detail={"silence": row.silence_id if silence_id is None else silence_id},
            )
            for row, silence_id in changed
            # From one silence to another nothing changes for anybody.
            if silence_id is None or row.silence_id is None
        ],
    )


def _speaking(item: Present) -> dict[str, Any]:
    found = item.speaking
    return {
        "job_id": None if found is None else found.job_id,
        "time_ns": None if found is None else found.time_ns,
        "value": None if found is None else found.value,
        "unit": None if found is None else found.unit,
    }


def ended(row: AlertRow, why: str) -> list[dict[str, Any]]:
    """Return what an alert broke last, with why that is not raised any more."""
    return [{**shown, "ended": why} for shown in row.broken or ({},)]


def _had(row: AlertRow) -> dict[str, Any]:
    """Return who had an alert until now."""
    return {"user": row.acknowledged_by, "note": row.note, "link": row.link}


def _order(item: Present) -> tuple[int, int, Key]:
    """Sort by the time of the jobs, so that the events of a round are in an order of their own."""
    job_id = None if item.speaking is None else item.speaking.job_id
    return (0 if job_id is None else job_id, -item.severity, item.key)
