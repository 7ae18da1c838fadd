"""The front page in a real browser, of the real service."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.calls import Calls, log_in
from tests.support.chromium import (
    PHONE,
    axe_problems,
    is_wider_than_its_window,
    watched_page,
)
from tests.support.service import READING, Service
from tests.support.site import job_document

# What a browser does with a page does not depend on where the record is.
pytestmark = pytest.mark.sqlite

SCHEMES = ["light", "dark"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path, **READING) as service:
        yield service


@pytest.fixture
def calls(service: Service) -> Iterator[Calls]:
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        untyped: Any = client
        yield log_in(untyped, "ada")


@pytest.fixture
def page(chromium: Browser, service: Service) -> Iterator[Page]:
    with watched_page(chromium, service.url) as page:
        yield page


@pytest.fixture(scope="module")
def full_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with metrics in several states, some with hostile names."""
    with (
        Service(tmp_path_factory.mktemp("service"), **READING) as service,
        httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client,
    ):
        untyped: Any = client
        calls = log_in(untyped, "ada")
        declare(calls)
        for number in range(5):
            for band in "gr":
                values = {"p.a": 4.0 + number, "p.<img src=x onerror=alert(1)>": 1.0}
                post(calls, values, filter_name=band, instrument='"><script>alert(1)</script>')
        post(calls, {"q.no_limit_" + "x" * 200: 3.0}, instrument="\u202eabc")
        yield service


def declare(calls: Calls) -> None:
    metrics = [
        {"name": name, "unit": "mmag", "description": "What it is."} for name in ("p.a", "p.never")
    ]
    assert calls("POST", "/metrics", {"metrics": metrics}).status_code == 201
    specs = [
        {"name": "p.a.minimum", "threshold": threshold("<=", 7.5), "tags": ["minimum"]},
        {"name": "p.a.stretch", "threshold": threshold("<=", 5.0), "tags": ["stretch"]},
    ]
    assert calls("POST", "/specs", {"specs": specs}).status_code == 201


def threshold(operator: str, value: float) -> dict[str, Any]:
    return {"operator": operator, "value": value, "unit": "mmag"}


def post(calls: Calls, values: dict[str, float], **meta: Any) -> None:
    reply = calls("POST", "/job", job_document(values, unit=None, **meta))
    assert reply.status_code == 202, reply.text


def test_a_dispatch_turns_the_page_red_without_a_reload(page: Page, calls: Calls) -> None:
    page.goto("/")
    expect(page.get_by_text("No metric has been measured or declared yet")).to_be_visible()
    page.evaluate("window.isTheSame = true")
    declare(calls)
    post(calls, {"p.a": 9.0}, filter_name="r")
    board = page.locator(".board")
    expect(board.locator(".state-critical")).to_have_text("CRITICAL")
    expect(board).to_contain_text("-20 %")
    expect(page.get_by_role("status")).to_have_text("Job 1 arrived with 1 metric.")
    expect(page).to_have_title(re.compile("^CRITICAL: 1"))
    assert page.evaluate("window.isTheSame")


def test_a_new_job_leaves_the_focus_and_what_is_open(page: Page, calls: Calls) -> None:
    declare(calls)
    for band in "gr":
        post(calls, {"p.a": 1.0}, filter_name=band)
    page.goto("/")
    summary = page.locator(".board summary")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".board details")).to_have_attribute("open", "")
    post(calls, {"p.a": 1.0}, filter_name="i")
    expect(summary).to_contain_text("3 series")
    expect(page.locator(".board details")).to_have_attribute("open", "")
    expect(summary).to_be_focused()


def test_what_is_typed_into_a_filter_stays(page: Page, calls: Calls) -> None:
    page.goto("/")
    page.get_by_label("Name").fill("p.")
    post(calls, {"p.a": 1.0})
    expect(page.locator(".board > li")).to_have_count(1)
    expect(page.get_by_label("Name")).to_have_value("p.")


def test_a_page_out_of_sight_hears_nothing_and_catches_up(page: Page, calls: Calls) -> None:
    page.goto("/")
    post(calls, {"p.a": 1.0})
    expect(page.locator(".board > li")).to_have_count(1)
    show(page, is_hidden=True)
    post(calls, {"p.b": 1.0})
    page.wait_for_timeout(1500)
    expect(page.locator(".board > li")).to_have_count(1)
    show(page, is_hidden=False)
    expect(page.locator(".board > li")).to_have_count(2)


def show(page: Page, *, is_hidden: bool) -> None:
    page.evaluate(
        """isHidden => {
            Object.defineProperty(document, "hidden", {value: isHidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def test_filters_work_and_make_an_address_to_share(
    chromium: Browser, full_service: Service
) -> None:
    with watched_page(chromium, full_service.url) as page:
        page.goto("/")
        page.get_by_label("Package").select_option("p")
        page.get_by_role("combobox", name="Filter", exact=True).select_option("r")
        page.get_by_role("button", name="Filter").click()
        assert "package=p" in page.url
        assert "filter=r" in page.url
        expect(page.locator(".board > li")).to_have_count(2)
        page.get_by_role("link", name="CRITICAL 1").click()
        expect(page.locator(".board > li")).to_have_count(1)
        assert "state=CRITICAL" in page.url


def test_without_script_it_is_all_there(chromium: Browser, full_service: Service) -> None:
    with watched_page(chromium, full_service.url, java_script_enabled=False) as page:
        page.goto("/")
        page.locator(".board summary").first.click()
        expect(page.locator("td .state-critical").first).to_be_visible()


@pytest.mark.parametrize("path", ["/", "/?q=p.a", "/specs"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_keeps_anybody_from_reading_it(
    chromium: Browser, full_service: Service, scheme: Any, path: str
) -> None:
    with watched_page(chromium, full_service.url, color_scheme=scheme) as page:
        page.goto(path)
        for summary in page.locator("summary").all():
            summary.click()
        assert axe_problems(page) == []


@pytest.mark.parametrize("path", ["/", "/specs"])
def test_a_phone_shows_it_without_scrolling_sideways(
    chromium: Browser, full_service: Service, path: str
) -> None:
    with watched_page(chromium, full_service.url, viewport=PHONE) as page:
        page.goto(path)
        for summary in page.locator("summary").all():
            summary.click()
        assert not is_wider_than_its_window(page)


def test_fourteen_metrics_are_in_the_first_screen(chromium: Browser, service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:
        untyped: Any = client
        calls = log_in(untyped, "ada")
        declare(calls)
        for band in "gr":
            values = {"p.a": 9.0, **{f"q.m{number:02}": 1.0 for number in range(20)}}
            post(calls, values, filter_name=band, instrument="HSC", ci_dataset="RC2", ci_name="drp")
    screen = {"width": 1400, "height": 900}
    with watched_page(chromium, service.url, viewport=screen) as page:
        page.goto("/")
        boxes = [item.bounding_box() for item in page.locator(".board > li").all()]
        assert len([box for box in boxes if box and box["y"] + box["height"] <= 900]) >= 14


def test_a_phone_shows_the_first_problem_at_once(chromium: Browser, full_service: Service) -> None:
    screen = {"width": 390, "height": 844}
    with watched_page(chromium, full_service.url, viewport=screen) as page:
        page.goto("/")
        box = page.locator(".board > li").first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 844
        expect(page.get_by_label("Name")).not_to_be_visible()
        page.get_by_text("Filter", exact=True).first.click()
        expect(page.get_by_label("Name")).to_be_visible()


def test_fields_and_buttons_of_a_filter_are_in_one_line(
    chromium: Browser, full_service: Service
) -> None:
    with watched_page(chromium, full_service.url, viewport={"width": 1400, "height": 900}) as page:
        page.goto("/")
        fields = page.locator("form.filters :is(select, input:not([type=hidden]), button)").all()
        boxes = [field.bounding_box() for field in fields]
        assert len({(box["y"], box["height"]) for box in boxes if box}) == 1


def test_the_key_leads_to_the_search_box(chromium: Browser, full_service: Service) -> None:
    with watched_page(chromium, full_service.url) as page:
        page.goto("/")
        page.keyboard.press("/")
        expect(page.locator("#find")).to_be_focused()
        page.keyboard.type("p.a/")
        expect(page.locator("#find")).to_have_value("p.a/")
        page.locator("#find").fill("p.a")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Search")
        expect(page.get_by_role("link", name="p.a", exact=True)).to_be_visible()


def test_times_can_be_local_and_stay_so(chromium: Browser, service: Service, calls: Calls) -> None:
    with watched_page(chromium, service.url, timezone_id="Asia/Tokyo") as page:
        post(calls, {"p.a": 1.0}, env={"date": "2026-11-20T20:00:00Z"})
        page.goto("/")
        shown = page.locator(".board time").first
        expect(shown).to_have_text("2026-11-20 20:00")
        page.get_by_role("button", name="show local").click()
        expect(shown).to_have_text("2026-11-21 05:00")
        expect(page.locator(".heads")).to_contain_text("Asia/Tokyo")
        post(calls, {"p.a": 2.0}, env={"date": "2026-11-20T21:00:00Z"})
        expect(page.locator(".board time").first).to_have_text("2026-11-21 06:00")
        page.goto("/runs")
        expect(page.locator("th").filter(has_text="Asia/Tokyo")).to_have_count(1)
        page.get_by_role("button", name="show UTC").click()
        expect(page.locator("main time").first).to_have_text("2026-11-20 21:00")
