from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.accounts.accounts import Account
from squash_api.definitions.definitions import Definitions
from squash_api.errors import ForbiddenError, NameTakenError, NotFoundError
from tests.support.definitions import ADA, BOB, ROOT, World, metric, spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as site:
        yield site


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
