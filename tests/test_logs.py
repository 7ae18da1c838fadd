"""Logging is of the whole process, so each test has a process of its own, or the pure part."""

import json
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest

from squash_api.logs import Seldom, _to_text, without_credentials

PROGRAM = """
import logging, structlog
from squash_api.logs import configure_logs, without_credentials
configure_logs()
log = structlog.get_logger("test")
log.debug("not shown")
log.info("stored", job=5, name="\\u03a9")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", target="base")
logging.getLogger("uvicorn.error").info("from %s", "uvicorn")
logging.getLogger("library").info("not shown")
logging.getLogger("library").warning("from a library")
try:
    raise ConnectionError("reset by peer")
except ConnectionError:
    logging.getLogger("sqlalchemy.pool.impl").exception("Exception during reset or similar")
"""


@pytest.fixture(scope="module")
def output() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )


@pytest.fixture(scope="module")
def lines(output: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.stderr.splitlines()]


def test_standard_output_stays_free_for_what_was_asked_for(
    output: subprocess.CompletedProcess[str],
) -> None:
    assert output.stdout == ""


def test_every_line_is_an_object_with_event_level_and_time(lines: list[dict[str, Any]]) -> None:
    assert [(line["event"], line["level"]) for line in lines] == [
        ("stored", "info"),
        ("failed", "error"),
        ("from uvicorn", "info"),
        ("from a library", "warning"),
        ("a connection to the database: ConnectionError", "error"),
    ]
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_a_connection_that_the_database_ended_is_no_traceback(lines: list[dict[str, Any]]) -> None:
    assert "exception" not in lines[-1]


def test_what_lasts_is_due_once_until_it_is_over() -> None:
    seldom = Seldom()
    due = [seldom.is_due(what) for what in ("full", "full", "locked")]
    seldom.over()
    assert [*due, seldom.is_due("full")] == [True, False, True, True]


def test_what_is_known_is_in_keys_of_its_own(lines: list[dict[str, Any]]) -> None:
    assert (lines[0]["job"], lines[0]["name"]) == (5, "Ω")


def test_an_exception_is_shown_in_its_line(lines: list[dict[str, Any]]) -> None:
    assert "ZeroDivisionError" in lines[1]["exception"]


@pytest.mark.parametrize(
    "value", ["\ud800", 2**70, object(), {1: 2}, {"a": "\udfff"}, b"x", float("nan"), {("a",): 1}]
)
def test_whatever_is_logged_makes_a_line_of_json(value: object) -> None:
    line = _to_text({"event": "x", "value": value})
    assert json.loads(line)["event"] == "x"
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/keys/sq_0a1b2c3d4e5f_" + "0f" * 36, "/keys/sq_0a1b2c3d4e5f_..."),
        ("/keys/sq_0a1b2c3d4e5f_0f", "/keys/sq_0a1b2c3d4e5f_..."),
        ("a eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl b", "a eyJ... b"),
        ("/keys/0a1b2c3d4e5f", "/keys/0a1b2c3d4e5f"),
        ("sq_ and eyJ, sequences_of_words", "sq_ and eyJ, sequences_of_words"),
    ],
)
def test_keys_and_tokens_are_hidden(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


PROGRAM_ON_A_TERMINAL = """
import structlog
from squash_api.logs import configure_logs, follow_settings, note_jobs
configure_logs("serve")
log = structlog.get_logger("test")
note_jobs(log, "derived", [3])
follow_settings(instance="one", logs_jobs=True)
note_jobs(log, "derived", [])
note_jobs(log, "derived", [4, 3, 4], target="base")
log.info("an \\x1b[31mevent", path="/\\x1b[2J\\n x")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def on_a_terminal() -> list[str]:
    """Run the program with a terminal for standard error."""
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-c", PROGRAM_ON_A_TERMINAL]
        subprocess.run(command, stderr=theirs, check=True, timeout=60)
        return os.read(ours, 100_000).decode().splitlines()
    finally:
        os.close(ours)
        os.close(theirs)


def test_on_a_terminal_a_line_is_for_people_and_controls_nothing() -> None:
    derived, event, failed, *trace = on_a_terminal()
    assert re.fullmatch(r'\d\d:\d\d:\d\d info     derived jobs=\[3,4\] target="base"', derived)
    assert event.endswith(r'info     an \u001b[31mevent path="/\u001b[2J\n x"')
    assert failed.endswith("error    failed")
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "ZeroDivisionError: division by zero"
