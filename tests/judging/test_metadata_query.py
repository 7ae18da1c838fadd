"""Conditions of metadata queries: what they mean, what is refused, and their words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.generate.influxql import condition, unless
from squash_api.generate.kapacitor.nodes import term_text
from squash_api.judging.alert_plan import BranchKey
from squash_api.judging.metadata_query import (
    applies,
    condition_words,
    parse_query,
    query_terms,
    term_of,
    value_words,
)
from squash_api.schema.names import Among, Interval, Schema, Term
from squash_api.verify.metrics import Fault

SCHEMA = Schema()
FEW = st.integers(-3, 3).map(float)


def matches(query: dict[str, Any], meta: dict[str, Any]) -> bool:
    terms = query_terms(query, SCHEMA)
    return terms is not None and applies(terms, SCHEMA.context(meta))


def only(key: str, wanted: Any) -> Term:
    term = term_of(key, wanted, SCHEMA)
    assert term is not None
    return term


def faults_of(query: dict[str, Any]) -> list[str]:
    faults: list[Fault] = []
    kept = parse_query(query, SCHEMA, faults)
    assert kept.keys() == query.keys()
    return [fault.message for fault in faults]


@pytest.mark.parametrize(
    ("condition", "met", "missed"),
    [
        ({">=": 1.2}, [1.2, 5, 1e300], [1.19, -3]),
        ({">": 1.2}, [1.21], [1.2]),
        ({"<=": 2}, [2, -9], [2.01]),
        ({"<": 2}, [1.99], [2, 3]),
        ({">=": 1.2, "<": 2}, [1.2, 1.9], [1.1, 2]),
        ({">": 1, "<=": 2}, [2, 1.5], [1, 2.1]),
        ({">=": 2, "<=": 2}, [2], [1.9, 2.1]),
    ],
)
def test_numbers_may_be_between_others(
    condition: dict[str, float], met: list[float], missed: list[float]
) -> None:
    assert faults_of({"airmass": condition}) == []
    assert all(matches({"airmass": condition}, {"airmass": value}) for value in met)
    assert not any(matches({"airmass": condition}, {"airmass": value}) for value in missed)
    assert not matches({"airmass": condition}, {})
    # In InfluxDB, a text is another field.
    assert not matches({"airmass": condition}, {"airmass": "1.5"})


def test_values_may_be_in_a_list() -> None:
    query = {"filter_name": {"in": ["g", "r"]}, "visit": {"in": [7, 8]}, "seeing": {"in": ["a"]}}
    assert faults_of(query) == []
    meta = {"physical_filter": "r", "visit": 8, "seeing": "a"}
    assert matches(query, meta)
    assert not matches(query, {**meta, "physical_filter": "i"})
    assert not matches(query, {**meta, "visit": 9})
    assert not matches(query, {"visit": 8, "seeing": "a"})


def test_a_tag_is_text_however_the_list_is_written() -> None:
    assert matches({"detector": {"in": [1, "2"]}}, {"detector": 2})
    assert only("detector", {"in": [10, 9, "9"]}) == Term("detector", Among(("10", "9")), True)


def test_a_list_of_one_is_the_value_itself() -> None:
    assert only("filter_name", {"in": ["r"]}) == only("filter_name", "r")
    assert only("airmass", {"in": [1, 1.0]}) == only("airmass", 1)


def test_branches_without_conditions_keep_their_keys() -> None:
    def key(query: dict[str, Any]) -> str:
        return BranchKey(query_terms(query, SCHEMA) or (), ("dataset",), None, 60).key

    # As the release 1.2.1 made it.
    assert key({"filter_name": "r", "airmass": 1.5}) == "0291cd0d354e"
    different: list[dict[str, Any]] = [
        {"filter_name": {"in": ["g", "r"]}},
        {"filter_name": {"in": ["g", "i"]}},
        {"airmass": {">=": 1}},
        {"airmass": {">": 1}},
        {"airmass": {"<": 1}},
    ]
    assert len({key(query) for query in different}) == len(different)
    assert key({"filter_name": {"in": ["g", "r"]}}) == key({"filter": {"in": ["r", "g", "g"]}})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"airmass": {}}, "the condition is empty: write"),
        ({"airmass": {">=": 2, "<": 1}}, "no number is >= 2 and < 1: exchange or correct them"),
        ({"airmass": {">": 1, "<": 1}}, "no number is > 1 and < 1"),
        ({"airmass": {">": 1, ">=": 1}}, "'>' and '>=' exclude each other"),
        ({"airmass": {"=>": 1}}, "'=>' is not a condition: did you mean '>='?"),
        ({"airmass": {"==": 1}}, "write the value itself"),
        ({"airmass": {"!=": 1}}, "'!=' is not a condition"),
        ({"airmass": {"between": [1, 2]}}, "write {'>=': 1.2, '<': 2} or {in: [g, r]}"),
        ({"airmass": {">=": "1.2"}}, "'>=' needs a number, and '1.2' is none"),
        ({"airmass": {">=": True}}, "and true is none"),
        ({"airmass": {">=": None}}, "and null is none"),
        ({"airmass": {">=": float("nan")}}, "needs a finite number"),
        ({"airmass": {"<": 2**64}}, "needs a finite number"),
        ({"detector": {"<": 100}}, "the tag 'detector' is text, which has no order: list"),
        ({"filter_name": {">=": 1}}, "the tag 'filter' is text"),
        ({"ci_id": {">=": 1}}, "the field 'run_id' is text"),
        ({"date": {">=": 1}}, "the key 'date' is not written to InfluxDB"),
        ({"filter_name": {"in": []}}, "the list is empty"),
        ({"filter_name": {"in": "g"}}, "'in' is not a list: write {in: ['g']}"),
        ({"filter_name": {"in": ["g", None]}}, "null: null has no text to compare"),
        ({"filter_name": {"in": ["g", {}]}}, "must be text, a number"),
        ({"filter_name": {"in": ["g", ""]}}, "'': empty"),
        ({"filter_name": {"in": ["g"], ">": 1}}, "has no other key"),
        ({"filter_name": {"In": ["g"]}}, "did you mean 'in'?"),
        ({"seeing": {"in": [1, "a"]}}, "numbers and texts in one list"),
        ({"seeing": {"in": ["a"] * 1001}}, "name at most 1000"),
    ],
)
def test_what_is_wrong_is_said_and_matches_nothing(query: dict[str, Any], words: str) -> None:
    (message,) = faults_of(query)
    (key,) = query
    assert message.startswith(f"'{key}: ")
    assert words in message or len(message) == 300
    assert query_terms(query, SCHEMA) is None


def intervals() -> st.SearchStrategy[Interval]:
    ends = st.none() | FEW
    return st.builds(Interval, ends, ends, st.booleans(), st.booleans())


def terms() -> st.SearchStrategy[Term]:
    some = st.lists(FEW, min_size=1, max_size=3, unique=True).map(sorted)
    among = some.map(tuple).map(Among)
    return st.builds(Term, st.just("meta.x"), FEW | among | intervals(), st.just(False))


@given(one=terms(), other=terms())
def test_what_a_term_implies_is_true_wherever_it_is(one: Term, other: Term) -> None:
    tried = [number / 2 for number in range(-9, 10)]
    if one.implies(other):
        assert all(other.is_met_by(value) for value in tried if one.is_met_by(value))
    assert one.implies(one)
    # Terms by whole numbers differ at one of these, if they differ, unless nothing meets them.
    differing = [value for value in tried if one.is_met_by(value) and not other.is_met_by(value)]
    assert not (one.implies(other) and differing)


@given(interval=intervals())
def test_the_example_of_an_interval_is_in_it(interval: Interval) -> None:
    tried = [number / 2 for number in range(-9, 10)]
    if interval.example is None:
        assert not any(map(interval.includes, tried))
    elif interval.low is not None or interval.high is not None:
        assert interval.includes(interval.example)


@pytest.mark.parametrize(
    ("key", "wanted", "tick", "influxql", "words"),
    [
        (
            "filter_name",
            {"in": ["r", "g"]},
            """isPresent("filter") AND ("filter" == 'g' OR "filter" == 'r')""",
            """("filter" = 'g' OR "filter" = 'r')""",
            "g, r",
        ),
        (
            "airmass",
            {">=": 1.2, "<": 2},
            'isPresent("meta.airmass") AND "meta.airmass" >= 1.2 AND "meta.airmass" < 2.0',
            '"meta.airmass" >= 1.2 AND "meta.airmass" < 2.0',
            "\u2265 1.2 and < 2",
        ),
        (
            "airmass",
            {"<=": 2},
            'isPresent("meta.airmass") AND "meta.airmass" <= 2.0',
            '"meta.airmass" <= 2.0',
            "\u2264 2",
        ),
        (
            "airmass",
            {"in": [2, 1]},
            'isPresent("meta.airmass") AND ("meta.airmass" == 1.0 OR "meta.airmass" == 2.0)',
            '("meta.airmass" = 1.0 OR "meta.airmass" = 2.0)',
            "1, 2",
        ),
        (
            "filter_name",
            "r",
            """isPresent("filter") AND "filter" == 'r'""",
            """"filter" = 'r'""",
            "r",
        ),
    ],
)
def test_servers_and_people_are_told_the_same(
    key: str, wanted: Any, tick: str, influxql: str, words: str
) -> None:
    term = only(key, wanted)
    assert (term_text(term), condition([term]), value_words(term)) == (tick, influxql, words)


def test_points_outside_a_list_are_none_of_it() -> None:
    some = [only("filter_name", {"in": ["g", "r"]}), only("dataset", "cosmos")]
    assert unless(some[:1]) == """"filter" != 'g' AND "filter" != 'r'"""
    assert unless(some) == ("""(("filter" != 'g' AND "filter" != 'r') OR "dataset" != 'cosmos')""")


def test_conditions_have_words_and_values_have_none() -> None:
    assert condition_words({">=": 1.2, "<": 2}, is_ascii=True) == ">= 1.2 and < 2"
    assert condition_words({"in": ["g", 5]}) == "in g, 5"
    assert [condition_words(value) for value in ("r", [1], {}, {"a": 1}, {">": "x"})] == [None] * 5
