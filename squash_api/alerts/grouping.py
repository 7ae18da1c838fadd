"""The groups of alerts: what is told as one.

An alert that opens joins the group of the same metric, branch, run, and tags that are not grouped,
if there is one that still gathers; else it makes one. A group gathers until nothing has joined it
for `quiet_ns`, or that five times after it opened; then it is complete, nothing joins it any more,
and the event `complete` of its first alert says so. An alert with nothing to be grouped over is
complete at once.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from squash_api.judging.alerts import PER_JOB, Group
from squash_api.record.alerts import (
    AlertRow,
    GroupRow,
    NewEvent,
    add_events,
    add_group,
    alerts_of_groups,
    change_group,
    gathering_groups,
)
from squash_api.record.record import Connection

LONGEST = 5
"""A group gathers for at most so many times the quiet that completes it."""


class Groups:
    """The groups that still gather, in the writer's transaction. New alerts are put into them."""

    def __init__(self, connection: Connection, *, quiet_ns: int, now_ns: int) -> None:
        self._connection = connection
        self._now_ns = now_ns
        self._gathering = {
            _name(row.metric, row.branch, row.key): row.group_id
            for row in gathering_groups(connection)
            # Others are complete, though nobody has noted it yet.
            if due_ns(row, quiet_ns) > now_ns
        }
        self._joined: set[int] = set()
        self._complete: list[int] = []

    def place(
        self,
        metric: str,
        branch: str,
        tags: Mapping[str, str],
        group: Group,
        *,
        shared: Mapping[str, Any],
        job_id: int | None,
    ) -> int:
        """Return the group of an alert that opens.

        Parameters
        ----------
        shared
            What its alerts have in common beside metric, branch and tags, such as the run.
        job_id
            The job that opens it; with the group `PER_JOB` it is all that they have in common.
        """
        if group == PER_JOB:
            key = {**shared, "job": job_id, "tags": {}}
            is_shared = True
        else:
            rest = {tag: text for tag, text in tags.items() if tag not in group}
            key = {**shared, "tags": rest}
            is_shared = len(rest) < len(tags)
        name = _name(metric, branch, key)
        if is_shared and name in self._gathering:
            group_id = self._gathering[name]
        else:
            # What is found at the first start is complete when this transaction is.
            is_gathering = is_shared and "found" not in shared
            group_id = add_group(
                self._connection,
                metric=metric,
                branch=branch,
                key=key,
                now_ns=self._now_ns,
                is_gathering=is_gathering,
            )
            if is_shared:
                self._gathering[name] = group_id
            if not is_gathering:
                self._complete.append(group_id)
        if group_id not in self._complete:
            self._joined.add(group_id)
        return group_id

    def close(self) -> None:
        """Note when alerts have joined, and which groups are complete at once."""
        for group_id in sorted(self._joined):
            change_group(self._connection, group_id, joined_ns=self._now_ns)
        tell_complete(self._connection, self._complete, now_ns=self._now_ns)


def due_ns(row: GroupRow, quiet_ns: int) -> int:
    """Return when a group that still gathers is complete, if nothing more joins it."""
    joined_ns = row.opened_ns if row.joined_ns is None else row.joined_ns
    return min(joined_ns + quiet_ns, row.opened_ns + LONGEST * quiet_ns)


def complete_groups(connection: Connection, *, quiet_ns: int, now_ns: int) -> int:
    """Complete the groups whose time has come; return how many these are."""
    due = [row for row in gathering_groups(connection) if due_ns(row, quiet_ns) <= now_ns]
    for row in due:
        change_group(connection, row.group_id, joined_ns=None)
    tell_complete(connection, [row.group_id for row in due], now_ns=now_ns)
    return len(due)


def tell_complete(connection: Connection, group_ids: Iterable[int], *, now_ns: int) -> None:
    """Add the event `complete` to the first alert of each of these groups."""
    by_group: dict[int, list[AlertRow]] = {}
    for row in alerts_of_groups(connection, group_ids):
        by_group.setdefault(row.group_id, []).append(row)
    add_events(
        connection,
        [
            NewEvent(
                rows[0].alert_id,
                now_ns,
                "complete",
                max(row.worst for row in rows),
                job_id=rows[0].opened_job_id,
                detail={"group": group_id, "alerts": len(rows)},
            )
            for group_id, rows in by_group.items()
        ],
    )


def _name(metric: str, branch: str, key: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what a group has in common."""
    shared = json.dumps(key, sort_keys=True)
    return ("", "", shared) if "job" in key else (metric, branch, shared)
