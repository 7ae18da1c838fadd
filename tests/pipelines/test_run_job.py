import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from squash_api.ingest.document import decode_job
from squash_api.pipelines.run_job import (
    adopted,
    joined,
    log_text,
    named,
    pipeline_of,
    run_document,
    run_environment,
    without_secrets,
)
from squash_api.pipelines.running import Ended

NOW = datetime(2026, 11, 28, 1, 2, 3, tzinfo=UTC)
ENV = {"env_name": "local", "user": "vera", "run_id": "r1", "pipeline": "ql"}


def ended(**changes: Any) -> Ended:
    given: dict[str, Any] = {
        "status": 0,
        "signal": None,
        "began_ns": 1_795_827_600 * 10**9,
        "ended_ns": 1_795_827_602 * 10**9,
        "wall_s": 2.0,
        "cpu_s": 1.5,
        "peak_bytes": 3 << 20,
        "tail": b"done\n",
        "output_bytes": 5,
    }
    return Ended(**(given | changes))


def document(
    words: Sequence[str] = ("ql", "--token", "abc", "x.fits"), **changes: Any
) -> dict[str, Any]:
    return run_document(words, ended(**changes), ENV, metadata={}, variables={})


def test_a_run_is_a_job_with_its_times_memory_and_status() -> None:
    measured = {
        item["metric"]: (item["value"], item["unit"]) for item in document()["measurements"]
    }
    assert measured == {
        "run.exit_status": (0, ""),
        "run.wall_time": (2.0, "s"),
        "run.cpu_time": (1.5, "s"),
        "run.peak_memory": (3.0, "MiB"),
    }


def test_what_a_command_that_did_not_start_took_is_left_out() -> None:
    made = document(status=127, cpu_s=None, peak_bytes=None, problem="ql: command not found")
    names = [item["metric"] for item in made["measurements"]]
    assert names == ["run.exit_status", "run.wall_time"]
    assert made["meta"]["problem"] == "ql: command not found"


def test_the_tail_is_a_blob_that_the_measurements_name() -> None:
    made = document()
    (blob,) = made["blobs"]
    assert blob["name"] == "log"
    assert blob["data"]["tail"]["value"] == "done"
    assert all(item["blob_refs"] == [blob["identifier"]] for item in made["measurements"])


def test_the_service_takes_the_document() -> None:
    import json

    job = decode_job(json.dumps(document(tail=b"\xff\x00\x1b[1m\n", output_bytes=7)).encode())
    assert job.measurements[0].metric == "run.exit_status"


def test_secrets_are_left_out_of_the_command() -> None:
    assert document()["meta"]["command"] == "ql --token *** x.fits"
    assert without_secrets("a s3cret! b", {"MY_TOKEN": "s3cret!"}) == "a *** b"
    assert without_secrets("a s3cret! b", {"OTHER": "s3cret!"}) == "a s3cret! b"


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("--password=x", "--password=***"),
        ("ftp://ada:pa/ss@host/a", "ftp://ada:***@host/a"),
        ("http://:x@host:80/a", "http://:***@host:80/a"),
        ("http://host:8800/plots", "http://host:8800/plots"),
        ("--url=http://127.0.0.1:8800", "--url=http://127.0.0.1:8800"),
    ],
)
def test_a_password_in_the_command_is_left_out_and_a_port_is_not(word: str, shown: str) -> None:
    assert document(["ql", word])["meta"]["command"] == f"ql {shown}"


@pytest.mark.parametrize(
    ("variables", "run_id", "pipeline"),
    [
        ({"GITHUB_RUN_ID": "42", "GITHUB_WORKFLOW": "nightly"}, "42", "nightly"),
        ({"BUILD_ID": "7", "JOB_NAME": "drp", "BUILD_URL": "https://ci/7"}, "7", "drp"),
        ({"CI_PIPELINE_ID": "9"}, "9", "ql"),
        ({"RUN_ID": "unknown", "BUILD_ID": "8"}, "8", "ql"),
        ({"SQUASH_RUN_ID": "outer", "BUILD_ID": "7"}, "outer", "ql"),
    ],
)
def test_the_run_is_that_of_the_ci_if_there_is_one(
    variables: dict[str, str], run_id: str, pipeline: str
) -> None:
    env = run_environment(["ql"], variables, now=NOW)
    assert (env["run_id"], env["pipeline"]) == (run_id, pipeline)


def test_what_is_asked_for_goes_first() -> None:
    env = run_environment(["ql"], {"BUILD_ID": "7"}, now=NOW, run_id="mine", pipeline="p")
    assert (env["run_id"], env["pipeline"]) == ("mine", "p")


def test_two_made_up_runs_of_one_second_differ() -> None:
    names = [run_environment(["ql"], {}, now=NOW)["run_id"] for _ in range(2)]
    assert names[0] != names[1]
    assert re.fullmatch(r".+-20261128T010203Z-[0-9a-f]{6}", names[0])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/opt/ql/bin/reduce x.fits", "reduce"),
        ("python3.11 -u pipe.py x", "pipe"),
        ("bash run_night.sh", "run_night"),
        ("env python drp.py", "drp"),
        ("sh", "sh"),
        ("make -C x", "make"),
    ],
)
def test_a_pipeline_is_named_after_its_command(command: str, name: str) -> None:
    assert pipeline_of(command.split()) == name


def test_a_shell_script_on_the_command_line_is_no_name() -> None:
    assert pipeline_of(["sh", "-c", "echo hi; exit 3"]) == "sh"


def test_a_document_without_an_environment_gets_that_of_the_run() -> None:
    meta = joined({"meta": {"filter": "r"}}, ENV, date="d")["meta"]
    assert meta == {"filter": "r", "env": {**ENV, "date": "d"}}


def test_what_a_document_says_itself_stays() -> None:
    own = {"env_name": "jenkins", "ci_id": "5", "ci_name": "drp", "date": "then"}
    meta = joined({"meta": {"env": own}}, ENV, date="d")["meta"]
    assert meta == {"env": own}
    meta = joined({"meta": {"date": "then", "pipeline": "p"}}, ENV, date="d")["meta"]
    assert meta["env"] == {key: text for key, text in ENV.items() if key != "pipeline"}


def test_a_made_up_run_becomes_the_one_that_all_outputs_name() -> None:
    found: list[dict[str, Any]] = [
        {"meta": {"env": {"run_id": "r9"}}},
        {"meta": {"ci_name": "drp"}},
    ]
    env = adopted(ENV, found)
    assert (env["run_id"], env["pipeline"]) == ("r9", "drp")
    assert all(named(joined(item, env, date="d")) == ("r9", "drp") for item in found)
    others = [{"meta": {"run_id": "a"}}, {"meta": {"run_id": "b"}}]
    assert adopted(ENV, others)["run_id"] == "r1"


@pytest.mark.parametrize(
    ("tail", "total", "text"),
    [
        (b"a\nb\n", 4, "a\nb"),
        (b"no newline", 10, "no newline"),
        (b" 10%\r 50%\r100%\r\ndone", 99, "[79 bytes before are not kept]\ndone"),
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07x", 26, "red x"),
        (b"half \xff \xe2\x82", 9, "half \ufffd \ufffd"),
        (b"a\tb\x07\x00", 5, "a\tb"),
        (b"one long line", 900, "[887 bytes before are not kept]\none long line"),
        (b"", 0, ""),
    ],
)
def test_the_log_is_what_a_terminal_shows_in_the_end(tail: bytes, total: int, text: str) -> None:
    assert log_text(tail, total=total) == text
