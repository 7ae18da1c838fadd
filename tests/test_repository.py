"""What a newcomer's machine rests on: pinned packages, one version, the two commands."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = ("main", "postgresql", "dev")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)


def _lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(name: str) -> dict[str, str]:
    return {_normal(package): version for package, version in _PIN.findall(_lock(name))}


def _wanted(name: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines()
    return {
        _normal(re.split(r"[<>=!~\[; ]", line)[0])
        for line in lines
        if line and not line.startswith(("#", "-"))
    }


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: git is needed to list the files")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", _lock(name).strip())
    loose = [
        entry.splitlines()[0]
        for entry in entries
        if not _PIN.match(entry) or "--hash=sha256:" not in entry
    ]
    assert not loose


@pytest.mark.parametrize("name", LOCKS)
def test_requirements_name_no_download_address(name: str) -> None:
    assert "://" not in _lock(name)
    assert not re.search(r"^\s*--?(?!hash)[a-z]", _lock(name), re.MULTILINE)


def test_development_uses_the_versions_of_production() -> None:
    assert _pins("main").items() <= _pins("dev").items()
    assert _pins("postgresql").items() <= _pins("dev").items()


def test_all_that_is_asked_for_is_pinned() -> None:
    for name in LOCKS:
        assert _wanted(name) <= set(_pins(name))


def test_the_lock_is_of_what_the_package_says_it_needs() -> None:
    needs = {_normal(re.split(r"[<>=!~\[; ]", need)[0]) for need in PROJECT["dependencies"]}
    # setuptools builds the package.
    assert needs | {"setuptools"} == _wanted("main")


def test_version_is_that_of_the_newest_changelog_entry() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"]


def test_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^make demo\b", readme, re.MULTILINE)
    assert re.search(r"^make test\b", readme, re.MULTILINE)


@pytest.mark.parametrize("target", ["demo", "run", "test", "check", "bench", "openapi"])
def test_make_target_sets_itself_up(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rule = re.search(rf"^{target}: (.+?)\s+## ", makefile, re.MULTILINE)
    assert rule is not None
    assert rule[1] in {"$(MAIN)", "$(DEV)"}


def test_ci_runs_the_commands_that_people_run() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in script if line.startswith("make ")] == ["make test", "make check"]
    assert "set -euo pipefail" in script


def test_ci_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_no_file_names_a_registry_or_this_machine() -> None:
    words = [b"py" + b"pi.org", b"python" + b"hosted", b"--index" + b"-url", b"/wo" + b"rk/main"]
    named = [
        f"{path.relative_to(ROOT)}: {word.decode()}"
        for path in _tracked()
        if path.is_file()
        for word in words
        if word in path.read_bytes()
    ]
    assert not named
