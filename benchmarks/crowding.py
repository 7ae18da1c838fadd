"""R5: how long jobs take while other clients keep the service busy / while none do.

The jobs arrive at a steady rate. The other clients are in a separate process: some send wrong
passwords in a loop, others read all kinds of pages on 2 million measurements.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.asking import HTML
from benchmarks.big_record import Size, big_service, make_jobs, metric_name
from benchmarks.bodies import make_body
from benchmarks.checkout import Checkout, make_folder
from benchmarks.crowd import crowd
from benchmarks.load import make_get, make_request, make_requests
from benchmarks.pages import MANY
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    CREDENTIALS,
    Server,
    log_in,
    prepare,
    running,
    service_server,
    service_variables,
    stored,
)
from benchmarks.steady import percentile, run_steadily

_ROUNDS = 5
_LOGIN_CLIENTS, _LOGIN_RATE, _LOGIN_S = 8, 100, 8
_READERS, _READERS_RATE, _READERS_S = 50, 20, 12
_PASSWORDS = 5000
_FIRST_NEW = 10**7


def measure(checkout: Checkout) -> list[Figure]:
    return [_with_logins(checkout), _with_readers(checkout)]


def _with_logins(checkout: Checkout) -> Figure:
    count = _LOGIN_RATE * _LOGIN_S
    wrong = make_requests(
        "/auth",
        [
            json.dumps({**CREDENTIALS, "password": f"a wrong password {number}"}).encode()
            for number in range(_PASSWORDS)
        ],
    )
    with TemporaryDirectory() as folder:
        service = service_server(
            checkout, service_variables(Path(folder), influx=None, deliver="off")
        )
        with running(service):
            token = prepare(service)
            ratios = []
            for number in range(_ROUNDS + 1):
                first = 2 * number * count
                jobs = [
                    make_request("/job", make_body(first + index), token=token)
                    for index in range(2 * count)
                ]
                ratio = _round(
                    f"R5 (logins) round {number}",
                    service,
                    jobs,
                    rate=_LOGIN_RATE,
                    others=wrong,
                    clients=_LOGIN_CLIENTS,
                    # To be told to try again later is an answer too.
                    allowed={401, 429},
                )
                assert stored(service)["number_of_jobs"] == first + 2 * count
                # The first round warms up.
                if number:
                    ratios.append(ratio)
    return Figure(
        "R5 (logins)",
        "p99 of `POST /job` at 100 jobs/s with 8 clients looping on wrong passwords / without",
        ratios,
        bar=1.5,
        is_ceiling=True,
    )


def _with_readers(checkout: Checkout) -> Figure:
    count = _READERS_RATE * _READERS_S
    pages = [make_get(address, accept=HTML) for address in _addresses()]
    with TemporaryDirectory(dir=make_folder("scratch")) as folder:
        service = big_service(checkout, Path(folder, "readers"), MANY)
        with running(service):
            token = log_in(service)
            ratios = []
            for number in range(_ROUNDS + 1):
                new = Size(2 * count, MANY.measurements, days=0.01)
                first = _FIRST_NEW + 2 * number * count
                jobs = [
                    make_request("/job", body, token=token) for body in make_jobs(new, first=first)
                ]
                ratio = _round(
                    f"R5 (readers) round {number}",
                    service,
                    jobs,
                    rate=_READERS_RATE,
                    others=pages,
                    clients=_READERS,
                    # To be told to try again later is an answer too.
                    allowed={200, 429},
                )
                assert stored(service)["number_of_jobs"] == MANY.jobs + 2 * (number + 1) * count
                if number:
                    ratios.append(ratio)
    return Figure(
        "R5 (readers)",
        "p99 of `POST /job` at 20 jobs/s with 50 readers of any page / without",
        ratios,
        bar=3,
        is_ceiling=True,
    )


def _addresses() -> Iterator[str]:
    for number in range(MANY.measurements):
        name = metric_name(number)
        job_id = 1 + number * MANY.jobs // MANY.measurements
        yield "/"
        yield f"/metric/{name}"
        yield f"/metric/{name}?range=2y"
        yield f"/job/{job_id}"
        yield f"/job/{job_id}/report"
        yield "/runs"
        yield "/specs"
        yield "/report"
        yield f"/runs/big_drp/{number}"
        yield f"/measurements?metric={name}&limit=100"


def _round(
    name: str,
    service: Server,
    jobs: Sequence[bytes],
    *,
    rate: float,
    others: Sequence[bytes],
    clients: int,
    allowed: set[int],
) -> float:
    """Send half of the jobs with other clients, half without; return the ratio of their p99."""
    half = len(jobs) // 2
    with crowd(service.port, others, connections=clients, seconds=half / rate) as statuses:
        busy = run_steadily(service.port, jobs[:half], rate=rate, status=202)
    assert statuses.keys() <= allowed, statuses
    stored(service)
    idle = run_steadily(service.port, jobs[half:], rate=rate, status=202)
    with_them, without = (percentile(times, 99) for times in (busy, idle))
    progress(
        f"{name}: {with_them * 1000:.1f} / {without * 1000:.1f} ms; "
        f"median {percentile(busy, 50) * 1000:.1f} / {percentile(idle, 50) * 1000:.1f} ms; "
        f"replies to the others: {statuses}"
    )
    return with_them / without
