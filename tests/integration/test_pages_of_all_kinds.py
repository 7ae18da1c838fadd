"""What holds for every page, looked at in a real Chromium, with hostile texts on most of them."""

from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.routing import compile_path

from squash_api.pages import addresses
from tests.support.chromium import (
    DESK,
    PHONE,
    axe_problems,
    is_wider_than_its_window,
    watched_page,
)
from tests.support.notebook_runs import post_notebook
from tests.support.paged_site import (
    HOSTILE,
    IMAGE,
    INJECTED,
    NAMES,
    PLACES,
    SCRIPT,
    PagedSite,
    fill,
    paged_site,
)

# What a browser does with a page does not depend on where the record is.
pytestmark = pytest.mark.sqlite

_ACCEPT = {"Accept": "text/html"}
_KINDS = [
    "overview",
    "metric with hostile jobs",
    "job",
    "hostile job 2",
    "runs",
    "run",
    "notebooks",
    "notebook",
    "specifications",
    "report",
    "report of a run",
    "report as a file",
    "search",
    "documentation of the API",
    "document",
]
_UNSAFE = "a[href^='javascript:' i], img[src=nowhere], [onerror], [onmouseover]"


class Pages:
    """A service with something on every page, and the addresses of its pages by name."""

    def __init__(self, site: PagedSite) -> None:
        self.site = site
        self.addresses = fill(site)

    def text(self, name: str) -> str:
        """Return a page as it comes."""
        reply = self.site.client.get(self.addresses[name], headers=_ACCEPT)
        assert reply.status_code == 200, reply.text[:1000]
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        return reply.text


class _Read(HTMLParser):
    """Where the links of a page lead, and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.said = ""

    def handle_data(self, data: str) -> None:
        self.said += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs).get("href")
        if tag == "a" and found is not None:
            self.addresses.add(found)


def read(text: str) -> _Read:
    parser = _Read()
    parser.feed(text)
    return parser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with paged_site(tmp_path_factory.mktemp("service")) as site:
        yield Pages(site)


def test_there_is_one_of_every_page(pages: Pages) -> None:
    shown = [urlsplit(address).path for address in pages.addresses.values()]
    missing = [
        page.path
        for page in addresses.PAGES
        # These are looked at in `tests/pages/test_account_in_chromium.py`.
        if not page.place.startswith("account:")
        and not any(compile_path(page.path)[0].match(path) for path in shown)
    ]
    assert not missing


def test_every_link_leads_somewhere(pages: Pages) -> None:
    asked, outside, broken = set(), set(), []
    for name, address in pages.addresses.items():
        for link in read(pages.text(name)).addresses:
            target = urljoin(f"{pages.site.url}{address}", link)
            if not target.startswith(f"{pages.site.url}/"):
                outside.add(urlsplit(target).scheme)
            elif target not in asked:
                asked.add(target)
                reply = pages.site.client.get(target, headers=_ACCEPT)
                if reply.status_code != 200:
                    broken.append(f"{reply.status_code} {target[:300]}, from {name}")
    assert not broken, "\n".join(broken)
    assert outside <= {"http", "https"}
    assert len(asked) > 50


def settle(page: Page) -> None:
    """Open what can be opened, and wait until all plots are drawn."""
    page.wait_for_load_state("load")
    for blob in page.locator("details.blob").all():
        if blob.get_attribute("open") is None:
            blob.locator("summary").click()
    for plot in page.locator("#plot, .blob-plot").all():
        plot.and_(page.locator("[data-points], [data-drawn]")).wait_for()


@pytest.mark.parametrize("index", range(len(HOSTILE)))
def test_a_hostile_text_is_shown_as_it_is(pages: Pages, index: int) -> None:
    said = read(pages.text(f"hostile job {index}")).said
    # As an instrument, a note, a link, a key, the name of a blob, and more.
    assert said.count(HOSTILE[index][:100]) > 10


@pytest.mark.parametrize("name", NAMES)
def test_nothing_on_a_page_is_more_than_text(chromium: Browser, pages: Pages, name: str) -> None:
    with watched_page(chromium, pages.site.url, viewport=PHONE) as page:
        page.goto(pages.addresses[name])
        settle(page)
        assert page.locator("html").get_attribute(INJECTED) is None
        assert page.locator(_UNSAFE).count() == 0
        assert not is_wider_than_its_window(page)


def test_what_is_said_of_a_hostile_point_is_text(chromium: Browser, pages: Pages) -> None:
    with watched_page(chromium, pages.site.url) as page:
        page.goto(pages.addresses["metric with hostile jobs"])
        settle(page)
        page.locator("#plot").scroll_into_view_if_needed()
        for job_id, place in page.evaluate(PLACES).items():
            page.mouse.move(place["x"], place["y"])
            expect(page.locator(".bk-Tooltip").first).to_contain_text(f"job: {job_id}")
        assert page.locator("html").get_attribute(INJECTED) is None


@pytest.mark.parametrize("name", _KINDS)
def test_everybody_can_read_a_page(chromium: Browser, pages: Pages, name: str) -> None:
    with watched_page(chromium, pages.site.url) as page:
        page.goto(pages.addresses[name])
        found = []
        # Colours do not depend on the width, nor what is where on the colours.
        for scheme, viewport in (("light", DESK), ("dark", PHONE)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size(viewport)  # type: ignore[arg-type]
            settle(page)
            found += [f"{scheme}, {viewport['width']}: {item}" for item in axe_problems(page)]
        assert not found, "\n".join(found)


def test_a_script_in_a_notebook_never_runs(chromium: Browser, pages: Pages) -> None:
    link = f'<a id="out" href="{pages.site.url}/runs" target="_blank">out</a>'
    content = f"<!doctype html><title>t</title>{SCRIPT}{IMAGE}{link}<form action='/login'></form>"
    job = post_notebook(pages.site.calls, run="scripted", page=content)
    context = chromium.new_context(base_url=pages.site.url)
    try:
        # In the frame of our page, and by itself.
        for path in (f"/notebook/{job}", f"/notebook/{job}/html"):
            page = context.new_page()
            page.goto(path)
            shown = page.frames[-1]
            expect(shown.locator("#out")).to_be_visible()
            assert shown.locator("html").get_attribute(INJECTED) is None
            with context.expect_page() as opened:
                shown.locator("#out").click()
            # What it links to has its own rights, not those of the frame.
            expect(opened.value.locator("h1")).to_have_text("Runs")
            expect(opened.value.locator("#zone")).to_be_visible()
    finally:
        context.close()
