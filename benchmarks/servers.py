"""The servers that the benchmarks start: the service, what it is compared with, an influxd."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import httpx

from benchmarks.bodies import LARGEST, MEASUREMENTS, PACKAGE, metric_name
from benchmarks.checkout import ROOT, Checkout, bare_environment

CREDENTIALS = {"username": "bench", "password": "a password of benchmarks"}
_SECRET = "a secret of benchmarks, longer than 32 bytes"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A process, started with `start` and ended by its id.

    `probe` is asked for until there is an answer, `answered_s` after the start; without it nobody
    waits.
    """

    def __init__(
        self, command: list[str], *, url: str, probe: str, environment: Mapping[str, str]
    ) -> None:
        self.url = url
        self._command = command
        self._probe = probe
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.answered_s = 0.0

    @property
    def port(self) -> int:
        return httpx.URL(self.url).port or 80

    def start(self) -> None:
        started = time.perf_counter()
        self._process = subprocess.Popen(
            self._command,
            # There is no .env here.
            cwd=gettempdir(),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while self._probe and not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._command} has ended by itself")
            if time.perf_counter() > started + 60:
                raise RuntimeError(f"{self._command} does not answer")
            time.sleep(0.002)
        self.answered_s = time.perf_counter() - started

    def _answers(self) -> bool:
        # Without a client, which takes long to make: the time of the start is a figure.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as it:
            it.settimeout(60)
            it.sendall(f"GET {self._probe} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            return bool(it.recv(1))
        return False

    def memory_mb(self) -> float:
        """Return how much memory the process has."""
        return self._status_mb("VmRSS:")

    def peak_memory_mb(self) -> float:
        """Return the most memory that the process has had."""
        return self._status_mb("VmHWM:")

    def _status_mb(self, key: str) -> float:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(key))
        return int(line.split()[1]) / 1024

    def processor_s(self, *, has_children: bool = False) -> float:
        """Return how much processor time the process has taken, with its children that run."""
        assert self._process is not None
        left, ticks = [str(self._process.pid)], 0
        while left:
            found = Path("/proc", left.pop())
            stat = (found / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(stat[11]) + int(stat[12])
            if has_children:
                for path in found.glob("task/*/children"):
                    left += path.read_text().split()
        return ticks / os.sysconf("SC_CLK_TCK")

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
    return _own_server("benchmarks.echo")


def floor_server(path: Path) -> Server:
    """Return the barest server that accepts jobs, with its file at a path."""
    return _own_server("benchmarks.floor", str(path))


def recorder_server(path: Path) -> Server:
    """Return a server that stands in for an InfluxDB and writes the points to a file."""
    return _own_server("benchmarks.recorder", str(path))


def kapacitor_server() -> Server:
    """Return a server that stands in for a Kapacitor and takes whatever it is sent."""
    return recorder_server(Path(os.devnull))


def _own_server(module: str, *arguments: str) -> Server:
    port = free_port()
    return Server(
        [sys.executable, "-m", module, str(port), *arguments],
        url=f"http://127.0.0.1:{port}",
        probe="/ping",
        environment={**bare_environment(), "PYTHONPATH": str(ROOT)},
    )


def service_variables(
    folder: Path, *, influx: str | None, kapacitor: str | None = None, deliver: str
) -> dict[str, str]:
    """Return the settings of a service with a record in this folder.

    Of the limits that are off by default, jobs and bytes are counted, and never reached.
    """
    port = free_port()
    variables = {
        "SQUASH_SECRET": _SECRET,
        "SQUASH_URL": f"http://127.0.0.1:{port}",
        "SQUASH_PORT": str(port),
        "SQUASH_DATABASE_URL": f"sqlite:///{folder / 'squash.db'}",
        "SQUASH_REGISTRATION": "open",
        "SQUASH_DELIVER": deliver,
        "SQUASH_JOBS_PER_HOUR": str(10**9),
        "SQUASH_BYTES_PER_DAY": str(10**15),
    }
    if influx is not None:
        variables["SQUASH_INFLUX_URL"] = influx
    if kapacitor is not None:
        variables["SQUASH_KAPACITOR_URL"] = kapacitor
    return variables


def service_server(checkout: Checkout, variables: Mapping[str, str]) -> Server:
    return Server(
        [str(checkout.squash), "serve"],
        url=variables["SQUASH_URL"],
        probe="/healthz",
        environment={**checkout.environment, **variables},
    )


def deliver_server(checkout: Checkout, variables: Mapping[str, str]) -> Server:
    return Server(
        [str(checkout.squash), "deliver"],
        url=variables["SQUASH_URL"],
        probe="",
        environment={**checkout.environment, **variables},
    )


def influx_server(folder: Path) -> Server:
    binary = shutil.which("influxd")
    if binary is None:
        raise SystemExit("make bench needs influxd on PATH: Debian's package influxdb")
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
    return Server(
        [binary, "-config", str(config)],
        url=f"http://127.0.0.1:{http}",
        probe="/ping",
        environment=bare_environment(),
    )


def log_in(service: Server) -> str:
    """Register, if that has not been done, and return a token."""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        client.post("/register", json=CREDENTIALS)
        token: str = client.post("/auth", json=CREDENTIALS).json()["access_token"]
    return token


def prepare(service: Server) -> str:
    """Log in, declare the metrics of the jobs with a limit for each, and return a token.

    Of a job's values, one in ten jobs breaks a limit, which opens an alert.
    """
    token = log_in(service)
    names = [metric_name(index) for index in range(MEASUREMENTS)]
    metrics = [{"name": name, "description": "made up", "unit": "mmag"} for name in names]
    limit = {"value": LARGEST * (1 - 0.1 / MEASUREMENTS), "unit": "mmag", "operator": "<="}
    limits = [{"name": f"{name}.design", "threshold": limit, "tags": ["design"]} for name in names]
    declare(service, "metrics", metrics, token=token)
    declare(service, "specs", limits, token=token)
    return token


def declare(service: Server, kind: str, documents: list[dict[str, Any]], *, token: str) -> None:
    """Post metrics or specifications, as `kind` says."""
    reply = httpx.post(
        f"{service.url}/{kind}",
        json={kind: documents},
        headers={"Authorization": f"JWT {token}"},
        trust_env=False,
        timeout=60,
    )
    assert reply.status_code in {200, 201}, reply.text


def stored(service: Server) -> dict[str, Any]:
    """Return what `/stats` counts, once all jobs have been derived."""
    stats: dict[str, Any] = httpx.get(f"{service.url}/stats", trust_env=False, timeout=600).json()[
        "stats"
    ]
    return stats


def wait_until(is_so: Callable[[], bool], *, seconds: float = 120) -> None:
    """Wait until something is so; it must be in this time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def count_jobs(influx: Server, *, since_ns: int) -> int:
    """Return how many jobs of this time or later are in InfluxDB, by one of their fields.

    It is asked again and again: to count more would keep InfluxDB busier than writing does.
    """
    field = metric_name(MEASUREMENTS - 1).removeprefix(f"{PACKAGE}.")
    return _count(influx, f'SELECT count("{field}") FROM "{PACKAGE}" WHERE time >= {since_ns}')


def count_values(influx: Server) -> int:
    """Return how many values of the jobs are in InfluxDB."""
    return _count(influx, f'SELECT count(/^metric_/) FROM "{PACKAGE}"')


def _count(influx: Server, asked: str) -> int:
    series = query(influx, asked)
    return sum(value for value in series[0]["values"][0][1:] if value) if series else 0


def query(influx: Server, asked: str, *, database: str = "squash") -> list[dict[str, Any]]:
    """Return the series of the answer to a query."""
    reply = _asking().get(f"{influx.url}/query", params={"db": database, "q": asked}).json()
    found: list[dict[str, Any]] = reply["results"][0].get("series") or []
    return found


@lru_cache(maxsize=1)
def _asking() -> httpx.Client:
    # A client of its own for each question costs 20 ms of processor time, which the servers need.
    return httpx.Client(trust_env=False, timeout=300)
