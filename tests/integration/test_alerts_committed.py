"""The committed folder is one that Kapacitor starts with."""

from collections.abc import Iterator

import pytest

from tests.support.kapacitord import Kapacitord
from tests.support.metrics_packages import ROOT

LOAD = ROOT / "kapacitor"


@pytest.fixture(scope="module")
def kapacitord(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kapacitord]:
    with Kapacitord(tmp_path_factory.mktemp("kapacitord"), LOAD) as kapacitord:
        yield kapacitord


def test_every_task_is_executing(kapacitord: Kapacitord) -> None:
    tasks = kapacitord.tasks()
    assert {task["id"] for task in tasks} == {path.stem for path in (LOAD / "tasks").iterdir()}
    assert [task for task in tasks if not task["executing"] or task["error"]] == []


def test_kapacitor_met_no_error(kapacitord: Kapacitord) -> None:
    assert kapacitord.problems() == []
