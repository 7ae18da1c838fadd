import json
from pathlib import Path
from typing import Any

import pytest

from squash_api.generate.chronograf.server import Dashboard
from squash_api.generate.comparison import Comparison, Difference, compare, things_in
from squash_api.generate.files import write_files
from squash_api.generate.kapacitor.server import Handler, Task
from squash_api.generate.output import MARK
from squash_api.generate.outputs import file_kind_of
from squash_api.generate.servers import Thing

SCRIPT = f"// {MARK}\nstream\n"
TASK = "kapacitor/tasks/demo.AM1.tick"
HANDLER_PATH = "kapacitor/handlers/metrics-default-slack.yaml"
DASHBOARD_PATH = "chronograf/demo.dashboard"
SOURCE = "chronograf/squash.src"
FILES = {
    TASK: SCRIPT,
    HANDLER_PATH: f"# {MARK}\ntopic: metrics-default\nid: metrics-default-slack\nkind: slack\n",
    DASHBOARD_PATH: json.dumps({"id": "2000", "name": "Demo", "note": MARK}) + "\n",
    SOURCE: json.dumps({"id": "1", "generated": MARK}) + "\n",
}
LIVE: list[Thing] = [
    Task("demo.AM1", SCRIPT),
    Handler("metrics-default", "metrics-default-slack", "slack"),
    Dashboard("Demo", "7", {"name": "Demo", "note": MARK}),
]
ALL: list[str] = ["task", "handler", "dashboard"]


def compared(
    output: Path,
    live: list[Thing],
    kinds: list[str] | None = None,
    files: dict[str, str] | None = None,
) -> Comparison:
    return compare(FILES if files is None else files, output, live, ALL if kinds is None else kinds)


def differences(output: Path, live: list[Thing]) -> list[Difference]:
    return list(compared(output, live).differences)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A directory with the generated files."""
    write_files(FILES, tmp_path)
    return tmp_path


def test_equal_sides_have_no_differences(output: Path) -> None:
    comparison = compared(output, LIVE)
    assert comparison.differences == ()
    assert len(comparison.generated) == 3


def test_an_empty_server_misses_all(output: Path) -> None:
    assert differences(output, []) == [
        Difference("dashboard", "Demo", "same", "missing"),
        Difference("handler", "metrics-default/metrics-default-slack", "same", "missing"),
        Difference("task", "demo.AM1", "same", "missing"),
    ]


def test_kinds_without_a_server_are_not_compared(output: Path) -> None:
    (output / TASK).unlink()
    (output / DASHBOARD_PATH).unlink()
    assert [item.kind for item in compared(output, [], ["dashboard"]).differences] == ["dashboard"]


def test_connections_are_no_things(output: Path) -> None:
    (output / SOURCE).unlink()
    assert differences(output, LIVE) == []


def test_a_script_changed_on_the_server_alone_is_told(output: Path) -> None:
    live = [Task("demo.AM1", SCRIPT + "|log()"), *LIVE[1:]]
    assert differences(output, live) == [
        Difference("task", "demo.AM1", "same", "changed", "changed on the server alone")
    ]


def test_specifications_ahead_of_file_and_server_are_told(output: Path) -> None:
    old = SCRIPT + "|log()\n"
    (output / TASK).write_text(old)
    assert differences(output, [Task("demo.AM1", old), *LIVE[1:]]) == [
        Difference("task", "demo.AM1", "changed", "changed", "the server has what the file says")
    ]


def test_three_different_sides_are_told(output: Path) -> None:
    (output / TASK).write_text(SCRIPT + "|log()\n")
    assert differences(output, [Task("demo.AM1", SCRIPT + "|eval()\n"), *LIVE[1:]]) == [
        Difference("task", "demo.AM1", "changed", "changed")
    ]


def test_a_file_that_alone_differs_is_told(output: Path) -> None:
    (output / HANDLER_PATH).unlink()
    (output / DASHBOARD_PATH).write_text("not JSON")
    assert differences(output, LIVE) == [
        Difference("dashboard", "Demo", "changed", "same"),
        Difference("handler", "metrics-default/metrics-default-slack", "missing", "same"),
    ]


def test_orphans_are_told_on_both_sides(output: Path) -> None:
    (output / "kapacitor/tasks/demo.Old.tick").write_text(SCRIPT)
    assert differences(output, [*LIVE, Task("demo.Old", SCRIPT), Task("demo.Gone", SCRIPT)]) == [
        Difference("task", "demo.Gone", "absent", "orphaned"),
        Difference("task", "demo.Old", "orphaned", "orphaned"),
    ]


def test_an_orphaned_file_that_cannot_be_read_is_called_by_its_name(output: Path) -> None:
    (output / "chronograf/old.dashboard").write_text(f"{MARK} {{")
    assert differences(output, LIVE) == [Difference("dashboard", "old", "orphaned", "absent")]


def test_what_is_not_ours_on_the_server_is_no_difference(output: Path) -> None:
    others: list[Thing] = [
        Task("demo.mine", "stream|log()"),
        Handler("metrics-default", "mine", "log"),
        Dashboard("Mine", "8", {"name": "Mine"}),
    ]
    assert differences(output, [*LIVE, *others]) == []


def test_what_has_the_name_of_ours_is_a_difference_even_without_the_mark(output: Path) -> None:
    assert differences(output, [Task("demo.AM1", "stream|log()"), *LIVE[1:]]) == [
        Difference("task", "demo.AM1", "same", "changed", "changed on the server alone")
    ]


def test_a_task_that_does_not_run_is_told_with_the_words_of_the_server(output: Path) -> None:
    live = [Task("demo.AM1", SCRIPT, is_executing=False, error="no field AM1"), *LIVE[1:]]
    assert differences(output, live) == [
        Difference("task", "demo.AM1", "same", "stopped", "does not run: no field AM1")
    ]


def test_a_disabled_task_is_told(output: Path) -> None:
    live = [Task("demo.AM1", SCRIPT, is_enabled=False, is_executing=False), *LIVE[1:]]
    assert differences(output, live) == [
        Difference("task", "demo.AM1", "same", "stopped", "disabled")
    ]


def test_the_oldest_of_dashboards_with_one_name_counts(output: Path) -> None:
    changed = Dashboard("Demo", "12", {"name": "Demo", "note": "other"})
    assert differences(output, [changed, *LIVE]) == []


def test_a_dashboard_of_a_file_counts_among_those_with_its_name(output: Path) -> None:
    changed = Dashboard("Demo", "2000", {"name": "Demo", "note": "other"})
    comparison = compared(output, [*LIVE, changed])
    assert [item.server for item in comparison.differences] == ["changed"]
    ours = comparison.generated["dashboard", "Demo"]
    assert changed.is_of_file(ours)
    assert not Dashboard("Demo", "7", {}).is_of_file(ours)


HANDLER_TEXT = "topic: metrics-a\nid: metrics-a-slack\nkind: slack\n"
DASHBOARD: dict[str, Any] = {
    "id": "2000",
    "name": "Metrics",
    "generated": MARK,
    "organization": "default",
    "cells": [
        {
            "i": "c1",
            "x": 0,
            "name": "AM1",
            "note": f"made by {MARK} <b>",
            "colors": [],
            "queries": [{"query": "SELECT 1", "queryConfig": None}],
        }
    ],
    "templates": [],
}


def dashboard(**changes: Any) -> Dashboard:
    document = json.loads(json.dumps(DASHBOARD)) | changes
    return Dashboard(document["name"], document["id"], document)


def stored() -> dict[str, Any]:
    """Return the dashboard as a server keeps it."""
    document = json.loads(json.dumps(DASHBOARD))
    document |= {"id": "1", "links": {"self": "/1"}}
    del document["generated"]
    cell = document["cells"][0]
    cell |= {"i": "uuid", "note": f"made by {MARK} &lt;b&gt;", "colors": None, "links": {}}
    cell["queries"][0]["queryConfig"] = {"rawText": "SELECT 1"}
    document["templates"] = None
    return dict(document)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("kapacitor/tasks/a.b.tick", ("task",)),
        ("kapacitor/handlers/a-slack.yaml", ("handler",)),
        ("chronograf/a.dashboard", ("dashboard",)),
        ("chronograf/a.src", ()),
        ("chronograf/a.kap", ()),
        ("chronograf/a.tick", None),
    ],
)
def test_folder_and_extension_tell_the_kind(path: str, kind: tuple[str, ...] | None) -> None:
    found = file_kind_of(path)
    assert (None if found is None else found.holds) == kind


def test_a_task_is_called_as_its_file() -> None:
    (found,) = things_in("kapacitor/tasks/demo.AM1.tick", "stream\n")
    assert found == Task("demo.AM1", "stream\n")


def test_a_handler_is_what_its_file_says() -> None:
    text = HANDLER_TEXT + "match: changed() == TRUE\noptions: {channel: '#a'}\n"
    (found,) = things_in("kapacitor/handlers/x.yaml", text)
    assert found == Handler(
        "metrics-a", "metrics-a-slack", "slack", {"channel": "#a"}, "changed() == TRUE"
    )


def test_a_dashboard_is_what_its_file_says() -> None:
    (found,) = things_in("chronograf/x.dashboard", json.dumps(DASHBOARD))
    assert found == Dashboard("Metrics", "2000", DASHBOARD)


def test_braces_that_a_file_has_quoted_are_plain() -> None:
    text = json.dumps(DASHBOARD | {"name": "{{`{{`}}x}}"})
    (found,) = things_in("chronograf/x.dashboard", text)
    assert found.name == "{{x}}"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kapacitor/handlers/x.yaml", "a: ["),
        ("kapacitor/handlers/x.yaml", "topic: a\n"),
        ("kapacitor/handlers/x.yaml", "- a\n"),
        ("chronograf/x.dashboard", "{"),
        ("chronograf/x.dashboard", "[]"),
        ("chronograf/x.dashboard", '{"name": "a"}'),
        ("chronograf/x.src", "{}"),
    ],
)
def test_a_file_that_cannot_be_read_holds_nothing(path: str, text: str) -> None:
    assert things_in(path, text) == []


def test_keys_tell_the_kinds_apart_and_handlers_of_topics() -> None:
    things = (Task("a.b", ""), Handler("t", "h", "slack"), dashboard())
    assert [(thing.kind, thing.title) for thing in things] == [
        ("task", "a.b"),
        ("handler", "t/h"),
        ("dashboard", "Metrics"),
    ]


@pytest.mark.parametrize(
    ("task", "ours"),
    [
        (Task("demo.AM1", f"// {MARK}\n"), True),
        (Task("demo.AM1", "stream\n"), False),
        (Task("mine", f"// {MARK}\n"), False),
    ],
)
def test_a_task_is_ours_by_its_name_and_its_mark(task: Task, *, ours: bool) -> None:
    assert task.is_ours is ours


@pytest.mark.parametrize(("name", "ours"), [("metrics-a-slack", True), ("mine", False)])
def test_a_handler_is_ours_by_its_name(name: str, *, ours: bool) -> None:
    assert Handler("metrics-a", name, "slack").is_ours is ours


def test_a_dashboard_is_ours_by_the_mark_in_a_note() -> None:
    assert dashboard().is_ours
    document = stored()
    assert Dashboard("Metrics", "1", document).is_ours
    document["cells"][0]["note"] = ""
    assert not Dashboard("Metrics", "1", document).is_ours


def test_tasks_are_equal_by_their_scripts() -> None:
    task = Task("a.b", "stream\n")
    assert task.equals(Task("a.b", "stream", is_enabled=False))
    assert not task.equals(Task("a.b", "stream|log()"))
    assert not task.equals(None)


def test_handlers_are_equal_by_what_they_do() -> None:
    handler = Handler("t", "h", "slack", {"channel": "#a"}, "level() > INFO")
    assert handler.equals(Handler("t", "h", "slack", {"channel": "#a"}, "level() > INFO"))
    assert not handler.equals(Handler("t", "h", "slack", {"channel": "#b"}, "level() > INFO"))
    assert not handler.equals(Handler("t", "h", "post", {"channel": "#a"}, "level() > INFO"))
    assert not handler.equals(Handler("t", "h", "slack", {"channel": "#a"}))


def test_what_a_server_adds_to_a_dashboard_does_not_matter() -> None:
    assert dashboard().equals(Dashboard("Metrics", "1", stored()))


@pytest.mark.parametrize(
    ("key", "value"),
    [("x", 1), ("name", "AM2"), ("note", "other"), ("colors", [{"hex": "#000000"}])],
)
def test_a_cell_that_differs_matters(key: str, value: Any) -> None:
    document = stored()
    document["cells"][0][key] = value
    assert not dashboard().equals(Dashboard("Metrics", "1", document))


def test_a_cell_too_many_or_too_few_matters() -> None:
    document = stored()
    document["cells"] *= 2
    assert not dashboard().equals(Dashboard("Metrics", "1", document))
    document["cells"] = []
    assert not dashboard().equals(Dashboard("Metrics", "1", document))


@pytest.mark.parametrize(
    ("task", "trouble"),
    [
        (Task("a", ""), ""),
        (Task("a", "", error="old"), ""),
        (Task("a", "", is_executing=False, error="bad"), "does not run: bad"),
        (Task("a", "", is_enabled=False, is_executing=False, error="old"), "disabled"),
    ],
)
def test_the_trouble_of_a_task_is_why_it_does_not_run(task: Task, trouble: str) -> None:
    assert task.trouble == trouble


def test_no_trouble_of_handlers_and_dashboards_is_known() -> None:
    assert (Handler("t", "h", "slack").trouble, dashboard().trouble) == ("", "")
