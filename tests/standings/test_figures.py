"""The figures of a process, as Prometheus reads them and as the points have them."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from squash_api.ingest.assessment import Skip
from squash_api.ingest.ingest import Ingested, Outcome
from squash_api.record.deliveries import Backlog
from squash_api.record.storing import Stored
from squash_api.schema import watch as names
from squash_api.standings.figures import Figures, oldest_s

OUTCOME = Outcome(kept=2, absent=["p.c"], skipped=[Skip("p.d", "text")] * 3)


def counted(figures: Figures, *backlogs: Backlog) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the exposed values by name and values of the labels."""
    figures.learn(backlogs, underived_ns=None, now_ns=time.time_ns())
    text = figures.expose().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ingested(*, is_repeat: bool = False) -> Ingested:
    return Ingested(Stored(1, 0, 0, is_repeat=is_repeat), OUTCOME)


def backlog(
    *, oldest_ns: int | None = None, trouble: str | None = None, target: str = "base"
) -> Backlog:
    return Backlog(target, 4, oldest_ns, 2, trouble, None)


def test_requests_are_counted_by_method_route_and_status() -> None:
    figures = Figures()
    for seconds in (0.003, 0.004):
        figures.count_request(method="GET", route="/job/{job_id}", status=200, seconds=seconds)
    figures.count_request(method="GET", route="/job/{job_id}", status=404, seconds=0.1)
    found = counted(figures)
    assert found["squash_request_seconds_count", ("GET", "/job/{job_id}", "200")] == 2
    assert found["squash_request_seconds_sum", ("GET", "/job/{job_id}", "404")] == 0.1


def test_a_stored_job_is_counted_with_its_values() -> None:
    figures = Figures()
    figures.count_job(ingested())
    found = counted(figures)
    assert found["squash_jobs_total", ("stored",)] == 1
    assert [found["squash_values_total", (kind,)] for kind in ("kept", "absent", "skipped")] == [
        2,
        1,
        3,
    ]


def test_a_repeated_job_is_counted_without_its_values() -> None:
    figures = Figures()
    figures.count_job(ingested(is_repeat=True))
    found = counted(figures)
    assert found["squash_jobs_total", ("repeated",)] == 1
    values = [figure for (name, _), figure in found.items() if name == "squash_values_total"]
    assert values == [0, 0, 0]


def test_delivery_is_shown_by_target() -> None:
    found = counted(Figures(), backlog(), backlog(target="summit"))
    for target in ("base", "summit"):
        assert found["squash_delivery_waiting", (target,)] == 4
        assert found["squash_delivery_quarantined", (target,)] == 2


def test_delivery_is_shown_as_it_is_now() -> None:
    figures = Figures()
    figures.learn([backlog()], underived_ns=None, now_ns=time.time_ns())
    found = counted(figures, Backlog("base", 0, None, 0, None, None))
    assert found["squash_delivery_waiting", ("base",)] == 0


@pytest.mark.parametrize(("trouble", "up"), [(None, 1), ("timed out", 0)])
def test_trouble_shows_as_down(trouble: str | None, up: int) -> None:
    found = counted(Figures(), backlog(trouble=trouble))
    assert found["squash_delivery_up", ("base",)] == up


def test_the_age_of_the_oldest_job_is_in_seconds() -> None:
    found = counted(Figures(), backlog(oldest_ns=time.time_ns() - 3600 * 10**9))
    assert 3600 <= found["squash_delivery_oldest_seconds", ("base",)] < 3700


@pytest.mark.parametrize("oldest_ns", [None, 2**62])
def test_there_is_no_age_where_nothing_waits(oldest_ns: int | None) -> None:
    found = counted(Figures(), backlog(oldest_ns=oldest_ns))
    assert found["squash_delivery_oldest_seconds", ("base",)] == 0


def test_two_services_in_one_process_count_apart() -> None:
    one, other = Figures(), Figures()
    one.count_job(ingested())
    assert counted(other)["squash_jobs_total", ("stored",)] == 0


@pytest.fixture
def serving() -> Figures:
    """The figures of a service, for which a minute passes whenever they are asked for."""
    clock = iter(range(0, 10_000, 60))
    figures = Figures(clock=lambda: float(next(clock)))
    figures.observe("squash_connections", "", lambda: 30)
    figures.observe("squash_most_connections", "", lambda: 40)
    return figures


def request(figures: Figures, status: int, *, method: str = "POST", route: str = "/job") -> None:
    figures.count_request(method=method, route=route, status=status, seconds=0.01)


@pytest.mark.parametrize(
    ("status", "method", "route", "counted_as"),
    [
        (202, "POST", "/job", set()),
        (304, "GET", "/", set()),
        (500, "GET", "/", {names.FAILED}),
        (503, "POST", "/job", {names.FAILED}),
        (429, "POST", "/job", {names.LIMITED}),
        (404, "GET", "unknown", {names.REFUSED}),
        (422, "POST", "/job", {names.REFUSED, names.REFUSED_JOBS}),
        (401, "POST", "/job", {names.REFUSED}),
        (422, "GET", "/job/{job_id}", {names.REFUSED}),
    ],
)
def test_a_reply_is_counted_by_whose_fault_it_is(
    serving: Figures, status: int, method: str, route: str, counted_as: set[str]
) -> None:
    request(serving, status, method=method, route=route)
    found = serving.fields()
    kinds = (names.FAILED, names.LIMITED, names.REFUSED, names.REFUSED_JOBS)
    assert {name for name in kinds if found[name]} == counted_as


def test_what_was_refused_is_forgotten_after_ten_minutes(serving: Figures) -> None:
    request(serving, 500)
    assert [serving.fields()[names.FAILED] for _ in range(12)] == [1.0] * 10 + [0.0] * 2


def test_jobs_are_counted_from_point_to_point(serving: Figures) -> None:
    rates = []
    for count in (120, 30, 0):
        for _ in range(count):
            serving.count_job(ingested())
        rates.append(serving.fields()[names.JOBS_PER_S])
    assert rates == [2.0, 0.5, 0.0]


def test_a_gauge_is_a_field_and_its_part_of_the_most_another(serving: Figures) -> None:
    found = serving.fields()
    assert (found[names.CONNECTIONS], found[names.CONNECTIONS_PERCENT]) == (30.0, 75.0)


def test_what_a_process_does_not_have_is_no_field() -> None:
    figures = Figures()
    figures.observe("squash_record_disk_free_bytes", "", lambda: float("nan"))
    found = figures.fields()
    assert not found.keys() & {names.JOBS_PER_S, names.READERS, names.DISK_FREE_GB}
    assert found[names.MEMORY_MB] > 1


@pytest.mark.parametrize(
    ("oldest_ns", "refill_since_ns", "seconds"),
    [(None, None, 0), (40, None, 60), (40, 90, 10), (95, 90, 5), (200, None, 0)],
)
def test_while_a_target_is_filled_again_jobs_wait_since_that_began(
    oldest_ns: int | None, refill_since_ns: int | None, seconds: float
) -> None:
    times = [None if item is None else item * 10**9 for item in (oldest_ns, refill_since_ns)]
    item = Backlog("base", 1, times[0], 0, None, None, refill_since_ns=times[1])
    assert oldest_s(item, now_ns=100 * 10**9) == seconds
