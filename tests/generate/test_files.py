import os
from pathlib import Path

import pytest

from squash_api.generate.files import (
    Drift,
    FilesError,
    file_problems,
    files_of_ours,
    find_drift,
    with_marks,
    write_files,
)
from squash_api.generate.output import MARK

TASK = "kapacitor/tasks/demo.AM1.tick"
HANDLER = "kapacitor/handlers/metrics-default-slack.yaml"
DASHBOARD = "chronograf/demo.dashboard"
FILES = {
    TASK: f'// {MARK}\ndbrp "squash"."autogen"\n',
    HANDLER: f"# {MARK}\ntopic: metrics-default\n",
    DASHBOARD: f'{{"id": "2000", "generated": "{MARK}"}}\n',
}


def content(output: Path) -> dict[str, str]:
    """Return all files below a directory."""
    return {
        place.relative_to(output).as_posix(): place.read_text(encoding="utf-8")
        for place in output.rglob("*")
        if place.is_file()
    }


def put(output: Path, path: str, text: str) -> Path:
    place = output / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return place


def test_files_are_written_and_nothing_beside_them(tmp_path: Path) -> None:
    write_files(FILES, tmp_path)
    assert content(tmp_path) == FILES


def test_what_was_written_is_no_drift(tmp_path: Path) -> None:
    write_files(FILES, tmp_path)
    assert find_drift(FILES, tmp_path) == Drift()


def test_no_drift_is_false_and_any_is_true() -> None:
    assert not Drift()
    assert all([Drift(changed=("a",)), Drift(missing=("a",)), Drift(orphaned=("a",))])


def test_changed_missing_and_orphaned_files_are_told_apart(tmp_path: Path) -> None:
    write_files(FILES, tmp_path)
    put(tmp_path, TASK, FILES[TASK] + "\n")
    (tmp_path / HANDLER).unlink()
    put(tmp_path, "chronograf/old.dashboard", FILES[DASHBOARD])
    assert find_drift(FILES, tmp_path) == Drift(
        changed=(TASK,), missing=(HANDLER,), orphaned=("chronograf/old.dashboard",)
    )


def test_writing_mends_all_drift_and_says_what_it_was(tmp_path: Path) -> None:
    write_files(FILES, tmp_path)
    put(tmp_path, TASK, "x")
    (tmp_path / DASHBOARD).unlink()
    orphan = put(tmp_path, "kapacitor/tasks/demo.Old.tick", FILES[TASK])
    expected = Drift(
        changed=(TASK,), missing=(DASHBOARD,), orphaned=("kapacitor/tasks/demo.Old.tick",)
    )
    assert write_files(FILES, tmp_path) == expected
    assert content(tmp_path) == FILES
    assert not orphan.exists()


def test_looking_for_drift_writes_nothing(tmp_path: Path) -> None:
    find_drift(FILES, tmp_path)
    assert content(tmp_path) == {}


def test_a_file_that_is_right_is_not_written_again(tmp_path: Path) -> None:
    write_files(FILES, tmp_path)
    place = tmp_path / TASK
    os.utime(place, (1, 1))
    write_files(FILES, tmp_path)
    assert place.stat().st_mtime == 1


def test_line_ends_of_another_system_are_drift(tmp_path: Path) -> None:
    write_files(FILES, tmp_path)
    (tmp_path / TASK).write_bytes(FILES[TASK].replace("\n", "\r\n").encode())
    assert find_drift(FILES, tmp_path) == Drift(changed=(TASK,))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kapacitor/tasks/mine.tick", 'dbrp "squash"."autogen"\n'),
        ("kapacitor/tasks/mine.yaml", f"# {MARK}\n"),
        ("kapacitor/templates/mine.tick", f"// {MARK}\n"),
        ("kapacitor/README.md", f"written by {MARK}\n"),
        ("chronograf/mine.dashboard", '{"id": "1"}\n'),
    ],
)
def test_a_file_of_somebody_else_is_neither_drift_nor_removed(
    tmp_path: Path, path: str, text: str
) -> None:
    put(tmp_path, path, text)
    assert find_drift({}, tmp_path) == Drift()
    write_files(FILES, tmp_path)
    assert content(tmp_path) == {**FILES, path: text}


def test_files_of_ours_are_named_in_the_order_of_the_table(tmp_path: Path) -> None:
    write_files(FILES, tmp_path)
    assert list(files_of_ours(tmp_path)) == [HANDLER, TASK, DASHBOARD]


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("kapacitor/tasks/a b.tick", FILES[TASK], "may contain only letters"),
        ("kapacitor/tasks/ä.tick", FILES[TASK], "may contain only letters"),
        ("kapacitor/tasks/.hidden.tick", FILES[TASK], "may contain only letters"),
        (f"kapacitor/tasks/{'a' * 300}.tick", FILES[TASK], "is longer than"),
        ("kapacitor/tasks/../../x.tick", FILES[TASK], "not a place"),
        ("kapacitor/tasks/a.yaml", FILES[HANDLER], "not a place"),
        ("elsewhere/a.tick", FILES[TASK], "not a place"),
        ("a.tick", FILES[TASK], "not a place"),
        (TASK, "dbrp\n", "the mark"),
        (TASK, f"// {MARK}", "not lines of text"),
        (TASK, f"// {MARK}\r\n", "not lines of text"),
        (TASK, f"// {MARK} \ud800\n", "UTF-8"),
        (HANDLER, f"# {MARK}\n- a\n", "no mapping"),
        (HANDLER, f"# {MARK}\na: [\n", "cannot be read back"),
        (DASHBOARD, f'{{"{MARK}"\n', "cannot be read back"),
        (DASHBOARD, f'["{MARK}"]\n', "no mapping"),
    ],
)
def test_one_unsound_file_forbids_to_write_any(
    tmp_path: Path, path: str, text: str, problem: str
) -> None:
    files = {**FILES, path: text}
    assert [line for line in file_problems(files) if problem in line and line.startswith(path)]
    with pytest.raises(FilesError, match=problem):
        write_files(files, tmp_path)
    assert content(tmp_path) == {}


def test_sound_files_have_no_problems() -> None:
    assert file_problems(FILES) == []


def test_where_one_file_cannot_be_written_none_is(tmp_path: Path) -> None:
    put(tmp_path, "chronograf", "a file in the way")
    with pytest.raises(FilesError, match="chronograf"):
        write_files(FILES, tmp_path)
    assert content(tmp_path) == {"chronograf": "a file in the way"}


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / TASK).mkdir(parents=True)
    with pytest.raises(FilesError, match=r"AM1\.tick"):
        find_drift(FILES, tmp_path)


def test_others_may_read_the_files(tmp_path: Path) -> None:
    write_files(FILES, tmp_path)
    assert (tmp_path / TASK).stat().st_mode & 0o044 == 0o044 & ~_umask()


def test_marks_are_comments_and_in_json_a_key() -> None:
    marked = with_marks(
        {
            TASK: "stream\n",
            HANDLER: "topic: t\n",
            DASHBOARD: '{"id": "1"}\n',
            "chronograf/a.src": '{\n  "id": "1"\n}\n',
        }
    )
    note = f"Made by {MARK}: edit the specifications, not this file."
    assert marked[TASK] == f"// {note}\nstream\n"
    assert marked[HANDLER] == f"# {note}\ntopic: t\n"
    assert marked[DASHBOARD] == f'{{"generated": "{note}", "id": "1"}}\n'
    assert marked["chronograf/a.src"] == f'{{\n  "generated": "{note}",\n  "id": "1"\n}}\n'
    assert file_problems(marked) == []


def test_a_file_that_has_the_mark_gets_no_second_one() -> None:
    assert with_marks(FILES) == FILES


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
