import httpx
import pytest
from jinja2 import UndefinedError

from squash_api.pages.rendering import (
    environment,
    link_markup,
    moment_text,
    path_text,
    query_text,
)


def test_scripts_come_from_the_service_alone(shared_browser: httpx.Client) -> None:
    policy = shared_browser.get("/nothing").headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none';" in policy


def test_texts_are_escaped() -> None:
    made = environment().from_string("{{ text }}").render(text="<b>")
    assert made == "&lt;b&gt;"


def test_a_name_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        environment().from_string("{{ missing }}").render()


def test_times_are_in_utc() -> None:
    assert (moment_text(0), moment_text(None)) == ("1970-01-01 00:00", "\u2013")


def test_a_link_of_http_is_a_link() -> None:
    assert 'href="https://ci.example.org/?a=1&amp;b=2"' in link_markup(
        "https://ci.example.org/?a=1&b=2"
    )


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://x", 3, None, "http://a b"])
def test_what_is_no_link_is_text(url: object) -> None:
    assert "<a" not in link_markup(url, "<i>")
    assert "&lt;i&gt;" in link_markup(url, "<i>")


def test_a_name_in_a_path_is_quoted() -> None:
    assert path_text("a/b?c#d e") == "a%2Fb%3Fc%23d%20e"


def test_a_query_keeps_what_is_not_changed() -> None:
    assert query_text({"a": "1", "b": "x&y", "c": None}, a="2") == "?a=2&b=x%26y"
    assert query_text({"a": "1"}, a=None) == "?"
