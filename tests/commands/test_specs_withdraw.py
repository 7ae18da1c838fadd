from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import Run, make_run, set_environment
from tests.support.definitions import World

PACKAGES = ("srd", "camera")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A record with a metric from each of two packages in YAML."""
    for name in PACKAGES:
        (tmp_path / name / "specs").mkdir(parents=True)
        (tmp_path / name / "metrics").mkdir()
        (tmp_path / name / "metrics" / f"{name}.yaml").write_text(
            "a: {description: What it is., unit: mmag}\n"
        )
    with World(tmp_path) as made:
        made.definitions.sync_yaml([tmp_path / name for name in PACKAGES])
        yield made


@pytest.fixture
def run(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    set_environment(monkeypatch, tmp_path)
    assert world.revision
    return make_run(monkeypatch, capsys)


def left(world: World) -> list[str]:
    return [defined.content.name for defined in world.definitions.list_metrics(limit=9)]


def test_what_squash_specs_lacks_is_withdrawn(run: Run, world: World) -> None:
    outcome = run("specs", "withdraw", "--yes")
    assert (outcome.code, outcome.out) == (0, "Withdrawn: 1 of camera, 1 of srd.\n")
    assert left(world) == []


def test_what_squash_specs_has_stays(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_SPECS", "srd")
    assert run("specs", "withdraw", "--yes").out == "Withdrawn: 1 of camera.\n"
    assert left(world) == ["srd.a"]
    assert run("specs", "withdraw").out.startswith("Nothing to withdraw")


def test_packages_can_be_chosen(run: Run, world: World) -> None:
    assert run("specs", "withdraw", "camera", "--yes").code == 0
    assert left(world) == ["srd.a"]


def test_a_package_that_is_still_there_or_unknown_is_refused(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_SPECS", "srd:camera")
    for name in ("camera", "nowhere"):
        outcome = run("specs", "withdraw", name, "--yes")
        assert outcome.code == 1
        assert name in outcome.err
    assert left(world) == ["camera.a", "srd.a"]


def test_without_a_terminal_it_must_be_agreed_in_advance(run: Run, world: World) -> None:
    outcome = run("specs", "withdraw")
    assert outcome.code == 2
    assert "--yes" in outcome.err
    assert len(left(world)) == 2
