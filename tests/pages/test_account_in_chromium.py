"""Logging in, and the pages of an account, in a real Chromium, where only users read."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.calls import PASSWORD, log_in
from tests.support.chromium import (
    DESK,
    PHONE,
    axe_problems,
    is_wider_than_its_window,
    watched_page,
)
from tests.support.service import Service
from tests.support.site import TIMEOUT_S, job_document

# What a browser does with a page does not depend on where the record is.
pytestmark = pytest.mark.sqlite

LONG = "a-very-long-name-" * 7


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service for users only, with the admin ada, the user bob, and one of a long name."""
    with Service(tmp_path_factory.mktemp("service"), SQUASH_READ="users") as service:
        with httpx.Client(base_url=service.url, timeout=TIMEOUT_S, trust_env=False) as client:
            for name in ("ada", "bob", LONG):
                log_in(client, name)
            assert service.run("user", "role", "ada", "admin").returncode == 0
            calls = log_in(client, "ada")
            assert calls("POST", "/job", job_document({"p.m": 1.0})).status_code == 202
        yield service.url


def enter(page: Page, name: str = "ada") -> None:
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_a_person_logs_in_makes_a_key_and_logs_out(chromium: Browser, url: str) -> None:
    with watched_page(chromium, url) as page:
        page.goto("/runs?limit=5")
        assert page.url.startswith(f"{url}/login?next=")
        enter(page)
        expect(page).to_have_url(f"{url}/runs?limit=5")
        page.get_by_role("link", name="ada").click()
        expect(page).to_have_url(f"{url}/account")
        page.get_by_label("Name", exact=True).fill("nightly CI")
        page.get_by_role("checkbox", name="job:read").check()
        page.get_by_role("button", name="Make the key").click()
        key = page.locator("#new-key").inner_text()
        reply = httpx.get(f"{url}/jobs", headers={"Authorization": f"Bearer {key}"}, timeout=60)
        assert reply.json()["ids"][0] == 1
        page.get_by_role("button", name="Revoke the key nightly CI").click()
        expect(page.get_by_role("status")).to_have_text("The key is revoked.")
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{url}/login")
        page.go_back()
        assert "nightly CI" not in page.content()


def test_a_page_of_somebody_who_is_logged_in_updates_itself(chromium: Browser, url: str) -> None:
    with watched_page(chromium, url) as page:
        page.goto("/metric/p.m")
        enter(page)
        page.locator("#plot[data-points]").wait_for()
        with (
            page.expect_response(f"{url}/metric/p.m*") as reply,
            httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client,
        ):
            calls = log_in(client, "ada")
            assert calls("POST", "/job", job_document({"p.m": 2.0})).status_code == 202
        assert reply.value.status == 200


def test_a_page_that_is_open_when_the_session_ends_shows_nothing_more(
    chromium: Browser, url: str
) -> None:
    context = chromium.new_context(base_url=url)
    try:
        page, other = context.new_page(), context.new_page()
        page.goto("/runs")
        enter(page)
        expect(page).to_have_url(f"{url}/runs")
        other.goto("/")
        other.get_by_role("button", name="Log out").click()
        expect(other).to_have_url(f"{url}/login")
        page.evaluate("squashReplace()")
        expect(page).to_have_url(f"{url}/login?next=/runs")
    finally:
        context.close()


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_the_pages_of_an_account(
    chromium: Browser, url: str, viewport: dict[str, int], scheme: str
) -> None:
    found = []
    with watched_page(chromium, url, viewport=viewport, color_scheme=scheme) as page:
        page.goto("/login")
        found += axe_problems(page)
        enter(page)
        for path in ("/account", "/users", "/audit", "/account?done=revoked"):
            page.goto(path)
            for summary in page.locator("details:not([open]) > summary").all():
                summary.click()
            found += [f"{path}: {problem}" for problem in axe_problems(page)]
            assert not is_wider_than_its_window(page)
    assert not found, "\n".join(found)


def test_a_long_name_has_room_in_the_header(chromium: Browser, url: str) -> None:
    with watched_page(chromium, url, viewport=PHONE) as page:
        page.goto("/")
        enter(page, LONG)
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        for path in ("/", "/account", "/docs"):
            page.goto(path)
            assert not is_wider_than_its_window(page)


def test_a_wrong_password_is_said_so_and_the_next_one_may_be_right(
    chromium: Browser, url: str
) -> None:
    context = chromium.new_context(base_url=url)
    try:
        page = context.new_page()
        page.goto("/specs")
        page.get_by_label("User name").fill("bob")
        page.get_by_label("Password").fill("not this one")
        page.get_by_label("Password").press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("is wrong")
        assert axe_problems(page) == []
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Password").press("Enter")
        expect(page).to_have_url(f"{url}/specs")
    finally:
        context.close()
