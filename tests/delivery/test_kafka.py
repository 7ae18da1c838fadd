"""Kafka gets jobs, verdicts and alerts as events: keyed, in order, at least once."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from squash_api.delivery import kafka as kafka_outlet
from squash_api.delivery import kafka_client
from squash_api.delivery.kafka_client import KafkaClient
from squash_api.delivery.replay import Selection, request_replay
from squash_api.errors import SettingsError
from squash_api.record.deliveries import backlogs, request_redelivery
from squash_api.record.quarantine import Entry
from squash_api.record.webhooks import refused_after
from squash_api.routes.health import health_of
from squash_api.setting_types import KafkaTarget
from tests.support.kafka_world import KafkaWorld
from tests.support.made_alerts import open_alerts
from tests.support.mock_kafka import (
    CLUSTER_NOT_AUTHORIZED,
    INIT_PRODUCER_ID,
    NOT_AUTHORIZED,
    PRODUCE,
    TOO_LARGE,
    UNKNOWN_TOPIC,
    MockKafka,
    Read,
)
from tests.support.told import Told

pytestmark = pytest.mark.sqlite

PRODUCE_OK = 0


@pytest.fixture(scope="module")
def brokers() -> Iterator[MockKafka]:
    with MockKafka() as kafka:
        yield kafka


@pytest.fixture
def world(
    tmp_path: Path, brokers: MockKafka, request: pytest.FixtureRequest
) -> Iterator[KafkaWorld]:
    # Topics of its own for each test.
    prefix = request.node.name.partition("[")[0]
    made = KafkaWorld(tmp_path, brokers, wait_s=2.0, kafka_prefix=prefix)
    yield made
    made.close()


def read(world: KafkaWorld, kind: str) -> list[Read]:
    return world.kafka.read(f"{world.settings.kafka_prefix}.{kind}")


def by_key(found: list[Read]) -> dict[str, list[Any]]:
    keys: dict[str, list[Any]] = {}
    for item in found:
        keys.setdefault(item.key, []).append(item.body)
    return keys


def quarantine(world: KafkaWorld) -> list[Entry]:
    with world.site.record.read() as connection:
        return refused_after(connection, 0, limit=100)


def run_of(number: int, **more: Any) -> dict[str, Any]:
    return {"ci_id": f"{number}", "ci_name": "nightly", "ci_dataset": "cfht", **more}


def test_the_jobs_of_a_run_are_in_one_partition_and_in_order(world: KafkaWorld) -> None:
    world.kafka.create(f"{world.settings.kafka_prefix}.jobs")
    jobs = [world.add({"PA1": 4.0 + number}, **run_of(number % 3)) for number in range(12)]
    world.drain()
    found = read(world, "jobs")
    keys = by_key(found)
    assert sorted(keys) == ["run nightly/0", "run nightly/1", "run nightly/2"]
    assert sorted(body["data"]["job"] for body in keys["run nightly/1"]) == jobs[1::3]
    assert [body["data"]["job"] for body in keys["run nightly/1"]] == jobs[1::3]
    assert {len({item.partition for item in found if item.key == key}) for key in keys} == {1}


def test_a_job_is_told_in_the_words_of_webhooks(world: KafkaWorld) -> None:
    job = world.add({"PA1": 4.5}, **run_of(7))
    world.drain()
    (found,) = read(world, "jobs")
    assert found.body["type"] == "job.accepted"
    assert found.body["data"] == {
        "job": job,
        "job_url": f"https://sq.example/job/{job}",
        "time": "2026-11-18T11:06:40Z",
        "run_id": "7",
        "run_url": None,
        "version_tag": None,
        "tags": {"dataset": "cfht", "pipeline": "nightly"},
        "metrics": ["validate.PA1"],
        "count": 1,
    }


def test_verdicts_are_keyed_by_series_and_have_all_limits_of_a_metric(world: KafkaWorld) -> None:
    job = world.add({"PA1": 6.0, "AM1": 3.0}, **run_of(1))
    world.add({"PA1": None}, **run_of(2))
    world.drain()
    found = read(world, "verdicts")
    key = "validate.PA1,dataset=cfht,pipeline=nightly"
    assert [item.key for item in found] == [key, key]
    first, second = (item.body for item in found)
    assert first["type"] == "metric.judged"
    assert (first["data"]["job"], first["data"]["metric"]) == (job, "validate.PA1")
    assert first["data"]["state"] == "WARNING"
    assert [item["status"] for item in first["data"]["verdicts"]] == ["failed", "passed"]
    assert second["data"]["state"] == "not measured"


def test_an_alert_is_told_from_its_opening_to_its_end_in_order(world: KafkaWorld) -> None:
    told = Told(world.site.record)
    (alert,) = open_alerts(world.site.record, {"detector": "1"}, severity=2)
    world.drain()
    told.worsen(alert, 3)
    world.drain()
    told.acknowledge(alert)
    world.drain()
    told.resolve(alert)
    world.drain()
    found = read(world, "alerts")
    assert [item.body["type"] for item in found] == [
        "alert.opened",
        "alert.worsened",
        "alert.acknowledged",
        "alert.resolved",
    ]
    assert {item.key for item in found} == {f"group {found[0].body['data']['group']}"}
    assert found[0].body["data"]["alerts"][0]["tags"] == {"detector": "1"}


def test_what_opens_and_ends_while_kafka_is_away_is_told_too(world: KafkaWorld) -> None:
    world.drain()
    told = Told(world.site.record)
    told.resolve(*open_alerts(world.site.record))
    world.drain()
    assert [item.body["type"] for item in read(world, "alerts")] == [
        "alert.opened",
        "alert.resolved",
    ]


def test_a_consumer_can_rebuild_which_jobs_there_are_and_what_they_measured(
    world: KafkaWorld,
) -> None:
    kept, changed, gone = (world.add({"PA1": 4.0}, **run_of(1)) for _ in range(3))
    world.drain()
    world.put(changed, "validate.AM1", 2.0)
    world.delete(gone)
    world.drain()
    state: dict[int, list[str]] = {}
    for item in read(world, "jobs"):
        data = item.body["data"]
        if item.body["type"] == "job.deleted":
            del state[data["job"]]
        else:
            state[data["job"]] = data["metrics"]
    assert state == {kept: ["validate.PA1"], changed: ["validate.AM1", "validate.PA1"]}


def test_a_withdrawn_value_is_told_as_a_change(world: KafkaWorld) -> None:
    job = world.add({"PA1": 4.0}, **run_of(1))
    world.drain()
    world.put(job, "validate.PA1", None)
    world.drain()
    assert [item.body["type"] for item in read(world, "jobs")] == ["job.accepted", "job.changed"]
    assert read(world, "verdicts")[-1].body["data"]["state"] == "not measured"


def test_another_outlet_goes_on_where_the_last_one_ended(world: KafkaWorld) -> None:
    world.add({"PA1": 4.0}, **run_of(1))
    world.drain()
    world.outlets["kafka"]._lease.end = lambda: None  # type: ignore[method-assign]
    world.site.record.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE target SET lease_owner = NULL, lease_until_ns = 0"
        )
    )
    world.add({"PA1": 4.0}, **run_of(2))
    world.outlets = world.new_outlets()
    world.drain()
    assert len(read(world, "jobs")) == 2


def test_of_two_outlets_only_the_holder_of_the_lease_sends(world: KafkaWorld) -> None:
    world.add({"PA1": 4.0}, **run_of(1))
    first, second = world.outlets["kafka"], world.new_outlets()["kafka"]
    first.round()
    for outlet in (second, first):
        outlet.round()
    assert not second.is_delivering()
    assert len(read(world, "jobs")) == 1
    second.close()


def test_many_jobs_are_sent_in_parts(world: KafkaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_outlet, "_MOST_BYTES", 1_500)
    jobs = [world.add({"PA1": 4.0}, **run_of(1)) for _ in range(7)]
    outlet = world.outlets["kafka"]
    outlet.round()
    assert world.target().sent_through < jobs[-1]
    world.drain()
    assert [item.body["data"]["job"] for item in read(world, "jobs")] == jobs
    assert world.target().sent_through == jobs[-1]


def test_nothing_is_lost_when_the_broker_goes_and_comes_back(world: KafkaWorld) -> None:
    world.add({"PA1": 4.0}, **run_of(1))
    world.drain()
    world.kafka.go_down()
    lost = [world.add({"PA1": 5.0 + number}, **run_of(1)) for number in range(3)]
    world.drain()
    row = world.target()
    assert row.sent_through == 1
    assert row.trouble is not None
    assert "Kafka is unavailable" in row.trouble
    assert "refused" in row.trouble
    world.kafka.come_up()
    world.drain()
    assert world.target().trouble is None
    found = [item.body["data"]["job"] for item in read(world, "jobs")]
    assert set(found) == {1, *lost}
    assert found[-3:] == lost


def test_a_message_that_is_too_large_does_not_stop_the_others(
    tmp_path: Path, brokers: MockKafka
) -> None:
    world = KafkaWorld(tmp_path, brokers, kafka_prefix="large", kafka_send=("jobs",))
    first, second, third = (world.add({"PA1": 4.0}, **run_of(1)) for _ in range(3))
    # All together, then each alone.
    brokers.fail(PRODUCE, TOO_LARGE, PRODUCE_OK, TOO_LARGE)
    world.drain()
    assert world.target().sent_through == third
    assert world.target().trouble is None
    assert [item.body["data"]["job"] for item in read(world, "jobs")] == [first, third]
    (entry,) = quarantine(world)
    assert (entry.job_id, entry.target, entry.measurement) == (second, "kafka", "large.jobs")
    assert "MSG_SIZE_TOO_LARGE" in entry.reason
    assert json.loads(entry.line)["data"]["job"] == second
    world.close()


def test_a_message_that_was_refused_is_sent_when_the_job_is_sent_again(
    tmp_path: Path, brokers: MockKafka
) -> None:
    world = KafkaWorld(tmp_path, brokers, kafka_prefix="again", kafka_send=("jobs",))
    job = world.add({"PA1": 4.0}, **run_of(1))
    brokers.fail(PRODUCE, TOO_LARGE, TOO_LARGE)
    world.drain()
    assert len(quarantine(world)) == 1
    world.site.record.write(
        lambda connection: request_redelivery(connection, [job], targets=["kafka"], request=1)
    )
    world.drain()
    assert quarantine(world) == []
    assert [item.body["type"] for item in read(world, "jobs")] == ["job.changed"]
    world.close()


@pytest.mark.parametrize(
    ("request_", "error", "words", "runbook"),
    [
        (PRODUCE, NOT_AUTHORIZED, "Kafka refuses this service: topic ", "kafka-refused"),
        (INIT_PRODUCER_ID, CLUSTER_NOT_AUTHORIZED, "Kafka refuses this service", "kafka-refused"),
    ],
)
def test_what_only_an_operator_can_mend_is_shown_and_over_when_it_is_mended(
    world: KafkaWorld, request_: int, error: int, words: str, runbook: str
) -> None:
    world.add({"PA1": 4.0}, **run_of(1))
    world.kafka.fail(request_, *[error] * 50)
    wait = world.outlets["kafka"].round()
    world.kafka.stop_failing(request_)
    row = world.target()
    assert (row.sent_through, wait.longest_s) == (0, 30.0)
    assert row.trouble is not None
    assert words in row.trouble
    assert runbook in row.trouble
    world.drain()
    assert world.target().trouble is None
    assert world.target().sent_through == 1


def test_a_topic_that_is_missing_is_named_and_sent_to_when_it_is_there(world: KafkaWorld) -> None:
    topic = f"{world.settings.kafka_prefix}.jobs"
    world.kafka.set_topic_error(topic, UNKNOWN_TOPIC)
    world.add({"PA1": 4.0}, **run_of(1))
    world.drain()
    row = world.target()
    assert row.sent_through == 0
    assert row.trouble is not None
    assert f"Kafka has no topic {topic}" in row.trouble
    assert "kafka-topic" in row.trouble
    world.kafka.set_topic_error(topic)
    world.drain()
    assert world.target().sent_through == 1


def test_kafka_has_a_row_like_every_target(world: KafkaWorld) -> None:
    world.kafka.go_down()
    world.add({"PA1": 4.0}, **run_of(1))
    world.drain()
    with world.site.reader.view() as view:
        (found,) = view.ask(backlogs, targets=["kafka"])
        (health,) = health_of(view.ask, world.settings.outlets)
    world.kafka.come_up()
    assert found.waiting == 1
    assert found.trouble is not None
    assert (health.label, health.runbook) == ("Kafka", "kafka-unavailable")
    assert health.trouble is not None


def test_a_stop_does_not_wait_for_brokers(world: KafkaWorld) -> None:
    world.kafka.slow_down(60_000)
    world.add({"PA1": 4.0}, **run_of(1))
    outlet = world.outlets["kafka"]
    outlet.stop()
    outlet.round()
    world.kafka.slow_down(0)
    assert world.target().sent_through == 0


def test_the_consumer_of_the_documentation_knows_what_is_bad(
    tmp_path: Path, brokers: MockKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    world = KafkaWorld(tmp_path, brokers)
    old = world.add({"PA1": 9.0}, ci_dataset="cfht")
    world.add({"PA1": 9.0}, ci_dataset="hsc")
    world.add({"PA1": 1.0}, ci_dataset="cfht")
    gone = world.add({"PA1": 9.0}, ci_dataset="des")
    world.drain()
    world.put(old, "validate.PA1", 10.0)
    world.delete(gone)
    world.drain()
    page = Path(__file__).parents[2] / "docs" / "kafka.md"
    found = re.search(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    exec(found[1], {"BROKERS": brokers.address})
    assert capsys.readouterr().out.splitlines()[-1:] == ["validate.PA1,dataset=hsc"]
    world.close()


def test_without_the_extra_a_sentence_says_how_to_install_it(
    world: KafkaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_client, "find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"SQUASH_KAFKA_BROKERS: .* pip install 'squash-api"):
        world.site.outlets(world.settings.outlets)


def test_nothing_of_the_extra_is_imported_before_something_is_sent() -> None:
    code = (
        "import sys, squash_api.app, squash_api.delivery.kafka, squash_api.commands.deliver; "
        "print({'confluent_kafka', 'fastavro'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_secrets_are_in_no_reason_and_no_log(
    tmp_path: Path, brokers: MockKafka, capfd: pytest.CaptureFixture[str]
) -> None:
    world = KafkaWorld(
        tmp_path,
        brokers,
        wait_s=1.0,
        kafka_prefix="sasl",
        kafka_user="squash",
        kafka_password=SecretStr("s3cr3t-pw"),
    )
    world.add({"PA1": 1.0})
    world.drain()
    row = world.target()
    assert row.trouble is not None
    world.close()
    out, err = capfd.readouterr()
    assert "s3cr3t-pw" not in f"{row.trouble}{out}{err}{world.settings!r}"


@pytest.mark.parametrize(
    ("settings", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"is_tls": True}, "SSL"),
        ({"user": "u", "password": SecretStr("p")}, "SASL_PLAINTEXT"),
        ({"user": "u", "password": SecretStr("p"), "is_tls": True}, "SASL_SSL"),
    ],
)
def test_librdkafka_takes_the_settings_of_every_kind_of_security(
    settings: dict[str, Any], protocol: str
) -> None:
    target = KafkaTarget(name="kafka", brokers=("localhost:1",), sends=("jobs",), **settings)
    assert kafka_client.connection_settings(target)["security.protocol"] == protocol
    client = KafkaClient(target)
    assert client._open() is not None
    client.close()


def test_a_file_without_certificates_is_said_and_not_only_logged(
    tmp_path: Path, brokers: MockKafka
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    world = KafkaWorld(tmp_path, brokers, kafka_prefix="ca", kafka_tls="on", kafka_ca=ca)
    world.add({"PA1": 1.0})
    wait = world.outlets["kafka"].round()
    row = world.target()
    world.close()
    assert wait.longest_s == 30.0
    assert row.trouble is not None
    assert "the settings of Kafka cannot be used: " in row.trouble
    assert "ssl.ca.location" in row.trouble
    assert "kafka-refused" in row.trouble


def test_jobs_are_sent_again_by_replay(world: KafkaWorld) -> None:
    first, second = (world.add({"PA1": 4.0}, **run_of(1)) for _ in range(2))
    world.drain()
    targets = world.settings.choose_replayed(["kafka"])
    request_replay(world.site.record, Selection((second,)), targets=targets, now_ns=1)
    world.drain()
    found = [(item.body["type"], item.body["data"]["job"]) for item in read(world, "jobs")]
    assert found == [("job.accepted", first), ("job.accepted", second), ("job.changed", second)]
