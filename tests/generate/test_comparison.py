import json
from pathlib import Path

import pytest

from squash_api.generate.chronograf.server import Dashboard
from squash_api.generate.comparison import Comparison, Difference, compare
from squash_api.generate.files import write_files
from squash_api.generate.kapacitor.server import Handler, Task
from squash_api.generate.output import MARK
from squash_api.generate.servers import Thing

SCRIPT = f"// {MARK}\nstream\n"
TASK = "kapacitor/tasks/demo.AM1.tick"
HANDLER = "kapacitor/handlers/metrics-default-slack.yaml"
DASHBOARD = "chronograf/demo.dashboard"
SOURCE = "chronograf/squash.src"
FILES = {
    TASK: SCRIPT,
    HANDLER: f"# {MARK}\ntopic: metrics-default\nid: metrics-default-slack\nkind: slack\n",
    DASHBOARD: json.dumps({"id": "2000", "name": "Demo", "note": MARK}) + "\n",
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
    (output / DASHBOARD).unlink()
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
    (output / HANDLER).unlink()
    (output / DASHBOARD).write_text("not JSON")
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


def test_of_dashboards_of_one_name_the_oldest_counts(output: Path) -> None:
    changed = Dashboard("Demo", "12", {"name": "Demo", "note": "other"})
    assert differences(output, [changed, *LIVE]) == []


def test_of_dashboards_of_one_name_that_of_a_file_counts(output: Path) -> None:
    changed = Dashboard("Demo", "2000", {"name": "Demo", "note": "other"})
    comparison = compared(output, [*LIVE, changed])
    assert [item.server for item in comparison.differences] == ["changed"]
    ours = comparison.generated["dashboard", "Demo"]
    assert changed.is_of_file(ours)
    assert not Dashboard("Demo", "7", {}).is_of_file(ours)
