"""The pages of runs, from the service in this process."""

import re
from html import unescape
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from squash_api.judging.wording import NOTHING
from squash_api.routes.runs import run_path
from tests.support.calls import Calls
from tests.support.definitions import metric, spec

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img/src=x/onerror=alert(1)>",
    "javascript:alert(1)",
    "\u202eevil",
    "a/../b",
    "..",
    "-",
    "{{7*7}}",
]


@pytest.fixture
def limited(calls: Calls) -> Calls:
    calls("POST", "/metrics", {"metrics": [metric("p.a")]})
    assert calls("POST", "/specs", {"specs": [spec("p.a.design", value=5.0)]}).status_code == 201
    return calls


def post(calls: Calls, value: float = 1.0, *, sha: str = "", **env: Any) -> int:
    url = "https://github.com/lsst/afw.git"
    packages = {"afw": {"name": "afw", "git_sha": sha, "git_url": url}} if sha else {}
    document = {
        "measurements": [{"metric": "p.a", "value": value, "unit": "mmag"}],
        "meta": {"env": env, "packages": packages},
    }
    reply = calls("POST", "/job", document)
    assert reply.status_code == 202, reply.text
    job: int = reply.json()["id"]
    return job


def page(browser: httpx.Client, path: str) -> str:
    reply = browser.get(path)
    assert (reply.status_code, reply.headers["content-type"][:9]) == (200, "text/html"), reply.text
    return reply.text


def rows_of(text: str) -> list[str]:
    """Return the rows of the tables; the first may say what broke."""
    rows = re.findall(r"<tr>(.*?)</tr>", text.partition("<tbody>")[2], re.DOTALL)
    rows = [row for row in rows if "<thead" not in row and 'scope="col"' not in row]
    return [" ".join(unescape(re.sub(r"<[^>]*>", " ", row)).split()) for row in rows]


def test_without_jobs_there_are_no_runs(browser: httpx.Client) -> None:
    assert "There are no matching runs yet." in page(browser, "/runs")


def test_runs_are_listed_with_their_state(browser: httpx.Client, limited: Calls) -> None:
    post(limited, 9.0, run_id="1", ci_name="drp", dataset="x", date="2026-03-01T00:00:00Z")
    post(limited, 1.0, run_id="2", ci_name="drp", dataset="x", date="2026-03-02T00:00:00Z")
    text = page(browser, "/runs")
    assert rows_of(text) == [
        f"2 passed 1 passed drp x {NOTHING} 1 1 2026-03-02 00:00",
        f"1 WARNING 1 WARNING drp x {NOTHING} 1 1 2026-03-01 00:00",
    ]
    assert 'href="/runs/drp/1"' in text


def test_there_are_as_many_runs_as_asked_for(browser: httpx.Client, limited: Calls) -> None:
    for day in (1, 2, 3):
        post(limited, run_id=f"{day}", ci_name="drp", date=f"2026-03-0{day}T00:00:00Z")
    text = page(browser, "/runs?limit=2")
    assert [row[0] for row in rows_of(text)] == ["3", "2"]
    (older,) = re.findall(r'href="(/runs[^"]*)">Older runs', text)
    assert "limit=2" in older
    assert [row[0] for row in rows_of(page(browser, unescape(older)))] == ["1"]
    assert '<input type="hidden" name="limit" value="2">' in text


def test_a_run_shows_as_many_jobs_as_asked_for(browser: httpx.Client, limited: Calls) -> None:
    for _ in range(3):
        post(limited, run_id="1", ci_name="drp")
    assert "limit=2&amp;after=" in page(browser, "/runs/drp/1?limit=2")


def test_a_job_of_no_run_leads_to_itself(browser: httpx.Client, limited: Calls) -> None:
    job = post(limited)
    text = page(browser, "/runs")
    assert f'href="/job/{job}"' in text
    assert rows_of(text)[0].startswith(f"job {job} passed")


def test_filters_are_in_the_address_and_can_be_taken_away(
    browser: httpx.Client, limited: Calls
) -> None:
    for dataset in ("x", "y z"):
        post(limited, run_id="1", ci_name="drp", dataset=dataset)
    text = page(browser, "/runs?dataset=y+z&specs=now")
    assert len(rows_of(text)) == 1
    (choices,) = re.findall(r'<select name="dataset">(.*?)</select>', text, re.DOTALL)
    assert re.findall(r'value="(.*?)"', choices) == ["", "x", "y_z"]
    assert '<option value="y_z" selected>' in choices
    assert "any dataset" in text
    assert 'href="/runs?specs=now"' in text


def test_older_runs_are_a_page_further(
    browser: httpx.Client, limited: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.pages.runs._RUNS", 2)
    for number in range(1, 4):
        post(limited, run_id=str(number), date=f"2026-03-0{number}T00:00:00Z")
    first = page(browser, "/runs")
    (link,) = re.findall(r'href="(/runs\?after=\d+)"', first)
    assert [row[0] for row in rows_of(first)] == ["3", "2"]
    assert [row[0] for row in rows_of(page(browser, link))] == ["1"]
    assert "runs.js" not in page(browser, link)


def test_a_wrong_cursor_is_refused_with_a_page(browser: httpx.Client) -> None:
    reply = browser.get("/runs?after=x")
    assert (reply.status_code, reply.headers["content-type"][:9]) == (422, "text/html")


# One run


def test_a_run_shows_its_jobs_and_what_they_share(browser: httpx.Client, limited: Calls) -> None:
    env = {"run_id": "7", "ci_name": "drp", "dataset": "x", "run_url": "https://ci.example/7"}
    for value, name in ((9.0, "r"), (1.0, "i")):
        job = post(limited, value, filter=name, date="2026-03-01T00:00:00Z", **env)
    text = page(browser, "/runs/drp/7")
    assert rows_of(text) == [
        "p.a WARNING 1 of 2",
        f"{job - 1} WARNING 1 metric: 1 WARNING r 1 2026-03-01 00:00",
        f"{job} passed 1 metric: 1 passed i 1 2026-03-01 00:00",
    ]
    assert 'href="https://ci.example/7"' in text
    assert "1 metric: 1 WARNING. 2 verdicts: 1 WARNING, 1 passed" in text
    assert "No earlier run is known." in text


def test_a_run_shows_what_changed_before_it(browser: httpx.Client, limited: Calls) -> None:
    for number, value, sha in ((1, 1.0, "a1"), (2, 9.0, "b2"), (3, 9.0, "c3")):
        date = f"2026-03-0{number}T00:00:00Z"
        post(limited, value, sha=sha, run_id=str(number), ci_name="drp", date=date)
    text = page(browser, "/runs/drp/3")
    assert 'href="/runs/drp/2"' in text
    assert 'href="/runs/drp/1"' in text
    assert "https://github.com/lsst/afw/compare/b2...c3" in text
    assert "https://github.com/lsst/afw/compare/a1...c3" in text
    assert "This is also the last run that passed." in page(browser, "/runs/drp/2")


def test_the_jobs_of_a_large_run_come_page_by_page(
    browser: httpx.Client, limited: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.pages.runs._JOBS", 2)
    jobs = [post(limited, run_id="a/b") for _ in range(3)]
    first = page(browser, run_path(None, "a/b"))
    (link,) = re.findall(r'href="(/runs/-/a%2Fb\?after=\d+)"', first)
    assert len(rows_of(first)) == 2
    assert rows_of(page(browser, link))[0].startswith(str(jobs[2]))


def test_todays_limits_may_judge_a_run(browser: httpx.Client, limited: Calls) -> None:
    job = post(limited, 4.0, run_id="1", ci_name="drp")
    limited("PUT", "/spec/p.a.design", spec("p.a.design", value=3.0))
    assert "passed" in rows_of(page(browser, "/runs/drp/1"))[0]
    text = page(browser, "/runs/drp/1?specs=now")
    assert "WARNING" in rows_of(text)[0]
    assert f'href="/job/{job}?specs=now"' in text


def test_a_run_says_what_broke_then_what_changed_then_the_rest(
    browser: httpx.Client, limited: Calls
) -> None:
    for number, value in ((1, 1.0), (2, 9.0), (3, 9.0)):
        date = f"2026-03-0{number}T00:00:00Z"
        post(limited, value, run_id=str(number), ci_name="drp", date=date, sha=f"a{number}")
    text = page(browser, "/runs/drp/3")
    assert "<title>WARNING · Run 3 · SQuaSH</title>" in text
    assert re.findall(r'<h2 id="(\w+)"', text) == ["faults", "changes", "jobs"]
    faults = text[text.index('id="faults"') : text.index('id="changes"')]
    assert 'href="/metric/p.a"' in faults


def test_the_reports_that_compare_a_run_are_one_click_away(
    browser: httpx.Client, limited: Calls
) -> None:
    for number, value in ((1, 1.0), (2, 9.0), (3, 9.0)):
        date = f"2026-03-0{number}T00:00:00Z"
        post(limited, value, run_id=f"n {number}", ci_name="d/p", date=date)
    text = page(browser, run_path("d/p", "n_3"))
    links = re.findall(r'<a href="(/report\?[^"]*)">(.*?)</a>', text)
    assert [label for _, label in links] == [
        "compared with the previous run",
        "compared with the last run that passed",
        "on this run alone",
    ]
    for link, before in zip(links, ("n_2", "n_1", ""), strict=True):
        shown = browser.get(unescape(link[0]))
        assert shown.status_code == 200
        assert before in shown.text
    text = page(browser, run_path("d/p", "n_2"))
    assert "compared with the previous run and the last run that passed" in text


def test_a_run_in_which_nothing_broke_says_so(browser: httpx.Client, limited: Calls) -> None:
    post(limited, 1.0, run_id="1", ci_name="drp")
    assert "Nothing: every metric with a limit was measured, and meets it." in page(
        browser, "/runs/drp/1"
    )


def test_filters_are_chosen_from_what_there_is(browser: httpx.Client, limited: Calls) -> None:
    post(limited, run_id="1", ci_name="drp", dataset="x", filter="r")
    page(browser, "/runs")
    post(limited, run_id="2", ci_name="ap", dataset="y", filter="g")
    text = page(browser, "/runs?filter=u")
    found = {
        name: re.findall(r'<option value="(.+?)"', options)
        for name, options in re.findall(r'<select name="(\w+)">(.*?)</select>', text, re.DOTALL)
    }
    assert found == {
        "pipeline": ["ap", "drp"],
        "dataset": ["x", "y"],
        "filter": ["g", "r", "u"],
        "specs": ["now"],
    }
    assert "<input" not in text.partition("<main")[2]


def test_an_unknown_run_has_a_page_that_says_so(browser: httpx.Client) -> None:
    reply = browser.get("/runs/drp/77")
    assert reply.status_code == 404
    assert "There is no run `77`." in reply.text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_text_and_lead_to_their_run(
    browser: httpx.Client, limited: Calls, name: str
) -> None:
    job = post(limited, run_id=name, ci_name=name, dataset=name, filter=name, version_tag=name)
    listed = page(browser, "/runs")
    path = run_path(name, name)
    assert f'href="{path}"' in listed
    shown = page(browser, path)
    assert rows_of(shown)[0].startswith(str(job))
    for text in (listed, shown, page(browser, f"/runs?dataset={quote(name, safe='')}")):
        assert "<script>" not in text
        assert "<img" not in text
        assert 'href="javascript' not in text
    assert len(rows_of(page(browser, f"/runs?filter={quote(name, safe='')}"))) == 1


def test_pages_are_below_the_root_of_the_service(tmp_path: Any) -> None:
    from tests.pages.conftest import BROWSER
    from tests.support.calls import log_in
    from tests.support.in_process import service

    with service(tmp_path, url="http://in-process/squash") as client:
        calls = log_in(client, "ada")
        post(calls, run_id="a/b", ci_name="c/d")
        client.headers.update(BROWSER)
        path = f"/squash{run_path('c/d', 'a/b')}"
        assert f'href="{path}"' in page(client, "/runs")
        assert "a/b" in page(client, path)
