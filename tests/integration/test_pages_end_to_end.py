"""From an empty service to a red state and what is behind it, in a real Chromium."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.chromium import watched_page
from tests.support.paged_site import PLACES, TEMPERATURE, PagedSite, paged_site

# What a browser does with a page does not depend on where the record is.
pytestmark = pytest.mark.sqlite

# A second is usual; this machine may be busy with other tests.
_LIVE_MS = 15_000
NIGHTS = {5: 10.0, 4: 10.5, 3: 9.5, 2: 10.0, 1: 11.0, 0: 16.0}
_KEEP = "() => { window.isTheSame = true; }"
_IS_KEPT = "() => window.isTheSame === true"
_COLUMN = """([source, column]) => Array.from(
  Bokeh.index.roots[0].model.document.get_model_by_name(source).data[column])"""


@pytest.fixture
def empty_site(
    chromium_binary: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PagedSite]:
    """A service that has specifications, and to which nobody has sent a job."""
    assert chromium_binary
    with paged_site(tmp_path_factory.mktemp("service")) as site:
        yield site


@pytest.fixture(scope="module")
def site(chromium_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PagedSite]:
    """A service with six nights of temperatures, of which the last is too high."""
    assert chromium_binary
    with paged_site(tmp_path_factory.mktemp("service")) as site:
        for run, value in NIGHTS.items():
            site.measure(value, run=run, airmass=1 + run / 10)
        yield site


def row_of(page: Page, name: str = TEMPERATURE) -> Any:
    """Return the line of the overview about a metric."""
    return page.locator(".board > li", has=page.get_by_role("link", name=name))


def column(page: Page, source: str, name: str) -> list[Any]:
    """Return a column of what the plot was drawn from."""
    found: list[Any] = page.evaluate(_COLUMN, [source, name])
    return found


def open_metric(page: Page, query: str = "") -> None:
    """Open the page of the temperature, and wait until its plot is drawn."""
    page.goto(f"/metric/{TEMPERATURE}{query}")
    page.locator("#plot[data-points] canvas").first.wait_for()


def test_the_overview_of_an_empty_service_turns_red_by_itself(
    chromium: Browser, empty_site: PagedSite
) -> None:
    with watched_page(chromium, empty_site.url) as page:
        page.goto("/")
        expect(page.get_by_text("Never seen: 1 metric without a value so far")).to_be_visible()
        page.evaluate(_KEEP)
        empty_site.measure(10.0, run=1)
        expect(row_of(page)).to_contain_text("passed", timeout=_LIVE_MS)
        empty_site.measure(16.0, run=0)
        expect(row_of(page)).to_contain_text("CRITICAL", timeout=_LIVE_MS)
        expect(row_of(page)).to_contain_text("16")
        assert page.evaluate(_IS_KEPT)


def test_a_red_state_leads_to_the_run_that_brought_it(chromium: Browser, site: PagedSite) -> None:
    with watched_page(chromium, site.url) as page:
        page.goto("/")
        row_of(page).get_by_role("link", name=TEMPERATURE).click()
        page.locator("#plot[data-points='6'] canvas").first.wait_for()
        assert "CRITICAL: minimum \u2264 15" in column(page, "limits", "text")

        page.get_by_label("over").select_option("meta.airmass")
        page.get_by_role("button", name="Show", exact=True).click()
        page.wait_for_url("**x=meta.airmass**")
        page.locator("#plot[data-points='6'] canvas").first.wait_for()
        assert sorted(column(page, "points", "x")) == pytest.approx([1, 1.1, 1.2, 1.3, 1.4, 1.5])

        page.locator("#plot").scroll_into_view_if_needed()
        place = page.evaluate(PLACES)["6"]
        page.mouse.click(place["x"], place["y"])
        page.wait_for_url("**/job/6")
        expect(page.get_by_role("row", name=re.compile("minimum"))).to_contain_text("CRITICAL")

        page.get_by_role("link", name="1000", exact=True).click()
        page.wait_for_url("**/runs/nightly/1000**")
        expect(page.get_by_role("main")).to_contain_text("CRITICAL")


def test_a_new_job_appears_in_the_plot_without_a_reload(chromium: Browser, site: PagedSite) -> None:
    query = "?instrument=OtherCam"
    site.measure(10.0, run=2, instrument="OtherCam")
    with watched_page(chromium, site.url) as page:
        open_metric(page, query)
        page.evaluate(_KEEP)
        points = page.locator("#plot")
        expect(points).to_have_attribute("data-points", "1")
        job_id = site.measure(11.0, run=0, instrument="OtherCam")
        expect(points).to_have_attribute("data-points", "2", timeout=_LIVE_MS)
        assert column(page, "points", "job")[-1] == job_id
        assert page.evaluate(_IS_KEPT)


def test_a_view_is_shared_by_its_address(chromium: Browser, site: PagedSite) -> None:
    with watched_page(chromium, site.url) as page:
        open_metric(page, "?range=1y&x=meta.airmass&instrument=LSSTCam")
        expect(page.get_by_label("over")).to_have_value("meta.airmass")
        assert set(column(page, "points", "job")) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("name", ["Metrics", "Runs", "Specifications", "Report"])
def test_every_page_is_reached_by_the_navigation(
    chromium: Browser, site: PagedSite, name: str
) -> None:
    with watched_page(chromium, site.url) as page:
        page.goto("/job/1")
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        expect(page.locator("nav [aria-current=page]")).to_have_text(name)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
