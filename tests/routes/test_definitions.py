from typing import Any

import httpx
import msgspec
import pytest

from squash_api.definitions.changes import Change
from squash_api.routes.definition_objects import (
    ChangedMetric,
    ChangedSpec,
    MetricObject,
    SpecObject,
)
from squash_api.routes.definitions import changed_list, changed_one
from tests.support.calls import Calls, log_in

A = {"name": "p.a", "description": "What it is.", "unit": "mmag", "tags": ["x"]}
LONG = "p." + "m" * 126


def post_metrics(calls: Calls, *documents: dict[str, Any]) -> None:
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
    post_metrics(calls, A)
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
    post_metrics(calls, A)
    reply = calls("POST", "/metric/p.a", A)
    assert (reply.status_code, reply.json()["unit"]) == (200, "mmag")


def test_another_definition_of_a_metric_is_400(calls: Calls) -> None:
    post_metrics(calls, A)
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
    post_metrics(calls, A)
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
    post_metrics(calls, A)
    reply = calls("POST", "/metrics", {"metrics": [A]})
    assert reply.status_code == 200
    assert reply.json()["message"] == "1 metric already existed with the same definition."


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
    post_metrics(calls, *[{"name": name} for name in ("p.a", "p.b", "q.a", "p.c")])
    seen, url = [], "/metrics?limit=2&package=p"
    while url:
        page = calls("GET", url).json()
        seen.append([item["name"] for item in page["metrics"]])
        url = page["next"]
    assert seen == [["p.a", "p.b"], ["p.c"]]


def test_another_user_may_not_change_a_metric(client: httpx.Client, calls: Calls) -> None:
    post_metrics(calls, A)
    other = log_in(client, "bob")
    assert other("PUT", "/metric/p.a", {"description": "x"}).status_code == 403
    assert other("DELETE", "/metric/p.a").status_code == 403


def test_a_deleted_metric_is_404(calls: Calls) -> None:
    post_metrics(calls, A)
    assert "`p.a`" in calls("DELETE", "/metric/p.a").json()["message"]
    assert calls("GET", "/metric/p.a").status_code == 404


@pytest.mark.parametrize(("unit", "count"), [("mmag", 0), ("mag", 1)])
def test_declaring_a_metric_in_its_own_unit_sends_nothing_again(
    calls: Calls, unit: str, count: int
) -> None:
    measurement = {"metric": "p.a", "value": 1.0, "unit": "mmag"}
    calls("POST", "/job", {"measurements": [measurement]})
    document = {"name": "p.a", "description": "What it is.", "unit": unit}
    assert calls("POST", "/metric/p.a", document).json()["requeued_jobs"] == count


def test_declaring_a_measured_metric_tells_how_many_jobs_are_sent_again(calls: Calls) -> None:
    job = {"measurements": [{"metric": "p.a", "value": 2, "unit": "mag"}]}
    assert calls("POST", "/job", job).status_code == 202
    assert calls("GET", "/stats").json()["stats"]["number_of_measurements"] == 1
    reply = calls("POST", "/metric/p.a", A).json()
    assert (reply["requeued_jobs"], "1 job" in reply["message"]) == (1, True)
    assert calls("GET", "/job/1").json()["measurements"][0]["value"] == 2000.0


def test_replies_about_metrics_are_as_documented(calls: Calls) -> None:
    msgspec.convert(calls("POST", "/metric/p.a", A).json(), ChangedMetric)
    msgspec.convert(calls("GET", "/metric/p.a").json(), MetricObject)
    msgspec.convert(calls("GET", "/metrics").json()["metrics"], list[MetricObject])


LIMIT = {"value": 5.0, "unit": "mmag", "operator": "<="}
DESIGN = {"name": "p.a.design", "threshold": LIMIT, "tags": ["design"]}


@pytest.fixture
def declared(calls: Calls) -> Calls:
    """A user, and metrics p.a in mmag and p.b without unit."""
    metrics = [{"name": "p.a", "unit": "mmag"}, {"name": "p.b"}]
    assert calls("POST", "/metrics", {"metrics": metrics}).status_code == 201
    return calls


def post_specifications(calls: Calls, *documents: dict[str, Any]) -> None:
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
    post_specifications(declared, DESIGN)
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
        ({"type": "ranges"}, ["body", "type"]),
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
    post_specifications(declared, DESIGN)
    assert declared("POST", "/spec/p.a.design", DESIGN).status_code == 200
    assert declared("POST", "/specs", {"specs": [DESIGN]}).status_code == 200


def test_another_definition_of_a_specification_is_400(declared: Calls) -> None:
    post_specifications(declared, DESIGN)
    reply = declared("POST", "/specs", {"specs": [DESIGN | {"tags": []}]})
    assert (reply.status_code, reply.json()["code"]) == (400, "name_taken")


def test_putting_a_specification_replaces_it(declared: Calls) -> None:
    post_specifications(declared, DESIGN)
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
    post_specifications(declared, DESIGN)
    other = log_in(client, "bob")
    assert other("PUT", "/spec/p.a.design", {"threshold": LIMIT}).status_code == 403
    assert other("DELETE", "/spec/p.a.design").status_code == 403


def test_a_deleted_specification_is_404(declared: Calls) -> None:
    post_specifications(declared, DESIGN)
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
    post_specifications(
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
    post_specifications(declared, *[DESIGN | {"name": f"p.a.s{i}"} for i in range(5)])
    seen, url = [], "/specs?limit=2&tag=design"
    while url:
        page = declared("GET", url).json()
        seen.append([item["name"] for item in page["specs"]])
        url = page["next"]
    assert seen == [["p.a.s0", "p.a.s1"], ["p.a.s2", "p.a.s3"], ["p.a.s4"]]


def test_a_job_is_judged_by_what_was_in_force_when_it_came(declared: Calls) -> None:
    post_specifications(declared, DESIGN)
    job = {"measurements": [{"metric": "p.a", "value": 6, "unit": "mmag"}]}
    assert declared("POST", "/job", job).status_code == 202
    declared("PUT", "/spec/p.a.design", {"threshold": LIMIT | {"value": 7.0}})
    verdicts = [
        declared("GET", f"/job/1/report?specs={specs}").json()[0]["status"]
        for specs in ("receipt", "now")
    ]
    assert verdicts == ["failed", "passed"]


def test_replies_about_specifications_are_as_documented(declared: Calls) -> None:
    msgspec.convert(declared("POST", "/spec/p.a.design", DESIGN).json(), ChangedSpec)
    msgspec.convert(declared("GET", "/spec/p.a.design").json(), SpecObject)
    msgspec.convert(declared("GET", "/specs").json()["specs"], list[SpecObject])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(("p.a",), 0, 0, ()), "1 metric created."),
        (
            Change(("p.a", "p.b"), 1, 0, ()),
            "2 metrics created. 1 metric already existed with the same definition.",
        ),
        (Change((), 3, 0, ()), "3 metrics already existed with the same definition."),
        (Change((), 0, 0, ()), "0 metrics created."),
        (
            Change(("p.a",), 0, 12, ("Mind this.",)),
            "1 metric created. Derived again, and sent to InfluxDB again: 12 jobs. Mind this.",
        ),
    ],
)
def test_the_message_of_a_list_says_what_was_done(change: Change, message: str) -> None:
    assert changed_list(change, noun="metric")["message"] == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(("p.a",), 0, 0, ()), "`p.a` changed."),
        (Change((), 1, 0, ()), "`p.a` already had this definition."),
        (
            Change(("p.a",), 0, 1, ()),
            "`p.a` changed. Derived again, and sent to InfluxDB again: 1 job.",
        ),
    ],
)
def test_the_message_of_one_definition_says_what_was_done(change: Change, message: str) -> None:
    assert changed_one(change, name="p.a", verb="changed")["message"] == message


@pytest.mark.parametrize("key", ["metrics", "specs"])
@pytest.mark.parametrize("is_null", [False, True])
def test_a_body_without_its_list_lacks_a_field(calls: Calls, key: str, *, is_null: bool) -> None:
    reply = calls("POST", f"/{key}", {key: None} if is_null else {})
    assert (reply.status_code, reply.json()["code"]) == (400, "missing_parameter")


@pytest.mark.parametrize("key", ["metrics", "specs"])
def test_a_body_with_something_else_than_a_list_is_refused(calls: Calls, key: str) -> None:
    reply = calls("POST", f"/{key}", {key: {}})
    assert (reply.status_code, reply.json()["message"]) == (422, f"`{key}` must be a list.")


@pytest.mark.parametrize("number", ["12345678901234567890123", "0.12345678901234567891"])
def test_a_query_for_a_number_that_a_float_rounds_must_be_text(calls: Calls, number: str) -> None:
    post_metrics(calls, A)
    threshold = '{"value": 0.1000000000000000055511, "unit": "mmag", "operator": "<"}'
    body = f'{{"threshold": {threshold}, "metadata_query": {{"ci_id": {number}}}}}'
    headers = {"Content-Type": "application/json"}
    reply = calls("POST", "/spec/p.a.x", content=body, headers=headers)
    assert (reply.status_code, "put it in quotes" in reply.json()["message"]) == (422, True)
    quoted = body.replace(number, f'"{number}"')
    reply = calls("POST", "/spec/p.a.x", content=quoted, headers=headers)
    assert (reply.status_code, reply.json()["threshold"]["value"]) == (201, 0.1)


@pytest.mark.sqlite
def test_specifications_of_every_kind_are_defined_in_the_api(calls: Calls) -> None:
    post_metrics(calls, A)
    keys: dict[str, Any] = {
        "threshold": {"value": 5.0, "unit": "mmag", "operator": "<="},
        "range": {"low": 1.0, "unit": "mmag"},
        "trend": {"floor": 0.2, "unit": "mmag", "direction": "up"},
        "compound": {"all": ["p.a.threshold", "p.a.range"]},
    }
    specs = [{"name": f"p.a.{kind}", kind: key} for kind, key in keys.items()]
    specs[1]["metadata_query"] = {"airmass": {">=": 1.2}, "filter_name": {"in": ["g", "r"]}}
    reply = calls("POST", "/specs", {"specs": specs})
    assert reply.status_code == 201, reply.text
    found = {item["name"]: item for item in calls("GET", "/specs").json()["specs"]}
    assert {item["type"] for item in found.values()} == {*keys}
    assert found["p.a.range"]["range"] == keys["range"]
    assert found["p.a.range"]["metadata_query"] == specs[1]["metadata_query"]
    assert found["p.a.trend"]["trend"] == keys["trend"] | {
        "n": 30,
        "offset": 0,
        "k": 5.0,
        "min_history": 10,
    }
    assert found["p.a.compound"]["compound"] == keys["compound"] | {"over": "job"}


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("spec", "place", "words"),
    [
        ({"type": "rnage", "range": {"low": 1, "unit": ""}}, "type", "did you mean 'range'?"),
        ({"tags": []}, "threshold", "the threshold is missing"),
        ({"range": {"low": 2, "high": 1, "unit": ""}}, "range.low", "low: 2 is above high: 1"),
        (
            {
                "range": {"low": 2, "unit": ""},
                "threshold": {"value": 1, "unit": "", "operator": "<"},
            },
            "range",
            "are of different types: write type",
        ),
        ({"compound": {"any": ["p.a.y", "p.a.z"]}}, "compound", "there is no specification"),
        ({"compound": {"any": ["p.a.x", "p.a.z"]}}, "compound", "'p.a.x' counts itself"),
        ({"trend": {"floor": 1, "unit": "s"}}, "trend.unit", "does not convert"),
    ],
)
def test_a_wrong_kind_is_named_with_its_place(
    calls: Calls, spec: dict[str, Any], place: str, words: str
) -> None:
    post_metrics(calls, A)
    reply = calls("POST", "/spec/p.a.x", spec)
    assert reply.status_code == 422
    found = [(".".join(map(str, item["loc"][1:])), item["msg"]) for item in reply.json()["detail"]]
    assert any(loc == place and words in message for loc, message in found)
