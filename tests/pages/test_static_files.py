import httpx
import pytest


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
