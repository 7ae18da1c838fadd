"""R7: what 10 million measurements in the record cost / 10 thousand.

Either side shows as much: on the front page the same metrics in the same series, on the page of a
metric as many values. So the 10 thousand are once of all metrics, once of one. The front page is
asked for just after a job, since it is made anew with each.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.asking import HTML, Ask, asking, time_pairs
from benchmarks.big_record import Size, big_service, make_jobs, metric_name
from benchmarks.checkout import Checkout, make_folder
from benchmarks.load import make_requests, run_load
from benchmarks.report import Figure, progress
from benchmarks.servers import Server, log_in, running, stored

_ROUNDS = 9
_REQUESTS = 7
_ASKED = (_ROUNDS + 1) * _REQUESTS
_JOBS = 200
_CONNECTIONS = 8
_FIRST_NEW = 10**7
_MEASUREMENTS = 100
_SERIES = 3
_MANY = Size(100_000, _MEASUREMENTS, days=730, series=_SERIES)
_FEW_JOBS = Size(100, _MEASUREMENTS, days=0.73, series=_SERIES)
_ONE_METRIC = Size(10_000, 1, days=73, series=_SERIES)


def measure(checkout: Checkout) -> list[Figure]:
    with TemporaryDirectory(dir=make_folder("scratch")) as folder:
        big = big_service(checkout, Path(folder, "big"), _MANY)
        few_jobs = big_service(checkout, Path(folder, "few_jobs"), _FEW_JOBS)
        one_metric = big_service(checkout, Path(folder, "one_metric"), _ONE_METRIC)
        with running(big, few_jobs, one_metric):
            return [
                _metric_page(big, one_metric),
                _front_page(big, few_jobs),
                # Last, since the jobs make a small record larger.
                _posting(big, few_jobs),
            ]


def _metric_page(big: Server, small: Server) -> Figure:
    # The only metric that both have.
    address = f"/metric/{metric_name(0)}?range=30d"
    with asking(big, HTML) as ask_big, asking(small, HTML) as ask_small:
        return _pages("R7 /metric", "a metric's page, 30 days", ask_big, ask_small, address)


def _front_page(big: Server, small: Server) -> Figure:
    with asking(big, HTML) as ask_big, asking(small, HTML) as ask_small:
        return _pages(
            "R7 /", "front page", _after_a_job(big, ask_big), _after_a_job(small, ask_small), "/"
        )


def _after_a_job(service: Server, ask: Ask) -> Ask:
    token = log_in(service)
    jobs = make_jobs(Size(_ASKED, _MEASUREMENTS, days=0.001, series=_SERIES), first=_FIRST_NEW)

    def ask_after_a_job(address: str) -> float:
        _rate(service, [next(jobs)], token=token)
        return ask(address)

    return ask_after_a_job


def _pages(name: str, meaning: str, big: Ask, small: Ask, address: str) -> Figure:
    ratios = []
    for number in range(_ROUNDS + 1):
        with_many, with_few = time_pairs(big, small, [address] * _REQUESTS)
        # The first round warms both up.
        if number:
            ratios.append(with_many / with_few)
            progress(f"{name} round {number}: {with_many:.4f} / {with_few:.4f} s")
    return _figure(name, meaning, ratios)


def _posting(big: Server, small: Server) -> Figure:
    ratios = []
    tokens = log_in(big), log_in(small)
    for number in range(_ROUNDS + 1):
        new = Size(_JOBS, _MEASUREMENTS, days=0.001, series=_SERIES)
        bodies = list(make_jobs(new, first=_FIRST_NEW + _ASKED + number * _JOBS))
        rates = [
            _rate(service, bodies, token=token)
            for service, token in zip((big, small), tokens, strict=True)
        ]
        # The first round warms both up.
        if number:
            with_many, with_few = (1 / rate for rate in rates)
            ratios.append(with_many / with_few)
            progress(f"R7 job round {number}: {with_many:.5f} / {with_few:.5f} s")
    posted = _ASKED + (_ROUNDS + 1) * _JOBS
    for service, size in ((big, _MANY), (small, _FEW_JOBS)):
        stats = stored(service)
        assert stats["number_of_jobs"] == size.jobs + posted, stats
        assert stats["number_of_measurements"] == size.total + posted * _MEASUREMENTS, stats
    return _figure("R7 job", "a job posted", ratios)


def _rate(service: Server, bodies: Sequence[bytes], *, token: str) -> float:
    outcome = run_load(
        service.port, make_requests("/job", bodies, token=token), connections=_CONNECTIONS
    )
    assert outcome.statuses == {202: len(bodies)}, outcome.statuses
    # What is derived after the replies must not run into the turn of the other.
    stored(service)
    return outcome.rate


def _figure(name: str, meaning: str, ratios: Sequence[float]) -> Figure:
    return Figure(
        name,
        f"{meaning}: time with 10 million measurements in the record / with 10 thousand",
        ratios,
        bar=1.2,
        is_ceiling=True,
    )
