from typing import Any

import pytest
from sqlalchemy import select

from squash_api.accounts.accounts import Account
from squash_api.definitions.definitions import Definitions
from squash_api.errors import ForbiddenError, InvalidInputError, NameTakenError, NotFoundError
from squash_api.index.derived import jobs_to_rederive
from squash_api.index.deriver import Deriver
from squash_api.judging.kinds.threshold import Threshold
from squash_api.record.tables import measurement
from squash_api.record.tables import metric as metric_table
from squash_api.schema.names import Schema
from tests.support.builders import store_job
from tests.support.definitions import ADA, BOB, ROOT, World, metric, spec


@pytest.fixture
def definitions(world: World) -> Definitions:
    return world.definitions


def test_a_posted_metric_is_declared(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(tags=["x"]), ADA)
    found = definitions.get("metric", "p.a")
    assert (found.content.unit, found.content.tags, found.origin) == ("mmag", ("x",), "api")


def test_a_posted_metric_is_known(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    found = world.metrics.now.by_name["p.a"]
    assert (found.unit, found.is_declared) == ("mmag", True)


def test_the_identical_metric_again_stores_nothing(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    before = world.revision
    change = world.definitions.post_one("metric", "p.a", metric(), BOB)
    assert (change.stored, change.unchanged) == ((), 1)
    assert world.revision == before


def test_a_unit_in_another_spelling_is_identical(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(unit="degree"), ADA)
    assert definitions.post_one("metric", "p.a", metric(unit="deg"), ADA).unchanged == 1


def test_another_definition_of_a_name_is_refused(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(), ADA)
    with pytest.raises(NameTakenError, match=r"`p\.a`"):
        definitions.post_one("metric", "p.a", metric(unit="mag"), ADA)


def test_a_list_with_one_taken_name_stores_nothing(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    before = world.revision
    with pytest.raises(NameTakenError) as caught:
        world.definitions.post("metric", [metric("p.b"), metric("p.a", unit="s")], ADA)
    assert [item.loc for item in caught.value.detail] == [("body", "metrics", 1)]
    assert world.revision == before


def test_a_list_tells_what_is_new_and_what_is_not(definitions: Definitions) -> None:
    definitions.post("metric", [metric("p.a")], ADA)
    change = definitions.post("metric", [metric("p.a"), metric("p.b")], ADA)
    assert (change.stored, change.unchanged) == (("p.b",), 1)


def test_an_empty_list_changes_nothing(definitions: Definitions) -> None:
    change = definitions.post("metric", [], ADA)
    assert (change.stored, change.unchanged) == ((), 0)


def test_putting_a_metric_replaces_all_of_it(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(tags=["x"]), ADA)
    definitions.put("metric", "p.a", {"description": "Other."}, ADA)
    content = definitions.get("metric", "p.a").content
    assert (content.description, content.unit, content.tags) == ("Other.", "", ())


def test_putting_an_unknown_metric_is_not_found(definitions: Definitions) -> None:
    with pytest.raises(NotFoundError):
        definitions.put("metric", "p.a", metric(), ADA)


@pytest.mark.parametrize("account", [ADA, ROOT])
def test_owner_and_admin_may_delete_a_metric(definitions: Definitions, account: Account) -> None:
    definitions.post_one("metric", "p.a", metric(), ADA)
    definitions.delete("metric", "p.a", account)
    with pytest.raises(NotFoundError):
        definitions.get("metric", "p.a")


def test_another_user_may_not_put_a_metric(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(), ADA)
    with pytest.raises(ForbiddenError):
        definitions.put("metric", "p.a", metric(unit="mag"), BOB)


def test_another_user_may_not_delete_a_metric(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(), ADA)
    with pytest.raises(ForbiddenError):
        definitions.delete("metric", "p.a", BOB)


def test_a_metric_that_an_admin_has_changed_is_still_the_users(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(), ADA)
    definitions.put("metric", "p.a", metric(unit="mag"), ROOT)
    definitions.put("metric", "p.a", metric(unit="mmag"), ADA)
    assert definitions.get("metric", "p.a").content.unit == "mmag"


def test_a_deleted_metric_is_undeclared_and_keeps_its_unit(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    world.definitions.delete("metric", "p.a", ADA)
    found = world.metrics.now.by_name["p.a"]
    assert (found.unit, found.is_declared) == ("mmag", False)


def test_the_specifications_of_a_deleted_metric_stay_in_force(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(), ADA)
    definitions.post_one("spec", "p.a.design", spec(), ADA)
    definitions.delete("metric", "p.a", ADA)
    assert [item.name for item in definitions.in_force.at(None).by_metric["p.a"]] == ["p.a.design"]


def test_a_deleted_metric_can_be_declared_anew_by_another(definitions: Definitions) -> None:
    definitions.post_one("metric", "p.a", metric(), ADA)
    definitions.delete("metric", "p.a", ADA)
    definitions.post_one("metric", "p.a", metric(unit="mag"), BOB)
    with pytest.raises(ForbiddenError):
        definitions.delete("metric", "p.a", ADA)


def test_metrics_are_listed_in_pages_by_name(definitions: Definitions) -> None:
    definitions.post("metric", [metric(name) for name in ("p.c", "p.a", "q.a", "p.b")], ADA)
    pages = [
        [item.content.name for item in definitions.list_metrics(after=after, limit=2)]
        for after in (None, "p.b", "q.a")
    ]
    assert pages == [["p.a", "p.b"], ["p.c", "q.a"], []]


def test_metrics_are_listed_by_package(definitions: Definitions) -> None:
    definitions.post("metric", [metric("p.a"), metric("pq.a")], ADA)
    found = definitions.list_metrics(package="p", limit=10)
    assert [item.content.name for item in found] == ["p.a"]


@pytest.fixture
def declared(definitions: Definitions) -> Definitions:
    definitions.post("metric", [metric("p.a", "mmag"), metric("p.b", "")], ADA)
    return definitions


def test_a_posted_specification_is_in_force(declared: Definitions) -> None:
    declared.post_one("spec", "p.a.design", spec(unit="mag", tags=["design"]), ADA)
    content = declared.get("spec", "p.a.design").content
    assert (content.metric, content.criterion) == ("p.a", Threshold(5.0, "mag", "<"))


def test_a_specification_of_an_undeclared_metric_is_not_found(declared: Definitions) -> None:
    with pytest.raises(NotFoundError, match=r"p\.z"):
        declared.post_one("spec", "p.z.design", spec("p.z.design"), ADA)


def test_the_identical_specification_again_stores_nothing(declared: Definitions) -> None:
    declared.post_one("spec", "p.a.design", spec(), ADA)
    assert declared.post_one("spec", "p.a.design", spec(), BOB).unchanged == 1


def test_a_query_for_true_is_another_than_one_for_1(declared: Definitions) -> None:
    declared.post_one("spec", "p.a.design", spec(metadata_query={"flag": 1}), ADA)
    with pytest.raises(NameTakenError):
        declared.post_one("spec", "p.a.design", spec(metadata_query={"flag": True}), ADA)


def test_putting_a_specification_replaces_it(declared: Definitions) -> None:
    declared.post_one("spec", "p.a.design", spec(tags=["design"]), ADA)
    declared.put("spec", "p.a.design", spec(value=7.0), ADA)
    content = declared.get("spec", "p.a.design").content
    assert (content.criterion.numbers, content.tags) == ((7.0,), ())


def test_another_user_may_not_put_a_specification(declared: Definitions) -> None:
    declared.post_one("spec", "p.a.design", spec(), ADA)
    with pytest.raises(ForbiddenError):
        declared.put("spec", "p.a.design", spec(value=7.0), BOB)


def test_a_deleted_specification_is_gone(declared: Definitions) -> None:
    declared.post_one("spec", "p.a.design", spec(), ADA)
    declared.delete("spec", "p.a.design", ADA)
    with pytest.raises(NotFoundError):
        declared.get("spec", "p.a.design")
    assert "p.a" not in declared.in_force.at(None).by_metric


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, ["p.a.hsc_r", "p.a.r", "p.b.hsc"]),
        ({"metric": "p.a"}, ["p.a.hsc_r", "p.a.r"]),
        ({"filter_name": "r"}, ["p.a.hsc_r", "p.a.r"]),
        ({"dataset_name": "HSC RC2"}, ["p.a.hsc_r", "p.b.hsc"]),
        ({"dataset_name": "HSC RC2", "filter_name": "r"}, ["p.a.hsc_r"]),
        ({"tag": "design"}, ["p.b.hsc"]),
        ({"dataset_name": ""}, []),
        ({"after": "p.a.hsc_r"}, ["p.a.r", "p.b.hsc"]),
    ],
)
def test_specifications_are_listed_by_what_is_asked(
    declared: Definitions, wanted: dict[str, str], names: list[str]
) -> None:
    documents = [
        spec("p.a.r", metadata_query={"filter": "r"}),
        spec("p.b.hsc", unit="", metadata_query={"dataset_name": "HSC RC2"}, tags=["design"]),
        spec("p.a.hsc_r", metadata_query={"dataset_name": "HSC RC2", "filter_name": "r"}),
    ]
    declared.post("spec", documents, ADA)
    found = declared.list_specs(limit=10, **wanted)
    assert [item.content.name for item in found] == names


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


@pytest.mark.parametrize(("unit", "linear"), [("mag(AB)", "nJy"), ("mag(ST)", "ST")])
def test_a_limit_for_a_metric_in_magnitudes_is_refused_with_what_works(
    definitions: Definitions, unit: str, linear: str
) -> None:
    advice = f"declare the metric, and write the limit, in a linear unit such as '{linear}'"
    definitions.post_one("metric", "p.a", metric(unit=unit), ADA)
    for limit_unit in (linear, unit, "s"):
        with pytest.raises(InvalidInputError, match=advice):
            definitions.post_one("spec", "p.a.design", spec(unit=limit_unit), ADA)
    definitions.put("metric", "p.a", metric(unit=linear), ADA)
    definitions.post_one("spec", "p.a.design", spec(unit=linear), ADA)
    with pytest.raises(InvalidInputError, match=advice):
        definitions.put("metric", "p.a", metric(unit=unit), ADA)


ZERO: dict[str, Any] = {"missing": "zero"}
MEDIAN: dict[str, Any] = {"reduce": {"by": "median", "blob": "b", "key": "k"}}


def index_of(world: World, name: str) -> list[float | None]:
    """Return the values of a metric in the index, in order of the jobs."""
    with world.record.read() as connection:
        ids = select(metric_table.c.id).where(metric_table.c.name == name)
        query = select(measurement.c.value).where(measurement.c.metric_id.in_(ids))
        return list(connection.execute(query.order_by(measurement.c.job_id)).scalars())


def settle(world: World) -> None:
    while world.deriver.derive_some():
        pass


def test_zero_becomes_absent_in_stored_jobs_and_a_value_again(world: World) -> None:
    body = b'{"measurements": [{"metric": "p.a", "value": 0.0, "unit": "mmag"}]}'
    store_job(world.record, body=body, new_units={"p.a": "mmag"})
    world.deriver.catch_up()
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    for document, values in ((metric(**ZERO), [None]), (metric(), [0.0])):
        change = world.definitions.put("metric", "p.a", document, ADA)
        settle(world)
        assert (change.requeued_jobs, index_of(world, "p.a")) == (1, values)


def test_a_metric_that_is_made_from_arrays_has_values_from_stored_jobs(world: World) -> None:
    world.measure("mmag")
    blob = '{"identifier": "i", "name": "b", "data": {"k": {"value": [1, 3], "unit": "mag"}}}'
    store_job(world.record, body=f'{{"measurements": [], "blobs": [{blob}]}}'.encode())
    world.deriver.catch_up()
    world.definitions.post_one("metric", "q.m", metric("q.m", **MEDIAN), ADA)
    settle(world)
    assert (index_of(world, "q.m"), world.requeued()) == ([2000.0], [2])
    world.definitions.delete("metric", "q.m", ADA)
    settle(world)
    assert index_of(world, "q.m") == []


def test_a_definition_with_an_impossible_derivation_is_refused(definitions: Definitions) -> None:
    with pytest.raises(InvalidInputError) as caught:
        definitions.post_one("metric", "p.a", metric(missing="nan", reduce="mode"), ADA)
    first, second = caught.value.detail
    assert (first.loc, second.loc) == (("body", "missing"), ("body", "reduce", "by"))
    assert first.msg == "'nan' is no way to write a missing value: write zero"
    assert second.msg.startswith("values are not reduced by 'mode': write count, max, mean")


def test_an_aggregate_of_what_is_not_declared_or_does_not_fit_is_refused(
    definitions: Definitions,
) -> None:
    made = {"of": "p.a", "over": ["fiber"], "by": "max"}
    with pytest.raises(InvalidInputError, match=r"the metric 'p\.a' is not declared"):
        definitions.post_one("metric", "p.m", metric("p.m", aggregate=made), ADA)
    definitions.post("metric", [metric("p.m", aggregate=made), metric("p.a")], ADA)
    with pytest.raises(InvalidInputError, match=r"'mmag', the unit of 'p\.a', does not convert"):
        definitions.post_one("metric", "p.n", metric("p.n", unit="s", aggregate=made), ADA)
    with pytest.raises(InvalidInputError, match=r"'p\.m' is an aggregate itself: name p\.a"):
        definitions.post_one("metric", "p.n", metric("p.n", aggregate={**made, "of": "p.m"}), ADA)
    counted = {**made, "by": "count"}
    assert definitions.post_one("metric", "p.n", metric("p.n", unit="", aggregate=counted), ADA)
