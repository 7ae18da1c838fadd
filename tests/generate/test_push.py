import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.generate.chronograf.server import Chronograf, Dashboard
from squash_api.generate.comparison import Step, compare, push
from squash_api.generate.kapacitor.server import Handler, Kapacitor, Task
from squash_api.generate.output import MARK
from squash_api.generate.servers import Thing, UnreachableError
from tests.support.fake_kapacitor import FakeKapacitor

SCRIPT = f"""// {MARK}
dbrp "squash"."autogen"
stream
    |from().measurement('demo')
    |alert().id('x/{{{{ .Group }}}}').crit(lambda: "AM1" > 1.0).topic('metrics-default')
"""
BROKEN = SCRIPT.replace("{{ .Group }}", "{{ .Group }")
CELL: dict[str, Any] = {"x": 0, "y": 0, "w": 6, "h": 3, "name": "n", "type": "note", "note": MARK}
DASHBOARD = {
    "id": "2000",
    "name": "Demo",
    "cells": [{**CELL, "i": "a", "queries": [{"query": "", "type": "influxql"}]}],
    "templates": [],
}
FILES = {
    "kapacitor/tasks/demo.AM1.tick": SCRIPT,
    "kapacitor/handlers/metrics-default-slack.yaml": (
        f"# {MARK}\ntopic: metrics-default\nid: metrics-default-slack\nkind: slack\n"
    ),
    "chronograf/demo.dashboard": json.dumps(DASHBOARD) + "\n",
}
HANDLER = "metrics-default/metrics-default-slack"


class Servers:
    """Both servers, and what is pushed to them."""

    def __init__(self, kapacitor: str, chronograf: str, output: Path) -> None:
        self.kapacitor = Kapacitor(kapacitor)
        self.chronograf = Chronograf(chronograf)
        self.output = output

    def close(self) -> None:
        self.kapacitor.close()
        self.chronograf.close()

    def live(self) -> list[Thing]:
        return [*self.kapacitor.things(), *self.chronograf.things()]

    def push(self, files: dict[str, str] | None = None, *, prune: bool = False) -> list[Step]:
        files = FILES if files is None else files
        comparison = compare(files, self.output, self.live(), ["task", "handler", "dashboard"])
        servers = {"kapacitor": self.kapacitor, "chronograf": self.chronograf}
        return list(push(comparison, servers, prune=prune))

    def names(self) -> list[tuple[str, str]]:
        return sorted((thing.kind, thing.name) for thing in self.live())


@pytest.fixture
def servers(kapacitor_url: str, chronograf_url: str, tmp_path: Path) -> Iterator[Servers]:
    found = Servers(kapacitor_url, chronograf_url, tmp_path)
    yield found
    found.close()


def test_empty_servers_get_all_handlers_first(servers: Servers) -> None:
    assert servers.push() == [
        Step("handler", HANDLER, "created"),
        Step("task", "demo.AM1", "created"),
        Step("dashboard", "Demo", "created"),
    ]
    assert servers.names() == [
        ("dashboard", "Demo"),
        ("handler", "metrics-default-slack"),
        ("task", "demo.AM1"),
    ]


def test_the_second_time_there_is_nothing_to_do(servers: Servers) -> None:
    servers.push()
    assert servers.push() == []


def test_what_was_changed_on_the_servers_is_as_generated_again(servers: Servers) -> None:
    servers.push()
    before = servers.names()
    other = Task("demo.AM1", SCRIPT.replace("1.0", "9.0"))
    servers.kapacitor.put(other, Task("demo.AM1", SCRIPT))
    changed = Handler("metrics-default", "metrics-default-slack", "slack", {"channel": "#x"})
    servers.kapacitor.put(changed, changed)
    (old,) = servers.chronograf.dashboards()
    servers.chronograf.put(Dashboard("Demo", "2000", {**DASHBOARD, "cells": []}), old)
    assert {step.outcome for step in servers.push()} == {"updated"}
    assert servers.push() == []
    assert servers.names() == before
    assert servers.chronograf.dashboards()[0].id == old.id


def test_orphans_are_left_without_prune(servers: Servers) -> None:
    servers.push()
    steps = servers.push({})
    assert {step.outcome for step in steps} == {"left"}
    assert len(servers.names()) == 3


def test_orphans_are_removed_with_prune(servers: Servers) -> None:
    servers.push()
    assert {step.outcome for step in servers.push({}, prune=True)} == {"removed"}
    assert servers.names() == []


def test_what_is_not_ours_is_never_removed(servers: Servers) -> None:
    servers.kapacitor.put(Task("mine", SCRIPT), None)
    servers.kapacitor.put(Task("demo.mine", SCRIPT.replace(MARK, "by hand")), None)
    servers.kapacitor.put(Handler("metrics-default", "mine", "slack"), None)
    mine = {**DASHBOARD, "name": "Mine", "cells": []}
    servers.chronograf.put(Dashboard("Mine", "", mine), None)
    before = servers.names()
    assert servers.push({}, prune=True) == []
    assert servers.names() == before


def test_a_task_that_does_not_start_fails_and_the_others_go_on(servers: Servers) -> None:
    files = {**FILES, "kapacitor/tasks/demo.A.tick": BROKEN}
    steps = {step.name: step for step in servers.push(files)}
    assert steps["demo.A"].outcome == "failed"
    assert "unexpected" in steps["demo.A"].words
    assert steps["demo.AM1"].outcome == steps["Demo"].outcome == "created"
    assert ("task", "demo.A") not in servers.names()


def test_a_disabled_task_is_started(servers: Servers, kapacitor_url: str) -> None:
    servers.push()
    httpx.patch(
        f"{kapacitor_url}/kapacitor/v1/tasks/demo.AM1",
        json={"status": "disabled"},
        trust_env=False,
    ).raise_for_status()
    assert servers.push() == [Step("task", "demo.AM1", "started")]
    assert servers.push() == []


def test_a_dashboard_of_a_file_is_not_replaced(servers: Servers, live_resources: Path) -> None:
    place = live_resources / "demo.dashboard"
    servers.push({**FILES, "chronograf/demo.dashboard": "{}"})
    place.write_text(json.dumps({**DASHBOARD, "cells": []}))
    steps = servers.push()
    assert [step.outcome for step in steps] == ["failed"]
    assert "reads it from a file" in steps[0].words
    place.write_text(FILES["chronograf/demo.dashboard"])
    assert servers.push() == []
    place.unlink()


def test_a_server_that_was_not_compared_is_left_alone(tmp_path: Path) -> None:
    fake = FakeKapacitor()
    kapacitor = Kapacitor("http://k:9092", transport=httpx.MockTransport(fake))
    comparison = compare(FILES, tmp_path, [], ["task"])
    assert [step.kind for step in push(comparison, {"kapacitor": kapacitor}, prune=True)] == [
        "task"
    ]


def test_a_server_that_goes_away_ends_it(tmp_path: Path) -> None:
    fake = FakeKapacitor()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return fake(request)
        raise httpx.ConnectError("connection refused")

    kapacitor = Kapacitor("http://k:9092", transport=httpx.MockTransport(answer))
    comparison = compare(FILES, tmp_path, [], ["task", "handler"])
    with pytest.raises(UnreachableError, match="refused"):
        list(push(comparison, {"kapacitor": kapacitor}, prune=False))
