"""What somebody sends, and what is secret, never gets into the log, whatever goes wrong."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from squash_api.logs import describe, words_of
from tests.support.builders import SECRET
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.records import in_record, refuse_inserts
from tests.support.service import READING, Service

MARK = "XyzzyMarkedXyzzy"


class _Model(BaseModel):
    number: int


def _value() -> None:
    float(MARK)


def _key() -> None:
    dict[str, int]()[MARK]


def _pydantic() -> None:
    _Model.model_validate({"number": MARK})


def _json() -> None:
    orjson.loads(f'{{"a": {MARK}}}')


def _unicode() -> None:
    f"{MARK}\ud800".encode()


def _group() -> None:
    raise ExceptionGroup(MARK, [ValueError(MARK), KeyError(MARK)])


def _caused() -> None:
    try:
        _value()
    except ValueError as error:
        raise RuntimeError(MARK) from error


def _in_context() -> None:
    try:
        _key()
    except KeyError:
        raise OSError(5, "Input/output error", MARK)  # noqa: B904  the context is what it is about


def _noted() -> None:
    error = ValueError("plain")
    error.add_note(MARK)
    raise error


def _database() -> None:
    engine = create_engine("sqlite://", hide_parameters=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a TEXT UNIQUE)"))
        for _ in range(2):
            connection.execute(text("INSERT INTO t VALUES (:a)"), {"a": MARK})


FAILURES: list[Callable[[], None]] = [
    _value, _key, _pydantic, _json, _unicode, _group, _caused, _in_context, _noted, _database,
]  # fmt: skip


@pytest.mark.parametrize("fail", FAILURES)
def test_the_description_of_an_exception_has_its_place_but_not_its_values(
    fail: Callable[[], None],
) -> None:
    with pytest.raises(BaseException) as caught:
        fail()
    found = describe(caught.value)
    assert MARK not in found.replace("MARK", "")
    assert f"in {fail.__name__}" in found
    assert type(caught.value).__qualname__ in found


def test_what_cannot_contain_values_is_told() -> None:
    assert words_of(OSError(28, "No space left on device", MARK)) == (
        "OSError: No space left on device"
    )
    cause = sqlite3.OperationalError("disk I/O error")
    assert words_of(DBAPIError(MARK, {"a": MARK}, cause)) == (
        "sqlite3.OperationalError: disk I/O error"
    )
    assert words_of(ZeroDivisionError("division by zero")).endswith("division by zero")
    assert words_of(ValueError(MARK)) == "ValueError"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (psycopg.OperationalError(f"connection is lost\n{MARK}"), "connection is lost"),
        (psycopg.errors.LockNotAvailable("lock timeout"), "lock timeout"),
        (psycopg.errors.UniqueViolation(f"Key (name)=({MARK}) exists"), None),
        (psycopg.errors.InvalidTextRepresentation(f"invalid input: {MARK}"), None),
    ],
    ids=lambda item: type(item).__name__,
)
def test_of_postgresql_is_told_what_is_about_connections_and_locks_and_nothing_else(
    error: Exception, words: str | None
) -> None:
    told = words_of(DBAPIError(MARK, {"a": MARK}, error))
    assert MARK not in told
    assert (words is None) == (": " not in told)
    assert words is None or told.endswith(f": {words}")


def test_causes_that_go_round_in_a_circle_end() -> None:
    one, other = ValueError(), KeyError()
    one.__context__, other.__context__ = other, one
    assert describe(one).count("Traceback") == 2


PROGRAM = f"""
import asyncio, logging, sys, threading, warnings
from squash_api.logs import configure_logs
configure_logs()
mark = "{MARK[:8]}" + "{MARK[8:]}"
try:
    float(mark)
except ValueError:
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
thread = threading.Thread(target=lambda: float(mark), name="worker")
thread.start()
thread.join()
warnings.warn(mark + " did not parse as unit")
class Broken:
    def __del__(self):
        float(mark)
Broken()
async def main():
    task = asyncio.get_running_loop().create_task(fails())
    await asyncio.sleep(0)
    del task
async def fails():
    float(mark)
asyncio.run(main())
import gc; gc.collect()
"""


def test_what_nobody_has_caught_is_a_line_of_the_log_like_all_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert MARK not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "Exception in ASGI application",
        "uncaught exception",
        "a warning of Python",
        "uncaught exception",
        "Task exception was never retrieved",
    ]
    assert sum("ValueError" in line.get("exception", "") for line in lines) == 4


# The service


BROKEN = """
from unittest.mock import patch
from squash_api.cli import main
from squash_api.accounts.accounts import Accounts
def fail(*given, **more):
    raise RuntimeError(f"{given} {more}")
patch("squash_api.ingest.ingest._judge", fail).start()
patch("squash_api.routes.dependencies.decode_exactly", fail).start()
main()
"""


class BrokenService(Service):
    """A service in which the work on every body fails, with all that it was given."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", BROKEN, "serve"]


def job(**changes: Any) -> dict[str, Any]:
    value = {"metric": f"{MARK}.a", "value": 1.0, "unit": "", "identifier": MARK, "blob_refs": []}
    meta = {"env": {"env_name": MARK}, "dataset": MARK, "packages": {}}
    return {"measurements": [value], "blobs": [], "meta": meta, **changes}


BODIES: list[tuple[str, str, Any]] = [
    ("POST", "/job", job()),
    ("POST", "/job", job(measurements=[{"metric": MARK, "value": MARK}])),
    ("POST", "/job", job(measurements=MARK)),
    ("POST", "/job", f'{{"a": {MARK}'),
    ("POST", "/job?strict=true", job(measurements=[{"metric": f"{MARK}.a", "value": "x" + MARK}])),
    ("POST", "/metrics", {"metrics": [{"name": MARK, "unit": MARK}]}),
    ("POST", "/metrics", {"metrics": {MARK: {"unit": MARK}}}),
    ("POST", "/specs", {"specs": [{"name": MARK, "threshold": {"operator": MARK}}]}),
    ("POST", "/register", {"username": f"{MARK}\ufe0f", "password": MARK}),
    ("POST", "/register", {"username": MARK, "password": MARK, "key": MARK}),
    ("POST", "/auth", {"username": "eve", "password": MARK}),
    ("POST", "/auth", {"username": {"a": MARK}, "password": MARK}),
    ("POST", "/code_changes", {"a": MARK}),
]


def send(ada: Calls, method: str, path: str, body: Any) -> int:
    content = body if isinstance(body, str) else json.dumps(body)
    # After a 500 the server may end the connection.
    headers = {"Content-Type": "application/json", "Connection": "close"}
    return ada(method, path, content=content, headers=headers).status_code


@pytest.mark.parametrize("broken", ["nothing", "writing", "work"])
def test_no_body_and_no_secret_gets_into_the_log(tmp_path: Path, broken: str) -> None:
    with Service(tmp_path) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        ada = log_in(client, "ada")
    ((stored_hash,),) = in_record(tmp_path, "SELECT password_hash FROM user_account")
    if broken == "writing":
        refuse_inserts(tmp_path, "job", "definition", "user_account", "attempt", "metric")
    kind = BrokenService if broken == "work" else Service
    service = kind(tmp_path, **READING)
    with service, httpx.Client(base_url=service.url, timeout=60) as client:
        ada = Calls(client, ada.token)
        statuses = [send(ada, *request) for request in BODIES]
        if broken != "work":
            client.request("GET", "/users", auth=("eve", MARK))
            client.request("GET", "/users", auth=("ada", MARK))
        client.get("/users", headers={"Authorization": f"JWT {ada.token}{MARK}"})
    log = service.log()
    assert ("unexpected error" in log) == (broken != "nothing")
    assert (500 in statuses) == (broken != "nothing")
    for secret in (MARK, stored_hash, stored_hash[-20:], PASSWORD, SECRET, ada.token):
        assert secret not in log
