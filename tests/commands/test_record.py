from pathlib import Path

import pytest

from tests.support.command_line import Run, make_run, set_environment


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    set_environment(monkeypatch, tmp_path)
    return make_run(monkeypatch, capsys)


def test_a_record_is_made_once_and_its_place_is_said(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "squash.db"
    first, second = run("record", "init"), run("record", "init")
    assert (first.code, first.out) == (0, f"{place}: an empty record was made\n")
    assert (second.code, second.out) == (0, f"{place}: it is there already\n")
    assert run("user", "list").code == 0


def test_a_folder_that_does_not_exist_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SQUASH_DATABASE_URL", f"sqlite:///{tmp_path}/nowhere/squash.db")
    outcome = run("record", "init")
    assert outcome.code == 1
    assert f"{tmp_path}/nowhere does not exist" in outcome.err
    assert not list(tmp_path.iterdir())
