"""A client of Apache Kafka: sends messages in order, and says in plain words why it cannot.

The library is that of the extra `kafka`; it is imported when the first message is sent.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import httpx
import orjson

from squash_api.delivery.outlet import HeldUpError
from squash_api.errors import SettingsError
from squash_api.setting_types import KafkaTarget

LONGEST_WAIT_S = 10.0
"""After so many seconds a message that has not arrived is given up, and sent again later.

It is shorter than a lease lasts, so that none is on its way any more when another process sends.
"""

_POLL_S = 0.1
_LARGEST_BYTES = 64_000_000
# Below the brokers' own limit (1 MB), which is on batches.
_BATCH_BYTES = 500_000
_REGISTRY_S = 5.0

# What brokers say of one message, not of themselves: the others must not wait for it.
_OF_A_MESSAGE = ("MSG_SIZE_TOO_LARGE", "INVALID_MSG_SIZE", "INVALID_RECORD")
# What they say of messages that came together with such a one.
_OF_A_BATCH = (*_OF_A_MESSAGE, "RECORD_LIST_TOO_LARGE", "_INVALID_DIFFERENT_RECORD")
_OF_A_TOPIC = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "TOPIC_EXCEPTION")
_OF_RIGHTS = (
    "TOPIC_AUTHORIZATION_FAILED",
    "CLUSTER_AUTHORIZATION_FAILED",
    "SASL_AUTHENTICATION_FAILED",
    "_AUTHENTICATION",
    "UNSUPPORTED_SASL_MECHANISM",
    "ILLEGAL_SASL_STATE",
    "_SSL",
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message for a topic; those with the same key arrive in the order in which they are sent.

    `job_id` is the job that it is about, None if it is about none.
    """

    topic: str
    key: str
    value: bytes
    job_id: int | None = None


def require_kafka(target: KafkaTarget) -> None:
    """Raise `SettingsError`, which says how to install it, if the extra `kafka` is missing."""
    needed = ["confluent_kafka", *(["fastavro"] if target.points == "avro" else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"SQUASH_KAFKA_BROKERS: {missing[0].replace('_', '-')}, which sends to Kafka, is not "
            "installed: install it with: pip install 'squash-api[kafka]'"
        )


class KafkaClient:
    """Sends to the brokers of a target. For one thread.

    `wait_s` is after how long a message is given up, and `more` further settings of librdkafka.
    """

    def __init__(
        self,
        target: KafkaTarget,
        *,
        is_over: Callable[[], bool] = lambda: False,
        wait_s: float = LONGEST_WAIT_S,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self._target = target
        self._is_over = is_over
        self._wait_s = wait_s
        self._more = dict(more or {})
        self._producer: Any = None
        # The last words of librdkafka on its connections.
        self._said: tuple[str, str] | None = None

    def send(self, messages: Sequence[Message]) -> dict[int, str]:
        """Send messages, and wait until all have arrived.

        Returns the places of those that the brokers refuse for good, with the reason.

        Raises
        ------
        HeldUpError
            If not all have arrived. Any of them may have, and may come again.
        """
        failed = self._send(messages)
        if not failed:
            return {}
        first = min(failed)
        if any(error.name() not in _OF_A_BATCH for error in failed.values()):
            place = next(at for at, e in failed.items() if e.name() not in _OF_A_BATCH)
            raise self._held_up(failed[place], messages[place].topic)
        # One by one from the first on: so those behind it stay behind it.
        refused: dict[int, str] = {}
        for place, message in enumerate(messages[first:], first):
            for error in self._send([message]).values():
                if error.name() not in _OF_A_BATCH:
                    raise self._held_up(error, message.topic)
                refused[place] = f"{error.name()}: {error.str()} ({len(message.value)} bytes)"
        return refused

    def topics(self, *, wait_s: float) -> dict[str, str | None]:
        """Ask the brokers for their topics; of each, what is wrong with it.

        Raises
        ------
        HeldUpError
            If they do not answer.
        """
        from confluent_kafka import KafkaException  # noqa: PLC0415 - of an extra

        producer = self._open()
        try:
            found = producer.list_topics(timeout=wait_s)
        except KafkaException as error:
            self._poll(producer)
            raise self._held_up(error.args[0], "") from error
        return {
            name: None if item.error is None else item.error.str()
            for name, item in found.topics.items()
        }

    def close(self) -> None:
        """Close the connections; what is still on its way may or may not arrive."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge(in_queue=True, in_flight=True, blocking=False)
            producer.flush(0)

    def _send(self, messages: Sequence[Message]) -> dict[int, Any]:
        """Send messages; return the errors of those that have not arrived, by their places."""
        producer = self._open()
        failed: dict[int, Any] = {}
        waiting = len(messages)

        def report(place: int) -> Callable[[Any, Any], None]:
            def note(error: Any, _message: Any) -> None:
                nonlocal waiting
                waiting -= 1
                if error is not None:
                    failed[place] = error

            return note

        for place, message in enumerate(messages):
            self._put(producer, message, report(place))
        while waiting:
            self._poll(producer)
        if not failed:
            self._said = None
        return failed

    def _put(self, producer: Any, message: Message, report: Callable[[Any, Any], None]) -> None:
        from confluent_kafka import KafkaException  # noqa: PLC0415 - of an extra

        key = message.key.encode()
        while True:
            try:
                producer.produce(message.topic, message.value, key, on_delivery=report)
            except BufferError:
                # Its queue is full: what is in it comes first.
                self._poll(producer)
            except KafkaException as error:
                # It says this before it sends anything.
                report(error.args[0], None)
                return
            else:
                return

    def _poll(self, producer: Any) -> None:
        """Hear what has arrived, unless the service is to stop."""
        from confluent_kafka import KafkaException  # noqa: PLC0415 - of an extra

        try:
            producer.poll(_POLL_S)
        except KafkaException as error:
            # It never sends anything again.
            raise self._held_up(error.args[0], "") from error
        if self._is_over():
            self.close()
            raise HeldUpError(
                "the service was stopped while it was sending",
                needs_operator=False,
                runbook="kafka-unavailable",
            )

    def _held_up(self, error: Any, topic: str) -> HeldUpError:
        """Say why nothing arrives, in words that name the place and what to do."""
        name, words = error.name(), error.str()
        if self._said is not None and name in {"_MSG_TIMED_OUT", "_TIMED_OUT", "_TRANSPORT"}:
            name, words = self._said
        if name in _OF_RIGHTS or name in _OF_A_TOPIC or error.fatal():
            # It remembers this for minutes, or for ever.
            self.close()
        if name in _OF_RIGHTS:
            place = f"topic {topic}: " if topic and name == "TOPIC_AUTHORIZATION_FAILED" else ""
            return HeldUpError(
                f"Kafka refuses this service: {place}{words}",
                needs_operator=True,
                runbook="kafka-refused",
            )
        if name in _OF_A_TOPIC:
            return HeldUpError(
                f"Kafka has no topic {topic}, and does not make one: create it",
                needs_operator=True,
                runbook="kafka-topic",
            )
        return HeldUpError(
            f"Kafka is unavailable: {words}", needs_operator=False, runbook="kafka-unavailable"
        )

    def _open(self) -> Any:
        if self._producer is None:
            from confluent_kafka import KafkaException, Producer  # noqa: PLC0415 - of an extra

            self._said = None
            try:
                self._producer = Producer(self._settings(), logger=_library_log())
            except KafkaException as error:
                # Such as a file of SQUASH_KAFKA_CA that has no certificate.
                raise HeldUpError(
                    f"the settings of Kafka cannot be used: {error.args[0].str()}",
                    needs_operator=True,
                    runbook="kafka-refused",
                ) from error
        return self._producer

    def _settings(self) -> dict[str, Any]:
        return {
            **connection_settings(self._target),
            "client.id": "squash",
            "acks": "all",
            "enable.idempotence": True,
            # As Java's clients do, so that topics of several producers can be joined.
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": _BATCH_BYTES,
            "message.max.bytes": _LARGEST_BYTES,
            "message.timeout.ms": int(self._wait_s * 1000),
            "reconnect.backoff.max.ms": 2000,
            "topic.metadata.propagation.max.ms": int(self._wait_s * 500),
            "error_cb": self._hear,
            **self._more,
        }

    def _hear(self, error: Any) -> None:
        # That all brokers are down says less than why one is.
        if error.name() != "_ALL_BROKERS_DOWN":
            self._said = error.name(), error.str()


def connection_settings(target: KafkaTarget) -> dict[str, Any]:
    """Return the settings with which librdkafka connects to the brokers of a target."""
    is_sasl = target.user is not None
    plain = "SSL" if target.is_tls else "PLAINTEXT"
    protocol = f"SASL_{plain}" if is_sasl else plain
    found: dict[str, Any] = {
        "bootstrap.servers": ",".join(target.brokers),
        "security.protocol": protocol,
    }
    if target.ca is not None:
        found["ssl.ca.location"] = str(target.ca)
    if is_sasl:
        password = target.password
        found |= {
            "sasl.mechanism": target.mechanism,
            "sasl.username": target.user,
            "sasl.password": "" if password is None else password.get_secret_value(),
        }
    return found


def _library_log() -> logging.Logger:
    """Return a log that drops what librdkafka says: `error_cb` hears what matters of it."""
    log = logging.getLogger("squash_api.librdkafka")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    return log


class SchemaRefusedError(Exception):
    """The registry refuses a schema for good."""


class Registry:
    """A schema registry, in Confluent's words; `transport` replaces the network in tests."""

    def __init__(
        self, target: KafkaTarget, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        auth = None
        if target.registry_user is not None:
            secret = target.registry_password
            auth = (target.registry_user, "" if secret is None else secret.get_secret_value())
        self._client = httpx.Client(
            base_url=target.registry or "", auth=auth, timeout=_REGISTRY_S, transport=transport
        )

    def latest(self, subject: str) -> dict[str, Any] | None:
        """Return the newest schema of a subject; None if it has none.

        Raises
        ------
        HeldUpError
            If the registry does not answer, or not to us.
        """
        reply = self._ask("GET", f"/subjects/{subject}/versions/latest")
        if reply.status_code == 404:
            return None
        self._check(reply)
        with suppress(ValueError, KeyError, TypeError):
            found = orjson.loads(orjson.loads(reply.content)["schema"])
            return found if isinstance(found, dict) else None
        return None

    def register(self, subject: str, schema: Mapping[str, Any]) -> int:
        """Register a schema under a subject; return its id.

        Raises
        ------
        SchemaRefusedError
            If it does not fit the ones before it.
        HeldUpError
            As in `latest`.
        """
        body = {"schema": orjson.dumps(schema).decode()}
        reply = self._ask("POST", f"/subjects/{subject}/versions", json=body)
        if reply.status_code in {409, 422}:
            raise SchemaRefusedError(f"the schema registry refuses it: {_words(reply)}")
        self._check(reply)
        try:
            return int(orjson.loads(reply.content)["id"])
        except (ValueError, KeyError, TypeError):
            raise self._error("answers, but not as a schema registry does", 200) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **content)
        except httpx.HTTPError as error:
            raise self._error(f"does not answer: {error or type(error).__name__}", 503) from error

    def _check(self, reply: httpx.Response) -> None:
        if not reply.is_success:
            raise self._error(f"answers {reply.status_code}: {_words(reply)}", reply.status_code)

    def _error(self, words: str, status: int) -> HeldUpError:
        return HeldUpError(
            f"the schema registry {words}",
            needs_operator=status < 500 and status != 429,
            runbook="kafka-registry",
        )


def _words(reply: httpx.Response) -> str:
    with suppress(ValueError, TypeError, AttributeError):
        return str(orjson.loads(reply.content).get("message"))[:500]
    return reply.text[:200]
