from typing import Any

import pytest

from tests.support.calls import Calls


def new_job(calls: Calls, *measurements: dict[str, Any]) -> int:
    reply = calls("POST", "/job", {"measurements": list(measurements)})
    assert reply.status_code == 202, reply.text
    job: int = reply.json()["id"]
    return job


def measured(metric: str, value: Any, unit: Any = "mag", **more: Any) -> dict[str, Any]:
    return {"metric": metric, "value": value, "unit": unit, **more}


def of_job(calls: Calls, job: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = calls("GET", f"/measurement/{job}").json()["measurements"]
    return found


def test_a_measurement_has_the_keys_of_old_and_says_whose_it_is(shared_calls: Calls) -> None:
    job = new_job(shared_calls, measured("p.a", 1, identifier="i1"))
    assert of_job(shared_calls, job) == [
        {"metric": "p.a", "value": 1.0, "unit": "mag", "identifier": "i1", "job": job, "blobs": []}
    ]


def test_an_absent_value_is_null_in_the_metrics_unit(shared_calls: Calls) -> None:
    job = new_job(shared_calls, measured("p.a", 1))
    job = new_job(shared_calls, measured("p.a", None, None))
    (shown,) = of_job(shared_calls, job)
    assert (shown["value"], shown["unit"]) == (None, "mag")


def test_a_skipped_value_is_shown_as_posted_with_the_reason(shared_calls: Calls) -> None:
    job = new_job(shared_calls, measured("s.a", "seven", "furlong"))
    (shown,) = of_job(shared_calls, job)
    assert (shown["value"], shown["unit"]) == ("seven", "furlong")
    assert shown["skipped"] == "the value is text, not a number"


def test_an_added_measurement_is_201_and_there(shared_calls: Calls) -> None:
    job = new_job(shared_calls, measured("p.a", 1))
    reply = shared_calls("POST", f"/measurement/{job}", measured("p.b", 2, "m", identifier="i"))
    expected = measured("p.b", 2.0, "m", identifier="i", job=job, blobs=[])
    assert (reply.status_code, reply.json()) == (201, expected)
    assert of_job(shared_calls, job)[1] == expected
    assert shared_calls("GET", f"/job/{job}").json()["measurements"][1] == expected


def test_an_added_measurement_replaces_the_one_of_its_metric(shared_calls: Calls) -> None:
    job = new_job(shared_calls, measured("p.a", 1))
    shared_calls("POST", f"/measurement/{job}", measured("p.a", 2500, "mmag"))
    assert [(item["value"], item["unit"]) for item in of_job(shared_calls, job)] == [(2.5, "mag")]


@pytest.mark.parametrize("value", [None, 0, -1.5, 2**70])
def test_numbers_and_null_are_accepted(shared_calls: Calls, value: Any) -> None:
    job = new_job(shared_calls)
    reply = shared_calls("POST", f"/measurement/{job}", measured("n.a", value, None))
    assert reply.status_code == 201
    assert of_job(shared_calls, job)[0]["value"] == (None if value is None else float(value))


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (measured("p.a", "1"), "value"),
        (measured("p.a", value=True), "value"),
        (measured("p.a", [1]), "value"),
        (measured("p.a", 1, 3), "unit"),
        (measured("p.a", 1, identifier=3), "identifier"),
        (measured("p.a", 1, identifier=[{}]), "identifier"),
        ({"metric": None, "value": 1, "unit": "m"}, "metric"),
        ({"metric": 3, "value": 1, "unit": "m"}, "metric"),
    ],
)
def test_wrong_types_are_422_and_named(
    shared_calls: Calls, document: dict[str, Any], key: str
) -> None:
    job = new_job(shared_calls)
    reply = shared_calls("POST", f"/measurement/{job}", document)
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["body", key])
    assert of_job(shared_calls, job) == []


@pytest.mark.parametrize(
    ("metric", "unit"),
    [("p.a", "m"), ("p.a", "no unit"), ("nodot", "m"), ("p.run_id", "m"), ("a\0.b", "m")],
)
def test_what_a_job_would_have_skipped_is_422(shared_calls: Calls, metric: str, unit: str) -> None:
    job = new_job(shared_calls, measured("p.a", 1))
    reply = shared_calls("POST", f"/measurement/{job}", measured(metric, 1, unit))
    assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "skipped")
    assert len(of_job(shared_calls, job)) == 1


def test_the_first_value_gives_a_metric_its_unit(shared_calls: Calls) -> None:
    job = new_job(shared_calls)
    shared_calls("POST", f"/measurement/{job}", measured("first.a", 1, "mag"))
    assert (
        shared_calls("POST", f"/measurement/{job}", measured("first.a", 1, "m")).status_code == 422
    )
    posted = new_job(shared_calls, measured("first.a", 1000, "mmag"))
    assert of_job(shared_calls, posted)[0]["value"] == 1.0


def test_adding_to_an_unknown_or_deleted_job_is_404(shared_calls: Calls) -> None:
    job = new_job(shared_calls)
    shared_calls("DELETE", f"/job/{job}")
    for number in (job, 10**9):
        reply = shared_calls("POST", f"/measurement/{number}", measured("p.a", 1))
        assert reply.status_code == 404


def test_adding_needs_a_token(shared_calls: Calls) -> None:
    reply = shared_calls.client.post("/measurement/1", json=measured("p.a", 1))
    assert reply.status_code == 401


def test_the_list_has_the_measurements_of_all_jobs_but_deleted_ones(calls: Calls) -> None:
    jobs = [new_job(calls, measured("p.a", n), measured("p.b", n)) for n in range(4)]
    calls("DELETE", f"/job/{jobs[1]}")
    body = calls("GET", "/measurements").json()
    assert [(item["job"], item["metric"]) for item in body["measurements"]] == [
        (job, metric) for job in (jobs[0], jobs[2], jobs[3]) for metric in ("p.a", "p.b")
    ]


def test_a_page_may_begin_inside_a_deleted_job(calls: Calls) -> None:
    jobs = [new_job(calls, measured("p.a", n), measured("p.b", n)) for n in range(2)]
    link = calls("GET", "/measurements?limit=1").json()["next"]
    calls("DELETE", f"/job/{jobs[0]}")
    found = calls("GET", link.removeprefix("http://127.0.0.1:8000")).json()["measurements"]
    assert [(item["job"], item["metric"]) for item in found] == [(jobs[1], "p.a")]
