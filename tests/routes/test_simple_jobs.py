"""Simple jobs and metrics, as the clients of the SQUASH prototype and of QLF send them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from squash_api.accounts.passwords import Argon2Hasher
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.in_process import service
from tests.wires.test_simple_job import PA1, PROTOTYPE, QLF, form_of

AUTH = ("ada", PASSWORD)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with the addresses of both ancestors, and a user."""
    prefixes = ("/api", "/dashboard/api")
    with service(tmp_path_factory.mktemp("service"), simple_prefixes=prefixes) as client:
        log_in(client, "ada")
        yield client


@pytest.fixture(scope="module")
def calls(client: httpx.Client) -> Calls:
    return log_in(client, "ada")


def get(client: httpx.Client, path: str) -> Any:
    return client.get(path).json()


def post(client: httpx.Client, path: str = "/job", **options: Any) -> httpx.Response:
    """Post with HTTP Basic; `data` becomes the form that requests makes of it."""
    if "data" in options:
        options = {"content": form_of(options["data"]), "headers": FORM}
    return client.post(path, auth=AUTH, **options)


def metric(name: str, **changes: Any) -> dict[str, Any]:
    return {**PA1, "metric": name, **changes}


# Addresses


@pytest.mark.parametrize("root", ["/api/", "/dashboard/api/", "/dashboard/api"])
def test_the_map_below_a_prefix_leads_to_addresses_with_a_slash(
    client: httpx.Client, root: str
) -> None:
    found = get(client, root)
    base = f"http://127.0.0.1:8000{root.rstrip('/')}"
    assert found["job"] == f"{base}/job/"
    assert found["metric"] == f"{base}/metric/"
    assert post(client, f"{root.rstrip('/')}/job/", json=QLF).status_code == 201


def test_the_map_of_the_root_is_what_it_was(client: httpx.Client) -> None:
    found = get(client, "/")
    assert found["job"] == "http://127.0.0.1:8000/job"
    assert found["metric"] == "http://127.0.0.1:8000/metric"


def test_what_is_private_stays_so_below_a_prefix(client: httpx.Client, calls: Calls) -> None:
    assert client.get("/api/users").status_code == 401
    assert calls("GET", "/api/users").headers["cache-control"] == "no-store"


# Jobs


@pytest.mark.parametrize("document", [PROTOTYPE, QLF], ids=["prototype", "qlf"])
def test_a_simple_job_in_json_is_answered_by_201(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    reply = post(client, json={**document, "build": f"json {document['name']}"})
    assert reply.status_code == 201, reply.text
    body = reply.json()
    names = [item["metric"] for item in get(client, f"/job/{body['id']}")["measurements"]]
    assert names == [f"quicklook.{document['measurements'][0]['metric']}", "quicklook.job_status"]
    assert body["message"].startswith(f"Request for creating Job `{body['id']}` received")


def test_a_simple_job_belongs_to_its_run_and_its_time(client: httpx.Client) -> None:
    job_id = post(client, json={**PROTOTYPE, "build": "77"}).json()["id"]
    job = get(client, f"/job/{job_id}")
    assert job["date_created"] == "2016-04-24T19:26:12Z"
    (run,) = get(client, "/runs/ci_cfht/77")["jobs"]
    assert run["id"] == job_id


def test_a_form_whose_measurements_are_json_is_a_job(client: httpx.Client) -> None:
    items = json.dumps(PROTOTYPE["measurements"])
    reply = post(client, data={**PROTOTYPE, "build": "form", "measurements": items})
    assert reply.status_code == 201, reply.text
    shown = get(client, f"/job/{reply.json()['id']}")
    assert [item["value"] for item in shown["measurements"]] == [5.0, 0.0]


def test_a_list_that_requests_has_put_into_a_form_is_refused(client: httpx.Client) -> None:
    reply = post(client, data=PROTOTYPE)
    assert reply.status_code == 422
    assert "send the job as JSON" in reply.json()["message"]
    assert reply.json()["detail"][0]["loc"] == ["body", "measurements"]


def test_a_simple_job_sent_twice_is_stored_once(client: httpx.Client) -> None:
    first, again = (post(client, json={**PROTOTYPE, "build": "twice"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]


def test_a_job_without_build_and_time_is_new_each_time(client: httpx.Client) -> None:
    first, second = (post(client, json=QLF) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] < second.json()["id"]


def test_the_reply_names_the_time_as_the_client_does(client: httpx.Client) -> None:
    notes = post(client, json=QLF).json()["notes"]
    assert "no runtime: the time of receipt is used" in notes


def test_a_key_is_a_password_of_its_owner(client: httpx.Client, calls: Calls) -> None:
    key = calls("POST", "/keys", {"name": "qlf", "scopes": ["job:write"]}).json()["key"]
    assert client.post("/job", auth=("ada", key), json=QLF).status_code == 201
    assert client.post("/metric", auth=("ada", key), json=PA1).status_code == 403


def test_a_client_that_posts_often_has_its_password_hashed_once(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(client, "carol")
    hashed = []
    verify = Argon2Hasher.verify

    def count(self: Argon2Hasher, password: str, stored_hash: str) -> tuple[bool, str | None]:
        hashed.append(stored_hash)
        return verify(self, password, stored_hash)

    monkeypatch.setattr(Argon2Hasher, "verify", count)
    for _ in range(5):
        assert client.post("/job", auth=("carol", PASSWORD), json=QLF).status_code == 201
    assert len(hashed) <= 1


def test_wrong_passwords_are_limited_here_too(client: httpx.Client) -> None:
    log_in(client, "dave")
    tries = (client.post("/job", auth=("dave", f"wrong {n}"), json=QLF) for n in range(100))
    refused = next(reply for reply in tries if reply.status_code != 401)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"json": QLF}, 401),
        ({"json": QLF, "auth": ("ada", "wrong")}, 401),
        ({"json": [], "auth": AUTH}, 422),
        ({"json": {**QLF, "name": None}, "auth": AUTH}, 400),
        ({"json": {**QLF, "status": "bad"}, "auth": AUTH}, 422),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}, "auth": AUTH}, 400),
        ({"content": b"name=\xff", "headers": FORM, "auth": AUTH}, 422),
        ({"files": {"job": b"{}"}, "auth": AUTH}, 415),
    ],
)
@pytest.mark.parametrize("path", ["/job", "/dashboard/api/job/"])
def test_a_refusal_has_the_one_body(
    client: httpx.Client, path: str, options: dict[str, Any], status: int
) -> None:
    reply = client.post(path, **options)
    assert reply.status_code == status
    assert {"message", "code", "status_code", "detail"} <= reply.json().keys()


@pytest.mark.parametrize(
    "document",
    [
        {"measurements": [{"metric": "p.a", "value": 1.0, "unit": "mag"}]},
        {"measurements": [{"metric": "p.a", "value": 1.0, "unit": "mag"}], "meta": {}, "name": "x"},
        {"blobs": [], "status": 5},
        {},
    ],
)
def test_a_job_of_lsst_verify_stays_one_with_basic(
    client: httpx.Client, calls: Calls, document: dict[str, Any]
) -> None:
    basic, token = post(client, json=document), calls("POST", "/job", document)
    assert basic.status_code == token.status_code == 202
    assert basic.json()["notes"] == token.json()["notes"]


def test_a_token_sends_jobs_of_lsst_verify_only(calls: Calls) -> None:
    reply = calls("POST", "/job", {**PROTOTYPE, "build": "token"})
    assert reply.status_code == 202
    assert any("the key `name` has no meaning" in note for note in reply.json()["notes"])


# Metrics


def test_a_metric_in_a_form_becomes_a_metric_and_specifications(client: httpx.Client) -> None:
    reply = post(client, "/metric/", data=metric("PA2"))
    assert reply.status_code == 201, reply.text
    body = reply.json()
    assert (body["name"], body["unit"]) == ("quicklook.PA2", "mmag")
    assert body["message"].endswith(
        "values must be <= 8 mmag (minimum), <= 5 mmag (design), <= 3 mmag (stretch), <= 10 mmag "
        "(user); smaller values are better, since stretch is below minimum: send `condition` if "
        "that is wrong."
    )
    spec = get(client, "/spec/quicklook.PA2.minimum")
    assert spec["threshold"] == {"value": 8.0, "unit": "mmag", "operator": "<="}
    assert spec["tags"] == ["minimum"]


def test_a_value_of_the_metric_is_judged(client: httpx.Client) -> None:
    post(client, "/metric", json=metric("PA3"))
    items = [{"metric": "PA3", "value": 9.0}]
    job_id = post(client, json={**QLF, "measurements": items}).json()["id"]
    report = get(client, f"/job/{job_id}/report")
    assert {item["specification"].rpartition(".")[2]: item["status"] for item in report} == {
        "design": "failed",
        "minimum": "failed",
        "stretch": "failed",
        "user": "passed",
    }


def test_the_same_metric_again_changes_nothing(client: httpx.Client) -> None:
    first, again = (post(client, "/metric", data=metric("PA4")) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert "already had this definition" in again.json()["message"]


def test_other_thresholds_change_the_specifications(client: httpx.Client) -> None:
    post(client, "/metric", data=metric("PA5"))
    reply = post(client, "/metric", data={"metric": "PA5", "minimum": "7", "stretch": ""})
    assert reply.status_code == 201
    body = reply.json()
    assert body["withdrawn"] == ["quicklook.PA5.stretch"]
    assert "stored: quicklook.PA5.minimum, quicklook.PA5.stretch (withdrawn)" in body["message"]
    assert get(client, "/spec/quicklook.PA5.minimum")["threshold"]["value"] == 7.0
    assert get(client, "/spec/quicklook.PA5.design")["threshold"]["value"] == 5.0
    assert client.get("/spec/quicklook.PA5.stretch").status_code == 404


def test_a_metric_of_qlf_has_one_threshold(client: httpx.Client) -> None:
    document = {"name": "SNR2", "description": "d", "condition": ">", "threshold": 5}
    assert post(client, "/dashboard/api/metric/", json=document).status_code == 201
    threshold = get(client, "/spec/quicklook.SNR2.threshold")["threshold"]
    assert threshold == {"value": 5.0, "unit": "", "operator": ">"}


def test_a_unit_may_change_together_with_all_limits(client: httpx.Client) -> None:
    post(client, "/metric", json=metric("PA6"))
    reply = post(client, "/metric", json=metric("PA6", units="counts"))
    assert reply.status_code == 201, reply.text
    assert get(client, "/spec/quicklook.PA6.user")["threshold"]["unit"] == "ct"


def test_a_unit_that_breaks_a_limit_which_stays_is_refused(client: httpx.Client) -> None:
    post(client, "/metric", json=metric("PA7"))
    reply = post(client, "/metric", json={"metric": "PA7", "units": "counts", "minimum": 4})
    assert reply.status_code == 422
    assert get(client, "/metric/quicklook.PA7")["unit"] == "mmag"


def test_only_the_owner_changes_a_metric(client: httpx.Client) -> None:
    post(client, "/metric", json=metric("PA8"))
    log_in(client, "bob")
    bob = ("bob", PASSWORD)
    assert client.post("/metric", auth=bob, json=metric("PA8")).status_code == 200
    assert client.post("/metric", auth=bob, json=metric("PA8", minimum=9)).status_code == 403
    assert client.post("/metric", auth=bob, json=metric("PA8", user=None)).status_code == 403


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"metric": None}, ["metric"]),
        ({"metric": "a b"}, ["metric"]),
        ({"metric": "x" * 300}, ["name"]),
        ({"description": None}, ["description"]),
        ({"units": "furlongs"}, ["units"]),
        ({"units": "mag(AB)", "minimum": None, "design": None, "stretch": None}, ["user"]),
        ({"minimum": "abc"}, ["minimum"]),
        ({"minimum": "4"}, ["design"]),
        ({"condition": "~"}, ["condition"]),
    ],
)
def test_a_metric_that_is_wrong_is_refused_with_its_place(
    client: httpx.Client, changes: dict[str, Any], place: list[str]
) -> None:
    reply = post(client, "/metric", json=metric("Wrong", **changes))
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"][1:][: len(place)] == place


def test_a_metric_needs_a_user(client: httpx.Client) -> None:
    assert client.post("/metric", json=PA1).status_code == 401
