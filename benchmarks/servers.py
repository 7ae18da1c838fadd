"""The servers that the benchmarks start: the service, its yardstick, and an influxd."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from benchmarks.bodies import MEASUREMENTS, PACKAGE, metric_name
from squash_api.demo.influxdb import find_influxd

ROOT = Path(__file__).resolve().parent.parent
_CREDENTIALS = {"username": "bench", "password": "a password of benchmarks"}
_SECRET = "a secret of benchmarks, longer than 32 bytes"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A process, started with `start` and ended by its id."""

    def __init__(self, command: list[str], *, url: str, probe: str, **environment: str) -> None:
        self.url = url
        self._command = command
        self._probe = f"{url}{probe}" if probe else ""
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SQUASH_")},
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 80

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while self._probe and time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._command} has ended by itself")
            with contextlib.suppress(httpx.TransportError):
                httpx.get(self._probe, trust_env=False)
                return
            time.sleep(0.05)
        if self._probe:
            raise RuntimeError(f"{self._command} does not answer")

    def peak_memory_mb(self) -> float:
        """Return the most memory that the process has had."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def stop(self, *, by_force: bool = False) -> None:
        if self._process is not None:
            (self._process.kill if by_force else self._process.terminate)()
            self._process.wait(timeout=60)
            self._process = None


@contextlib.contextmanager
def running(*servers: Server) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.stop()


def echo_server() -> Server:
    port = free_port()
    return Server(
        [sys.executable, "-m", "benchmarks.echo", str(port)],
        url=f"http://127.0.0.1:{port}",
        probe="/openapi.json",
    )


def service_variables(folder: Path, *, influx: Server | None, deliver: str) -> dict[str, str]:
    port = free_port()
    variables = {
        "SQUASH_SECRET": _SECRET,
        "SQUASH_URL": f"http://127.0.0.1:{port}",
        "SQUASH_PORT": str(port),
        "SQUASH_DATABASE_URL": f"sqlite:///{folder / 'squash.db'}",
        "SQUASH_REGISTRATION": "open",
        "SQUASH_DELIVER": deliver,
    }
    if influx is not None:
        variables["SQUASH_INFLUX_URL"] = influx.url
    return variables


def service_server(variables: dict[str, str]) -> Server:
    return Server(
        [sys.executable, "-m", "squash_api", "serve"],
        url=variables["SQUASH_URL"],
        probe="/healthz",
        **variables,
    )


def deliver_server(variables: dict[str, str]) -> Server:
    return Server(
        [sys.executable, "-m", "squash_api", "deliver"], url="http://x", probe="", **variables
    )


def influx_server(folder: Path) -> Server:
    binary, reason = find_influxd()
    if binary is None:
        raise SystemExit(f"make bench needs influxd: {reason}")
    http, rpc = free_port(), free_port()
    config = folder / "influxdb.conf"
    config.write_text(
        f"""reporting-enabled = false
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
[monitor]
  store-enabled = false
"""
    )
    return Server([binary, "-config", str(config)], url=f"http://127.0.0.1:{http}", probe="/ping")


def prepare(service: Server) -> str:
    """Register, declare the metrics of the jobs, and return a token."""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        client.post("/register", json=_CREDENTIALS)
        token: str = client.post("/auth", json=_CREDENTIALS).json()["access_token"]
        metrics = [
            {"name": metric_name(index), "description": "made up", "unit": "mmag"}
            for index in range(MEASUREMENTS)
        ]
        reply = client.post(
            "/metrics", json={"metrics": metrics}, headers={"Authorization": f"JWT {token}"}
        )
        assert reply.status_code in {200, 201}, reply.text
    return token


def count_jobs(influx: Server, *, since_ns: int) -> int:
    """Return how many jobs of this time or later are in InfluxDB, by one of their fields.

    It is asked again and again: to count more would keep InfluxDB busier than writing does.
    """
    field = metric_name(MEASUREMENTS - 1).removeprefix(f"{PACKAGE}.")
    return _count(influx, f'SELECT count("{field}") FROM "{PACKAGE}" WHERE time >= {since_ns}')


def count_values(influx: Server) -> int:
    """Return how many values of the jobs are in InfluxDB."""
    return _count(influx, f'SELECT count(/^metric_/) FROM "{PACKAGE}"')


def _count(influx: Server, query: str) -> int:
    reply = httpx.get(
        f"{influx.url}/query", params={"db": "squash", "q": query}, trust_env=False, timeout=300
    ).json()
    series = reply["results"][0].get("series")
    return sum(value for value in series[0]["values"][0][1:] if value) if series else 0
