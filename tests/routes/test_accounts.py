import threading
import unicodedata
from pathlib import Path

import httpx
import pytest

from squash_api.accounts.limits import Limits
from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.in_process import service


def register(client: httpx.Client, name: str) -> httpx.Response:
    return client.post("/register", json={"username": name, "password": PASSWORD})


def test_registering_is_201_with_a_message(shared_client: httpx.Client) -> None:
    reply = register(shared_client, "new")
    assert (reply.status_code, reply.json()) == (201, {"message": "User `new` created."})


def test_who_registers_is_no_admin(shared_client: httpx.Client, shared_calls: Calls) -> None:
    calls = log_in(shared_client, "plain")
    assert calls("DELETE", "/user/ada").status_code == 403
    assert shared_calls("GET", "/user/ada").status_code == 200


def test_twelve_registrations_of_one_name_make_one_user(shared_client: httpx.Client) -> None:
    statuses: list[int] = []
    barrier = threading.Barrier(12)

    def run() -> None:
        barrier.wait()
        statuses.append(register(shared_client, "racer").status_code)

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201] + [400] * 11


def test_auth_gives_a_token_and_nothing_else(
    shared_client: httpx.Client, shared_calls: Calls
) -> None:
    assert shared_calls
    reply = shared_client.post("/auth", json={"username": "ada", "password": PASSWORD})
    assert (reply.status_code, list(reply.json())) == (200, ["access_token"])


def test_auth_is_not_for_get(shared_client: httpx.Client) -> None:
    assert shared_client.get("/auth").status_code == 405


def test_users_need_a_token(shared_client: httpx.Client, shared_calls: Calls) -> None:
    assert shared_client.get("/users").status_code == 401
    assert shared_client.get("/user/ada").status_code == 401
    assert "ada" in shared_calls("GET", "/users").json()["users"]


def test_a_user_is_shown_by_name(shared_calls: Calls) -> None:
    assert shared_calls("GET", "/user/ada").json() == {"username": "ada"}


def test_an_unknown_user_is_404_whoever_asks(shared_calls: Calls) -> None:
    assert shared_calls("GET", "/user/nobody").status_code == 404
    assert shared_calls("DELETE", "/user/nobody").status_code == 404


def test_deleting_oneself_disables_and_keeps_the_name(
    shared_client: httpx.Client, shared_calls: Calls
) -> None:
    calls = log_in(shared_client, "leaver")
    reply = calls("DELETE", "/user/leaver")
    assert (reply.status_code, reply.json()) == (200, {"message": "User `leaver` disabled."})
    assert shared_calls("GET", "/user/leaver").status_code == 404
    assert "leaver" not in shared_calls("GET", "/users").json()["users"]
    assert register(shared_client, "leaver").status_code == 400
    credentials = {"username": "leaver", "password": PASSWORD}
    assert shared_client.post("/auth", json=credentials).status_code == 401


def test_the_jobs_of_a_disabled_user_stay_and_no_new_ones_come(shared_client: httpx.Client) -> None:
    calls = log_in(shared_client, "worker")
    job = calls("POST", "/job", {}).json()["id"]
    calls("DELETE", "/user/worker")
    reply = calls("POST", "/job", {})
    assert (reply.status_code, reply.json()["description"]) == (401, "User does not exist")
    assert shared_client.get(f"/job/{job}").status_code == 200


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC"])
def test_one_deletes_oneself_in_whatever_spelling(shared_client: httpx.Client, form: str) -> None:
    name = f"Jürgen {form} ﬁ".replace(" ", "-")
    calls = log_in(shared_client, name)
    spelled = unicodedata.normalize(form, name)  # type: ignore[arg-type]
    assert calls("DELETE", f"/user/{spelled}").status_code == 200


# Limits

GUESSES = [("POST", "/auth"), ("GET", "/users"), ("POST", "/job"), ("POST", "/metrics")]


def give_password(
    client: httpx.Client, method: str, path: str, name: str, password: str, **headers: str
) -> httpx.Response:
    """Log in at /auth, or give name and password in the header of anything else."""
    if path == "/auth":
        body = {"username": name, "password": password}
        return client.request(method, path, json=body, headers=headers)
    return client.request(method, path, auth=(name, password), headers=headers, json={})


@pytest.mark.parametrize(("method", "path"), GUESSES)
def test_wrong_passwords_are_limited_wherever_they_are_given(
    tmp_path: Path, method: str, path: str
) -> None:
    with service(tmp_path) as client:
        log_in(client, "ada")
        log_in(client, "bob")
        found = [give_password(client, method, path, f"nobody {i}", "wrong") for i in range(21)]
        assert [reply.status_code for reply in found] == [401] * 20 + [429]
        assert found[-1].json()["code"] == "busy"
        assert found[-1].headers["Retry-After"] == "1"
        assert give_password(client, method, path, "ada", PASSWORD).status_code not in {401, 429}


async def _at_once(_limits: Limits) -> None:
    """Refuse in no time, and so before the wait is over."""


def test_behind_a_proxy_that_is_trusted_each_client_has_its_own_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "slow", _at_once)
    with service(tmp_path, trusted_proxies=("127.0.0.0/8", "10.0.0.0/8")) as client:
        log_in(client, "ada")

        def guess(forwarded: str, name: str = "nobody") -> int:
            return give_password(
                client, "POST", "/auth", name, "wrong", **{"X-Forwarded-For": forwarded}
            ).status_code

        assert [guess("192.0.2.1") for _ in range(6)] == [401] * 5 + [429]
        assert guess("192.0.2.2") == 401
        # What comes before the address that the last untrusted one has is made up.
        assert guess("192.0.2.7, 192.0.2.1") == guess("192.0.2.1, 10.1.2.3") == 429


def test_from_others_the_header_changes_nothing(tmp_path: Path) -> None:
    with service(tmp_path, trusted_proxies=("10.0.0.0/8",)) as client:
        found = [
            give_password(
                client, "POST", "/auth", "ada", "wrong", **{"X-Forwarded-For": f"192.0.2.{i}"}
            ).status_code
            for i in range(6)
        ]
    assert found == [401] * 5 + [429]


def test_behind_a_proxy_that_is_not_named_who_has_logged_in_before_gets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("squash_api.routes.dependencies._hinted", threading.Event())
    with service(tmp_path) as client:
        log_in(client, "ada")
        for i in range(25):
            give_password(
                client, "POST", "/auth", f"name {i}", "wrong", **{"X-Forwarded-For": f"192.0.2.{i}"}
            )
        assert give_password(client, "POST", "/auth", "ada", PASSWORD).status_code == 200
    out = "".join(capfd.readouterr())
    assert out.count("name the proxy in SQUASH_TRUSTED_PROXIES") == 1


# What admins change


@pytest.fixture
def root(client: httpx.Client, tmp_path: Path) -> Calls:
    with Site(make_settings(tmp_path)) as site:
        site.accounts.add("root", PASSWORD, role="admin")
    return log_in(client, "root")


def test_an_admin_disables_enables_and_promotes(client: httpx.Client, root: Calls) -> None:
    ada = log_in(client, "ada")
    reply = root("PUT", "/user/ada", {"disabled": True})
    assert reply.json() == {"username": "ada", "role": "user", "disabled": True}
    assert ada("GET", "/users").status_code == 401
    reply = root("PUT", "/user/ada", {"disabled": False, "role": "admin"})
    assert reply.json() == {"username": "ada", "role": "admin", "disabled": False}
    assert ada("GET", "/users").status_code == 401
    assert log_in(client, "ada")("GET", "/audit").status_code == 200


@pytest.mark.parametrize(
    ("method", "document"),
    [
        ("PUT", {"disabled": True}),
        ("PUT", {"role": "user"}),
        ("PUT", {"role": "user", "disabled": True}),
        ("DELETE", None),
    ],
)
def test_the_last_admin_stays(root: Calls, method: str, document: object) -> None:
    reply = root(method, "/user/root", document)
    assert (reply.status_code, reply.json()["code"]) == (409, "last_admin")
    assert root("GET", "/audit").status_code == 200


def test_two_admins_who_demote_each_other_at_once_leave_one(
    client: httpx.Client, root: Calls
) -> None:
    log_in(client, "ada")
    assert root("PUT", "/user/ada", {"role": "admin"}).status_code == 200
    ada = log_in(client, "ada")
    replies: list[int] = []

    def demote(calls: Calls, name: str) -> None:
        replies.append(calls("PUT", f"/user/{name}", {"role": "user"}).status_code)

    threads = [
        threading.Thread(target=demote, args=given) for given in ((root, "ada"), (ada, "root"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies.count(200) == 1
    assert sorted(replies)[1] in {401, 403, 409}


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({}, 400),
        ({"role": None, "disabled": None}, 400),
        ({"role": "king"}, 422),
        ({"role": 5}, 422),
        ({"disabled": "yes"}, 422),
        ({"disabled": 1}, 422),
    ],
)
def test_a_change_without_sense_is_refused(
    root: Calls, document: dict[str, object], status: int
) -> None:
    assert root("PUT", "/user/root", document).status_code == status


def test_only_admins_change_users(client: httpx.Client, root: Calls) -> None:
    ada = log_in(client, "ada")
    for name in ("ada", "root", "nobody"):
        assert ada("PUT", f"/user/{name}", {"role": "admin"}).status_code == 403
    assert root("PUT", "/user/nobody", {"role": "admin"}).status_code == 404
