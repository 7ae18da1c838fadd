"""An InfluxDB that fails on demand, where the real one cannot be made to."""

import gzip
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx

from tests.support.told_kapacitor import parse_line

_DELETION = re.compile(r'DELETE FROM "((?:\\.|[^"\\])*)" WHERE time = (-?\d+)')
_POINT = re.compile(r'SELECT \* FROM "(.*)" WHERE time = (\d+) LIMIT 1')

Answer = httpx.Response | Exception


def refusal(status: int, words: str) -> httpx.Response:
    """Return what InfluxDB replies to a write that it does not take."""
    return httpx.Response(status, json={"error": words})


class FakeInfluxDB:
    """Keeps what it acknowledges; use it as `httpx.MockTransport(fake)`.

    Writes are answered with what `answers` holds, one by one, then by what `judge` says of the
    lines of each (None takes them all); queries with `query_answer`, or else `series`, after
    `when_asked` has been told of them.
    """

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.judge: Callable[[list[str]], Answer | None] = lambda _: None
        self.batches: list[list[str]] = []
        self.statements: list[str] = []
        self.headers: list[httpx.Headers] = []
        self.series: list[dict[str, Any]] = []
        self.query_answer: httpx.Response | None = None
        self.when_asked: Callable[[str], object] = lambda _: None
        self.is_up = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if not self.is_up:
            raise httpx.ConnectError("connection refused")
        if request.url.path == "/ping":
            return httpx.Response(204, headers={"X-Influxdb-Version": "1.8.10"})
        if request.url.path == "/query":
            self.statements.append(parse_qs(request.read().decode())["q"][0])
            self.when_asked(self.statements[-1])
            asked = _POINT.fullmatch(self.statements[-1])
            series = self.series
            if asked is not None:
                has = any(
                    line.startswith(asked[1]) and line.endswith(f" {asked[2]}")
                    for line in self.lines
                )
                series = [{"name": asked[1], "columns": ["time"], "values": [[0]]}] if has else []
            result = {"statement_id": 0, "series": series}
            return self.query_answer or httpx.Response(200, json={"results": [result]})
        self.headers.append(request.headers)
        body = request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        lines = body.decode().split("\n")
        answer = self.answers.pop(0) if self.answers else self.judge(lines)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            self.batches.append(lines)
        return answer or httpx.Response(204)

    @property
    def lines(self) -> list[str]:
        """All lines that were acknowledged, in order."""
        return [line for batch in self.batches for line in batch]


class KeepingInfluxDB(FakeInfluxDB):
    """Keeps points instead of lines, as the real one does, and refuses what that would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = self._take
        self.when_asked = self._forget
        self._points: dict[tuple[str, int, str], dict[str, Any]] = {}
        self._kinds: dict[tuple[str, str], type] = {}

    def values(self, time_ns: int) -> dict[str, Any]:
        """Return the fields of all points of a time, named `measurement.field`."""
        return {
            f"{name}.{key}": value
            for (name, time, _), fields in self._points.items()
            if time == time_ns
            for key, value in fields.items()
        }

    def times(self) -> set[int]:
        """Return the times of all points."""
        return {time_ns for _, time_ns, _ in self._points}

    def _take(self, lines: list[str]) -> httpx.Response | None:
        for line in lines:
            try:
                name, tags, fields, time_ns = parse_line(line)
                assert fields
            except (AssertionError, ValueError) as error:
                return refusal(400, f"unable to parse '{line}': {error}")
            for key, value in fields.items():
                if self._kinds.setdefault((name, key), type(value)) is not type(value):
                    return refusal(400, f'partial write: field type conflict: "{key}"')
            series = str(sorted(tags.items()))
            self._points.setdefault((name, time_ns, series), {}).update(fields)
        return None

    def _forget(self, statement: str) -> None:
        for quoted, time_ns in _DELETION.findall(statement):
            name = re.sub(r"\\(.)", r"\1", quoted)
            for place in [key for key in self._points if key[:2] == (name, int(time_ns))]:
                del self._points[place]
