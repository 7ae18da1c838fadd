"""What `squash check` asks of Kafka: its brokers and the schema registry.

As in `check_servers.py`, a check is a function that yields what it finds, and changes nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from squash_api.commands import check_servers
from squash_api.commands.check_here import Check, Finding, error, ok, warning
from squash_api.delivery.kafka_client import KafkaClient, Registry, require_kafka
from squash_api.delivery.outlet import HeldUpError
from squash_api.errors import SettingsError
from squash_api.judging.wording import counted
from squash_api.setting_types import KafkaTarget


@dataclass(frozen=True, slots=True)
class OpenKafka:
    """Brokers of Kafka that answer; of each topic that they have, what is wrong with it."""

    target: KafkaTarget
    topics: Mapping[str, str | None]


@contextmanager
def open_kafka(target: KafkaTarget) -> Iterator[OpenKafka | Finding]:
    """Ask the brokers for their topics; yield a finding if they do not answer."""
    client = KafkaClient(target)
    try:
        require_kafka(target)
        topics = client.topics(wait_s=check_servers.TIMEOUT_S)
    except SettingsError as problem:
        yield error(problem.message, "the service does not start", runbook="settings")
    except HeldUpError as problem:
        advice = "what is to be sent is kept, and sent when that is over"
        yield error(str(problem), advice, runbook=problem.runbook)
    else:
        yield OpenKafka(target, topics)
    finally:
        client.close()


def _kafka_topics(it: OpenKafka) -> Iterator[Finding]:
    wanted = [f"{it.target.prefix}.{kind}" for kind in it.target.sends if kind != "points"]
    for name in wanted:
        problem = it.topics.get(name)
        if name not in it.topics:
            what = f"there is no topic {name} yet"
            yield warning(what, "make it, unless the brokers do", runbook="kafka-topic")
        elif problem is not None:
            yield error(
                f"topic {name}: {problem}", "give its user the right", runbook="kafka-refused"
            )
    yield ok(f"it answers, and has {counted(len(it.topics), 'topic')}")


def _kafka_registry(it: OpenKafka) -> Iterator[Finding]:
    if "points" not in it.target.sends or it.target.points != "avro":
        return
    registry = Registry(it.target)
    try:
        registry.latest(f"{it.target.namespace}.check")
    except HeldUpError as problem:
        advice = "points are kept, and sent when that is over"
        yield error(str(problem), advice, runbook=problem.runbook)
    else:
        yield ok("the schema registry answers")
    finally:
        registry.close()


KAFKA: tuple[Check, ...] = (_kafka_topics, _kafka_registry)
