"""Slack, told by the service itself: one message for a group of alerts, one when it is over.

For those without Kapacitor. It is told how things are when it can be: what was over before it could
be told is not told. The words are those of `judging/alert_texts.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import structlog
from pydantic import SecretStr

from squash_api.accounts.links import Links
from squash_api.definitions.in_force import DefinitionsInForce, Snapshot
from squash_api.delivery.sending import Answer, Sender, SendingError
from squash_api.delivery.teller import PauseError, Teller, refusal
from squash_api.delivery.telling import (
    RESOLVED_EVENT,
    Cursor,
    News,
    Seen,
    from_now,
    look,
    news_of_groups,
    words_of,
)
from squash_api.generate.kapacitor.text import slack_text
from squash_api.index.reader import Reader, View
from squash_api.judging.alert_plan import branch_keys
from squash_api.judging.alert_texts import LATE, Message
from squash_api.record.record import Record
from squash_api.record.webhooks import SLACK, Receiver
from squash_api.schema.names import Schema

_COLORS = {"CRITICAL": "danger", "WARNING": "warning", "INFO": "#439FE0", "OK": "good"}
# At the rate at which Slack takes messages these take half of the time for which it is claimed.
_MOST_AT_ONCE = 25
_RUNBOOK = "receiver-failing"
# What Slack says of the channel, not of the message: it can be told elsewhere.
_OF_THE_CHANNEL = ("channel_not_found", "channel_is_archived", "action_prohibited", "is_archived")

_log = structlog.get_logger(__name__)


class SlackTeller(Teller):
    """Tells Slack by an incoming webhook, whose address is a secret."""

    kind = SLACK

    def __init__(
        self,
        record: Record,
        reader: Reader,
        definitions: DefinitionsInForce,
        schema: Schema,
        *,
        url: SecretStr,
        squash_url: str,
        links: Links | None = None,
        **other: Any,
    ) -> None:
        super().__init__(record, reader, **other)
        self._definitions = definitions
        self._schema = schema
        self._url = url
        self._squash_url = squash_url
        self._links = links
        self._seen: Seen | None = None

    def first_cursor(self, view: View) -> Mapping[str, Any]:
        """Return the cursor after all that is open now."""
        cursor: Mapping[str, Any] = orjson.loads(from_now(view, _hears, now_ns=self._clock()).text)
        return cursor

    def has_news(self, receiver: Receiver) -> bool:
        """Tell whether something has changed since Slack was last told all."""
        del receiver
        with self._reader.view() as view:
            return look(view, now_ns=self._clock()) != self._seen

    def _words(self, view: View, news: News, snapshot: Snapshot) -> Message:
        message = words_of(view, news, snapshot, root=self._squash_url)
        if self._links is None:
            return message
        return self._links.in_message(message, self._squash_url)

    async def tell(self, receiver: Receiver) -> None:
        """Send a message for each group that has changed."""
        cursor = Cursor.read(receiver.cursor)
        snapshot = self._definitions.at(None)
        with self._reader.view() as view:
            seen = look(view, now_ns=self._clock())
            news, moved = news_of_groups(view, cursor, _hears, now_ns=self._clock())
            some = news[:_MOST_AT_ONCE]
            messages = [self._words(view, item, snapshot) for item in some]
        told = dict(cursor.told)
        async with Sender() as sender:
            for item, message in zip(some, messages, strict=True):
                if self.is_stopping():
                    return
                await self._send(sender, message, self._channel(item, snapshot))
                if item.event == RESOLVED_EVENT:
                    told.pop(item.group.group_id, None)
                else:
                    told[item.group.group_id] = moved.told[item.group.group_id]
                cursor = replace(cursor, told=told)
                receiver = self.move(receiver, cursor.text)
        if len(some) == len(news):
            if moved != cursor:
                self.move(receiver, moved.text)
            self._seen = seen

    async def _send(self, sender: Sender, message: Message, channel: str | None) -> None:
        answer = await self._post(sender, message, channel)
        said = answer.body[:100].decode(errors="replace")
        if answer.status >= 400 and channel is not None and said.startswith(_OF_THE_CHANNEL):
            _log.error(
                "Slack has no such channel; the message goes to the webhook's own",
                channel=channel,
                reason=answer.words,
                runbook="slack-channel",
            )
            answer = await self._post(sender, message, None)
        if answer.status == 400:
            # It never takes this one; the others must not wait for it.
            _log.error("Slack refuses a message", reason=answer.words, runbook="slack-refused")
        elif not 200 <= answer.status < 300:
            raise refusal(answer, runbook=_RUNBOOK)

    async def _post(self, sender: Sender, message: Message, channel: str | None) -> Answer:
        try:
            return await sender.send(
                "POST",
                self._url.get_secret_value(),
                headers={"Content-Type": "application/json"},
                content=orjson.dumps(payload(message, channel)),
            )
        except SendingError as error:
            raise PauseError(str(error), runbook=_RUNBOOK) from error

    def _channel(self, news: News, snapshot: Snapshot) -> str | None:
        """Return the channel of the specifications of a group; None is the webhook's own."""
        if "channel" in news.group.key:
            # Of a whole job, whose metrics have this in common.
            named: str | None = news.group.key["channel"]
            return named
        branch, metric = news.group.branch, news.group.metric
        if branch.startswith(LATE):
            found = snapshot.specifications.get(branch.removeprefix(LATE))
            return None if found is None else found.content.channel
        keys = branch_keys(snapshot.by_metric.get(metric, ()), self._schema)
        return next((item.channel for item in keys if item.key == branch), None)


def payload(message: Message, channel: str | None) -> dict[str, Any]:
    """Return what an incoming webhook is sent: the message, with a bar in its color."""
    attachment = {
        "color": _COLORS[message.level],
        "fallback": message.plain().partition("\n")[0],
        "text": slack_text(message),
        "mrkdwn_in": ["text"],
    }
    found: dict[str, Any] = {"text": "", "attachments": [attachment]}
    return found if channel is None else {**found, "channel": channel}


def _hears(_alert: object) -> bool:
    return True
