"""S1 and S2: what a record of 100 million values costs / one of 10 million; 100,000 series.

Both records have as many jobs a day and the same metrics in the same series; the larger one goes
back ten times as far. So each answer shows as much, and what grows is what the length of the record
costs. Of everything the processor time is measured, of the service and the processes that read.
`python -m benchmarks.scale --times 300 --of 30` compares smaller ones, and writes nothing.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.asking import HTML, JSON, asking
from benchmarks.big_record import Size, metric_name
from benchmarks.bulk_record import Bulk, bulk_service
from benchmarks.checkout import Checkout, make_folder
from benchmarks.report import Figure, make_table, progress
from benchmarks.servers import Server, recorder_server, running, wait_until

_SEED = Size(1000, 100, days=7.3)
_MANY, _FEW = 1000, 100
_ROUNDS = 3
_BAR = 1.3
_SERIES = Bulk(Size(990, 100, days=7.3, detectors=66), 3, is_expected=True)
_HEARTBEAT = b"squash_heartbeat "
_YEAR = "/report?since=365d"
_EXPORT = "/measurements?format=csv&since=30d"
_ASKED = (
    ("first page", "the first page after a start", "/", HTML, 1),
    ("/", "the front page", "/", HTML, 30),
    ("/metric", "a metric's page, two years", f"/metric/{metric_name(7)}?range=2y", HTML, 30),
    ("export", "an export of 30 days as CSV", _EXPORT, "text/csv", 1),
    ("report", "`/report` of a year", _YEAR, JSON, 1),
)


def measure(checkout: Checkout) -> list[Figure]:
    return [
        *measure_length(checkout),
        *measure_watch(checkout),
        *measure_series(checkout),
    ]


def measure_length(
    checkout: Checkout, many: int = _MANY, few: int = _FEW, *, rounds: int = _ROUNDS
) -> list[Figure]:
    """Compare records that have the jobs of the seed so many times."""
    found: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
    for number in range(rounds):
        for times, measured in zip((many, few), found, strict=True):
            with _watched(checkout, Bulk(_SEED, times)) as (service, _, _):
                taken = {"start": service.processor_s(has_children=True), **_asked(service)}
                taken["memory"] = service.peak_memory_mb()
            for name, value in taken.items():
                measured.setdefault(name, []).append(value)
        progress(f"S1 round {number + 1}: {_last(found[0])} / {_last(found[1])}")
    meanings = {
        "start": "start to the first reply, s of a processor",
        **{name: f"{meaning}, s of a processor" for name, meaning, *_ in _ASKED},
        "memory": "memory of the service at most, MB",
    }
    return [
        _compared(f"S1 {name}", meaning, (many, few), [item[name] for item in found])
        for name, meaning in meanings.items()
    ]


def measure_watch(checkout: Checkout, many: int = _MANY, few: int = _FEW) -> list[Figure]:
    """Compare the processor time of the watch in a minute in which nothing comes."""
    taken = []
    for times in (many, few):
        with _watched(checkout, Bulk(_SEED, times)) as (_, _, minute):
            taken.append([minute() for _ in range(_ROUNDS)])
    meaning = "processor time of the watch in a minute, s"
    return [_compared("S3", meaning, (many, few), taken)]


def _asked(service: Server) -> dict[str, float]:
    found = {}
    for name, _, address, accept, count in _ASKED:
        with asking(service, accept) as ask:
            before = service.processor_s(has_children=True)
            for _ in range(count):
                ask(address)
            found[name] = (service.processor_s(has_children=True) - before) / count
    return found


def _compared(
    name: str, meaning: str, sizes: tuple[int, int], rounds: Sequence[Sequence[float]]
) -> Figure:
    large, small = (f"{Bulk(_SEED, times).total // 10**6} million" for times in sizes)
    medians = " / ".join(f"{median(values):.3g}" for values in rounds)
    return Figure(
        name,
        f"{meaning}: with {large} values in the record / with {small} ({medians})",
        [with_many / max(with_few, 1e-2) for with_many, with_few in zip(*rounds, strict=True)],
        bar=_BAR,
        is_ceiling=True,
    )


def _last(measured: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{name} {values[-1]:.3g}" for name, values in measured.items())


def measure_series(checkout: Checkout) -> list[Figure]:
    """Measure what the watch takes with 100,000 series: its first minute, and those after it."""
    starts, minutes = [], []
    for _ in range(_ROUNDS):
        with _watched(checkout, _SERIES) as (_, start, minute):
            starts.append(start())
            minutes.append(minute())
        progress(f"S2: {starts[-1]:.2f} s at start, {minutes[-1]:.2f} s a minute")
    series = _SERIES.seed.series * _SERIES.seed.detectors * _SERIES.seed.measurements
    what = f"processor time, in s, of the watch over {series:,} series, each of which is expected"
    return [
        Figure("S2 start", f"{what}, its first minute", starts, bar=5, is_ceiling=True),
        Figure("S2 minute", f"{what}, each further minute", minutes, bar=0.5, is_ceiling=True),
    ]


_Waits = Callable[[], float]


@contextmanager
def _watched(checkout: Checkout, bulk: Bulk) -> Iterator[tuple[Server, _Waits, _Waits]]:
    """Run a service that watches.

    Yields
    ------
    tuple
        The service; what waits until the watch has written once, and returns the processor time
        that this took since the start; and the same for the next minute, without what the service
        takes when it does nothing.
    """
    with TemporaryDirectory(dir=make_folder("scratch")) as folder:
        lines = Path(folder, "lines")
        lines.touch()
        influx = recorder_server(lines)
        service = bulk_service(checkout, Path(folder), bulk, influx=influx)
        with running(influx, service):
            begun_s = service.processor_s()

            def start() -> float:
                _await_minutes(lines, 1)
                return _when_quiet(service) - begun_s

            def minute() -> float:
                _await_minutes(lines, 1)
                before, begun = _when_quiet(service), time.perf_counter()
                known = _minutes(lines)
                idle = _idle(service)
                _await_minutes(lines, known + 1)
                taken = _when_quiet(service) - before
                return max(taken - idle * (time.perf_counter() - begun), 0.0)

            yield service, start, minute


def _minutes(lines: Path) -> int:
    return lines.read_bytes().count(_HEARTBEAT)


def _await_minutes(lines: Path, count: int) -> None:
    wait_until(lambda: _minutes(lines) >= count, seconds=180)


def _when_quiet(service: Server) -> float:
    """Wait until the service does nothing; return the processor time that it has taken by then."""
    while True:
        taken = service.processor_s()
        time.sleep(1)
        if service.processor_s() - taken < 0.1:
            return taken


def _idle(service: Server) -> float:
    """Return how much processor time a second the service takes when it does nothing."""
    before, begun = service.processor_s(), time.perf_counter()
    time.sleep(5)
    return (service.processor_s() - before) / (time.perf_counter() - begun)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--times", type=int, default=_MANY, help="size of the larger record")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="how often each is measured")
    parser.add_argument("--of", type=int, default=_FEW, help="size of the smaller, in 100,000")
    arguments = parser.parse_args()
    print(
        make_table(
            measure_length(Checkout(), arguments.times, arguments.of, rounds=arguments.rounds)
        )
    )
