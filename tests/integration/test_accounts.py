"""Accounts by `POST /register` and by `squash user`, while the service runs."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.calls import PASSWORD, Calls
from tests.support.site import Site, job_document, new_package

AT_ONCE = 12


@pytest.fixture(scope="module")
def replies(site: Site) -> list[httpx.Response]:
    """The answers to 12 registrations of one name at once."""
    name = new_package()
    ready = threading.Barrier(AT_ONCE)

    def register(number: int) -> httpx.Response:
        with httpx.Client(base_url=site.service.url, timeout=60, trust_env=False) as client:
            client.get("/healthz")
            ready.wait(30)
            credentials = {"username": name, "password": f"{PASSWORD} {number}"}
            return client.post("/register", json=credentials)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(register, range(AT_ONCE)))


def test_one_gets_the_name_and_the_others_are_told_that_it_is_taken(
    replies: list[httpx.Response],
) -> None:
    assert Counter(reply.status_code for reply in replies) == {201: 1, 400: AT_ONCE - 1}


def test_those_who_came_too_late_read_why(replies: list[httpx.Response]) -> None:
    codes = {reply.json().get("code") for reply in replies if reply.status_code != 201}
    assert codes == {"name_taken"}


def test_only_the_one_who_got_the_name_can_log_in(
    site: Site, replies: list[httpx.Response]
) -> None:
    name = next(reply.json()["message"].split("`")[1] for reply in replies if reply.is_success)
    logins = [
        site.client.post("/auth", json={"username": name, "password": f"{PASSWORD} {number}"})
        for number in range(AT_ONCE)
    ]
    assert [login.status_code == 200 for login in logins] == [
        reply.status_code == 201 for reply in replies
    ]


def add_user(site: Site) -> str:
    """Add a user by the command and return the name."""
    name = new_package()
    done = site.service.run("user", "add", name, "--password-stdin", input=PASSWORD)
    assert done.returncode == 0, done.stderr
    return name


def can_log_in(site: Site, name: str, password: str = PASSWORD) -> bool:
    credentials = {"username": name, "password": password}
    return site.client.post("/auth", json=credentials).status_code == 200


def may_act(calls: Calls) -> bool:
    return calls("GET", "/users").status_code == 200


def test_a_user_who_is_added_can_log_in_at_once(site: Site) -> None:
    assert can_log_in(site, add_user(site))


def test_a_new_password_counts_at_once_and_ends_the_tokens(site: Site) -> None:
    name = add_user(site)
    calls = site.log_in(name)
    assert may_act(calls)
    done = site.service.run("user", "passwd", name, "--password-stdin", input="another one")
    assert done.returncode == 0, done.stderr
    assert (may_act(calls), can_log_in(site, name)) == (False, False)
    assert can_log_in(site, name, "another one")


def test_the_tokens_of_a_disabled_user_end_at_once(site: Site, package: str) -> None:
    name = add_user(site)
    calls = site.log_in(name)
    assert site.service.run("user", "disable", name, "--yes").returncode == 0
    assert (may_act(calls), can_log_in(site, name)) == (False, False)
    reply = calls("POST", "/job", json=job_document({f"{package}.m": 1.0}))
    assert (reply.status_code, reply.json()["error"]) == (401, "Invalid JWT")


def test_a_new_role_counts_from_the_next_token_on(site: Site, package: str) -> None:
    name = add_user(site)
    job_id = site.dispatch(job_document({f"{package}.m": 1.0}))["id"]
    assert site.log_in(name)("DELETE", f"/job/{job_id}").status_code == 403
    assert site.service.run("user", "role", name, "admin").returncode == 0
    assert site.log_in(name)("DELETE", f"/job/{job_id}").status_code == 200


def test_the_list_of_users_shows_roles_and_the_disabled(site: Site) -> None:
    name = add_user(site)
    assert site.service.run("user", "disable", name, "--yes").returncode == 0
    done = site.service.run("user", "list", "--json")
    users = {user["name"]: user for user in json.loads(done.stdout)}
    assert (users["ada"]["role"], users["ada"]["disabled"]) == ("user", False)
    assert users[name]["disabled"] is True
