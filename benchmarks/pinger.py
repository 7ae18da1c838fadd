"""Send a service a trivial request every 2 ms, from a separate process.

It prints, as JSON, when each request began and how long the reply took. The clock is that of the
machine, the same for all processes.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.checkout import ROOT, bare_environment
from benchmarks.load import split_reply

_EVERY_S = 0.002
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@contextmanager
def pinging(port: int, *, seconds: float) -> Iterator[list[tuple[float, float]]]:
    """Ping a service; the first ping has been answered when the context is entered.

    The pings are in the list at the end: begin and duration of each.
    """
    pings: list[tuple[float, float]] = []
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.pinger", str(port), str(seconds)],
        cwd=ROOT,
        env={**bare_environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield pings
            pings += [(begun, took) for begun, took in json.loads(process.stdout.read())]
        finally:
            process.kill()


def _ping(port: int, seconds: float) -> list[tuple[float, float]]:
    pings = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _ask(connection)
        print("begun", flush=True)
        until = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until:
            _ask(connection)
            took = time.perf_counter() - begun
            pings.append((begun, took))
            time.sleep(max(0.0, _EVERY_S - took))
    return pings


def _ask(connection: socket.socket) -> None:
    connection.sendall(_REQUEST)
    received = b""
    while split_reply(received) is None:
        part = connection.recv(65_536)
        if not part:
            raise ConnectionError("the server closed the connection")
        received += part


if __name__ == "__main__":
    print(json.dumps(_ping(int(sys.argv[1]), float(sys.argv[2]))), flush=True)
