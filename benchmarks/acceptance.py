"""R1: accepted, fsynced jobs a second / a FastAPI echo of the same bodies; and the floor of it."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bodies import make_body
from benchmarks.checkout import Checkout
from benchmarks.load import make_requests, run_load
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    echo_server,
    floor_server,
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
        variables = service_variables(Path(folder), influx=None, deliver="off")
        service, echo = service_server(checkout, variables), echo_server()
        floor = floor_server(Path(folder, "floor.db"))
        with running(service, echo, floor):
            token = prepare(service)
            ratios, floors = [], []
            for number in range(_ROUNDS + 1):
                bodies = [make_body(number * _JOBS + index) for index in range(_JOBS)]
                ours = run_load(
                    service.port,
                    make_requests("/job", bodies, token=token),
                    connections=_CONNECTIONS,
                )
                theirs = run_load(
                    echo.port, make_requests("/echo", bodies), connections=_CONNECTIONS
                )
                barest = run_load(
                    floor.port, make_requests("/job", bodies), connections=_CONNECTIONS
                )
                assert ours.statuses == {202: _JOBS}, ours.statuses
                assert barest.statuses == {200: _JOBS}, barest.statuses
                assert theirs.statuses == {200: _JOBS}, theirs.statuses
                # The index is derived after the replies, but must not run into the next round.
                stored(service)
                # The first round warms both up.
                if number:
                    ratios.append(ours.rate / theirs.rate)
                    floors.append(barest.rate / theirs.rate)
                    progress(
                        f"R1 round {number}: {ours.rate:.0f} / {theirs.rate:.0f} a second; "
                        f"floor {barest.rate:.0f}"
                    )
            assert stored(service)["number_of_jobs"] == (_ROUNDS + 1) * _JOBS
    return [
        Figure(
            "R1",
            "accepted, fsynced jobs/s (24 kB, 100 measurements, 40 packages; token checked) / "
            "FastAPI echo of the same body",
            ratios,
            bar=0.5,
        ),
        Figure(
            "R1 floor",
            "the same in its barest form (decoded, one row each, fsynced; nothing checked) / the "
            "same echo",
            floors,
            bar=None,
        ),
    ]
