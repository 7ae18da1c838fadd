"""Many who want the same name at the same moment."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.calls import PASSWORD
from tests.support.site import Site, new_package

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
