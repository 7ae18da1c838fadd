import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import astropy.units as u
import httpx
import pytest

from squash_api.accounts.keys import make_key
from squash_api.client import Datum, Job, Measurement, Reply, Squash, SquashClientError
from tests.support.fake_service import ROOT, FakeService, reply_json
from tests.support.http_server import HttpServer

CFHT = Path(__file__).parents[3] / "shared" / "data" / "jobs" / "cfht_r.verify.json"
NEW_MODULES = """
import sys, httpx
before = set(sys.modules)
import squash_api.client
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""


def make_squash(service: FakeService, **changes: Any) -> Squash:
    return Squash(
        ROOT,
        "me",
        "secret",
        transport=httpx.MockTransport(service),
        sleep=service.pauses.append,
        **changes,
    )


def make_job() -> Job:
    return Job([Measurement("p.m", 4.5 * u.mmag)], meta={"filter_name": "r"})


def refuse(status_code: int, **body: Any) -> httpx.Response:
    return httpx.Response(status_code, json={"status_code": status_code, **body})


def test_importing_the_client_needs_no_library_but_httpx() -> None:
    found = subprocess.run(
        [sys.executable, "-c", NEW_MODULES], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["squash_api"]


def test_a_later_measurement_of_a_metric_replaces_the_earlier() -> None:
    job = Job([Measurement("p.m", 1.0), Measurement("p.m", 2.0)])
    assert [item["value"] for item in job.to_json()["measurements"]] == [2.0]


def test_a_job_is_written_with_its_measurements_blobs_and_meta() -> None:
    measurement = Measurement(
        "p.m", 4.5 * u.mmag, identifier="a" * 32, extras={"n": 3}, notes={"why": "a test"}
    )
    document = Job([measurement], meta={"visits": (1, 2), "seeing": float("nan")}).to_json()
    blob = document["blobs"][0]
    assert document == {
        "measurements": [
            {
                "metric": "p.m",
                "identifier": "a" * 32,
                "value": 4.5,
                "unit": "mmag",
                "blob_refs": [blob["identifier"]],
            }
        ],
        "blobs": [
            {
                "identifier": blob["identifier"],
                "name": "p.m",
                "data": {"n": {"value": 3, "unit": "", "label": None, "description": None}},
            }
        ],
        "meta": {"visits": [1, 2], "seeing": None, "p.m.why": "a test"},
    }


def test_the_same_job_is_written_the_same_twice() -> None:
    job = Job([Measurement("p.m", 1.0, extras={"n": 3})])
    assert job.to_json() == job.to_json()


def test_metadata_that_json_cannot_hold_is_refused_with_its_place() -> None:
    with pytest.raises(TypeError, match=r"^meta\.env\.run: complex"):
        Job(meta={"env": {"run": 1j}}).to_json()


def test_a_written_job_is_read_back_equal(tmp_path: Path) -> None:
    measurement = Measurement(
        "p.m", 4.5 * u.mmag, extras={"d": Datum([1.0, 2.0] * u.s, label="x")}, notes={"k": 1}
    )
    job = Job([measurement], meta={"a.b.c": 1, "env": {"env_name": "local"}})
    job.write(tmp_path / "job.verify.json")
    assert Job.read(tmp_path / "job.verify.json").to_json() == job.to_json()


def test_a_written_file_has_sorted_keys_and_the_lists_that_lsst_verify_asks_for(
    tmp_path: Path,
) -> None:
    make_job().write(tmp_path / "job.verify.json")
    text = (tmp_path / "job.verify.json").read_text()
    assert list(json.loads(text)) == ["blobs", "measurements", "meta", "metrics", "specs"]


def test_notes_are_read_back_to_their_measurement() -> None:
    document = {
        "measurements": [{"metric": "p.m", "value": 1.0, "unit": ""}],
        "meta": {"p.m.why": "a test", "q.m.why": "another"},
    }
    job = Job.from_json(document)
    assert (job.measurements["p.m"].notes, job.meta) == (
        {"why": "a test"},
        {"q.m.why": "another"},
    )


def test_a_blob_of_two_measurements_is_written_once() -> None:
    document = {
        "measurements": [
            {"metric": name, "value": 1.0, "unit": "", "blob_refs": ["b1"]}
            for name in ("p.a", "p.b")
        ],
        "blobs": [{"identifier": "b1", "name": "shared", "data": {}}],
    }
    assert [blob["identifier"] for blob in Job.from_json(document).to_json()["blobs"]] == ["b1"]


def test_what_is_no_job_is_refused_with_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"measurements": [{"value": 1}]}')
    with pytest.raises(
        ValueError, match=r"job\.json: a measurement must be an object with a metric"
    ):
        Job.read(tmp_path / "job.json")


@pytest.mark.skipif(not CFHT.exists(), reason="needs ../shared/data")
def test_a_real_file_with_bare_nan_keeps_every_value() -> None:
    def absent(token: str) -> None:
        assert token == "NaN"

    expected = json.loads(CFHT.read_text(), parse_constant=absent)["measurements"]
    found = Job.read(CFHT).to_json()["measurements"]
    keys = ("metric", "identifier", "value", "unit")
    assert [[item[key] for key in keys] for item in found] == [
        [item[key] for key in keys] for item in expected
    ]


@pytest.mark.skipif(not CFHT.exists(), reason="needs ../shared/data")
def test_a_real_file_keeps_every_blob_that_is_referred_to() -> None:
    document = Job.read(CFHT).to_json()
    referred = {name for item in document["measurements"] for name in item["blob_refs"]}
    assert {blob["identifier"] for blob in document["blobs"]} == referred


def test_the_requests_are_root_then_auth_then_job() -> None:
    service = FakeService()
    make_squash(service).send(make_job())
    assert service.paths() == ["GET /", "POST /auth", "POST /job"]


def test_a_second_job_uses_map_and_token_again() -> None:
    service = FakeService()
    squash = make_squash(service)
    squash.send(make_job())
    squash.send(make_job())
    assert service.paths() == ["GET /", "POST /auth", "POST /job", "POST /job"]


def test_every_request_asks_for_version_1_of_json() -> None:
    service = FakeService()
    make_squash(service).send(make_job())
    assert {request.headers["Accept"] for request in service.requests} == {
        "application/json; version=1.0"
    }


def test_the_token_goes_with_the_word_jwt() -> None:
    service = FakeService()
    make_squash(service).send(make_job())
    assert service.requests[-1].headers["Authorization"] == "JWT token-1"


def test_a_job_goes_over_a_real_wire_to_its_reply() -> None:
    service = FakeService()
    with HttpServer(service) as server:
        reply = make_job().dispatch(api_user="me", api_password="secret", api_url=server.url)
    assert (reply.job_id, service.jobs()[0]["meta"]) == (1, {"filter_name": "r"})


def test_strict_is_asked_for_in_the_address() -> None:
    service = FakeService()
    make_squash(service).send(make_job(), strict=True)
    assert service.requests[-1].url == f"{ROOT}/job?strict=true"


def test_a_reply_tells_what_was_left_out() -> None:
    service = FakeService()
    left_out: dict[str, Any] = {
        "absent": ["p.a"],
        "skipped": [{"metric": "p.b", "reason": "the unit"}],
        "undeclared": ["p.c"],
        "notes": ["no env.date"],
    }
    service.answers["/job"] = [httpx.Response(202, json=reply_json(**left_out))]
    assert make_squash(service).send(make_job()) == Reply(
        job_id=7,
        status_url=f"{ROOT}/status/7",
        message="Request for creating Job `7` received",
        **left_out,
    )


def test_200_tells_that_the_job_was_there_already() -> None:
    service = FakeService()
    service.answers["/job"] = [httpx.Response(200, json=reply_json())]
    assert make_squash(service).send(make_job()).is_repeat


def test_an_older_service_names_the_job_in_its_message_only() -> None:
    service = FakeService()
    service.answers["/job"] = [httpx.Response(202, json={"message": "Job `12`", "status": "x"})]
    assert make_squash(service).send(make_job()).job_id == 12


@pytest.mark.parametrize("status_code", [429, 502, 503, 504])
def test_an_overloaded_service_is_asked_again_with_the_same_body(status_code: int) -> None:
    service = FakeService()
    service.answers["/job"] = [refuse(status_code), refuse(status_code)]
    make_squash(service).send(make_job())
    assert len(service.jobs()) == 3
    assert service.jobs()[0] == service.jobs()[2]


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("no route"), httpx.ReadError("reset"), httpx.ConnectTimeout("late")],
)
def test_a_broken_connection_is_tried_again(error: Exception) -> None:
    service = FakeService()
    service.answers["/job"] = [error]
    make_squash(service).send(make_job())
    assert len(service.jobs()) == 2


def test_the_pauses_between_retries_grow() -> None:
    service = FakeService()
    service.answers["/job"] = [refuse(503) for _ in range(3)]
    make_squash(service).send(make_job())
    assert [
        low <= pause <= 2 * low for low, pause in zip((0.25, 0.5, 1.0), service.pauses, strict=True)
    ] == [True] * 3


def test_a_pause_is_as_long_as_the_service_asks() -> None:
    service = FakeService()
    service.answers["/job"] = [httpx.Response(429, headers={"Retry-After": "17"})]
    make_squash(service).send(make_job())
    assert service.pauses == [17.0]


def test_the_last_failure_is_shown_when_retries_are_used_up() -> None:
    service = FakeService()
    service.answers["/job"] = [refuse(503, message="The record is away.") for _ in range(3)]
    with pytest.raises(SquashClientError, match=r"^The record is away\.$"):
        make_squash(service, retries=2).send(make_job())


def test_a_service_that_cannot_be_reached_is_named() -> None:
    service = FakeService()
    service.answers["/"] = [httpx.ConnectError("refused")]
    with pytest.raises(SquashClientError, match=f"GET {ROOT}: refused"):
        make_squash(service, retries=0).send(make_job())


@pytest.mark.parametrize("status_code", [400, 403, 404, 413, 415, 422, 500])
def test_a_refusal_is_not_tried_again(status_code: int) -> None:
    service = FakeService()
    service.answers["/job"] = [refuse(status_code)]
    with pytest.raises(SquashClientError):
        make_squash(service).send(make_job())
    assert len(service.jobs()) == 1


def test_no_answer_in_time_is_not_waited_for_again() -> None:
    service = FakeService()
    service.answers["/job"] = [httpx.ReadTimeout("")]
    with pytest.raises(SquashClientError, match="no answer in time"):
        make_squash(service).send(make_job())
    assert len(service.jobs()) == 1


def test_an_address_without_scheme_is_refused_at_once() -> None:
    with (
        pytest.raises(SquashClientError, match="protocol"),
        Squash("squash.example", "a", "b") as s,
    ):
        s.log_in()


def test_a_redirect_of_a_job_is_not_followed_but_shown() -> None:
    service = FakeService()
    service.answers["/job"] = [httpx.Response(308, headers={"Location": "https://new.example"})]
    with pytest.raises(SquashClientError, match=r"308 Permanent Redirect, to https://new\.example"):
        make_squash(service).send(make_job())


def test_the_root_may_redirect() -> None:
    service = FakeService()
    service.answers["/"] = [httpx.Response(301, headers={"Location": f"{ROOT}/root"})]
    make_squash(service).send(make_job())
    assert service.paths()[:2] == ["GET /", "GET /root"]


def test_an_expired_token_is_renewed_once() -> None:
    service = FakeService()
    service.answers["/job"] = [refuse(401, message="Signature has expired")]
    make_squash(service).send(make_job())
    assert service.requests[-1].headers["Authorization"] == "JWT token-2"


def test_a_new_token_that_is_refused_too_is_an_error() -> None:
    service = FakeService()
    service.answers["/job"] = [refuse(401, message="no"), refuse(401, message="No such user")]
    with pytest.raises(SquashClientError, match="No such user"):
        make_squash(service).send(make_job())
    assert len(service.jobs()) == 2


def test_a_wrong_password_shows_the_services_words() -> None:
    service = FakeService()
    service.answers["/auth"] = [refuse(401, description="Invalid credentials")]
    with pytest.raises(SquashClientError, match="Invalid credentials") as caught:
        make_squash(service).send(make_job())
    assert caught.value.status_code == 401


def test_an_error_shows_each_line_of_the_services_detail() -> None:
    service = FakeService()
    detail = [
        {"loc": ["body", "measurements", 3, "metric"], "msg": "is missing", "type": "missing"},
        {"loc": [], "msg": "is odd", "type": "x"},
    ]
    service.answers["/job"] = [refuse(422, message="Not a job.", code="invalid", detail=detail)]
    with pytest.raises(SquashClientError) as caught:
        make_squash(service).send(make_job())
    assert str(caught.value).split("\n") == [
        "Not a job.",
        "  body.measurements[3].metric: is missing",
        "  is odd",
    ]


def test_an_error_page_that_is_not_json_shows_the_status() -> None:
    service = FakeService()
    service.answers["/job"] = [httpx.Response(500, html="<h1>Oh no</h1>")]
    with pytest.raises(SquashClientError, match=r"POST .*/job: 500 Internal Server Error"):
        make_squash(service).send(make_job())


def test_a_page_that_is_not_the_services_root_is_said_to_be_none() -> None:
    service = FakeService()
    service.answers["/"] = [httpx.Response(200, json={"job": "/job"})]
    with pytest.raises(SquashClientError, match="not the root of a SQuaSH service"):
        make_squash(service).send(make_job())


def test_a_document_without_identifiers_gets_them_before_it_is_sent() -> None:
    service = FakeService()
    service.answers["/job"] = [refuse(503)]
    make_squash(service).send({"measurements": [{"metric": "p.m", "value": 1.0, "unit": ""}]})
    first, second = (job["measurements"][0]["identifier"] for job in service.jobs())
    assert (len(first), first) == (32, second)


def test_waiting_asks_until_the_status_is_final() -> None:
    service = FakeService()
    service.answers["/status/1"] = [
        httpx.Response(200, json={"status": "PENDING"}),
        httpx.Response(200, json={"status": "STARTED"}),
        httpx.Response(200, json={"status": "FAILURE", "message": "field type conflict"}),
    ]
    squash = make_squash(service)
    assert squash.wait(squash.send(make_job()))["message"] == "field type conflict"


def test_waiting_ends_with_the_last_status_when_time_is_over() -> None:
    service = FakeService()
    service.answers["/status/1"] = [httpx.Response(200, json={"status": "PENDING"})]
    squash = make_squash(service)
    assert squash.wait(squash.send(make_job()), timeout_s=0.0)["status"] == "PENDING"


def test_the_report_of_a_job_is_a_list_of_verdicts() -> None:
    service = FakeService()
    service.answers["/job/7/report"] = [httpx.Response(200, json=[{"status": "passed"}])]
    (verdict,) = make_squash(service).report(7)
    assert verdict["status"] == "passed"


def test_the_artifacts_of_a_job_come_from_all_pages() -> None:
    service = FakeService()
    pages: list[dict[str, Any]] = [{"artifacts": [{"key": "a"}]}, {"artifacts": [{"key": "b"}]}]
    pages[0]["next"] = f"{ROOT.rstrip('/')}/job/7/artifacts?after=1"
    pages[1]["next"] = None
    service.answers["/job/7/artifacts"] = [httpx.Response(200, json=page) for page in pages]
    assert make_squash(service).artifacts(7) == [{"key": "a"}, {"key": "b"}]


# With a key

KEY = make_key().text


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def with_key(service: FakeService) -> Squash:
    return Squash(ROOT, key=KEY, transport=httpx.MockTransport(service), sleep=lambda _: None)


def test_a_key_is_its_own_token(service: FakeService) -> None:
    with with_key(service) as squash:
        squash.log_in()
        squash.send(make_job())
    assert service.paths() == ["GET /", "POST /job"]
    assert service.requests[-1].headers["Authorization"] == f"JWT {KEY}"


def test_a_key_that_is_refused_is_not_sent_again(service: FakeService) -> None:
    service.answers["/job"] = [refuse(401, message="The key was revoked")]
    with pytest.raises(SquashClientError, match="was revoked"), with_key(service) as squash:
        squash.send(make_job())
    assert service.paths() == ["GET /", "POST /job"]


def test_reading_sends_the_key_too(service: FakeService) -> None:
    with with_key(service) as squash:
        squash.wait(squash.send(make_job()))
        service.answers["/job/1/report"] = [httpx.Response(200, json=[])]
        squash.report(1)
    assert {request.headers.get("Authorization") for request in service.requests} == {f"JWT {KEY}"}


def test_reading_logs_in_where_it_needs_an_account(service: FakeService) -> None:
    service.answers["/job/1/report"] = [
        refuse(401, message="no"),
        httpx.Response(200, json=[]),
    ]
    with make_squash(service) as squash:
        assert squash.report(1) == []
    assert service.paths() == ["GET /", "GET /job/1/report", "POST /auth", "GET /job/1/report"]


def test_a_job_is_dispatched_with_a_key(service: FakeService) -> None:
    with HttpServer(service) as server:
        make_job().dispatch(api_url=server.url, api_key=KEY)
    assert service.requests[-1].headers["Authorization"] == f"JWT {KEY}"
    assert "POST /auth" not in service.paths()
