from datetime import date

import pytest

from squash_api.generate.kapacitor.nodes import (
    AlertBranch,
    after_term,
    age_term,
    head,
    task_text,
    term_text,
    unless_muted,
)
from squash_api.schema.names import Term
from tests.support.tick_reader import ReadTask, read_task

DAY_NS = 86_400 * 10**9


def branch(**changes: object) -> AlertBranch:
    values: dict[str, object] = {
        "note": "design",
        "where": "",
        "per": ("dataset",),
        "shown_tags": ("dataset",),
        "shown_fields": ("run_id",),
        "made_fields": {},
        "id_part": "drp.PA1/1",
        "message": "said",
        "ending": "end",
        "conditions": {"WARNING": ['"PA1" > 5.0']},
        "topic": "metrics-default",
    }
    return AlertBranch(**(values | changes))  # type: ignore[arg-type]


def text(*branches: AlertBranch) -> str:
    return task_text(
        title="Alerts.",
        files=["b.yaml", "a.yaml"],
        place=("my db", "rp"),
        measurement="drp",
        where='isPresent("PA1")',
        branches=branches,
    )


def read(*branches: AlertBranch) -> ReadTask:
    return read_task(text(*branches))


def names_of(task: ReadTask) -> list[str]:
    return [node.name for node in task.branches[0].nodes]


def test_a_head_names_the_files_and_the_database() -> None:
    assert head("Alerts.", ["b.yaml", "a.yaml"], ("my db", "rp")) == (
        '// Alerts.\n// From a.yaml\n// From b.yaml\n\ndbrp "my db"."rp"\n'
    )


def test_fields_are_made_once_and_before_points_are_grouped() -> None:
    whole = text(branch(), branch(note="stretch", per=("filter",)))
    assert whole.count("|eval(") == 1
    assert whole.index("|eval(") < whole.index("|groupBy(")


def test_every_shown_text_has_a_value_before_it_is_read() -> None:
    root = read(branch(), branch(shown_tags=("filter",), shown_fields=())).root
    defaults = [node.arguments[0][0][1] for node in root.nodes if node.name in ("tag", "field")]
    assert defaults == ["'dataset'", "'filter'", "'run_id'"]
    assert root.texts("as") == ["text.dataset", "text.filter", "text.run_id"]


def test_fields_of_all_branches_are_made() -> None:
    root = read(branch(made_fields={"x": "1"}), branch(made_fields={"x": "1", "y": "2"})).root
    assert root.texts("as")[-2:] == ["x", "y"]


def test_an_ending_stands_once_however_often_it_is_used() -> None:
    whole = text(branch(), branch(), branch(ending="other"))
    assert whole.count("'end'") == 1
    assert whole.count("+ ending)") == 2
    assert "+ ending2)" in whole


def test_a_branch_without_terms_or_tags_filters_and_groups_nothing() -> None:
    assert {"where", "groupBy"} & set(names_of(read(branch(per=())))) == set()


def test_terms_filter_and_tags_group() -> None:
    task = read(branch(where='isPresent("filter")'))
    assert names_of(task)[:3] == ["where", "groupBy", "alert"]
    assert task.branches[0].texts("groupBy") == ["dataset"]


def test_an_id_holds_the_group_and_the_message_its_ending() -> None:
    whole = text(branch())
    assert ".id('drp.PA1/1/{{ .Group }}')" in whole
    assert ".message('said' + ending)" in whole
    assert ".details('')" in whole


def test_only_changes_are_told_to_the_topic() -> None:
    task = read(branch(topic="metrics-user-ada"))
    assert "stateChangesOnly" in names_of(task)
    assert task.branches[0].texts("topic") == ["metrics-user-ada"]


def test_levels_are_joined_by_or_and_in_order() -> None:
    conditions = {"INFO": ['"PA1" > 1.0'], "CRITICAL": ['"PA1" > 8.0', '"PA1" < 0.0']}
    whole = text(branch(conditions=conditions))
    assert '.crit(lambda: "PA1" > 8.0\n            OR "PA1" < 0.0)' in whole
    assert whole.index(".crit(") < whole.index(".info(")
    assert ".warn(" not in whole


def test_an_age_is_in_nanoseconds() -> None:
    assert age_term(604_800) == 'unixNano("time") > unixNano(now()) - 604800000000000'


@pytest.mark.parametrize(
    ("day", "end"),
    [
        (date(2026, 12, 15), 1_797_379_200 * 10**9),
        (date(1970, 1, 1), DAY_NS),
        (date(1900, 1, 1), 0),
        (date.max, 2**63 - 1),
    ],
)
def test_a_mute_ends_at_the_next_midnight(day: date, end: int) -> None:
    assert after_term(day) == f"unixNano(now()) >= {end}"


def test_a_condition_that_is_not_muted_stays_as_it_is() -> None:
    assert unless_muted('"a" > 1.0', None) == '"a" > 1.0'
    assert unless_muted('"a" > 1.0', date(1970, 1, 1)) == (
        f'(unixNano(now()) >= {DAY_NS} AND "a" > 1.0)'
    )


@pytest.mark.parametrize(
    ("term", "written"),
    [
        (Term("filter", "it's", is_tag=True), r"""isPresent("filter") AND "filter" == 'it\'s'"""),
        (Term("meta.x", 5.0, is_tag=False), 'isPresent("meta.x") AND "meta.x" == 5.0'),
    ],
)
def test_a_term_asks_first_whether_there_is_a_value(term: Term, written: str) -> None:
    assert term_text(term) == written
