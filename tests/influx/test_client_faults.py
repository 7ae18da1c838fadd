import random
import socket
import struct
from pathlib import Path

import httpx
import pytest

from squash_api.influx import client as errors
from squash_api.influx.client import (
    InfluxClient,
)
from squash_api.influx.writing import deliver
from squash_api.settings import InfluxTarget
from tests.support.influx_wire import (
    mocked,
    raw_server,
    stored_values,
)
from tests.support.influxd import Influxd


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


def test_an_influxdb_that_comes_back_is_used_again(tmp_path: Path) -> None:
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


def test_ping_of_another_server_is_a_misconfiguration() -> None:
    with (
        mocked(lambda _: httpx.Response(200, text="hello")) as client,
        pytest.raises(errors.InfluxMisconfiguredError, match="not an InfluxDB"),
    ):
        client.ping()
