import random
from pathlib import Path

import httpx
import pytest

from squash_api.influx import client as errors
from squash_api.influx.client import (
    InfluxClient,
)
from squash_api.influx.writing import Rejected, deliver
from squash_api.settings import InfluxTarget
from tests.support.influx_wire import (
    NOW_NS,
    OLD_NS,
    CountingTransport,
    decompress,
    make_lines,
    mocked,
    stored_values,
    time_of_server,
)
from tests.support.influxd import Influxd


@pytest.fixture
def short_target(influxd: Influxd, influx_target: InfluxTarget) -> InfluxTarget:
    """A database whose points may be an hour old."""
    influxd.create_database(influx_target.database, duration="1h")
    return influx_target


def test_newer_versions_explain_under_another_key() -> None:
    reply = httpx.Response(422, json={"code": "unprocessable entity", "message": "type conflict"})
    with mocked(lambda _: reply) as client:
        assert deliver(client, ["m v=1 5"]) == [Rejected(0, "type conflict")]


def test_delivery_creates_a_missing_database(influxd: Influxd, influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        assert deliver(client, make_lines(3)) == []
    assert stored_values(influxd, influx_target) == [0.0, 1.0, 2.0]


def test_a_database_that_cannot_be_created_is_asked_for_once() -> None:
    paths = []

    def reply(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        if request.url.path.endswith("query"):
            return httpx.Response(200, json={"results": [{"statement_id": 0}]})
        return httpx.Response(404, json={"error": 'database not found: "d"'})

    with mocked(reply) as client, pytest.raises(errors.DatabaseMissingError):
        deliver(client, ["m v=1 5"])
    assert paths == ["/path/write", "/path/query", "/path/write"]


def test_delivering_nothing_asks_nothing() -> None:
    with mocked(lambda _: httpx.Response(500)) as client:
        assert deliver(client, []) == []


def test_delivering_twice_changes_nothing(influxd: Influxd, influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        assert deliver(client, make_lines(50)) == []
        before = influxd.export(influx_target.database)
        assert deliver(client, make_lines(50)) == []
    assert influxd.export(influx_target.database) == before


def test_bad_lines_are_found_among_good_ones_with_their_words(
    influxd: Influxd, influx_target: InfluxTarget, client: InfluxClient
) -> None:
    client.write([f'm,t=seed v=0,s="x" {NOW_NS}'])
    lines = make_lines(40)
    lines[3] = "forged line"
    lines[17] = f'm,t=a v="text" {NOW_NS}'
    lines[18] = f"m,t=a s=1 {NOW_NS}"
    lines[39] = f"m,t= v=1 {NOW_NS}"
    rejected = deliver(client, lines)
    assert [line.index for line in rejected] == [3, 17, 18, 39]
    for line, words in zip(
        rejected,
        [
            "unable to parse 'forged line'",
            'input field "v"',
            'input field "s"',
            "missing tag value",
        ],
        strict=True,
    ):
        assert words in line.reason
    good = [float(number) for number in range(40) if number not in {3, 17, 18, 39}]
    assert stored_values(influxd, influx_target) == [0.0, *good]


def test_every_line_may_be_bad(client: InfluxClient) -> None:
    lines = [f"bad{number}" for number in range(30)]
    rejected = deliver(client, lines)
    assert [line.index for line in rejected] == list(range(30))
    assert all(lines[line.index] in line.reason for line in rejected)


def test_an_accepted_line_was_acknowledged_with_204() -> None:
    stored: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        lines = decompress(request)
        if "bad" in lines:
            return httpx.Response(400, json={"error": "partial write: no dropped=1"})
        stored.extend(lines)
        return httpx.Response(204)

    with mocked(reply) as client:
        assert deliver(client, ["a", "bad", "b", "c", "bad", "d"]) == [
            Rejected(1, "partial write: no dropped=1"),
            Rejected(4, "partial write: no dropped=1"),
        ]
    assert stored == ["a", "b", "c", "d"]


def test_an_outage_while_bad_lines_are_looked_for_gives_no_verdict() -> None:
    replies = iter(
        [
            httpx.Response(400, json={"error": "partial write: no dropped=1"}),
            httpx.Response(400, json={"error": "no"}),
            httpx.Response(503),
        ]
    )
    with mocked(lambda _: next(replies)) as client, pytest.raises(errors.InfluxUnavailableError):
        deliver(client, ["bad", "good"])


@pytest.mark.parametrize("shape", ["in order", "shuffled", "alternating"])
def test_thousands_of_lines_beyond_the_retention_policy_cost_few_requests(
    influxd: Influxd, short_target: InfluxTarget, shape: str
) -> None:
    now_ns = time_of_server(influxd)
    old, new = make_lines(2000, start_ns=OLD_NS), make_lines(2000, start_ns=now_ns)
    lines = old + new
    if shape == "shuffled":
        random.Random(1).shuffle(lines)
    elif shape == "alternating":
        lines = [line for pair in zip(new, old, strict=True) for line in pair]
    transport = CountingTransport()
    with InfluxClient(short_target, transport=transport) as client:
        rejected = deliver(client, lines)
    assert {lines[line.index] for line in rejected} == set(old)
    assert {line.reason for line in rejected} == {
        "partial write: points beyond retention policy dropped=2000"
    }
    assert stored_values(influxd, short_target) == [float(number) for number in range(2000)]
    assert transport.count <= 3


def test_old_lines_hide_no_other_fault(influxd: Influxd, short_target: InfluxTarget) -> None:
    now_ns = time_of_server(influxd)
    new = make_lines(6, start_ns=now_ns)
    lines = [*make_lines(4, start_ns=OLD_NS), *new, f'm,t=a v="x" {now_ns}', "not a point"]
    with InfluxClient(short_target) as client:
        client.write(new[:1])
        rejected = deliver(client, lines)
    assert [line.index for line in rejected] == [0, 1, 2, 3, 10, 11]
    assert ["retention" in line.reason for line in rejected] == [True] * 4 + [False] * 2
    assert stored_values(influxd, short_target) == [float(number) for number in range(6)]


@pytest.mark.parametrize("bad", [1, 3])
def test_a_few_bad_lines_cost_few_requests(influx_target: InfluxTarget, bad: int) -> None:
    lines = make_lines(1024)
    for number in range(bad):
        lines[100 + 300 * number] = f'm,t=a v="text" {NOW_NS}'
    transport = CountingTransport()
    with InfluxClient(influx_target, transport=transport) as client:
        client.create_database()
        transport.count = 0
        assert len(deliver(client, lines)) == bad
    assert transport.count <= 1 + 2 * bad * 10


def test_lines_that_are_no_line_protocol_cost_one_request_each(influx_target: InfluxTarget) -> None:
    lines = make_lines(200)
    lines[::2] = [f"bad{number}" for number in range(100)]
    transport = CountingTransport()
    with InfluxClient(influx_target, transport=transport) as client:
        client.create_database()
        transport.count = 0
        assert [line.index for line in deliver(client, lines)] == list(range(0, 200, 2))
    assert transport.count == 102


def test_a_batch_that_is_too_large_is_cut(tmp_path: Path) -> None:
    noise = random.Random(1)
    lines = [f'm,t=a v={i},s="{noise.randbytes(400).hex()}" {i}' for i in range(20)]
    lines[7] = f'm,t=a v=7,s="{noise.randbytes(4000).hex()}" 7'
    with Influxd(tmp_path / "influxd", max_body_size=2000) as server:
        target = InfluxTarget(url=server.url, database="d")
        with InfluxClient(target) as client:
            assert deliver(client, lines) == [Rejected(7, "Request Entity Too Large")]
        assert stored_values(server, target) == [float(i) for i in range(20) if i != 7]
