import re

import pytest
import yaml

from squash_api.generate.kapacitor.channels import DEFAULT_TOPIC, handler_files, topic_of

CHANNELS = [
    None,
    "#default",
    "@default",
    "#dm-alerts",
    "#dm_alerts",
    "@dm-alerts",
    "#dm-ålerts",
    "#a.b",
    "#a_2eb",
    "#" + "x" * 80,
    "#" + "é" * 80,
    "@" + "é" * 80,
    "#user-ada",
    "#Default",
]


def test_no_two_channels_share_a_topic() -> None:
    assert len({topic_of(channel) for channel in CHANNELS}) == len(CHANNELS)


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_topic_is_a_name_that_kapacitor_and_file_systems_take(channel: str | None) -> None:
    topic = topic_of(channel)
    assert re.fullmatch(r"metrics-[A-Za-z0-9_-]+", topic)
    assert len(topic) <= 150


@pytest.mark.parametrize(
    ("channel", "topic"),
    [
        (None, "metrics-default"),
        ("#dm-alerts", "metrics-channel-dm-alerts"),
        ("@ada", "metrics-user-ada"),
        ("#dm_alerts", "metrics-channel-dm_5falerts"),
    ],
)
def test_a_topic_can_be_read(channel: str | None, topic: str) -> None:
    assert topic_of(channel) == topic


def test_a_handler_passes_its_topic_to_its_channel() -> None:
    ((path, text),) = handler_files(["#dm-alerts"]).items()
    assert path == "kapacitor/handlers/metrics-channel-dm-alerts-slack.yaml"
    assert yaml.safe_load(text) == {
        "topic": "metrics-channel-dm-alerts",
        "id": "metrics-channel-dm-alerts-slack",
        "kind": "slack",
        "options": {"channel": "#dm-alerts"},
    }


def test_the_default_handler_leaves_the_channel_to_the_environment() -> None:
    (text,) = handler_files([None, None]).values()
    assert yaml.safe_load(text) == {
        "topic": DEFAULT_TOPIC,
        "id": f"{DEFAULT_TOPIC}-slack",
        "kind": "slack",
    }


@pytest.mark.parametrize("channel", ["#dm-ålerts:ü", "#😀", "#a\ufeffb\ue000c", "#{a: b}"])
def test_a_channel_of_any_letters_is_in_its_file(channel: str) -> None:
    (text,) = handler_files([channel]).values()
    assert yaml.safe_load(text)["options"] == {"channel": channel}
