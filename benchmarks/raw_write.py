"""What R2 is compared with: the same points posted to `/write`, one request per job.

The points are those that the service makes. It is let to write them once, beforehand, to what
keeps them in a file.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bodies import PACKAGE, make_body
from benchmarks.checkout import Checkout
from benchmarks.load import make_request, run_load
from benchmarks.servers import (
    prepare,
    recorder_server,
    running,
    service_server,
    service_variables,
)

_CONNECTIONS = 64


def record_points(checkout: Checkout, folder: Path, *, jobs: int) -> list[bytes]:
    """Return the points that a service makes of this number of jobs, as lines."""
    folder.mkdir()
    path = folder / "lines"
    path.touch()
    recorder = recorder_server(path)
    variables = service_variables(folder, influx=recorder.url, deliver="inline")
    service = service_server(checkout, variables)
    with running(recorder, service):
        token = prepare(service)
        requests = (make_request("/job", make_body(number), token=token) for number in range(jobs))
        outcome = run_load(service.port, requests, connections=_CONNECTIONS)
        assert outcome.statuses == {202: jobs}, outcome.statuses
        deadline = time.monotonic() + 120
        while len(lines := _lines(path)) < jobs and time.monotonic() < deadline:
            time.sleep(0.2)
    assert len(lines) == jobs, f"{len(lines)} points of {jobs} jobs"
    return lines


def _lines(path: Path) -> list[bytes]:
    # Code changes and what the watch writes are other measurements.
    start = f"{PACKAGE},".encode()
    return [line for line in path.read_bytes().split(b"\n") if line.startswith(start)]


def make_writes(lines: Sequence[bytes], *, database: str) -> list[bytes]:
    """Return write requests of one point each."""
    head = f"POST /write?db={database}&precision=ns HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return [f"{head}Content-Length: {len(line)}\r\n\r\n".encode() + line for line in lines]
