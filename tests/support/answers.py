"""Asks the service on a copy of the record of 1.2.1, and writes what it answers as text.

`python -m tests.support.answers` keeps the answers of the code as it is, in place of those there
are; `python -m tests.support.answers job runs-page` those to these requests only.
"""

import json
import lzma
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import time_machine
from pyarrow import parquet

from squash_api.record.copying import Progress
from squash_api.record.installation import move
from tests.support.calls import PASSWORD
from tests.support.in_process import service
from tests.support.records import Databases, databases, passing_folder
from tests.support.requests_of_1_2_1 import REQUESTS, Asked

FOLDER = Path(__file__).parent.parent / "data" / "record_1_2_1"
ANSWERS = FOLDER / "answers"
NOW = datetime(2026, 11, 29, 18, 30, tzinfo=UTC)
"""The present: two days after the record was made, so that some of it is late, and some old."""

_NOBODY = "http://127.0.0.1:9"
SETTINGS: dict[str, Any] = {
    "url": "https://squash.example.org",
    "specs": tuple(FOLDER / "specs" / name for name in ("camera", "srd", "checks")),
    # The targets are those of the record. Nobody is there, and nothing is sent.
    "influx_url": _NOBODY,
    "influx_targets": ({"name": "archive", "url": _NOBODY, "database": "archive"},),
    "deliver": "off",
    "watch": "off",
}
_LEFT_OUT = {
    "content-length",
    "content-security-policy",
    "cross-origin-opener-policy",
    "permissions-policy",
    "referrer-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-request-id",
}
_BETWEEN = f"\n{'=' * 78}\n\n"


@contextmanager
def at_the_time_of_the_record() -> Iterator[None]:
    """Stop the clock at `NOW`; what waits for something waits all the same."""
    with time_machine.travel(NOW, tick=False):
        yield


@contextmanager
def service_of_1_2_1(folder: Path, **settings: Any) -> Iterator[httpx.Client]:
    """Run the service on a copy of the record in a folder; `settings` are other than usual ones.

    In PostgreSQL it is a copy of the record that was moved there.
    """
    there = databases()
    if there is None:
        (folder / "squash.db").write_bytes(record_of_1_2_1())
    else:
        there.put(folder, _moved_into(there))
    with service(folder, **(SETTINGS | settings)) as client:
        yield client


@cache
def _moved_into(there: Databases) -> str:
    """Move the record of 1.2.1 into a database, and return its name."""
    name = "record_of_1_2_1"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "squash.db"
        path.write_bytes(record_of_1_2_1())
        for _ in move(f"sqlite:///{path}", there.empty_url(name), Progress()):
            pass
    return name


@cache
def record_of_1_2_1() -> bytes:
    """Return the file of the record."""
    return lzma.decompress((FOLDER / "squash.sqlite.xz").read_bytes())


def is_harmless(asked: Sequence[Asked]) -> bool:
    """Return whether requests leave a service as it was, so that others can use it too."""
    return all(item.method == "GET" and not item.settings for item in asked)


def answer_text(client: httpx.Client, asked: Sequence[Asked]) -> str:
    """Ask one after the other, and return requests and answers as text."""
    return _BETWEEN.join(_exchange(client, item) for item in asked)


def _exchange(client: httpx.Client, asked: Asked) -> str:
    headers = dict(asked.headers)
    lines = [f"{asked.method} {asked.path}", *(f"{key}: {text}" for key, text in headers.items())]
    if asked.by:
        lines.append(f"by {asked.by}")
        headers["Authorization"] = f"JWT {_token(asked.by)}"
    if asked.body is not None:
        lines += ["", asked.body]
    content = None if asked.body is None else asked.body.encode()
    reply = client.request(asked.method, asked.path, headers=headers, content=content)
    # The length is that of the body; the guard's are tested in `tests/routes/test_guarding.py`.
    told = sorted(item for item in reply.headers.multi_items() if item[0] not in _LEFT_OUT)
    lines += ["", f"-> {reply.status_code}", *(f"{key}: {text}" for key, text in told), ""]
    return "\n".join([*lines, _settled(_body_text(reply)), ""])


@cache
def _token(name: str) -> str:
    """Return a token of a user, good for every copy: to check a password takes longer than most."""
    with passing_folder() as folder, service_of_1_2_1(folder) as client:
        reply = client.request("POST", "/auth", json={"username": name, "password": PASSWORD})
        token: str = reply.json()["access_token"]
        return token


def _body_text(reply: httpx.Response) -> str:
    """Return a body as it is, but JSON and Parquet a value a line."""
    kind = reply.headers.get("content-type", "").partition(";")[0]
    if kind == "application/json":
        # In the order of the service, and with strange letters escaped.
        return json.dumps(reply.json(), indent=1)
    if kind == "application/vnd.apache.parquet":
        table = parquet.read_table(BytesIO(reply.content))
        columns = [f"{field.name}: {field.type}" for field in table.schema]
        return json.dumps({"columns": columns, "rows": table.to_pylist()}, indent=1, default=str)
    return reply.content.decode()


def _numbered(pattern: str, word: str) -> Callable[[str], str]:
    """Return what replaces each text of a pattern by a word and a number, the same by the same."""

    def replace(text: str) -> str:
        numbers: dict[str, str] = {}
        return re.sub(
            pattern, lambda found: numbers.setdefault(found[0], f"{word}-{len(numbers) + 1}"), text
        )

    return replace


def _by(pattern: str, replacement: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, replacement, text, flags=re.DOTALL)


_SETTLING: tuple[Callable[[str], str], ...] = (
    # What a process takes, and a disk that only some records have.
    _by(r"(?m)^((?:process|squash_record)_\w+ )\d[^\n]*$", r"\1number"),
    _by(r"(?m)^(?:# (?:HELP|TYPE) )?squash_record_disk_free_bytes [^\n]*\n", ""),
    # A token is signed and holds a random number.
    _by(r'(?<="access_token": ")[\w.-]+', "token"),
    # The version is that of the code, not of the record: addresses of styles and scripts have it,
    # `/version`, and the API's own description.
    _by(r"(?<=\?v=)\d+\.\d+\.\d+", "release"),
    _by(r"(?<=<p>SQuaSH )\d+\.\d+\.\d+", "release"),
    # The documentation is tested where it is written.
    _by(r"(?<=<article>).*?(?=</article>)", "documentation"),
    _by(r'(?<="release": ")[^"]+', "release"),
    _by(r'("info": \{[^}]*"version": ")[^"]+', r"\1release"),
    # A report as a file has the styles inside, which pages load.
    _by(r"(?<=<style>).*?(?=</style>)", "styles"),
    # How long requests took.
    _by(r"(squash_request_seconds_(?:sum|bucket)\{[^\n]*\}) \S+", r"\1 time"),
    # Bokeh counts its models for as long as the process lives, and gives documents random names.
    _numbered(r'(?<=")p\d{4,}(?=")', "model"),
    _numbered(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "random"),
)


def _settled(text: str) -> str:
    """Return a body with what is another each time, or with each release, called by a word."""
    for settle in _SETTLING:
        text = settle(text)
    return text


@dataclass(frozen=True)
class Kept:
    """An answer in JSON that is kept, and the request that it is to."""

    name: str
    method: str
    path: str
    status: str
    content: Any


def kept_in_json() -> Iterator[Kept]:
    """Read the answers that are kept, as far as they are JSON."""
    for path in sorted(ANSWERS.iterdir()):
        for text in path.read_bytes().decode().split(_BETWEEN):
            asked, _, answer = text.partition("\n-> ")
            told, _, body = answer.partition("\n\n")
            if "\ncontent-type: application/json" in told:
                method, place = asked.partition("\n")[0].split(" ", 1)
                yield Kept(path.stem, method, place, told[:3], json.loads(body))


def answer_path(name: str) -> Path:
    """Return where the answer to a request is kept."""
    return ANSWERS / f"{name}.txt"


def keep(names: Sequence[str]) -> None:
    """Keep the present answers to these requests."""
    ANSWERS.mkdir(exist_ok=True)
    for name in names:
        asked = REQUESTS[name]
        with (
            tempfile.TemporaryDirectory() as folder,
            at_the_time_of_the_record(),
            service_of_1_2_1(Path(folder), **asked[0].settings) as client,
        ):
            answer_path(name).write_bytes(answer_text(client, asked).encode())


if __name__ == "__main__":
    keep(sys.argv[1:] or list(REQUESTS))
