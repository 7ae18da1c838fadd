"""From a message to "I have it", on a phone: one tap on its link, one on the button."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from squash_api.accounts.links import Links
from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD
from tests.support.chromium import PHONE, axe_problems, is_in_first_screen, watched_page
from tests.support.made_alerts import METRIC, open_alerts
from tests.support.service import Service

pytestmark = pytest.mark.sqlite


def test_two_taps_lead_from_a_message_to_having_an_alert(chromium: Browser, tmp_path: Path) -> None:
    with Service(tmp_path, SQUASH_READ="users") as service:
        settings = make_settings(service.folder, read="users", url=service.url)
        with Site(settings) as site:
            site.accounts.add("ada", PASSWORD)
            made = open_alerts(site.record, *({"detector": str(n)} for n in range(3)))
        address = Links(settings).sign(f"/alert/{made[0]}")
        with watched_page(chromium, service.url, viewport=PHONE) as page:
            # Nobody has logged in yet: the alert can be read, and the login leads back to it.
            page.goto(address)
            expect(page.get_by_role("heading", name=METRIC)).to_be_visible()
            page.get_by_role("link", name="Log in to say that you have it").click()
            page.get_by_label("User name").fill("ada")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("main").get_by_role("button", name="Log in").click()
            expect(page.get_by_role("button", name="I have it")).to_be_visible()
            # Then it takes two taps.
            page.goto(address)
            assert is_in_first_screen(page, "button.main")
            page.get_by_role("button", name="I have it").click()
            expect(page.get_by_text("ada has it")).to_be_visible()
            assert not axe_problems(page)
        with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
            found = client.get("/alerts", auth=("ada", PASSWORD)).json()["alerts"]
        assert {item["acknowledged"]["by"] for item in found} == {"ada"}
