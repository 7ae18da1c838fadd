from collections.abc import Iterable
from typing import Any

import pytest

from squash_api.definitions.in_force import Snapshot
from squash_api.errors import InvalidInputError
from squash_api.judging.specifications import Specification, specification_from_json
from squash_api.reports.choice import Choice, Gaps, choose, gaps_of
from squash_api.reports.document import Missing, SilentPackage
from squash_api.reports.results import Limits
from squash_api.reports.scope import Scope
from squash_api.schema.names import Schema
from squash_api.verify.metrics import metric_from_json
from tests.support.definitions import metric, spec

SCHEMA = Schema()
METRICS = (
    metric("p.a", tags=["chromatic"]),
    metric("p.b"),
    metric("q.a"),
)
SPECS = (
    spec("p.a.design", tags=["design"]),
    spec("p.a.minimum", tags=["minimum"], metadata_query={"filter_name": "r"}),
    spec("p.b.stretch", tags=["stretch", "chromatic"]),
    spec("q.a.design", tags=["design"]),
)


def snapshot(*documents: dict[str, Any]) -> Snapshot:
    by_metric: dict[str, list[Specification]] = {}
    for document in documents:
        item = specification_from_json(document)
        by_metric.setdefault(item.metric, []).append(item)
    declared = {item["name"]: metric_from_json(item) for item in METRICS}
    return Snapshot({}, {}, declared, by_metric)


def chosen(**scope: Any) -> Choice:
    return choose(snapshot(*SPECS), {"p.a", "r.undeclared"}, Scope(**scope))


def names(choice: Choice) -> set[str]:
    return {item.name for found in choice.specifications.values() for item in found}


def test_without_filters_everything_is_chosen() -> None:
    found = chosen()
    assert found.metrics == {"p.a", "p.b", "q.a", "r.undeclared"}
    assert names(found) == {item["name"] for item in SPECS}


def test_metrics_and_packages_are_added_up() -> None:
    assert chosen(metrics=("p.a",), packages=("q",)).metrics == {"p.a", "q.a"}


def test_a_tag_is_of_the_metric_or_of_the_specification() -> None:
    found = chosen(tags=("chromatic",))
    assert found.metrics == {"p.a", "p.b"}
    assert names(found) == {"p.a.design", "p.a.minimum", "p.b.stretch"}


def test_of_several_tags_all_are_asked_for() -> None:
    assert names(chosen(tags=("chromatic", "design"))) == {"p.a.design"}


def test_the_level_leaves_out_milder_specifications_and_keeps_the_metrics() -> None:
    found = chosen(level="CRITICAL")
    assert (names(found), len(found.metrics)) == ({"p.a.minimum"}, 4)


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ({"metrics": ("p.aa",)}, "There is no metric p.aa; did you mean p.a?"),
        ({"packages": ("nothing",)}, "There is no package nothing."),
    ],
)
def test_what_does_not_exist_is_refused(scope: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        chosen(**scope)
    assert caught.value.message == message


# What was not measured


def gaps(found: Iterable[str], used: Iterable[str] = (), **scope: Any) -> Gaps:
    choice = chosen(**scope)
    limits = Limits(choice.specifications, SCHEMA)
    limits.used.update(used)
    return gaps_of(choice, set(found), limits, Scope(**scope), SCHEMA)


def test_metrics_with_limits_that_have_no_value_are_missing() -> None:
    assert gaps({"p.a", "q.a"}).missing == [Missing("p.b", ["p.b.stretch"])]


def test_packages_of_which_nothing_was_measured_are_told_of_apart() -> None:
    found = gaps({"q.a"})
    assert (found.missing, found.silent) == ([], [SilentPackage("p", 2)])


def test_a_package_that_was_asked_for_is_missing_metric_by_metric() -> None:
    found = gaps(set(), packages=("p",))
    assert ([item.metric for item in found.missing], found.silent) == (["p.a", "p.b"], [])


def test_a_metric_that_was_asked_for_is_missing() -> None:
    assert [item.metric for item in gaps(set(), metrics=("q.a",)).missing] == ["q.a"]


def test_specifications_that_applied_to_nothing_are_idle() -> None:
    found = gaps({"p.a", "p.b", "q.a"}, used=["p.a.design", "p.b.stretch", "q.a.design"])
    assert found.idle == ["p.a.minimum"]


def test_limits_for_another_filter_than_was_asked_for_are_not_missed() -> None:
    where = (("filter", ("g",)),)
    found = gaps(
        {"p.a", "p.b", "q.a"}, used=["p.a.design", "p.b.stretch", "q.a.design"], where=where
    )
    assert found.idle == []
