"""R2: values a second visible in InfluxDB, end to end / raw `/write`, one request per job.

The raw writes go over four connections. The service also tells Kapacitor, which InfluxDB's points
do not wait for; a stand-in takes what it sends.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.bodies import MEASUREMENTS, make_body
from benchmarks.checkout import Checkout
from benchmarks.load import make_requests, run_load
from benchmarks.raw_write import make_writes, record_points
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

_ROUNDS = 5
_JOBS = 3000
_CONNECTIONS = 64
_RAW_CONNECTIONS = 4


def measure(checkout: Checkout) -> list[Figure]:
    with TemporaryDirectory() as folder:
        points = record_points(checkout, Path(folder, "points"), jobs=(_ROUNDS + 1) * _JOBS)
        influx, kapacitor = influx_server(Path(folder)), kapacitor_server()
        variables = service_variables(
            Path(folder), influx=influx.url, kapacitor=kapacitor.url, deliver="inline"
        )
        service = service_server(checkout, variables)
        with running(influx, kapacitor, service):
            token = prepare(service)
            ratios = []
            for number in range(_ROUNDS + 1):
                bodies = [make_body(number * _JOBS + index) for index in range(_JOBS)]
                requests = make_requests("/job", bodies, token=token)
                since_ns, started = time.time_ns(), time.perf_counter()
                ours = run_load(service.port, requests, connections=_CONNECTIONS)
                assert ours.statuses == {202: _JOBS}, ours.statuses
                while count_jobs(influx, since_ns=since_ns) < _JOBS:
                    time.sleep(0.02)
                our_rate = _JOBS * MEASUREMENTS / (time.perf_counter() - started)
                assert count_values(influx) == (number + 1) * _JOBS * MEASUREMENTS
                their_rate = _raw_rate(
                    influx, points[number * _JOBS : (number + 1) * _JOBS], database=f"raw{number}"
                )
                # The first round warms both up.
                if number:
                    ratios.append(our_rate / their_rate)
                    progress(f"R2 round {number}: {our_rate:.0f} / {their_rate:.0f} a second")
                # What is derived after delivery shall not run into the next round.
                stored(service)
    return [
        Figure(
            "R2",
            "values/s visible in InfluxDB, end to end / raw `/write` of the same points, one "
            "request per job, over four connections",
            ratios,
            bar=0.95,
        )
    ]


def _raw_rate(influx: Server, points: list[bytes], *, database: str) -> float:
    httpx.post(f"{influx.url}/query", data={"q": f'CREATE DATABASE "{database}"'}, trust_env=False)
    writes = make_writes(points, database=database)
    raw = run_load(influx.port, writes, connections=_RAW_CONNECTIONS)
    assert raw.statuses == {204: len(points)}, raw.statuses
    reply = httpx.get(
        f"{influx.url}/query",
        params={"db": database, "q": 'SELECT count("metric_000") FROM "bench_drp"'},
        trust_env=False,
    ).json()
    assert reply["results"][0]["series"][0]["values"][0][1] == len(points)
    return raw.rate * MEASUREMENTS
