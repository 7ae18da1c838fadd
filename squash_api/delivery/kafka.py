"""Kafka as an outlet: jobs, verdicts and alerts as events, and points, in order, at least once.

The documents are those of webhooks. What belongs together has the same key, and so stays in one
partition and in order: the jobs of a run, the verdicts and the points of a series, a group of
alerts. The cursors move only when the brokers have confirmed what was sent.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx
import structlog

from squash_api.delivery.documents import body_of, job_document, news_document
from squash_api.delivery.kafka_client import KafkaClient, Message, require_kafka
from squash_api.delivery.kafka_points import JobPoints, Unsent, form_of, series_key
from squash_api.delivery.outlet import GATHER, IDLE, Outlet, Sources
from squash_api.delivery.reader import NO_WAIT, Wait
from squash_api.delivery.subscriptions import JOB_ACCEPTED
from squash_api.delivery.telling import (
    RESOLVED_EVENT,
    Cursor,
    Seen,
    acknowledgements,
    look,
    news_of_groups,
)
from squash_api.index.contexts import JobContext
from squash_api.index.derived import derived_through
from squash_api.index.reader import View
from squash_api.judging.limits import Verdict
from squash_api.judging.states import NO_LIMIT, worst_state
from squash_api.judging.wording import date_text
from squash_api.logs import note_jobs
from squash_api.record.alerts import last_event_id
from squash_api.record.deliveries import (
    Erasure,
    Quarantined,
    get_target,
    mark_told,
    pending_erasures,
    pending_redeliveries,
)
from squash_api.record.jobs import last_job_id
from squash_api.record.record import Connection, get_state, set_state
from squash_api.schema.names import split_metric_name
from squash_api.setting_types import KafkaTarget

JOB_CHANGED, JOB_DELETED, JUDGED = "job.changed", "job.deleted", "metric.judged"
KAFKA_EVENTS: Final[Mapping[str, str]] = {
    JOB_CHANGED: "something was added to a job, or it is sent again: this replaces what it was",
    JOB_DELETED: "a job was deleted",
    JUDGED: "the value of a metric in a job was judged, or is missing",
}
"""What Kafka is told beside what webhooks are, by name."""

MOST_JOBS = 100
_MOST_BYTES = 8_000_000
# Of what a broker refuses, so much is kept to be looked at.
_KEPT_CHARACTERS = 10_000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Job:
    """A job that is told of: what it measured, and whether it was told of before."""

    context: JobContext
    key: str
    is_again: bool = False
    values: dict[str, float | None] = field(default_factory=dict)
    code_changes: tuple[str, int] | None = None


@dataclass(slots=True)
class _Round:
    """What a round sends, and what is settled by it."""

    through: int
    redelivered: Sequence[tuple[int, int]] = ()
    erasures: Sequence[Erasure] = ()
    deleted_keys: Mapping[int, str] = field(default_factory=dict)
    jobs: list[_Job] = field(default_factory=list)
    news: list[Message] = field(default_factory=list)
    kept: str | None = None
    cursor: Cursor | None = None
    seen: Seen | None = None
    has_more: bool = False


class KafkaOutlet(Outlet):
    """Sends to the brokers of a target.

    `client` and `transport`, to the registry, are replaced in tests; `clock` is in ns.
    """

    takes_lines = False

    def __init__(
        self,
        target: KafkaTarget,
        sources: Sources,
        *,
        client: KafkaClient | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(target.name, sources.record)
        self._target = target
        self._sources = sources
        self._reader = sources.reader
        self._client = client or KafkaClient(target, is_over=self.is_stopping)
        self._form = form_of(target, transport=transport)
        self._clock = clock
        self._root = sources.squash_url
        self._seen: Seen | None = None

    @classmethod
    def of(
        cls,
        target: KafkaTarget,
        sources: Sources,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> Self:
        """Make the outlet to Kafka.

        Raises
        ------
        SettingsError
            If the extra `kafka` is not installed.
        """
        require_kafka(target)
        return cls(target, sources, transport=transport)

    def send_some(self) -> Wait:
        """Send what is new about some jobs, and what has become of alerts."""
        if not self._has_to_do():
            if not self.is_well:
                # Or nothing would show that they answer again.
                self._client.topics(wait_s=5.0)
            return IDLE
        self._reader.catch_up(may_lag=False)
        found = self._reader.settled(self._prepare)
        messages, unsent = self._messages(found)
        refused = self._client.send(messages)
        unsent += [Unsent(messages[at], reason) for at, reason in refused.items()]
        self._settle(found, self._quarantined(unsent))
        return NO_WAIT if found.has_more else GATHER

    def forget(self) -> None:
        """Forget what was looked at: another outlet may have told of it."""
        self._seen = None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._form.close()

    def _sends(self, *kinds: str) -> bool:
        return not set(kinds).isdisjoint(self._target.sends)

    def _has_to_do(self) -> bool:
        with self._reader.view() as view:
            return (
                view.ask(get_target, self.name).sent_through < view.ask(last_job_id)
                or bool(view.ask(pending_redeliveries, self.name, limit=1))
                or bool(view.ask(pending_erasures, self.name, limit=1))
                or (self._sends("alerts") and self._seen != look(view, now_ns=self._clock()))
            )

    # What there is to send

    def _prepare(self, view: View) -> _Round:
        """Find out what is to be sent, in one state of the record."""
        known = view.ask(derived_through)
        after = view.ask(get_target, self.name).sent_through
        found = _Round(
            max(after, min(after + MOST_JOBS, known)),
            redelivered=view.ask(pending_redeliveries, self.name, limit=MOST_JOBS),
            erasures=view.ask(pending_erasures, self.name, limit=MOST_JOBS),
        )
        found.has_more = found.through < known or MOST_JOBS in (
            len(found.redelivered),
            len(found.erasures),
        )
        again = [job_id for job_id, _ in found.redelivered]
        new = range(after + 1, found.through + 1)
        found.jobs = [*_jobs(view, again, is_again=True), *_jobs(view, new, is_again=False)]
        view.require_settled(item.context.job_id for item in found.jobs)
        gone = [item.job_id for item in found.erasures]
        found.deleted_keys = _run_keys(view, gone)
        if self._sends("alerts"):
            self._add_news(view, found)
        return found

    def _add_news(self, view: View, found: _Round) -> None:
        """Add what has become of groups of alerts since the cursor."""
        now_ns, kept = self._clock(), view.ask(get_state, self._state_key)
        seen = look(view, now_ns=now_ns)
        # At first what is open now is told, and not what was over before anybody listened.
        first = Cursor(event=view.ask(last_event_id))
        cursor = first if kept is None else Cursor.read(kept)
        groups, moved = news_of_groups(
            view, cursor, _hears, now_ns=now_ns, is_told_late=kept is not None
        )
        acknowledged, moved = acknowledgements(view, moved, _hears, now_ns=now_ns)
        snapshot = self._sources.definitions.at(None)
        news = sorted([*groups, *acknowledged], key=lambda item: item.event == RESOLVED_EVENT)
        for item in news:
            data = news_document(view, item, snapshot, root=self._root)
            job_id = next((each.job_id for each in item.alerts if each.job_id is not None), None)
            body = body_of(item.event, item.time_ns, data)
            key = f"group {item.group.group_id}"
            found.news.append(Message(self._topic("alerts"), key, body.encode(), job_id))
        found.kept, found.cursor, found.seen = kept, moved, seen

    # Messages

    def _messages(self, found: _Round) -> tuple[list[Message], list[Unsent]]:
        """Make the messages of a round; if they are too many, of its first jobs only."""
        messages: list[Message] = []
        unsent: list[Unsent] = []
        size = 0
        last = max((item.context.job_id for item in found.jobs if not item.is_again), default=0)
        for job in found.jobs:
            for item in self._of_job(job):
                if isinstance(item, Unsent):
                    unsent.append(item)
                else:
                    messages.append(item)
                    size += len(item.value)
            is_new = not job.is_again
            if is_new and size > _MOST_BYTES and job.context.job_id < last:
                found.through, found.has_more = job.context.job_id, True
                break
        messages += self._deletions(found)
        return [*messages, *found.news], unsent

    def _of_job(self, job: _Job) -> Iterator[Message | Unsent]:
        number = job.context.job_id
        if self._sends("jobs"):
            event = JOB_CHANGED if job.is_again else JOB_ACCEPTED
            data = job_document(job.context, sorted(job.values), root=self._root)
            body = body_of(event, job.context.received_ns, data)
            yield Message(self._topic("jobs"), job.key, body.encode(), number)
        if self._sends("verdicts"):
            yield from self._verdicts(job)
        if self._sends("points"):
            values = {name: value for name, value in job.values.items() if value is not None}
            points = JobPoints(
                number,
                f"{self._root}/job/{number}",
                job.context.time_ns,
                values,
                job.context.context,
                job.code_changes,
            )
            yield from self._form.messages(points)

    def _verdicts(self, job: _Job) -> Iterator[Message]:
        """Make an event for each metric of a job that has a limit, with all verdicts on it."""
        by_metric: dict[str, list[Verdict]] = {}
        for verdict in self._sources.judge(job.context.job_id):
            by_metric.setdefault(verdict.metric, []).append(verdict)
        context = job.context.context
        names = self._reader.metrics.schema.series_tags
        series = {name: context.tags[name] for name in names if name in context.tags}
        about = job_document(job.context, (), root=self._root)
        for metric, verdicts in by_metric.items():
            words = [item.word for item in verdicts if not item.is_trial]
            data = {
                **{name: about[name] for name in about if name not in {"metrics", "count"}},
                "metric": metric,
                "package": split_metric_name(metric)[0],
                "state": worst_state(words, NO_LIMIT),
                "verdicts": [item.to_json() for item in verdicts],
            }
            body = body_of(JUDGED, job.context.received_ns, data)
            key = series_key(metric, series)
            yield Message(self._topic("verdicts"), key, body.encode(), job.context.job_id)

    def _deletions(self, found: _Round) -> Iterator[Message]:
        if not self._sends("jobs"):
            return
        for item in found.erasures:
            if item.is_deleted:
                url = f"{self._root}/job/{item.job_id}"
                data = {"job": item.job_id, "job_url": url, "time": date_text(item.time_ns)}
                body = body_of(JOB_DELETED, self._clock(), data | {"tags": item.tags or {}})
                key = found.deleted_keys[item.job_id]
                yield Message(self._topic("jobs"), key, body.encode(), item.job_id)

    def _topic(self, kind: str) -> str:
        return f"{self._target.prefix}.{kind}"

    # What has been sent

    def _quarantined(self, unsent: Iterable[Unsent]) -> list[Quarantined]:
        """Log what is refused for good, and return what is kept of it."""
        kept = []
        for item in unsent:
            message = item.message
            _log.error(
                "Kafka permanently refused a message",
                target=self.name,
                topic=message.topic,
                job=message.job_id,
                reason=item.reason,
                runbook="quarantine",
            )
            if message.job_id is not None:
                text = message.value[:_KEPT_CHARACTERS].decode(errors="replace")
                kept.append(Quarantined(message.job_id, message.topic, text, item.reason))
        return kept

    def _settle(self, found: _Round, quarantined: Sequence[Quarantined]) -> None:
        """Note in the record what has been sent."""

        def work(connection: Connection) -> None:
            mark_told(
                connection,
                self.name,
                through=found.through,
                redelivered=found.redelivered,
                erased=found.erasures,
                quarantined=quarantined,
                now_ns=time.time_ns(),
            )
            # Who was suspended in between finds that another has told of more.
            is_as_read = get_state(connection, self._state_key) == found.kept
            if found.cursor is not None and is_as_read:
                set_state(connection, self._state_key, found.cursor.text)

        self._record.write(work)
        self._seen = found.seen
        sent = [item.context.job_id for item in found.jobs]
        note_jobs(_log, "sent to Kafka", [i for i in sent if i <= found.through], target=self.name)

    @property
    def _state_key(self) -> str:
        return f"alerts told to {self.name}"


def _jobs(view: View, job_ids: Sequence[int], *, is_again: bool) -> list[_Job]:
    """Return what is told of jobs, in order of their ids, without those that are deleted."""
    if not job_ids:
        return []
    contexts, keys = view.contexts.of(job_ids), _run_keys(view, job_ids)
    found = {
        job_id: _Job(contexts[job_id], keys[job_id], is_again=is_again)
        for job_id in sorted(contexts)
    }
    by_id = view.metrics.by_id
    for metric_id, job_id, value in view.values.in_jobs(by_id, job_ids, has_absent=True):
        if job_id in found:
            found[job_id].values[by_id[metric_id].name] = value
    for job_id, changes in view.changes_since_previous_run(list(found)).items():
        found[job_id].code_changes = None if changes is None else changes.in_point
    return list(found.values())


def _run_keys(view: View, job_ids: Iterable[int]) -> dict[int, str]:
    """Return the keys of jobs, also of deleted ones: their run, or themselves if they have none."""
    keys = {job_id: f"job {job_id}" for job_id in job_ids}
    for job_id, run in view.runs.of_jobs(list(keys)).items():
        if run.run_id is not None:
            keys[job_id] = f"run {run.pipeline or ''}/{run.run_id}"
    return keys


def _hears(_alert: Any) -> bool:
    return True
