"""Webhooks: what happens is written down for each of them, and then sent, signed, until it arrives.

A round reads what is new for each webhook from its cursor and stores it as deliveries, in the
transaction that moves the cursor. Each webhook is then sent to by a thread of its own, so that one
that hangs holds up no other; whoever sends to it has claimed it. The form of what is sent, and of
its signature, is that of Standard Webhooks (https://www.standardwebhooks.com).
"""

import asyncio
import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.delivery.documents import body_of, job_document, news_document
from squash_api.delivery.reader import BackOff, Loop, Wait, pause_s
from squash_api.delivery.sending import Answer, Sender, SendingError
from squash_api.delivery.subscriptions import (
    ALERT_EVENTS,
    JOB_ACCEPTED,
    JOB_QUARANTINED,
    SECRET_PREFIX,
    Filters,
)
from squash_api.delivery.telling import (
    RESOLVED_EVENT,
    Cursor,
    News,
    Seen,
    acknowledgements,
    look,
    news_of_groups,
)
from squash_api.errors import with_runbook
from squash_api.index.derived import derived_through
from squash_api.index.reader import Reader, View
from squash_api.record.record import Connection, Record
from squash_api.record.webhooks import (
    Delivery,
    Receiver,
    add_deliveries,
    claim,
    count_waiting,
    due_deliveries,
    due_webhooks,
    is_free,
    last_refused,
    mark_tried,
    move_cursor,
    prune_deliveries,
    refused_after,
    release,
    secret_of,
    webhooks,
)

GIVEN_UP_DAYS, KEPT_DAYS = 3, 30
"""After how many days a delivery is given up, and after how many one that has ended is forgotten.
"""

MOST_KEPT = 10_000
"""Of the deliveries to a webhook that have ended, at most so many are kept, the newest."""

_CLAIM_NS = 60 * 10**9
_DAY_NS = 86_400 * 10**9
_POLL = Wait(0.25, 1.0)
_LONGEST_STOP_S = 2.0
_MOST_AT_ONCE, _MOST_WAITING, _MOST_JOBS = 50, 5_000, 500
_pause_s = partial(pause_s, first_s=10.0, longest_s=3600.0, jitter=0.2)
_PRUNED_EVERY_S = 600.0

_log = structlog.get_logger(__name__)


def signature(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Sign a body, sent at a time (s since 1970) under an id, with a webhook's secret.

    Source: the specification of Standard Webhooks, version 1 of the signature.
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


@dataclass(frozen=True, slots=True)
class Courier:
    """Sends deliveries to webhooks. `networks` are not public and may be sent to all the same."""

    record: Record
    networks: Sequence[str] = ()
    clock: Callable[[], int] = time.time_ns

    def send_due(self, receiver: Receiver, *, is_over: Callable[[], bool]) -> None:
        """Send what is due to a webhook until it `is_over`, unless another process does."""
        now_ns = self.clock()
        until_ns = now_ns + _CLAIM_NS
        taken = partial(claim, receiver=receiver, now_ns=now_ns, until_ns=until_ns)
        if self.record.write(taken):
            asyncio.run(self._send_some(receiver, until_ns, is_over))

    async def send_one(self, receiver: Receiver, delivery: Delivery) -> Answer | SendingError:
        """Send a delivery now, whoever else sends to the webhook, and note the outcome."""
        async with Sender(self.networks) as sender:
            return await self._send(sender, receiver, delivery)

    async def _send_some(
        self, receiver: Receiver, claimed_ns: int, is_over: Callable[[], bool]
    ) -> None:
        trouble, again_ns = None, 0
        with self.record.read() as connection:
            due = due_deliveries(
                connection, receiver.receiver_id, now_ns=self.clock(), limit=_MOST_AT_ONCE
            )
        async with Sender(self.networks) as sender:
            for delivery in due:
                if is_over() or self.clock() > claimed_ns - _CLAIM_NS // 2:
                    break
                outcome = await self._send(sender, receiver, delivery)
                pause_s = _pause_of(outcome, receiver.failures)
                if pause_s is not None:
                    trouble = with_runbook(_words(outcome), "webhook-failing")
                    again_ns = self.clock() + int(pause_s * 10**9)
                    break
        if trouble is not None and receiver.failures == 0:
            _log.warning(
                "a webhook cannot be sent to; it will be tried again",
                webhook=receiver.name,
                reason=_words(outcome),
                runbook="webhook-failing",
            )
        self.record.write(
            lambda connection: release(
                connection,
                receiver.receiver_id,
                claimed_ns=claimed_ns,
                again_ns=again_ns,
                trouble=trouble,
                now_ns=self.clock(),
            )
        )

    async def _send(
        self, sender: Sender, receiver: Receiver, delivery: Delivery
    ) -> Answer | SendingError:
        with self.record.read() as connection:
            secret = secret_of(connection, receiver.receiver_id)
        body = delivery.body.encode()
        timestamp = self.clock() // 10**9
        # A record that was restored may use a number once more, for something else.
        digest = hashlib.sha256(body).hexdigest()[:12]
        name = f"{receiver.receiver_id}-{delivery.delivery_id}-{digest}"
        headers = {
            "Content-Type": "application/json",
            "Webhook-Id": name,
            "Webhook-Timestamp": f"{timestamp}",
            "Webhook-Signature": signature(secret, name, timestamp, body),
        }
        outcome: Answer | SendingError
        try:
            outcome = await sender.send("POST", receiver.url, headers=headers, content=body)
        except SendingError as error:
            outcome = error
        self._note(delivery, outcome, receiver)
        return outcome

    def _note(self, delivery: Delivery, outcome: Answer | SendingError, receiver: Receiver) -> None:
        now_ns = self.clock()
        is_delivered = isinstance(outcome, Answer) and 200 <= outcome.status < 300
        pause_ns = int(_pause_s(failures=delivery.attempts) * 10**9)
        is_too_old = now_ns + pause_ns > delivery.created_ns + GIVEN_UP_DAYS * _DAY_NS
        next_ns = None if is_delivered or is_too_old else now_ns + pause_ns
        self.record.write(
            lambda connection: mark_tried(
                connection,
                delivery,
                answer=_words(outcome),
                now_ns=now_ns,
                next_ns=next_ns,
                is_delivered=is_delivered,
            )
        )
        if not is_delivered and next_ns is None:
            _log.error(
                "a delivery to a webhook was given up",
                webhook=receiver.name,
                delivery=delivery.delivery_id,
                kind=delivery.event,
                reason=_words(outcome),
                runbook="webhook-given-up",
            )


@dataclass(frozen=True, slots=True)
class _Fresh:
    """What there is to be told: what news of alerts depend on, and the newest job and refusal."""

    alerts: Seen
    jobs: int
    refused: int


class Webhooks(Loop):
    """Writes down what each webhook is to be told, and has it sent."""

    waits_for_jobs = False

    def __init__(
        self,
        record: Record,
        reader: Reader,
        definitions: DefinitionsInForce,
        *,
        squash_url: str,
        networks: Sequence[str] = (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(
            "webhooks",
            BackOff(1.0, 30.0, least_s=1.0),
            failure="webhooks failed; they will be tried again",
        )
        self._record = record
        self._reader = reader
        self._definitions = definitions
        self._squash_url = squash_url
        self._clock = clock
        self._courier = Courier(record, networks, clock)
        # One for each webhook that is sent to, so that none waits for another.
        self._sending: dict[int, threading.Thread] = {}
        self._seen: dict[int, Seen] = {}
        self._pruned_at_s = 0.0

    def close(self) -> None:
        """Abandon what hangs: it is sent again, by another process or later."""
        ends_s = time.monotonic() + _LONGEST_STOP_S
        for thread in self._sending.values():
            thread.join(max(ends_s - time.monotonic(), 0.0))

    def step(self) -> Wait:
        """Write down what is new, and begin to send what is due."""
        with self._record.read() as connection:
            known = webhooks(connection)
        fresh = self._fresh() if known else None
        for receiver in known:
            try:
                if fresh is not None and self._has_news(receiver, fresh):
                    self._write_down(receiver, fresh)
            except Exception as error:  # noqa: BLE001  one must not hold up the others
                self.failed(error)
        self._send(known)
        if known and time.monotonic() >= self._pruned_at_s:
            self._pruned_at_s = time.monotonic() + _PRUNED_EVERY_S
            before_ns = self._clock() - KEPT_DAYS * _DAY_NS
            for receiver in known:
                self._record.write(
                    partial(
                        prune_deliveries,
                        webhook_id=receiver.receiver_id,
                        before_ns=before_ns,
                        most=MOST_KEPT,
                    )
                )
        return _POLL

    def wait_until_sent(self) -> None:
        """Wait until what is being sent has an outcome."""
        for thread in list(self._sending.values()):
            thread.join()

    def _send(self, known: Sequence[Receiver]) -> None:
        now_ns = self._clock()
        with self._record.read() as connection:
            due = due_webhooks(connection, now_ns=now_ns) if known else set()
        for receiver in known:
            thread = self._sending.get(receiver.receiver_id)
            is_due = receiver.receiver_id in due and is_free(receiver, now_ns=now_ns)
            if is_due and (thread is None or not thread.is_alive()):
                thread = threading.Thread(
                    target=self._try, args=(receiver,), name=f"{self.name}-send", daemon=True
                )
                self._sending[receiver.receiver_id] = thread
                thread.start()

    def _try(self, receiver: Receiver) -> None:
        try:
            self._courier.send_due(receiver, is_over=self.is_stopping)
        except Exception as error:  # noqa: BLE001  the claim ends by itself, then it is tried again
            self.failed(error)

    def _fresh(self) -> _Fresh:
        with self._reader.view() as view:
            return _Fresh(
                look(view, now_ns=self._clock()), view.ask(derived_through), view.ask(last_refused)
            )

    def _has_news(self, receiver: Receiver, fresh: _Fresh) -> bool:
        """Tell whether there may be something new for a webhook, which mostly there is not."""
        cursor, wanted = Cursor.read(receiver.cursor), set(receiver.events)
        is_seen = fresh.alerts == self._seen.get(receiver.receiver_id)
        return (
            (not is_seen and bool(wanted & ALERT_EVENTS))
            or (JOB_ACCEPTED in wanted and cursor.job < fresh.jobs)
            or (JOB_QUARANTINED in wanted and cursor.refused < fresh.refused)
        )

    def _write_down(self, receiver: Receiver, fresh: _Fresh) -> None:
        cursor, filters = Cursor.read(receiver.cursor), Filters.of(receiver.filters)
        wanted, now_ns = set(receiver.events), self._clock()
        bodies: list[tuple[str, str]] = []
        moved = cursor
        with self._reader.view() as view:
            if view.ask(count_waiting, receiver.receiver_id) >= _MOST_WAITING:
                return
            if wanted & ALERT_EVENTS and fresh.alerts != self._seen.get(receiver.receiver_id):
                news, moved = self._news(view, moved, filters, now_ns)
                bodies += [self._of_news(view, item) for item in news if item.event in wanted]
            if JOB_ACCEPTED in wanted:
                jobs, moved = self._jobs(view, moved, filters)
                bodies += jobs
            if JOB_QUARANTINED in wanted:
                refusals, moved = self._refusals(view, moved, filters)
                bodies += refusals
        if moved != cursor and not self._record.write(
            partial(_store, receiver=receiver, cursor=moved, bodies=bodies, now_ns=now_ns)
        ):
            # Another process was faster.
            return
        self._seen[receiver.receiver_id] = fresh.alerts

    def _news(
        self, view: View, cursor: Cursor, filters: Filters, now_ns: int
    ) -> tuple[list[News], Cursor]:
        groups, cursor = news_of_groups(
            view,
            cursor,
            filters.hears,
            now_ns=now_ns,
            least=filters.severity,
            is_told_late=True,
        )
        acknowledged, cursor = acknowledgements(view, cursor, filters.hears, now_ns=now_ns)
        # Who has it is told before that it is over.
        news = [*groups, *acknowledged]
        return sorted(news, key=lambda item: item.event == RESOLVED_EVENT), cursor

    def _of_news(self, view: View, news: News) -> tuple[str, str]:
        snapshot = self._definitions.at(None)
        data = news_document(view, news, snapshot, root=self._squash_url)
        return news.event, body_of(news.event, news.time_ns, data)

    def _jobs(
        self, view: View, cursor: Cursor, filters: Filters
    ) -> tuple[list[tuple[str, str]], Cursor]:
        """Return the jobs that are in the index since the cursor."""
        through = min(cursor.job + _MOST_JOBS, view.ask(derived_through))
        if through <= cursor.job:
            return [], cursor
        ids = range(cursor.job + 1, through + 1)
        names: dict[int, list[str]] = {}
        by_id = view.metrics.by_id
        for metric_id, job_id, _ in view.values.in_jobs(by_id, ids, has_absent=True):
            names.setdefault(job_id, []).append(by_id[metric_id].name)
        bodies = []
        for job_id, job in sorted(view.contexts.of(ids).items()):
            measured = sorted(names.get(job_id, []))
            is_any = not filters.metrics and not filters.packages
            if filters.has_tags(job.context.tags) and (
                is_any or any(map(filters.names_metric, measured))
            ):
                data = job_document(job, measured, root=self._squash_url)
                bodies.append((JOB_ACCEPTED, body_of(JOB_ACCEPTED, job.received_ns, data)))
        return bodies, replace(cursor, job=through)

    def _refusals(
        self, view: View, cursor: Cursor, filters: Filters
    ) -> tuple[list[tuple[str, str]], Cursor]:
        """Return what targets have refused since the cursor, by job and target."""
        entries = view.ask(refused_after, cursor.refused, limit=_MOST_JOBS)
        if not entries:
            return [], cursor
        contexts = view.contexts.of({item.job_id for item in entries})
        found: dict[tuple[int, str], list[Any]] = {}
        for item in entries:
            # Of a refused line only the package is known, which is its measurement.
            tags = contexts[item.job_id].context.tags if item.job_id in contexts else {}
            if filters.names_package(item.measurement) and filters.has_tags(tags):
                found.setdefault((item.job_id, item.target), []).append(item)
        bodies = []
        for (job_id, target), some in found.items():
            data = {
                "job": job_id,
                "job_url": f"{self._squash_url}/job/{job_id}",
                "target": target,
                "packages": sorted({item.measurement for item in some}),
                "reason": some[0].reason[:1000],
                "count": len(some),
            }
            bodies.append((JOB_QUARANTINED, body_of(JOB_QUARANTINED, some[0].created_ns, data)))
        return bodies, replace(cursor, refused=entries[-1].entry_id)


def _store(
    connection: Connection,
    *,
    receiver: Receiver,
    cursor: Cursor,
    bodies: Iterable[tuple[str, str]],
    now_ns: int,
) -> bool:
    """Store what is to be sent, if the webhook is as it was read."""
    if not move_cursor(connection, receiver, cursor.text):
        return False
    add_deliveries(connection, receiver.receiver_id, bodies, now_ns=now_ns)
    return True


def _words(outcome: Answer | SendingError) -> str:
    if isinstance(outcome, SendingError):
        return str(outcome)
    if 300 <= outcome.status < 400:
        return f"{outcome.status}: it redirects, which is not followed: correct the URL"
    return outcome.words


def _pause_of(outcome: Answer | SendingError, failures: int) -> float | None:
    """Return how long to leave a receiver alone, in s; None if it takes what is sent.

    What it says of one delivery (4xx) is not about the others.
    """
    if isinstance(outcome, Answer):
        if outcome.status < 400 and not 300 <= outcome.status < 400:
            return None
        if outcome.status == 429 or outcome.status >= 500:
            return max(outcome.retry_after_s() or 0.0, _pause_s(failures=failures))
        return None if outcome.status in {400, 409, 413, 422} else _pause_s(failures=failures)
    return _pause_s(failures=failures)
