"""Pages over a record of two years and 2 million measurements, and an export of all of it.

The ratios compare with the same page over 20 thousand measurements that shows the same amount: as
many metrics on pages about many, as many values on pages about one.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import orjson

from benchmarks.asking import HTML, JSON, asking, time_pairs
from benchmarks.big_record import FILTERS, Size, big_service, make_jobs, metric_name
from benchmarks.checkout import Checkout, make_folder
from benchmarks.load import make_requests, run_load
from benchmarks.report import Figure, progress
from benchmarks.servers import Server, log_in, running, stored

_ROUNDS = 5
_REQUESTS = 7
_EXPORTS = 3
_REPORTS = 20
_FIRST_NEW = 10**7
_MEASUREMENTS = 100
MANY = Size(20_000, _MEASUREMENTS)
_FEW_JOBS = Size(200, _MEASUREMENTS)
_ONE_METRIC = Size(20_000, 1)
_BAR_RATIO = 1.3
_WEEK = """
    SELECT metric_id, job_id, value FROM measurement
    WHERE metric_id IN (SELECT id FROM metric)
    AND job_id >= (SELECT min(job_id) FROM job_context WHERE time_ns >= ?)
"""
_BAR_MS = 300
_BAR_MB = 400


def measure(checkout: Checkout) -> list[Figure]:
    with TemporaryDirectory(dir=make_folder("scratch")) as folder:
        big = big_service(checkout, Path(folder, "big"), MANY)
        few_jobs = big_service(checkout, Path(folder, "few_jobs"), _FEW_JOBS)
        one_metric = big_service(checkout, Path(folder, "one_metric"), _ONE_METRIC)
        with running(big, few_jobs, one_metric):
            figures = [
                *_figures(big, few_jobs, "/", "all metrics as they stand", lambda _: "/"),
                *_figures(
                    big, one_metric, "/metric", "a metric's page, two years", _metric_page, last=1
                ),
                *_figures(
                    big, one_metric, "plot", "its plot, two years", _plot, last=1, accept=JSON
                ),
                *_figures(
                    big,
                    few_jobs,
                    "/measurements",
                    "filtered values",
                    _values,
                    accept=JSON,
                ),
            ]
        return [*figures, _exports(big)]


def measure_report(checkout: Checkout) -> list[Figure]:
    """R12: the report of the last seven days, each time just after a job, as JSON and as a page."""
    with TemporaryDirectory(dir=make_folder("scratch")) as folder:
        service = big_service(checkout, Path(folder, "reports"), MANY)
        with running(service):
            token = log_in(service)
            jobs = make_jobs(Size(_REPORTS + 1, _MEASUREMENTS, days=0.001), first=_FIRST_NEW)
            times_ms: dict[str, list[float]] = {JSON: [], HTML: []}
            for number, request in enumerate(make_requests("/job", jobs, token=token)):
                posted = run_load(service.port, [request], connections=1)
                assert posted.statuses == {202: 1}, posted.statuses
                stored(service)
                for accept, found in times_ms.items():
                    with asking(service, accept) as ask:
                        took_ms = ask("/report") * 1000
                    # The first round warms up.
                    if number:
                        found.append(took_ms)
            answer = httpx.get(f"{service.url}/report", trust_env=False, timeout=60).json()
            floors = [_floor(Path(folder, "reports", "squash.db"), answer) for _ in range(_REPORTS)]
    progress(f"R12: {', '.join(f'{median(found):.0f}' for found in times_ms.values())} ms")
    what = f"a week over {_MEASUREMENTS} metrics, with 2 million measurements in the record"
    return [
        *(
            Figure(name, f"{meaning} of {what}: ms", times_ms[accept], bar=150, is_ceiling=True)
            for name, meaning, accept in (
                ("R12 report", "`/report`", JSON),
                ("R12 page", "the page of `/report`", HTML),
            )
        ),
        Figure(
            "R12 floor",
            "reading the same values from the file, in one statement, and writing the same answer "
            "as JSON: ms",
            floors,
            bar=None,
        ),
    ]


def _floor(file: Path, answer: Any) -> float:
    """Return how long it takes, in ms, to read what a report judges, and to write what it says."""
    started = time.perf_counter()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as record:
        rows = record.execute(_WEEK, (time.time_ns() - 7 * 86_400 * 10**9,)).fetchall()
    orjson.dumps(answer)
    taken_ms = (time.perf_counter() - started) * 1000
    # Jobs are posted a few at a time, so that some of these ids are a little older.
    assert len(rows) >= answer["summary"]["values"], len(rows)
    return taken_ms


def _metric_page(number: int) -> str:
    return f"/metric/{metric_name(number)}?range=2y"


def _plot(number: int) -> str:
    return f"/metric/{metric_name(number)}/plot?range=2y"


def _values(number: int) -> str:
    filter_ = FILTERS[number % len(FILTERS)]
    return (
        f"/measurements?metric={metric_name(number)}&filter={filter_}&meta.seeing=0.5..0.9&limit=20"
    )


def _figures(
    big: Server,
    small: Server,
    name: str,
    meaning: str,
    address: Callable[[int], str],
    *,
    last: int = _MEASUREMENTS,
    accept: str = HTML,
) -> list[Figure]:
    """Return the ratio of the two records, and the time with the big one.

    `last` metrics are in both.
    """
    ratios, times_ms = [], []
    with asking(big, accept) as ask_big, asking(small, accept) as ask_small:
        for number in range(_ROUNDS + 1):
            numbers = range(number * _REQUESTS, (number + 1) * _REQUESTS)
            addresses = [address(index % last) for index in numbers]
            with_many, with_few = time_pairs(ask_big, ask_small, addresses)
            # People open pages of any metric, even pages that were never opened before.
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
            ratios,
            bar=_BAR_RATIO,
            is_ceiling=True,
        ),
        Figure(
            f"{name} ms",
            f"{meaning}: ms, with 2 million measurements in the record",
            times_ms,
            bar=_BAR_MS,
            is_ceiling=True,
        ),
    ]


def _exports(service: Server) -> Figure:
    """Return how much memory a newly started service needs to export everything."""
    peaks = []
    for number in range(_EXPORTS):
        with running(service):
            peaks.append(_export(service))
        progress(f"export {number + 1}: {peaks[-1]:.0f} MB")
    return Figure(
        "export MB",
        "memory of the service at most, in MB, from its start through the export of 2 million "
        "measurements as CSV",
        peaks,
        bar=_BAR_MB,
        is_ceiling=True,
    )


def _export(service: Server) -> float:
    with httpx.stream(
        "GET", f"{service.url}/measurements?format=csv", trust_env=False, timeout=600
    ) as reply:
        lines = sum(chunk.count(b"\n") for chunk in reply.iter_bytes())
    # A few are absent.
    assert lines > 0.99 * MANY.total, lines
    return service.peak_memory_mb()
