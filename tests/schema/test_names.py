from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from squash_api.errors import SettingsError
from squash_api.schema.names import (
    CONTRACT_FIELDS,
    FIELD_SOURCES,
    META_PREFIX,
    SERIES_TAGS,
    TAGS,
    TEXT_SUFFIX,
    Cleaning,
    Schema,
    Term,
    split_metric_name,
)
from squash_api.schema.text import MAX_FIELD_TEXT_BYTES, MAX_TEXT_BYTES, clean_text
from tests.support.json_documents import keys, metas, values

SCHEMA = Schema()
EXTENDED = Schema(("site",))


def tags_of(meta: dict[str, Any]) -> dict[str, str]:
    return SCHEMA.context(meta).tags


def fields_of(meta: dict[str, Any]) -> dict[str, str | float]:
    return SCHEMA.context(meta).fields


def reasons_of(meta: dict[str, Any]) -> dict[str, str]:
    return {item.key: item.reason for item in SCHEMA.context(meta).cleanings}


# The tags


def test_tags_are_exactly_those_of_the_design() -> None:
    assert Schema().tags == (
        *("env_name", "instrument", "dataset", "dataset_name", "dataset_repo_url", "filter"),
        *("physical_filter", "pipeline", "status", "ccdnum", "detector", "tract", "patch", "band"),
        *("skymap", "camera_name"),
    )


@pytest.mark.parametrize("name", [name for name in TAGS if name != "physical_filter"])
def test_a_key_named_like_a_tag_becomes_that_tag_alone(name: str) -> None:
    context = SCHEMA.context({name: "x"})
    assert (context.tags, context.fields) == ({name: "x"}, {})


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("filter_name", "filter"),
        ("physical_filter", "filter"),
        ("ci_dataset", "dataset"),
        ("ci_name", "pipeline"),
    ],
)
def test_an_alias_feeds_its_tag(key: str, tag: str) -> None:
    assert tags_of({key: "x"})[tag] == "x"


def test_physical_filter_keeps_a_tag_of_its_own() -> None:
    assert tags_of({"physical_filter": "i2", "filter_name": "i"}) == {
        "filter": "i",
        "physical_filter": "i2",
    }


def test_aliases_are_taken_in_the_order_of_the_design() -> None:
    assert tags_of({"filter": "3", "physical_filter": "2", "filter_name": "1"})["filter"] == "1"
    assert tags_of({"filter": "3", "physical_filter": "2"})["filter"] == "2"
    assert tags_of({"dataset": "2", "ci_dataset": "1"})["dataset"] == "1"


def test_a_later_alias_at_the_top_level_comes_before_a_better_one_in_env() -> None:
    assert tags_of({"dataset": "top", "env": {"ci_dataset": "env"}})["dataset"] == "top"


def test_env_comes_before_other_objects() -> None:
    meta = {"other": {"instrument": "B"}, "env": {"instrument": "A"}}
    assert tags_of(meta)["instrument"] == "A"


def test_an_object_inside_env_comes_after_env() -> None:
    meta = {"env": {"deep": {"instrument": "B"}, "instrument": "A"}}
    assert tags_of(meta)["instrument"] == "A"


def test_a_source_without_text_gives_way_to_the_next() -> None:
    assert tags_of({"filter_name": "", "filter": "r"})["filter"] == "r"
    assert tags_of({"filter_name": None, "env": {"filter_name": "r"}})["filter"] == "r"


def test_the_value_that_loses_a_tag_is_named() -> None:
    assert reasons_of({"filter_name": "r", "filter": "i"}) == {
        "filter": "another key feeds 'filter': left out"
    }


def test_nothing_is_said_of_a_loser_with_the_same_value() -> None:
    assert reasons_of({"ci_dataset": "x", "dataset": "x"}) == {}


def test_null_is_nothing_and_needs_no_word() -> None:
    context = SCHEMA.context({"instrument": None, "visit": None})
    assert (context.tags, context.fields, context.cleanings) == ({}, {}, [])


@pytest.mark.parametrize("value", ["", "\n", "\\", float("nan")])
def test_an_empty_tag_is_left_out_by_name(value: Any) -> None:
    context = SCHEMA.context({"instrument": value})
    assert context.tags == {}
    assert context.cleanings == [Cleaning("instrument", "empty: left out")]


def test_a_tag_of_a_thousand_bytes_stays() -> None:
    assert tags_of({"instrument": "x" * MAX_TEXT_BYTES})


def test_a_longer_tag_is_left_out_by_name() -> None:
    meta = {"instrument": "é" * (MAX_TEXT_BYTES // 2 + 1)}
    assert tags_of(meta) == {}
    assert list(reasons_of(meta)) == ["instrument"]


def test_a_tag_that_was_cleaned_is_named() -> None:
    context = SCHEMA.context({"instrument": "HSC\nforged,t=v f=1"})
    assert context.tags == {"instrument": "HSCforged,t=v_f=1"}
    assert context.cleanings == [
        Cleaning("instrument", "characters that InfluxDB cannot hold were removed")
    ]


def test_spaces_in_a_tag_become_underscores_without_a_word() -> None:
    context = SCHEMA.context({"dataset": "HSC RC2"})
    assert (context.tags, context.cleanings) == ({"dataset": "HSC_RC2"}, [])


def test_an_added_tag_is_a_tag_and_no_field() -> None:
    context = EXTENDED.context({"site": "summit"})
    assert (context.tags, context.fields) == ({"site": "summit"}, {})


def test_an_added_tag_that_exists_already_is_there_once() -> None:
    assert Schema(("band", "site", "site")).tags == (*TAGS, "site")


@pytest.mark.parametrize(
    "name",
    [
        *("time", "run_id", "squash_id", "meta.x", "_field", "a b", "a\n", "", "ends\\"),
        *("filter_name", "ci_dataset", "ci_name", "date", "packages", "ci_label", "x" * 1001),
    ],
)
def test_a_tag_cannot_be_added_by_the_name(name: str) -> None:
    with pytest.raises(SettingsError, match="SQUASH_TAGS"):
        Schema((name,))


# The fields of the contract


@pytest.mark.parametrize(("key", "name"), [("ci_id", "run_id"), ("run_id", "run_id")])
def test_run_id_is_a_text_field(key: str, name: str) -> None:
    assert fields_of({"env": {key: 904}}) == {name: "904"}


@pytest.mark.parametrize("key", ["ci_url", "run_id_url", "run_url"])
def test_run_url_is_a_plain_url(key: str) -> None:
    assert fields_of({key: "https://ci/9"}) == {"run_url": "https://ci/9"}


@pytest.mark.parametrize("text", ["javascript:alert(1)", "[904](https://ci/9)", "unknown"])
def test_a_run_url_that_is_no_link_is_left_out_by_name(text: str) -> None:
    meta = {"env": {"ci_url": text}}
    assert fields_of(meta) == {}
    assert list(reasons_of(meta)) == ["ci_url"]


def test_a_name_of_the_contract_that_only_the_service_fills_is_metadata() -> None:
    assert fields_of({"squash_id": 5, "timestamp": "now"}) == {
        "meta.squash_id": 5.0,
        "meta.timestamp.text": "now",
    }


@pytest.mark.parametrize("key", ["date", "ci_label", "packages"])
@pytest.mark.parametrize("value", ["x", {"a": 1}, ["a"]])
def test_a_key_that_is_no_metadata_is_dropped_at_every_level(key: str, value: Any) -> None:
    assert fields_of({key: value, "env": {key: value}, "o": {key: value}}) == {}


# Other metadata


@pytest.mark.parametrize(
    ("value", "name", "stored"),
    [
        (8437, "meta.visit", 8437.0),
        (1.5, "meta.visit", 1.5),
        ("8437", "meta.visit.text", "8437"),
        (True, "meta.visit.text", "true"),
        ([1, 2.0], "meta.visit.text", "[1,2]"),
    ],
)
def test_other_metadata_is_a_field_named_by_its_type(
    value: Any, name: str, stored: str | float
) -> None:
    assert fields_of({"visit": value}) == {name: stored}


def test_a_nested_value_is_named_by_its_innermost_key() -> None:
    assert fields_of({"a": {"b": {"c": 1}}}) == {"meta.c": 1.0}


def test_the_second_value_of_a_key_has_its_parent_in_front() -> None:
    meta = {"c": 1, "a": {"b": {"c": 2}}}
    assert fields_of(meta) == {"meta.c": 1.0, "meta.b.c": 2.0}


def test_the_third_value_of_a_key_has_all_its_parents_in_front() -> None:
    meta = {"c": 1, "b": {"c": 2}, "a": {"b": {"c": 3}}}
    assert fields_of(meta) == {"meta.c": 1.0, "meta.b.c": 2.0, "meta.a.b.c": 3.0}


def test_a_value_whose_names_are_all_taken_is_left_out_by_name() -> None:
    meta = {"c": 1, "b.c": 2, "a.b.c": 3, "a": {"b": {"c": 4}}}
    assert len(fields_of(meta)) == 3
    assert list(reasons_of(meta)) == ["a.b.c"]


def test_two_keys_that_are_cleaned_to_one_leave_the_first() -> None:
    assert fields_of({"k": 1, "k\n": 2}) == {"meta.k": 1.0}


def test_a_number_below_a_text_of_the_parents_name_does_not_take_its_field() -> None:
    meta = {"text": 1, "b": {"text": 2}}
    other = {"b": "words"}
    assert set(fields_of(meta)) & set(fields_of(other)) == set()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("visit", float("inf")),
        ("visit", ""),
        ("visit", "x" * (MAX_FIELD_TEXT_BYTES + 1)),
        ("", 1),
        ("\n", "x"),
        ("k" * (MAX_TEXT_BYTES + 1), 1),
        ("a.text", 1),
    ],
)
def test_metadata_that_cannot_be_a_field_is_left_out_by_name(key: str, value: Any) -> None:
    assert fields_of({key: value}) == {}
    assert list(reasons_of({key: value})) == [key]


def test_text_of_the_longest_field_stays() -> None:
    assert fields_of({"note": "x" * MAX_FIELD_TEXT_BYTES})


# Properties


@given(metas)
def test_any_metadata_has_a_context(meta: dict[str, Any]) -> None:
    SCHEMA.context(meta)


def test_metadata_as_deep_as_json_is_accepted_has_a_context() -> None:
    deep: Any = 1
    deep_list: Any = 1
    for _ in range(250):
        deep, deep_list = {"a": deep}, [deep_list]
    assert set(fields_of({"o": deep, "l": deep_list})) == {"meta.a", "meta.l.text"}


@given(metas)
def test_every_name_and_text_is_clean(meta: dict[str, Any]) -> None:
    context = EXTENDED.context(meta)
    texts = [value for value in context.fields.values() if isinstance(value, str)]
    for text in (*context.fields, *context.tags.values(), *texts):
        assert text
        assert clean_text(text) == text


@given(metas)
def test_tags_have_names_of_tags_only(meta: dict[str, Any]) -> None:
    assert set(EXTENDED.context(meta).tags) <= set(EXTENDED.tags)


@given(metas)
@example({"text": 1, "b": {"text": 2}})
def test_the_type_of_a_field_follows_from_its_name(meta: dict[str, Any]) -> None:
    for name, value in SCHEMA.context(meta).fields.items():
        is_text = name in FIELD_SOURCES or (
            name.endswith(TEXT_SUFFIX) and name != f"{META_PREFIX}text"
        )
        assert isinstance(value, str if is_text else float)


@given(metas, metas)
def test_a_field_has_one_type_in_all_documents(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = fields_of(one), fields_of(other)
    for name in set(first) & set(second):
        assert type(first[name]) is type(second[name])


@given(metas)
def test_no_field_of_metadata_can_be_a_metric(meta: dict[str, Any]) -> None:
    for name in SCHEMA.context(meta).fields:
        assert SCHEMA.name_problem(f"package.{name}")


@given(keys, values)
@example("date", "2026-01-01")
@example("a.text", 1)
@example("run_url", "unknown")
@example("visit", 10**400)
@example("physical_filter", "r")
def test_a_term_is_satisfied_by_metadata_that_holds_it(key: str, value: Any) -> None:
    term = SCHEMA.term(key, value)
    if term is not None:
        assert SCHEMA.context({key: value}).satisfies(term)
        assert SCHEMA.context({"env": {key: value}}).satisfies(term)


@given(keys, values)
def test_a_value_without_a_term_leaves_no_trace(key: str, value: Any) -> None:
    if SCHEMA.term(key, value) is None and not isinstance(value, dict):
        context = SCHEMA.context({key: value})
        assert (context.tags, context.fields) == ({}, {})


@given(keys, values, values)
def test_a_term_is_not_satisfied_by_a_value_with_another_term(
    key: str, one: Any, other: Any
) -> None:
    term, another = SCHEMA.term(key, one), SCHEMA.term(key, other)
    if term is not None and another is not None:
        assert SCHEMA.context({key: other}).satisfies(term) == (term == another)


@given(st.sampled_from(["instrument", "visit"]), st.integers(-(2**53), 2**53))
def test_a_term_does_not_tell_an_integer_from_the_equal_float(key: str, number: int) -> None:
    assert SCHEMA.term(key, number) == SCHEMA.term(key, float(number))


# Terms


@pytest.mark.parametrize(
    ("key", "value", "term"),
    [
        ("instrument", "HSC", Term("instrument", "HSC", is_tag=True)),
        ("filter_name", "r", Term("filter", "r", is_tag=True)),
        ("physical_filter", "r", Term("physical_filter", "r", is_tag=True)),
        ("ccdnum", 12.0, Term("ccdnum", "12", is_tag=True)),
        ("ci_id", 904, Term("run_id", "904", is_tag=False)),
        ("visit", 12, Term("meta.visit", 12.0, is_tag=False)),
        ("visits", [1, 2], Term("meta.visits.text", "[1,2]", is_tag=False)),
    ],
)
def test_a_term_is_compared_by_the_mapped_name(key: str, value: Any, term: Term) -> None:
    assert SCHEMA.term(key, value) == term


@pytest.mark.parametrize("value", [None, {"a": 1}, "", float("nan")])
def test_a_term_that_nothing_can_match_is_none(value: Any) -> None:
    assert SCHEMA.term("instrument", value) is None


def test_a_number_and_its_text_are_different_for_what_is_no_tag() -> None:
    context = SCHEMA.context({"visit": "12"})
    number, text = SCHEMA.term("visit", 12), SCHEMA.term("visit", "12")
    assert number is not None
    assert text is not None
    assert (context.satisfies(number), context.satisfies(text)) == (False, True)


# Metric names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("package.metric", ("package", "metric")),
        ("package.p.metric", ("package", "p.metric")),
        ("metric", ("", "metric")),
        ("package.", ("package", "")),
        (".metric", ("", "metric")),
    ],
)
def test_a_metric_name_is_split_at_its_first_dot(name: str, parts: tuple[str, str]) -> None:
    assert split_metric_name(name) == parts


@pytest.mark.parametrize("name", ["validate_drp.AM1", "a.b.c", "päckage.Ω", "a b.c,d=e", "p.visit"])
def test_a_metric_can_have_the_name(name: str) -> None:
    assert SCHEMA.name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *("metric", "package.", ".metric", "#package.metric", "squash.x", "squash_x.y"),
        *("p.a\nb", "p\x00.a", "p.a\\", "p.\ud800", "p.#!~#", "_measurements.x"),
        *("p." + "x" * 999, "p.time", "p.meta.x", "p.instrument", "p.filter"),
        *(f"p.{name}" for name in sorted(CONTRACT_FIELDS)),
    ],
)
def test_a_metric_cannot_have_the_name(name: str) -> None:
    assert SCHEMA.name_problem(name)


def test_a_metric_cannot_be_named_like_an_added_tag() -> None:
    assert SCHEMA.name_problem("p.site") is None
    assert EXTENDED.name_problem("p.site")


@given(keys, keys)
def test_a_metric_that_can_have_its_name_has_a_clean_one(package: str, key: str) -> None:
    name = f"{package}.{key}"
    assert SCHEMA.name_problem(name) or clean_text(name) == name


def test_parts_of_a_focal_plane_tell_series_apart_where_they_are_tags() -> None:
    schema = Schema(extra_tags=("site", "fiber", "ccd"))
    assert schema.series_tags == (*SERIES_TAGS, "ccd", "fiber")
    assert Schema().series_tags == SERIES_TAGS
