"""Webhooks are told what they want, signed, until they take it; none holds up another."""

import base64
import hashlib
import hmac
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.delivery.subscriptions import EVENTS
from squash_api.delivery.webhooks import GIVEN_UP_DAYS, KEPT_DAYS, signature
from squash_api.record.audit import Actor
from squash_api.record.deliveries import Quarantined, ensure_targets, mark_sent
from squash_api.record.record import Connection, Record
from squash_api.record.webhooks import claim
from tests.support.builders import make_body, measured, store_job
from tests.support.made_alerts import METRIC, open_alerts
from tests.support.receiver import ReceivingServer
from tests.support.told import Told


@pytest.fixture
def told(record: Record) -> Told:
    return Told(record)


@pytest.fixture
def receiver() -> Iterator[ReceivingServer]:
    with ReceivingServer() as server:
        yield server


def types(receiver: ReceivingServer) -> list[str]:
    return [body["type"] for body in receiver.bodies]


def answers(*statuses: int, **headers: str) -> "Answers":
    return Answers(list(statuses), headers)


class Answers:
    """Answers with one status after another, the last of them for ever."""

    def __init__(self, statuses: list[int], headers: dict[str, str]) -> None:
        self.statuses = statuses
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}

    def __call__(self, _request: httpx.Request) -> httpx.Response:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return httpx.Response(status, headers=self.headers)


def test_a_group_is_told_as_one_when_it_opens_worsens_and_ends(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, *EVENTS)
    first, second = open_alerts(told.record, {"detector": "1"}, {"detector": "2"}, severity=2)
    told.send()
    told.send()
    assert types(receiver) == ["alert.opened"]
    data = receiver.bodies[0]["data"]
    assert (data["count"], data["severity"], data["metric"]) == (2, "WARNING", METRIC)
    assert [item["tags"] for item in data["alerts"]] == [{"detector": "1"}, {"detector": "2"}]
    assert data["run"] == ["nightly", "7"]
    assert "2 detectors" in data["text"]

    told.worsen(first, 3)
    told.send()
    told.resolve(first)
    told.send()
    assert types(receiver) == ["alert.opened", "alert.worsened"]
    told.resolve(second)
    told.send()
    assert types(receiver)[2:] == ["alert.resolved"]
    assert receiver.bodies[2]["data"]["severity"] == "CRITICAL"


def test_a_group_that_still_gathers_is_not_told(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, "alert.opened")
    (alert_id,) = open_alerts(told.record)
    told.gathers(alert_id, joined_ns=1)
    told.send()
    assert receiver.got == []
    told.gathers(alert_id, joined_ns=None)
    told.send()
    assert types(receiver) == ["alert.opened"]


def test_what_was_over_before_anybody_told_it_is_told_whole(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, "alert.opened", "alert.resolved")
    told.resolve(*open_alerts(told.record))
    told.send()
    assert types(receiver) == ["alert.opened", "alert.resolved"]


def test_what_was_open_before_the_webhook_is_told_only_when_it_ends(
    told: Told, receiver: ReceivingServer
) -> None:
    (alert_id,) = open_alerts(told.record)
    told.add(receiver.url, "alert.opened", "alert.resolved")
    told.send()
    told.resolve(alert_id)
    told.send()
    assert types(receiver) == ["alert.resolved"]


def test_what_is_on_trial_is_never_told(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, *EVENTS)
    alert_ids = open_alerts(told.record, is_trial=True)
    told.send()
    told.resolve(*alert_ids)
    told.send()
    assert receiver.got == []


def test_what_is_silenced_is_told_when_the_silence_ends(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, *EVENTS)
    silence_id = told.silence("demo", detector="1")
    open_alerts(told.record, {"detector": "1"})
    told.send()
    assert receiver.got == []
    told.unsilence(silence_id)
    told.send()
    assert types(receiver) == ["alert.opened"]


def test_what_ends_in_a_silence_is_not_told(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, *EVENTS)
    silence_id = told.silence(METRIC)
    alert_ids = open_alerts(told.record)
    told.send()
    told.resolve(*alert_ids)
    told.send()
    told.unsilence(silence_id)
    told.send()
    assert receiver.got == []


def test_the_end_of_what_was_told_is_told_when_its_silence_ends(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, *EVENTS)
    alert_ids = open_alerts(told.record)
    told.send()
    silence_id = told.silence(METRIC)
    told.resolve(*alert_ids)
    told.send()
    assert types(receiver) == ["alert.opened"]
    told.unsilence(silence_id)
    told.send()
    assert types(receiver) == ["alert.opened", "alert.resolved"]


def test_an_acknowledgement_is_told_with_who_has_it(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, "alert.acknowledged")
    for alert_id in open_alerts(told.record, {"detector": "1"}, {"detector": "2"}):
        told.acknowledge(alert_id, note="the lamp")
    told.send()
    (body,) = receiver.bodies
    data = body["data"]
    assert (data["by"], data["note"], data["count"]) == ("ada", "the lamp", 2)


def test_what_is_late_is_an_event_of_its_own(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, *EVENTS)
    branch = f"expect:{METRIC}.nightly"
    open_alerts(told.record, branch=branch)
    told.send()
    assert types(receiver) == ["series.late"]


@pytest.mark.parametrize(
    ("filters", "is_told"),
    [
        ({"metric": [METRIC]}, True),
        ({"package": ["demo"]}, True),
        ({"metric": ["demo.PA2"]}, False),
        ({"metric": ["demo.PA2"], "package": ["demo"]}, True),
        ({"tags": {"detector": "1"}}, True),
        ({"tags": {"detector": "2"}}, False),
        ({"severity": "warning"}, True),
        ({"severity": "critical"}, False),
    ],
)
@pytest.mark.sqlite
def test_only_what_matches_the_filters_is_told(
    told: Told,
    receiver: ReceivingServer,
    filters: dict[str, Any],
    is_told: bool,  # noqa: FBT001  a case of the table
) -> None:
    told.add(receiver.url, "alert.opened", **filters)
    open_alerts(told.record, {"detector": "1"}, severity=2)
    told.send()
    assert bool(receiver.got) == is_told


def test_an_alert_is_told_once_it_reaches_the_severity(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, *EVENTS, severity="critical")
    (alert_id,) = open_alerts(told.record, severity=2)
    told.send()
    told.worsen(alert_id, 3)
    told.send()
    assert types(receiver) == ["alert.opened"]


def test_accepted_jobs_are_told_with_what_they_measure(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, "job.accepted", tags={"instrument": "HSC"})
    for number, instrument in enumerate(("HSC", "LSST")):
        body = make_body(measured("p.a", 1.5), instrument=instrument, ci_id="7")
        store_job(told.record, asked_ns=1_000 + number, body=body, new_units={"p.a": "mmag"})
    told.deriver.catch_up()
    told.send()
    (body,) = receiver.bodies
    data = body["data"]
    assert (data["job"], data["metrics"], data["run_id"]) == (1, ["p.a"], "7")
    assert data["job_url"] == "https://squash.example/job/1"


def test_what_a_target_refuses_of_a_job_is_one_event(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, "job.quarantined", package=["p"])
    body = make_body(measured("p.a", 1.5), measured("q.a", 1.5))
    job_id = store_job(told.record, body=body, new_units={"p.a": "mmag", "q.a": "mmag"})
    told.deriver.catch_up()
    lines = [Quarantined(job_id, name, f"{name} a=1.5", f"no: {name}") for name in ("p", "p", "q")]

    def refuse(connection: Connection) -> None:
        ensure_targets(connection, ["base"])
        mark_sent(connection, "base", through=job_id, redelivered=[], quarantined=lines, now_ns=1)

    told.record.write(refuse)
    told.send()
    told.send()
    (sent,) = receiver.bodies
    data = sent["data"]
    assert (sent["type"], data["job"], data["target"]) == ("job.quarantined", job_id, "base")
    assert (data["packages"], data["count"], data["reason"]) == (["p"], 2, "no: p")


def test_what_is_sent_is_signed(told: Told, receiver: ReceivingServer) -> None:
    secret = told.add(receiver.url, "alert.opened")
    open_alerts(told.record)
    told.send()
    (request,) = receiver.got
    name, at = request.headers["Webhook-Id"], request.headers["Webhook-Timestamp"]
    assert int(at) == told.clock.now_ns // 10**9
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{name}.{at}.".encode() + request.content
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert request.headers["Webhook-Signature"] == f"v1,{expected}"


@pytest.mark.sqlite
def test_a_signature_is_that_of_the_specification() -> None:
    # From the specification of Standard Webhooks.
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_fails_is_sent_again_under_the_same_id(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, "alert.opened")
    receiver.answer = answers(503, 204)
    open_alerts(told.record)
    told.send()
    (delivery,) = told.deliveries()
    assert (delivery.state, delivery.answer, told.hook().failures) == ("waiting", "503", 1)
    told.send()
    assert len(receiver.got) == 1
    told.clock.go_on(11)
    told.send()
    first, second = receiver.got
    assert first.headers["Webhook-Id"] == second.headers["Webhook-Id"]
    assert first.content == second.content
    (delivery,) = told.deliveries()
    assert (delivery.state, delivery.attempts, told.hook().trouble) == ("delivered", 2, None)


def test_a_receiver_that_asks_for_a_pause_gets_it(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, "alert.opened")
    receiver.answer = answers(429, 204, retry_after="300")
    open_alerts(told.record)
    told.send()
    told.clock.go_on(200)
    told.send()
    assert len(receiver.got) == 1
    told.clock.go_on(101)
    told.send()
    assert len(receiver.got) == 2


def test_one_delivery_that_is_refused_does_not_hold_up_the_next(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, "alert.opened")
    receiver.answer = answers(422, 204)
    open_alerts(told.record, {"detector": "1"})
    open_alerts(told.record, {"detector": "2"})
    told.send()
    assert [item.state for item in told.deliveries()] == ["waiting", "delivered"]
    assert told.hook().trouble is None


def test_one_delivery_that_the_receiver_dies_of_does_not_hold_up_the_next(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, "alert.opened")

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500 if b'"detector":"1"' in request.content else 204)

    receiver.answer = answer
    open_alerts(told.record, {"detector": "1"})
    open_alerts(told.record, {"detector": "2"})
    told.send()
    told.clock.go_on(60)
    told.send()
    assert [item.state for item in told.deliveries()] == ["waiting", "delivered"]


def test_what_nobody_takes_is_given_up_and_can_be_sent_again(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, "alert.opened")
    receiver.answer = answers(500)
    open_alerts(told.record)
    told.send()
    told.clock.go_on(GIVEN_UP_DAYS * 86_400)
    told.send()
    told.clock.go_on(86_400)
    told.send()
    assert [item.state for item in told.deliveries()] == ["given up"]
    assert len(receiver.got) == 2

    receiver.answer = answers(204)
    assert told.subscriptions.retry("hook", delivery_id=None, by=told_by()) == 1
    told.send()
    assert [item.state for item in told.deliveries()] == ["delivered"]


def told_by() -> Actor:
    return Actor(command="squash webhook retry")


def test_what_has_ended_is_forgotten_after_a_month(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, "alert.opened")
    open_alerts(told.record)
    told.send()
    told.clock.go_on((KEPT_DAYS + 1) * 86_400)
    told.webhooks = told.other()
    told.send()
    assert told.deliveries() == []


def test_only_the_newest_of_what_has_ended_is_kept(
    told: Told, receiver: ReceivingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.add(receiver.url, "alert.opened")
    for number in range(4):
        open_alerts(told.record, {"detector": f"{number}"})
    told.send()
    before = [item.delivery_id for item in told.deliveries()]
    monkeypatch.setattr("squash_api.delivery.webhooks.MOST_KEPT", 2)
    told.webhooks = told.other()
    told.send()
    assert [item.delivery_id for item in told.deliveries()] == before[2:]


def test_a_redirect_is_not_followed(told: Told, receiver: ReceivingServer) -> None:
    with ReceivingServer() as other:
        told.add(receiver.url, "alert.opened")
        receiver.answer = answers(307, location=other.url)
        open_alerts(told.record)
        told.send()
        assert other.got == []
    (delivery,) = told.deliveries()
    assert delivery.answer is not None
    assert delivery.answer.startswith("307: it redirects")


def test_an_address_that_is_no_longer_allowed_is_not_sent_to(
    record: Record, receiver: ReceivingServer
) -> None:
    told = Told(record, networks=())
    told.add(receiver.url, "alert.opened")
    open_alerts(record)
    told.send()
    assert receiver.got == []
    (delivery,) = told.deliveries()
    assert "SQUASH_WEBHOOK_NETWORKS" in (delivery.answer or "")


def test_one_that_hangs_holds_up_no_other(told: Told, receiver: ReceivingServer) -> None:
    is_over = threading.Event()

    def hang(_request: httpx.Request) -> httpx.Response:
        is_over.wait(30)
        return httpx.Response(204)

    with ReceivingServer(hang) as hanging:
        told.add(hanging.url, "alert.opened", name="hanging")
        told.add(receiver.url, "alert.opened", name="other")
        open_alerts(told.record)
        told.webhooks.step()
        for _ in range(200):
            if receiver.got:
                break
            threading.Event().wait(0.05)
        assert types(receiver) == ["alert.opened"]
        is_over.set()
        told.webhooks.wait_until_sent()


def test_several_processes_send_once(told: Told, receiver: ReceivingServer) -> None:
    told.add(receiver.url, "alert.opened")
    others = [told.other() for _ in range(3)]
    open_alerts(told.record)
    threads = [threading.Thread(target=other.step) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.wait_until_sent()
    told.send()
    assert types(receiver) == ["alert.opened"]


def test_what_a_dead_process_has_claimed_is_sent_by_another(
    told: Told, receiver: ReceivingServer
) -> None:
    told.add(receiver.url, "alert.opened")
    hook, now_ns = told.hook(), told.clock.now_ns
    told.record.write(
        lambda connection: claim(connection, hook, now_ns=now_ns, until_ns=now_ns + 60 * 10**9)
    )
    open_alerts(told.record)
    told.send()
    assert receiver.got == []
    told.clock.go_on(61)
    told.send()
    assert types(receiver) == ["alert.opened"]


@pytest.mark.sqlite
def test_what_the_documentation_says_of_signatures_is_true(
    told: Told, receiver: ReceivingServer
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "outlets.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    shown: dict[str, Any] = {}
    exec(example, shown)
    secret = told.add(receiver.url, "alert.opened")
    open_alerts(told.record)
    told.send()
    (request,) = receiver.got
    is_from_squash = shown["is_from_squash"]
    assert is_from_squash(secret, request.headers, request.content)
    assert not is_from_squash(secret, request.headers, request.content + b" ")
    old = {**request.headers, "webhook-timestamp": f"{told.clock.now_ns // 10**9 - 600}"}
    assert not is_from_squash(secret, old, request.content)
    assert not is_from_squash(f"whsec_{base64.b64encode(bytes(32)).decode()}", request.headers, b"")
