"""Pages over a record of two years and 2 million measurements, and an export of all of it.

The ratios are with the time that the same page takes over 20 thousand measurements and shows as
much: as many metrics where it is about many, as many values where it is about those of one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx

from benchmarks.big_record import FILTERS, make_big_record, metric_name
from benchmarks.report import Figure, progress
from benchmarks.servers import Server, running, service_server, service_variables

_ROUNDS = 5
_REQUESTS = 7
_MANY_JOBS, _FEW_JOBS = 20_000, 200
_MEASUREMENTS = 100
_BAR_RATIO = 1.3
_BAR_MS = 300
_BAR_MB = 400
_HTML = "text/html,*/*;q=0.8"
_JSON = "application/json"


def measure() -> list[Figure]:
    with TemporaryDirectory() as folder:
        big = _service(Path(folder, "big"), _MANY_JOBS, _MEASUREMENTS)
        few_jobs = _service(Path(folder, "few_jobs"), _FEW_JOBS, _MEASUREMENTS)
        one_metric = _service(Path(folder, "one_metric"), _MANY_JOBS, 1)
        with running(big, few_jobs, one_metric):
            figures = [
                *_figures(big, few_jobs, "/", "all metrics as they stand", lambda _: "/"),
                *_figures(
                    big, one_metric, "/metric", "a metric's page, two years", _metric_page, last=1
                ),
                *_figures(
                    big, one_metric, "plot", "its plot, two years", _plot, last=1, accept=_JSON
                ),
                *_figures(
                    big,
                    few_jobs,
                    "/measurements",
                    "filtered values",
                    _values,
                    accept=_JSON,
                ),
            ]
        with running(big):
            return [*figures, _export(big)]


def _metric_page(number: int) -> str:
    return f"/metric/{metric_name(number)}?range=2y"


def _plot(number: int) -> str:
    return f"/metric/{metric_name(number)}/plot?range=2y"


def _values(number: int) -> str:
    filter_ = FILTERS[number % len(FILTERS)]
    return (
        f"/measurements?metric={metric_name(number)}&filter={filter_}&meta.seeing=0.5..0.9&limit=20"
    )


def _service(folder: Path, jobs: int, measurements: int) -> Server:
    folder.mkdir()
    progress(f"{jobs} jobs with {measurements} measurements each")
    make_big_record(folder / "squash.db", jobs, measurements)
    return service_server(service_variables(folder, influx=None, deliver="off"))


def _figures(
    big: Server,
    small: Server,
    name: str,
    meaning: str,
    address: Callable[[int], str],
    *,
    last: int = _MEASUREMENTS,
    accept: str = _HTML,
) -> list[Figure]:
    """Return the ratio of the two records, and the time with the big one.

    `last` metrics are in both.
    """
    ratios, times_ms = [], []
    with _asking(big, accept) as ask_big, _asking(small, accept) as ask_small:
        for number in range(_ROUNDS + 1):
            numbers = range(number * _REQUESTS, (number + 1) * _REQUESTS)
            pairs = [
                (ask_big(shared), ask_small(shared))
                for shared in (address(index % last) for index in numbers)
            ]
            with_many, with_few = map(median, zip(*pairs, strict=True))
            # Somebody may open any metric's page, also one that nobody has before.
            unseen = [ask_big(address(index % _MEASUREMENTS)) for index in numbers]
            # The first round warms both up.
            if number:
                ratios.append(with_many / with_few)
                times_ms.append(median(unseen) * 1000)
                progress(f"{name} round {number}: {with_many:.4f} / {with_few:.4f} s")
    return [
        Figure(
            f"{name} ratio",
            f"{meaning}: time with 2 million measurements in the record / with 20 thousand",
            median(ratios),
            bar=_BAR_RATIO,
            spread=(min(ratios), max(ratios)),
            is_ceiling=True,
        ),
        Figure(
            f"{name} ms",
            f"{meaning}: ms, with 2 million measurements in the record",
            median(times_ms),
            bar=_BAR_MS,
            spread=(min(times_ms), max(times_ms)),
            is_ceiling=True,
        ),
    ]


@contextmanager
def _asking(service: Server, accept: str) -> Iterator[Callable[[str], float]]:
    """Give a function that asks for an address and returns how long that took, in s."""
    with httpx.Client(
        base_url=service.url, headers={"Accept": accept}, trust_env=False, timeout=300
    ) as client:

        def ask(address: str) -> float:
            started = time.perf_counter()
            reply = client.get(address)
            seconds = time.perf_counter() - started
            assert reply.status_code == 200, reply.text
            assert reply.headers["Content-Type"].split(";")[0] in accept
            return seconds

        yield ask


def _export(service: Server) -> Figure:
    """Return how much memory a service takes that has just started and gives away everything."""
    with httpx.stream(
        "GET", f"{service.url}/measurements?format=csv", trust_env=False, timeout=600
    ) as reply:
        lines = sum(chunk.count(b"\n") for chunk in reply.iter_bytes())
    # A few are absent.
    assert lines > 0.99 * _MANY_JOBS * _MEASUREMENTS, lines
    return Figure(
        "export MB",
        "memory of the service at most, in MB, from its start through the export of 2 million "
        "measurements as CSV",
        service.peak_memory_mb(),
        bar=_BAR_MB,
        is_ceiling=True,
    )
