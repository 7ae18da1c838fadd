import json

import pytest
import typer

from squash_api.commands.terminal import (
    advancing,
    fail,
    print_error,
    print_json,
    print_table,
    tracked,
)


def test_an_error_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("no such file")
    assert tuple(capsys.readouterr()) == ("", "error: no such file\n")


def test_failing_ends_with_the_code() -> None:
    with pytest.raises(typer.Exit) as caught:
        fail("no", code=2)
    assert caught.value.exit_code == 2


def test_json_is_printed_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"a": "é"}])
    assert json.loads(capsys.readouterr().out) == [{"a": "é"}]


def test_a_table_in_a_file_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name"], [["x" * 300]])
    assert "x" * 300 in capsys.readouterr().out


def test_square_brackets_in_a_table_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name"], [["[red]a[/red]"]])
    assert "[red]a[/red]" in capsys.readouterr().out


def test_where_nobody_looks_there_is_no_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked([1, 2, 3], what="Sending")) == [1, 2, 3]
    assert tuple(capsys.readouterr()) == ("", "")


def test_what_advances_shows_nothing_where_nobody_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(advancing(iter([1, 2]), what="Exporting", share=lambda: 0.5)) == [1, 2]
    assert tuple(capsys.readouterr()) == ("", "")


def test_what_advances_is_shown_to_a_person(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert list(advancing([1, 2], what="Exporting", share=lambda: 0.5)) == [1, 2]
    out, err = capsys.readouterr()
    assert (out, "Exporting" in err, "50%" in err) == ("", True, True)
