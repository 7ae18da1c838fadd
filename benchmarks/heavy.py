"""R6: how long a large job blocks the service, and what many jobs cost.

The first is measured from outside: how much longer than usual a trivial request takes.
"""

import random
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import orjson

from benchmarks.bodies import make_body
from benchmarks.checkout import Checkout
from benchmarks.load import make_request, run_load
from benchmarks.pinger import pinging
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    Server,
    free_port,
    prepare,
    running,
    service_server,
    service_variables,
    stored,
)

_LARGE_JOBS = 15
_BYTES = 3_000_000
_BLOBS = 30
_PING_S = 1.5
_BEFORE_S = 0.4

_ROUNDS = 5
_WARMING, _JOBS = 1000, 10_000
_CONNECTIONS = 64


def measure(checkout: Checkout) -> list[Figure]:
    return [_stall(checkout), _memory(checkout)]


def _stall(checkout: Checkout) -> Figure:
    stalls = []
    with TemporaryDirectory() as folder:
        service = service_server(
            checkout, service_variables(Path(folder), influx=None, deliver="off")
        )
        with running(service):
            token = prepare(service)
            # The first warms up.
            for number in range(_LARGE_JOBS + 1):
                stall = _stall_of(service, _make_large(number), token)
                if number:
                    stalls.append(stall)
            assert stored(service)["number_of_jobs"] == _LARGE_JOBS + 1
    return Figure(
        "R6 stall",
        "longest event-loop stall, in ms, while a 3 MB job with blobs arrives",
        stalls,
        bar=10,
        is_ceiling=True,
    )


def _make_large(number: int) -> bytes:
    """Return a job of the usual shape with blobs as lsst.verify makes them, 3 MB in all."""
    chance = random.Random(number)
    document = orjson.loads(make_body(number))
    length = _BYTES // _BLOBS // 20
    document["blobs"] = [
        {
            "identifier": f"{chance.getrandbits(128):032x}",
            "name": f"blob_{index}",
            "data": {
                "magnitudes": _datum([chance.uniform(15, 25) for _ in range(length)]),
            },
        }
        for index in range(_BLOBS)
    ]
    for index, measurement in enumerate(document["measurements"]):
        measurement["blob_refs"] = [document["blobs"][index % _BLOBS]["identifier"]]
    body = orjson.dumps(document)
    assert abs(len(body) / _BYTES - 1) < 0.1, len(body)
    return body


def _datum(values: list[float]) -> dict[str, Any]:
    return {"value": values, "unit": "mag", "label": "magnitudes", "description": "Made up."}


def _stall_of(service: Server, body: bytes, token: str) -> float:
    """Return how much longer than usual the slowest ping took during the job."""
    with (
        httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client,
        pinging(service.port, seconds=_PING_S) as pings,
    ):
        time.sleep(_BEFORE_S)
        begun = time.perf_counter()
        reply = client.post(
            "/job",
            content=body,
            headers={"Authorization": f"JWT {token}", "Content-Type": "application/json"},
        )
        ended = time.perf_counter()
        assert reply.status_code == 202, reply.text
        assert ended < begun + _PING_S - _BEFORE_S, "the pings ended before the job"
    before = [took for start, took in pings if start + took < begun]
    during = [took for start, took in pings if start < ended and start + took > begun]
    stall = max(during) - median(before)
    progress(
        f"R6 stall: {stall * 1000:.1f} ms of the {(ended - begun) * 1000:.0f} ms of the job; "
        f"without it a ping took {median(before) * 1000:.2f} ms, at most {max(before) * 1000:.1f}"
    )
    return stall * 1000


def _memory(checkout: Checkout) -> Figure:
    return Figure(
        "R6 memory",
        "memory, in MB, that 10,000 jobs take which InfluxDB, being down, has not got",
        [_memory_of_round(checkout, number) for number in range(1, _ROUNDS + 1)],
        bar=50,
        is_ceiling=True,
    )


def _memory_of_round(checkout: Checkout, number: int) -> float:
    with TemporaryDirectory() as folder:
        # Nothing listens there.
        influx = f"http://127.0.0.1:{free_port()}"
        variables = service_variables(Path(folder), influx=influx, deliver="inline")
        service = service_server(checkout, variables)
        with running(service):
            token = prepare(service)
            _post(service, token, first=0, count=_WARMING)
            before = service.memory_mb()
            _post(service, token, first=_WARMING, count=_JOBS)
            after = service.memory_mb()
    progress(f"R6 memory round {number}: {before:.0f} MB before, {after:.0f} MB after")
    return after - before


def _post(service: Server, token: str, *, first: int, count: int) -> None:
    requests = (
        make_request("/job", make_body(number), token=token)
        for number in range(first, first + count)
    )
    outcome = run_load(service.port, requests, connections=_CONNECTIONS)
    assert outcome.statuses == {202: count}, outcome.statuses
    assert stored(service)["number_of_jobs"] == first + count
