from collections.abc import Iterable
from typing import Any

import pytest

from squash_api.definitions.in_force import Snapshot
from squash_api.errors import InvalidInputError
from squash_api.judging.specifications import Specification, specification_from_json
from squash_api.reports.document import Missing, SilentPackage
from squash_api.reports.results import Limits
from squash_api.reports.subject import Gaps, Subject, filters_of, gaps_of, subject_of, title_of
from squash_api.schema.names import Schema
from squash_api.trends.question import Question, read_report_question
from squash_api.verify.metrics import metric_from_json
from tests.support.definitions import metric, spec

SCHEMA = Schema()
# 2026-11-22 12:00 UTC
NOW_NS = 1_795_348_800 * 10**9
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


def chosen(**asked: Any) -> Subject:
    return subject_of(snapshot(*SPECS), {"p.a", "r.undeclared"}, Question(**asked))


def names(subject: Subject) -> set[str]:
    return {item.name for found in subject.specifications.values() for item in found}


def test_without_filters_everything_is_chosen() -> None:
    found = chosen()
    assert found.metrics == {"p.a", "p.b", "q.a", "r.undeclared"}
    assert names(found) == {item["name"] for item in SPECS}


def test_metrics_and_packages_are_added_up() -> None:
    assert chosen(metrics=("p.a",), packages=("q",)).metrics == {"p.a", "q.a"}


def test_a_tag_is_of_the_metric_or_of_the_specification() -> None:
    found = chosen(labels=("chromatic",))
    assert found.metrics == {"p.a", "p.b"}
    assert names(found) == {"p.a.design", "p.a.minimum", "p.b.stretch"}


def test_of_several_tags_all_are_asked_for() -> None:
    assert names(chosen(labels=("chromatic", "design"))) == {"p.a.design"}


def test_the_level_leaves_out_milder_specifications_and_keeps_the_metrics() -> None:
    found = chosen(level="CRITICAL")
    assert (names(found), len(found.metrics)) == ({"p.a.minimum"}, 4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metrics": ("p.aa",)}, "There is no metric `p.aa`; did you mean `p.a`?"),
        ({"packages": ("nothing",)}, "There is no package `nothing`."),
    ],
)
def test_what_does_not_exist_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        chosen(**asked)
    assert caught.value.message == message


# What was not measured


def gaps(found: Iterable[str], used: Iterable[str] = (), **asked: Any) -> Gaps:
    subject = chosen(**asked)
    limits = Limits(subject.specifications, SCHEMA)
    limits.used.update(used)
    return gaps_of(subject, set(found), limits, Question(**asked), SCHEMA)


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
    tags = {"filter": ("g",)}
    found = gaps({"p.a", "p.b", "q.a"}, used=["p.a.design", "p.b.stretch", "q.a.design"], tags=tags)
    assert found.idle == []


# In words


def about(**given: str) -> Question:
    return read_report_question(given.items(), now_ns=NOW_NS).about


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({"run": "42", "pipeline": "drp"}, "Run 42, pipeline drp"),
        ({"version_tag": "w_47"}, "Release w_47"),
        (
            {"since": "2026-11-20", "until": "2026-11-21"},
            "2026-11-20 00:00 to 2026-11-21 23:59 UTC",
        ),
        ({"run": "1", "since": "2026-11-20"}, "Run 1, 2026-11-20 00:00 to 2026-11-22 12:00 UTC"),
        ({"run": "1", "until": "2026-11-20"}, "Run 1, until 2026-11-20 23:59 UTC"),
    ],
)
def test_title_says_what_it_is_about(given: dict[str, str], title: str) -> None:
    assert title_of(about(**given), now_ns=NOW_NS) == title


def test_several_runs_are_named() -> None:
    assert title_of(Question(runs=("1", "2")), now_ns=NOW_NS) == "Runs 1, 2"


def test_a_question_without_bounds_is_everything() -> None:
    assert title_of(Question(), now_ns=NOW_NS) == "Everything"


def test_filters_are_named_beside_the_title() -> None:
    given: dict[str, Any] = {"run": "1", "package": "p", "filter": "r", "level": "CRITICAL"}
    assert filters_of(about(**given)) == {
        "filter": ("r",),
        "package": ("p",),
        "level": ("CRITICAL",),
    }
