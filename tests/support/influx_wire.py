"""What tests of the InfluxDB client share: lines, faked answers, and servers that misbehave."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import httpx

from squash_api.influx.client import InfluxClient
from squash_api.settings import InfluxTarget
from tests.support.influxd import Influxd

NOW_NS = 1_790_000_000_000_000_000
OLD_NS = 1_000_000_000_000_000_000


class CountingTransport(httpx.HTTPTransport):
    """The network, counting requests."""

    count = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        return super().handle_request(request)


def make_lines(count: int, *, start_ns: int = NOW_NS) -> list[str]:
    return [f"m,t=a v={number} {start_ns + number}" for number in range(count)]


def stored_values(influxd: Influxd, target: InfluxTarget) -> list[float]:
    return sorted(point["fields"]["v"] for point in influxd.points(target.database))


def time_of_server(influxd: Influxd) -> int:
    """Now in ns, in whole seconds: a time that no retention policy forbids."""
    date = httpx.get(f"{influxd.url}/ping", trust_env=False, timeout=60).headers["Date"]
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
