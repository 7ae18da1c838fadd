"""Which old jobs go, and which stay for something else."""

from typing import Any

import pytest

from squash_api.index.jobs import post_measurement
from squash_api.index.pruning import Age
from squash_api.record.audit import UNKNOWN
from squash_api.record.deliveries import (
    Quarantined,
    ensure_targets,
    mark_sent,
    mark_taken,
    request_redelivery,
)
from squash_api.record.quarantine import Which, drop
from squash_api.standings.keeping import Plan, Planner, Terms
from tests.support.builders import make_body, measured
from tests.support.definitions import ADA, spec
from tests.support.observatory import DAY_NS, NOW_NS, Observatory

YEAR_AGO_NS = NOW_NS - 365 * DAY_NS


def planner(site: Observatory, *targets: str, **terms: Any) -> Planner:
    site.derive()
    return Planner(site.reader, site.states, Terms(Age(YEAR_AGO_NS, targets), **terms))


def plan(site: Observatory, *targets: str, **terms: Any) -> Plan:
    return planner(site, *targets, **terms).plan()


def going(site: Observatory, *targets: str, **terms: Any) -> list[int]:
    return [item.job_id for page in planner(site, *targets, **terms).going() for item in page]


def days(number: float) -> int:
    return int(number * DAY_NS)


def old(site: Observatory, *ages: float, **meta: Any) -> list[int]:
    """Store jobs of so many days ago."""
    return [site.job(ago_ns=days(age), **meta) for age in ages]


@pytest.fixture
def passing(site: Observatory) -> Observatory:
    """Let the values of all jobs be within their limit, but 9."""
    site.define(spec())
    return site


def test_what_is_older_goes_but_the_previous_job_of_each_series(site: Observatory) -> None:
    jobs = old(site, 500, 400, 366, 364, 1)
    assert going(site) == jobs[:2]
    found = plan(site)
    assert (found.jobs, found.days, found.kept) == (2, 2, {"compared": 1})
    assert found.size == 2 * len(make_body(measured("p.a", 1.0), instrument="HSC"))
    assert (found.first_ns, found.last_ns) == (NOW_NS - days(500), NOW_NS - days(400))


def test_the_moment_itself_is_not_before_it(site: Observatory) -> None:
    old(site, 370)
    (job,) = (site.job(ago_ns=days(365)),)
    old(site, 1)
    assert job not in going(site)
    assert not plan(site).kept["last"]


def test_an_archive_that_was_sent_in_lately_stays(site: Observatory) -> None:
    site.job(ago_ns=days(3000), received_ago_ns=days(2))
    site.job()
    assert going(site) == []
    assert not plan(site).kept


def test_the_last_value_of_each_series_stays(site: Observatory) -> None:
    jobs = old(site, 800, 700, 600)
    other = old(site, 790, 690, instrument="DECam")
    site.job(name="p.b")
    assert going(site) == sorted([*jobs[:2], other[0]])
    found = plan(site)
    assert (found.kept, found.ended, found.silent) == ({"last": 2}, {"p.a": 2}, ["p.a"])


def test_the_last_values_go_if_that_is_asked_for(site: Observatory) -> None:
    jobs = old(site, 800, 700)
    assert going(site, takes_last=True) == jobs
    assert plan(site, takes_last=True).silent == ["p.a"]


def test_a_metric_that_was_last_not_measured_keeps_that_and_its_last_value(
    site: Observatory,
) -> None:
    jobs = [site.job(value, ago_ns=days(age)) for value, age in ((1, 800), (2, 700), (None, 600))]
    assert going(site) == jobs[:1]


def test_the_last_job_that_passed_stays_for_those_that_fail(passing: Observatory) -> None:
    values = {900: 1.0, 800: 2.0, 700: 9.0, 600: 9.0, 10: 9.0}
    jobs = [passing.job(value, ago_ns=days(age)) for age, value in values.items()]
    # The one before, and the last that passed.
    assert going(passing) == [jobs[0], jobs[2]]


def test_the_last_that_passed_is_looked_for_further_back(passing: Observatory) -> None:
    jobs = [passing.job(1.0, ago_ns=days(900 - number)) for number in range(2)]
    jobs += [passing.job(9.0, ago_ns=days(800 - number)) for number in range(25)]
    passing.job(9.0)
    assert going(passing) == [jobs[0], *jobs[2:-1]]


def test_the_previous_run_stays_whole(site: Observatory) -> None:
    def run(name: str, age: float, *filters: str) -> list[int]:
        return [
            site.job(ago_ns=days(age), env={"ci_name": "drp", "ci_id": name}, filter_name=band)
            for band in filters
        ]

    first, second = run("a", 500, "r", "i"), run("b", 400, "r", "i")
    run("c", 10, "r")
    # Only r is compared; i has its last value there.
    assert going(site) == first
    assert plan(site).kept == {"last": 1, "compared": 1}
    assert second


def test_a_run_of_which_a_job_is_not_old_stays_whole(site: Observatory) -> None:
    env = {"ci_name": "drp", "ci_id": "1"}
    jobs = old(site, 400, 366, 364, env=env)
    assert going(site) == []
    assert plan(site).kept == {"compared": 1, "run": 1}
    # Without a run nothing joins them.
    assert old(site, 390, 380)[0] in going(site)
    assert jobs


@pytest.mark.parametrize("value", [None, 2.0])
def test_a_job_that_has_got_a_measurement_since_stays(
    site: Observatory, value: float | None
) -> None:
    jobs = old(site, 500, 450, 1)
    post_measurement(
        site.record, site.metrics, job_id=jobs[0], document=measured("p.b", value), account=ADA
    )
    assert jobs[0] not in going(site)
    assert plan(site).kept["added"] == 1


@pytest.mark.parametrize(
    ("patterns", "kept"), [((), 0), (("v23*",), 1), (("v23.0", "w_2024_??"), 2), (("V23*",), 0)]
)
def test_jobs_of_a_release_that_is_kept_stay(
    site: Observatory, patterns: tuple[str, ...], kept: int
) -> None:
    for number, tag in enumerate(["v23.0", "w_2024_10", "w_2024_9"]):
        old(site, 500 - number, version_tag=tag)
    old(site, 380, 1)
    found = plan(site, releases=patterns)
    assert (found.kept["release"], found.jobs) == (kept, 3 - kept)
    assert sum(found.releases.values()) == 3 - kept


@pytest.fixture
def sent(site: Observatory) -> Observatory:
    """Let the first two of three old jobs be sent to a target."""
    old(site, 600, 500, 400, 1)
    site.record.write(lambda connection: ensure_targets(connection, ["summit"]))
    site.record.write(lambda connection: mark_taken(connection, "summit", after=0, through=2))
    site.record.write(
        lambda connection: mark_sent(
            connection,
            "summit",
            through=2,
            redelivered=[],
            quarantined=[Quarantined(1, "p", "p a=1", "no")],
            now_ns=1,
        )
    )
    return site


def test_what_a_target_does_not_have_or_has_refused_stays(sent: Observatory) -> None:
    assert going(sent, "summit") == [2]
    assert plan(sent, "summit").kept["waiting"] == 2


def test_what_is_to_be_sent_again_stays(sent: Observatory) -> None:
    sent.record.write(lambda c: request_redelivery(c, [2], targets=["summit"], request=1))
    assert going(sent, "summit") == []


def test_what_has_been_given_up_does_not_wait(sent: Observatory) -> None:
    sent.record.write(lambda c: drop(c, Which(), now_ns=5, by=UNKNOWN))
    assert going(sent, "summit") == [1, 2]


def test_a_target_that_is_no_longer_delivered_to_does_not_hold_jobs(sent: Observatory) -> None:
    assert going(sent) == [1, 2]


def test_a_target_that_is_new_has_nothing_yet(sent: Observatory) -> None:
    assert going(sent, "summit", "base") == []


def test_a_deleted_job_is_not_old_any_more(site: Observatory) -> None:
    jobs = old(site, 600, 500, 400, 1)
    site.delete(jobs[0])
    assert going(site) == [jobs[1]]


def test_more_jobs_than_are_looked_at_at_once(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.standings.keeping._PAGE", 2)
    jobs = old(site, *range(500, 490, -1), 1)
    assert going(site) == jobs[:9]
