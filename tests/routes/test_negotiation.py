import pytest
from starlette.responses import Response
from starlette.routing import Match

from squash_api.routes.negotiation import PageRoute, prefers_html

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [BROWSER, "text/html", "text/html;q=0.5,application/json;q=0.4", "TEXT/HTML, */*;q=0.1"],
)
def test_html_is_preferred(accept: str) -> None:
    assert prefers_html(accept)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json; version=1.0",
        "application/json",
        "text/html, application/json",
        "text/html, */*",
        "text/html;q=0.5, application/json",
        "text/html;q=0, */*;q=0.1",
        "text/html;q=nonsense",
        "text/*, */*",
        "nothing, like=it;;,",
    ],
)
def test_json_is_meant(accept: str | None) -> None:
    assert not prefers_html(accept)


def is_page(accept: str, query: str = "") -> bool:
    """Return whether the route of a page answers a request."""
    route = PageRoute("/report", lambda _: Response())
    headers = [(b"accept", accept.encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/report",
        "headers": headers,
        "query_string": query.encode(),
    }
    return route.matches(scope)[0] is Match.FULL


def test_a_page_answers_a_browser_alone() -> None:
    assert is_page(BROWSER)
    assert not is_page("*/*")


@pytest.mark.parametrize("accept", [BROWSER, "*/*"])
def test_a_format_in_the_query_says_more_than_the_header(accept: str) -> None:
    assert is_page(accept, "run=1&format=html")
    assert not is_page(accept, "format=csv")


def test_an_empty_format_says_nothing() -> None:
    assert is_page(BROWSER, "format=")
    assert not is_page("*/*", "format=")
