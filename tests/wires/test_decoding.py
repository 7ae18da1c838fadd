import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.errors import InvalidInputError, MalformedJsonError
from squash_api.schema.text import as_sent
from squash_api.wires.decoding import MAX_DEPTH, decode_body, decode_json, path_text
from tests.support.json_documents import values


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


@pytest.mark.parametrize(
    ("body", "document", "count"),
    [
        (b'{"a": [1, 2.5, null, true, "x"]}', {"a": [1, 2.5, None, True, "x"]}, 0),
        (b"[NaN, Infinity, -Infinity]", [None, None, None], 3),
        (b'{"a": "NaN"}', {"a": "NaN"}, 0),
        (b"[1e999, NaN]", [None, None], 1),
        (b"[-1e999]", [None], 0),
        (b'["\\ud800", NaN]', ["\ufffd", None], 1),
        (b'{"\\udfff": 1, "b": NaN}', {"\ufffd": 1, "b": None}, 1),
        (b"[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)], 0),
        (b"[18446744073709551616, NaN]", [2.0**64, None], 1),
        (b"\xef\xbb\xbf[1]", [1], 0),
        (b"[" + b"9" * 400 + b", NaN]", [None, None], 1),
        (b'{"a": 1, "a": NaN}', {"a": None}, 1),
    ],
)
def test_json_and_what_pipelines_take_for_it_is_decoded(
    body: bytes, document: Any, count: int
) -> None:
    assert decode_json(body) == (document, count)


@pytest.mark.parametrize("text", ["[18446744073709551616]", "[18446744073709551616, NaN]"])
def test_an_integer_beyond_64_bits_becomes_a_float(text: str) -> None:
    assert isinstance(decode_json(text.encode())[0][0], float)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "line 1, column 1"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"[1] x", "line 1, column 5"),
        (b"{'a': 1}", "line 1, column 2"),
        (b"nan", "line 1, column 1"),
        (b'["\xff"]', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(body: bytes, words: str) -> None:
    with pytest.raises(MalformedJsonError, match=words) as caught:
        decode_json(body)
    assert caught.value.detail[0].type == "json_invalid"


@pytest.mark.parametrize("depth", [2_000, 200_000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_nesting_beyond_what_can_be_decoded_is_refused(
    depth: int, brackets: tuple[str, str]
) -> None:
    body = (brackets[0] * depth + "1" + brackets[1] * depth).encode()
    with pytest.raises(InvalidInputError, match="nested deeper"):
        decode_json(body)


@pytest.mark.parametrize("tail", [b"", b" "])
def test_nesting_at_the_limit_is_decoded(tail: bytes) -> None:
    document, _ = decode_json(b"[NaN," + nested(MAX_DEPTH) + b"]" + tail)
    assert orjson.dumps(document)


def test_nesting_beyond_the_limit_is_refused_with_a_bare_token_too() -> None:
    with pytest.raises(InvalidInputError, match="nested deeper"):
        decode_json(b"[NaN," + nested(MAX_DEPTH + 1) + b"]")


@given(values)
def test_whatever_is_decoded_can_be_written_as_json(value: Any) -> None:
    document, _ = decode_json(json.dumps(value).encode())
    assert decode_json(orjson.dumps(document, default=as_sent)) == (document, 0)


@given(st.binary(max_size=20))
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    with suppress(InvalidInputError):
        decode_json(body)


@pytest.mark.parametrize(
    ("loc", "text"),
    [
        (("body",), "$"),
        (("body", "measurements", 3, "metric"), "$.measurements[3].metric"),
        (("body", "meta", "env"), "$.meta.env"),
    ],
)
def test_a_place_is_shown_as_a_json_path(loc: tuple[str | int, ...], text: str) -> None:
    assert path_text(loc) == text


def test_an_integer_of_thousands_of_digits_is_read_as_null() -> None:
    assert decode_json(b"[" + b"9" * 5000 + b"]") == ([None], 0)


@given(values)
def test_a_body_that_is_kept_is_decoded_alike(value: Any) -> None:
    body = json.dumps(value).encode()
    assert decode_body(body) == decode_json(body)


@pytest.mark.parametrize("number", ["0.1000000000000000055511151231257827", "18446744073709551617"])
def test_a_body_that_is_kept_keeps_all_digits(number: str) -> None:
    found, _ = decode_body(f"[{number}]".encode())
    assert orjson.dumps(found, default=as_sent) == f"[{number}]".encode()


@pytest.mark.parametrize("token", ["1", "NaN"])
def test_a_body_that_is_kept_is_not_nested_too_deep(token: str) -> None:
    body = f"[{token}, {'[' * MAX_DEPTH}{']' * MAX_DEPTH}]".encode()
    assert decode_body(body.replace(b"[[", b"[", 1).replace(b"]]", b"]", 1))
    with pytest.raises(InvalidInputError, match="nested deeper than 250"):
        decode_body(b"[" * 5 + body + b"]" * 5)
