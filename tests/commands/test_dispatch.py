import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from squash_api.commands.dispatch import _SIGNS_OF_CI, dispatch, environment_of, is_ci, with_changes
from tests.support.fake_service import FakeService, reply_json
from tests.support.http_server import HttpServer
from tests.wires.test_bundle import BUNDLE

app = typer.Typer()
app.command()(dispatch)

JOB: dict[str, Any] = {
    "measurements": [
        {"metric": "p.m", "identifier": "a" * 32, "value": 1.5, "unit": "s", "blob_refs": ["b1"]}
    ],
    "blobs": [{"identifier": "b1", "name": "p.m", "data": {}}],
    "meta": {"filter_name": "r"},
}


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*_SIGNS_OF_CI, "SQUASH_URL", "SQUASH_USER", "SQUASH_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SQUASH_PASSWORD", "secret")
    monkeypatch.setenv("LOGNAME", "vera")


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def url(service: FakeService) -> Iterator[str]:
    with HttpServer(service) as server:
        yield server.url


def write_job(tmp_path: Path, name: str = "job.verify.json", **changes: Any) -> str:
    path = tmp_path / name
    path.write_text(json.dumps(JOB | changes))
    return str(path)


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", url, "--user", "me"])


def test_a_job_file_is_sent_without_metrics_and_specs(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    result = run(url, write_job(tmp_path, specs=[], metrics=[]))
    assert result.exit_code == 0
    assert list(service.jobs()[0]) == ["measurements", "blobs", "meta"]


def test_the_id_of_the_job_is_printed(tmp_path: Path, url: str) -> None:
    path = write_job(tmp_path)
    assert run(url, path).stdout == f"{path}: job 1, {url}/status/1\n"


def test_a_job_that_was_there_already_is_said_to_be(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    service.answers["/job"] = [httpx.Response(200, json=reply_json(7))]
    assert "job 7, which the service already had" in run(url, write_job(tmp_path)).stdout


def test_what_was_left_out_is_printed_with_its_reason(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    left_out: dict[str, Any] = {
        "absent": ["p.a", "p.b"],
        "skipped": [{"metric": "p.c", "reason": "unit 'kg' does not convert"}],
        "undeclared": ["p.d"],
        "notes": ["no env.date"],
    }
    service.answers["/job"] = [httpx.Response(202, json=reply_json(**left_out))]
    assert run(url, write_job(tmp_path)).stdout.splitlines()[1:] == [
        "  absent (null, NaN or infinite): p.a, p.b",
        "  skipped p.c: unit 'kg' does not convert",
        "  undeclared, but stored: p.d",
        "  note: no env.date",
    ]


def test_bare_nan_is_sent_as_null_and_said(tmp_path: Path, service: FakeService, url: str) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"measurements": [{"metric": "p.m", "value": NaN, "unit": "s"}]}')
    result = run(url, str(path))
    assert service.jobs()[0]["measurements"][0]["value"] is None
    assert "1 NaN or infinite numbers were sent as null" in result.stdout


def test_a_job_without_environment_gets_a_local_one(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    run(url, write_job(tmp_path))
    env = service.jobs()[0]["meta"]["env"]
    assert (env["env_name"], env["user"], env["run_id"][:5]) == ("local", "vera", "vera-")


def test_the_files_of_one_call_share_a_run_id(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    run(url, write_job(tmp_path, "a.json"), write_job(tmp_path, "b.json"))
    first, second = (job["meta"]["env"]["run_id"] for job in service.jobs())
    assert first == second


def test_a_job_without_environment_stays_without_one_in_ci(
    tmp_path: Path, service: FakeService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = run(url, write_job(tmp_path))
    assert "env" not in service.jobs()[0]["meta"]
    assert "the job has no environment" in result.stdout


def test_the_environment_of_the_file_is_kept(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    run(url, write_job(tmp_path, meta={"env": {"env_name": "ldf"}}))
    assert service.jobs()[0]["meta"]["env"] == {"env_name": "ldf"}


def test_an_environment_that_is_asked_for_replaces_that_of_the_file(
    tmp_path: Path, service: FakeService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_ID", "904")
    run(url, write_job(tmp_path, meta={"env": {"env_name": "ldf"}}), "--env", "jenkins")
    env = service.jobs()[0]["meta"]["env"]
    assert (env["env_name"], env["ci_id"]) == ("jenkins", "904")


@pytest.mark.parametrize(
    "date", ["2026-03-01T12:00:00Z", "2026-03-01T14:00:00+02:00", "2026-03-01 12:00"]
)
def test_the_date_goes_with_the_environment_in_utc(
    tmp_path: Path, service: FakeService, url: str, date: str
) -> None:
    run(url, write_job(tmp_path), "--date-created", date)
    assert service.jobs()[0]["meta"]["env"]["date"] == "2026-03-01T12:00:00+00:00"


def test_without_environment_the_date_goes_with_the_metadata() -> None:
    changed = with_changes(JOB, date="2026-03-01T12:00:00+00:00")
    assert changed["meta"] == {"filter_name": "r", "date": "2026-03-01T12:00:00+00:00"}


def test_changes_leave_the_document_as_it_is() -> None:
    before = json.dumps(JOB)
    with_changes(JOB, env={"env_name": "local"}, date="x", ignore_blobs=True)
    assert json.dumps(JOB) == before


def test_a_wrong_date_is_wrong_usage(tmp_path: Path) -> None:
    result = run("http://x", write_job(tmp_path), "--date-created", "yesterday")
    assert (result.exit_code, "is not a date" in result.stderr) == (2, True)


def test_blobs_and_their_references_can_be_left_at_home(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    run(url, write_job(tmp_path), "--ignore-blobs")
    job = service.jobs()[0]
    assert (job["blobs"], job["measurements"][0]["blob_refs"]) == ([], [])


def test_strict_is_passed_on(tmp_path: Path, service: FakeService, url: str) -> None:
    run(url, write_job(tmp_path), "--strict")
    assert service.requests[-1].url.params["strict"] == "true"


def test_a_broken_file_is_named_with_its_place_and_the_others_go(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"meta":\n  {"a" 1}}')
    result = run(url, str(broken), write_job(tmp_path))
    assert result.stderr == (
        f"error: {broken}: not JSON: Expecting ':' delimiter at line 2, column 8\n"
    )
    assert (result.exit_code, len(service.jobs())) == (1, 1)


def test_a_refusal_shows_the_services_lines_and_the_others_go(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    detail = [{"loc": ["body", "meta"], "msg": "must be an object", "type": "x"}]
    body = {"message": "This is not a job.", "code": "invalid_input", "detail": detail}
    service.answers["/job"] = [httpx.Response(422, json=body)]
    first = write_job(tmp_path, "a.json")
    result = run(url, first, write_job(tmp_path, "b.json"))
    assert result.stderr == (
        f"error: {first}: This is not a job.\n  body.meta: must be an object\n"
    )
    assert (result.exit_code, "b.json: job 1" in result.stdout) == (1, True)


def test_a_wrong_password_sends_nothing(tmp_path: Path, service: FakeService, url: str) -> None:
    service.answers["/auth"] = [httpx.Response(401, json={"description": "Invalid credentials"})]
    result = run(url, write_job(tmp_path, "a.json"), write_job(tmp_path, "b.json"))
    assert result.stderr.count("not sent: Invalid credentials") == 2
    assert (result.exit_code, service.paths()) == (1, ["GET /", "POST /auth"])


def test_when_the_service_is_gone_the_rest_is_not_tried(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    service.answers["/job"] = [httpx.Response(200, text="maintenance")]
    result = run(url, write_job(tmp_path, "a.json"), write_job(tmp_path, "b.json"))
    assert "b.json: not sent: " in result.stderr
    assert len(service.jobs()) == 1


def test_an_overloaded_service_is_tried_as_often_as_asked(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    service.answers["/job"] = [httpx.Response(503, json={"message": "The record is away."})]
    result = run(url, write_job(tmp_path), "--retries", "0")
    assert (result.exit_code, "The record is away." in result.stderr) == (1, True)


def test_waiting_prints_the_final_status(tmp_path: Path, url: str) -> None:
    result = run(url, write_job(tmp_path), "--wait")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "  SUCCESS: stored")


@pytest.mark.parametrize("status", ["FAILURE", "PENDING"])
def test_a_job_that_is_not_delivered_in_time_is_a_failure(
    tmp_path: Path, service: FakeService, url: str, status: str
) -> None:
    service.answers["/status/1"] = [httpx.Response(200, json={"status": status, "message": "no"})]
    result = run(url, write_job(tmp_path), "--wait", "--wait-seconds", "0")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, f"  {status}: no")


def test_a_status_that_cannot_be_read_is_a_failure(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    service.answers["/status/1"] = [httpx.Response(404, json={"message": "No such job."})]
    result = run(url, write_job(tmp_path), "--wait")
    assert (result.exit_code, "No such job." in result.stderr) == (1, True)


def test_json_is_one_list_with_an_object_for_each_file(tmp_path: Path, url: str) -> None:
    path = write_job(tmp_path)
    missing = str(tmp_path / "none.json")
    result = run(url, path, missing, "--json", "--wait")
    found = json.loads(result.stdout)
    assert [(item["file"], item["id"], item["status"]) for item in found] == [
        (path, 1, "SUCCESS"),
        (missing, None, None),
    ]
    assert (result.exit_code, found[1]["error"]) == (
        1,
        f"{missing}: cannot be read: No such file or directory",
    )


def test_without_password_and_terminal_it_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SQUASH_PASSWORD")
    result = run("http://x", write_job(tmp_path))
    assert (result.exit_code, "set SQUASH_PASSWORD" in result.stderr) == (2, True)


def test_there_is_no_option_for_the_password() -> None:
    result = run("http://x", "job.json", "--password", "secret")
    assert (result.exit_code, "No such option" in result.stderr) == (2, True)


def test_address_and_user_may_come_from_the_environment(
    tmp_path: Path, service: FakeService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_URL", url)
    monkeypatch.setenv("SQUASH_USER", "vera")
    CliRunner().invoke(app, [write_job(tmp_path)])
    assert json.loads(service.requests[1].content)["username"] == "vera"


# Where a job ran


NOW = datetime(2026, 11, 22, 12, 3, 4, 567890, tzinfo=UTC)


@pytest.mark.parametrize("name", ["CI", "JENKINS_URL", "BUILD_ID", "GITHUB_ACTIONS"])
def test_ci_is_told_by_its_variables(name: str) -> None:
    assert is_ci({name: "true"})


@pytest.mark.parametrize("variables", [{}, {"CI": ""}, {"CI": "false"}, {"HOME": "/root"}])
def test_a_shell_is_not_ci(variables: dict[str, str]) -> None:
    assert not is_ci(variables)


def test_a_local_run_carries_the_user_and_a_run_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "vera")
    assert environment_of("local", {}, now=NOW) == {
        "env_name": "local",
        "user": "vera",
        "run_id": "vera-20261122T1203Z",
    }


def test_a_jenkins_run_carries_its_variables() -> None:
    variables = {
        "BUILD_ID": "904",
        "PRODUCT": "validate_drp",
        "dataset": "cfht",
        "label": "centos-7",
        "refs": "main w_2026_47",
        "BUILD_URL": "https://ci.example/904",
    }
    assert environment_of("jenkins", variables, now=NOW) == {
        "env_name": "jenkins",
        "ci_id": "904",
        "ci_name": "validate_drp",
        "ci_dataset": "cfht",
        "ci_label": "centos-7",
        "ci_refs": "main w_2026_47",
        "ci_url": "https://ci.example/904",
        "status": 0,
        "date": "2026-11-22T12:03:04.567890+00:00",
    }


def test_what_a_data_facility_does_not_say_is_unknown() -> None:
    assert environment_of("ldf", {"RUN_ID": "w_47"}, now=NOW) == {
        "env_name": "ldf",
        "dataset": "unknown",
        "dataset_repo_url": "https://example.com",
        "run_id": "w_47",
        "run_id_url": "https://example.com",
        "version_tag": "unknown",
        "date": "2026-11-22T12:03:04.567890+00:00",
    }


def test_the_key_of_the_environment_is_used_rather_than_a_password(
    tmp_path: Path, service: FakeService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_KEY", " sq_key\n")
    result = CliRunner().invoke(app, [write_job(tmp_path), "--url", url])
    assert result.exit_code == 0, result.output
    assert "POST /auth" not in service.paths()
    assert service.requests[-1].headers["Authorization"] == "JWT sq_key"


@pytest.mark.parametrize("key", ["", " "])
def test_without_a_key_a_user_must_be_named(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SQUASH_KEY", key)
    result = CliRunner().invoke(app, [write_job(tmp_path), "--url", url])
    assert result.exit_code == 2
    assert "SQUASH_KEY" in result.output


# What pipelines leave on disk


def write_bundle(tmp_path: Path, name: str = "x_metrics.json") -> str:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(BUNDLE))
    return str(path)


def test_a_bundle_is_sent_with_the_data_id_of_the_options(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    options = ["--run", "u/me/20260515T031245Z", "--instrument", "HSC", "--visit", "1228"]
    options += ["--day-obs", "20260515", "--physical-filter", "HSC-R", "--extra", "ci_id=904"]
    result = run(url, write_bundle(tmp_path), *options)
    (job,) = service.jobs()
    assert [item["metric"] for item in job["measurements"]][-1] == "numSources.count"
    assert {key: job["meta"][key] for key in job["meta"] if key != "env"} == {
        "run": "u/me/20260515T031245Z",
        "dataset": "HSC/RC2",
        "instrument": "HSC",
        "visit": 1228,
        "day_obs": 20260515,
        "physical_filter": "HSC-R",
        "reference_package": "lsst_distrib",
        "ci_id": "904",
    }
    assert job["meta"]["env"] == {
        "env_name": "local",
        "user": "vera",
        "date": "2026-05-15T03:12:45+00:00",
    }
    assert (result.exit_code, "note:" in result.stdout) == (0, False)


def test_a_path_template_names_the_data_id(tmp_path: Path, service: FakeService, url: str) -> None:
    for detector in (3, 12):
        write_bundle(tmp_path, f"u/run/20260515T031245Z/visit_metrics/{detector}/x.json")
    result = run(url, str(tmp_path), "--path-template", "{run}/{dataset_type}/{detector}/*.json")
    assert [job["meta"]["detector"] for job in service.jobs()] == ["12", "3"]
    assert result.stdout.splitlines()[-1] == "2 jobs sent"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--path-template", "{run"], "'{run' is not a path template"),
        (["--extra", "ci_id"], "'ci_id' is not KEY=VALUE"),
    ],
)
def test_a_wrong_data_id_is_wrong_usage(tmp_path: Path, options: list[str], what: str) -> None:
    result = run("http://x", write_bundle(tmp_path), *options)
    assert (result.exit_code, what in " ".join(result.stderr.split())) == (2, True)


def test_without_a_run_it_is_said(tmp_path: Path, url: str) -> None:
    assert "no run is known: --run or" in run(url, write_bundle(tmp_path)).stdout


def test_in_ci_a_bundle_keeps_its_time_and_takes_the_environment_that_is_asked_for(
    tmp_path: Path, service: FakeService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_ID", "904")
    options = ["--run", "a/20260515T031245Z"]
    run(url, write_bundle(tmp_path), *options)
    run(url, write_bundle(tmp_path), *options, "--env", "jenkins")
    plain, jenkins = (job["meta"]["env"] for job in service.jobs())
    assert plain == {"date": "2026-05-15T03:12:45+00:00"}
    assert (jenkins["ci_id"], jenkins["date"]) == ("904", plain["date"])


def test_sending_again_sends_the_same(tmp_path: Path, service: FakeService, url: str) -> None:
    bare = {"measurements": [{"metric": "p.m", "value": 1.0}], "meta": {}}
    paths = [write_job(tmp_path, "a.json", **bare), write_bundle(tmp_path)]
    os.utime(paths[0], (1.0e9, 1.0e9))
    for _ in range(2):
        run(url, *paths)
    jobs = service.jobs()
    assert (jobs[:2], len(jobs)) == (jobs[2:], 4)
    assert jobs[0]["meta"]["env"]["run_id"] == "vera-20010909T0146Z"


def test_what_is_no_job_is_named_and_the_others_go(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    write_bundle(tmp_path, "night/a.json")
    write_job(tmp_path / "night", "b.json.gz")
    (tmp_path / "night" / "butler.yaml").write_text("datastore: {root: x}")
    result = run(url, str(tmp_path / "night"))
    assert result.stderr == (
        f"error: {tmp_path}/night/butler.yaml: not a job, a bundle or a measurement: "
        "an object with datastore\n"
    )
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (1, "2 jobs sent, 1 not sent")
    assert len(service.jobs()) == 2
    assert run(url, str(tmp_path / "night"), "--allow-others").exit_code == 0


def test_others_are_allowed_only_where_nobody_named_them(tmp_path: Path, url: str) -> None:
    (tmp_path / "x.yaml").write_text("a: 1")
    assert run(url, str(tmp_path / "x.yaml"), "--allow-others").exit_code == 1


def test_a_folder_in_which_there_is_no_job_is_an_error(tmp_path: Path, url: str) -> None:
    (tmp_path / "x.fits").write_text("SIMPLE")
    result = run(url, str(tmp_path))
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {tmp_path}: no job, bundle or measurement is there\n",
    )


def test_the_jobs_of_a_list_are_named_with_their_places(
    tmp_path: Path, service: FakeService, url: str
) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps([JOB, 7, BUNDLE]))
    result = run(url, str(path), "--json")
    assert [(item["file"], item["id"]) for item in json.loads(result.stdout)] == [
        (f"{path}[0]", 1),
        (f"{path}[1]", None),
        (f"{path}[2]", 2),
    ]
    assert len(service.jobs()) == 2


def test_standard_input_is_sent(service: FakeService, url: str) -> None:
    arguments = ["-", "--url", url, "--user", "me"]
    result = CliRunner().invoke(app, arguments, input=json.dumps(JOB))
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, f"-: job 1, {url}/status/1")
    assert service.jobs()[0]["measurements"] == JOB["measurements"]
