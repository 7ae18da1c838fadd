import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.schema.text import (
    SentNumber,
    as_sent,
    clean_text,
    finite,
    link_text,
    sent_integer,
    sent_number,
    tag_text,
)
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
        (10**22, "1e+22"),
        (10**22 + 1, "10000000000000000000001"),
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


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("http://a", "http://a"),
        ("https://a.b/c?d=e#f", "https://a.b/c?d=e#f"),
        ("HTTPS://A", "HTTPS://A"),
        ("https://a.example/my run", "https://a.example/my%20run"),
        ("https://a/|https://b", "https://a/%7Chttps://b"),
        ("https://a/<b>'\"`", "https://a/%3Cb%3E'%22%60"),
        ("https://a/100%/%20x", "https://a/100%25/%20x"),
        ("https://a/é\n", "https://a/%C3%A9"),
        (" http://a ", "http://a"),
    ],
)
def test_an_http_url_is_written_so_that_it_opens_what_it_shows(text: str, link: str) -> None:
    assert link_text(text) == link
    assert link_text(link) == link


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "//a", "ftp://a", "javascript:alert(1)", "https://", "https://a b"),
        *("https://a|b", "https://user@a", "https://user:password@a/b", "https://good.example@a"),
    ],
)
def test_nothing_else_is_a_link(text: str) -> None:
    assert link_text(text) is None


@given(hostile_text)
def test_no_link_can_be_left_before_its_end(text: str) -> None:
    link = link_text(f"https://a/{text}")
    assert link is not None
    assert not set(link) & set(' |<>"`\\^{}\n')
    assert link.isascii()


@pytest.mark.parametrize(
    ("text", "is_rounded"),
    [
        ("12345678901234567890123", True),
        ("18446744073709551616", False),
        ("0.1234567890123456789", True),
        # All digits of the float that is nearest to 0.1, cut off.
        ("0.10000000000000000555", False),
        ("1e-400", True),
    ],
)
def test_a_number_that_a_float_rounds_keeps_its_digits(text: str, *, is_rounded: bool) -> None:
    number = sent_number(text) if "." in text or "e" in text else sent_integer(text)
    assert isinstance(number, SentNumber)
    assert (tag_text(number), tag_text([number])) == (text, f"[{text}]")
    assert number.is_rounded is is_rounded
    assert orjson.dumps([number], default=as_sent) == f"[{text}]".encode()


@pytest.mark.parametrize("text", ["0.1", "0.30000000000000004", "1e22", "-7.0", "1E5", "1e400"])
def test_other_numbers_are_floats(text: str) -> None:
    assert type(sent_number(text)) is float


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_back_as_it_is_written(number: float) -> None:
    assert type(sent_number(repr(number))) is float


@pytest.mark.parametrize("number", [0, 1, -2.5, 1e308])
def test_a_finite_number_stays(number: float) -> None:
    assert finite(number) == number


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_what_is_no_finite_float_is_none(number: float) -> None:
    assert finite(number) is None
