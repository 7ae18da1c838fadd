"""R3: everything that a client does for a job (root, token, job) a second / only jobs a second.

The client is always the same user and logs in for every job, as a pipeline does.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.asking import JSON
from benchmarks.bodies import make_body
from benchmarks.checkout import Checkout
from benchmarks.load import (
    Outcome,
    Script,
    make_get,
    make_request,
    make_requests,
    run_load,
    run_scripts,
)
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    CREDENTIALS,
    Server,
    prepare,
    running,
    service_server,
    service_variables,
    stored,
)

_ROUNDS = 5
_JOBS = 1500
_CONNECTIONS = 64


def measure(checkout: Checkout) -> list[Figure]:
    ratios = []
    with TemporaryDirectory() as folder:
        variables = service_variables(Path(folder), influx=None, deliver="off")
        service = service_server(checkout, variables)
        with running(service):
            token = prepare(service)
            for number in range(_ROUNDS + 1):
                bodies = [make_body(2 * number * _JOBS + index) for index in range(2 * _JOBS)]
                whole = _sequences(service, bodies[:_JOBS])
                assert whole.statuses == {200: 2 * _JOBS, 202: _JOBS}, whole.statuses
                stored(service)
                jobs = run_load(
                    service.port,
                    make_requests("/job", bodies[_JOBS:], token=token),
                    connections=_CONNECTIONS,
                )
                assert jobs.statuses == {202: _JOBS}, jobs.statuses
                assert stored(service)["number_of_jobs"] == 2 * (number + 1) * _JOBS
                # The first round warms up.
                if number:
                    rate = _JOBS / whole.seconds
                    ratios.append(rate / jobs.rate)
                    progress(f"R3 round {number}: {rate:.0f} / {jobs.rate:.0f} a second")
    return [
        Figure(
            "R3",
            "full client sequence (root, auth, job) per second, same user / accepted, fsynced "
            "jobs/s",
            ratios,
            bar=0.4,
        )
    ]


def _sequences(service: Server, bodies: list[bytes]) -> Outcome:
    left = iter(bodies)
    root = make_get("/", accept=JSON)
    login = make_request("/auth", json.dumps(CREDENTIALS).encode())

    def script() -> Script:
        while (body := next(left, None)) is not None:
            yield root
            reply = yield login
            yield make_request("/job", body, token=json.loads(reply)["access_token"])

    return run_scripts(service.port, [script() for _ in range(_CONNECTIONS)])
