import pytest

from squash_api.pages.negotiation import prefers_html

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
