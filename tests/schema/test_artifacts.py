from typing import Any

import pytest

from squash_api.schema.artifacts import (
    MAX_URL_LENGTH,
    MAX_WORDS,
    MOST_ARTIFACTS,
    Artifact,
    artifacts_of,
    first_artifact,
    may_have_artifacts,
)
from squash_api.schema.names import Schema

PNG = "https://plots.example.org/a.png"
PAGE = "http://nights.example.org/2026-11-28"


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, []),
        ({"plot": PNG}, [("plot", PNG)]),
        ({"plot": f" {PNG}\n"}, [("plot", PNG)]),
        ({"plot": {"url": PNG}}, [("plot", PNG)]),
        ({"url": PNG}, [("url", PNG)]),
        ({"env": {"log": PAGE}}, [("env.log", PAGE)]),
        ({"a": {"b": {"c": PNG}}}, [("a.b.c", PNG)]),
        ({"plots": [PNG, {"url": PAGE}]}, [("plots[0]", PNG), ("plots[1]", PAGE)]),
        ({"plots": [[PNG]]}, [("plots[0][0]", PNG)]),
        ({"b": {"z": PNG}, "a": PAGE}, [("b.z", PNG), ("a", PAGE)]),
        ({"a": PNG, "b": {"url": PNG}}, [("a", PNG)]),
        ({"a": {"url": PNG, "page": PAGE}}, [("a", PNG), ("a.page", PAGE)]),
        ({"a": {"url": PNG, "description": PAGE, "type": PAGE}}, [("a", PNG)]),
        ({"a": {"url": "no URL", "page": PAGE}}, [("a.page", PAGE)]),
        ({"a": {"url": {"url": PAGE}}}, [("a.url", PAGE)]),
        ({"a": 3, "b": None, "c": True, "d": [1.5], "e": ""}, []),
        ({"note": f"see {PAGE}"}, []),
        ({"a": "HTTPS://Plots.example.org/a"}, [("a", "https://Plots.example.org/a")]),
        ({"a": "https://x.example/nächte"}, [("a", "https://x.example/n%C3%A4chte")]),
        ({"a": "http://[::1]:8800/a.png"}, [("a", "http://[::1]:8800/a.png")]),
        ({"a": "https://x.example/a?b=c&d=%20#e"}, [("a", "https://x.example/a?b=c&d=%20#e")]),
    ],
)
def test_urls_of_the_metadata_are_found_in_their_order(
    meta: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert [(item.key, item.url) for item in artifacts_of(meta)] == expected
    first = first_artifact(meta)
    assert (first and (first.key, first.url)) == (expected[0] if expected else None)


@pytest.mark.parametrize(
    "meta",
    [
        {"ci_url": PAGE},
        {"env": {"ci_url": PAGE}},
        {"run_id_url": PAGE},
        {"run_url": {"url": PAGE}},
        {"dataset_repo_url": PAGE},
        {"git_url": PAGE},
        {"software": {"GIT_URL": PAGE}},
        {"repository_url": PAGE},
        {"packages": {"afw": {"page": PAGE}}},
        {"source": "https://github.com/lsst/afw.git"},
        {"source": "https://github.com/lsst/afw.git/"},
        {"BUILD": "https://example.com"},
    ],
)
def test_runs_repositories_and_packages_are_no_artifacts(meta: dict[str, Any]) -> None:
    assert artifacts_of(meta) == []


HOSTILE = [
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:image/png;base64,AAAA",
    "file:///etc/passwd",
    "ftp://x.example/a.png",
    "//x.example/a.png",
    "https:/x.example",
    "https://",
    "https://user:password@x.example/a.png",
    "https://good.example@x.example/a.png",
    "https://x.example/a b.png",
    "https://x.example/a\tb",
    "https://x.example/a\nb",
    "https://x.example/a\u00a0b",
    "https://x.example/a\u2028b",
    "https://x.example/a\x00b",
    "https://x.example/a\x7f",
    "https://x.example/a|good",
    'https://x.example/" onerror="alert(1)',
    "https://x.example/'a",
    "https://x.example/<b>",
    "https://x.example/`a`",
    "https://x.example\\a",
    "https://x.example:0/a",
    "https://x.example:99999/a",
    "https://x.example:port/a",
    "https://[nothing]/a",
    "https://[12345]/a",
    "https://-x/a",
    "https://exämple.org/a",
    "https://x.example/" + "a" * MAX_URL_LENGTH,
    "https://x.example/" + "ä" * (MAX_URL_LENGTH // 3),
    "  ",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_what_no_link_should_be_made_of_is_text(url: str) -> None:
    assert artifacts_of({"a": url, "b": {"url": url}, "c": [url, {"url": url}]}) == []


def test_an_object_says_what_its_url_is() -> None:
    said = {"url": PAGE, "type": "text/html", "description": " All\x00 plots "}
    assert artifacts_of({"a": said}) == [Artifact("a", PAGE, "text/html", "All plots")]


@pytest.mark.parametrize("said", [None, 3, ["a"], {"a": 1}, "", " "])
def test_a_type_or_description_that_is_no_text_is_none(said: Any) -> None:
    found = artifacts_of({"a": {"url": PAGE, "type": said, "description": said}})
    assert found == [Artifact("a", PAGE)]


@pytest.mark.parametrize(
    ("said", "url", "expected"),
    [
        (None, PNG, "image/png"),
        (None, "https://x.example/a.JPG?size=2#b", "image/jpeg"),
        (None, "https://x.example/a.svg", "image/svg+xml"),
        (None, "https://x.example/?a.png", None),
        (None, PAGE, None),
        ("plot", PNG, "plot"),
    ],
)
def test_the_end_of_a_url_tells_what_the_job_does_not(
    said: str | None, url: str, expected: str | None
) -> None:
    assert [item.type for item in artifacts_of({"a": {"url": url, "type": said}})] == [expected]


def test_the_number_of_artifacts_is_limited_and_so_are_their_words() -> None:
    meta: dict[str, Any] = {
        "k" * 1000: [f"{PAGE}/{number}" for number in range(MOST_ARTIFACTS + 1)]
    }
    meta["b"] = [{"url": f"{PAGE}/0", "description": "d" * 1000}]
    found = artifacts_of(meta)
    assert len(found) == MOST_ARTIFACTS
    assert {len(item.key) for item in found} == {MAX_WORDS}
    assert [len(item.label) for item in artifacts_of({"b": meta["b"]})] == [MAX_WORDS]


def test_metadata_may_be_nested_deeper_than_python_recurses() -> None:
    meta: Any = PNG
    for _ in range(3000):
        meta = {"a": [meta]}
    assert [item.url for item in artifacts_of(meta)] == [PNG]


HOSTS = {"plots.example.org", "127.0.0.1:8800"}


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        (PNG, None, True),
        ("https://PLOTS.example.org:443/a.png", None, True),
        ("https://plots.example.org/plot?id=3", "image/jpeg; q=1", True),
        ("https://plots.example.org/plot?id=3", "SVG", True),
        (PNG, "a plot", True),
        ("http://127.0.0.1:8800/a.svg", None, True),
        (PNG, "text/html", False),
        ("https://plots.example.org/a.pdf", None, False),
        ("https://plots.example.org/a.gif", "image/gif", False),
        ("https://plots.example.org:8443/a.png", None, False),
        ("https://a.plots.example.org/a.png", None, False),
        ("https://plots.example.org.evil.example/a.png", None, False),
        ("http://127.0.0.1/a.svg", None, False),
    ],
)
def test_pictures_of_allowed_hosts_are_shown(url: str, kind: str | None, *, shown: bool) -> None:
    (found,) = artifacts_of({"a": {"url": url, "type": kind}})
    assert found.may_be_shown(HOSTS, is_https=False) is shown


def test_a_page_of_https_shows_nothing_that_comes_by_http() -> None:
    for scheme in ("http", "https"):
        (found,) = artifacts_of({"a": f"{scheme}://plots.example.org/a.png"})
        assert found.may_be_shown(HOSTS, is_https=True) is (scheme == "https")


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"ci_url": PAGE, "dataset_repo_url": PAGE, "filter": "r", "airmass": 1.2}, False),
        ({"plot": PNG}, True),
        ({"a": {"b": {"url": PNG}}}, True),
        ({"plots": [{"url": PNG}]}, True),
        ({"instrument": PNG}, True),
    ],
)
def test_the_metadata_of_points_tell_whether_a_document_is_to_be_read(
    meta: dict[str, Any], *, expected: bool
) -> None:
    assert may_have_artifacts(Schema().context(meta)) is expected
