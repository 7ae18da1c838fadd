from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from squash_api.commands.specs_export import export
from squash_api.metrics_packages.loading import load_metrics_package
from tests.support.definitions import ADA, World, metric, spec


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A record that the environment names, with two metrics, two specifications."""
    made = World(tmp_path)
    monkeypatch.setenv("SQUASH_DATABASE_URL", made.settings.database_url)
    monkeypatch.chdir(tmp_path)
    made.definitions.post("metric", [metric("p.a", tags=["x"]), metric("q.b", "")], ADA)
    made.definitions.post(
        "spec",
        [
            spec("p.a.design", metadata_query={"filter_name": "r"}, tags=["design"]),
            spec("q.b.minimum", unit=""),
        ],
        ADA,
    )
    yield made
    made.close()


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(export)
    return CliRunner().invoke(app, arguments)


def names(directory: str) -> tuple[list[str], list[str]]:
    package = load_metrics_package(Path(directory))
    assert package.problems == ()
    return [*package.metrics], [*package.specifications]


def test_an_export_loads_as_the_same_definitions(world: World) -> None:
    assert run("out").exit_code == 0
    package = load_metrics_package(Path("out"))
    assert package.problems == ()
    assert package.metrics == world.definitions.in_force.at(None).declared
    in_force = world.definitions.in_force.at(None).by_metric
    assert package.specifications == {
        item.name: item for items in in_force.values() for item in items
    }


def test_an_export_becomes_the_definition_without_a_change(world: World) -> None:
    run("out")
    change = world.definitions.sync_yaml([Path("out")])
    assert len(change.taken_over) == 4
    assert change.requeued_jobs == 0


@pytest.mark.usefixtures("world")
def test_what_is_written_is_printed() -> None:
    assert run("out").stdout.splitlines() == [
        "out/metrics/p.yaml",
        "out/metrics/q.yaml",
        "out/specs/p/a.yaml",
        "out/specs/q/b.yaml",
        "2 metrics, 2 specifications",
    ]


@pytest.mark.usefixtures("world")
def test_one_package_can_be_exported() -> None:
    assert run("out", "--package", "p").exit_code == 0
    assert names("out") == (["p.a"], ["p.a.design"])


@pytest.fixture
def with_yaml(world: World) -> World:
    """The package q of the record comes from YAML."""
    run("yaml", "--package", "q")
    world.definitions.sync_yaml([Path("yaml")])
    return world


@pytest.mark.usefixtures("with_yaml")
def test_what_is_from_yaml_is_not_exported() -> None:
    run("out")
    assert names("out") == (["p.a"], ["p.a.design"])


@pytest.mark.usefixtures("with_yaml")
def test_what_is_from_yaml_is_exported_with_all() -> None:
    run("out", "--all")
    assert names("out") == (["p.a", "q.b"], ["p.a.design", "q.b.minimum"])


@pytest.mark.usefixtures("world")
def test_a_file_in_the_way_stops_the_export() -> None:
    present = Path("out/specs/p/a.yaml")
    present.parent.mkdir(parents=True)
    present.write_text("mine")
    result = run("out")
    assert result.exit_code == 1
    assert "specs/p/a.yaml" in result.stderr
    assert [path for path in Path("out").rglob("*") if path.is_file()] == [present]
    assert present.read_text() == "mine"


def test_a_file_in_the_way_is_overwritten_on_demand(world: World) -> None:
    run("out")
    world.definitions.put("spec", "p.a.design", spec(value=9.0), ADA)
    assert run("out", "--force").exit_code == 0
    package = load_metrics_package(Path("out"))
    assert package.specifications["p.a.design"].criterion.numbers == (9.0,)


def test_a_specification_without_its_metric_is_left_out_and_named(world: World) -> None:
    world.definitions.delete("metric", "q.b", ADA)
    result = run("out")
    assert "q.b.minimum" in result.stderr
    assert names("out") == (["p.a"], ["p.a.design"])


@pytest.mark.usefixtures("world")
def test_nothing_to_write_is_exit_code_1() -> None:
    assert run("out", "--package", "other").exit_code == 1
    assert not Path("out").exists()
