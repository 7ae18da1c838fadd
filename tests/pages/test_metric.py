import re
import time
from collections.abc import Iterator
from csv import DictReader
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from squash_api.index.code_changes import CodeChanges, PackageChange
from squash_api.index.contexts import JobContext
from squash_api.judging.limits import Limit, limits_of
from squash_api.judging.specifications import specification_from_json
from squash_api.pages.metric import (
    RANGES,
    changes_text,
    choices_of,
    clip,
    in_order,
    line_text,
    note_of,
    picture_of,
    shown_of,
)
from squash_api.pages.plots import limit_text
from squash_api.pages.rendering import tags_text
from squash_api.schema.names import Context, Schema
from squash_api.trends import change_points
from squash_api.trends.points import TrendLine
from squash_api.trends.trends import Judged, Trend
from tests.pages.conftest import BROWSER
from tests.support.calls import Calls, log_in
from tests.support.definitions import metric, spec
from tests.support.in_process import service
from tests.support.module_entries import calls_noted, entries, way_between

HOSTILE = "<script>alert(1)</script> \" ' \u202e $$x$$ {{ 7 * 7 }}"


@pytest.fixture
def site(calls: Calls) -> Calls:
    """A service with the metric p.a, its limits, and a value of yesterday in each of g and r."""
    declared = metric("p.a", description="How large a is.") | {
        "reference": {"doc": "LPM-17", "page": 3, "url": "https://ls.st/lpm-17"}
    }
    assert calls("POST", "/metrics", {"metrics": [declared]}).status_code == 201
    limits = [
        spec("p.a.design", value=5.0),
        spec("p.a.minimum", value=8.0, tags=["minimum"]),
    ]
    assert calls("POST", "/specs", {"specs": limits}).status_code == 201
    post(calls, 4.0, filter_name="g", airmass=1.5)
    post(calls, 9.0, filter_name="r", airmass=1.2, run_id="R17")
    return calls


needs_ruptures = pytest.mark.skipif(
    not change_points.is_installed(), reason="ruptures is not installed"
)


def post(calls: Calls, value: Any, *, name: str = "p.a", days: float = 1.0, **meta: Any) -> int:
    """Post a job of some days ago, and return its id."""
    date = datetime.now(UTC) - timedelta(days=days)
    document = {
        "measurements": [{"metric": name, "value": value, "unit": "mmag"}],
        "blobs": [],
        "meta": {"instrument": "HSC", "env": {"date": date.isoformat()}, **meta},
    }
    reply = calls("POST", "/job", document, headers={"Accept": "application/json"})
    assert reply.status_code == 202, reply.text
    return int(reply.json()["id"])


def page(site: Calls, address: str = "/metric/p.a") -> httpx.Response:
    return site.client.get(address)


def ask_plot(site: Calls, query: str = "", name: str = "p.a") -> httpx.Response:
    address = f"/metric/{quote(name, safe='')}/plot?{query}"
    return site.client.get(address, headers={"Accept": "*/*"})


def plot(site: Calls, query: str = "", name: str = "p.a") -> dict[str, Any]:
    reply = ask_plot(site, query, name)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def points(answer: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the data of the points of a plot."""
    (found,) = [
        model["attributes"]["data"]["entries"]
        for model in _objects(answer["item"])
        if model["attributes"].get("name") == "points"
    ]
    return dict(found)


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and "attributes" in node:
        yield node
    for part in parts:
        yield from _objects(part)


def test_the_page_says_what_the_metric_is(site: Calls) -> None:
    text = page(site).text
    assert "How large a is." in text
    assert '<a href="https://ls.st/lpm-17" rel="noopener noreferrer nofollow">LPM-17</a>' in text
    assert "<dd>mmag</dd>" in text


def test_programs_get_the_definition(site: Calls) -> None:
    reply = site.client.get("/metric/p.a", headers={"Accept": "*/*"})
    assert reply.json()["name"] == "p.a"


def test_the_page_says_how_each_series_stands_the_worst_first(site: Calls) -> None:
    text = page(site).text.split('id="standings"')[1].split('id="values"')[0]
    states = re.findall(r'class="state[^"]*">([^<]+)<', text)
    assert states == ["CRITICAL", "passed"]
    assert "filter=r" in text


def test_the_title_says_how_the_metric_stands(site: Calls) -> None:
    text = page(site).text
    assert "<title>CRITICAL · p.a · SQuaSH</title>" in text
    title = text.split('class="title"')[1].split("</h1>")[0]
    assert 'class="state state-critical"' in title


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("instrument=HSC", "not measured"),
        ("filter=r", "CRITICAL"),
        ("filter=g", "passed"),
        ("instrument=N", "not measured"),
        ("instrument=O", "old"),
        ("instrument=none", "never seen"),
        ("filter=z", "never seen"),
    ],
)
def test_the_title_says_how_what_is_shown_stands(site: Calls, query: str, state: str) -> None:
    post(site, None, instrument="N", filter_name="i")
    post(site, 9.0, instrument="O", filter_name="i", days=31)
    if state == "not measured":
        post(site, None, filter_name="r", days=0.5)
    html = page(site, f"/metric/p.a?{query}").text
    assert re.findall(r"<title>(.*?) ·", html) == [state]
    assert ("No job has named" in html) == (state == "never seen")


def test_below_the_title_is_the_worst_value(site: Calls) -> None:
    lead = re.sub(r"<[^>]*>", "", page(site).text.split('class="lead">')[1].split("</p>")[0])
    assert " ".join(lead.split()).startswith(
        "The worst of 2 series, r: 9 mmag, limit &lt; 8 (minimum), margin -12.5 %, job 2 of"
    )


def test_a_long_reference_is_shortened_until_all_of_it_is_asked_for(calls: Calls) -> None:
    declared = metric("p.a") | {"reference": {"doc": "LPM " * 2500, "page": None, "url": None}}
    assert calls("POST", "/metrics", {"metrics": [declared]}).status_code == 201
    (short, whole) = re.search(
        r"<summary><bdi>(.*?)</bdi> <span>show all</span></summary><bdi>(.*?)</bdi></details>",
        page(calls).text,
    ).groups()  # type: ignore[union-attr]
    assert len(short) <= 120 < len(whole) == 10_000


def test_rows_leave_out_the_tags_that_all_have(site: Calls) -> None:
    table = page(site).text.split('id="last"')[1]
    assert "newest first: <bdi>HSC</bdi></caption>" in table
    assert re.findall(r'data-label="Tags" class="wide whole"><bdi>(.*?)</bdi>', table) == ["r", "g"]


def test_values_are_listed_the_newest_first_with_their_jobs(site: Calls) -> None:
    table = page(site).text.split('id="last"')[1]
    assert re.findall(r'href="/job/(\d+)"', table) == ["2", "1"]
    assert "R17" in table


def test_a_metric_that_was_measured_only_has_a_page(site: Calls) -> None:
    post(site, 1.0, name="new.b")
    reply = page(site, "/metric/new.b")
    assert reply.status_code == 200
    assert "Nobody has declared this metric" in reply.text


def test_programs_are_told_where_the_values_of_an_undeclared_metric_are(calls: Calls) -> None:
    asked = {"Accept": "*/*"}
    post(calls, 1.0, name="q.never")
    reply = calls.client.get("/metric/q.never", headers=asked)
    assert reply.status_code == 404
    assert reply.json()["message"] == (
        "`q.never` is measured, but not declared; its values are at `/measurements?metric=q.never`."
    )
    assert calls.client.get("/measurements?metric=q.never").json()["measurements"]
    assert (
        "There is no metric" in calls.client.get("/metric/q.nev", headers=asked).json()["message"]
    )


def test_a_metric_that_was_declared_only_has_a_page(site: Calls) -> None:
    site("POST", "/metrics", {"metrics": [metric("p.z")]})
    assert "There are no values yet." in page(site, "/metric/p.z").text
    assert plot(site, name="p.z")["note"] == "There are no values here."


def test_a_metric_that_nobody_knows_is_not_found(site: Calls) -> None:
    reply = page(site, "/metric/p.nothing")
    assert (reply.status_code, reply.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert ask_plot(site, name="p.nothing").status_code == 404


def test_the_view_is_in_the_address(site: Calls) -> None:
    text = page(site, "/metric/p.a?filter=r&range=1y&x=meta.airmass&zoom=1,2.5,-3,4e1").text
    assert 'data-address="/metric/p.a/plot?range=1y&amp;x=meta.airmass&amp;filter=r"' in text
    assert '<option value="r" selected>' in text
    assert '<option value="meta.airmass" selected>' in text
    assert 'href="?range=30d&amp;x=meta.airmass&amp;filter=r"' in text
    assert re.search(r'aria-current="true">1y<', text)


def test_all_numbers_can_be_the_axis(site: Calls) -> None:
    post(site, 1.0, ccdnum=12, visit=99)
    text = page(site).text
    for name in ("ccdnum", "meta.airmass", "meta.visit"):
        assert f'<option value="{name}">' in text


@pytest.mark.parametrize(("days", "range_"), [(1, "90d"), (100, "1y"), (500, "2y"), (900, "all")])
def test_without_a_range_the_newest_value_is_in_it(calls: Calls, days: int, range_: str) -> None:
    post(calls, 1.0, days=days)
    assert re.search(rf'aria-current="true">{range_}<', page(calls).text)


@pytest.mark.parametrize("range_", RANGES)
def test_a_range_says_how_old_values_are_at_most(site: Calls, range_: str) -> None:
    for days in (20, 60, 300, 700, 1000):
        post(site, 1.0, days=days)
    ages = [1, 1, 20, 60, 300, 700, 1000]
    limit = RANGES[range_]
    wanted = [age for age in ages if limit is None or age < limit]
    assert len(points(plot(site, f"range={range_}"))["y"]) == len(wanted)


def day(ago: int) -> str:
    return f"{datetime.now(UTC) - timedelta(days=ago):%Y-%m-%d}"


@pytest.fixture
def dated(calls: Calls) -> Calls:
    """A service with a value at the first and the last moment of each of five days."""
    for ago in range(6, 1, -1):
        for moment in ("T00:00:00Z", "T23:59:59.5Z"):
            document = {
                "measurements": [{"metric": "p.a", "value": float(ago), "unit": "mmag"}],
                "meta": {"env": {"date": f"{day(ago)}{moment}"}},
            }
            assert calls("POST", "/job", document).status_code == 202
    return calls


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        (5, 3, [5, 5, 4, 4, 3, 3]),
        (4, 4, [4, 4]),
        (3, None, [3, 3, 2, 2]),
        (None, 5, [6, 6, 5, 5]),
    ],
)
def test_a_mere_day_is_the_whole_day_at_either_end(
    dated: Calls, since: int | None, until: int | None, days: list[int]
) -> None:
    given = {"since": since, "until": until}
    query = "&".join(f"{name}={day(ago)}" for name, ago in given.items() if ago is not None)
    assert points(plot(dated, query))["y"] == days
    text = page(dated, f"/metric/p.a?{query}").text
    for name, ago in given.items():
        shown = "" if ago is None else day(ago)
        assert f'<input name="{name}" value="{shown}" type="date">' in text
    assert 'aria-current="true"' not in text
    assert 'href="?range=30d"' in text
    listed = re.findall(r'<span class="value">(\d)</span>', text.split('id="last"')[1])
    assert [int(value) for value in reversed(listed)] == days


def test_the_ends_of_a_range_may_be_moments(dated: Calls) -> None:
    query = f"since={day(4)}T12:00Z&until={day(3)}T12:00Z"
    assert points(plot(dated, query))["y"] == [4, 3]
    shown = f'value="{day(4)}T12:00Z" type="text"'
    assert shown in page(dated, f"/metric/p.a?{query}").text


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("since=soon", "is not a time: write one like 2026-11-22"),
        ("until=2026-13-01", "is not a time"),
        ("since=2026-11-03&until=2026-11-02", "`since` is later than `until`"),
        ("zoom=1,2,3", "`zoom` must be four numbers"),
        ("zoom=<b>", "`zoom` must be four numbers"),
        ("ragne=7d", "did you mean `range`?"),
    ],
)
def test_a_wrong_range_is_refused_in_words(site: Calls, query: str, why: str) -> None:
    reply = page(site, f"/metric/p.a?{query}")
    assert (reply.status_code, reply.headers["content-type"]) == (422, "text/html; charset=utf-8")
    assert why in reply.text.replace("&#39;", "'")
    if "zoom" not in query:
        assert ask_plot(site, query).status_code == 422


QUERIES = (
    "",
    "range=30d",
    "range=all",
    "filter=r",
    "filter=r&range=7d",
    "tract=9813",
    "x=meta.airmass",
    f"since={day(10)}",
    f"since={day(10)}&until={day(3)}",
    "since=10d&filter=g",
    "since=2000-01-01T00:00Z&instrument=HSC",
)


@pytest.mark.parametrize("query", QUERIES)
def test_the_files_have_the_values_that_are_drawn(site: Calls, query: str) -> None:
    for days in (2, 8, 40, 100):
        post(site, days / 10, days=days, filter_name="r", airmass=days, tract=9813)
    text = page(site, f"/metric/p.a?{query}").text
    (address,) = re.findall(r'data-address="/metric/p.a/plot\?([^"]*)"', text)
    drawn = sorted(points(plot(site, unescape(address)))["y"])
    links = re.findall(r'data-export href="([^"]*)"', text)
    csv, json = (site.client.get(unescape(link)) for link in links)
    rows = list(DictReader(csv.text.splitlines()))
    assert sorted(float(row["value"]) for row in rows if row["metric"] == "p.a") == drawn
    found = json.json()["measurements"]
    assert sorted(row["value"] for row in found if row["metric"] == "p.a") == drawn


def test_over_another_metric_the_files_have_both(site: Calls) -> None:
    post(site, 7.0, name="p.b")
    (link, _) = re.findall(r'data-export href="([^"]*)"', page(site, "/metric/p.a?x=p.b").text)
    rows = DictReader(site.client.get(unescape(link)).text.splitlines())
    assert {row["metric"] for row in rows} == {"p.a", "p.b"}


def test_any_tag_can_be_asked_for(site: Calls) -> None:
    post(site, 3.0, tract=9813)
    assert points(plot(site, "tract=9813"))["y"] == [3.0]
    assert "any tract" in page(site, "/metric/p.a?tract=9813").text


@pytest.mark.parametrize("query", ["range=9z", "nothing=1", "theme=x"])
def test_what_cannot_be_asked_for_is_refused(site: Calls, query: str) -> None:
    assert page(site, f"/metric/p.a?{query}").status_code == 422


def test_the_plot_has_a_line_for_each_filter(site: Calls) -> None:
    answer = plot(site)
    assert [line["label"] for line in answer["lines"]] == ["g", "r"]
    assert points(answer)["marker"] == ["circle", "diamond"]
    assert points(answer)["job"] == [1, 2]


def test_the_plot_over_metadata(site: Calls) -> None:
    post(site, 3.0)
    answer = plot(site, "x=meta.airmass")
    assert points(answer)["x"] == [1.5, 1.2]
    assert "1 more has no number for meta.airmass." in answer["note"]


def test_the_plot_over_another_metric_names_its_unit(site: Calls) -> None:
    answer = plot(site, "x=p.a")
    assert points(answer)["x"] == [4.0, 9.0]
    assert "p.a (mmag)" in str(answer["item"])


def test_a_plot_that_is_known_is_not_made_again(site: Calls) -> None:
    newest = plot(site)["newest"]
    assert ask_plot(site, f"newest={newest}").status_code == 204
    post(site, 3.0)
    assert len(points(plot(site, f"newest={newest}"))["y"]) == 3


def test_a_theme_that_there_is_not_is_refused(site: Calls) -> None:
    assert ask_plot(site, "theme=pink").status_code == 422


def test_below_a_root_all_addresses_begin_with_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.support.calls import log_in
    from tests.support.in_process import service

    folder = tmp_path_factory.mktemp("rooted")
    with service(folder, url="https://squash.example.org/api") as client:
        client.headers["Accept"] = "text/html"
        calls = log_in(client, "ada")
        post(calls, 1.0)
        text = page(calls).text
    addresses = re.findall(r'(?:href|src|action|data-address)="(/[^"]*)"', text)
    assert addresses
    assert all(address.startswith("/api/") for address in addresses)


@pytest.mark.parametrize(
    "name", ["p.<script>alert(1)</script>", "p.a b?c#d", "p.\u202ex", "p." + "n" * 900]
)
def test_hostile_names_are_text(calls: Calls, name: str) -> None:
    post(calls, 1.0, name=name)
    reply = page(calls, f"/metric/{quote(name, safe='')}")
    assert reply.status_code == 200
    assert "<script>alert" not in reply.text
    assert plot(calls, name=name)["newest"] == 1


def test_hostile_metadata_is_text(site: Calls) -> None:
    post(
        site,
        3.0,
        filter_name=HOSTILE,
        dataset="d" * 900,
        run_id=HOSTILE,
        ci_url="javascript:alert(1)",
        operator="x" * 10_000,
        ccdnum='"><img src=x onerror=alert(1)>',
        packages={HOSTILE: {"git_sha": "1", "git_url": "javascript:alert(1)"}},
    )
    odd: dict[str, Any] = {HOSTILE: 3}
    post(site, 3.0, **odd)
    text = page(site).text
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "javascript:" not in text
    assert "49" not in re.findall(r"\{\{ (\d+)", text)
    assert len(text) < 60_000


def test_hostile_queries_are_text(site: Calls) -> None:
    evil = quote('"><script>alert(1)</script>', safe="")
    text = page(site, f"/metric/p.a?filter={evil}&x={evil}&tract={evil}&range={evil}").text
    assert "<script>alert" not in text
    assert plot(site, f"x={evil}&filter={evil}")["note"] == "There are no values here."


def test_a_reference_that_is_no_link_is_text(calls: Calls) -> None:
    declared = metric("p.a") | {"reference": {"doc": "<b>", "page": 1, "url": "javascript:x"}}
    assert calls("POST", "/metrics", {"metrics": [declared]}).status_code == 201
    text = page(calls).text
    assert "javascript:" not in text.replace("text/javascript", "")
    assert "&lt;b&gt;" in text


def test_what_is_late_is_said(site: Calls) -> None:
    expected = spec("p.a.wanted", value=99.0, expect={"every": "1s", "grace": "1s"})
    assert site("POST", "/specs", {"specs": [expected]}).status_code == 201
    deadline = time.monotonic() + 30
    while "state-late" not in (text := page(site).text) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "late: the last came on" in text


def test_the_page_enters_few_modules(tmp_path: Path) -> None:
    """Counted is what the page itself asks for; templates are rendered behind the last call."""
    with calls_noted() as calls, service(tmp_path) as client:
        ada = log_in(client, "ada")
        for filter_name in "gri":
            post(ada, 4.0, filter_name=filter_name)
        calls.clear()
        assert client.get("/metric/p.a", headers=BROWSER).status_code == 200
    way = way_between(calls, "metric_page", "render", within="pages/")
    assert len(entries(way)) <= 12, "\n".join(map(str, way))


def limit(last: str = "design", value: float = 5.0, **changes: Any) -> Limit:
    item = specification_from_json(spec(f"p.a.{last}", value=value, **changes))
    return limits_of([item], unit="mmag", schema=Schema())[0]


def judged(value: float = 1.0, *broken: Limit, x: float | None = None, **tags: str) -> Judged:
    context = Context({"instrument": "HSC", **tags}, {"run_id": "R17"})
    return Judged(value, x, JobContext(7, 5 * 10**6, 6, context), None, bool(broken), broken)


def trend(*values: Judged, count: int | None = None, **changes: Any) -> Trend:
    found: dict[str, Any] = {
        "common": (),
        "lines": [TrendLine((), values)] if values else [],
        "limits": [],
        "count": len(values) if count is None else count,
        "outside": 0,
    }
    return Trend(**(found | changes))


def note(found: Trend) -> str:
    picture = picture_of(found, name="p.a", unit="mmag", x="time", x_unit=None)
    return note_of(found, picture, x="time")


def test_a_value_is_a_point_that_says_all_of_its_job() -> None:
    found = trend(judged(9.0, limit(), filter="r"), judged(1.0, filter="g"))
    picture = picture_of(found, name="p.a", unit="mmag", x="time", x_unit=None)
    point = picture.lines[0].points[0]
    assert (point.x, point.y, point.job) == (5.0, 9.0, 7)
    assert (point.value, point.run, point.tags) == ("9 mmag", "R17", "r")
    assert (point.state, point.severity) == ("WARNING: design", 2)
    assert (picture.x_label, picture.y_label) == ("Date (UTC)", "p.a (mmag)")


def test_a_point_says_where_it_is_on_another_axis() -> None:
    found = trend(judged(x=1.25))
    picture = picture_of(found, name="p.a", unit="", x="meta.airmass", x_unit=None)
    assert (picture.x_label, picture.y_label, picture.is_time) == ("airmass", "p.a", False)
    assert picture.lines[0].points[0].tags == "meta.airmass 1.25"


def test_a_limit_of_some_values_says_of_which() -> None:
    some = limit(metadata_query={"filter": "r"})
    found = trend(judged(), limits=[(some, False)])
    picture = picture_of(found, name="p.a", unit="mmag", x="time", x_unit=None)
    assert picture.limits[0].scope == "filter r"


@pytest.mark.parametrize(
    ("limits", "texts"),
    [
        (
            [("d_g", 5.0, {"filter": "g"}), ("d_r", 5.0, {"filter": "r"})],
            ["WARNING: d_g, d_r < 5"],
        ),
        ([("d_g", 5.0, {"filter": "g"})], ["WARNING: d_g < 5 (filter g)"]),
        ([("d", 5.0, {}), ("e", 6.0, {})], ["WARNING: d < 5", "WARNING: e < 6"]),
        (
            [(f"d_{name}", 5.0, {"filter": name}) for name in "ugrizy"],
            ["WARNING: d_u, d_g, d_r and 3 more < 5"],
        ),
    ],
)
def test_limits_at_one_place_have_one_label(
    limits: list[tuple[str, float, dict[str, str]]], texts: list[str]
) -> None:
    found = [
        (limit(name, number, metadata_query=query), not query) for name, number, query in limits
    ]
    picture = picture_of(
        trend(judged(), limits=found), name="p.a", unit="mmag", x="time", x_unit=None
    )
    assert [limit_text(item) for item in picture.limits] == texts


def test_a_row_of_the_table() -> None:
    shown = shown_of(judged(9.0, limit(), limit("minimum", 8.0, tags=["minimum"])))
    assert (shown.state, shown.broken, shown.run) == ("CRITICAL", "design, minimum", "R17")


def test_a_note_says_how_many_values_are_drawn() -> None:
    assert note(trend()) == "There are no values here."
    assert note(trend(judged())) == "1 value."
    assert note(trend(judged(), judged())) == "2 values."
    assert note(trend(judged(), count=1234)).startswith("1,234 values, of which 1 are drawn")


def test_a_note_says_what_has_no_place() -> None:
    assert note(trend(judged(), outside=3)) == "1 value. 3 more have no number for time."


def test_a_note_names_the_limits_that_are_out_of_reach() -> None:
    found = trend(judged(1.0), judged(2.0), limits=[(limit("far", 1e6), True)])
    assert note(found) == "2 values. Outside the plot: WARNING: far < 1e+06."


def changed(*names: str) -> CodeChanges:
    return CodeChanges("A", tuple(PackageChange(name, None, "1", None) for name in names))


def test_changes_are_named() -> None:
    assert changes_text(changed("afw", "daf")) == "afw, daf"
    gone = PackageChange("afw", "1", None, None, is_gone=True)
    assert changes_text(CodeChanges("A", (gone,))) == "-afw"


def test_many_changes_are_counted() -> None:
    assert changes_text(changed(*"abcdefgh")) == "a, b, c, d, e, f and 2 more"


def test_no_change_is_not_an_unknown_one() -> None:
    assert changes_text(changed()) == "none"
    assert changes_text(None) == changes_text(CodeChanges("A", None)) == ""


def test_lines_are_called_by_their_tags() -> None:
    assert line_text(TrendLine((("filter", "r"), ("ccdnum", "3")), ())) == "r · ccdnum 3"
    assert line_text(TrendLine((), ())) == "all"
    assert line_text(TrendLine((("filter", "r"),), (), series=9)) == "r (9 series)"
    assert line_text(TrendLine((), (), series=4, is_rest=True)) == "4 other series"


def test_tags_come_in_the_order_of_what_people_look_for() -> None:
    tags = {"ccdnum": "3", "band": "x", "filter": "r", "instrument": "HSC"}
    assert tags_text(in_order(tags)) == "HSC · r · ccdnum 3 · band x"


def test_long_texts_are_clipped() -> None:
    assert clip("a" * 120) == "a" * 120
    assert clip("a" * 10_000) == "a" * 119 + "…"


def test_what_is_chosen_is_among_the_choices() -> None:
    assert choices_of({"filter": ["g", "r"]}, ["filter", "dataset"], {"dataset": "x"}) == {
        "filter": ["g", "r"],
        "dataset": ["x"],
    }


@pytest.fixture
def stepped(site: Calls) -> Calls:
    """A series that is at 1 for eight days and then at 9, with new code."""
    for number in range(16):
        url = "https://github.com/lsst/afw"
        sha = ("a" if number < 8 else "b") * 40
        package = {"name": "afw", "git_url": url, "git_sha": sha, "eups_version": "1"}
        post(
            site,
            1.0 + number % 2 / 10 + 8 * (number >= 8),
            name="p.step",
            days=20.0 - number,
            filter_name="r",
            ci_id=f"R{number}",
            ci_name="night",
            packages=[package],
        )
    return site


@needs_ruptures
def test_change_points_are_on_the_plot_with_what_changed_in_the_code(stepped: Calls) -> None:
    answer = plot(stepped, "changepoints=true", name="p.step")
    (found,) = answer["steps"]["found"]
    assert "run R8" in found["text"]
    assert "1.05 → 9.05 mmag" in found["text"]
    assert "1 package changed" in found["text"]
    assert found["packages"] == [
        {
            "name": "afw",
            "link": f"https://github.com/lsst/afw/compare/{'a' * 40}...{'b' * 40}",
        }
    ]
    (drawn,) = [
        dict(model["attributes"]["data"]["entries"])
        for model in _objects(answer["item"])
        if model["attributes"].get("name") == "steps"
    ]
    assert drawn["x"] == [sorted(points(answer)["x"])[8]]


def test_without_asking_there_are_no_change_points(stepped: Calls) -> None:
    answer = plot(stepped, name="p.step")
    assert "steps" not in answer
    assert all(model["attributes"].get("name") != "steps" for model in _objects(answer["item"]))


def test_without_the_library_the_plot_says_how_to_install_it(
    stepped: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_points, "_library", lambda: None)
    steps = plot(stepped, "changepoints=true", name="p.step")["steps"]
    assert steps["found"] == []
    assert "pip install 'squash-api[changepoints]'" in steps["note"]


def test_the_form_keeps_that_change_points_are_asked_for(site: Calls) -> None:
    text = page(site, "/metric/p.a?changepoints=true").text
    assert 'name="changepoints" value="true" checked' in text
    assert "changepoints=true" in text.split('data-address="')[1].split('"')[0]
    assert page(site, "/metric/p.a?changepoints=maybe").status_code == 422
