"""A Kapacitor that is told points, where the real one cannot be had: it runs the generated tasks.

It reads the tasks' own text, and does with each point what Kapacitor 1.5.7 does (measured).
"""

import gzip
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import httpx

from squash_api.generate.kapacitor.verdicts import VERDICT_TASK
from tests.support.tick_reader import ReadTask, Seen, read_task

_ROOT = "/kapacitor/v1"
_HEADERS = {"X-Kapacitor-Version": "1.5.7"}
_PART = r"(?:\\.|[^\\,= ])+"
_TAG = re.compile(rf",({_PART})=({_PART})")
_FIELD = re.compile(rf'({_PART})=("(?:\\.|[^"\\])*"|[^,]+),?')
# A text may have line breaks.
_LINE = re.compile(r'(?:[^"\n]|"(?:\\.|[^"\\])*")+')
_TAG_IN_ID = re.compile(r'\{\{ index \.Tags "(\w+)" \}\}')


def parse_line(line: str) -> tuple[str, dict[str, str], dict[str, float | str], int]:
    """Return measurement, tags, fields and time of a line as the service writes it."""
    name = re.match(r"(?:\\.|[^\\, ])+", line)
    assert name is not None
    place, tags = name.end(), {}
    while (tag := _TAG.match(line, place)) is not None:
        tags[_plain(tag[1])] = _plain(tag[2])
        place = tag.end()
    rest, _, time_ns = line[place + 1 :].rpartition(" ")
    fields: dict[str, float | str] = {}
    for key, text in _FIELD.findall(rest):
        is_text = text.startswith('"')
        fields[_plain(key)] = _plain(text[1:-1]) if is_text else float(text)
    return _plain(name[0]), tags, fields, int(time_ns)


def _plain(text: str) -> str:
    return re.sub(r"\\([,= \"\\])", r"\1", text)


def _iso(time_ns: int) -> str:
    whole = datetime.fromtimestamp(time_ns // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09d}Z"


class ToldKapacitor:
    """Keeps the state of each alert; use it as `httpx.MockTransport(fake)`.

    Parameters
    ----------
    files
        The generated files.
    now_ns
        What its clock says.
    """

    def __init__(self, files: Mapping[str, str], *, now_ns: int) -> None:
        self.tasks: dict[str, ReadTask] = {}
        self.now_ns = now_ns
        self.states: dict[str, str] = {}
        self.changes: Counter[str] = Counter()
        """How often the state of each alert has changed."""
        self.told: list[tuple[str, str, Seen]] = []
        """Each change: the alert, its new level, and the point."""
        self.lines: list[str] = []
        self.is_up = True
        self.takes_in = True
        """Whether it works on what it takes; what it has not worked on is lost when it restarts."""
        self.is_slow = False
        """Whether the next write takes too long: it is worked on only with `finish`."""
        self._unfinished: list[str] = []
        self.refuses: str | None = None
        """A part of the lines that it cannot parse."""
        self.has_statistics = True
        self._process = 0
        self._times: dict[str, int] = {}
        self._started: dict[str, int] = {}
        self.load(files)

    def load(self, files: Mapping[str, str]) -> None:
        """Load generated tasks; all are started again."""
        texts = {
            path.removeprefix("kapacitor/tasks/").removesuffix(".tick"): text
            for path, text in files.items()
            if path.endswith(".tick") and ("/squash." not in path or VERDICT_TASK in path)
        }
        self._texts = texts
        self.tasks = {name: read_task(text) for name, text in texts.items()}
        for name in self.tasks:
            self.restart_task(name)

    def restart_task(self, name: str) -> None:
        """Start a task again."""
        self._started[name] = self._started.get(name, 0) + 1

    def restart(self, *, keeps_states: bool = True, starts_tasks: bool = True) -> None:
        """Start it again; it knows the states from its disk, unless that is new."""
        self._process += 1
        self.is_up = self.takes_in = True
        for name in self.tasks if starts_tasks else ():
            self.restart_task(name)
        if not keeps_states:
            self.states.clear()

    def finish(self) -> None:
        """Work on what took too long."""
        lines, self._unfinished = self._unfinished, []
        for line in lines:
            self._take(line)

    def raised(self) -> dict[str, str]:
        """Return the alerts that are not OK."""
        return {name: level for name, level in self.states.items() if level != "OK"}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if not self.is_up:
            raise httpx.ConnectError("connection refused")
        path = unquote(request.url.path).removeprefix(_ROOT)
        if path == "/write":
            return self._write(request)
        return httpx.Response(200, json=self._answer(path), headers=_HEADERS)

    def _answer(self, path: str) -> Any:
        if path == "/tasks":
            return {
                "tasks": [
                    {
                        "id": name,
                        "last-enabled": self._started[name],
                        "executing": True,
                        "script": self._texts[name],
                    }
                    for name in self.tasks
                ]
            }
        if path == "/debug/vars":
            tags = {"task": "task_master:main", "parent": "write_points", "child": "stream"}
            found = {f"process-{self._process}": {"name": "edges", "tags": tags}}
            return {"kapacitor": found if self.has_statistics else {}}
        if path == "/alerts/topics":
            return {"topics": [{"id": "metrics-default"}]}
        assert path == "/alerts/topics/metrics-default/events", path
        events = [
            {"id": name, "state": {"time": _iso(self._times[name]), "level": level}}
            for name, level in self.states.items()
            if name in self._times
        ]
        return {"events": events}

    def _write(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        lines = _LINE.findall(content.decode())
        bad = [line for line in lines if self.refuses is not None and self.refuses in line]
        if bad:
            return httpx.Response(400, text=f"unable to parse '{bad[0]}': no", headers=_HEADERS)
        assert request.url.params["precision"] == "ns"
        if self.is_slow:
            self.is_slow = False
            self._unfinished += lines
            raise httpx.ReadTimeout("timed out")
        place = request.url.params["db"], request.url.params.get("rp")
        if self.takes_in and place == ("squash", "autogen"):
            self.lines.extend(lines)
            for line in lines:
                self._take(line)
        return httpx.Response(204, headers=_HEADERS)

    def _take(self, line: str) -> None:
        measurement, tags, fields, time_ns = parse_line(line)
        seen = Seen(tags, fields, time_ns=time_ns, now_ns=self.now_ns)
        for task in self.tasks.values():
            if task.measurement != measurement:
                continue
            for branch, level, made in task.judged(seen):
                names = sorted(branch.texts("groupBy"))
                group = ",".join(f"{name}={made.tags.get(name, '')}" for name in names)
                (template,) = branch.texts("id")
                alert = template.replace("{{ .Group }}", group)
                for tag in _TAG_IN_ID.findall(template):
                    alert = alert.replace(f'{{{{ index .Tags "{tag}" }}}}', made.tags[tag])
                self._judge(alert, level or "OK", seen)

    def _judge(self, alert: str, level: str, seen: Seen) -> None:
        if self.states.get(alert, "OK") != level:
            self.changes[alert] += 1
            self.told.append((alert, level, seen))
            self._times[alert] = seen.time_ns
        self.states[alert] = level
