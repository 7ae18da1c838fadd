from math import inf, nextafter
from pathlib import Path

import pytest

from squash_api.generate.influxql import Place
from squash_api.generate.limits import Part, digits_for, groups_of, level_steps, worst_values
from squash_api.generate.metric_graph import MetricGraph, limit_lines
from squash_api.judging.alert_plan import WatchedMetric, watched_metrics
from squash_api.judging.alerts import Alert, Level
from squash_api.judging.limits import Limit
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Schema, Term
from tests.support.limits import limit as made_limit
from tests.support.metrics_packages import write_metrics_package


def limit(operator: str, value: float, level: Level = "WARNING") -> Limit:
    return made_limit(operator, value, alert=Alert(level=level))


def level_of(steps: list[tuple[float, str | None]], value: float) -> str | None:
    return [level for start, level in steps if value >= start][-1]


def watched(tmp_path: Path, *specs: str, rules: str = "") -> WatchedMetric:
    texts = (f"---\n{text}\n" for text in specs)
    directory = write_metrics_package(tmp_path, specs="".join(texts))
    if rules:
        (directory / "rules" / "validate").mkdir(parents=True)
        (directory / "rules" / "validate" / "rules.yaml").write_text(rules)
    package = load_metrics_package(directory)
    assert package.problems == ()
    (metric,) = watched_metrics(package.specifications.values(), package.metrics, Schema())
    return metric


def spec(name: str, value: float, *, operator: str = "<=", more: str = "") -> str:
    threshold = f"threshold: {{value: {value}, unit: marcsec, operator: '{operator}'}}"
    return f"name: AM1.{name}\n{threshold}\n{more}"


R = "metadata_query: {filter_name: r}"
G = "metadata_query: {filter_name: g}"


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [
        ("<=", None, None, "WARNING"),
        ("<", None, "WARNING", "WARNING"),
        (">=", "WARNING", None, None),
        (">", "WARNING", "WARNING", None),
        ("==", "WARNING", None, "WARNING"),
        ("!=", None, "WARNING", None),
    ],
)
def test_steps_are_exact_for_every_operator(
    operator: str, below: str | None, at: str | None, above: str | None
) -> None:
    steps = level_steps([limit(operator, 8.0)])
    values = (nextafter(8.0, -inf), 8.0, nextafter(8.0, inf))
    assert [level_of(steps, value) for value in values] == [below, at, above]


def test_the_worst_level_broken_counts() -> None:
    steps = level_steps(
        [limit("<=", 20, "CRITICAL"), limit("<=", 10, "WARNING"), limit("<=", 5, "INFO")]
    )
    assert [level for _, level in steps] == [None, "INFO", "WARNING", "CRITICAL"]


def test_the_worst_level_broken_counts_in_whatever_order_they_come() -> None:
    steps = level_steps([limit("<=", 5, "INFO"), limit("<=", 5, "CRITICAL")])
    assert [level for _, level in steps] == [None, "CRITICAL"]


def test_limits_on_both_sides() -> None:
    steps = level_steps([limit("<=", 15, "CRITICAL"), limit(">=", 5, "CRITICAL")])
    assert [level_of(steps, value) for value in (4.9, 5, 15, 15.1)] == [
        "CRITICAL",
        None,
        None,
        "CRITICAL",
    ]


def test_nothing_is_broken_without_limits() -> None:
    assert level_steps([]) == [(-inf, None)]


def test_limits_of_one_value_are_one_line(tmp_path: Path) -> None:
    metric = watched(tmp_path, spec("x", 8, more=R), spec("y", 8, more=G), spec("z", 9))
    assert [line.labels for line in limit_lines(metric)] == [("z",), ("x", "y")]


def test_a_line_names_its_level_the_labels_and_the_limit(tmp_path: Path) -> None:
    metric = watched(tmp_path, spec("minimum", 20, more="tags: [minimum]"))
    assert limit_lines(metric)[0].name == "••• minimum ≤ 20"


def test_a_line_of_many_limits_counts_those_it_does_not_name(tmp_path: Path) -> None:
    metric = watched(tmp_path, *(spec(name, 8) for name in "abcde"))
    assert limit_lines(metric)[0].name == "•• a, b, c and 2 more ≤ 8"


def test_a_line_has_the_worst_of_its_levels_and_names_that_first(tmp_path: Path) -> None:
    metric = watched(tmp_path, spec("a", 8), spec("z", 8, more="tags: [minimum]"))
    assert limit_lines(metric)[0].name == "••• z, a ≤ 8"


def test_the_worst_lines_come_first(tmp_path: Path) -> None:
    metric = watched(
        tmp_path,
        spec("stretch", 5, more="tags: [stretch]"),
        spec("minimum", 20, more="tags: [minimum]"),
        spec("design", 10, more="tags: [design]"),
    )
    levels = [line.level for line in limit_lines(metric)]
    assert levels == ["CRITICAL", "WARNING", "INFO"]


def test_a_line_is_where_any_of_its_limits_applies(tmp_path: Path) -> None:
    metric = watched(tmp_path, spec("x", 8, more=R), spec("y", 8, more=G))
    groups = limit_lines(metric)[0].groups
    assert [[term.value for term in terms] for terms in groups] == [["g"], ["r"]]


def test_a_limit_for_all_counts_in_every_group(tmp_path: Path) -> None:
    metric = watched(tmp_path, spec("x", 8, more=R), spec("all", 9))
    groups = groups_of(metric)
    assert [(group.name, [item.label for item in group.limits]) for group in groups] == [
        ("others", ["all"]),
        ("r", ["all", "x"]),
    ]


def test_what_a_narrower_group_judges_is_left_out_of_the_wider_one(tmp_path: Path) -> None:
    both = "metadata_query: {filter_name: r, dataset: x}"
    specs = (spec("x", 8, more=R), spec("y", 7, more=both), spec("all", 9))
    assert [group.condition for group in groups_of(watched(tmp_path, *specs))] == [
        "\"filter\" != 'r'",
        "\"filter\" = 'r' AND \"dataset\" != 'x'",
        "\"dataset\" = 'x' AND \"filter\" = 'r'",
    ]


def test_a_narrower_group_that_a_field_tells_apart_is_not_left_out(tmp_path: Path) -> None:
    metric = watched(tmp_path, spec("x", 8, more="metadata_query: {visit: 5}"), spec("all", 9))
    assert [group.condition for group in groups_of(metric)] == ["", '"meta.visit" = 5.0']


def test_each_value_of_a_list_has_the_limits_of_all_lists_that_it_is_in(tmp_path: Path) -> None:
    metric = watched(
        tmp_path,
        spec("x", 8, more="metadata_query: {filter_name: {in: [g, r]}}"),
        spec("y", 9, more="metadata_query: {filter_name: {in: [r, i]}}\ntags: minimum"),
    )
    found = {group.condition: [item.label for item in group.limits] for group in groups_of(metric)}
    assert found == {
        "\"filter\" = 'g'": ["x"],
        "\"filter\" = 'i'": ["y"],
        "\"filter\" = 'r'": ["x", "y"],
    }


def test_a_range_is_two_lines_and_what_moves_is_none(tmp_path: Path) -> None:
    rules = """
name: AM1.usual
range: {low: 1, high: 20, unit: marcsec}
---
name: AM1.drift
trend: {floor: 0.5, unit: marcsec}
"""
    metric = watched(tmp_path, spec("x", 8, more=R), rules=rules)
    assert [line.name for line in limit_lines(metric)] == [
        "•• usual ≥ 1",
        "•• usual ≤ 20",
        "•• x ≤ 8",
    ]
    place = Place("d", "r", "validate")
    note = MetricGraph(metric, place).about
    assert "- WARNING: ≤ 20 marcsec (usual)" in note
    words = "within median of 30 ± 5 \u03c3 or ± 0.5 marcsec (drift; drawn on the metric's page)"
    assert f"- WARNING: {words}" in note


def test_filters_with_the_same_limits_are_one_group(tmp_path: Path) -> None:
    metric = watched(
        tmp_path,
        spec("x", 8, more=R),
        spec("y", 8, more=G),
        spec("z", 9, more="metadata_query: {filter_name: z}"),
    )
    assert [(group.name, group.condition) for group in groups_of(metric)] == [
        ("g, r", "(\"filter\" = 'g') OR (\"filter\" = 'r')"),
        ("z", "\"filter\" = 'z'"),
    ]


@pytest.mark.parametrize(
    ("limits", "worst"),
    [
        ([("<=", 8.0)], (True, False, [])),
        ([(">", 8.0)], (False, True, [])),
        ([("<=", 15.0), (">=", 5.0)], (True, True, [])),
        ([("==", 5.0)], (True, True, [])),
        ([("!=", 5.0)], (False, False, [5.0])),
        ([("!=", 5.0), ("<", 8.0)], (True, False, [5.0])),
        ([], (False, False, [])),
    ],
)
def test_the_worst_value_is_at_an_end_or_nearest_to_what_must_not_be(
    limits: list[tuple[str, float]], worst: tuple[bool, bool, list[float]]
) -> None:
    found = worst_values([limit(operator, value) for operator, value in limits])
    assert (found.highest, found.lowest, found.nearest) == worst


def test_the_name_of_a_part_leaves_links_out_where_others_tell_enough() -> None:
    link = Term("dataset_repo_url", "https://example.org/cfht.git", is_tag=True)
    assert Part((link, Term("meta.visit", 5.0, is_tag=False))).name == "5"
    assert Part((link,)).name == link.value


@pytest.mark.parametrize(
    ("operator", "value", "text"), [("<=", 20.0, "≤ 20"), ("!=", 5e-8, "≠ 0.00000005")]
)
def test_a_limit_is_written_as_people_do(
    tmp_path: Path, operator: str, value: float, text: str
) -> None:
    (line,) = limit_lines(watched(tmp_path, spec("x", value, operator=operator)))
    assert line.text == text


@pytest.mark.parametrize(
    ("threshold", "digits"), [(20.0, 2), (0.0, 2), (0.5, 3), (3e-5, 7), (1e-300, 12)]
)
def test_values_near_a_limit_have_three_figures(threshold: float, digits: int) -> None:
    assert digits_for([limit("<=", threshold)]) == digits
