"""R4: accepting with InfluxDB down / up, draining / accepting, and what a SIGKILL loses.

While InfluxDB is down nothing is delivered, so accepting is faster: by how much is what delivery
beside it costs. The floor of draining is a loop that only does what cannot be left out.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.bodies import MEASUREMENTS, make_body
from benchmarks.checkout import ROOT, Checkout
from benchmarks.load import Outcome, make_requests, run_load
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    Server,
    count_jobs,
    count_values,
    influx_server,
    kapacitor_server,
    prepare,
    running,
    service_server,
    service_variables,
    stored,
)

_ROUNDS = 9
_JOBS = 3000
_CONNECTIONS = 64


def measure(checkout: Checkout) -> list[Figure]:
    with TemporaryDirectory() as folder:
        influx, kapacitor = influx_server(Path(folder)), kapacitor_server()
        variables = service_variables(
            Path(folder), influx=influx.url, kapacitor=kapacitor.url, deliver="inline"
        )
        service = service_server(checkout, variables)
        with running(influx, kapacitor, service):
            token = prepare(service)
            bench = _Outage(influx, service, token, Path(folder, "squash.db"))
            bench.accept()
            bench.wait()
            rounds = [bench.round(number + 1) for number in range(_ROUNDS)]
            lost = bench.kill()
    accepting = [down / up for down, up, _, _ in rounds]
    draining = [drained / up for _, up, drained, _ in rounds]
    floors = [drained / bare for _, _, drained, bare in rounds]
    return [
        Figure(
            "R4 accept",
            "accept rate with InfluxDB down / up",
            accepting,
            bar=1.5,
            is_ceiling=True,
        ),
        Figure(
            "R4 drain",
            "drain rate after it is back / accept rate",
            draining,
            bar=4,
        ),
        Figure(
            "R4 floor",
            "drain rate / that of a loop which only reads, decodes, formats and writes",
            floors,
            bar=None,
        ),
        Figure("R4 lost", "accepted jobs lost after SIGKILL", [lost], bar=0, is_ceiling=True),
    ]


class _Outage:
    def __init__(self, influx: Server, service: Server, token: str, record: Path) -> None:
        self._record = record
        self._influx = influx
        self._service = service
        self._token = token
        self._accepted = 0
        self._since_ns = 0

    def accept(self) -> Outcome:
        bodies = [make_body(self._accepted + index) for index in range(_JOBS)]
        requests = make_requests("/job", bodies, token=self._token)
        self._since_ns = time.time_ns()
        outcome = run_load(self._service.port, requests, connections=_CONNECTIONS)
        assert outcome.statuses == {202: _JOBS}, outcome.statuses
        self._accepted += _JOBS
        return outcome

    def _arrived(self) -> int:
        """Return how many of the last accepted jobs are in InfluxDB."""
        return count_jobs(self._influx, since_ns=self._since_ns)

    def wait(self) -> float:
        """Wait until InfluxDB has every accepted job; return when that was."""
        while self._arrived() < _JOBS:
            time.sleep(0.02)
        arrived = time.perf_counter()
        assert count_values(self._influx) == self._accepted * MEASUREMENTS
        return arrived

    def _bare(self, number: int) -> float:
        """Return the rate at which a bare loop writes the last accepted jobs."""
        query = f"CREATE DATABASE bare{number}"
        httpx.post(f"{self._influx.url}/query", data={"q": query}, trust_env=False)
        place = [str(self._record), str(self._influx.port), f"bare{number}", str(_JOBS)]
        command = [sys.executable, "-m", "benchmarks.bare_delivery", *place]
        return float(subprocess.check_output(command, cwd=ROOT))

    def round(self, number: int) -> tuple[float, float, float, float]:
        """Return the rates: accepting with InfluxDB down and up, draining, and a bare loop's."""
        up = self.accept()
        self.wait()
        self._influx.stop()
        down = self.accept()
        # Let the index be derived, as it is in an outage that lasts.
        stored(self._service)
        self._influx.start()
        # The clock runs from the first batch that arrives: how long the service waits between two
        # attempts is not its speed.
        while not (first := self._arrived()):
            time.sleep(0.005)
        started = time.perf_counter()
        seconds = self.wait() - started
        drained = (_JOBS - first) / max(seconds, 1e-3)
        bare = self._bare(number)
        progress(
            f"R4 round {number}: down {down.rate:.0f}, up {up.rate:.0f}, drain {drained:.0f}, "
            f"bare {bare:.0f}"
        )
        return down.rate, up.rate, drained, bare

    def kill(self) -> int:
        """Kill the service while jobs arrive; return how many accepted jobs are never delivered."""
        self._influx.stop()
        bodies = [make_body(10**7 + index) for index in range(_JOBS)]
        requests = make_requests("/job", bodies, token=self._token)
        statuses: dict[int, int] = {}
        killer = threading.Timer(0.7, self._service.stop, kwargs={"by_force": True})
        killer.start()
        run_load(
            self._service.port, requests, connections=_CONNECTIONS, statuses=statuses, is_cut=True
        )
        killer.join()
        accepted = statuses.get(202, 0)
        self._influx.start()
        self._service.start()
        wanted = (self._accepted + accepted) * MEASUREMENTS
        deadline = time.monotonic() + 60
        while (found := count_values(self._influx)) < wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        progress(f"R4 kill: {accepted} accepted before the kill")
        return max(0, wanted - found) // MEASUREMENTS
