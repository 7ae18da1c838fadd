from typing import Any

import httpx
import pytest

from squash_api.routes.definitions import ChangedSpec, SpecObject, SpecPage
from tests.support.calls import Calls, log_in

LIMIT = {"value": 5.0, "unit": "mmag", "operator": "<="}
DESIGN = {"name": "p.a.design", "threshold": LIMIT, "tags": ["design"]}


@pytest.fixture
def declared(calls: Calls) -> Calls:
    """A user, and metrics p.a in mmag and p.b without unit."""
    metrics = [{"name": "p.a", "unit": "mmag"}, {"name": "p.b"}]
    assert calls("POST", "/metrics", {"metrics": metrics}).status_code == 201
    return calls


def post(calls: Calls, *documents: dict[str, Any]) -> None:
    reply = calls("POST", "/specs", {"specs": documents})
    assert reply.status_code == 201, reply.text


def test_a_posted_specification_comes_back(declared: Calls) -> None:
    document = DESIGN | {
        "metadata_query": {"filter_name": "r", "visit": 3},
        "alert": {"level": "critical", "max_age": "7d"},
    }
    reply = declared("POST", "/spec/p.a.design", document)
    assert reply.status_code == 201
    expected = {
        "name": "p.a.design",
        "metric": "p.a",
        "threshold": LIMIT,
        "tags": ["design"],
        "metadata_query": {"filter_name": "r", "visit": 3},
        "type": "threshold",
        "alert": {"level": "critical", "max_age": "7d"},
        "origin": "api",
        "source": None,
    }
    assert declared("GET", "/spec/p.a.design").json() == expected
    assert reply.json() == expected | {"message": "`p.a.design` created.", "requeued_jobs": 0}


def test_specifications_are_read_without_logging_in(client: httpx.Client, declared: Calls) -> None:
    post(declared, DESIGN)
    assert client.get("/specs").status_code == 200
    assert client.get("/spec/p.a.design").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/specs"),
        ("POST", "/spec/p.a.design"),
        ("PUT", "/spec/p.a.design"),
        ("DELETE", "/spec/p.a.design"),
    ],
)
def test_changing_specifications_needs_a_token(
    client: httpx.Client, method: str, path: str
) -> None:
    assert client.request(method, path, json=DESIGN).status_code == 401


def test_a_specification_of_an_undeclared_metric_is_404(declared: Calls) -> None:
    reply = declared("POST", "/spec/p.z.design", {"threshold": LIMIT})
    assert (reply.status_code, "p.z" in reply.json()["message"]) == (404, True)


def test_a_list_with_an_undeclared_metric_is_422_and_stores_nothing(declared: Calls) -> None:
    reply = declared("POST", "/specs", {"specs": [DESIGN, DESIGN | {"name": "p.z.x"}]})
    assert reply.status_code == 422
    assert "p.z" in reply.json()["message"]
    assert reply.json()["detail"][0]["loc"] == ["body", "specs", 1, "name"]
    assert declared("GET", "/specs").json() == {"specs": [], "next": None}


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"threshold": None}, ["body", "threshold"]),
        ({"threshold": {"value": 5, "operator": "<"}}, ["body", "threshold", "unit"]),
        ({"threshold": LIMIT | {"unit": "s"}}, ["body", "threshold", "unit"]),
        ({"threshold": LIMIT | {"operator": "~"}}, ["body", "threshold", "operator"]),
        ({"threshold": LIMIT | {"value": "many"}}, ["body", "threshold", "value"]),
        ({"metadata_query": {"filter_name": None}}, ["body", "metadata_query", "filter_name"]),
        ({"tags": [3]}, ["body", "tags"]),
        ({"type": "range"}, ["body", "type"]),
        ({"name": "p.a.other"}, ["body", "name"]),
    ],
)
def test_what_is_no_specification_is_422_with_its_place(
    declared: Calls, change: dict[str, Any], loc: list[str]
) -> None:
    reply = declared("POST", "/spec/p.a.design", DESIGN | change)
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, loc)


def test_a_name_with_one_dot_is_422(declared: Calls) -> None:
    assert declared("POST", "/spec/p.a", {"threshold": LIMIT}).status_code == 422


def test_the_identical_specification_again_is_200(declared: Calls) -> None:
    post(declared, DESIGN)
    assert declared("POST", "/spec/p.a.design", DESIGN).status_code == 200
    assert declared("POST", "/specs", {"specs": [DESIGN]}).status_code == 200


def test_another_definition_of_a_name_is_400(declared: Calls) -> None:
    post(declared, DESIGN)
    reply = declared("POST", "/specs", {"specs": [DESIGN | {"tags": []}]})
    assert (reply.status_code, reply.json()["code"]) == (400, "name_taken")


def test_putting_a_specification_replaces_it(declared: Calls) -> None:
    post(declared, DESIGN)
    reply = declared("PUT", "/spec/p.a.design", {"threshold": LIMIT | {"value": 7.0}})
    assert (reply.status_code, reply.json()["message"]) == (200, "`p.a.design` changed.")
    found = declared("GET", "/spec/p.a.design").json()
    assert (found["threshold"]["value"], found["tags"]) == (7.0, [])


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unknown_specification_is_404(declared: Calls, method: str) -> None:
    body = {"threshold": LIMIT} if method == "PUT" else None
    reply = declared(method, "/spec/p.a.none", body)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_another_user_may_not_change_a_specification(client: httpx.Client, declared: Calls) -> None:
    post(declared, DESIGN)
    other = log_in(client, "bob")
    assert other("PUT", "/spec/p.a.design", {"threshold": LIMIT}).status_code == 403
    assert other("DELETE", "/spec/p.a.design").status_code == 403


def test_a_deleted_specification_is_404(declared: Calls) -> None:
    post(declared, DESIGN)
    assert "`p.a.design`" in declared("DELETE", "/spec/p.a.design").json()["message"]
    assert declared("GET", "/spec/p.a.design").status_code == 404


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("metric=p.b", ["p.b.hsc"]),
        ("dataset_name=HSC%20RC2", ["p.b.hsc"]),
        ("filter_name=r", ["p.a.r"]),
        ("tag=design", ["p.a.r"]),
        ("tag=none", []),
    ],
)
def test_specifications_are_filtered(declared: Calls, query: str, names: list[str]) -> None:
    post(
        declared,
        DESIGN | {"name": "p.a.r", "metadata_query": {"filter_name": "r"}},
        {
            "name": "p.b.hsc",
            "threshold": LIMIT | {"unit": ""},
            "metadata_query": {"dataset_name": "HSC RC2"},
        },
    )
    found = declared("GET", f"/specs?{query}").json()["specs"]
    assert [item["name"] for item in found] == names


def test_the_next_links_lead_through_all_specifications(declared: Calls) -> None:
    post(declared, *[DESIGN | {"name": f"p.a.s{i}"} for i in range(5)])
    seen, url = [], "/specs?limit=2&tag=design"
    while url:
        page = declared("GET", url).json()
        seen.append([item["name"] for item in page["specs"]])
        url = page["next"]
    assert seen == [["p.a.s0", "p.a.s1"], ["p.a.s2", "p.a.s3"], ["p.a.s4"]]


def test_a_job_is_judged_by_what_was_in_force_when_it_came(declared: Calls) -> None:
    post(declared, DESIGN)
    job = {"measurements": [{"metric": "p.a", "value": 6, "unit": "mmag"}]}
    assert declared("POST", "/job", job).status_code == 202
    declared("PUT", "/spec/p.a.design", {"threshold": LIMIT | {"value": 7.0}})
    verdicts = [
        declared("GET", f"/job/1/report?specs={specs}").json()[0]["status"]
        for specs in ("receipt", "now")
    ]
    assert verdicts == ["failed", "passed"]


def test_the_replies_are_as_documented(declared: Calls) -> None:
    reply = declared("POST", "/spec/p.a.design", DESIGN).json()
    ChangedSpec.model_validate(reply, strict=True)
    SpecObject.model_validate(declared("GET", "/spec/p.a.design").json(), strict=True)
    SpecPage.model_validate(declared("GET", "/specs").json(), strict=True)
