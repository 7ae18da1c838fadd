import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.judging.specifications import specification_from_json
from squash_api.pages.specs import PER_PAGE, alert_texts, query_terms_text
from tests.pages.conftest import BROWSER
from tests.support.calls import PASSWORD, Calls
from tests.support.definitions import spec
from tests.support.in_process import service
from tests.support.metrics_packages import write_package


@pytest.fixture
def yaml_browser(tmp_path: Path) -> Iterator[httpx.Client]:
    files = {
        "late.yaml": """\
            id: base
            threshold: {operator: "<=", unit: s}
            tags: [nightly]
            ---
            name: latency.design
            base: "#base"
            threshold: {value: 60}
            metadata_query: {instrument: LSSTCam}
            alert: {channel: "#dm-alerts"}
            ---
            name: frac.minimum
            threshold: {value: 5, unit: '%', operator: "<"}
            tags: [minimum]
            """
    }
    package = write_package(tmp_path / "demo", files)
    with service(tmp_path, specs=(package,)) as client:
        client.headers.update(BROWSER)
        yield client


def names(text: str) -> list[str]:
    return re.findall(r"<h3>([^<]*)</h3>", text)


def define(calls: Calls, *specs: dict[str, Any]) -> None:
    metric = {"name": "p.a", "unit": "mmag", "description": ""}
    assert calls("POST", "/metrics", {"metrics": [metric]}).status_code == 201
    reply = calls("POST", "/specs", {"specs": list(specs)})
    assert reply.status_code == 201, reply.text


def test_without_specifications_it_says_where_they_come_from(browser: httpx.Client) -> None:
    assert "There are no specifications" in browser.get("/specs").text


def test_programs_still_get_the_list(browser: httpx.Client) -> None:
    reply = browser.get("/specs", headers={"Accept": "*/*"})
    assert reply.json() == {"specs": [], "next": None}


def test_a_specification_from_yaml_has_its_line_and_its_bases(yaml_browser: httpx.Client) -> None:
    text = yaml_browser.get("/specs").text
    assert names(text) == ["minimum", "design"]
    assert "<code>demo/specs/demo/late.yaml:5</code>" in text
    assert "based on <code>demo:late#base</code>" in text
    assert "<code>instrument = LSSTCam</code>" in text
    assert "≤ 60" in text
    assert "alerts go to #dm-alerts" in text
    assert "CRITICAL if broken" in text
    assert 'href="/metric/demo.latency"' in text


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("q=LATENCY", ["design"]),
        ("q=nightly", ["design"]),
        ("q=critical", ["minimum"]),
        ("q=late.yaml+dm-alerts", ["design"]),
        ("q=nightly+critical", []),
        ("package=demo", ["minimum", "design"]),
        ("package=other", []),
    ],
)
def test_what_is_asked_for_is_in_the_address(
    yaml_browser: httpx.Client, query: str, shown: list[str]
) -> None:
    assert names(yaml_browser.get(f"/specs?{query}").text) == shown


def test_only_who_is_logged_in_sees_who_made_a_specification(
    browser: httpx.Client, calls: Calls
) -> None:
    define(calls, spec("p.a.design"))
    page = browser.get("/specs").text
    assert "the API" in page
    assert "by ada" not in page
    (token,) = re.findall('name="token" value="([0-9a-f]{64})"', browser.get("/login").text)
    form = {"token": token, "username": "ada", "password": PASSWORD}
    assert browser.post("/login", data=form).status_code == 303
    assert "the API, by ada" in browser.get("/specs").text
    browser.cookies.clear()


def test_many_specifications_come_in_pages(browser: httpx.Client, calls: Calls) -> None:
    define(calls, *(spec(f"p.a.s{number:03}") for number in range(PER_PAGE + 5)))
    assert len(names(browser.get("/specs").text)) == PER_PAGE
    assert len(names(browser.get("/specs?page=2").text)) == 5


def test_hostile_texts_are_text(browser: httpx.Client, calls: Calls) -> None:
    hostile = "<script>alert(1)</script>"
    define(
        calls,
        spec(
            "p.a.design",
            tags=[hostile, "x" * 10_000],
            metadata_query={"visit": hostile, "instrument": "\u202eevil"},
            alert={"mute": {"until": "2099-01-01", "why": hostile}},
        ),
    )
    text = browser.get("/specs", params={"q": "alert"}).text
    assert names(text) == ["design"]
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_what_alerts_say_is_said_in_words() -> None:
    content = specification_from_json(
        spec(
            "p.a.design",
            alert={
                "channel": "#dm",
                "per": ["filter", "detector"],
                "max_age": "2d",
                "mute": {"until": "2099-01-01", "why": "reprocessing"},
            },
            expect={"every": "24h", "grace": "6h"},
        )
    )
    assert alert_texts(content) == [
        "muted through 2099-01-01: reprocessing",
        "alerts go to #dm",
        "one alert per filter, detector",
        "no alerts on data older than 2d",
        "a value is expected every 1d, 6h late at most",
    ]


def test_terms_are_written_as_they_are_compared() -> None:
    query = {"visit": 42.0, "filter_name": "r", "flags": [1, 2]}
    content = specification_from_json(spec("p.a.design", metadata_query=query))
    assert query_terms_text(content) == ["visit = 42", "filter_name = r", "flags = [1,2]"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("metric=p.a", ["a", "b", "c"]),
        ("metric=p.z", []),
        ("tag=nightly", ["b"]),
        ("dataset_name=x", ["b"]),
        ("filter_name=r", ["c"]),
        ("filter_name=r&dataset_name=x", []),
        ("limit=2", ["a", "b"]),
        ("limit=2&page=2", ["c"]),
        ("after=p.a.a", ["b", "c"]),
        ("after=p.a.a&limit=1&q=p.a", ["b"]),
    ],
)
def test_the_page_takes_the_parameters_of_the_list(
    browser: httpx.Client, calls: Calls, query: str, found: list[str]
) -> None:
    define(
        calls,
        spec("p.a.a"),
        spec("p.a.b", tags=["nightly"], metadata_query={"dataset_name": "x"}),
        spec("p.a.c", metadata_query={"filter_name": "r"}),
    )
    assert names(browser.get(f"/specs?{query}").text) == found
    if "page" not in query and "q=" not in query:
        listed = browser.get(f"/specs?{query}", headers={"Accept": "*/*"}).json()["specs"]
        assert [item["name"].rpartition(".")[2] for item in listed] == found


def test_filters_without_a_field_stay_and_can_be_taken_away(
    browser: httpx.Client, calls: Calls
) -> None:
    define(calls, spec("p.a.a"), spec("p.a.b"))
    text = browser.get("/specs?metric=p.a&limit=1").text
    assert '<input type="hidden" name="metric" value="p.a">' in text
    assert 'href="?limit=1"' in text
    assert 'rel="next" href="?metric=p.a&amp;limit=1&amp;page=2"' in text


@pytest.mark.parametrize("path", ["/specs", "/runs"])
@pytest.mark.parametrize("limit", ["0", "-1", "x", "1001"])
def test_a_wrong_limit_is_refused(browser: httpx.Client, path: str, limit: str) -> None:
    for accept in (BROWSER["Accept"], "*/*"):
        reply = browser.get(f"{path}?limit={limit}", headers={"Accept": accept})
        assert reply.status_code == 422


def test_a_review_says_what_each_did_and_which_there_is_something_to_say_of(
    browser: httpx.Client, calls: Calls
) -> None:
    define(calls, spec("p.a.a"), spec("p.a.b", metadata_query={"dataset": "nowhere"}))
    job = {"measurements": [{"metric": "p.a", "value": 9.0, "unit": "mmag"}], "blobs": []}
    assert calls("POST", "/job", {**job, "meta": {}}).status_code == 202
    assert "Review</dt>" not in browser.get("/specs").text
    text = browser.get("/specs?since=90d").text
    assert '<option value="90d" selected>' in text
    assert "<dt>did</dt><dd>1 of 1 value broke it</dd>" in text
    assert "<summary>applies to nothing: 1</summary>" in text
    assert "no value is one of its jobs&#39;" in text


def test_a_review_is_of_what_the_filters_leave(browser: httpx.Client, calls: Calls) -> None:
    define(calls, spec("p.a.a"), spec("p.a.b", metadata_query={"dataset": "nowhere"}))
    text = browser.get("/specs?since=30d&q=a.a").text
    assert names(text) == ["a"]
    assert "p.a.b" not in text


def test_a_review_of_another_time_is_refused(browser: httpx.Client) -> None:
    assert browser.get("/specs?since=soon").status_code == 422


@pytest.mark.parametrize(
    ("alert", "expect", "text"),
    [
        ({"trial": True}, None, "on trial: nobody is told"),
        ({"after": {"runs": 2, "of": 3}}, None, "raised when 2 of 3 runs break it"),
        ({"min_runs": 5}, None, "raised after 5 runs at the earliest"),
        ({"group": "job"}, None, "all alerts of a job are one message"),
        ({"group": "none"}, None, "each alert is a message"),
        ({"group": ["tract"]}, None, "one message for all of tract"),
        (None, {"every": "24h", "each": {"detector": ["0-188"]}}, "for each detector of 0-188"),
    ],
)
def test_what_is_set_for_alerts_is_said(
    alert: dict[str, Any] | None, expect: dict[str, Any] | None, text: str
) -> None:
    limit = {"value": 8, "unit": "mmag", "operator": "<="}
    document = {"threshold": limit, "alert": alert, "expect": expect}
    assert text in alert_texts(specification_from_json(document, name="p.m.s"))
