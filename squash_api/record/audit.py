"""The audit trail: who changed what, when and from where. Rows are only ever added."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from sqlalchemy import Connection, insert, select

from squash_api.judging.wording import date_text
from squash_api.record.tables import api_key, audit, user

ACTIONS: Mapping[str, str] = {
    "user.register": "somebody registered",
    "user.add": "a user was added",
    "user.disable": "a user was disabled, and the user's keys revoked",
    "user.enable": "a disabled user was enabled again",
    "user.role": "a user got another role",
    "user.password": "a user got another password",
    "login.limited": "logins were refused because too many had failed",
    "key.create": "an API key was made",
    "key.revoke": "an API key was revoked",
    "definition.change": "definitions were made or changed through the API",
    "definition.withdraw": "definitions were withdrawn",
    "specs.sync": "definitions were brought in line with YAML",
    "job.delete": "a job was deleted",
    "job.prune": "jobs that were too old were deleted",
    "measurement.withdraw": "a value of a job was withdrawn",
    "replay.request": "jobs were marked to be sent again",
    "replay.refill": "a target was started again at the first job",
    "reconcile.repair": "jobs that differ in InfluxDB were marked to be written again",
    "reconcile.prune": "points of jobs that the record does not have were deleted from InfluxDB",
    "quarantine.retry": "refused lines were marked to be sent again",
    "quarantine.drop": "refused lines were dropped",
    "webhook.create": "a webhook was made",
    "webhook.remove": "a webhook was removed",
    "webhook.test": "a test was sent to a webhook",
    "webhook.retry": "deliveries to a webhook were marked to be sent again",
    "alert.acknowledge": "somebody has an alert",
    "alert.release": "somebody no longer has an alert",
    "alert.resolve": "an alert was resolved by hand",
    "silence.create": "a silence was made",
    "silence.end": "a silence was ended before its time",
}
"""What is noted, by name."""

_MOST_LETTERS = 500


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a user, perhaps with a key, from an address, or a command.

    All are None for somebody unknown, such as whoever registers.
    """

    user_id: int | None = None
    key_id: int | None = None
    address: str | None = None
    command: str | None = None


UNKNOWN = Actor()
SERVICE = Actor(command="squash serve")
"""The service, for what it does by itself when it starts."""


class AuditEntry(TypedDict):
    """Who changed what, and when."""

    id: int
    """The entry's id."""
    time: str
    """When it was done."""
    user: str | None
    """The user who did it."""
    key: str | None
    """The public part of the key that was used, if one was."""
    command: str | None
    """The command that did it, if one did."""
    address: str | None
    """The address that it came from."""
    action: str
    """What was done, such as `key.create`."""
    subject: str
    """To what or whom."""
    detail: dict[str, Any]
    """What else is known."""


@dataclass(frozen=True, slots=True)
class Noted:
    """An entry of the trail; `user` and `key` are names, of the key the public part."""

    entry_id: int
    time_ns: int
    user: str | None
    key: str | None
    command: str | None
    address: str | None
    action: str
    subject: str
    detail: dict[str, Any]

    def to_json(self) -> AuditEntry:
        """Describe the entry for JSON."""
        return {
            "id": self.entry_id,
            "time": date_text(self.time_ns),
            "user": self.user,
            "key": self.key,
            "command": self.command,
            "address": self.address,
            "action": self.action,
            "subject": self.subject,
            "detail": self.detail,
        }


def note(
    connection: Connection,
    actor: Actor,
    action: str,
    subject: str | int,
    *,
    once_in_s: float = 0,
    **detail: Any,
) -> None:
    """Add an entry to the audit trail.

    Call it in the transaction that makes the change, where the change is made: then there is
    neither without the other. Routes have the actor in `account.actor`, commands make one with
    `commands.terminal.operator`.

    Parameters
    ----------
    action
        One of `ACTIONS`.
    subject
        What it was done to, such as the name of a user or the id of a job.
    once_in_s
        Adds nothing if the same was noted about the subject so recently: for what strangers can
        bring about as often as they like.
    detail
        More, for JSON. Nothing secret: no password, key, token or body.
    """
    if action not in ACTIONS:
        raise KeyError(action)
    subject = str(subject)[:_MOST_LETTERS]
    now_ns = time.time_ns()
    if once_in_s:
        same = (audit.c.action == action, audit.c.subject == subject)
        # A clock that was ahead must not silence this.
        span_ns = int(once_in_s * 10**9)
        is_recent = audit.c.time_ns.between(now_ns - span_ns, now_ns + span_ns)
        recent = select(audit.c.id).where(*same, is_recent)
        if connection.execute(recent.limit(1)).first() is not None:
            return
    connection.execute(
        insert(audit).values(
            time_ns=now_ns,
            user_id=actor.user_id,
            api_key_id=actor.key_id,
            address=actor.address,
            command=actor.command,
            action=action,
            subject=subject,
            detail=json.dumps(detail) if detail else None,
        )
    )


def list_noted(
    connection: Connection,
    *,
    before: int | None = None,
    limit: int,
    user_name: str | None = None,
    action: str | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
) -> list[Noted]:
    """Return at most `limit` entries, the newest first, below the id `before`.

    `action` is a whole name, or its part before the dot.
    """
    query = _ENTRIES.limit(limit)
    if before is not None:
        query = query.where(audit.c.id < before)
    if user_name is not None:
        query = query.where(user.c.name == user_name)
    if since_ns is not None:
        query = query.where(audit.c.time_ns >= since_ns)
    if until_ns is not None:
        query = query.where(audit.c.time_ns <= until_ns)
    if action is not None:
        names = [name for name in ACTIONS if action in (name, name.partition(".")[0])]
        query = query.where(audit.c.action.in_(names))
    return [
        Noted(*row[:-1], json.loads(row.detail) if row.detail else {})
        for row in connection.execute(query)
    ]


_ENTRIES = (
    select(
        audit.c.id,
        audit.c.time_ns,
        user.c.name,
        api_key.c.public_id,
        audit.c.command,
        audit.c.address,
        audit.c.action,
        audit.c.subject,
        audit.c.detail,
    )
    .outerjoin_from(audit, user, audit.c.user_id == user.c.id)
    .outerjoin(api_key, audit.c.api_key_id == api_key.c.id)
    .order_by(audit.c.id.desc())
)
