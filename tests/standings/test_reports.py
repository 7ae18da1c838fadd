from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.ingest.stored_job import load_job
from squash_api.judging.kinds.threshold import Threshold
from squash_api.judging.limits import Verdict
from squash_api.standings.job_states import job_report
from tests.support.builders import make_body, measured, store_job
from tests.support.definitions import ADA, World, metric, spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as site:
        yield site


def new_job(world: World, value: float | None = 3.0, unit: str | None = "mmag") -> int:
    body = make_body(measured("p.a", value, unit), measured("p.b", 1.0), filter_name="r")
    return store_job(world.record, revision=world.revision, body=body)


def report(world: World, job: int, *, is_now: bool = False) -> dict[str, Verdict]:
    with world.record.read() as connection:
        row, document = load_job(connection, job)
    verdicts = job_report(
        row,
        document,
        definitions=world.definitions,
        metrics=world.metrics,
        is_now=is_now,
    )
    return {verdict.name: verdict for verdict in verdicts}


def define(world: World, **limits: float) -> None:
    world.definitions.post(
        "spec", [spec(f"p.a.{name}", value=value) for name, value in limits.items()], ADA
    )


def test_specifications_that_came_later_count_only_now(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    define(world, design=5.0)
    job = new_job(world)
    define(world, stretch=1.0)
    assert set(report(world, job)) == {"p.a.design"}
    assert set(report(world, job, is_now=True)) == {"p.a.design", "p.a.stretch"}


def test_a_changed_limit_counts_only_now(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    define(world, design=5.0)
    job = new_job(world)
    world.definitions.put("spec", "p.a.design", spec(value=2.0), ADA)
    assert report(world, job)["p.a.design"].status == "passed"
    assert report(world, job, is_now=True)["p.a.design"].status == "failed"


def test_a_withdrawn_specification_still_judges_what_came_before(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    define(world, design=5.0)
    job = new_job(world)
    world.definitions.delete("spec", "p.a.design", ADA)
    assert set(report(world, job)) == {"p.a.design"}
    assert report(world, job, is_now=True) == {}


def test_a_value_is_judged_in_the_unit_of_the_metric_at_receipt(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    define(world, design=5.0)
    job = new_job(world, 0.003, "mag")
    world.definitions.put("metric", "p.a", metric(unit="mag"), ADA)
    before, now = (report(world, job, is_now=is_now)["p.a.design"] for is_now in (False, True))
    assert (before.value, before.limit.criterion) == (3.0, Threshold(5.0, "mmag", "<"))
    assert (now.value, now.limit.criterion) == (0.003, Threshold(0.005, "mag", "<"))


@pytest.mark.parametrize(("value", "unit"), [(None, "mmag"), (3.0, "m")])
def test_what_was_left_out_is_not_measured(world: World, value: float | None, unit: str) -> None:
    world.definitions.post("metric", [metric()], ADA)
    define(world, design=5.0)
    verdict = report(world, new_job(world, value, unit))["p.a.design"]
    assert (verdict.status, verdict.value, verdict.margin) == ("not measured", None, None)


def test_metrics_that_the_job_does_not_measure_are_not_judged(world: World) -> None:
    world.definitions.post("metric", [metric(), metric("p.c")], ADA)
    world.definitions.post("spec", [spec(), spec("p.c.design")], ADA)
    assert set(report(world, new_job(world))) == {"p.a.design"}


def test_verdicts_are_sorted_by_name(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    define(world, stretch=1.0, design=2.0, minimum=3.0)
    names = list(report(world, new_job(world)))
    assert names == ["p.a.design", "p.a.minimum", "p.a.stretch"]
