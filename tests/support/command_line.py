"""Running `squash` in this process, in an environment of the test's own."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from squash_api import cli
from tests.support.builders import SECRET, make_settings


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def set_environment(monkeypatch: pytest.MonkeyPatch, folder: Path, **variables: str) -> None:
    """Leave only these of the variables `SQUASH_…`, and the record in a folder."""
    for name in list(os.environ):
        if name.upper().startswith("SQUASH_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    for module in ("serving.serve", "commands.deliver", "commands.prune", "commands.reconcile"):
        monkeypatch.setattr(f"squash_api.{module}.configure_logs", lambda *_: None)
    for module in ("serving.serve", "commands.deliver"):
        monkeypatch.setattr(f"squash_api.{module}.follow_settings", lambda **_: None)
    fixed = {"SQUASH_SECRET": SECRET, "SQUASH_DATABASE_URL": make_settings(folder).database_url}
    for name, value in (fixed | variables).items():
        monkeypatch.setenv(name, value)


def make_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `squash` with the arguments it is given."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["squash", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, written.out, written.err)

    return run
