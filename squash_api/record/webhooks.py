"""Receivers that are told of events: webhooks, and Slack and GitHub; and what is sent to webhooks.

A receiver has a row, whose cursor says how far it has been told. Whoever sends to it claims the row
for a while, so that any number of processes may run: what is claimed by a process that has died is
free again when that time is over.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, and_, case, delete, func, insert, or_, select, update

from squash_api.record.bulk import select_rows
from squash_api.record.quarantine import Entry
from squash_api.record.tables import quarantine, webhook, webhook_delivery

WEBHOOK, SLACK, GITHUB = "webhook", "slack", "github"
"""The kinds of receivers."""

LONGEST_PAUSE_NS = 3600 * 10**9
"""The longest pause after failures, in ns."""

DeliveryState = Literal["waiting", "delivered", "given up"]


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver. `events` and `filters` are those of webhooks; `cursor` is JSON.

    Nothing is sent to it before `again_ns`. `trouble` is why the last sending failed, None if it
    did not, and `failures` is how often it has failed since it went well.
    """

    receiver_id: int
    kind: str
    name: str
    url: str
    events: Sequence[str]
    filters: Mapping[str, Any]
    user_id: int | None
    created_ns: int
    removed_ns: int | None
    cursor: str
    again_ns: int
    failures: int
    trouble: str | None
    trouble_since_ns: int | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was, or is to be, sent to a webhook; it is given up if both times are None."""

    delivery_id: int
    webhook_id: int
    event: str
    body: str
    created_ns: int
    attempts: int
    next_ns: int | None
    delivered_ns: int | None
    tried_ns: int | None
    answer: str | None

    @property
    def state(self) -> DeliveryState:
        """Whether it waits, is delivered, or is given up."""
        if self.delivered_ns is not None:
            return "delivered"
        return "given up" if self.next_ns is None else "waiting"


@dataclass(frozen=True, slots=True)
class Health:
    """How sending to a receiver is: what waits, what was given up, and why nothing can be sent."""

    kind: str
    name: str
    waiting: int
    given_up: int
    oldest_ns: int | None
    trouble: str | None
    trouble_since_ns: int | None


def add_webhook(
    connection: Connection,
    *,
    name: str,
    url: str,
    secret: str,
    events: Sequence[str],
    filters: Mapping[str, Any],
    cursor: Mapping[str, Any],
    user_id: int | None,
    now_ns: int,
) -> Receiver:
    """Store a new webhook."""
    added = connection.execute(
        insert(webhook).values(
            kind=WEBHOOK,
            name=name,
            url=url,
            secret=secret,
            events=json.dumps(list(events)),
            filters=json.dumps(filters),
            cursor=json.dumps(cursor),
            user_id=user_id,
            created_ns=now_ns,
        )
    )
    key: Any = added.inserted_primary_key
    return _receiver(connection.execute(_RECEIVERS.where(webhook.c.id == key[0])).one())


def ensure_receiver(
    connection: Connection, kind: str, *, cursor: Mapping[str, Any], now_ns: int
) -> Receiver:
    """Return Slack's or GitHub's row; it is added with this cursor if there is none."""
    if (found := get_receiver(connection, kind)) is not None:
        return found
    values = {"kind": kind, "name": kind, "url": "", "secret": "", "created_ns": now_ns}
    made = {"events": "[]", "filters": "{}", "cursor": json.dumps(cursor)}
    connection.execute(insert(webhook).values(**values, **made))
    return _receiver(connection.execute(_RECEIVERS.where(webhook.c.kind == kind)).one())


def get_receiver(connection: Connection, kind: str) -> Receiver | None:
    """Return Slack's or GitHub's row; None if there is none."""
    row = connection.execute(_RECEIVERS.where(webhook.c.kind == kind)).one_or_none()
    return None if row is None else _receiver(row)


def remove_webhook(connection: Connection, webhook_id: int, *, now_ns: int) -> None:
    """Remove a webhook: its row stays without address and secret, and what waits is dropped."""
    connection.execute(
        update(webhook)
        .where(webhook.c.id == webhook_id)
        .values(removed_ns=now_ns, url="", secret="", trouble=None, trouble_since_ns=None)
    )
    connection.execute(delete(webhook_delivery).where(webhook_delivery.c.webhook_id == webhook_id))


def webhooks(connection: Connection, *, after: int = 0, limit: int = 1000) -> list[Receiver]:
    """Return the webhooks that have not been removed, by id from the first after `after`."""
    query = _RECEIVERS.where(
        webhook.c.kind == WEBHOOK, webhook.c.removed_ns.is_(None), webhook.c.id > after
    )
    return [_receiver(row) for row in connection.execute(query.limit(limit))]


def secret_of(connection: Connection, webhook_id: int) -> str:
    """Return the secret of a webhook, by which what is sent is signed."""
    query = select(webhook.c.secret).where(webhook.c.id == webhook_id)
    return str(connection.execute(query).scalar_one())


def claim(connection: Connection, receiver: Receiver, *, now_ns: int, until_ns: int) -> bool:
    """Claim a receiver as it was read; False if another process has it, or it pauses."""
    if not is_free(receiver, now_ns=now_ns):
        return False
    is_same = and_(
        webhook.c.id == receiver.receiver_id,
        webhook.c.again_ns == receiver.again_ns,
        webhook.c.removed_ns.is_(None),
    )
    changed = connection.execute(update(webhook).where(is_same).values(again_ns=until_ns))
    return changed.rowcount == 1


def is_free(receiver: Receiver, *, now_ns: int) -> bool:
    """Tell whether something may be sent to a receiver now.

    A pause that is longer than any was begun while the clock was ahead.
    """
    return not now_ns < receiver.again_ns <= now_ns + 2 * LONGEST_PAUSE_NS


def release(
    connection: Connection,
    receiver_id: int,
    *,
    claimed_ns: int,
    again_ns: int,
    trouble: str | None,
    now_ns: int,
) -> None:
    """End a claim, unless it has expired and is another's; `trouble` is why sending has failed."""
    since_ns = None if trouble is None else func.coalesce(webhook.c.trouble_since_ns, now_ns)
    connection.execute(
        update(webhook)
        .where(webhook.c.id == receiver_id, webhook.c.again_ns == claimed_ns)
        .values(
            again_ns=again_ns,
            failures=0 if trouble is None else webhook.c.failures + 1,
            trouble=trouble,
            trouble_since_ns=since_ns,
        )
    )


def move_cursor(
    connection: Connection, receiver: Receiver, cursor: Mapping[str, Any] | str
) -> bool:
    """Change the cursor of a receiver; False if somebody has changed it since it was read."""
    text = cursor if isinstance(cursor, str) else json.dumps(cursor)
    changed = connection.execute(
        update(webhook)
        .where(webhook.c.id == receiver.receiver_id, webhook.c.cursor == receiver.cursor)
        .values(cursor=text)
    )
    return changed.rowcount == 1


def add_deliveries(
    connection: Connection, webhook_id: int, bodies: Iterable[tuple[str, str]], *, now_ns: int
) -> list[int]:
    """Store what is to be sent, events with their bodies, in this order; return the ids."""
    made = []
    for event, body in bodies:
        values = {"webhook_id": webhook_id, "event": event, "body": body}
        times = {"created_ns": now_ns, "next_ns": now_ns}
        added: Any = connection.execute(insert(webhook_delivery).values(**values, **times))
        made.append(int(added.inserted_primary_key[0]))
    return made


def due_webhooks(connection: Connection, *, now_ns: int) -> set[int]:
    """Return the webhooks to which something is due."""
    query = select(webhook_delivery.c.webhook_id).where(webhook_delivery.c.next_ns <= now_ns)
    return set(connection.execute(query.distinct()).scalars())


def due_deliveries(
    connection: Connection, webhook_id: int, *, now_ns: int, limit: int
) -> list[Delivery]:
    """Return what is due to a webhook: what was tried least first, then the oldest."""
    query = _DELIVERIES.where(
        webhook_delivery.c.webhook_id == webhook_id, webhook_delivery.c.next_ns <= now_ns
    ).order_by(webhook_delivery.c.attempts, webhook_delivery.c.id)
    return [Delivery(*row) for row in connection.execute(query.limit(limit))]


def mark_tried(
    connection: Connection,
    delivery: Delivery,
    *,
    answer: str,
    now_ns: int,
    next_ns: int | None,
    is_delivered: bool,
) -> None:
    """Note what a receiver has answered; `next_ns` of None if it is not tried again."""
    connection.execute(
        update(webhook_delivery)
        .where(webhook_delivery.c.id == delivery.delivery_id)
        .values(
            attempts=webhook_delivery.c.attempts + 1,
            answer=answer,
            tried_ns=now_ns,
            next_ns=next_ns,
            delivered_ns=now_ns if is_delivered else None,
        )
    )


def count_waiting(connection: Connection, webhook_id: int) -> int:
    """Count what waits to be sent to a webhook."""
    query = select(func.count()).where(
        webhook_delivery.c.webhook_id == webhook_id, webhook_delivery.c.next_ns.is_not(None)
    )
    return int(connection.execute(query).scalar_one())


def deliveries(
    connection: Connection, webhook_id: int, *, before: int | None = None, limit: int
) -> list[Delivery]:
    """Return what was, or is to be, sent to a webhook, the newest first, below the id `before`."""
    query = _DELIVERIES.where(webhook_delivery.c.webhook_id == webhook_id)
    if before is not None:
        query = query.where(webhook_delivery.c.id < before)
    query = query.order_by(webhook_delivery.c.id.desc()).limit(limit)
    return [Delivery(*row) for row in connection.execute(query)]


def retry_deliveries(
    connection: Connection, webhook_id: int, *, delivery_id: int | None, now_ns: int
) -> int:
    """Have what was given up sent again, or one delivery whatever its state; return how many.

    What waits is tried at once.
    """
    rows = update(webhook_delivery).where(webhook_delivery.c.webhook_id == webhook_id)
    if delivery_id is None:
        rows = rows.where(webhook_delivery.c.delivered_ns.is_(None))
    else:
        rows = rows.where(webhook_delivery.c.id == delivery_id)
    # The days after which it is given up begin again.
    changed = connection.execute(rows.values(next_ns=now_ns, delivered_ns=None, created_ns=now_ns))
    connection.execute(
        update(webhook).where(webhook.c.id == webhook_id).values(again_ns=0, failures=0)
    )
    return changed.rowcount


def prune_deliveries(connection: Connection, webhook_id: int, *, before_ns: int, most: int) -> None:
    """Forget what was delivered or given up: what is older than this, and all but the newest."""
    own, number = webhook_delivery.c.webhook_id == webhook_id, webhook_delivery.c.id
    newest = select(number).where(own).order_by(number.desc()).offset(most).limit(1)
    last = connection.execute(newest).scalar()
    is_old = or_(webhook_delivery.c.created_ns < before_ns, number <= (last or 0))
    ended = webhook_delivery.c.next_ns.is_(None)
    connection.execute(delete(webhook_delivery).where(own, ended, is_old))


def receivers_health(connection: Connection, kinds: Sequence[str]) -> list[Health]:
    """Return how sending is to every webhook, and to the receivers of these other kinds."""
    waits = webhook_delivery.c.next_ns.is_not(None)
    is_given_up = and_(~waits, webhook_delivery.c.delivered_ns.is_(None))
    query = (
        select(
            webhook.c.kind,
            webhook.c.name,
            func.count(case((waits, 1))),
            func.count(case((and_(is_given_up, webhook_delivery.c.id.is_not(None)), 1))),
            func.min(case((waits, webhook_delivery.c.created_ns))),
            webhook.c.trouble,
            webhook.c.trouble_since_ns,
        )
        .outerjoin_from(webhook, webhook_delivery, webhook_delivery.c.webhook_id == webhook.c.id)
        .where(or_(webhook.c.kind == WEBHOOK, webhook.c.kind.in_(kinds)))
        .where(webhook.c.removed_ns.is_(None))
        .group_by(webhook.c.id)
        .order_by(webhook.c.kind, webhook.c.id)
    )
    return [Health(*row) for row in connection.execute(query)]


def troubled_receivers(connection: Connection, kinds: Sequence[str]) -> list[Health]:
    """Return those webhooks, and receivers of these other kinds, that cannot be sent to."""
    query = select(
        webhook.c.kind, webhook.c.name, webhook.c.trouble, webhook.c.trouble_since_ns
    ).where(
        webhook.c.trouble.is_not(None),
        webhook.c.removed_ns.is_(None),
        or_(webhook.c.kind == WEBHOOK, webhook.c.kind.in_(kinds)),
    )
    rows = connection.execute(query.order_by(webhook.c.kind, webhook.c.id))
    return [Health(kind, name, 0, 0, None, why, since) for kind, name, why, since in rows]


def refused_after(connection: Connection, entry_id: int, *, limit: int) -> list[Entry]:
    """Return lines that targets have refused, by id from the first after `entry_id`."""
    query = _ENTRIES.where(quarantine.c.id > entry_id, quarantine.c.is_deletion.is_(False))
    return [Entry(*row) for row in connection.execute(query.limit(limit))]


def last_refused(connection: Connection) -> int:
    """Return the id of the newest refused line; 0 if there is none."""
    query = select(func.coalesce(func.max(quarantine.c.id), 0))
    return int(connection.execute(query).scalar_one())


_RECEIVERS = select(
    webhook.c.id,
    webhook.c.kind,
    webhook.c.name,
    webhook.c.url,
    webhook.c.events,
    webhook.c.filters,
    webhook.c.user_id,
    webhook.c.created_ns,
    webhook.c.removed_ns,
    webhook.c.cursor,
    webhook.c.again_ns,
    webhook.c.failures,
    webhook.c.trouble,
    webhook.c.trouble_since_ns,
).order_by(webhook.c.id)
_DELIVERIES = select_rows(webhook_delivery, Delivery)
_ENTRIES = select_rows(quarantine, Entry).order_by(quarantine.c.id)


def _receiver(row: Any) -> Receiver:
    receiver_id, kind, name, url, events, filters, *others = row
    return Receiver(receiver_id, kind, name, url, json.loads(events), json.loads(filters), *others)
