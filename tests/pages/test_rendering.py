import httpx
import pytest
from jinja2 import UndefinedError

from squash_api.pages.rendering import (
    code_markup,
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


def test_a_link_with_blanks_and_bars_opens_what_it_shows() -> None:
    made = link_markup("https://a.example/my run|x")
    assert made.startswith('<a href="https://a.example/my%20run%7Cx"')
    assert made.endswith(">https://a.example/my run|x</a>")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://x", 3, None, "http://a b"])
def test_what_is_no_link_is_text(url: object) -> None:
    assert "<a" not in link_markup(url, "<i>")
    assert "&lt;i&gt;" in link_markup(url, "<i>")


def test_a_name_in_a_path_is_quoted() -> None:
    assert path_text("a/b?c#d e") == "a%2Fb%3Fc%23d%20e"


def test_a_query_keeps_what_is_not_changed() -> None:
    assert query_text({"a": "1", "b": "x&y", "c": None}, a="2") == "?a=2&b=x%26y"
    assert query_text({"a": "1"}, a=None) == "?"


def test_people_get_a_page_where_programs_get_json(shared_browser: httpx.Client) -> None:
    page = shared_browser.get("/job/7")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no job 7." in page.text
    reply = shared_browser.get("/job/7", headers={"Accept": "*/*"})
    assert reply.json()["message"] == "There is no job 7."


def test_what_was_asked_for_is_shown_as_text(shared_browser: httpx.Client) -> None:
    page = shared_browser.get("/<script>alert(1)</script>")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text


def test_a_failed_post_is_answered_with_json_whatever_is_preferred(
    shared_browser: httpx.Client,
) -> None:
    assert shared_browser.post("/job", json={}).json()["code"] == "unauthorized"


def test_caches_are_told_what_matters(shared_browser: httpx.Client) -> None:
    for accept, expected in {"text/html": "Accept, Authorization, Cookie", "*/*": "Accept"}.items():
        assert shared_browser.get("/", headers={"Accept": accept}).headers["vary"] == expected


def test_bokeh_comes_from_the_installed_package(shared_browser: httpx.Client) -> None:
    reply = shared_browser.get("/static/bokeh.min.js")
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert len(reply.content) > 500_000


def test_files_may_be_kept_for_ever(shared_browser: httpx.Client) -> None:
    reply = shared_browser.get("/static/squash.css")
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "name",
    ["nothing.css", "..%2frendering.py", "%2e%2e", "templates", ".", "bokeh.js", "a%00b.css"],
)
def test_nothing_else_is_given_out(shared_browser: httpx.Client, name: str) -> None:
    assert shared_browser.get(f"/static/{name}").status_code == 404


def test_what_is_between_backticks_is_code() -> None:
    made = code_markup("Send `a<b>` and `c`.")
    assert made == "Send <code>a&lt;b&gt;</code> and <code>c</code>."
