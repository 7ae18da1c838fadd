"""What tells receivers, on a record of a test, done round by round with a clock of the test's."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.delivery.subscriptions import Subscriptions
from squash_api.delivery.webhooks import Webhooks
from squash_api.index.deriver import Deriver
from squash_api.index.reader import Reader
from squash_api.record.alerts import (
    ACKNOWLEDGED,
    RESOLVED,
    NewEvent,
    add_events,
    change_alert,
    change_group,
    get_alert,
)
from squash_api.record.audit import Actor
from squash_api.record.metrics import Metrics
from squash_api.record.record import Connection, Record
from squash_api.record.silences import NewSilence, add_silence, end_silence
from squash_api.record.webhooks import Delivery, Receiver, deliveries, webhooks
from squash_api.schema.names import Schema

ROOT = "https://squash.example"
ROOT_USER = Actor(command="squash test")
LOOPBACK = ("127.0.0.0/8",)
DAY_NS = 86_400 * 10**9


@dataclass
class Clock:
    """A clock that goes on only when it is told to, in ns."""

    now_ns: int = field(default_factory=time.time_ns)

    def __call__(self) -> int:
        return self.now_ns

    def go_on(self, seconds: float) -> None:
        self.now_ns += int(seconds * 10**9)


class Told:
    """A record with what tells receivers of it."""

    def __init__(self, record: Record, *, networks: Sequence[str] = LOOPBACK) -> None:
        schema = Schema()
        self.record = record
        self.clock = Clock()
        self.metrics = Metrics(record, schema)
        self.deriver = Deriver(record, self.metrics)
        self.reader = Reader(record, self.deriver, self.metrics)
        self.definitions = DefinitionsInForce(record, schema)
        self.subscriptions = Subscriptions(
            record, self.reader, schema, squash_url=ROOT, networks=LOOPBACK
        )
        self.networks = networks
        self.webhooks = self.other()

    def other(self) -> Webhooks:
        """Make what another process has."""
        return Webhooks(
            self.record,
            self.reader,
            self.definitions,
            squash_url=ROOT,
            networks=self.networks,
            clock=self.clock,
        )

    def add(self, url: str, *events: str, name: str = "hook", **filters: Any) -> str:
        """Make a webhook; return its secret."""
        _, secret = self.subscriptions.create(
            name, url, events=events, filters=filters, by=ROOT_USER
        )
        return secret

    def send(self) -> None:
        """Do a round, and wait until what it sends has an outcome."""
        self.webhooks.step()
        self.webhooks.wait_until_sent()

    def hook(self) -> Receiver:
        """Return the only webhook."""
        with self.record.read() as connection:
            (found,) = webhooks(connection)
        return found

    def deliveries(self) -> list[Delivery]:
        """Return what was or is to be sent to the only webhook, the oldest first."""
        with self.record.read() as connection:
            return deliveries(connection, self.hook().receiver_id, limit=100)[::-1]

    def change(self, alert_id: int, kind: str, *, user_id: int | None = None, **to: Any) -> None:
        """Change an alert, with an event in its history."""

        def work(connection: Connection) -> None:
            row = get_alert(connection, alert_id)
            assert row is not None
            assert change_alert(connection, row, **to)
            severity = to.get("severity", row.severity)
            detail = {"note": to["note"]} if "note" in to else {}
            event = NewEvent(
                alert_id, self.clock.now_ns, kind, severity, user_id=user_id, detail=detail
            )
            add_events(connection, [event])

        self.record.write(work)

    def worsen(self, alert_id: int, severity: int) -> None:
        self.change(alert_id, "worsened", severity=severity, worst=severity)

    def resolve(self, *alert_ids: int) -> None:
        for alert_id in alert_ids:
            self.change(
                alert_id, "resolved", state=RESOLVED, severity=0, resolved_ns=self.clock.now_ns
            )

    def acknowledge(self, alert_id: int, *, user_id: int = 1, note: str = "mine") -> None:
        self.change(
            alert_id,
            "acknowledged",
            user_id=user_id,
            state=ACKNOWLEDGED,
            acknowledged_by=user_id,
            acknowledged_ns=self.clock.now_ns,
            note=note,
        )

    def gathers(self, alert_id: int, *, joined_ns: int | None) -> None:
        """Let the group of an alert gather, or be complete."""
        with self.record.read() as connection:
            row = get_alert(connection, alert_id)
        assert row is not None
        self.record.write(
            lambda connection: change_group(connection, row.group_id, joined_ns=joined_ns)
        )

    def silence(self, metric: str | None = None, **tags: str) -> int:
        """Silence alerts for a day, and return the id of the silence."""
        now_ns = self.clock.now_ns
        new = NewSilence(metric, tags, "a test", now_ns - 1, now_ns + DAY_NS)
        row = self.record.write(
            lambda connection: add_silence(connection, new, now_ns=now_ns, by=ROOT_USER)
        )
        return row.silence_id

    def unsilence(self, silence_id: int) -> None:
        self.record.write(
            lambda connection: end_silence(
                connection, silence_id, now_ns=self.clock.now_ns, by=ROOT_USER
            )
        )
