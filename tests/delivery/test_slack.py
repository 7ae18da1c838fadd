"""Slack is told by the service: a message for a group, and one when it is over."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from squash_api.delivery.slack import SlackTeller
from squash_api.judging.alert_plan import branch_keys
from squash_api.record.definitions import DefinitionRow, append_definitions
from squash_api.record.record import Record
from squash_api.record.webhooks import SLACK, Receiver, get_receiver
from squash_api.schema.names import Schema
from tests.support.made_alerts import METRIC, open_alerts
from tests.support.receiver import ReceivingServer
from tests.support.told import ROOT, Told

SPECIFICATION = {
    "metric": METRIC,
    "threshold": {"operator": "<=", "unit": "mmag", "value": 8.0},
    "alert": {"channel": "#camera"},
}


class ToldSlack(Told):
    """A record, a Slack, and what tells it."""

    def __init__(self, record: Record, slack: ReceivingServer) -> None:
        super().__init__(record)
        self.slack = slack
        self.teller = self.another()
        # From now on.
        self.teller.step()

    def another(self) -> SlackTeller:
        return SlackTeller(
            self.record,
            self.reader,
            self.definitions,
            Schema(),
            url=SecretStr(self.slack.url),
            squash_url=ROOT,
            clock=self.clock,
        )

    def tell(self) -> None:
        self.teller.round()

    def row(self) -> Receiver:
        with self.record.read() as connection:
            found = get_receiver(connection, SLACK)
        assert found is not None
        return found

    def texts(self) -> list[str]:
        return [attachment(body)["text"] for body in self.slack.bodies]


def attachment(body: dict[str, Any]) -> dict[str, Any]:
    (found,) = body["attachments"]
    return dict(found)


@pytest.fixture
def slack() -> Iterator[ReceivingServer]:
    with ReceivingServer(lambda _: httpx.Response(200, text="ok")) as server:
        yield server


@pytest.fixture
def told(record: Record, slack: ReceivingServer) -> ToldSlack:
    return ToldSlack(record, slack)


def test_a_group_is_one_message_and_its_end_another(
    told: ToldSlack, slack: ReceivingServer
) -> None:
    alert_ids = open_alerts(told.record, {"detector": "1"}, {"detector": "2"})
    told.tell()
    told.tell()
    (opened,) = told.texts()
    assert "*CRITICAL*" in opened
    assert "PA1: 2 detectors" in opened
    assert f"<{ROOT}/alerts?group=1|all 2>" in opened
    told.resolve(*alert_ids)
    told.tell()
    told.tell()
    assert [attachment(body)["color"] for body in slack.bodies] == ["danger", "good"]
    assert "all well again" in told.texts()[1]


def test_who_has_an_alert_is_said_when_it_gets_worse(told: ToldSlack) -> None:
    first, second = open_alerts(told.record, {"detector": "1"}, {"detector": "2"}, severity=2)
    told.tell()
    told.acknowledge(first)
    told.tell()
    assert len(told.texts()) == 1
    told.worsen(second, 3)
    told.tell()
    assert "ada has 1 of 2" in told.texts()[1]
    assert "was WARNING before" in told.texts()[1]


def test_what_was_over_before_slack_could_be_told_is_not_told(
    told: ToldSlack, slack: ReceivingServer
) -> None:
    slack.answer = lambda _: httpx.Response(503)
    alert_ids = open_alerts(told.record)
    told.tell()
    assert told.row().trouble is not None
    told.resolve(*alert_ids)
    slack.answer = lambda _: httpx.Response(200)
    told.clock.go_on(60)
    told.tell()
    assert len(slack.got) == 1
    assert told.row().trouble is None


def test_slack_that_asks_for_a_pause_gets_it(told: ToldSlack, slack: ReceivingServer) -> None:
    slack.answer = lambda _: httpx.Response(429, headers={"Retry-After": "120"})
    open_alerts(told.record)
    told.tell()
    slack.answer = lambda _: httpx.Response(200)
    told.clock.go_on(100)
    told.tell()
    assert len(slack.got) == 1
    told.clock.go_on(21)
    told.tell()
    assert len(slack.got) == 2


def test_what_was_sent_before_a_failure_is_not_sent_again(
    told: ToldSlack, slack: ReceivingServer
) -> None:
    slack.answer = lambda _: httpx.Response(200 if len(slack.got) == 1 else 500)
    open_alerts(told.record, {"detector": "1"})
    open_alerts(told.record, {"detector": "2"})
    told.tell()
    slack.answer = lambda _: httpx.Response(200)
    told.clock.go_on(60)
    told.tell()
    first, second, third = told.texts()
    assert first != second == third


def test_what_is_told_has_the_channel_of_its_specification(
    told: ToldSlack, slack: ReceivingServer
) -> None:
    row = DefinitionRow(
        kind="spec",
        name=f"{METRIC}.minimum",
        document=SPECIFICATION,
        origin="api",
        user_id=1,
        created_ns=0,
    )
    told.record.write(lambda connection: append_definitions(connection, [row]))
    (key,) = branch_keys(told.definitions.at(None).by_metric[METRIC], Schema())
    slack.answer = lambda request: httpx.Response(
        404 if b"#camera" in request.content else 200, text="channel_not_found"
    )
    open_alerts(told.record, branch=key.key)
    told.tell()
    first, second = slack.bodies
    assert first["channel"] == "#camera"
    # Somebody is told, even if the channel is gone.
    assert "channel" not in second
    assert told.row().trouble is None


def test_several_processes_tell_once(told: ToldSlack, slack: ReceivingServer) -> None:
    other = told.another()
    open_alerts(told.record)
    told.tell()
    other.round()
    assert len(slack.got) == 1
