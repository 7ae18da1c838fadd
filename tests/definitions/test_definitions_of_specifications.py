from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.definitions.definitions import Definitions
from squash_api.errors import ForbiddenError, NameTakenError, NotFoundError
from squash_api.judging.kinds.threshold import Threshold
from tests.support.definitions import ADA, BOB, World, metric, spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as site:
        yield site


@pytest.fixture
def definitions(world: World) -> Definitions:
    return world.definitions


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
