"""Verdicts on a job that need earlier values, or the rest of its run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.ingest.stored_job import load_job
from squash_api.judging.kinds.range import Range
from squash_api.judging.limits import Verdict
from squash_api.standings.job_states import job_report
from tests.support.builders import make_body, measured, store_job
from tests.support.definitions import ADA, World, metric, spec

TREND = {"n": 4, "min_history": 3, "floor": 1.0, "unit": "mmag"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as site:
        site.definitions.post("metric", [metric(), metric("p.b")], ADA)
        yield site


def define(world: World, name: str, **document: Any) -> None:
    world.definitions.post("spec", [{"name": f"p.a.{name}", **document}], ADA)


def add(
    world: World, time_s: int, a: float | None = 1.0, b: float | None = None, **meta: Any
) -> int:
    values = [measured("p.a", a, "mmag")] + ([] if b is None else [measured("p.b", b, "mmag")])
    time_ns = time_s * 10**9
    body = make_body(*values, **meta)
    job = {"revision": world.revision, "received_ns": time_ns, "asked_ns": time_ns}
    return store_job(world.record, body=body, **job)


def report(world: World, job_id: int) -> dict[str, Verdict]:
    with world.record.read() as connection:
        row, document = load_job(connection, job_id)
    verdicts = job_report(
        row,
        document,
        definitions=world.definitions,
        metrics=world.metrics,
        is_now=True,
        evidence=world.evidence,
    )
    return {verdict.name: verdict for verdict in verdicts}


def test_a_trend_is_judged_by_the_values_before(world: World) -> None:
    define(world, "drift", trend=TREND)
    jobs = [add(world, number, value) for number, value in enumerate([1, 2, 3, 2.5, 9], 1)]
    found = [report(world, job).get("p.a.drift") for job in jobs]
    assert [None if item is None else item.status for item in found] == [
        None,
        None,
        None,
        "passed",
        "failed",
    ]
    last = found[-1]
    assert last is not None
    # The median of 1, 2, 3 and 2.5, and 5 times 1.4826 times that of their distances from it.
    assert last.limit.criterion.numbers == pytest.approx((2.25 - 3.7065, 2.25 + 3.7065))
    assert last.to_json()["operator"] == "within"


def test_order_of_arrival_does_not_matter(world: World) -> None:
    define(world, "drift", trend=TREND)
    last = add(world, 100, 9.0)
    for number in (3, 2, 1):
        add(world, number, 1.0)
    add(world, 200, 50.0)
    assert report(world, last)["p.a.drift"].status == "failed"


def test_series_do_not_mix_and_absent_values_do_not_count(world: World) -> None:
    define(world, "drift", trend=TREND, metadata_query={"airmass": {"<": 2}})
    for number in range(1, 4):
        add(world, number, 1.0, filter_name="r", airmass=1.0)
        add(world, 10 + number, 50.0, filter_name="g", airmass=1.0)
        add(world, 20 + number, 70.0, filter_name="r", airmass=3.0)
        add(world, 30 + number, None, filter_name="r", airmass=1.0)
    job = add(world, 100, 1.5, filter_name="r", airmass=1.0)
    assert report(world, job)["p.a.drift"].limit.criterion == Range(0.0, 2.0, "mmag")


def test_a_run_counts_once_and_the_own_run_not_at_all(world: World) -> None:
    define(world, "drift", trend=TREND)
    for run in range(1, 4):
        for part in (1, 2):
            add(world, 10 * run + part, float(part), run_id=f"r{run}")
    add(world, 50, 99.0, run_id="own")
    job = add(world, 51, 2.5, run_id="own")
    assert report(world, job)["p.a.drift"].limit.criterion == Range(1.0, 3.0, "mmag")


def test_a_value_that_is_not_measured_has_no_verdict_but_that(world: World) -> None:
    define(world, "drift", trend=TREND)
    for number in range(1, 4):
        add(world, number, 1.0)
    assert report(world, add(world, 9, None))["p.a.drift"].status == "not measured"


def test_a_compound_counts_the_job(world: World) -> None:
    world.definitions.post("spec", [spec(), spec("p.b.design")], ADA)
    define(world, "both", compound={"all": ["design", "p.b.design"]})
    found = report(world, add(world, 1, 9.0, 9.0))["p.a.both"]
    assert (found.status, found.value, found.members) == (
        "failed",
        2.0,
        ("p.a.design", "p.b.design"),
    )
    assert found.summary == "2 of 2 broken: p.a.design, p.b.design (both)"
    found = report(world, add(world, 2, 9.0, 1.0))["p.a.both"]
    assert (found.status, found.members) == ("passed", ("p.a.design",))
    assert report(world, add(world, 3, 9.0))["p.a.both"].status == "passed"
    assert report(world, add(world, 4, None, 9.0))["p.a.both"].status == "not measured"


def test_a_compound_counts_the_run(world: World) -> None:
    world.definitions.post("spec", [spec(), spec("p.b.design")], ADA)
    define(world, "both", compound={"all": ["design", "p.b.design"], "over": "run"})
    first = add(world, 1, 9.0, run_id="r")
    assert report(world, first)["p.a.both"].status == "passed"
    add(world, 2, 1.0, 9.0, run_id="r")
    assert report(world, first)["p.a.both"].status == "failed"
    assert report(world, add(world, 3, 9.0, run_id="other"))["p.a.both"].status == "passed"
