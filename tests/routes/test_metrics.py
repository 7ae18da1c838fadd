from typing import Any

import httpx
import pytest

from squash_api.routes.definitions import ChangedMetric, MetricObject, MetricPage
from tests.support.calls import Calls, log_in

A = {"name": "p.a", "description": "What it is.", "unit": "mmag", "tags": ["x"]}
LONG = "p." + "m" * 126


def post(calls: Calls, *documents: dict[str, Any]) -> None:
    reply = calls("POST", "/metrics", {"metrics": documents})
    assert reply.status_code == 201, reply.text


def test_a_posted_metric_comes_back(calls: Calls) -> None:
    reply = calls("POST", "/metric/p.a", A | {"reference": {"doc": "LPM-17", "page": 3}})
    assert reply.status_code == 201
    expected = {
        "name": "p.a",
        "package": "p",
        "display_name": "a",
        "description": "What it is.",
        "unit": "mmag",
        "tags": ["x"],
        "reference": {"doc": "LPM-17", "page": 3, "url": None},
        "origin": "api",
        "source": None,
    }
    assert calls("GET", "/metric/p.a").json() == expected
    assert reply.json() == expected | {"message": "`p.a` created.", "requeued_jobs": 0}


def test_metrics_are_read_without_logging_in(client: httpx.Client, calls: Calls) -> None:
    post(calls, A)
    assert client.get("/metrics").status_code == 200
    assert client.get("/metric/p.a").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/metrics"),
        ("POST", "/metric/p.a"),
        ("PUT", "/metric/p.a"),
        ("DELETE", "/metric/p.a"),
    ],
)
def test_changing_metrics_needs_a_token(client: httpx.Client, method: str, path: str) -> None:
    reply = client.request(method, path, json=A)
    assert (reply.status_code, reply.json()["error"]) == (401, "Authorization Required")


def test_the_identical_metric_again_is_200(calls: Calls) -> None:
    post(calls, A)
    reply = calls("POST", "/metric/p.a", A)
    assert (reply.status_code, reply.json()["unit"]) == (200, "mmag")


def test_another_definition_of_a_name_is_400(calls: Calls) -> None:
    post(calls, A)
    reply = calls("POST", "/metric/p.a", A | {"unit": "mag"})
    assert (reply.status_code, reply.json()["code"]) == (400, "name_taken")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_metric_without_description_is_400(calls: Calls, method: str) -> None:
    reply = calls(method, "/metric/p.a", {"unit": "mag"})
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (400, ["body", "description"])


@pytest.mark.parametrize(
    ("path", "document", "loc"),
    [
        ("/metric/p.a", A | {"unit": "furlongs"}, ["body", "unit"]),
        ("/metric/p.a", A | {"tags": 3}, ["body", "tags"]),
        ("/metric/p.a", A | {"name": "p.b"}, ["body", "name"]),
        ("/metric/nodot", {"description": "x"}, ["body", "name"]),
        ("/metric/squash.a", {"description": "x"}, ["body", "name"]),
        ("/metric/p.run_id", {"description": "x"}, ["body", "name"]),
    ],
)
def test_what_is_no_metric_is_422_with_its_place(
    calls: Calls, path: str, document: dict[str, Any], loc: list[str]
) -> None:
    reply = calls("POST", path, document)
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, loc)


def test_a_body_that_is_no_object_is_422(calls: Calls) -> None:
    assert calls("POST", "/metric/p.a", [A]).status_code == 422


def test_keys_that_are_none_of_a_metric_are_ignored(calls: Calls) -> None:
    assert calls("POST", "/metric/p.a", A | {"id": 3, "origin": "yaml"}).status_code == 201
    assert calls("GET", "/metric/p.a").json()["origin"] == "api"


def test_what_get_returns_can_be_put_back(calls: Calls) -> None:
    post(calls, A)
    document = calls("GET", "/metric/p.a").json()
    reply = calls("PUT", "/metric/p.a", document | {"description": "Better."})
    assert reply.status_code == 200
    assert calls("GET", "/metric/p.a").json() == document | {"description": "Better."}


def test_a_name_of_128_characters_is_accepted(calls: Calls) -> None:
    assert calls("POST", f"/metric/{LONG}", {"description": "x"}).status_code == 201
    assert calls("GET", f"/metric/{LONG}").json()["name"] == LONG


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unknown_metric_is_404(calls: Calls, method: str) -> None:
    reply = calls(method, "/metric/p.none", {"description": "x"} if method == "PUT" else None)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_a_list_tells_how_many_were_created(calls: Calls) -> None:
    reply = calls("POST", "/metrics", {"metrics": [A, {"name": "p.b"}]})
    assert reply.status_code == 201
    assert reply.json() == {
        "message": "2 metrics created.",
        "stored": 2,
        "unchanged": 0,
        "requeued_jobs": 0,
    }


def test_a_list_of_which_all_exist_is_200(calls: Calls) -> None:
    post(calls, A)
    reply = calls("POST", "/metrics", {"metrics": [A]})
    assert reply.status_code == 200
    assert reply.json()["message"] == "1 metric existed already, with the same definition."


@pytest.mark.parametrize(
    ("document", "status_code"),
    [({}, 400), ({"metrics": None}, 400), ({"metrics": {}}, 422), ({"metrics": ["p.a"]}, 422)],
)
def test_what_is_no_list_of_metrics_is_4xx(
    calls: Calls, document: dict[str, Any], status_code: int
) -> None:
    reply = calls("POST", "/metrics", document)
    assert (reply.status_code, reply.json()["detail"][0]["loc"][:2]) == (
        status_code,
        ["body", "metrics"],
    )


def test_a_list_is_all_or_nothing(calls: Calls) -> None:
    reply = calls("POST", "/metrics", {"metrics": [A, {"name": "p.b", "unit": "furlongs"}]})
    assert reply.json()["detail"][0]["loc"] == ["body", "metrics", 1, "unit"]
    assert calls("GET", "/metrics").json() == {"metrics": [], "next": None}


def test_the_next_links_lead_through_all_metrics(calls: Calls) -> None:
    post(calls, *[{"name": name} for name in ("p.a", "p.b", "q.a", "p.c")])
    seen, url = [], "/metrics?limit=2&package=p"
    while url:
        page = calls("GET", url).json()
        seen.append([item["name"] for item in page["metrics"]])
        url = page["next"]
    assert seen == [["p.a", "p.b"], ["p.c"]]


def test_another_user_may_not_change_a_metric(client: httpx.Client, calls: Calls) -> None:
    post(calls, A)
    other = log_in(client, "bob")
    assert other("PUT", "/metric/p.a", {"description": "x"}).status_code == 403
    assert other("DELETE", "/metric/p.a").status_code == 403


def test_a_deleted_metric_is_404(calls: Calls) -> None:
    post(calls, A)
    assert "`p.a`" in calls("DELETE", "/metric/p.a").json()["message"]
    assert calls("GET", "/metric/p.a").status_code == 404


def test_declaring_a_measured_metric_tells_how_many_jobs_are_sent_again(calls: Calls) -> None:
    job = {"measurements": [{"metric": "p.a", "value": 2, "unit": "mag"}]}
    assert calls("POST", "/job", job).status_code == 202
    assert calls("GET", "/stats").json()["stats"]["number_of_measurements"] == 1
    reply = calls("POST", "/metric/p.a", A).json()
    assert (reply["requeued_jobs"], "1 job" in reply["message"]) == (1, True)
    assert calls("GET", "/job/1").json()["measurements"][0]["value"] == 2000.0


def test_the_replies_are_as_documented(calls: Calls) -> None:
    ChangedMetric.model_validate(calls("POST", "/metric/p.a", A).json(), strict=True)
    MetricObject.model_validate(calls("GET", "/metric/p.a").json(), strict=True)
    MetricPage.model_validate(calls("GET", "/metrics").json(), strict=True)


@pytest.mark.parametrize(("unit", "count"), [("mmag", 0), ("mag", 1)])
def test_declaring_a_metric_in_its_own_unit_sends_nothing_again(
    calls: Calls, unit: str, count: int
) -> None:
    measurement = {"metric": "p.a", "value": 1.0, "unit": "mmag"}
    calls("POST", "/job", {"measurements": [measurement]})
    reply = calls("POST", "/metric/p.a", A | {"unit": unit})
    assert reply.json()["requeued_jobs"] == count
