"""The page of a metric in a real Chromium, with the service as a process of its own."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.calls import Calls, log_in
from tests.support.chromium import (
    PHONE,
    axe_problems,
    hidden_tables,
    is_in_first_screen,
    is_wider_than_its_window,
    watched_page,
)
from tests.support.definitions import metric, spec
from tests.support.service import Service

# What a browser does with a page does not depend on where the record is.
pytestmark = pytest.mark.sqlite

HOSTILE = "<img src=x onerror=alert(1)> $$x$$ @{job} \u202e"
DAYS = 12

_PLOT = 'Bokeh.index.roots.find((view) => view.model.type === "Figure")'
# Where the values are on the screen.
_PLACES = (
    f"() => {{ const view = {_PLOT};"
    """
  const corner = view.el.getBoundingClientRect();
  const data = view.model.document.get_model_by_name("points").data;
  return data.job.map((job, index) => [
    job,
    corner.left + view.frame.x_scale.compute(data.x[index]),
    corner.top + view.frame.y_scale.compute(data.y[index]),
  ]);
}"""
)
_COLUMN = f"""([source, column]) =>
  Array.from({_PLOT}.model.document.get_model_by_name(source).data[column])"""


@pytest.fixture(scope="module")
def site(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Calls]]:
    """A service with p.a and its limits, and some days of values in two filters."""
    assert chromium
    folder = tmp_path_factory.mktemp("metric")
    with (
        Service(folder) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client,
    ):
        calls = log_in(client, "ada")
        calls("POST", "/metrics", {"metrics": [metric("p.a")]})
        limits = [spec("p.a.design", value=5.0), spec("p.a.minimum", value=8.0, tags=["minimum"])]
        assert calls("POST", "/specs", {"specs": limits}).status_code == 201
        for day in range(DAYS, 0, -1):
            for offset, name in enumerate("gr"):
                value = 3.0 + offset + 0.3 * (day % 3) + (4.0 if day == 3 else 0.0)
                post(calls, value, days=day + offset / 10, filter_name=name, airmass=1 + day / 10)
        yield service, calls


def post(calls: Calls, value: float, *, name: str = "p.a", days: float = 0.0, **meta: Any) -> int:
    """Post a job of some days ago, and return its id."""
    date = datetime.now(UTC) - timedelta(days=days)
    document = {
        "measurements": [{"metric": name, "value": value, "unit": "mmag"}],
        "blobs": [],
        "meta": {"instrument": "HSC", "env": {"date": date.isoformat(), "run_id": "R1"}, **meta},
    }
    reply = calls("POST", "/job", document)
    assert reply.status_code == 202, reply.text
    return int(reply.json()["id"])


def drawn(page: Page, address: str = "/metric/p.a") -> Page:
    """Open a page, and wait until its plot is drawn."""
    page.goto(address)
    page.wait_for_selector("#plot[data-points]")
    return page


def column(page: Page, source: str, name: str) -> list[Any]:
    found: list[Any] = page.evaluate(_COLUMN, [source, name])
    return found


def place_of(page: Page, job_id: int) -> tuple[float, float]:
    """Return where the value of a job is on the screen."""
    page.locator("#plot").scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    places = {job: (x, y) for job, x, y in page.evaluate(_PLACES)}
    return places[job_id]


def test_the_plot_is_drawn_with_its_limits(chromium: Browser, site: tuple[Service, Calls]) -> None:
    with watched_page(chromium, site[0].url) as page:
        drawn(page)
        assert column(page, "limits", "text") == ["WARNING: design < 5", "CRITICAL: minimum < 8"]
        assert len(column(page, "points", "x")) >= 2 * DAYS
        expect(page.locator("#plot-legend button")).to_have_count(2)
        expect(page.locator("#plot-note")).to_have_text(re.compile("values"))


def test_the_x_axis_becomes_the_airmass(chromium: Browser, site: tuple[Service, Calls]) -> None:
    with watched_page(chromium, site[0].url) as page:
        drawn(page)
        page.get_by_label("over").select_option("meta.airmass")
        page.get_by_role("button", name="Show", exact=True).click()
        page.wait_for_url("**x=meta.airmass**")
        page.wait_for_selector("#plot[data-points]")
        assert min(column(page, "points", "x")) == pytest.approx(1.1)
        assert column(page, "joints", "xs") == []


def test_a_range_is_a_link(chromium: Browser, site: tuple[Service, Calls]) -> None:
    with watched_page(chromium, site[0].url) as page:
        drawn(page)
        page.get_by_role("link", name="7d").click()
        page.wait_for_url("**range=7d**")
        page.wait_for_selector("#plot[data-points]")
        assert len(column(page, "points", "x")) < 2 * DAYS


def test_a_click_on_a_point_opens_its_job(chromium: Browser, site: tuple[Service, Calls]) -> None:
    with watched_page(chromium, site[0].url) as page:
        page.route("**/job/*", lambda route: route.fulfill(body="a job", content_type="text/plain"))
        drawn(page)
        for _ in range(2):
            page.mouse.click(*place_of(page, 5))
            page.wait_for_url("**/job/5")
            page.go_back()
            page.wait_for_selector("#plot[data-points]")


def test_a_value_is_explained_where_the_mouse_is(
    chromium: Browser, site: tuple[Service, Calls]
) -> None:
    with watched_page(chromium, site[0].url) as page:
        drawn(page)
        page.mouse.move(*place_of(page, 5))
        tooltip = page.locator(".bk-Tooltip").first
        for text in ("mmag", "R1", "5", "passed"):
            expect(tooltip).to_contain_text(text)


def test_a_new_value_appears_by_itself(chromium: Browser, site: tuple[Service, Calls]) -> None:
    service, calls = site
    with watched_page(chromium, service.url) as page:
        with page.expect_response("**/events*"):
            drawn(page, "/metric/p.a?filter=live")
        expect(page.locator("#last")).to_contain_text("no values")
        page.wait_for_timeout(1000)
        job_id = post(calls, 6.5, filter_name="live")
        page.wait_for_selector('#plot[data-points="1"]')
        assert column(page, "points", "job") == [job_id]
        expect(page.locator("#last")).to_contain_text(str(job_id))


def test_what_is_zoomed_in_on_stays_when_values_come(
    chromium: Browser, site: tuple[Service, Calls]
) -> None:
    service, calls = site
    ends = f"""() => ["start", "end"].map(
      (end) => {_PLOT}.model.document.get_model_by_name("x")[end])"""
    with watched_page(chromium, service.url) as page:
        with page.expect_response("**/events*"):
            drawn(page, "/metric/p.a?filter=g")
        left, top = place_of(page, 1)
        page.mouse.move(left, top - 40)
        page.mouse.down()
        page.mouse.move(left + 200, top + 30, steps=5)
        page.mouse.up()
        page.wait_for_timeout(300)
        before = page.evaluate(ends)
        count = int(page.locator("#plot").get_attribute("data-points") or 0)
        post(calls, 3.3, filter_name="g")
        page.wait_for_selector(f'#plot[data-points="{count + 1}"]')
        assert page.evaluate(ends) == before


def test_what_is_zoomed_in_on_is_in_the_url_and_in_the_files(
    chromium: Browser, site: tuple[Service, Calls]
) -> None:
    ends = f"""() => ["x", "y"].flatMap((axis) => ["start", "end"].map(
      (end) => {_PLOT}.model.document.get_model_by_name(axis)[end]))"""
    with watched_page(chromium, site[0].url) as page:
        drawn(page, "/metric/p.a?filter=r")
        whole = page.locator("a[data-export]").first.get_attribute("href") or ""
        left, top = place_of(page, 8)
        page.mouse.move(left - 10, top - 60)
        page.mouse.down()
        page.mouse.move(left + 150, top + 60, steps=5)
        page.mouse.up()
        page.wait_for_url("**zoom=**")
        zoomed = page.evaluate(ends)
        link = page.locator("a[data-export]").first.get_attribute("href") or ""
        rows = httpx.get(link, trust_env=False, timeout=60).text.splitlines()[1:]
        shown = [x for x in column(page, "points", "x") if zoomed[0] <= x <= zoomed[1]]
        assert len(rows) == len(shown) > 0
        assert len(shown) < len(column(page, "points", "x"))
        drawn(page, page.url)
        page.wait_for_function(f"({ends})()[0] > 0")
        assert page.evaluate(ends) == pytest.approx(zoomed, rel=1e-9)
        page.locator(".bk-tool-icon-reset").first.click()
        page.wait_for_url(lambda url: "zoom=" not in url)
        assert (page.locator("a[data-export]").first.get_attribute("href") or "").endswith(whole)


def test_info_has_one_colour_everywhere(chromium: Browser, site: tuple[Service, Calls]) -> None:
    with watched_page(chromium, site[0].url) as page:
        drawn(page)
        colours = page.evaluate(
            """() => ["info", "warning", "critical"].map((level) => {
              const state = document.createElement("span");
              state.className = `state state-${level}`;
              document.body.append(state);
              return [state, document.querySelector(`.key .${level}`)].map(
                (element) => getComputedStyle(element).color);
            })"""
        )
        assert all(state == key for state, key in colours)


def test_the_plot_is_in_the_first_screen(chromium: Browser, site: tuple[Service, Calls]) -> None:
    with watched_page(chromium, site[0].url, viewport={"width": 1400, "height": 900}) as page:
        drawn(page)
        assert is_in_first_screen(page, "#plot")


def test_on_a_phone_the_worst_value_comes_first_and_no_value_is_hidden(
    chromium: Browser, site: tuple[Service, Calls]
) -> None:
    with watched_page(
        chromium, site[0].url, viewport={"width": 390, "height": 844}, has_touch=True
    ) as page:
        drawn(page)
        assert is_in_first_screen(page, "#title .state")
        assert is_in_first_screen(page, "#title .lead")
        assert hidden_tables(page) == []


def test_a_series_can_be_hidden_by_keyboard(chromium: Browser, site: tuple[Service, Calls]) -> None:
    with watched_page(chromium, site[0].url) as page:
        drawn(page)
        button = page.locator("#plot-legend button", has_text="r").last
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_attribute("aria-pressed", "false")
        assert "r" not in column(page, "points", "label")
        page.keyboard.press("Enter")
        assert "r" in column(page, "points", "label")


@pytest.mark.parametrize(
    "options", [{}, {"color_scheme": "dark"}, {"viewport": PHONE, "has_touch": True}]
)
def test_everybody_can_use_it(
    chromium: Browser, site: tuple[Service, Calls], options: dict[str, Any]
) -> None:
    with watched_page(chromium, site[0].url, **options) as page:
        drawn(page)
        assert axe_problems(page) == []
        assert not is_wider_than_its_window(page)


def test_the_plot_is_dark_where_the_page_is(chromium: Browser, site: tuple[Service, Calls]) -> None:
    ground = f"() => {_PLOT}.model.background_fill_color"
    with watched_page(chromium, site[0].url) as page:
        drawn(page)
        assert page.evaluate(ground) == "#ffffff"
        with page.expect_response("**theme=dark**"):
            page.emulate_media(color_scheme="dark")
        page.wait_for_timeout(500)
        assert page.evaluate(ground) == "#14181c"
        assert len(column(page, "points", "x")) >= 2 * DAYS


def test_hostile_words_are_shown_as_they_are(
    chromium: Browser, site: tuple[Service, Calls]
) -> None:
    service, calls = site
    name = "hostile.$$x$$<img src=x>"
    job_id = post(
        calls,
        3.0,
        name=name,
        filter_name=HOSTILE,
        packages={HOSTILE: {"git_sha": "1", "git_url": "javascript:alert(1)"}},
    )
    post(calls, 4.0, name=name, filter_name="g", run_id=HOSTILE)
    with watched_page(chromium, service.url) as page:
        page.on("dialog", lambda _: pytest.fail("a script of others ran"))
        drawn(page, "/metric/hostile.%24%24x%24%24%3Cimg%20src%3Dx%3E")
        page.mouse.move(*place_of(page, job_id))
        expect(page.locator(".bk-Tooltip").first).to_contain_text("<img_src=x_onerror=alert(1)>")
        expect(page.locator("#plot-legend")).to_contain_text("<img_src=x_onerror=alert(1)>")
        assert page.locator("img").count() == 0


def test_without_the_service_the_page_says_so(
    chromium: Browser, site: tuple[Service, Calls]
) -> None:
    context = chromium.new_context(base_url=site[0].url)
    page = context.new_page()
    page.route("**/plot?**", lambda route: route.fulfill(status=503, json={"message": "Later."}))
    page.goto("/metric/p.a")
    expect(page.locator("#plot-note")).to_have_text("The plot cannot be drawn: Later.")
    context.close()
