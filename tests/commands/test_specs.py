import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from squash_api.cli import app
from squash_api.commands.specs_export import export
from squash_api.errors import InvalidInputError
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.record.definitions import Kind
from tests.support.definitions import ADA, World, metric, spec
from tests.support.metrics_packages import SPECS, write_metrics_package

DATA = Path(__file__).parents[3] / "shared" / "data"
TWO_PROBLEMS = """
name: AM1.design
threshold: {value: 5, unit: kg, operator: "<"}
---
name: AM1.minimum
base: "#none"
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["specs", *map(str, arguments)])


def test_a_sound_package_is_counted(tmp_path: Path) -> None:
    result = run("check", write_metrics_package(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "2 metrics, 4 specifications, 0 problems\n")


def test_all_problems_are_printed_with_file_and_line(tmp_path: Path) -> None:
    result = run("check", write_metrics_package(tmp_path, specs=TWO_PROBLEMS))
    places = [line.split(": ")[0] for line in result.stdout.splitlines()]
    assert places == [
        "demo/specs/validate/limits.yaml:3",
        "demo/specs/validate/limits.yaml:6",
        "2 metrics, 1 specification, 2 problems",
    ]


def test_problems_are_exit_code_1(tmp_path: Path) -> None:
    assert run("check", write_metrics_package(tmp_path, specs=TWO_PROBLEMS)).exit_code == 1


def test_problems_as_json_have_file_line_and_message(tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path, specs=TWO_PROBLEMS)
    problems = json.loads(run("check", package, "--json").stdout)
    assert [(item["file"], item["line"]) for item in problems] == [
        ("demo/specs/validate/limits.yaml", 3),
        ("demo/specs/validate/limits.yaml", 6),
    ]
    assert "'kg'" in problems[0]["message"]


def test_warnings_are_printed_and_are_errors_only_with_strict(tmp_path: Path) -> None:
    specs = SPECS.replace("tags: [minimum, night]", "tags: [minimun, night]")
    package = write_metrics_package(tmp_path, specs=specs)
    result = run("check", package)
    assert result.exit_code == 0
    said, counts = result.stdout.splitlines()
    assert said.startswith("demo/specs/validate/limits.yaml:9: warning: the tag 'minimun' is not")
    assert counts == ("2 metrics, 4 specifications, 0 problems, 1 warning")
    assert run("check", "--strict", package).exit_code == 1
    (warning,) = json.loads(run("check", package, "--json").stdout)
    assert (warning["severity"], warning["line"]) == ("warning", 9)


def test_no_problems_as_json_are_an_empty_list(tmp_path: Path) -> None:
    assert json.loads(run("check", write_metrics_package(tmp_path), "--json").stdout) == []


def test_a_name_in_two_packages_is_a_problem(tmp_path: Path) -> None:
    first = write_metrics_package(tmp_path)
    second = write_metrics_package(tmp_path, name="again", specs="# none\n")
    result = run("check", first, second)
    assert (result.exit_code, "is defined at demo/metrics" in result.stdout) == (1, True)


@pytest.mark.parametrize("command", ["check", "list"])
def test_what_is_no_package_is_exit_code_2(tmp_path: Path, command: str) -> None:
    result = run(command, tmp_path)
    assert (result.exit_code, "is not a metrics package" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["check", "list"])
@pytest.mark.parametrize(("name", "what"), [("no", "does not exist"), ("a", "is not a directory")])
def test_what_is_no_directory_is_said(tmp_path: Path, command: str, name: str, what: str) -> None:
    (tmp_path / "a").write_text("")
    result = run(command, tmp_path / name)
    assert (result.exit_code, f"{tmp_path / name} {what}" in result.stderr) == (2, True)


def test_the_list_holds_resolved_specifications_sorted_by_name(tmp_path: Path) -> None:
    result = run("list", write_metrics_package(tmp_path), "--json")
    found = json.loads(result.stdout)
    assert [item["name"] for item in found] == [
        "validate.AM1.design",
        "validate.AM1.minimum",
        "validate.AM1.stretch",
        "validate.PA1.design_r",
    ]
    assert found[3] == {
        "metadata_query": {"filter_name": "r"},
        "metric": "validate.PA1",
        "name": "validate.PA1.design_r",
        "operator": "<=",
        "tags": ["design"],
        "threshold": 5.0,
        "unit": "mmag",
    }


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
def test_the_list_of_a_real_package_is_that_of_lsst_verify() -> None:
    result = run("list", DATA / "verify_metrics_sample", "--json")
    expected = json.loads((DATA / "verify_metrics_sample.resolved.json").read_text())
    assert json.loads(result.stdout) == expected


def test_the_table_names_test_level_tags_and_query(tmp_path: Path) -> None:
    stdout = run("list", write_metrics_package(tmp_path)).stdout
    line = next(line for line in stdout.splitlines() if "PA1.design_r" in line)
    assert [cell for cell in map(str.strip, line.split("  ")) if cell] == [
        "validate.PA1.design_r",
        "<= 5.0 mmag",
        "WARNING",
        "design",
        "filter_name=r",
    ]


def test_a_list_with_problems_is_printed_but_exit_code_1(tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path, specs=f"{SPECS}---\nname: AM1.none\n")
    result = run("list", package, "--json")
    assert (result.exit_code, len(json.loads(result.stdout))) == (1, 4)
    assert "1 problem: run squash specs check" in result.stderr


def test_one_specification_is_shown_with_its_place_and_bases(tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path)
    result = run("show", "validate.AM1.minimum", "--specs", package)
    assert result.stdout.splitlines() == [
        "validate.AM1.minimum",
        "  metric      validate.AM1 [marcsec]",
        "  described   Repeatability of positions.",
        "  test        <= 20.0 marcsec",
        "  level       CRITICAL",
        "  tags        minimum, night",
        "  applies to  every job",
        "  alert       default",
        "  expect      default",
        "  written in  demo/specs/validate/limits.yaml:6",
        "  built on    validate:limits#limit",
    ]


def test_a_query_is_shown_term_by_term(tmp_path: Path) -> None:
    specs = SPECS.replace("{filter_name: r}", "{filter_name: r, visits: [1, 2]}")
    package = write_metrics_package(tmp_path, specs=specs)
    stdout = run("show", "validate.PA1.design_r", "--specs", package).stdout
    assert "  applies to  filter_name = r\n              visits = [1, 2]\n" in stdout


def test_an_alert_is_shown_key_by_key(tmp_path: Path) -> None:
    specs = SPECS + 'alert: {level: info, channel: "#dm"}\nexpect: {every: 24h}\n'
    package = write_metrics_package(tmp_path, specs=specs)
    stdout = run("show", "validate.PA1.design_r", "--specs", package).stdout
    assert "  alert       level: info\n              channel: #dm\n" in stdout


def test_a_shown_specification_is_an_object_in_json(tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path)
    document = json.loads(run("show", "validate.AM1.minimum", "--specs", package, "--json").stdout)
    assert document == {
        "name": "validate.AM1.minimum",
        "threshold": {"value": 20.0, "unit": "marcsec", "operator": "<="},
        "tags": ["minimum", "night"],
        "metadata_query": {},
        "type": "threshold",
        "level": "CRITICAL",
        "file": "demo/specs/validate/limits.yaml",
        "line": 6,
        "bases": ["validate:limits#limit"],
    }


def test_a_name_that_is_not_there_gets_near_ones(tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path)
    result = run("show", "validate.AM1.minimun", "--specs", package)
    assert (result.exit_code, "did you mean validate.AM1.minimum" in result.stderr) == (1, True)


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


def run_export(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(export)
    return CliRunner().invoke(app, arguments)


def written_names(directory: str) -> tuple[list[str], list[str]]:
    package = load_metrics_package(Path(directory))
    assert package.problems == ()
    return [*package.metrics], [*package.specifications]


def test_an_export_loads_as_the_same_definitions(world: World) -> None:
    assert run_export("out").exit_code == 0
    package = load_metrics_package(Path("out"))
    assert package.problems == ()
    assert package.metrics == world.definitions.in_force.at(None).declared
    in_force = world.definitions.in_force.at(None).by_metric
    assert package.specifications == {
        item.name: item for items in in_force.values() for item in items
    }


def test_an_export_becomes_the_definition_without_a_change(world: World) -> None:
    run_export("out")
    change = world.definitions.sync_yaml([Path("out")])
    assert len(change.taken_over) == 4
    assert change.requeued_jobs == 0


@pytest.mark.usefixtures("world")
def test_what_is_written_is_printed() -> None:
    assert run_export("out").stdout.splitlines() == [
        "out/metrics/p.yaml",
        "out/metrics/q.yaml",
        "out/specs/p/a.yaml",
        "out/specs/q/b.yaml",
        "2 metrics, 2 specifications",
    ]


@pytest.mark.usefixtures("world")
def test_one_package_can_be_exported() -> None:
    assert run_export("out", "--package", "p").exit_code == 0
    assert written_names("out") == (["p.a"], ["p.a.design"])


@pytest.fixture
def with_yaml(world: World) -> World:
    """The package q of the record comes from YAML."""
    run_export("yaml", "--package", "q")
    world.definitions.sync_yaml([Path("yaml")])
    return world


@pytest.mark.usefixtures("with_yaml")
def test_what_is_from_yaml_is_not_exported() -> None:
    run_export("out")
    assert written_names("out") == (["p.a"], ["p.a.design"])


@pytest.mark.usefixtures("with_yaml")
def test_what_is_from_yaml_is_exported_with_all() -> None:
    run_export("out", "--all")
    assert written_names("out") == (["p.a", "q.b"], ["p.a.design", "q.b.minimum"])


@pytest.mark.usefixtures("world")
def test_a_file_in_the_way_stops_the_export() -> None:
    present = Path("out/specs/p/a.yaml")
    present.parent.mkdir(parents=True)
    present.write_text("mine")
    result = run_export("out")
    assert result.exit_code == 1
    assert "specs/p/a.yaml" in result.stderr
    assert [path for path in Path("out").rglob("*") if path.is_file()] == [present]
    assert present.read_text() == "mine"


def test_a_file_in_the_way_is_overwritten_on_demand(world: World) -> None:
    run_export("out")
    world.definitions.put("spec", "p.a.design", spec(value=9.0), ADA)
    assert run_export("out", "--force").exit_code == 0
    package = load_metrics_package(Path("out"))
    assert package.specifications["p.a.design"].criterion.numbers == (9.0,)


def test_a_specification_without_its_metric_is_left_out_and_named(world: World) -> None:
    world.definitions.delete("metric", "q.b", ADA)
    result = run_export("out")
    assert "q.b.minimum" in result.stderr
    assert written_names("out") == (["p.a"], ["p.a.design"])


@pytest.mark.usefixtures("world")
def test_nothing_to_write_is_exit_code_1() -> None:
    assert run_export("out", "--package", "other").exit_code == 1
    assert not Path("out").exists()


def test_what_cannot_be_written_leaves_nothing_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_write = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if "specs" in path.parts:
            raise OSError(28, "No space left on device", str(path))
        return plain_write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    result = run_export("out/deep")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nothing was written" in result.stderr
    assert not Path("out").exists()
    assert world.definitions.in_force.at(None).specifications


def test_a_directory_in_the_place_of_a_file_stops_the_export_before_it_begins(
    world: World,
) -> None:
    Path("out/specs/q/b.yaml").mkdir(parents=True)
    assert run_export("out", "--force").exit_code == 2
    assert not [path for path in Path("out").rglob("*") if path.is_file()]
    assert world.definitions.in_force.at(None).specifications


def test_a_specification_on_a_metric_with_a_long_name_is_exported(world: World) -> None:
    """As it could be defined until 2.1.0."""
    name = f"p.{'long' * 175}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("squash_api.definitions.changes.MAX_NAME", 1000)
        world.definitions.post("metric", [metric(name)], ADA)
        world.definitions.post("spec", [spec(f"{name}.design")], ADA)
    assert run_export("out").exit_code == 0
    metrics, specifications = written_names("out")
    assert name in metrics
    assert f"{name}.design" in specifications


@pytest.mark.parametrize("kind", ["metric", "spec"])
def test_new_names_are_bounded(world: World, kind: Kind) -> None:
    name = f"p.{'x' * 198}"
    world.definitions.post("metric", [metric(name)], ADA)
    document = metric(f"{name}x") if kind == "metric" else spec(f"{name}.y", metric=name)
    with pytest.raises(InvalidInputError, match="longer than 200 characters") as caught:
        world.definitions.post(kind, [document], ADA)
    assert caught.value.detail[0].loc[-1] == "name"


# What check reads, and what generate then does


def fifo(place: Path) -> None:
    os.mkfifo(place)


def unix_socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(place.parent):
        server.bind(place.name)


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def loop(place: Path) -> None:
    place.symlink_to(place)


def dangling(place: Path) -> None:
    place.symlink_to(place.with_name("nowhere"))


def sparse(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(10**12)


@pytest.mark.parametrize("folder", ["metrics", "specs/validate"])
@pytest.mark.parametrize("make", [fifo, unix_socket, device, loop, dangling, sparse])
def test_what_is_no_file_to_read_is_a_problem_at_once(
    tmp_path: Path, make: Callable[[Path], None], folder: str
) -> None:
    package = write_metrics_package(tmp_path)
    make(package / folder / "odd.yaml")
    result = run("check", package)
    assert result.exit_code == 1
    assert f"demo/{folder}/odd.yaml:1: " in result.stdout
    assert run("list", package).exit_code == 1


NUMBERS = [
    "0b" + "1" * 10**6,
    "1" * 10**6,
    "0x" + "f" * 10**6,
    "7" + "_000" * 10**5,
    "1" + ":00" * 10**4,
    "1" * 400,
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number[:6]} {len(number)}")
@pytest.mark.parametrize("place", ["value: 5", "tags: [minimum, night]"])
def test_a_number_of_a_million_bits_is_a_problem_with_a_place(
    tmp_path: Path, number: str, place: str
) -> None:
    key = place.partition(":")[0]
    assert place in SPECS
    written = f"{key}: {number}" if key == "value" else f"{key}: [{number}]"
    result = run("check", write_metrics_package(tmp_path, specs=SPECS.replace(place, written)))
    assert result.exit_code == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "limits.yaml:" in result.stdout
    assert len(result.stdout) < 5_000


TEXTS = st.text(
    st.one_of(st.sampled_from("\r\n\t\x00\x07\x0b\x1b\x85\u2028'\"\\{}<>|`%#*:"), st.characters()),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(why=TEXTS, tag=TEXTS, query=TEXTS, description=TEXTS, annotation=TEXTS, channel=TEXTS)
def test_what_check_passes_generate_accepts(
    tmp_path_factory: pytest.TempPathFactory, **texts: str
) -> None:
    folder = tmp_path_factory.mktemp("check")
    limit = {
        "name": "AM1.design",
        "threshold": {"value": 5.0, "unit": "mmag", "operator": "<"},
        "tags": ["design", texts["tag"]],
        "metadata_query": {"filter_name": texts["query"]},
        "alert": {
            "mute": {"until": "2199-01-01", "why": texts["why"]},
            "channel": f"#{texts['channel']}",
        },
    }
    metrics = {"AM1": {"description": texts["description"], "unit": "mmag", "tags": [texts["tag"]]}}
    package = write_metrics_package(
        folder,
        specs=yaml.safe_dump(limit, allow_unicode=False),
        metrics=yaml.safe_dump(metrics, allow_unicode=False),
    )
    checked = run("check", package)
    assert checked.exception is None or isinstance(checked.exception, SystemExit)
    output = folder / "out"
    output.mkdir()
    made = CliRunner().invoke(app, ["generate", "--specs", str(package), "--output", str(output)])
    assert (checked.exit_code, made.exit_code) in {(0, 0), (1, 1), (1, 0)}, made.output
