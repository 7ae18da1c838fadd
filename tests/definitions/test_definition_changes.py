from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.definitions.definitions import Definitions
from squash_api.errors import InvalidInputError
from squash_api.index.derived import jobs_to_rederive
from squash_api.index.deriver import Deriver
from squash_api.schema.names import Schema
from tests.support.definitions import ADA, World, metric, spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as site:
        yield site


@pytest.fixture
def definitions(world: World) -> Definitions:
    return world.definitions


def test_declaring_a_measured_metric_requeues_its_jobs(world: World) -> None:
    world.measure("mag", "mag")
    change = world.definitions.post_one("metric", "p.a", metric(unit="mmag"), ADA)
    assert change.requeued_jobs == 2
    assert world.requeued() == [1, 2]


def test_only_jobs_that_measure_the_metric_are_requeued_though_none_was_in_the_index(
    world: World,
) -> None:
    world.measure_only("mag")
    assert world.definitions.post_one("metric", "p.b", metric("p.b"), ADA).requeued_jobs == 0
    world.measure_only("mag")
    assert world.definitions.post_one("metric", "p.a", metric(unit="mmag"), ADA).requeued_jobs == 2


def test_a_job_that_comes_in_the_last_moment_is_requeued_in_any_case(world: World) -> None:
    late = Definitions(
        world.record, Schema(), world.metrics, catch_up=lambda: world.measure_only("mag")
    )
    assert late.post_one("metric", "p.a", metric(unit="mmag"), ADA).requeued_jobs == 1
    assert world.requeued() == [1]


def test_requeued_jobs_are_derived_in_the_new_unit(world: World) -> None:
    world.measure("mag")
    world.definitions.post_one("metric", "p.a", metric(unit="mmag"), ADA)
    assert Deriver(world.record, world.metrics).rederive_some()
    with world.record.read() as connection:
        values = connection.exec_driver_sql("select value from measurement").scalars().all()
        assert jobs_to_rederive(connection, limit=10) == []
    assert values == [1000.0]


def test_changing_the_unit_requeues_jobs(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(unit="mmag"), ADA)
    world.measure("mag")
    change = world.definitions.put("metric", "p.a", metric(unit="mag"), ADA)
    assert (change.requeued_jobs, world.requeued()) == (1, [1])


def test_changing_the_description_requeues_nothing(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    world.measure("mag")
    change = world.definitions.put("metric", "p.a", metric(description="Better."), ADA)
    assert (change.requeued_jobs, world.requeued()) == (0, [])


def test_withdrawing_a_metric_requeues_nothing(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    world.measure("mag")
    world.definitions.delete("metric", "p.a", ADA)
    assert world.requeued() == []


def test_a_unit_that_older_values_do_not_convert_to_is_pointed_out(world: World) -> None:
    world.measure("mag")
    change = world.definitions.post_one("metric", "p.a", metric(unit="s"), ADA)
    assert len(change.notes) == 1
    assert "'mag'" in change.notes[0]


def test_a_unit_that_older_values_convert_to_needs_no_note(world: World) -> None:
    world.measure("mag")
    assert world.definitions.post_one("metric", "p.a", metric(unit="mmag"), ADA).notes == ()


def test_a_list_with_a_specification_of_an_undeclared_metric_stores_nothing(
    definitions: Definitions,
) -> None:
    definitions.post("metric", [metric("p.a"), metric("p.b", "")], ADA)
    with pytest.raises(InvalidInputError, match=r"p\.z") as caught:
        definitions.post("spec", [spec(), spec("p.z.design")], ADA)
    assert [item.loc for item in caught.value.detail] == [("body", "specs", 1, "name")]
    assert definitions.list_specs(limit=10) == []


def test_a_threshold_that_does_not_convert_is_refused(definitions: Definitions) -> None:
    definitions.post("metric", [metric("p.a"), metric("p.b", "")], ADA)
    with pytest.raises(InvalidInputError, match="arcsec") as caught:
        definitions.post("spec", [spec(), spec("p.b.x", unit="arcsec")], ADA)
    assert [item.loc for item in caught.value.detail] == [("body", "specs", 1, "threshold", "unit")]


def test_a_unit_that_breaks_a_specification_is_refused(definitions: Definitions) -> None:
    definitions.post("metric", [metric("p.a"), metric("p.b", "")], ADA)
    definitions.post("spec", [spec("p.a.x"), spec("p.a.y")], ADA)
    with pytest.raises(InvalidInputError, match=r"p\.a\.x, p\.a\.y") as caught:
        definitions.put("metric", "p.a", metric(unit="s"), ADA)
    assert [item.loc for item in caught.value.detail] == [("body", "unit")]
    assert definitions.get("metric", "p.a").content.unit == "mmag"


def test_declaring_a_metric_anew_in_a_unit_that_breaks_a_specification_is_refused(
    definitions: Definitions,
) -> None:
    definitions.post("metric", [metric("p.a"), metric("p.b", "")], ADA)
    definitions.post_one("spec", "p.a.x", spec("p.a.x"), ADA)
    definitions.delete("metric", "p.a", ADA)
    with pytest.raises(InvalidInputError, match=r"p\.a\.x"):
        definitions.post("metric", [metric("p.a", unit="s")], ADA)
