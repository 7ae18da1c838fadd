from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.alerts.freshness import (
    Arrival,
    Combination,
    ExpectedSeries,
    Freshness,
    expected_series,
)
from squash_api.judging.alert_plan import Expectation, expectations
from squash_api.judging.specifications import specification_from_json
from squash_api.record.audit import Actor
from squash_api.record.silences import NewSilence, add_silence
from squash_api.schema.names import Schema
from squash_api.standings.standing import Standings
from tests.support.definitions import ADA, spec
from tests.support.observatory import (
    DAY_NS,
    HOUR_NS,
    NOW_NS,
    Observatory,
    expecting,
    loaded_ago,
)

HSC = (("instrument", "HSC"),)
DECAM = (("instrument", "DECam"),)


# One specification; a value is expected every 24 hours, and may be 6 hours late


def expectation(document: dict[str, Any]) -> Expectation:
    (found,) = expectations([specification_from_json(document)], Schema())
    return found


def said(
    arrivals: dict[Combination, float],
    *,
    loaded_ago: float = 1000.0,
    expected: Expectation | None = None,
    **more: Any,
) -> dict[Combination, ExpectedSeries]:
    """Return what is said of values that came so many hours ago."""
    expected = expected or expectation(expecting())
    found = expected_series(
        expected,
        {
            tags: Arrival(NOW_NS - int(hours * HOUR_NS), number)
            for number, (tags, hours) in enumerate(arrivals.items(), start=1)
        },
        loaded_ns=NOW_NS - int(loaded_ago * HOUR_NS),
        now_ns=NOW_NS,
        **more,
    )
    assert len({item.tags for item in found}) == len(found)
    return {item.tags: item for item in found}


def late_hours(found: dict[Combination, ExpectedSeries]) -> dict[Combination, float]:
    return {tags: round(item.late_s / 3600, 3) for tags, item in found.items()}


@pytest.mark.parametrize(
    ("hours", "late"), [(0.0, -30.0), (29.999, -0.001), (30.0, 0.0), (30.001, 0.001), (50.0, 20.0)]
)
def test_what_never_came_is_late_after_its_time_and_grace(hours: float, late: float) -> None:
    assert late_hours(said({}, loaded_ago=hours)) == {(): late}


def test_what_never_came_has_no_job() -> None:
    found = said({}, loaded_ago=48.0)[()]
    assert (found.job_id, found.since_ns, found.age_s) == (None, NOW_NS - 48 * HOUR_NS, 48 * 3600.0)


def test_a_combination_is_late_after_its_last_value() -> None:
    found = said({HSC: 40.0, DECAM: 2.0})
    assert late_hours(found) == {HSC: 10.0, DECAM: -28.0, (): -28.0}
    assert (found[HSC].job_id, found[DECAM].job_id, found[()].job_id) == (1, 2, 2)


def test_with_combinations_the_specification_itself_is_never_late() -> None:
    assert late_hours(said({HSC: 40.0, DECAM: 50.0})) == {HSC: 10.0, DECAM: 20.0, (): 0.0}


def test_after_thirty_days_a_combination_is_not_late_any_more() -> None:
    assert late_hours(said({HSC: 31 * 24.0, DECAM: 2.0})) == {HSC: -30.0, DECAM: -28.0, (): -28.0}


def test_after_some_days_more_nothing_is_said_of_it() -> None:
    assert set(said({HSC: 38 * 24.0, DECAM: 2.0})) == {DECAM, ()}


def test_without_any_combination_left_the_specification_itself_is_late() -> None:
    found = said({HSC: 31 * 24.0}, loaded_ago=50 * 24.0)
    assert late_hours(found) == {HSC: -30.0, (): 31 * 24.0 - 30.0}
    assert found[()].job_id == 1


def test_what_came_before_the_specification_does_not_start_its_clock() -> None:
    found = said({HSC: 31 * 24.0}, loaded_ago=1.0)
    assert (late_hours(found)[()], found[()].job_id) == (-29.0, None)


def test_jobs_without_any_of_the_tags_are_spoken_of_once() -> None:
    assert late_hours(said({(): 40.0})) == {(): 10.0}
    assert late_hours(said({(): 40.0, HSC: 1.0})) == {(): 10.0, HSC: -29.0}
    assert late_hours(said({(): 31 * 24.0}, loaded_ago=50 * 24.0)) == {(): 31 * 24.0 - 30.0}


def test_what_comes_rarely_is_expected_as_long_again() -> None:
    document = expecting(every="60d", expect={"every": "60d"})
    rare = expectation(document)
    assert late_hours(said({HSC: 61 * 24.0}, expected=rare))[HSC] == 24.0
    assert late_hours(said({HSC: 121 * 24.0}, expected=rare))[HSC] == -60 * 24.0


def test_a_time_is_said_in_words() -> None:
    found = ExpectedSeries("p.a.design", (), 1.0, 1.0, since_ns=1_790_000_040 * 10**9)
    assert found.since == "2026-09-21 14:14 UTC"


# What `expect.each` names is expected even if it never came

DETECTORS = expectation(
    expecting(expect={"every": "24h", "each": {"detector": ["0-8", 10]}}, alert={"per": []})
)
EACH_DETECTOR: dict[Combination, float] = {
    (("detector", text),): 1.0 for text in (*map(str, range(9)), "10")
}
TWELVE = (("detector", "12"),)


def named(arrivals: dict[Combination, float], **more: Any) -> ExpectedSeries:
    found = said(arrivals, **{"expected": DETECTORS, **more})
    assert list(found) == [()]
    return found[()]


def test_what_is_named_is_one_series_in_time_while_all_of_it_comes() -> None:
    found = named(EACH_DETECTOR)
    assert (round(found.late_s / 3600, 3), found.missing) == (-23.0, "")


def test_what_is_named_and_never_came_is_late() -> None:
    arrivals: dict[Combination, float] = {
        tags: 1.0 for tags in EACH_DETECTOR if tags[0][1] not in {"2", "3", "4", "10"}
    }
    found = named(arrivals, loaded_ago=30.0)
    assert found.missing == "4 of 10 detectors: 2-4, 10"
    assert (round(found.late_s / 3600, 3), found.job_id) == (6.0, None)


def test_what_is_named_and_came_is_late_after_its_time() -> None:
    found = named({**EACH_DETECTOR, (("detector", "4"),): 25.0, (("detector", "7"),): 26.0})
    assert found.missing == "2 of 10 detectors: 4, 7"
    assert (round(found.late_s / 3600, 3), found.job_id) == (2.0, 8)


def test_what_is_not_named_is_not_expected() -> None:
    assert named({**EACH_DETECTOR, TWELVE: 100.0}).missing == ""


def test_until_its_time_is_over_nothing_that_is_named_is_late() -> None:
    assert named({}, loaded_ago=23.0).late_s < 0
    assert named({}, loaded_ago=25.0).missing == "10 of 10 detectors: 0-8, 10"


def test_named_combinations_of_tags_are_said_by_the_first() -> None:
    each = {"filter": ["g", "r"], "detector": ["0-2"]}
    both = expectation(expecting(expect={"every": "24h", "each": each}))
    arrivals: dict[Combination, float] = {
        (("filter", "g"), ("detector", text)): 1.0 for text in "02"
    }
    found = named(arrivals, expected=both)
    assert found.missing == "4 of 6 combinations of filter and detector: g 1; r 0-2"


def test_a_planned_absence_is_not_missed() -> None:
    arrivals: dict[Combination, float] = {
        tags: 1.0 for tags in EACH_DETECTOR if tags[0][1] not in {"2", "3"}
    }
    two = (("detector", "2"),)
    one = named(arrivals, is_silenced=lambda tags: tags == two)
    assert one.missing == "1 of 10 detectors: 3 (1 more is silenced)"
    assert named(arrivals, is_silenced=lambda _: True).late_s < 0


# All of them, from the record


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    """A record where `p.a.design` expects a value every 24 hours since two days."""
    with Observatory(tmp_path) as site:
        site.define(expecting())
        loaded_ago(site.record, 48 * HOUR_NS)
        yield site


def test_without_expectations_nothing_is_said(site: Observatory) -> None:
    site.redefine("p.a.design", spec())
    assert site.late() == {}


def test_a_series_that_never_came_is_late(site: Observatory) -> None:
    assert site.late_hours() == {"": 18.0}


def test_a_job_makes_it_fresh(site: Observatory) -> None:
    site.late()
    job = site.job(1.0, ago_ns=HOUR_NS, run_id="R17")
    assert site.late_hours() == {"HSC": -29.0, "": -29.0}
    assert (site.late()[HSC].job_id, site.late()[HSC].run_id) == (job, "R17")


def test_every_combination_is_expected_by_itself(site: Observatory) -> None:
    site.job(1.0, ago_ns=40 * HOUR_NS, filter="r")
    site.job(1.0, ago_ns=2 * HOUR_NS, filter="i", status="new")
    assert site.late_hours() == {"HSC r": 10.0, "HSC i": -28.0, "": -28.0}


def test_a_job_of_the_past_that_comes_now_has_arrived(site: Observatory) -> None:
    site.job(1.0, ago_ns=100 * DAY_NS, received_ago_ns=0)
    assert site.late_hours()["HSC"] == -30.0


@pytest.mark.parametrize(("value", "name"), [(None, "p.a"), (1.0, "p.b")])
def test_a_job_without_the_value_has_not(site: Observatory, value: float | None, name: str) -> None:
    site.job(value, name=name)
    assert site.late_hours() == {"": 18.0}


def test_a_job_to_which_the_specification_does_not_apply_has_not(site: Observatory) -> None:
    site.redefine("p.a.design", expecting(metadata_query={"instrument": "DECam"}))
    loaded_ago(site.record, 48 * HOUR_NS)
    site.job(1.0)
    assert site.late_hours() == {"": 18.0}
    site.job(1.0, instrument="DECam")
    assert site.late_hours() == {"DECam": -30.0, "": -30.0}


def test_a_specification_may_ask_for_other_metadata_than_tags(site: Observatory) -> None:
    site.redefine("p.a.design", expecting(metadata_query={"visit": 7}))
    loaded_ago(site.record, 48 * HOUR_NS)
    first = site.job(1.0, ago_ns=10 * HOUR_NS, visit=7)
    site.job(1.0, visit=8)
    assert site.late_hours() == {"HSC": -20.0, "": -20.0}
    last = site.job(1.0, ago_ns=HOUR_NS, visit=7)
    assert site.late()[HSC].job_id == last
    site.delete(last)
    assert site.late()[HSC].job_id == first


def test_a_deleted_job_has_never_come(site: Observatory) -> None:
    first = site.job(1.0, ago_ns=10 * HOUR_NS)
    last = site.job(1.0)
    assert site.late()[HSC].job_id == last
    site.delete(last)
    assert site.late_hours() == {"HSC": -20.0, "": -20.0}
    site.delete(first)
    assert site.late_hours() == {"": 18.0}


def test_the_clock_begins_when_a_value_is_first_expected(site: Observatory) -> None:
    site.redefine("p.a.design", spec())
    site.redefine("p.a.design", expecting())
    assert site.late()[()].age_s == 0.0


def test_the_clock_goes_on_when_the_limit_changes(site: Observatory) -> None:
    site.redefine("p.a.design", expecting(value=7.0))
    assert site.late_hours() == {"": 18.0}


def test_a_specification_that_is_taken_back_and_comes_again_begins_anew(
    site: Observatory,
) -> None:
    site.definitions.delete("spec", "p.a.design", ADA)
    assert site.late() == {}
    site.define(expecting())
    assert site.late()[()].age_s == 0.0


def test_a_rarer_expectation_looks_further_back(site: Observatory) -> None:
    site.job(1.0, ago_ns=80 * DAY_NS)
    site.job(1.0)
    site.delete(2)
    loaded_ago(site.record, 100 * DAY_NS)
    assert site.late_hours() == {"": 100 * 24 - 30.0}
    site.redefine("p.a.design", expecting(every="60d"))
    loaded_ago(site.record, 100 * DAY_NS)
    assert site.late_hours()["HSC"] == 20 * 24 - 6.0


def test_after_a_restart_the_same_is_said(site: Observatory) -> None:
    site.job(1.0, ago_ns=40 * HOUR_NS, filter="r")
    doomed = site.job(1.0, ago_ns=2 * HOUR_NS, filter="i")
    before = site.late()
    site.delete(doomed)
    after = site.late()
    assert before.keys() - after.keys() == {(*HSC, ("filter", "i"))}
    site.standings = Standings(site.reader, site.definitions.in_force)
    site.freshness = Freshness(
        site.standings.definitions, site.standings.schema, site.standings.latest
    )
    assert site.late() == after


def silence(site: Observatory, tags: dict[str, str], *, hours: float = 1.0) -> None:
    """Silence p.a where it has these tags, from now on for so many hours."""
    until_ns = site.now_ns + int(hours * HOUR_NS)
    new = NewSilence("p.a", tags, "planned", site.now_ns - HOUR_NS, until_ns)
    by = Actor(command="test")
    site.record.write(lambda connection: add_silence(connection, new, now_ns=site.now_ns, by=by))


@pytest.fixture
def detectors(site: Observatory) -> Observatory:
    """Detectors 0 to 2 are expected, and 0 has come; the others never have."""
    expect = {"every": "24h", "each": {"detector": ["0-2"]}}
    site.redefine("p.a.design", expecting(expect=expect))
    site.job(1.0, detector=0)
    return site


def test_what_is_named_in_the_record_is_one_series(detectors: Observatory) -> None:
    found = detectors.late()
    assert list(found) == [()]
    assert found[()].missing == "2 of 3 detectors: 1-2"
    assert found[()].late_s == 24 * 3600
    detectors.job(1.0, detector=1, filter="r")
    assert detectors.late()[()].missing == "1 of 3 detectors: 2"
    detectors.job(1.0, detector=2)
    assert detectors.late()[()].late_s < 0


def test_what_is_named_may_ask_for_other_metadata_than_tags(detectors: Observatory) -> None:
    expect = {"every": "24h", "each": {"detector": ["0-2"]}}
    query = {"airmass": 1.0}
    detectors.redefine("p.a.design", expecting(expect=expect, metadata_query=query))
    detectors.job(1.0, detector=2, airmass=1.0)
    assert detectors.late()[()].missing == "2 of 3 detectors: 0-1"


def test_a_silence_on_a_detector_is_a_planned_absence(detectors: Observatory) -> None:
    silence(detectors, {"detector": "2"})
    assert detectors.late()[()].missing == "1 of 3 detectors: 1 (1 more is silenced)"
    silence(detectors, {"detector": "1"})
    assert detectors.late()[()].late_s < 0


@pytest.mark.parametrize("tags", [{}, {"detector": "7"}, {"detector": "2", "filter": "r"}])
def test_a_silence_on_something_else_hides_nothing(
    detectors: Observatory, tags: dict[str, str]
) -> None:
    silence(detectors, tags)
    assert detectors.late()[()].missing == "2 of 3 detectors: 1-2"


def test_a_silence_that_is_over_hides_nothing(detectors: Observatory) -> None:
    silence(detectors, {"detector": "2"}, hours=-0.5)
    assert detectors.late()[()].missing == "2 of 3 detectors: 1-2"
