"""The pages of notebooks, from the service in this process."""

import re
from html import unescape

import httpx
import pytest

from tests.support.calls import Calls
from tests.support.notebook_runs import post_notebook as post

pytestmark = pytest.mark.sqlite

HOSTILE = "\"'><script>alert(1)</script>"


def page(browser: httpx.Client, path: str) -> str:
    reply = browser.get(path)
    assert (reply.status_code, reply.headers["content-type"][:9]) == (200, "text/html"), reply.text
    return reply.text


def text_of(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def test_without_runs_the_list_says_how_to_begin(browser: httpx.Client) -> None:
    assert "No notebook has run yet" in page(browser, "/notebooks")
    assert "no matching runs" in page(browser, "/notebooks?template=none")


def test_the_list_has_what_ran_with_its_parameters(browser: httpx.Client, calls: Calls) -> None:
    job = post(calls, run="r1", release="w_2", failed=1, since="30d", plots=6)
    shown = page(browser, "/notebooks")
    row = text_of(shown.partition("<tbody>")[2].partition("</tbody>")[0])
    assert row.startswith("nightly failed cell 2: ValueError: no values no limit w_2")
    assert "since=30d plots=6 3 2.5 s" in row
    assert f'href="/notebook/{job}"' in shown
    assert 'href="/notebooks?&amp;parameter=plots%3D6"' in shown


def test_a_filter_keeps_the_others(browser: httpx.Client, calls: Calls) -> None:
    for number in range(3):
        post(calls, run=f"r{number}", release="w_2", plots=6)
    shown = unescape(page(browser, "/notebooks?template=nightly&parameter=plots=6&limit=1"))
    (older,) = re.findall(r'href="(/notebooks\?[^"]*after=[^"]*)"', shown)
    for part in ("template=nightly", "limit=1", "parameter=plots%3D6"):
        assert part in older
    assert "Newest runs" in page(browser, older)


def test_the_address_that_a_job_names_leads_to_its_notebook(
    browser: httpx.Client, calls: Calls
) -> None:
    job = post(calls, run="r/1")
    reply = browser.get("/notebooks?run=r%2F1&template=nightly")
    assert (reply.status_code, reply.headers["location"]) == (303, f"/notebook/{job}")
    post(calls, "other", run="r/1")
    assert page(browser, "/notebooks?run=r%2F1").count('href="/notebook/') == 2


def test_the_page_of_a_run_has_the_notebook_in_a_frame(browser: httpx.Client, calls: Calls) -> None:
    job = post(calls, run="r1", release="w_2", failed=1, since="30d")
    reply = browser.get(f"/notebook/{job}")
    assert f'src="/notebook/{job}/html"' in reply.text
    assert "frame-src 'self'" in reply.headers["content-security-policy"]
    assert "script-src 'self'" in reply.headers["content-security-policy"]
    text = text_of(reply.text)
    assert "Failed : cell 2: ValueError: no values" in text
    assert f"Release w_2 since 30d Job {job} Run r1" in text


def test_the_page_of_a_job_links_to_its_notebook(browser: httpx.Client, calls: Calls) -> None:
    job = post(calls, run="r1")
    shown = page(browser, f"/job/{job}")
    assert f'href="/notebook/{job}"' in shown
    assert "a page" not in shown


def test_hostile_names_are_only_text(browser: httpx.Client, calls: Calls) -> None:
    parameters = {HOSTILE: HOSTILE, "n": [HOSTILE]}
    job = post(calls, HOSTILE, run=HOSTILE, release=HOSTILE, **parameters)
    for path in ("/notebooks", f"/notebook/{job}", f"/job/{job}"):
        assert "<script>alert" not in page(browser, path)


@pytest.mark.parametrize("query", ["?templat=a", "?parameter=since", "?limit=0", "?result=x"])
def test_a_wrong_parameter_is_a_page_that_says_so(query: str, browser: httpx.Client) -> None:
    reply = browser.get(f"/notebooks{query}")
    assert (reply.status_code, "Wrong parameter" in reply.text) == (422, True)
