import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from squash_api.cli import app
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
        "2 metrics, 1 specifications, 2 problems",
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
    assert said.startswith("demo/specs/validate/limits.yaml:9: warning: the tag 'minimun' is no")
    assert counts == ("2 metrics, 4 specifications, 0 problems, 1 warnings")
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
    assert (result.exit_code, "is no metrics package" in result.stderr) == (2, True)


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
    assert "1 problems: run squash specs check" in result.stderr


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
