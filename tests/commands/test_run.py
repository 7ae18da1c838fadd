"""`squash run` as a process, with a stand-in for the service, and with the service itself."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.counting_service import CountingService
from tests.support.forked import Forked
from tests.support.http_server import HttpServer
from tests.support.service import Service

pytestmark = pytest.mark.sqlite

_PATIENCE_S = 120.0
_WRITES = """
import json, pathlib
for name, value in (("a.verify.json", 1.0), ("b.verify.json", 2.0)):
    measurements = [{"metric": "p.m", "value": value, "unit": "s"}]
    pathlib.Path(name).write_text(json.dumps({"measurements": measurements}))
pathlib.Path("config.json").write_text("{}")
pathlib.Path("broken.verify.json").write_text("{")
print("written")
"""


class Shell:
    """A folder in which commands are run, and where their jobs wait."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.here = folder / "here"
        self.here.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "SQUASH_SPOOL": str(folder / "spool"),
            "SQUASH_URL": url,
            "SQUASH_KEY": "sq_1_secret",
            "LOGNAME": "vera",
        }

    def __call__(self, *arguments: str, **environment: str) -> int:
        if arguments[0] == "run" and "--within" not in arguments:
            # How long this machine takes is no fact about the code.
            arguments = ("run", "--within", str(_PATIENCE_S), *arguments[1:])
        process = Forked(
            arguments,
            environment=self.environment | environment,
            folder=self.here,
            output=self.here / "output",
        )
        return process.wait(_PATIENCE_S)

    @property
    def output(self) -> str:
        return (self.here / "output").read_text()

    @property
    def spooled(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in (self.folder / "spool").glob("*.json")]


@pytest.fixture
def service() -> CountingService:
    return CountingService()


@pytest.fixture
def shell(tmp_path: Path, service: CountingService) -> Iterator[Shell]:
    with HttpServer(service) as server:
        yield Shell(tmp_path, server.url)


def runs_of(service: CountingService) -> set[tuple[str, str]]:
    envs = [job["meta"]["env"] for job in service.jobs]
    return {(env["run_id"], env["pipeline"]) for env in envs}


def test_a_run_and_all_that_it_wrote_are_jobs_of_one_run(
    shell: Shell, service: CountingService
) -> None:
    (shell.here / "old.verify.json").write_text('{"measurements": []}')
    (shell.here / "writes.py").write_text(_WRITES)
    assert shell("run", sys.executable, "writes.py") == 0
    assert sorted(service.values("p.m")) == [1.0, 2.0]
    assert service.values("run.exit_status") == [0]
    assert len(service.jobs) == 3
    ((run_id, pipeline),) = runs_of(service)
    assert (run_id.partition("-")[0], pipeline) == ("vera", "writes")
    assert "broken.verify.json: not JSON" in shell.output
    assert "config.json" not in shell.output
    assert shell.spooled == []


def test_the_run_is_that_of_the_ci(shell: Shell, service: CountingService) -> None:
    (shell.here / "writes.py").write_text(_WRITES)
    ci = {"GITHUB_RUN_ID": "42", "GITHUB_WORKFLOW": "nightly", "CI": "true"}
    assert shell("run", sys.executable, "writes.py", **ci) == 0
    assert runs_of(service) == {("42", "nightly")}


def test_only_the_folder_of_the_outputs_is_looked_at(
    shell: Shell, service: CountingService
) -> None:
    script = 'mkdir -p out/1; echo \'{"measurements": [{"metric": "p.m", "value": 1}]}\' | '
    script += "tee out/1/a.verify.json > b.verify.json"
    assert shell("run", "--outputs", "out", "--", "sh", "-c", script) == 0
    assert service.values("p.m") == [1]


def test_a_run_that_failed_is_a_job_with_its_log(shell: Shell, service: CountingService) -> None:
    assert shell("run", "--", "sh", "-c", "echo all is lost; exit 3") == 3
    (job,) = service.jobs
    assert job["blobs"][0]["data"]["tail"]["value"] == "all is lost"
    assert service.values("run.exit_status") == [3]
    assert shell("run", "no-such-command") == 127
    assert service.values("run.exit_status") == [3, 127]


def test_further_metadata_are_those_of_all_jobs(shell: Shell, service: CountingService) -> None:
    options = ["--instrument", "LSSTCam", "--extra", "night=20261127", "--run", "r1"]
    assert shell("run", *options, "--pipeline", "ql", "true") == 0
    (job,) = service.jobs
    assert (job["meta"]["instrument"], job["meta"]["night"]) == ("LSSTCam", "20261127")
    assert runs_of(service) == {("r1", "ql")}


def test_a_run_in_a_run_is_the_same_run(shell: Shell, service: CountingService) -> None:
    inner = [sys.executable, "-m", "squash_api", "run", "true"]
    root = str(Path(__file__).parents[2])
    assert shell("run", "--pipeline", "ql", "--", *inner, PYTHONPATH=root) == 0
    assert len({run_id for run_id, _ in runs_of(service)}) == 1
    assert len(service.jobs) == 2


def test_the_command_ends_as_it_does_while_the_service_is_away(
    shell: Shell, service: CountingService
) -> None:
    assert shell("run", "--", "sh", "-c", "exit 5", SQUASH_URL="http://127.0.0.1:9") == 5
    (entry,) = shell.spooled
    assert entry["source"] == "sh -c 'exit 5'"
    assert "refused" in entry["why"]
    assert f"1 job waits in {shell.folder / 'spool'}" in shell.output
    assert shell("spool", "list") == 1
    assert shell("spool", "send", "--any-url") == 0
    assert service.values("run.exit_status") == [5]
    assert shell("spool", "list") == 0


def test_a_service_that_does_not_answer_delays_the_end_for_a_bounded_time(
    shell: Shell, service: CountingService
) -> None:
    from threading import Event

    answers = Event()

    def judge(_document: dict[str, Any]) -> None:
        answers.wait(_PATIENCE_S)

    service.judge = judge
    try:
        assert shell("run", "--within", "0.2", "--", "sh", "-c", "exit 6") == 6
    finally:
        answers.set()
    (entry,) = shell.spooled
    assert "within 0.2 s" in entry["why"] or "timed out" in entry["why"]


def test_a_run_sends_what_earlier_ones_left(shell: Shell, service: CountingService) -> None:
    service.judge = lambda _: httpx.Response(503)
    shell("run", "false")
    service.judge = lambda _: None
    shell("run", "true")
    assert sorted(service.values("run.exit_status")) == [0, 1]
    assert shell.spooled == []


def test_what_the_service_refuses_is_named_and_kept(shell: Shell, service: CountingService) -> None:
    service.judge = lambda _: httpx.Response(422, json={"message": "No."})
    assert shell("run", "true") == 0
    assert "the service refuses it: 422: No." in shell.output
    assert [entry["refused"] for entry in shell.spooled] == [True]


@pytest.mark.parametrize("missing", ["SQUASH_URL", "SQUASH_KEY"])
def test_without_settings_the_command_runs_all_the_same(shell: Shell, missing: str) -> None:
    del shell.environment[missing]
    assert shell("run", "--", "sh", "-c", "exit 4") == 4
    assert len(shell.spooled) == 1
    assert missing in shell.output


def test_a_spool_that_cannot_be_written_loses_nothing_while_the_service_is_there(
    shell: Shell, service: CountingService
) -> None:
    (shell.folder / "file").touch()
    spool = str(shell.folder / "file" / "spool")
    assert shell("run", "true", SQUASH_SPOOL=spool) == 0
    assert service.values("run.exit_status") == [0]
    assert shell("run", "false", SQUASH_SPOOL=spool, SQUASH_URL="http://127.0.0.1:9") == 1
    assert "lost: " in shell.output


def test_the_service_has_the_run_and_shows_its_log(tmp_path: Path) -> None:
    with (
        Service(tmp_path, SQUASH_SPECS="") as real,
        httpx.Client(base_url=real.url, timeout=_PATIENCE_S) as client,
    ):
        user = {"username": "ada", "password": "correct horse"}
        client.post("/register", json=user).raise_for_status()
        shell = Shell(tmp_path, real.url)
        del shell.environment["SQUASH_KEY"]
        given = {"SQUASH_USER": "ada", "SQUASH_PASSWORD": "correct horse"}
        (shell.here / "writes.py").write_text(_WRITES)
        assert shell("run", "--run", "r1", sys.executable, "writes.py", **given) == 0
        assert shell.spooled == []
        page = client.get("/job/1", headers={"Accept": "text/html"})
        assert ">written</pre>" in page.text
        jobs = [client.get(f"/job/{number}").json() for number in (1, 2, 3)]
        # `--run` names it for job files as squash dispatch does, beside the environment.
        runs = [({**job["meta"]["env"], **job["meta"]})["run_id"] for job in jobs]
        assert runs == ["r1"] * 3
