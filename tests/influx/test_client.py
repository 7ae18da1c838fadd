import gzip
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from squash_api.influx import errors
from squash_api.influx.client import InfluxClient, Rejected, deliver, quote_identifier
from squash_api.settings import InfluxTarget
from tests.support.influxd import ADMIN, ADMIN_PASSWORD, Influxd

NOW_NS = 1_790_000_000_000_000_000
OLD_NS = 1_000_000_000_000_000_000


class CountingTransport(httpx.HTTPTransport):
    """The network, counting requests."""

    count = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        return super().handle_request(request)


@pytest.fixture
def client(influx_target: InfluxTarget) -> Iterator[InfluxClient]:
    with InfluxClient(influx_target) as client:
        client.create_database()
        yield client


@pytest.fixture
def short_target(influxd: Influxd, influx_target: InfluxTarget) -> InfluxTarget:
    """A database whose points may be an hour old."""
    influxd.create_database(influx_target.database, duration="1h")
    return influx_target


def make_lines(count: int, *, start_ns: int = NOW_NS) -> list[str]:
    return [f"m,t=a v={number} {start_ns + number}" for number in range(count)]


def stored_values(influxd: Influxd, target: InfluxTarget) -> list[float]:
    return sorted(point["fields"]["v"] for point in influxd.points(target.database))


def time_of_server(influxd: Influxd) -> int:
    """Now in ns, in whole seconds: a time that no retention policy forbids."""
    date = httpx.get(f"{influxd.url}/ping", trust_env=False).headers["Date"]
    return int(parsedate_to_datetime(date).timestamp()) * 10**9


def decompress(request: httpx.Request) -> list[str]:
    assert request.headers["Content-Encoding"] == "gzip"
    return gzip.decompress(request.read()).decode().split("\n")


def mocked(reply: Callable[[httpx.Request], httpx.Response]) -> InfluxClient:
    target = InfluxTarget(url="http://influx.invalid/path", database="d")
    return InfluxClient(target, transport=httpx.MockTransport(reply))


@contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[InfluxTarget]:
    """Accept connections and misbehave on them."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    behave(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield InfluxTarget(url=f"http://127.0.0.1:{server.getsockname()[1]}")
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_written_points_come_out_of_a_query(client: InfluxClient) -> None:
    client.write(["m,t=a v=1.5 5", 'm,t=b s="x" 6'])
    assert client.query('SELECT * FROM "m" GROUP BY *') == [
        {
            "name": "m",
            "tags": {"t": "a"},
            "columns": ["time", "s", "v"],
            "values": [[5, None, 1.5]],
        },
        {
            "name": "m",
            "tags": {"t": "b"},
            "columns": ["time", "s", "v"],
            "values": [[6, "x", None]],
        },
    ]


def test_bound_parameters_are_values_and_never_code(client: InfluxClient) -> None:
    client.write(["m,t=a v=1 5", "m,t=b v=2 6"])
    statement = "SELECT v FROM m WHERE t = $t"
    assert client.query(statement, params={"t": "b"})[0]["values"] == [[6, 2]]
    assert client.query(statement, params={"t": "a' OR t = 'b"}) == []


def test_the_series_of_several_statements_come_in_order(client: InfluxClient) -> None:
    client.write(["m v=1 5", "n v=2 6"])
    assert [series["name"] for series in client.query("SELECT * FROM n; SELECT * FROM m")] == [
        "n",
        "m",
    ]


def test_ping_returns_the_version(client: InfluxClient) -> None:
    assert client.ping()[0].isdigit()


def test_a_database_is_empty_until_something_is_written(influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        assert client.is_empty()
        client.create_database()
        assert client.is_empty()
        client.write(["m v=1 5"])
        assert not client.is_empty()


@pytest.mark.parametrize("name", ["m", 'a"b', "a\\\\b", "a'b c", "Ω=Λ", "a;drop database x"])
def test_points_are_deleted_by_exact_time(
    influxd: Influxd, influx_target: InfluxTarget, client: InfluxClient, name: str
) -> None:
    escaped = name.replace(" ", "\\ ")
    client.write([f"{escaped} v=1 5", f"{escaped} v=2 6", "other v=3 5"])
    client.delete_points(name, 5)
    assert stored_values(influxd, influx_target) == [2.0, 3.0]
    client.delete_points(name, 5)


def test_deleting_what_never_was_is_no_error(influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        client.delete_points("m", 5)
        client.create_database()
        client.delete_points("m", 5)


def test_a_database_may_have_any_name_that_influxdb_allows(influx_target: InfluxTarget) -> None:
    target = influx_target.model_copy(
        update={"database": f'a "b" & c=d? Ω {influx_target.database}'}
    )
    with InfluxClient(target) as client:
        client.create_database()
        client.create_database()
        client.write(["m v=1 5"])
        assert client.query("SELECT v FROM m")[0]["values"] == [[5, 1]]


def test_an_identifier_is_quoted() -> None:
    assert quote_identifier('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'


def test_the_path_of_the_address_is_kept() -> None:
    paths = []

    def reply(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(204, headers={"X-Influxdb-Version": "1.8.10"})

    with mocked(reply) as client:
        client.write(["m v=1 5"])
        assert client.ping() == "1.8.10"
    assert paths == ["/path/write", "/path/ping"]


@pytest.fixture(scope="module")
def locked_influxd(
    influxd_binary: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Influxd]:
    assert influxd_binary
    with Influxd(tmp_path_factory.mktemp("locked"), auth=True) as server:
        yield server


def test_basic_authentication_opens_a_locked_influxdb(locked_influxd: Influxd) -> None:
    target = InfluxTarget(
        url=locked_influxd.url, database="d", user=ADMIN, password=SecretStr(ADMIN_PASSWORD)
    )
    with InfluxClient(target) as client:
        assert deliver(client, ["m v=1 5"]) == []
        assert client.query("SELECT v FROM m")[0]["values"] == [[5, 1]]


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"user": ADMIN},
        {"user": ADMIN, "password": SecretStr("wrong")},
        {"token": SecretStr(f"{ADMIN}:{ADMIN_PASSWORD}")},
    ],
)
def test_wrong_credentials_are_refused_and_never_shown(
    locked_influxd: Influxd, credentials: dict[str, str | SecretStr]
) -> None:
    target = InfluxTarget.model_validate({"url": locked_influxd.url, **credentials})
    with InfluxClient(target) as client:
        for attempt in (
            lambda: deliver(client, ["m v=1 5"]),
            client.is_empty,
            client.create_database,
            lambda: client.delete_points("m", 5),
        ):
            with pytest.raises(errors.InfluxRefusedError) as caught:
                attempt()
            assert ADMIN_PASSWORD not in f"{caught.value!r}{caught.value.reason}"


def test_a_missing_right_is_refused(locked_influxd: Influxd) -> None:
    locked_influxd.create_database("rights")
    locked_influxd.query("CREATE USER reader WITH PASSWORD 'r'; GRANT READ ON rights TO reader")
    target = InfluxTarget(
        url=locked_influxd.url, database="rights", user="reader", password=SecretStr("r")
    )
    with InfluxClient(target) as client:
        assert client.is_empty()
        with pytest.raises(errors.InfluxRefusedError, match="not authorized"):
            client.write(["m v=1 5"])
        with pytest.raises(errors.InfluxRefusedError):
            client.create_database()


def test_a_token_wins_over_user_and_password() -> None:
    seen = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(204)

    target = InfluxTarget(
        url="http://u:p@influx.invalid",
        user="u",
        password=SecretStr("p"),
        token=SecretStr("secret-token"),
    )
    with InfluxClient(target, transport=httpx.MockTransport(reply)) as client:
        client.write(["m v=1 5"])
    assert seen == ["Token secret-token"]


def test_a_missing_database_has_an_error_of_its_own(influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        with pytest.raises(errors.DatabaseMissingError):
            client.write(["m v=1 5"])
        with pytest.raises(errors.DatabaseMissingError):
            client.query("SELECT * FROM m")


def test_an_error_within_a_good_reply_is_raised(client: InfluxClient) -> None:
    with pytest.raises(errors.QueryRejectedError, match="mixing aggregate"):
        client.query("SELECT mean(v), v FROM m")
    with pytest.raises(errors.InfluxMisconfiguredError, match="retention policy not found"):
        client.query('SELECT * FROM "nope"."m"')


def test_a_name_that_influxdb_cannot_give_is_raised(influx_target: InfluxTarget) -> None:
    target = influx_target.model_copy(update={"database": "a/b"})
    with InfluxClient(target) as client, pytest.raises(errors.QueryRejectedError, match="invalid"):
        client.create_database()


def test_a_wrong_statement_is_raised(client: InfluxClient) -> None:
    with pytest.raises(errors.QueryRejectedError, match="error parsing query"):
        client.query("SELEKT")


def test_an_address_without_an_influxdb_is_a_misconfiguration(influxd: Influxd) -> None:
    with InfluxClient(InfluxTarget(url=f"{influxd.url}/nowhere")) as client:
        for attempt in (lambda: client.write(["m v=1 5"]), client.is_empty, client.ping):
            with pytest.raises(errors.InfluxMisconfiguredError):
                attempt()


def test_a_closed_port_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        InfluxClient(InfluxTarget(url=f"http://127.0.0.1:{port}")) as client,
        pytest.raises(errors.InfluxUnavailableError, match="ConnectError"),
    ):
        client.write(["m v=1 5"])


def test_an_influxdb_that_hangs_is_unavailable(
    influxd: Influxd, influx_target: InfluxTarget
) -> None:
    with InfluxClient(influx_target, timeout_s=0.2) as client:
        influxd.pause()
        try:
            with pytest.raises(errors.InfluxUnavailableError, match="Timeout"):
                client.write(["m v=1 5"])
        finally:
            influxd.resume()


def test_an_influxdb_that_comes_back_is_used_again(influxd_binary: str, tmp_path: Path) -> None:
    assert influxd_binary
    with Influxd(tmp_path / "influxd") as server:
        target = InfluxTarget(url=server.url, database="d")
        with InfluxClient(target) as client:
            assert deliver(client, ["m v=1 5"]) == []
            server.kill()
            with pytest.raises(errors.InfluxUnavailableError):
                deliver(client, ["m v=2 6"])
            server.start()
            assert deliver(client, ["m v=2 6"]) == []
            assert stored_values(server, target) == [1.0, 2.0]


def test_a_connection_reset_within_the_body_is_unavailable() -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    noise = random.Random(1).randbytes(4_000_000).hex()
    with raw_server(reset) as target, InfluxClient(target) as client:
        for line in ("m v=1 5", f'm v="{noise}" 5'):
            with pytest.raises(errors.InfluxUnavailableError):
                client.write([line])


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 204 No",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_unavailable(answer: bytes) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    with raw_server(behave) as target, InfluxClient(target) as client:
        with pytest.raises(errors.InfluxUnavailableError):
            client.write(["m v=1 5"])
        with pytest.raises(errors.InfluxUnavailableError):
            client.query("SHOW MEASUREMENTS")


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(429, json={"error": "slow down"}),
        httpx.Response(503, text="<html>down</html>"),
        httpx.Response(400, text="<html>The plain HTTP request was sent to HTTPS port</html>"),
        httpx.Response(200, text="<html>Welcome</html>"),
    ],
)
def test_answers_that_are_not_about_the_lines_reject_no_line(reply: httpx.Response) -> None:
    with mocked(lambda _: reply) as client, pytest.raises(errors.InfluxUnavailableError):
        deliver(client, ["m v=1 5", "m v=2 6"])


def test_a_redirect_is_not_followed() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(307, headers={"Location": str(request.url)})

    with mocked(reply) as client, pytest.raises(errors.InfluxMisconfiguredError):
        client.write(["m v=1 5"])


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<html>Welcome</html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(200, json={"results": [1]}),
        httpx.Response(200, json={"results": {"a": 1}}),
    ],
)
def test_a_query_reply_that_is_not_influxdb_s_is_unavailable(reply: httpx.Response) -> None:
    with mocked(lambda _: reply) as client, pytest.raises(errors.InfluxUnavailableError):
        client.is_empty()


def test_a_result_that_the_server_cut_is_not_taken_for_the_whole() -> None:
    series = {"name": "m", "columns": ["time"], "values": [[1]], "partial": True}
    reply = httpx.Response(200, json={"results": [{"series": [series]}]})
    with mocked(lambda _: reply) as client, pytest.raises(errors.QueryRejectedError, match="limit"):
        client.query("SELECT * FROM m")


def test_newer_versions_explain_under_another_key() -> None:
    reply = httpx.Response(422, json={"code": "unprocessable entity", "message": "type conflict"})
    with mocked(lambda _: reply) as client:
        assert deliver(client, ["m v=1 5"]) == [Rejected(0, "type conflict")]


def test_ping_of_another_server_is_a_misconfiguration() -> None:
    with (
        mocked(lambda _: httpx.Response(200, text="hello")) as client,
        pytest.raises(errors.InfluxMisconfiguredError, match="not an InfluxDB"),
    ):
        client.ping()


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


def test_a_batch_that_is_too_large_is_cut(influxd_binary: str, tmp_path: Path) -> None:
    assert influxd_binary
    noise = random.Random(1)
    lines = [f'm,t=a v={i},s="{noise.randbytes(400).hex()}" {i}' for i in range(20)]
    lines[7] = f'm,t=a v=7,s="{noise.randbytes(4000).hex()}" 7'
    with Influxd(tmp_path / "influxd", max_body_size=2000) as server:
        target = InfluxTarget(url=server.url, database="d")
        with InfluxClient(target) as client:
            assert deliver(client, lines) == [Rejected(7, "Request Entity Too Large")]
        assert stored_values(server, target) == [float(i) for i in range(20) if i != 7]
