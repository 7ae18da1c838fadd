from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from squash_api.client import Job, Measurement, Squash
from squash_api.demo.processes import DemoError, Stop, Stopped
from squash_api.demo.running import Judged, User, connect, delivery_problems, judge, send_days
from tests.support.fake_service import ROOT, FakeService, reply_json
from tests.support.http_server import HttpServer

USER = User("demo", "a password")
GOOD = Judged(3, {"status": "SUCCESS"}, [])


@pytest.fixture
def fake() -> FakeService:
    return FakeService()


@pytest.fixture
def squash(fake: FakeService) -> Iterator[Squash]:
    with Squash(ROOT, "demo", "pw", transport=httpx.MockTransport(fake)) as client:
        client.log_in()
        yield client


def make_days(*counts: int) -> list[list[Job]]:
    return [
        [Job([Measurement("p.m", 1.0)], meta={"day": day}) for _ in range(count)]
        for day, count in enumerate(counts)
    ]


def test_the_token_is_asked_for_once(fake: FakeService, squash: Squash) -> None:
    assert sum(send_days(squash, make_days(3, 3), stop=Stop())) == 6
    assert fake.paths().count("POST /auth") == 1


def test_a_day_is_sent_whole_before_the_next(fake: FakeService, squash: Squash) -> None:
    assert list(send_days(squash, make_days(3, 1, 4), stop=Stop())) == [3, 1, 4]
    assert [job["meta"]["day"] for job in fake.jobs()] == [0, 0, 0, 1, 2, 2, 2, 2]


def test_a_job_of_which_a_value_would_be_left_out_is_refused(
    fake: FakeService, squash: Squash
) -> None:
    list(send_days(squash, make_days(1), stop=Stop()))
    assert fake.requests[-1].url.params["strict"] == "true"


def test_no_day_begins_once_the_demo_is_told_to_stop(fake: FakeService, squash: Squash) -> None:
    stop = Stop()
    sent = send_days(squash, make_days(1, 1), stop=stop)
    next(sent)
    stop.request()
    with pytest.raises(Stopped):
        next(sent)
    assert len(fake.jobs()) == 1


def test_a_judged_job_has_its_id_status_and_verdicts(fake: FakeService, squash: Squash) -> None:
    verdicts: Any = [{"specification": "p.m.design", "status": "passed"}]
    fake.answers["/job/1/report"] = [httpx.Response(200, json=verdicts)]
    judged = judge(squash, make_days(1)[0][0])
    assert judged.job_id == 1
    assert judged.status["status"] == "SUCCESS"
    assert judged.verdicts == verdicts


def test_a_job_without_an_id_is_an_error(fake: FakeService, squash: Squash) -> None:
    reply = reply_json(id=None, message="thanks")
    fake.answers["/job"] = [httpx.Response(202, json=reply)]
    with pytest.raises(DemoError, match="thanks"):
        judge(squash, make_days(1)[0][0])


def test_connecting_asks_no_proxy(fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with HttpServer(fake) as server, connect(server.url, USER, stop=Stop()):
        assert fake.paths() == ["GET /", "POST /auth"]


def test_pauses_between_tries_end_when_the_demo_is_told_to_stop(fake: FakeService) -> None:
    stop = Stop()
    stop.request()
    fake.answers["/auth"] = [httpx.Response(503, headers={"Retry-After": "60"})]
    with HttpServer(fake) as server, pytest.raises(Stopped):
        connect(server.url, USER, stop=stop)


@pytest.mark.parametrize(
    ("judged", "target", "expected"),
    [
        (GOOD, {"status": "ok", "waiting": 0, "quarantined": 0}, []),
        (
            Judged(3, {"status": "PENDING", "message": "It waits."}, []),
            {"status": "down", "reason": "refused", "quarantined": 0},
            ["job 3 is PENDING: It waits.", "InfluxDB is down: refused"],
        ),
        (GOOD, {"quarantined": 7}, ["InfluxDB permanently refused 7 points"]),
    ],
)
def test_what_did_not_reach_influxdb_is_said(
    fake: FakeService, judged: Judged, target: dict[str, object], expected: list[str]
) -> None:
    fake.answers["/readyz"] = [httpx.Response(200, json={"targets": {"default": target}})]
    with HttpServer(fake) as server:
        assert delivery_problems(server.url, judged) == expected
