import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from squash_api.ingest.assessment import Skip
from squash_api.ingest.ingest import Ingested, Outcome
from squash_api.record.deliveries import Backlog
from squash_api.record.storing import Stored
from squash_api.routes.counters import Counters

OUTCOME = Outcome(kept=2, absent=["p.c"], skipped=[Skip("p.d", "text")] * 3)


def figures(counters: Counters, *backlogs: Backlog) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the exposed values by name and values of the labels."""
    text = counters.expose(list(backlogs)).decode()
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
    counters = Counters()
    for seconds in (0.003, 0.004):
        counters.count_request(method="GET", route="/job/{job_id}", status=200, seconds=seconds)
    counters.count_request(method="GET", route="/job/{job_id}", status=404, seconds=0.1)
    found = figures(counters)
    assert found["squash_request_seconds_count", ("GET", "/job/{job_id}", "200")] == 2
    assert found["squash_request_seconds_sum", ("GET", "/job/{job_id}", "404")] == 0.1


def test_a_stored_job_is_counted_with_its_values() -> None:
    counters = Counters()
    counters.count_job(ingested())
    found = figures(counters)
    assert found["squash_jobs_total", ("stored",)] == 1
    assert [found["squash_values_total", (kind,)] for kind in ("kept", "absent", "skipped")] == [
        2,
        1,
        3,
    ]


def test_a_repeated_job_is_counted_without_its_values() -> None:
    counters = Counters()
    counters.count_job(ingested(is_repeat=True))
    found = figures(counters)
    assert found["squash_jobs_total", ("repeated",)] == 1
    values = [figure for (name, _), figure in found.items() if name == "squash_values_total"]
    assert values == [0, 0, 0]


def test_delivery_is_shown_by_target() -> None:
    found = figures(Counters(), backlog(), backlog(target="summit"))
    for target in ("base", "summit"):
        assert found["squash_delivery_waiting", (target,)] == 4
        assert found["squash_delivery_quarantined", (target,)] == 2


def test_delivery_is_shown_as_it_is_now() -> None:
    counters = Counters()
    counters.expose([backlog()])
    found = figures(counters, Backlog("base", 0, None, 0, None, None))
    assert found["squash_delivery_waiting", ("base",)] == 0


@pytest.mark.parametrize(("trouble", "up"), [(None, 1), ("timed out", 0)])
def test_trouble_shows_as_down(trouble: str | None, up: int) -> None:
    found = figures(Counters(), backlog(trouble=trouble))
    assert found["squash_delivery_up", ("base",)] == up


def test_the_age_of_the_oldest_job_is_in_seconds() -> None:
    found = figures(Counters(), backlog(oldest_ns=time.time_ns() - 3600 * 10**9))
    assert 3600 <= found["squash_delivery_oldest_seconds", ("base",)] < 3700


@pytest.mark.parametrize("oldest_ns", [None, 2**62])
def test_nothing_that_waits_is_no_age(oldest_ns: int | None) -> None:
    found = figures(Counters(), backlog(oldest_ns=oldest_ns))
    assert found["squash_delivery_oldest_seconds", ("base",)] == 0


def test_two_services_in_one_process_count_apart() -> None:
    one, other = Counters(), Counters()
    one.count_job(ingested())
    assert figures(other)["squash_jobs_total", ("stored",)] == 0
