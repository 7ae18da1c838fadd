"""The pages of alerts, and their forms."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from squash_api.accounts.accounts import Account
from squash_api.site import Site
from tests.support.builders import make_settings, with_record
from tests.support.calls import PASSWORD
from tests.support.in_process import HOST, service
from tests.support.made_alerts import METRIC, open_alerts

pytestmark = pytest.mark.sqlite
BROWSER = {"Accept": "text/html,*/*;q=0.5"}


@pytest.fixture(scope="module", params=["open", "users"])
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return tmp_path_factory.mktemp(request.param)


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    read = "users" if folder.name.startswith("users") else "open"
    with Site(with_record(make_settings(folder, read=read, url=HOST))) as site:
        site.accounts.add("ada", PASSWORD)
        site.accounts.add("root", PASSWORD, role="admin")
        admin = Account(2, "root", "admin", 1)
        site.definitions.post_one("metric", METRIC, {"description": "d", "unit": "mmag"}, admin)
        yield site


@pytest.fixture(scope="module")
def stranger(site: Site, folder: Path) -> Iterator[httpx.Client]:
    with service(folder, read=site.settings.read, url=HOST) as client:
        yield client


@pytest.fixture(scope="module")
def ada(stranger: httpx.Client) -> str:
    """The cookie of a session of ada."""
    page = stranger.get("/login", headers=BROWSER)
    token = re.search(r'name="token" value="(\w+)"', page.text)
    assert token is not None
    form = {"token": token[1], "username": "ada", "password": PASSWORD}
    reply = stranger.post("/login", data=form, headers=BROWSER)
    assert reply.status_code == 303, reply.text
    cookie = f"squash_session={stranger.cookies['squash_session']}"
    stranger.cookies.clear()
    return cookie


def open_page(client: httpx.Client, address: str, cookie: str = "") -> httpx.Response:
    return client.get(address, headers=BROWSER | ({"Cookie": cookie} if cookie else {}))


def send(
    client: httpx.Client, address: str, cookie: str, page: httpx.Response, **form: str
) -> httpx.Response:
    token = re.search(r'name="token" value="(\w+)"', page.text)
    assert token is not None
    return client.post(
        address, data={"token": token[1], **form}, headers=BROWSER | {"Cookie": cookie}
    )


def words(page: httpx.Response) -> str:
    """Return what a page says, without its markup."""
    return " ".join(unescape(re.sub(r"</?[a-z][^>]*>", "", page.text)).split())


@pytest.fixture
def alert_id(site: Site) -> int:
    return open_alerts(site.record)[0]


def test_the_first_words_say_how_it_is(stranger: httpx.Client, ada: str, alert_id: int) -> None:
    page = open_page(stranger, f"/alert/{alert_id}", ada)
    assert page.status_code == 200
    assert f"<title>CRITICAL, open · {METRIC} · Alert {alert_id} · SQuaSH</title>" in page.text
    said = words(page)
    assert "9.5 mmag, limit ≤ 8 mmag, margin -18.8 % minimum" in said
    assert said.index("Nobody has it yet.") < said.index("I have it") < said.index("Why it opened")


def test_from_the_page_to_having_it_is_one_form(
    stranger: httpx.Client, ada: str, alert_id: int
) -> None:
    address = f"/alert/{alert_id}"
    page = open_page(stranger, address, ada)
    form = {"change": "ack", "severity": "CRITICAL", "note": "", "until": ""}
    reply = send(stranger, address, ada, page, **form)
    assert (reply.status_code, reply.headers.get("Location")) == (303, address), words(reply)
    page = open_page(stranger, address, ada)
    assert "ada has it" in words(page)
    assert send(stranger, address, ada, page, change="release").status_code == 303
    assert "Nobody has it yet." in words(open_page(stranger, address, ada))


def test_what_has_risen_is_shown_again(stranger: httpx.Client, ada: str, alert_id: int) -> None:
    address = f"/alert/{alert_id}"
    page = open_page(stranger, address, ada)
    form = {"change": "ack", "severity": "WARNING", "note": "my note"}
    reply = send(stranger, address, ada, page, **form)
    assert reply.status_code == 409
    assert "is CRITICAL now, and you saw WARNING" in words(reply)
    assert 'value="my note"' in reply.text


def test_a_form_of_another_page_changes_nothing(
    stranger: httpx.Client, ada: str, alert_id: int
) -> None:
    form = {"change": "ack", "severity": "CRITICAL", "token": "0" * 64}
    headers = BROWSER | {"Cookie": ada}
    reply = stranger.post(f"/alert/{alert_id}", data=form, headers=headers)
    assert reply.status_code == 403
    assert "Nobody has it yet." in words(open_page(stranger, f"/alert/{alert_id}", ada))


def test_a_page_changes_nothing(stranger: httpx.Client, ada: str, alert_id: int) -> None:
    for query in ("?change=ack&severity=CRITICAL", "?note=x"):
        assert open_page(stranger, f"/alert/{alert_id}{query}", ada).status_code == 422
    assert "Nobody has it yet." in words(open_page(stranger, f"/alert/{alert_id}", ada))


def test_a_group_is_one_line_and_can_be_had_at_once(
    stranger: httpx.Client, ada: str, site: Site
) -> None:
    made = open_alerts(site.record, *({"detector": f"{n}"} for n in range(17)), metric="g.PA9")
    assert "PA9: 17 detectors" in words(open_page(stranger, "/alerts?package=g", ada))
    detail = open_page(stranger, f"/alert/{made[3]}", ada)
    found = re.search(r"/alerts\?group=(\d+)", detail.text)
    assert found is not None
    group = open_page(stranger, f"/alerts?group={found[1]}", ada)
    assert "I have all 17" in words(group)
    form = {"change": "ack", "group": "on", "group_severity": "CRITICAL"}
    assert send(stranger, f"/alert/{made[0]}", ada, group, **form).status_code == 303
    assert "ada has it" in words(open_page(stranger, f"/alert/{made[16]}", ada))


def test_it_is_silenced_from_its_page_and_the_silence_is_ended(
    stranger: httpx.Client, ada: str, site: Site
) -> None:
    (alert_id,) = open_alerts(site.record, {"filter": "r"})
    address = f"/alert/{alert_id}"
    page = open_page(stranger, address, ada)
    form = {"change": "silence", "metric": METRIC, "tag.filter": "r", "why": "a known fault"}
    reply = send(stranger, address, ada, page, until="2199-01-31", **form)
    assert reply.status_code == 303, words(reply)
    page = open_page(stranger, address, ada)
    assert "Silenced until 2199-01-31 23:59 UTC by ada: a known fault" in words(page)
    assert re.search(r"\d+ silenced", words(page)) is not None
    alerts = open_page(stranger, "/alerts", ada)
    silence = re.search(r'name="silence" value="(\d+)"', alerts.text)
    assert silence is not None
    assert (
        send(stranger, "/alerts", ada, alerts, change="end", silence=silence[1]).status_code == 303
    )
    assert "Silenced" not in words(open_page(stranger, address, ada))


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"change": "nothing"}, 422, "no such change"),
        ({"change": "ack"}, 400, "needs `severity`"),
        ({"change": "release"}, 409, "Nobody has this alert"),
        ({"change": "silence", "until": "8h", "why": ""}, 422, "must not be empty"),
    ],
)
def test_what_is_wrong_with_a_form_is_said_on_its_page(
    stranger: httpx.Client, ada: str, alert_id: int, *, form: dict[str, str], status: int, said: str
) -> None:
    address = f"/alert/{alert_id}"
    reply = send(stranger, address, ada, open_page(stranger, address, ada), **form)
    assert (reply.status_code, said in words(reply)) == (status, True), words(reply)


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"change": "silence", "until": "8h", "why": "w", "tags": "x"}, 422, "detector="),
        ({"change": "end", "silence": "x"}, 404, "There is no silence 0"),
        ({}, 422, "no such change"),
    ],
)
def test_what_is_wrong_with_a_silence_is_said_on_the_page(
    stranger: httpx.Client, ada: str, form: dict[str, str], status: int, said: str
) -> None:
    page = open_page(stranger, "/alerts", ada)
    reply = send(stranger, "/alerts", ada, page, **form)
    assert (reply.status_code, said in words(reply)) == (status, True), words(reply)


@pytest.mark.parametrize("address", ["/alert/99999", "/alert/x", "/alerts?state=bad"])
def test_what_is_not_there_has_a_page_that_says_so(
    stranger: httpx.Client, ada: str, address: str
) -> None:
    assert open_page(stranger, address, ada).status_code in {404, 422}


def test_a_stranger_is_led_to_the_login_and_back(
    stranger: httpx.Client, site: Site, alert_id: int
) -> None:
    signed = site.links.sign(f"/alert/{alert_id}")
    page = open_page(stranger, signed)
    assert page.status_code == 200
    assert "Log in to say that you have it" in words(page)
    assert f"/login?next=/alert/{alert_id}" in page.text
    assert '<form class="act"' not in page.text


def test_a_signed_link_opens_nothing_else(
    stranger: httpx.Client, site: Site, alert_id: int
) -> None:
    if site.settings.read == "open":
        pytest.skip("everybody may read")
    signed = site.links.sign(f"/alert/{alert_id}")
    other = open_alerts(site.record)[0]
    for address in (signed.replace(f"/{alert_id}?", f"/{other}?"), f"/alert/{alert_id}", "/alerts"):
        reply = open_page(stranger, address)
        assert (reply.status_code, "/login" in reply.headers.get("Location", "")) == (303, True)
    assert stranger.get(signed, headers={"Accept": "*/*"}).status_code == 401
    # Neither the header nor the footer says how the service is.
    assert "open, " not in words(open_page(stranger, signed)).partition("CRITICAL")[0]
