from typing import Any

import pytest

from squash_api.pages.metadata_rows import (
    DEEPEST,
    MOST_ROWS,
    MetadataRow,
    linked,
    links_in,
    metadata_rows,
)


def test_objects_come_before_what_is_in_them() -> None:
    meta = {"a": 1, "env": {"b": True, "deep": {"c": None}}, "d": "text"}
    assert metadata_rows(meta) == [
        MetadataRow(0, "a", "1"),
        MetadataRow(0, "env", None),
        MetadataRow(1, "b", "true"),
        MetadataRow(1, "deep", None),
        MetadataRow(2, "c", "null"),
        MetadataRow(0, "d", "text"),
    ]


def test_lists_are_written_out_and_packages_left_out() -> None:
    assert metadata_rows({"l": [1, {"x": "y"}], "packages": {"a": 1}, "empty": {}}) == [
        MetadataRow(0, "l", '[1, {"x": "y"}]'),
        MetadataRow(0, "empty", "{}"),
    ]


def test_deep_metadata_end_at_a_margin() -> None:
    meta: dict[str, Any] = {"leaf": 1}
    for _ in range(240):
        meta = {"o": meta}
    rows = metadata_rows(meta)
    assert len(rows) == 241
    assert max(row.depth for row in rows) == DEEPEST


def test_there_are_so_many_rows_and_one_that_says_there_are_more() -> None:
    assert len(metadata_rows({str(number): 1 for number in range(5000)})) == MOST_ROWS + 1


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("see https://a.example/x?y=1&z=2, or not", ["https://a.example/x?y=1&z=2"]),
        ("(http://a.example/).", ["http://a.example/"]),
        ('"https://a.example/b"', ["https://a.example/b"]),
        ("HTTPS://A.EXAMPLE", ["HTTPS://A.EXAMPLE"]),
        ("https://a.example/1 https://a.example/2", ["https://a.example/1", "https://a.example/2"]),
        ("javascript:alert(1)//https", []),
        ("https://", []),
        ("ftp://a.example", []),
    ],
)
def test_addresses_are_found_in_texts(text: str, urls: list[str]) -> None:
    assert [url for _, url in links_in([MetadataRow(0, "k", text)])] == urls
    assert linked(text).count("<a ") == len(urls)


def test_each_address_is_named_once_with_its_first_key() -> None:
    rows = [MetadataRow(0, "a", "https://x.example"), MetadataRow(0, "b", "https://x.example")]
    assert links_in(rows) == [("a", "https://x.example")]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "https://a.example/\"onmouseover='alert(1)'",
        "https://a.example/<script>",
        "javascript:alert('https://a.example')",
    ],
)
def test_all_else_is_escaped(text: str) -> None:
    made = str(linked(text))
    outside = made.replace('<a href="', "").replace('" rel="noopener noreferrer nofollow">', "")
    outside = outside.replace("</a>", "")
    assert not {"<", ">", '"', "'"} & set(outside)
    assert 'href="javascript' not in made
