from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.definitions.from_yaml import SpecificationSources
from squash_api.schema.names import Schema
from tests.support.definitions import ADA, BOB, World, metric, spec
from tests.support.metrics_packages import SPECS, write_metrics_package

BASES = ("validate:limits#limit",)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_the_bases_in_yaml_are_known(world: World, tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path)
    world.definitions.sync_yaml([package])
    sources = SpecificationSources(world.record, [package], Schema())
    assert sources.bases(world.definitions.get("spec", "validate.AM1.design")) == BASES
    assert sources.bases(world.definitions.get("spec", "validate.PA1.design_r")) == ()


def test_files_that_have_changed_since_the_start_say_nothing(world: World, tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path)
    world.definitions.sync_yaml([package])
    file = package / "specs" / "validate" / "limits.yaml"
    file.write_text(SPECS.replace("threshold: {value: 10}", "threshold: {value: 11}"))
    sources = SpecificationSources(world.record, [package], Schema())
    assert sources.bases(world.definitions.get("spec", "validate.AM1.design")) == ()
    assert sources.bases(world.definitions.get("spec", "validate.AM1.stretch")) == BASES


def test_files_that_are_gone_say_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = write_metrics_package(tmp_path)
    world.definitions.sync_yaml([package])
    sources = SpecificationSources(world.record, [tmp_path / "gone"], Schema())
    assert sources.bases(world.definitions.get("spec", "validate.AM1.design")) == ()
    assert "cannot be read any more" in capsys.readouterr().out


def test_the_author_of_a_specification_is_who_wrote_it_last(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    world.definitions.post("spec", [spec("p.a.x"), spec("p.a.y")], BOB)
    sources = SpecificationSources(world.record, [], Schema())
    assert sources.authors(["p.a.x", "p.a.nothing"]) == {"p.a.x": "bob"}
    assert sources.authors([]) == {}


def test_what_is_from_the_api_has_no_bases(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    world.definitions.post("spec", [spec("p.a.x")], ADA)
    sources = SpecificationSources(world.record, [], Schema())
    assert sources.bases(world.definitions.get("spec", "p.a.x")) == ()
