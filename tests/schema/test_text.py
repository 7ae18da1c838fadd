import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.schema.text import clean_text, finite, is_link, tag_text
from tests.support.json_documents import hostile_text, numbers, values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12, "12"),
        (12.0, "12"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (2.5, "2.5"),
        (10**18, "1000000000000000000"),
        (1e18, "1000000000000000000"),
        (1e300, "1e+300"),
        (10**300, "1e+300"),
        (True, "true"),
        (False, "false"),
        ("HSC-R", "HSC-R"),
        ("HSC RC2", "HSC_RC2"),
        ("Ωμ", "Ωμ"),
        ([1, 2.0, "a b"], '[1,2,"a_b"]'),
        ([True, None, [1.0]], "[true,null,[1]]"),
        ([{"b": 1.0, "a": 2}], '[{"a":2,"b":1}]'),
        ([float("nan")], "[null]"),
        ([], "[]"),
    ],
)
def test_a_value_has_this_text(value: Any, text: str) -> None:
    assert tag_text(value) == text


@pytest.mark.parametrize(
    "value", [None, {}, {"a": 1}, "", "\n", "\\", float("nan"), float("inf"), 10**400]
)
def test_a_value_has_no_text(value: Any) -> None:
    assert tag_text(value) is None


@given(numbers, numbers)
def test_numbers_that_are_equal_have_equal_texts(one: float, other: float) -> None:
    if one == other:
        assert tag_text(one) == tag_text(other)


@given(st.integers(-(2**64) + 1, 2**64 - 1))
def test_an_integer_and_the_float_it_equals_have_the_same_text(number: int) -> None:
    if number == float(number):
        assert tag_text(float(number)) == tag_text(number)
        assert tag_text([float(number)]) == tag_text([number])


@given(values)
def test_a_list_read_back_from_json_has_the_same_text(value: Any) -> None:
    assert tag_text([value]) == tag_text([json.loads(json.dumps(value))])


@given(values)
def test_text_of_a_value_is_clean_and_without_spaces(value: Any) -> None:
    text = tag_text(value)
    assert text is None or (text and clean_text(text) == text and " " not in text)


@given(hostile_text)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(hostile_text)
def test_clean_text_can_be_encoded_and_holds_no_line_break(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert len(cleaned.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("a\nforged,t=v f=1", "aforged,t=v f=1"),
        ("\x00\x1f\x7f\x85\u2028\u2029", ""),
        ("\ud800", "\ufffd"),
        ("ends\\\\", "ends"),
        ('a\\,b\\=c\\ d\\"e', 'a,b=c d"e'),
        ("a\\b", "a\\b"),
        ("a\\\n", "a"),
        ("#!~#", "#~#"),
        ("a#!~", "a#~"),
        ("##!~!~", "##~!~"),
        ("a\\\\\\=b", "a=b"),
        ("end\\\\", "end"),
        ("#!\n~", "#~"),
    ],
)
def test_text_is_cleaned_to(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@pytest.mark.parametrize("text", ["http://a", "https://a.b/c?d=e#f", "HTTPS://A"])
def test_http_urls_are_links(text: str) -> None:
    assert is_link(text)


@pytest.mark.parametrize(
    "text",
    ["", "a", "//a", "ftp://a", "javascript:alert(1)", "https://", "https://a b", " http://a"],
)
def test_nothing_else_is_a_link(text: str) -> None:
    assert not is_link(text)


@pytest.mark.parametrize("number", [0, 1, -2.5, 1e308])
def test_a_finite_number_stays(number: float) -> None:
    assert finite(number) == number


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_what_is_no_finite_float_is_none(number: float) -> None:
    assert finite(number) is None
