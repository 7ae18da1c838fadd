"""The page of one's own account, and for admins those of users and of the audit trail."""

import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest
from fastapi import FastAPI

from squash_api.app import create_app
from squash_api.record.audit import Actor
from squash_api.site import Site
from tests.pages.conftest import BROWSER
from tests.support.builders import add_test_user, make_settings
from tests.support.calls import PASSWORD, log_in
from tests.support.in_process import serving

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(make_settings(tmp_path_factory.mktemp("service")))


@pytest.fixture(scope="module")
def browser(app: FastAPI) -> Iterator[httpx.Client]:
    """A service with the admins root and grace, and the users ada and bob."""
    with serving(app) as client:
        client.headers.update(BROWSER)
        for name in ("ada", "bob"):
            log_in(client, name)
        for name in ("root", "grace"):
            app.state.site.accounts.add(name, PASSWORD, role="admin")
        yield client


@pytest.fixture
def site(app: FastAPI) -> Site:
    site: Site = app.state.site
    return site


def enter(browser: httpx.Client, name: str) -> str:
    """Log in, and return the token of the session's forms."""
    browser.cookies.clear()
    token = token_of(browser.get("/login").text)
    form = {"token": token, "username": name, "password": PASSWORD}
    assert browser.post("/login", data=form).status_code == 303
    return token_of(browser.get("/account").text)


def token_of(page: str) -> str:
    found = re.findall('name="token" value="([0-9a-f]{64})"', page)
    assert found
    assert len(set(found)) == 1
    return str(found[0])


def key_in(page: str) -> str:
    found = re.search('id="new-key"[^>]*>(sq_[^<]*)<', page)
    assert found is not None, page
    return found[1]


def test_a_page_says_who_is_logged_in(browser: httpx.Client) -> None:
    assert ">Log in</a>" in browser.get("/").text
    enter(browser, "ada")
    for path in ("/", "/runs", "/docs", "/nothing", "/account"):
        page = browser.get(path).text
        assert 'title="Your account">ada</a>' in page
        assert ">Log out</button>" in page
        assert ">Log in</a>" not in page


def test_a_key_is_shown_once_and_works(browser: httpx.Client) -> None:
    token = enter(browser, "ada")
    form = {"token": token, "name": "nightly CI", "job:write": "on", "job:read": "on"}
    form |= {"namespaces": "camera, validate_drp", "expires": "2099-01-31"}
    made = browser.post("/account/keys", data=form)
    assert made.headers["cache-control"] == "no-store"
    key = key_in(made.text)
    page = browser.get("/account").text
    assert key not in page
    assert key.split("_")[1] in page
    assert "nightly CI" in page
    assert "camera, validate_drp" in page
    assert "2099-01-31 23:59" in page
    assert "job:write, job:read" in page
    browser.cookies.clear()
    headers = {"Accept": "*/*", "Authorization": f"Bearer {key}"}
    assert browser.get("/users", headers=headers).status_code == 200


def test_a_revoked_key_is_one_no_more(browser: httpx.Client) -> None:
    token = enter(browser, "ada")
    key = key_in(
        browser.post("/account/keys", data={"token": token, "name": "x", "job:read": "on"}).text
    )
    form = {"token": token, "key": key.split("_")[1]}
    reply = browser.post("/account/keys/revoke", data=form)
    assert reply.headers["Location"] == "/account?done=revoked"
    page = browser.get("/account?done=revoked").text
    assert "The key is revoked." in page
    assert re.search(rf"{key.split('_')[1]}</code></th>\s*<td [^>]*>revoked<", page)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": " "}, "`name` must be"),
        ({"job:read": None}, "`scopes` must be"),
        ({"namespaces": "a..b"}, "`namespaces` must be"),
        ({"expires": "2001-01-01"}, "must be in the future"),
        ({"expires": "soon"}, "must be a date"),
        ({"admin": "on"}, "Only an admin"),
        ({"token": "0" * 64}, "not from this page"),
    ],
)
def test_a_key_that_cannot_be_made_says_why_and_keeps_what_was_typed(
    browser: httpx.Client, change: dict[str, str | None], words: str
) -> None:
    form = {"token": enter(browser, "ada"), "name": HOSTILE, "job:read": "on", **change}
    reply = browser.post("/account/keys", data={k: v for k, v in form.items() if v is not None})
    assert reply.status_code in {403, 422}
    assert words in unescape(reply.text)
    assert "<script>alert" not in reply.text
    if "token" not in change:
        assert f'value="{(form["name"] or "").replace(HOSTILE, "&#34;&gt;&lt;script&gt;")}'[
            :20
        ] in (reply.text)


def test_the_key_of_another_cannot_be_revoked(browser: httpx.Client) -> None:
    token = enter(browser, "bob")
    key = key_in(
        browser.post("/account/keys", data={"token": token, "name": "x", "job:read": "on"}).text
    )
    form = {"token": enter(browser, "ada"), "key": key.split("_")[1]}
    assert browser.post("/account/keys/revoke", data=form).status_code == 404
    assert key.split("_")[1] not in browser.get("/account").text


@pytest.mark.parametrize("path", ["/users", "/audit"])
def test_only_admins_see_users_and_the_trail(browser: httpx.Client, path: str) -> None:
    enter(browser, "ada")
    page = browser.get(path)
    assert (page.status_code, "bob" in page.text) == (403, False)
    form = {"token": token_of(page.text), "user": "bob", "change": "disable"}
    assert browser.post("/users", data=form).status_code == 403
    assert f'href="{path}"' not in browser.get("/account").text
    browser.cookies.clear()
    assert browser.get(path).headers["Location"] == f"/login?next={path}"
    enter(browser, "root")
    assert f'href="{path}"' in browser.get("/account").text
    assert browser.get(path).status_code == 200


def test_only_admins_see_the_webhooks(browser: httpx.Client, site: Site) -> None:
    url = "https://hooks.example.org/hushed"
    by = Actor(command="a test")
    site.subscriptions.create(HOSTILE[:18], url, events=["alert.opened"], filters={}, by=by)
    enter(browser, "ada")
    assert "hooks.example.org" not in browser.get("/account").text
    enter(browser, "root")
    page = browser.get("/account").text
    assert "https://hooks.example.org/..." in page
    assert "hushed" not in page
    assert "<script>alert" not in page


def test_an_admin_changes_users_and_the_trail_says_so(browser: httpx.Client, site: Site) -> None:
    site.accounts.add("carl", PASSWORD)
    token = enter(browser, "root")
    for change, role, is_disabled in (
        ("admin", "admin", False),
        ("user", "user", False),
        ("disable", "user", True),
        ("enable", "user", False),
    ):
        reply = browser.post("/users", data={"token": token, "user": "carl", "change": change})
        assert (reply.status_code, reply.headers["Location"]) == (303, "/users")
        (row,) = site.accounts.list(after="cark", limit=1)
        assert (row.name, row.role, row.is_disabled) == ("carl", role, is_disabled)
    page = browser.get("/audit?user=root&action=user.disable").text
    assert "<bdi>carl</bdi>" in page
    assert "127.0.0.1" in page
    assert "another role" not in page
    assert "user.role" in browser.get("/audit").text
    assert "Nothing was noted." in browser.get("/audit?user=nobody").text


@pytest.mark.parametrize(
    ("form", "status_code"),
    [
        ({"user": "nobody", "change": "disable"}, 404),
        ({"user": "ada", "change": "delete"}, 422),
        ({"user": "ada"}, 422),
        ({"change": "admin"}, 404),
    ],
)
def test_what_an_admin_cannot_do_is_said(
    browser: httpx.Client, form: dict[str, str], status_code: int
) -> None:
    reply = browser.post("/users", data={"token": enter(browser, "root"), **form})
    assert reply.status_code == status_code
    assert reply.headers["Content-Type"].startswith("text/html")


def test_the_last_admin_stays(browser: httpx.Client, site: Site) -> None:
    site.accounts.set_role("grace", "user")
    token = enter(browser, "root")
    reply = browser.post("/users", data={"token": token, "user": "root", "change": "disable"})
    assert (reply.status_code, "last admin" in reply.text) == (409, True)
    assert browser.get("/users").status_code == 200


def test_many_users_are_on_several_pages(browser: httpx.Client, site: Site) -> None:
    names = {f"many{number:03}" for number in range(101)}
    for name in names:
        add_test_user(site.record, name)
    enter(browser, "root")
    first = browser.get("/users").text
    after = re.search(r'href="\?after=([^"]*)" rel="next"', first)
    assert after is not None
    second = browser.get(f"/users?after={after[1]}").text
    shown = [*re.findall("<bdi>(.*?)</bdi>", first), *re.findall("<bdi>(.*?)</bdi>", second)]
    assert sorted(shown) == sorted(set(shown))
    assert names < set(shown)


def test_a_session_that_has_ended_changes_nothing(browser: httpx.Client) -> None:
    token = enter(browser, "ada")
    browser.cookies.clear()
    for path in ("/account/password", "/account/keys", "/account/keys/revoke", "/users"):
        reply = browser.post(path, data={"token": token})
        assert (reply.status_code, "log in again" in reply.text) == (401, True)
