import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.accounts import keys
from squash_api.site import Site
from tests.support.builders import make_body, make_settings, measured
from tests.support.calls import PASSWORD, Calls, follow, log_in
from tests.support.in_process import service

JSON = {"Content-Type": "application/json"}


def create(calls: Calls, **changes: Any) -> dict[str, Any]:
    reply = calls("POST", "/keys", {"name": "ci", "scopes": ["job:write"], **changes})
    assert reply.status_code == 201, reply.text
    body: dict[str, Any] = reply.json()
    return body


def with_key(client: httpx.Client, key: str) -> Calls:
    return Calls(client, key)


def post(calls: Calls, *metrics: str, **options: Any) -> httpx.Response:
    body = make_body(*(measured(name) for name in metrics))
    return calls("POST", "/job", content=body, headers=JSON, **options)


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the second be over for which services remember keys."""
    return lambda: monkeypatch.setattr(keys, "REMEMBERED_S", 0.0)


def test_a_key_posts_jobs_as_its_owner(client: httpx.Client, calls: Calls) -> None:
    key = with_key(client, create(calls)["key"])
    job = post(key, "p.a").json()["id"]
    # Whoever owns it may delete it.
    assert calls("DELETE", f"/job/{job}").status_code == 200


def test_a_key_is_shown_once(calls: Calls) -> None:
    made = create(calls)
    secret = made["key"].split("_")[2]
    assert made.pop("key").startswith(f"sq_{made['id']}_")
    (listed,) = calls("GET", "/keys").json()["keys"]
    assert listed == made
    assert secret not in calls("GET", "/keys").text


def test_replies_about_keys_are_not_kept_by_caches(calls: Calls) -> None:
    made = calls("POST", "/keys", {"name": "ci", "scopes": ["job:write"]})
    for reply in (made, calls("GET", "/keys")):
        assert reply.headers["Cache-Control"] == "no-store"


def test_lists_of_keys_are_paged(calls: Calls) -> None:
    made = [create(calls)["id"] for _ in range(5)]
    pages = follow(calls, "/keys?limit=2", "keys")
    assert [[key["id"] for key in page] for page in pages] == [made[:2], made[2:4], made[4:]]


def test_a_revoked_key_is_refused_after_a_second_at_most(
    client: httpx.Client, calls: Calls, forgotten: Callable[[], None]
) -> None:
    made = create(calls)
    key = with_key(client, made["key"])
    assert post(key, "p.a").status_code == 202
    assert calls("DELETE", f"/keys/{made['id']}").status_code == 200
    forgotten()
    reply = post(key, "p.a")
    assert (reply.status_code, reply.json()["error"]) == (401, "Invalid token")
    assert "was revoked" in reply.json()["description"]


@pytest.mark.parametrize("change", ["password", "role"])
def test_a_key_outlives_a_new_password_and_role_of_its_owner_without_a_refusal(
    client: httpx.Client,
    calls: Calls,
    tmp_path: Path,
    forgotten: Callable[[], None],
    change: str,
) -> None:
    key = with_key(client, create(calls)["key"])
    assert post(key, "p.a").status_code == 202
    with Site(make_settings(tmp_path)) as site:
        if change == "password":
            site.accounts.set_password("ada", PASSWORD + "!")
        else:
            site.accounts.set_role("ada", "admin")
    # Within the second for which the key is remembered, and after it.
    assert post(key, "p.b").status_code == 202
    forgotten()
    assert post(key, "p.c").status_code == 202


def test_a_key_ends_with_its_owner_and_does_not_come_back(
    client: httpx.Client, calls: Calls, tmp_path: Path, forgotten: Callable[[], None]
) -> None:
    key = with_key(client, create(calls)["key"])
    assert post(key, "p.a").status_code == 202
    with Site(make_settings(tmp_path)) as site:
        assert site.accounts.disable("ada") == 1
        # The writer knows at once.
        assert post(key, "p.b").status_code == 401
        site.accounts.enable("ada")
    forgotten()
    assert post(key, "p.b").status_code == 401


def basic(name: str, password: str) -> dict[str, str]:
    text = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}", **JSON}


def test_old_clients_send_a_key_as_the_password_of_its_owner(
    client: httpx.Client, calls: Calls
) -> None:
    key = create(calls)["key"]
    log_in(client, "bob")
    body = make_body(measured("p.a"))
    assert client.post("/job", content=body, headers=basic("ada", key)).status_code == 202
    reply = client.post("/job", content=body, headers=basic("bob", key))
    assert (reply.status_code, reply.json()["description"]) == (401, "Invalid credentials")


def test_lsst_verify_logs_in_with_a_key_and_gets_no_more_than_it(
    client: httpx.Client, calls: Calls
) -> None:
    key = create(calls)["key"]
    reply = client.post("/auth", json={"username": "ada", "password": key})
    assert reply.json() == {"access_token": key}
    old = Calls(client, reply.json()["access_token"])
    assert post(old, "p.a").status_code == 202
    assert old("DELETE", "/user/ada").status_code == 403
    reply = client.post("/auth", json={"username": "bob", "password": key})
    assert reply.status_code == 401


# Namespaces

OUTSIDE = {"name": "x.a", "description": "d"}
THRESHOLD = {"operator": "<=", "value": 1.0, "unit": ""}


def limited(client: httpx.Client, calls: Calls) -> Calls:
    scopes = ["job:write", "definitions:write"]
    return with_key(client, create(calls, scopes=scopes, namespaces=["p"])["key"])


def test_a_job_outside_the_namespaces_is_refused_with_its_places(
    client: httpx.Client, calls: Calls
) -> None:
    key = limited(client, calls)
    assert post(key, "p.a", "p.b").status_code == 202
    reply = post(key, "p.a", "x.a", "p.b", "px.a")
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert [item["loc"] for item in reply.json()["detail"]] == [
        ["body", "measurements", 1, "metric"],
        ["body", "measurements", 3, "metric"],
    ]
    assert client.get("/jobs").json()["ids"] == [1]


@pytest.fixture(scope="module")
def outside(shared_client: httpx.Client) -> tuple[Calls, Calls]:
    """A user with definitions and a job outside of a namespace, and a key that is for it."""
    calls = log_in(shared_client, "eve")
    assert calls("POST", "/metric/x.m", {"description": "d"}).status_code == 201
    assert calls("POST", "/spec/x.m.t", {"threshold": THRESHOLD}).status_code == 201
    assert post(calls, "x.a", "p.a").status_code == 202
    return calls, limited(shared_client, calls)


@pytest.mark.parametrize(
    ("request_line", "document", "place"),
    [
        ("POST /measurement/1", {"metric": "x.a", "value": 1.0, "unit": ""}, ["body", "metric"]),
        ("POST /metrics", {"metrics": [OUTSIDE]}, ["body", "metrics", 0, "name"]),
        ("POST /metric/x.a", {"description": "d"}, ["path", "name"]),
        ("PUT /metric/x.m", {"description": "e"}, ["path", "name"]),
        ("DELETE /metric/x.m", None, ["path", "name"]),
        ("POST /specs", {"specs": [{"name": "x.m.s"}]}, ["body", "specs", 0, "name"]),
        ("POST /spec/x.m.s", {}, ["path", "name"]),
        ("PUT /spec/x.m.t", {}, ["path", "name"]),
        ("DELETE /spec/x.m.t", None, ["path", "name"]),
        ("DELETE /job/1", None, ["path", "job_id"]),
    ],
)
def test_nothing_outside_the_namespaces_is_written(
    shared_client: httpx.Client,
    outside: tuple[Calls, Calls],
    request_line: str,
    document: dict[str, Any] | None,
    place: list[str],
) -> None:
    calls, key = outside
    if document is not None and "spec" in request_line:
        for each in document.get("specs", [document]):
            each["threshold"] = THRESHOLD
    before = calls("GET", "/metrics").text + calls("GET", "/specs").text
    method, path = request_line.split()
    reply = key(method, path, document)
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden"), reply.text
    assert [item["loc"] for item in reply.json()["detail"]] == [place]
    assert calls("GET", "/metrics").text + calls("GET", "/specs").text == before
    assert shared_client.get("/job/1").status_code == 200


@pytest.mark.parametrize(
    ("request_line", "document", "status"),
    [
        ("POST /measurement/1", {"metric": "p.b", "value": 1.0, "unit": ""}, 201),
        ("POST /metrics", {"metrics": [{"name": "p.m", "description": "d"}]}, 201),
        ("DELETE /job/1", None, 200),
    ],
)
def test_what_is_inside_the_namespaces_is_written(
    client: httpx.Client,
    calls: Calls,
    request_line: str,
    document: dict[str, Any] | None,
    status: int,
) -> None:
    assert post(calls, "p.a").status_code == 202
    method, path = request_line.split()
    reply = limited(client, calls)(method, path, document)
    assert reply.status_code == status, reply.text


# Bodies, and the keys of others


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"name": None}, 400),
        ({"scopes": None}, 400),
        ({"name": 5}, 422),
        ({"scopes": "job:write"}, 422),
        ({"scopes": [1]}, 422),
        ({"scopes": []}, 422),
        ({"scopes": ["root"]}, 422),
        ({"namespaces": "p"}, 422),
        ({"namespaces": []}, 422),
        ({"expires": "soon"}, 422),
        ({"expires": "2020-01-01"}, 422),
        ({"expires": 5}, 422),
        ({"user": 5}, 422),
        ({"user": "bob"}, 403),
        ({"scopes": ["admin"]}, 403),
    ],
)
def test_what_cannot_be_a_key_is_refused(
    shared_calls: Calls, changes: dict[str, Any], status: int
) -> None:
    document = {"name": "ci", "scopes": ["job:write"], **changes}
    assert shared_calls("POST", "/keys", document).status_code == status
    assert shared_calls("GET", "/keys").json()["keys"] == []


def test_a_day_is_the_last_of_a_key_s_life(calls: Calls) -> None:
    assert create(calls, expires="2036-12-31")["expires"] == "2036-12-31T23:59:59Z"
    assert create(calls, expires="2036-12-31T12:00:00Z")["expires"] == "2036-12-31T12:00:00Z"


def test_users_see_their_own_keys_and_admins_all(client: httpx.Client, tmp_path: Path) -> None:
    with Site(make_settings(tmp_path)) as site:
        site.accounts.add("root", PASSWORD, role="admin")
    ada, bob, root = (log_in(client, name) for name in ("ada", "bob", "root"))
    key = create(ada)["id"]
    create(root, user="bob")
    owners = [item["user"] for item in root("GET", "/keys?all=true").json()["keys"]]
    assert owners == ["ada", "bob"]
    assert root("GET", "/keys").json()["keys"] == []
    assert [item["user"] for item in bob("GET", "/keys").json()["keys"]] == ["bob"]
    assert bob("GET", "/keys?all=true").status_code == 403
    assert bob("DELETE", f"/keys/{key}").status_code == 404
    assert root("DELETE", f"/keys/{key}").status_code == 200


def test_a_key_that_administers_makes_keys_and_no_other_does(
    client: httpx.Client, tmp_path: Path
) -> None:
    with Site(make_settings(tmp_path)) as site:
        site.accounts.add("root", PASSWORD, role="admin")
    root = log_in(client, "root")
    assert create(with_key(client, create(root, scopes=["admin"])["key"]), user="root")
    every = ["job:write", "job:read", "definitions:write", "alerts:write"]
    key = with_key(client, create(root, scopes=every)["key"])
    assert key("POST", "/keys", {"name": "x", "scopes": ["job:read"]}).status_code == 403


def test_the_only_admin_that_is_demoted_loses_what_the_key_could(
    client: httpx.Client, tmp_path: Path, forgotten: Callable[[], None]
) -> None:
    with Site(make_settings(tmp_path)) as site:
        site.accounts.add("root", PASSWORD, role="admin")
        site.accounts.add("other", PASSWORD, role="admin")
        key = with_key(client, create(log_in(client, "root"), scopes=["admin"])["key"])
        assert key("GET", "/audit").status_code == 200
        site.accounts.set_role("root", "user")
    forgotten()
    reply = key("GET", "/audit")
    assert reply.status_code == 403
    assert "only while its owner, root, is an admin" in reply.json()["message"]


def test_two_services_on_one_record_both_refuse_a_revoked_key(
    tmp_path: Path, forgotten: Callable[[], None]
) -> None:
    with service(tmp_path) as one, service(tmp_path, deliver="off") as other:
        ada = log_in(one, "ada")
        made = create(ada)
        keys = [with_key(client, made["key"]) for client in (one, other)]
        assert [post(key, "p.a").status_code for key in keys] == [202, 202]
        ada("DELETE", f"/keys/{made['id']}")
        forgotten()
        assert [post(key, "p.a").status_code for key in keys] == [401, 401]
