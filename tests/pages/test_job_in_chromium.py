"""The pages of jobs and runs in a real browser, of the real service."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

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

HOSTILE = "<img src=x onerror=alert(1)> $$x$$ \u202e"
LOOKS: list[dict[str, Any]] = [{}, {"color_scheme": "dark"}, {"viewport": PHONE}]
DRAWN = "details[open] .blob-plot[data-drawn]"
_CANVASES = "document.querySelectorAll('details[open] .blob-plot > *').length"


@pytest.fixture(scope="module")
def site(
    chromium: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Calls]]:
    """A service with three runs of p.a; the last, job 3, breaks a limit, and has blobs."""
    assert chromium
    folder = tmp_path_factory.mktemp("job")
    with (
        Service(folder) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client,
    ):
        calls = log_in(client, "ada")
        calls("POST", "/metrics", {"metrics": [metric("p.a")]})
        limits = [spec("p.a.design", value=5.0), spec("p.a.minimum", value=8.0, tags=["minimum"])]
        assert calls("POST", "/specs", {"specs": limits}).status_code == 201
        for run, value in enumerate((1.0, 6.0, 9.0), 1):
            post(calls, value, run=f"{run}/{HOSTILE}", sha=f"{run}" * 40)
        yield service, calls


def post(calls: Calls, value: float, *, run: str, sha: str) -> None:
    """Post a job with a blob of every kind."""
    packages = {
        name: {"name": name, "git_sha": sha, "git_url": f"https://github.com/lsst/{name}.git"}
        for name in ("afw", "meas_base")
    }
    radius = [0.5 * number for number in range(1, 21)]
    data = {
        "radius": {"value": radius, "unit": "arcmin", "label": HOSTILE},
        "xi": {"value": [1 / item for item in radius], "unit": "", "label": "xi"},
        "xi_err": {"value": [0.1] * 20, "unit": "", "label": "error"},
        "rms": {"value": [float(number % 13) for number in range(300)], "unit": "mmag"},
        "D": {"value": 5.0, "unit": "arcmin", "label": "Distance", "description": HOSTILE},
    }
    reply = calls(
        "POST",
        "/job",
        {
            "measurements": [
                {"metric": "p.a", "value": value, "unit": "mmag", "blob_refs": ["b"]},
                {"metric": "p.none", "value": None, "unit": "mmag"},
            ],
            "blobs": [
                {"identifier": "b", "name": "p.a", "data": data},
                {"identifier": "c", "name": HOSTILE, "data": {"text": {"value": HOSTILE}}},
            ],
            "meta": {
                "env": {
                    "ci_id": run,
                    "ci_name": "drp",
                    "ci_url": "https://ci.example.org/1",
                    "date": f"2026-03-0{run[0]}T00:00:00Z",
                    "dataset": "x",
                },
                "packages": packages,
                "filter_name": "r",
                "note": {"long": HOSTILE * 300, HOSTILE: [1, 2, 3]},
            },
        },
    )
    assert reply.status_code == 202, reply.text


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "phone"])
@pytest.mark.parametrize("path", ["/job/3?blob=0", "/runs", "run"])
def test_everybody_can_read_it(
    site: tuple[Service, Calls], chromium: Browser, look: dict[str, Any], path: str
) -> None:
    with watched_page(chromium, site[0].url, **look) as page:
        name = quote(f"3/{HOSTILE}".replace(" ", "_"), safe="")
        page.goto(f"/runs/drp/{name}" if path == "run" else path)
        if "blob" in path:
            page.wait_for_selector(DRAWN)
        assert not axe_problems(page)
        assert not is_wider_than_its_window(page)


@pytest.fixture
def page(site: tuple[Service, Calls], chromium: Browser) -> Iterator[Page]:
    with watched_page(chromium, site[0].url) as page:
        yield page


def axis_labels(page: Page) -> list[str]:
    """Return what the axes of the newest plot say."""
    found: list[str] = page.evaluate(
        """() => {
          const [plot] = Bokeh.documents.at(-1).roots();
          return [...plot.below, ...plot.left].map((axis) => axis.axis_label.text);
        }"""
    )
    return found


def test_a_blob_is_drawn_when_it_is_opened(page: Page) -> None:
    page.goto("/job/3")
    page.get_by_role("link", name="p.a", exact=True).last.click()
    page.wait_for_selector(DRAWN)
    assert axis_labels(page) == [f"{HOSTILE.strip()} [arcmin]", "xi"]
    expect(page.locator("#blob-note")).to_have_text("xi: 20 points, with error")


def test_another_array_can_be_chosen_and_the_address_says_so(page: Page) -> None:
    page.goto("/job/3?blob=0")
    page.wait_for_selector(DRAWN)
    page.get_by_label("show").select_option("rms")
    expect(page.locator("#blob-note")).to_have_text("rms: 300 values")
    assert axis_labels(page) == ["rms [mmag]", "Number"]
    assert page.evaluate(_CANVASES) == 1
    expect(page).to_have_url(re.compile(r"\?blob=0&y=rms&x=#blob-0$"))
    page.reload()
    page.wait_for_selector(DRAWN)
    assert axis_labels(page) == ["rms [mmag]", "Number"]


def test_only_arrays_that_belong_together_can_be_chosen(page: Page) -> None:
    page.goto("/job/3?blob=0&y=rms")
    page.wait_for_selector(DRAWN)
    disabled = page.locator("details[open] select[name=x] option:disabled")
    assert disabled.count() == 3
    page.get_by_label("show").select_option("xi")
    assert [item.get_attribute("value") for item in disabled.all()] == ["xi"]


def test_plots_follow_the_colours_of_the_screen(page: Page) -> None:
    page.goto("/job/3?blob=0")
    page.wait_for_selector(DRAWN)
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("[data-drawn*='theme=dark']")
    assert page.evaluate(_CANVASES) == 1


def test_from_the_runs_one_comes_to_the_job_and_to_the_last_that_passed(page: Page) -> None:
    page.goto("/runs")
    page.locator("tbody a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Run 3/")
    assert page.get_by_text("Since the last run that passed").count()
    page.get_by_role("link", name="3", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Job 3")
    page.get_by_role("navigation", name="Series").get_by_role("link").last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Job 1")


@pytest.mark.parametrize("path", ["/job/3?blob=0", "/runs", "run"])
def test_on_a_phone_the_first_problem_is_in_the_first_screen_and_no_value_is_hidden(
    site: tuple[Service, Calls], chromium: Browser, path: str
) -> None:
    look: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    with watched_page(chromium, site[0].url, **look) as page:
        name = quote(f"3/{HOSTILE}".replace(" ", "_"), safe="")
        page.goto(f"/runs/drp/{name}" if path == "run" else path)
        assert is_in_first_screen(page, "tbody tr")
        assert hidden_tables(page) == []


def test_new_runs_appear_by_themselves(site: tuple[Service, Calls], page: Page) -> None:
    page.goto("/runs?pipeline=live")
    expect(page.get_by_text("There are no matching runs yet.")).to_be_visible()
    page.wait_for_timeout(300)
    env = {"ci_id": "new", "ci_name": "live"}
    site[1]("POST", "/job", {"measurements": [], "meta": {"env": env}})
    expect(page.get_by_role("link", name="new", exact=True)).to_be_visible(timeout=5000)


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300">'
    '<rect width="400" height="300" fill="#0b57a4"/>'
    "<script>fetch('/script-ran'); parent.postMessage('ran', '*')</script></svg>"
)
_IMAGE_WIDTH = """async (url) => {
  const image = document.body.appendChild(new Image());
  await new Promise((done) => { image.onload = image.onerror = done; image.src = url; });
  return image.naturalWidth;
}"""


class _Pictures(BaseHTTPRequestHandler):
    """Serves the same picture at every path, and notes what was asked for, and by whom."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Referer")))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "image/svg+xml")
        self.end_headers()
        self.wfile.write(SVG.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def pictures() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A host of pictures: its name with the port, and what was asked of it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pictures) as server:
        asked: list[tuple[str, str | None]] = []
        server.asked = asked  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_picture_of_an_allowed_host_is_shown_and_of_another_refused(
    chromium: Browser, tmp_path: Path
) -> None:
    with (
        pictures() as (allowed, asked),
        pictures() as (other, asked_of_other),
        Service(tmp_path, SQUASH_ARTIFACT_HOSTS=allowed) as service,
        httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client,
    ):
        described = {"description": "Sky level by CCD", "type": "image/svg+xml"}
        meta = {
            "sky": {"url": f"http://{allowed}/sky.svg", **described},
            "other": f"http://{other}/other.svg",
            "log": f"http://{allowed}/log.txt",
        }
        assert log_in(client, "ada")("POST", "/job", {"meta": meta}).status_code == 202
        for look in LOOKS:
            context = chromium.new_context(base_url=service.url, **look)
            page = context.new_page()
            page.goto("/job/1")
            shown = page.get_by_role("img", name="Sky level by CCD")
            shown.scroll_into_view_if_needed()
            expect(shown).to_have_js_property("naturalWidth", 400)
            assert page.locator(".artifacts li").count() == 3
            assert page.locator(".artifacts img").count() == 1
            assert not axe_problems(page)
            assert not is_wider_than_its_window(page)
            assert page.evaluate(_IMAGE_WIDTH, f"http://{other}/other.svg") == 0
            context.close()
    assert {path for path, _ in asked} == {"/sky.svg"}
    assert {referrer for _, referrer in asked} == {None}
    assert asked_of_other == []
