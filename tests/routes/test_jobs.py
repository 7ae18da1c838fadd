import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.in_process import service

VALUE = 7.761596740329379


def measured(metric: str = "p.a", value: Any = VALUE, unit: Any = "mag", **more: Any) -> Any:
    return {"metric": metric, "value": value, "unit": unit, **more}


def post(calls: Calls, *measurements: Any, **parts: Any) -> dict[str, Any]:
    """Post a job that is accepted, and return the reply."""
    reply = calls("POST", "/job", {"measurements": list(measurements), **parts})
    assert reply.status_code in {200, 202}, reply.text
    body: dict[str, Any] = reply.json()
    return body


# Posting


def test_a_202_tells_the_id_in_back_ticks_and_where_the_status_is(shared_calls: Calls) -> None:
    reply = shared_calls("POST", "/job", {"measurements": [measured()]})
    body = reply.json()
    job = body["id"]
    assert reply.status_code == 202
    assert body["message"].startswith(f"Request for creating Job `{job}` received")
    assert body["message"].split("`")[1] == str(job)
    assert body["status"] == f"http://127.0.0.1:8000/status/{job}"


def test_ids_are_whole_numbers_that_ascend(shared_calls: Calls) -> None:
    first, second = (post(shared_calls)["id"] for _ in range(2))
    assert isinstance(first, int)
    assert second > first


@pytest.mark.parametrize("path", ["/job", "/job/", "/job//"])
def test_a_trailing_slash_is_no_redirect(shared_calls: Calls, path: str) -> None:
    assert shared_calls("POST", path, {}).status_code == 202


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"packages": {}},
        {"packages": []},
        {"packages": None},
        {"packages": {"afw": {"name": "afw", "git_sha": "a1"}}},
        {"packages": [{"name": "afw", "git_sha": "a1", "unknown": 1}]},
        {"packages": {"only_a_name": {"name": "only_a_name"}}},
        {"packages": {"text": "1.0", "null": None}},
        {"env": None},
        {"env": {}},
        {"env": {"env_name": "local"}},
        {"env": {"env_name": "jenkins"}},
        {"visit": 3, "nested": {"deep": [1, "x", None]}, "filter_name": None},
    ],
)
def test_what_clients_leave_out_or_add_to_the_metadata_is_accepted(
    shared_calls: Calls, meta: dict[str, Any]
) -> None:
    job = post(shared_calls, measured(), meta=meta)["id"]
    assert shared_calls("GET", f"/job/{job}").status_code == 200


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"measurements": None, "blobs": None, "meta": None},
        {"measurements": [], "metrics": [1], "specs": "x", "_job_number": 768},
        {"measurements": measured()},
        {"measurements": [{"metric": "p.a"}]},
        {"measurements": [measured(unit=None, identifier=None, blob_refs=None, extra={"a": 1})]},
        {"measurements": [measured(metric="p." + "m" * 126)]},
        {"blobs": [{}, {"data": None}, {"identifier": "b", "name": "n", "data": {"x": {}}}]},
        {"measurements": [measured(blob_refs=["nowhere", 3, None])]},
    ],
)
def test_what_clients_leave_out_or_add_to_a_job_is_accepted(
    shared_calls: Calls, document: dict[str, Any]
) -> None:
    reply = shared_calls("POST", "/job", document)
    assert reply.status_code == 202, reply.text
    assert shared_calls("GET", f"/job/{reply.json()['id']}").status_code == 200


def test_the_reply_names_what_was_left_out_and_why(shared_calls: Calls) -> None:
    post(shared_calls, measured("left.known", 1, "mag"))
    body = post(
        shared_calls,
        measured("left.null", None),
        measured("left.text", "7"),
        measured("left.true", value=True),
        measured("left.known", 1, "m"),
        measured("left.twice", 1),
        measured("left.twice", 2),
        measured("nodot", 1),
    )
    assert body["absent"] == ["left.null"]
    assert {item["metric"]: item["reason"] for item in body["skipped"]} == {
        "left.twice": "replaced by a later measurement of the same metric",
        "left.text": "the value is text, not a number",
        "left.true": "the value is a boolean, not a number",
        "left.known": "unit 'm' does not convert to the metric's unit, 'mag'",
        "nodot": "the name has no package: write package.metric",
    }
    assert set(body["undeclared"]) == {
        "left.null",
        "left.text",
        "left.true",
        "left.known",
        "left.twice",
    }
    assert "left out: 1 absent, 5 skipped" in body["message"]


def test_bare_nan_and_infinity_are_absent_and_reported(shared_calls: Calls) -> None:
    values = [measured("p.n", float("nan")), measured("p.i", float("-inf"))]
    content = json.dumps({"measurements": values}).encode()
    assert b"NaN" in content
    headers = {"Content-Type": "application/json"}
    reply = shared_calls("POST", "/job", content=content, headers=headers)
    assert reply.json()["absent"] == ["p.n", "p.i"]
    assert "2 bare NaN or Infinity in the body were read as null" in reply.json()["notes"]


def test_strict_mode_stores_nothing_if_a_value_would_be_skipped(shared_calls: Calls) -> None:
    before = shared_calls("GET", "/stats").json()["stats"]["number_of_jobs"]
    document = {"measurements": [measured(), measured("p.x", "text")]}
    reply = shared_calls("POST", "/job?strict=true", document)
    assert (reply.status_code, reply.json()["code"]) == (422, "skipped_in_strict_mode")
    assert reply.json()["detail"] == [
        {
            "loc": ["body", "measurements", 1],
            "msg": "the value is text, not a number",
            "type": "skipped",
        }
    ]
    assert shared_calls("GET", "/stats").json()["stats"]["number_of_jobs"] == before


def test_strict_mode_forgives_what_is_absent(shared_calls: Calls) -> None:
    document = {"measurements": [measured(value=None)]}
    assert shared_calls("POST", "/job?strict=true", document).status_code == 202


# The same job again


def whole(identifier: str, value: float = 1, **meta: Any) -> dict[str, Any]:
    return {"measurements": [measured(value=value, identifier=identifier)], "meta": meta}


def test_the_same_job_again_is_200_with_the_first_id(shared_calls: Calls) -> None:
    first = shared_calls("POST", "/job", whole("again"))
    second = shared_calls("POST", "/job", whole("again"))
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json()["id"] == first.json()["id"]
    assert "received before; nothing was stored again" in second.json()["notes"]


def test_another_date_is_the_same_job(shared_calls: Calls) -> None:
    first = shared_calls("POST", "/job", whole("d", env={"date": "2020-01-01T00:00:00Z"}))
    second = shared_calls("POST", "/job", whole("d", env={"date": "2021-01-01T00:00:00Z"}))
    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])


def test_the_same_document_of_another_user_is_another_job(
    shared_client: httpx.Client, shared_calls: Calls
) -> None:
    first = post(shared_calls, **whole("theirs"))
    other = log_in(shared_client, "other")("POST", "/job", whole("theirs"))
    assert other.status_code == 202
    assert f"same measurements as job {first['id']}" in other.json()["notes"]


def test_other_content_under_the_same_identifiers_is_another_job(shared_calls: Calls) -> None:
    first = post(shared_calls, **whole("twin", 1))
    second = shared_calls("POST", "/job", whole("twin", 2))
    assert second.status_code == 202
    assert f"same measurements as job {first['id']}" in second.json()["notes"]


def test_equal_identifiers_of_other_metrics_are_not_the_same_measurements(
    shared_calls: Calls,
) -> None:
    one = [measured_as("one", "p.a"), measured_as("two", "p.b")]
    two = [measured_as("one", "p.b"), measured_as("two", "p.a")]
    first, other = post(shared_calls, measurements=one), post(shared_calls, measurements=two)
    again = post(shared_calls, measurements=two, meta={"x": 1})
    assert not any("same measurements" in note for note in other["notes"])
    assert f"same measurements as job {other['id']}" in again["notes"]
    assert first["id"] != other["id"]


def measured_as(identifier: str, metric: str) -> dict[str, Any]:
    return {"metric": metric, "value": 1.0, "unit": "", "identifier": identifier}


RUNS = [
    ("12345678901234567890123", "12345678901234567890124"),
    ("0.12345678901234567891", "0.12345678901234567892"),
    ("9007199254740993", "9007199254740992"),
]


@pytest.mark.parametrize("more", ["", ', "unknown": 1', ', "unknown": NaN'])
@pytest.mark.parametrize("numbers", RUNS)
def test_run_ids_that_a_float_rounds_are_those_that_were_sent(
    shared_calls: Calls, numbers: tuple[str, str], more: str
) -> None:
    measurement = json.dumps(measured_as("", "p.a"))
    pipeline = f"{numbers[0]}_{len(more)}"
    for number in numbers:
        meta = f'{{"env": {{"ci_id": {number}, "ci_name": "{pipeline}"}}}}'
        reply = post_text(
            shared_calls, f'{{"measurements": [{measurement}], "meta": {meta}{more}}}'
        )
        shown = shared_calls("GET", f"/job/{reply['id']}")
        assert f'"ci_id":{number}' in shown.text
    runs = shared_calls("GET", f"/runs?limit=100&pipeline={pipeline}").json()["runs"]
    assert {run["run_id"] for run in runs} == set(numbers)


def post_text(calls: Calls, body: str) -> dict[str, Any]:
    reply = calls("POST", "/job", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 202, reply.text
    found: dict[str, Any] = reply.json()
    return found


@pytest.mark.parametrize(
    ("meta", "key"),
    [
        ('{"big": 12345678901234567890123}', "big"),
        ('{"big": 9007199254740993}', "big"),
        ('{"instrument": "H\\ud800"}', "instrument"),
        ('{"a\\ud800": "H"}', "a\ufffd"),
        ('{"list": ["H\\ud800"]}', "list"),
        ('{"list": ["\\u0085"]}', "list"),
        ('{"a\\u0001b": 1.5}', "a\x01b"),
        ('{"env": {"run_id": "unknown"}}', "run_id"),
        ('{"env": {"ci_url": "https://example.com"}}', "ci_url"),
        ('{"env": {"version_tag": "unknown"}}', "version_tag"),
    ],
)
def test_whatever_is_changed_on_the_way_to_influxdb_is_listed(
    shared_calls: Calls, meta: str, key: str
) -> None:
    body = f'{{"measurements": [{{"metric": "p.a", "value": 1, "unit": ""}}], "meta": {meta}}}'
    job = post_text(shared_calls, body)
    status = shared_calls("GET", f"/status/{job['id']}").json()
    assert [item["key"] for item in status["cleaned"]] == [key]


def test_numbers_that_a_float_holds_are_listed_nowhere(shared_calls: Calls) -> None:
    meta = {"visit": 9007199254740992, "airmass": 0.30000000000000004, "seeing": 1.10}
    job = post(shared_calls, measurements=[measured_as("", "p.a")], meta=meta)
    assert shared_calls("GET", f"/status/{job['id']}").json()["cleaned"] == []


def test_jobs_with_placeholders_for_their_run_are_of_no_run(shared_calls: Calls) -> None:
    env = {"run_id": "unknown", "run_id_url": "https://example.com", "env_name": "ldf"}
    job = post(shared_calls, measurements=[measured_as("", "p.a")], meta={"env": env})
    runs = shared_calls("GET", "/runs?limit=100").json()["runs"]
    assert "unknown" not in {run["run_id"] for run in runs}
    assert job["id"]


@pytest.mark.parametrize(
    ("date", "shown"),
    [
        ("2026-11-20T23:59:60Z", "2026-11-21T00:00:00Z"),
        ("2026-11-20T24:00:00Z", "2026-11-21T00:00:00Z"),
        ("2026-W47-5", "2026-11-20T00:00:00Z"),
        ("2026-324T03:12:44Z", "2026-11-20T03:12:44Z"),
    ],
)
def test_rare_forms_of_iso_8601_are_read(shared_calls: Calls, date: str, shown: str) -> None:
    job = post(shared_calls, measurements=[measured_as("", "p.a")], meta={"env": {"date": date}})
    assert shared_calls("GET", f"/job/{job['id']}").json()["date_created"] == shown


@pytest.mark.parametrize("identifier", [None, ""])
def test_without_identifiers_every_job_is_new(shared_calls: Calls, identifier: Any) -> None:
    replies = [shared_calls("POST", "/job", whole(identifier)) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [202, 202]


def test_a_deleted_job_is_never_the_same(shared_calls: Calls) -> None:
    first = post(shared_calls, **whole("gone"))
    shared_calls("DELETE", f"/job/{first['id']}")
    again = shared_calls("POST", "/job", whole("gone"))
    assert again.status_code == 202
    assert again.json()["id"] != first["id"]
    assert not any("same measurements" in note for note in again.json()["notes"])


def test_the_same_job_many_times_at_once_is_stored_once(shared_calls: Calls) -> None:
    replies: list[httpx.Response] = []
    barrier = threading.Barrier(8)

    def run() -> None:
        barrier.wait()
        replies.append(shared_calls("POST", "/job", whole("storm")))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reply.status_code for reply in replies) == [200] * 7 + [202]
    assert len({reply.json()["id"] for reply in replies}) == 1


# Time


def test_the_date_of_the_environment_is_the_time_of_the_job(shared_calls: Calls) -> None:
    date = "2018-07-30T18:25:52.5+00:00"
    body = post(shared_calls, measured(), meta={"env": {"date": date}})
    shown = shared_calls("GET", f"/job/{body['id']}").json()
    assert (shown["time_ns"], shown["date_created"]) == (
        1_532_975_152_500_000_000,
        "2018-07-30T18:25:52Z",
    )
    assert body["notes"] == []


@pytest.mark.parametrize("date", ["yesterday", "1969-12-31T00:00:00Z", "2999-01-01T00:00:00Z", 3])
def test_a_date_that_cannot_be_is_reported(shared_calls: Calls, date: Any) -> None:
    body = post(shared_calls, measured(), meta={"env": {"date": date}})
    shown = shared_calls("GET", f"/job/{body['id']}").json()
    assert shown["date_created"] == shown["date_received"]
    assert any("the time of receipt is used" in note for note in body["notes"])


def test_no_two_jobs_share_a_time(shared_calls: Calls) -> None:
    meta = {"env": {"date": "2019-01-01T00:00:00Z"}}
    jobs = [post(shared_calls, measured(), meta=meta)["id"] for _ in range(5)]
    times = [shared_calls("GET", f"/job/{job}").json()["time_ns"] for job in jobs]
    assert [time - times[0] for time in times] == [0, 1, 2, 3, 4]


# Reading


def test_a_job_has_the_keys_of_old(shared_calls: Calls) -> None:
    job = post(shared_calls, measured())["id"]
    shown = shared_calls("GET", f"/job/{job}").json()
    assert {"id", "date_created", "ci_dataset", "s3_uri", "measurements", "meta"} <= set(shown)
    assert shown["id"] == job


@pytest.mark.parametrize("value", [VALUE, 5e-324, 1.7976931348623157e308, -0.1, 2**53 + 1, 0])
def test_a_value_comes_back_to_the_last_bit(shared_calls: Calls, value: float) -> None:
    job = post(shared_calls, measured("bits.a", value, "mag"))["id"]
    (shown,) = shared_calls("GET", f"/job/{job}").json()["measurements"]
    assert (shown["value"], shown["unit"]) == (float(value), "mag")


def test_values_come_back_in_the_unit_of_the_metric(shared_calls: Calls) -> None:
    post(shared_calls, measured("unit.a", 1, "mag"))
    job = post(shared_calls, measured("unit.a", 2500, "mmag"))["id"]
    (shown,) = shared_calls("GET", f"/job/{job}").json()["measurements"]
    assert (shown["value"], shown["unit"]) == (2.5, "mag")


def test_packages_come_back_as_a_list_whatever_they_were(shared_calls: Calls) -> None:
    posted = {"b": {"name": "b", "git_sha": "1"}, "a": {"git_sha": "2", "git_url": "u"}}
    expected = [
        {"name": "a", "git_sha": "2", "git_url": "u", "git_branch": None, "eups_version": None},
        {"name": "b", "git_sha": "1", "git_url": None, "git_branch": None, "eups_version": None},
    ]
    for packages in (posted, [{"name": name, **entry} for name, entry in posted.items()]):
        job = post(shared_calls, measured(), meta={"packages": packages})["id"]
        assert shared_calls("GET", f"/job/{job}").json()["meta"]["packages"] == expected


def test_metadata_comes_back_as_posted(shared_calls: Calls) -> None:
    meta = {"env": {"env_name": "ldf", "status": 0}, "Ω": ["x", {"y": None}], "a b": True}
    job = post(shared_calls, measured(), meta=meta)["id"]
    assert shared_calls("GET", f"/job/{job}").json()["meta"] == meta | {"packages": []}


@pytest.mark.parametrize(
    ("meta", "dataset"),
    [
        ({"ci_dataset": "HSC RC2"}, "HSC RC2"),
        ({"env": {"dataset": "HSC RC2"}}, "HSC RC2"),
        ({"env": {"ci_dataset": "x y"}, "dataset": "HSC RC2"}, "HSC RC2"),
        ({"ci_dataset": "a\nb", "dataset": "other"}, "ab"),
        ({"ci_dataset": "", "dataset": "other one"}, "other one"),
        ({"dataset": 3.0}, "3"),
        ({"nested": {"dataset": "far away"}}, "far_away"),
        ({}, None),
    ],
)
def test_the_dataset_is_in_the_words_of_the_job(
    shared_calls: Calls, meta: dict[str, Any], dataset: str | None
) -> None:
    job = post(shared_calls, measured(), meta=meta)["id"]
    assert shared_calls("GET", f"/job/{job}").json()["ci_dataset"] == dataset


def test_blobs_of_a_measurement_are_linked_by_name(shared_calls: Calls) -> None:
    job = post(
        shared_calls,
        measured(blob_refs=["b1", "missing", ["b1"]]),
        blobs=[{"identifier": "b1", "name": "n1"}, {"identifier": ["b1"], "name": "odd"}],
    )["id"]
    (shown,) = shared_calls("GET", f"/job/{job}").json()["measurements"]
    assert shown["blobs"] == [{"identifier": "b1", "name": "n1", "s3_uri": None}]


# Blobs


BLOB = {"identifier": "b1", "name": "PA1", "data": {"x": {"value": [1.5], "unit": "mag"}}}


def test_artifacts_are_listed_in_pages(shared_calls: Calls) -> None:
    plots = [{"url": f"https://x.example/{number}.png", "type": "png"} for number in range(5)]
    job = post(shared_calls, meta={"plots": plots, "ci_url": "https://ci.example/1"})["id"]
    found, path = [], f"/job/{job}/artifacts?limit=2"
    while path:
        reply = shared_calls("GET", path)
        assert reply.status_code == 200, reply.text
        assert len(reply.json()["artifacts"]) <= 2
        found += reply.json()["artifacts"]
        path = reply.json()["next"]
    assert [item["url"] for item in found] == [item["url"] for item in plots]
    assert found[4] == {"key": "plots[4]", **plots[4], "description": None}


def test_a_job_without_artifacts_has_an_empty_list(shared_calls: Calls) -> None:
    job = post(shared_calls)["id"]
    reply = shared_calls("GET", f"/job/{job}/artifacts").json()
    assert reply == {"artifacts": [], "next": None}
    assert shared_calls("GET", "/job/999999/artifacts").status_code == 404


def test_blobs_are_listed_with_the_keys_of_their_data(shared_calls: Calls) -> None:
    job = post(shared_calls, blobs=[BLOB])["id"]
    (shown,) = shared_calls("GET", f"/job/{job}/blobs").json()["blobs"]
    assert shown == {
        "identifier": "b1",
        "name": "PA1",
        "keys": ["x"],
        "url": f"http://127.0.0.1:8000/job/{job}/blob/b1",
    }


@pytest.mark.parametrize("identifier", ["b1", "a/b", "a b", "?x=1", "#", "%2F", "Ω", "[1]"])
def test_a_blob_is_read_back_from_its_link(shared_calls: Calls, identifier: str) -> None:
    blob = BLOB | {"identifier": identifier}
    job = post(shared_calls, blobs=[blob])["id"]
    link = shared_calls("GET", f"/job/{job}/blobs").json()["blobs"][0]["url"]
    reply = shared_calls("GET", link.removeprefix("http://127.0.0.1:8000"))
    assert (reply.status_code, reply.json()) == (200, blob)


@pytest.mark.parametrize("identifier", [None, 3, ["x"], {"a": 1}])
def test_a_blob_without_an_identifier_has_no_link(shared_calls: Calls, identifier: Any) -> None:
    job = post(shared_calls, measured(), blobs=[{"identifier": identifier}])["id"]
    (shown,) = shared_calls("GET", f"/job/{job}/blobs").json()["blobs"]
    assert (shown["identifier"], shown["url"]) == (identifier, None)
    assert shared_calls("GET", f"/measurement/{job}").status_code == 200


def test_an_unknown_blob_is_404(shared_calls: Calls) -> None:
    job = post(shared_calls, blobs=[BLOB])["id"]
    assert shared_calls("GET", f"/job/{job}/blob/other").status_code == 404


# Deleting


def test_a_deleted_job_is_gone_everywhere(shared_calls: Calls) -> None:
    meta = {"env": {"env_name": "jenkins", "ci_id": "deleted", "dataset": "deleted"}}
    job = post(shared_calls, measured("deleted.a"), meta=meta, blobs=[BLOB])["id"]
    stats = shared_calls("GET", "/stats").json()["stats"]
    reply = shared_calls("DELETE", f"/job/{job}")
    assert (reply.status_code, reply.json()) == (200, {"message": f"Job {job} deleted."})
    for path in ("job/{}", "status/{}", "measurement/{}", "job/{}/blobs", "job/{}/report"):
        assert shared_calls("GET", f"/{path.format(job)}").status_code == 404
    assert shared_calls("GET", "/jenkins/deleted").status_code == 404
    assert job not in shared_calls("GET", f"/jobs?after={job - 1}").json()["ids"]
    assert "deleted" not in shared_calls("GET", "/datasets").json()["datasets"]
    after = shared_calls("GET", "/stats").json()["stats"]
    assert after["number_of_jobs"] == stats["number_of_jobs"] - 1
    assert after["number_of_measurements"] == stats["number_of_measurements"] - 1


def test_deleting_a_job_again_is_404(shared_calls: Calls) -> None:
    job = post(shared_calls)["id"]
    shared_calls("DELETE", f"/job/{job}")
    assert shared_calls("DELETE", f"/job/{job}").status_code == 404


def test_a_job_of_hostile_names_can_be_deleted(shared_calls: Calls) -> None:
    job = post(shared_calls, measured("a\nb.c"), measured("#.x"), measured(""), measured('"'))["id"]
    assert shared_calls("DELETE", f"/job/{job}").status_code == 200


# Verdicts


@pytest.fixture(scope="module")
def judged(shared_calls: Calls) -> tuple[Calls, int]:
    """A job that came before one of its specifications was there."""
    metrics = [{"name": f"j.{name}", "unit": "mmag"} for name in ("a", "b")]
    assert shared_calls("POST", "/metrics", {"metrics": metrics}).status_code == 201
    limit = {"value": 0.002, "unit": "mag", "operator": "<"}
    specs = [
        {"name": "j.a.minimum", "threshold": limit, "tags": ["minimum"]},
        {"name": "j.b.design", "threshold": limit, "tags": ["design"]},
        {"name": "j.a.elsewhere", "threshold": limit, "metadata_query": {"filter_name": "i"}},
    ]
    assert shared_calls("POST", "/specs", {"specs": specs}).status_code == 201
    job = post(
        shared_calls,
        measured("j.a", 3, "mmag"),
        measured("j.b", None),
        meta={"filter_name": "r"},
    )["id"]
    stretch = {"threshold": limit | {"value": 5, "unit": "mmag"}, "tags": ["stretch"]}
    assert shared_calls("POST", "/spec/j.a.stretch", stretch).status_code == 201
    return shared_calls, job


def test_a_report_judges_by_what_was_in_force_at_receipt(judged: tuple[Calls, int]) -> None:
    calls, job = judged
    violated, unmeasured = calls("GET", f"/job/{job}/report").json()
    assert violated == {
        "specification": "j.a.minimum",
        "status": "failed",
        "metric": "j.a",
        "value": 3.0,
        "unit": "mmag",
        "operator": "<",
        "threshold": 2.0,
        "level": "CRITICAL",
        "margin": -0.5,
    }
    assert (unmeasured["specification"], unmeasured["status"], unmeasured["value"]) == (
        "j.b.design",
        "not measured",
        None,
    )


def test_a_report_of_now_judges_by_todays_specifications(judged: tuple[Calls, int]) -> None:
    calls, job = judged
    found = calls("GET", f"/job/{job}/report?specs=now").json()
    assert {item["specification"]: (item["status"], item["level"]) for item in found} == {
        "j.a.minimum": ("failed", "CRITICAL"),
        "j.a.stretch": ("passed", "INFO"),
        "j.b.design": ("not measured", "WARNING"),
    }


def test_a_job_without_specifications_has_an_empty_report(shared_calls: Calls) -> None:
    job = post(shared_calls, measured("unjudged.a"))["id"]
    assert shared_calls("GET", f"/job/{job}/report").json() == []


# Who may


def test_everybody_may_read_jobs(shared_client: httpx.Client, shared_calls: Calls) -> None:
    job = post(shared_calls)["id"]
    assert shared_client.get(f"/job/{job}").status_code == 200
    assert shared_client.get("/jobs").status_code == 200


def test_a_job_can_be_posted_with_http_basic(
    shared_client: httpx.Client, shared_calls: Calls
) -> None:
    assert shared_calls
    assert shared_client.post("/job", json={}, auth=("ada", PASSWORD)).status_code == 202


def test_jobs_survive_a_restart(tmp_path: Path) -> None:
    with service(tmp_path) as client:
        calls = log_in(client, "ada")
        posted = post(calls, measured(), blobs=[BLOB])
        shown = calls("GET", f"/job/{posted['id']}").json()
    with service(tmp_path) as client:
        assert client.get(f"/job/{posted['id']}").json() == shown
        assert Calls(client, calls.token)("POST", "/job", {}).status_code == 202


@pytest.fixture(scope="module")
def rooted_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with service(tmp_path_factory.mktemp("service"), url="https://squash.example/root") as client:
        yield client


@pytest.fixture(scope="module")
def rooted_calls(rooted_client: httpx.Client) -> Calls:
    return log_in(rooted_client, "ada")


@pytest.mark.parametrize("path", ["/job", "/job/", "/root/job"])
def test_every_way_to_post_a_job_gives_the_same(rooted_calls: Calls, path: str) -> None:
    reply = rooted_calls("POST", path, {"measurements": []})
    assert (reply.status_code, set(reply.json())) == (
        202,
        {"message", "status", "id", "absent", "skipped", "undeclared", "notes"},
    )


@pytest.mark.parametrize("path", ["/job", "/job/"])
@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "malformed_json"), (b"[]", "invalid_input"), (b"\xff", "malformed_json")],
)
def test_every_way_to_post_a_job_fails_the_same(
    rooted_calls: Calls, path: str, body: bytes, code: str
) -> None:
    reply = rooted_calls("POST", path, content=body, headers={"Content-Type": "application/json"})
    assert reply.json()["code"] == code


def test_posting_a_job_without_a_token_is_a_401_with_its_challenge(
    rooted_client: httpx.Client,
) -> None:
    reply = rooted_client.post("/job", json={})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("JWT")


def test_another_method_than_post_is_told_what_is_possible(rooted_client: httpx.Client) -> None:
    reply = rooted_client.delete("/job")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


def test_jobs_are_counted_under_their_route(
    rooted_calls: Calls, rooted_client: httpx.Client
) -> None:
    rooted_calls("POST", "/job", {})
    counted = 'squash_request_seconds_count{method="POST",route="/job",status="202"}'
    assert counted in rooted_client.get("/prometheus").text


def test_an_error_of_the_service_is_a_500_with_the_one_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("squash_api.ingest.ingest.ingest_job", fail)
    with service(tmp_path) as client:
        reply = log_in(client, "ada")("POST", "/job", {})
    assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
