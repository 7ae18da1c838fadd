"""Reports in a real browser: the page of a real service, and the file by itself."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from squash_api.pages.report import report_file
from tests.support.calls import log_in
from tests.support.chromium import (
    DESK,
    PHONE,
    axe_problems,
    is_wider_than_its_window,
    watched_page,
)
from tests.support.definitions import spec
from tests.support.reporting import HOSTILE, ReportedJobs
from tests.support.service import Service
from tests.support.site import job_document

# What a browser does with a page does not depend on where the record is.
pytestmark = pytest.mark.sqlite


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report as a file, with something in each of its parts."""
    folder = tmp_path_factory.mktemp("record")
    jobs = ReportedJobs(folder)
    jobs.define(
        spec(tags=["design"]),
        spec("p.a.stretch", tags=["stretch"], value=1.0),
        spec("p.b.design"),
        spec("p.a.u", metadata_query={"filter_name": "u"}),
    )
    for number, value in enumerate((9.0, 4.9, 2.0, None)):
        for name in ("g", "r", "i", "z", "y"):
            jobs.job(value, dataset=f"dataset_{number}", filter=name, run_id="2")
    jobs.job(9.0, dataset=HOSTILE[:300], filter=HOSTILE[:100], run_id="2")
    jobs.job(1.0, dataset="dataset_0", filter="r", run_id="1", ago_ns=10)
    place = folder / "report.html"
    place.write_text(report_file(jobs.report(run="2", compare_run="1")), encoding="utf-8")
    jobs.close()
    return place


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_the_file_is_readable_by_itself(
    chromium: Browser, place: Path, scheme: str, viewport: dict[str, int]
) -> None:
    with watched_page(chromium, "file://", viewport=viewport, color_scheme=scheme) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(place.as_uri())
        expect(page.get_by_role("heading", level=1)).to_have_text("Run 2")
        expect(page.locator(".verdict")).to_contain_text("series break a limit")
        assert asked == [place.as_uri()]
        assert not is_wider_than_its_window(page)
        assert axe_problems(page) == []


def test_on_paper_nothing_is_cut_off_or_folded(chromium: Browser, place: Path) -> None:
    a4_landscape = {"width": 1032, "height": 703}
    with watched_page(chromium, "file://", viewport=a4_landscape) as page:
        page.emulate_media(media="print")
        page.goto(place.as_uri())
        folded = page.locator("details:not([open]) table").first
        expect(folded).to_be_visible()
        assert not is_wider_than_its_window(page)
        for table in page.locator("table").all():
            box = table.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= a4_landscape["width"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        Service(tmp_path_factory.mktemp("service")) as service,
        httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client,
    ):
        calls = log_in(client, "ada")
        document = job_document({"p.a": 1.0, f"p.{HOSTILE[:60]}": 2.0}, filter="r", run_id="7")
        assert calls("POST", "/job", document).status_code == 202
        yield service


def test_a_report_is_asked_for_in_the_form(chromium: Browser, service: Service) -> None:
    with watched_page(chromium, service.url) as page:
        page.goto("/report")
        page.get_by_text("Another report").click()
        page.get_by_label("Run", exact=True).fill("7")
        page.get_by_role("button", name="Report").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Run 7")
        expect(page.locator(".verdict")).to_contain_text("Nothing was judged")
        with page.expect_navigation():
            page.get_by_role("link", name="one HTML file").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Run 7")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_for_all(chromium: Browser, service: Service, scheme: str) -> None:
    with watched_page(chromium, service.url, viewport=PHONE, color_scheme=scheme) as page:
        page.goto("/report")
        assert not is_wider_than_its_window(page)
        assert axe_problems(page) == []


def test_a_badge_is_a_picture(chromium: Browser, service: Service) -> None:
    with watched_page(chromium, service.url) as page:
        page.goto("/badge/p.svg")
        box = page.locator("svg").bounding_box()
        assert box is not None
        assert box["height"] == 20
        last = page.locator("text").last.bounding_box()
        assert last is not None
        assert last["x"] + last["width"] <= box["x"] + box["width"]
