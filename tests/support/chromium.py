"""A real Chromium: pages that fail their test on any error, or request to another host."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_TIMEOUT_MS = 30_000


@contextmanager
def running(binary: str) -> Iterator[Browser]:
    """Run a browser.

    For the length of a module at most: an event loop seems to run meanwhile, and asynchronous tests
    could not.
    """
    expect.set_options(timeout=_TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """What goes wrong in a page, and where it sends requests.

    Parameters
    ----------
    page
        Any page of the browser, before it goes anywhere.
    url
        The only service that it may ask.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.problems: list[str] = []
        self._host = urlsplit(url).netloc
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", lambda request: self._see(request.url))

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"console: {message.text}")

    def _see(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob", "about"} and parts.netloc != self._host:
            self.problems.append(f"another host: {url}")


@contextmanager
def watched_page(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Give a page, and fail at the end if there was an error or a request to another host.

    Parameters
    ----------
    url
        Root of the service: addresses of the page are relative to it.
    options
        Of Playwright's `new_context`, for instance `viewport=PHONE` or `color_scheme="dark"`.
    """
    context = browser.new_context(**{"base_url": url, "viewport": DESK, **options})
    context.set_default_timeout(_TIMEOUT_MS)
    try:
        page = context.new_page()
        watched = Watched(page, url)
        yield page
        assert not watched.problems, "\n".join(watched.problems)
    finally:
        context.close()


def is_wider_than_its_window(page: Page) -> bool:
    """Return whether the whole page scrolls sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def hidden_tables(page: Page) -> list[str]:
    """Return the names of the open tables that are wider than their place."""
    return list(
        page.evaluate(
            """() => [...document.querySelectorAll(".scroll")]
              .filter((place) => place.scrollWidth > place.clientWidth + 1)
              .map((place) => place.ariaLabel ?? place.getAttribute("aria-labelledby"))"""
        )
    )


def is_in_first_screen(page: Page, selector: str) -> bool:
    """Return whether all of an element can be seen without scrolling."""
    box = page.locator(selector).first.bounding_box()
    height = page.evaluate("innerHeight")
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= height


def axe_problems(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical, each with the elements."""
    results = Axe().run(page, options={"resultTypes": ["violations"]})
    return [
        f"{item['id']}: {item['help']}: " + "; ".join(node["html"][:200] for node in item["nodes"])
        for item in results.response["violations"]
        if item["impact"] in {"serious", "critical"}
    ]
