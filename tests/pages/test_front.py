import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.alerts.freshness import ExpectedSeries
from squash_api.pages.rendering import (
    late_text,
    named_tags_text,
    span_text,
    tags_text,
)
from tests.pages.conftest import BROWSER
from tests.support.calls import Calls, log_in
from tests.support.in_process import service
from tests.support.site import job_document

HOSTILE = "p.<script>alert(1)</script>"
RIGHT_TO_LEFT = "p.\u202eabc"


def define(calls: Calls, *names: str, **changes: Any) -> None:
    metrics = [{"name": name, "unit": "mmag", "description": f"About {name}"} for name in names]
    reply = calls("POST", "/metrics", {"metrics": [item | changes for item in metrics]})
    assert reply.status_code == 201, reply.text


def limit(calls: Calls, name: str, value: float = 5.0, **changes: Any) -> None:
    threshold = {"value": value, "unit": "mmag", "operator": "<="}
    reply = calls("POST", f"/spec/{name}", {"threshold": threshold} | changes)
    assert reply.status_code == 201, reply.text


def dispatch(calls: Calls, values: dict[str, float], **meta: Any) -> int:
    reply = calls("POST", "/job", job_document(values, unit=None, **meta))
    assert reply.status_code == 202, reply.text
    return int(reply.json()["id"])


def names(text: str) -> list[str]:
    """Return the metrics of a page, in its order."""
    return [unescape(name) for name in re.findall(r'<a id="m\d+" href="[^"]*">([^<]*)</a>', text)]


def test_an_empty_service_says_what_to_do(browser: httpx.Client) -> None:
    page = browser.get("/")
    assert page.status_code == 200
    assert "No metric has been measured or declared yet" in page.text


def test_programs_still_get_the_map_of_the_api(browser: httpx.Client) -> None:
    assert "job" in browser.get("/", headers={"Accept": "*/*"}).json()


def test_a_job_is_on_the_page_that_is_asked_for_next(browser: httpx.Client, calls: Calls) -> None:
    define(calls, "p.a")
    limit(calls, "p.a.minimum", tags=["minimum"])
    job_id = dispatch(calls, {"p.a": 8.5}, filter_name="r", instrument="HSC")
    text = browser.get("/").text
    assert '<span class="state state-critical">CRITICAL</span>' in text
    assert f'href="/job/{job_id}"' in text
    assert '<span class="value">8.5</span> <span class="unit">mmag</span>' in text
    assert "≤ 5" in text
    assert "-70 %" in text
    assert 'href="/specs?q=p.a.minimum"' in text
    assert "instrument HSC · filter r" in text
    assert "Trend: one value, 8.5 mmag" in text


def test_the_worst_is_first(browser: httpx.Client, calls: Calls) -> None:
    define(calls, "p.bad", "p.good", "p.never")
    limit(calls, "p.bad.design")
    limit(calls, "p.good.design")
    dispatch(calls, {"p.good": 1.0, "p.bad": 9.0, "q.undeclared": 1.0})
    assert names(browser.get("/").text) == ["p.bad", "p.good", "q.undeclared", "p.never"]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("package=q", ["q.c"]),
        ("filter=r", ["p.a", "p.b"]),
        ("instrument=DECam", ["p.a"]),
        ("dataset=DC2&filter=r", ["p.a", "p.b"]),
        ("tag=photometry", ["p.a"]),
        ("tag=env_name%3Dldf", ["q.c"]),
        ("q=.B", ["p.b"]),
        ("state=WARNING", ["p.a"]),
        ("package=nothing", []),
        ("page=99", ["p.a", "p.b", "q.c"]),
    ],
)
def test_what_is_asked_for_is_in_the_address(
    browser: httpx.Client, calls: Calls, query: str, shown: list[str]
) -> None:
    define(calls, "p.a", tags=["photometry"])
    define(calls, "p.b")
    limit(calls, "p.a.design")
    dispatch(calls, {"p.a": 9.0, "p.b": 9.0}, filter_name="r", ci_dataset="DC2")
    dispatch(calls, {"p.a": 1.0}, filter_name="g", instrument="DECam")
    dispatch(calls, {"q.c": 1.0}, env={"env_name": "ldf"})
    page = browser.get(f"/?{query}")
    assert page.status_code == 200
    assert sorted(names(page.text)) == shown


def test_states_and_packages_are_links_that_keep_the_rest(
    browser: httpx.Client, calls: Calls
) -> None:
    dispatch(calls, {"p.a": 9.0, "q.b": 9.0}, filter_name="r")
    text = browser.get("/?filter=r").text
    assert 'href="?filter=r&amp;state=no%20limit"' in text
    assert 'href="?package=p&amp;filter=r"' in text


def test_combinations_are_within_their_metric(browser: httpx.Client, calls: Calls) -> None:
    define(calls, "p.a")
    limit(calls, "p.a.design")
    for number in range(12):
        dispatch(calls, {"p.a": float(number)}, detector=number)
    for number in range(4):
        dispatch(calls, {f"p.x{number}": 1.0})
    text = browser.get("/").text
    assert "12 series: 6 WARNING, 6 passed" in text
    assert "worst of 12: detector 11" in text
    assert text.count('<th scope="row">') == 5
    assert browser.get("/?q=p.a").text.count('<th scope="row">') == 12


def test_many_metrics_come_in_pages(browser: httpx.Client, calls: Calls) -> None:
    dispatch(calls, {f"p.m{number:03}": 1.0 for number in range(120)})
    first = browser.get("/").text
    assert (len(names(first)), "Page 1 of 3, 120 metrics" in first) == (50, True)
    last = browser.get("/?page=3").text
    assert (len(names(last)), 'rel="next"' in last) == (20, False)


def test_a_value_that_is_late_is_said_to_be(browser: httpx.Client, calls: Calls) -> None:
    define(calls, "p.a")
    limit(calls, "p.a.design", expect={"every": "1s"})
    dispatch(calls, {"p.a": 1.0}, instrument="HSC")
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while "state-late" not in (text := browser.get("/").text):
        assert datetime.now(UTC) < deadline
    assert "late: the last came on" in text


def test_hostile_names_are_text(browser: httpx.Client, calls: Calls) -> None:
    long = "x" * 900
    values = {HOSTILE: 1.0, RIGHT_TO_LEFT: 1.0, 'p."onload="x': 1.0, f"p.{long}": 1.0}
    for value in ("<img src=x>", '"><script>', "javascript:alert(1)", "\u202eevil"):
        dispatch(calls, values, instrument=value, filter_name=value, ci_id="y" * 10_000)
    text = browser.get("/").text
    assert HOSTILE in names(text)
    assert RIGHT_TO_LEFT in names(text)
    assert "<script>alert" not in text
    assert "<img" not in text
    assert 'href="javascript' not in text
    assert 'onload="' not in text
    assert f"p.{long}" in names(text)
    assert "/metric/p.%3Cscript%3Ealert%281%29%3C%2Fscript%3E" in text


@pytest.mark.parametrize(
    "name", ["package", "dataset", "filter", "instrument", "tag", "q", "state"]
)
def test_a_hostile_query_is_text(browser: httpx.Client, calls: Calls, name: str) -> None:
    dispatch(calls, {"p.a": 1.0})
    for value in (
        '"><script>alert(1)</script>',
        "a\0b",
        "x" * 10_000,
        "\ud800".encode("utf-8", "replace").decode(),
    ):
        page = browser.get("/", params={name: value})
        is_refused = name == "state" or len(value) > 1000 or "\0" in value
        assert page.status_code == (422 if is_refused else 200)
        assert "<script>alert" not in page.text


def test_every_address_is_below_the_public_root(tmp_path: Path) -> None:
    with service(tmp_path, url="https://example.org/squash") as client:
        client.headers.update(BROWSER)
        calls = log_in(client, "ada")
        define(calls, "p.a")
        limit(calls, "p.a.design")
        dispatch(calls, {"p.a": 1.0})
        text = client.get("/squash/").text + client.get("/squash/specs").text
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"', text)
    outside = [item for item in addresses if not item.startswith(("/squash/", "?", "#"))]
    assert not outside


@pytest.mark.parametrize("path", ["/", "/specs"])
def test_what_is_no_page_is_refused(browser: httpx.Client, path: str) -> None:
    for text in ("0", "-1", "x", "1.5", "²"):
        reply = browser.get(path, params={"page": text})
        assert reply.status_code == 422
        assert "`page` must be a whole number from 1 on" in unescape(reply.text).replace(
            "<code>", "`"
        ).replace("</code>", "`")
    for text in ("", "1", "3", "9" * 99):
        assert browser.get(path, params={"page": text}).status_code == 200


def test_a_combination_is_named_by_what_tells_it_apart() -> None:
    tags = (("instrument", "LSSTCam"), ("filter", "r"), ("detector", "42"))
    assert tags_text(tags) == "LSSTCam · r · detector 42"
    assert named_tags_text(tags) == "instrument LSSTCam · filter r · detector 42"
    assert tags_text(()) == named_tags_text(()) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "less than 1 min"), (60, "1 min"), (7199, "1 h"), (200_000, "2 d")],
)
def test_spans_are_in_their_largest_unit(seconds: float, text: str) -> None:
    assert span_text(seconds) == text


def test_what_never_came_is_late_since_it_is_waited_for() -> None:
    series = ExpectedSeries("p.a.daily", (), 7200.0, 90_000.0, 0)
    assert late_text(series) == "2 h late: none since 1970-01-01 00:00 UTC (daily)"


def test_what_needs_a_person_comes_first_and_what_was_never_seen_is_folded(
    browser: httpx.Client, calls: Calls
) -> None:
    define(calls, "p.bad", "p.goal", "p.never")
    limit(calls, "p.bad.design")
    limit(calls, "p.goal.stretch", tags=["stretch"])
    dispatch(calls, {"p.bad": 9.0, "p.goal": 9.0})
    text = browser.get("/").text
    needy, _, rest = text.partition("<h2>The rest</h2>")
    assert "<h2>Needs a person: 1 metric</h2>" in needy
    assert (names(needy), names(rest)) == (["p.bad"], ["p.goal", "p.never"])
    folded = rest.partition('<details id="never"')[2]
    assert names(folded) == ["p.never"]
    assert "Never seen: 1 metric" in folded


def test_metrics_never_seen_are_a_list_like_others_if_they_are_asked_for(
    browser: httpx.Client, calls: Calls
) -> None:
    define(calls, "p.a", "p.b")
    assert '<details id="never" class="more" open' in browser.get("/").text
    asked = browser.get("/?state=never+seen").text
    assert "<details id" not in asked.partition("<main")[2].partition('id="board"')[2]
    assert names(asked) == ["p.a", "p.b"]


def test_a_value_beyond_a_goal_is_said_calmly(browser: httpx.Client, calls: Calls) -> None:
    define(calls, "p.a")
    limit(calls, "p.a.stretch", tags=["stretch"])
    for value in (9.0, 10.0):
        dispatch(calls, {"p.a": value})
    board = browser.get("/").text.partition('id="board"')[2]
    assert "100 % beyond" in board
    assert "-100 %" not in board
    assert "beyond-info" not in board
    assert "spark-limit spark-info" in board


def test_the_limit_of_a_trend_has_the_colour_of_its_level(
    browser: httpx.Client, calls: Calls
) -> None:
    define(calls, "p.a")
    limit(calls, "p.a.minimum", tags=["minimum"])
    dispatch(calls, {"p.a": 1.0})
    assert "spark-limit spark-critical" in browser.get("/").text


def test_many_packages_are_folded(browser: httpx.Client, calls: Calls) -> None:
    dispatch(calls, {f"p{number:02}.a": 1.0 for number in range(12)})
    text = browser.get("/").text
    assert "4 more packages" in text
    assert text.count('href="?package=p') == 12


@pytest.mark.parametrize("path", ["/", "/specs", "/report", "/runs", "/docs", "/nothing"])
def test_every_page_has_a_search_box_the_zone_and_the_health_of_delivery(
    browser: httpx.Client, path: str
) -> None:
    text = browser.get(path).text
    assert 'role="search" method="get" action="/search"' in text
    assert "<span data-zone>UTC</span>" in text
    assert "No InfluxDB is configured" in text.partition("<footer")[2]


def test_delivery_that_is_held_up_is_said_on_every_page(tmp_path: Path) -> None:
    with service(tmp_path, influx_url="http://127.0.0.1:9") as client:
        client.headers.update(BROWSER)
        calls = log_in(client, "ada")
        dispatch(calls, {"p.a": 1.0})
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while "held-up" not in (text := client.get("/specs").text):
            assert datetime.now(UTC) < deadline
        assert "InfluxDB default: held up" in text
        assert re.search(r"since <time[^>]*>[^<]*</time> UTC: \w", text)


def test_jobs_that_nobody_delivers_are_held_up(tmp_path: Path) -> None:
    with service(tmp_path, influx_url="http://127.0.0.1:9", deliver="off") as client:
        client.headers.update(BROWSER)
        assert "held-up" not in client.get("/").text
        dispatch(log_in(client, "ada"), {"p.a": 1.0})
        assert "jobs wait, and no process delivers them" in client.get("/").text


def test_an_error_says_once_what_is_wrong(browser: httpx.Client) -> None:
    text = browser.get("/?stat=late").text
    assert text.count("there is no parameter") + text.count("There is no parameter") == 1
