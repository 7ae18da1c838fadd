"""R11: p99 / p50 of `POST /job` at a steady rate, deriving and delivering beside it.

One service as it is by default: it delivers to InfluxDB and Kapacitor, derives the index, raises
alerts and watches, all meanwhile.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bodies import MEASUREMENTS, make_body
from benchmarks.checkout import Checkout
from benchmarks.load import make_request
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    count_values,
    influx_server,
    kapacitor_server,
    prepare,
    running,
    service_server,
    service_variables,
    stored,
    wait_until,
)
from benchmarks.steady import percentile, run_steadily

_ROUNDS = 5
_RATE, _SECONDS = 100, 10
_JOBS = _RATE * _SECONDS


def measure(checkout: Checkout) -> list[Figure]:
    ratios = []
    with TemporaryDirectory() as folder:
        influx, kapacitor = influx_server(Path(folder)), kapacitor_server()
        variables = service_variables(
            Path(folder), influx=influx.url, kapacitor=kapacitor.url, deliver="inline"
        )
        service = service_server(checkout, variables)
        with running(influx, kapacitor, service):
            token = prepare(service)
            for number in range(_ROUNDS + 1):
                jobs = [
                    make_request("/job", make_body(number * _JOBS + index), token=token)
                    for index in range(_JOBS)
                ]
                times = run_steadily(service.port, jobs, rate=_RATE, status=202)
                wanted = (number + 1) * _JOBS
                wait_until(lambda: count_values(influx) >= wanted * MEASUREMENTS)  # noqa: B023
                assert stored(service)["number_of_jobs"] == wanted
                # The first round warms up.
                if number:
                    half, most = percentile(times, 50), percentile(times, 99)
                    ratios.append(most / half)
                    progress(f"R11 round {number}: {most * 1000:.1f} / {half * 1000:.1f} ms")
    return [
        Figure(
            "R11",
            "p99 / p50 of `POST /job` at a steady 100 jobs/s, deriving and delivering beside it",
            ratios,
            bar=4,
            is_ceiling=True,
        )
    ]
