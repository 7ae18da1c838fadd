import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from squash_api.cli import app
from squash_api.generate.output import MARK
from squash_api.generate.outputs import OUTPUTS, file_kind_of
from squash_api.metrics_packages.loading import find_packages
from tests.support.metrics_packages import ROOT, SPECS, shared, write_metrics_package

TASK = "kapacitor/tasks/validate.AM1.tick"
HANDLER = "kapacitor/handlers/metrics-default-slack.yaml"
DASHBOARD = "chronograf/validate.dashboard"
PACKAGES = [*find_packages(ROOT / "specs"), *find_packages(ROOT / "examples" / "specs")]


def generate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["generate", *map(str, arguments)])


def content(output: Path) -> dict[str, bytes]:
    """Return all files below a directory."""
    return {
        place.relative_to(output).as_posix(): place.read_bytes()
        for place in output.rglob("*")
        if place.is_file()
    }


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_metrics_package(tmp_path / "specs")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def test_tasks_handlers_dashboards_and_connections_are_written(package: Path, output: Path) -> None:
    result = generate("--specs", package, "--output", output)
    files = content(output)
    assert result.exit_code == 0, result.output
    assert {TASK, "kapacitor/tasks/validate.PA1.tick", HANDLER, DASHBOARD} <= set(files)
    kinds = [kind for made in OUTPUTS for kind in made.files]
    assert {file_kind_of(path) for path in files} == {*kinds}
    assert result.output.endswith(f"{len(files)} files, {len(files)} written or removed\n")


def test_every_file_has_the_mark(package: Path, output: Path) -> None:
    generate("--specs", package, "--output", output)
    assert [path for path, data in content(output).items() if MARK.encode() not in data] == []


def test_the_second_time_nothing_is_written(package: Path, output: Path) -> None:
    generate("--specs", package, "--output", output)
    result = generate("--specs", package, "--output", output)
    assert result.output.endswith(" files, 0 written or removed\n")


@pytest.mark.parametrize("is_option", [True, False], ids=["option", "setting"])
def test_an_option_or_the_setting_says_who_tells_people(
    package: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *, is_option: bool
) -> None:
    generate("--specs", package, "--output", output)
    assert HANDLER in content(output)
    more = ["--alerts-by", "grafana"] if is_option else []
    if not is_option:
        monkeypatch.setenv("SQUASH_ALERTS_BY", "grafana")
    result = generate("--specs", package, "--output", output, *more)
    assert result.exit_code == 0, result.output
    files = content(output)
    assert HANDLER not in files
    assert "grafana/provisioning/alerting/policy.yaml" in files
    assert files[TASK].splitlines()[1].startswith(b"// Grafana tells people")
    assert b"isPaused: true" not in files["grafana/provisioning/alerting/rules-validate.yaml"]


def test_a_rule_that_is_gone_is_deleted_from_grafana(package: Path, output: Path) -> None:
    generate("--specs", package, "--output", output)
    path = "grafana/provisioning/alerting/deleted-rules.yaml"
    assert path not in content(output)
    limits = next((package / "specs" / "validate").glob("*.yaml"))
    limits.write_text(limits.read_text(encoding="utf-8").rpartition("---\n")[0], encoding="utf-8")
    result = generate("--specs", package, "--output", output)
    assert f"made      {path}" in result.output
    assert generate("--specs", package, "--output", output, "--check").exit_code == 0


def test_by_default_all_packages_of_the_folder_specs_count(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package.parent / "notes").mkdir()
    (package.parent / "notes" / "specs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert generate().exit_code == 0
    assert (tmp_path / TASK).is_file()


def test_without_any_package_there_is_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = generate()
    assert (result.exit_code, "name its directory with --specs" in result.output) == (2, True)
    assert content(tmp_path) == {}


def test_what_is_no_package_is_exit_code_2(tmp_path: Path, output: Path) -> None:
    result = generate("--specs", tmp_path, "--output", output)
    assert (result.exit_code, "is not a metrics package" in result.output) == (2, True)


def test_problems_are_printed_with_their_lines_and_nothing_is_written(
    tmp_path: Path, output: Path
) -> None:
    package = write_metrics_package(tmp_path, specs=SPECS.replace("unit: mmag", "unit: kg"))
    result = generate("--specs", package, "--output", output)
    assert result.exit_code == 1
    assert "demo/specs/validate/limits.yaml:22: the unit 'kg'" in result.output
    assert content(output) == {}


def test_an_expired_mute_is_no_problem(tmp_path: Path, output: Path) -> None:
    mute = "alert: {mute: {until: 2020-01-01, why: done}}\n"
    package = write_metrics_package(tmp_path, specs=SPECS + mute)
    assert generate("--specs", package, "--output", output).exit_code == 0


def test_database_and_retention_policy_reach_the_files(package: Path, output: Path) -> None:
    generate("--specs", package, "--output", output, "--database", "d1", "--retention-policy", "r1")
    assert b'dbrp "d1"."r1"' in content(output)[TASK]
    assert b'"d1"' in content(output)["chronograf/squash.src"]


def test_a_database_that_no_script_can_name_is_a_problem(package: Path, output: Path) -> None:
    result = generate("--specs", package, "--output", output, "--database", "d\\")
    assert (result.exit_code, "backslash" in result.output) == (1, True)
    assert content(output) == {}


def test_an_added_tag_is_compared_as_a_tag(tmp_path: Path, output: Path) -> None:
    specs = SPECS.replace("filter_name: r", "site: summit")
    package = write_metrics_package(tmp_path, specs=specs)
    generate("--specs", package, "--output", output)
    before = content(output)["kapacitor/tasks/validate.PA1.tick"]
    generate("--specs", package, "--output", output, "--tag", "site")
    after = content(output)["kapacitor/tasks/validate.PA1.tick"]
    assert (b'"meta.site.text" ==' in before, b'"site" ==' in after) == (True, True)


def test_an_impossible_tag_is_told(package: Path, output: Path) -> None:
    result = generate("--specs", package, "--output", output, "--tag", "run_id")
    assert (result.exit_code, "run_id" in result.output) == (2, True)


def test_files_of_a_specification_that_is_gone_are_removed(tmp_path: Path, output: Path) -> None:
    generate("--specs", write_metrics_package(tmp_path / "a"), "--output", output)
    less = SPECS.rpartition("---")[0]
    result = generate(
        "--specs", write_metrics_package(tmp_path / "b", specs=less), "--output", output
    )
    assert "removed   kapacitor/tasks/validate.PA1.tick" in result.output
    assert "kapacitor/tasks/validate.PA1.tick" not in content(output)


def test_files_of_somebody_else_are_kept_and_no_drift(package: Path, output: Path) -> None:
    mine = output / "kapacitor" / "tasks" / "mine.tick"
    mine.parent.mkdir(parents=True)
    mine.write_text("stream|log()\n")
    generate("--specs", package, "--output", output)
    assert mine.read_text() == "stream|log()\n"
    assert generate("--specs", package, "--output", output, "--check").exit_code == 0


def test_a_check_of_what_was_written_finds_nothing(package: Path, output: Path) -> None:
    generate("--specs", package, "--output", output)
    result = generate("--specs", package, "--output", output, "--check")
    assert (result.exit_code, result.output.endswith("files, all as generated\n")) == (0, True)


def test_a_check_names_changed_missing_and_orphaned_files_and_leaves_them(
    package: Path, output: Path
) -> None:
    generate("--specs", package, "--output", output)
    (output / TASK).write_text("changed")
    (output / HANDLER).unlink()
    shutil.copy(output / DASHBOARD, output / "chronograf" / "old.dashboard")
    before = content(output)
    result = generate("--specs", package, "--output", output, "--check")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"changed   {TASK}",
        f"missing   {HANDLER}",
        "orphaned  chronograf/old.dashboard",
    ]
    assert "run squash generate" in result.stderr
    assert content(output) == before


def test_a_check_where_nothing_was_ever_written_writes_nothing(package: Path, output: Path) -> None:
    assert generate("--specs", package, "--output", output, "--check").exit_code == 1
    assert not output.exists()


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_missing_parent_is_an_error_and_is_not_made(
    package: Path, tmp_path: Path, options: list[str]
) -> None:
    result = generate("--specs", package, "--output", tmp_path / "no" / "such", *options)
    said = f"the directory {tmp_path / 'no'} does not exist"
    assert (result.exit_code, said in result.output) == (2, True)
    assert not (tmp_path / "no").exists()


def test_a_missing_parent_of_the_export_is_an_error_before_anything_is_written(
    package: Path, tmp_path: Path, output: Path
) -> None:
    folder = tmp_path / "no" / "such"
    result = generate("--specs", package, "--output", output, "--export", folder)
    assert (result.exit_code, "does not exist" in result.output) == (2, True)
    assert (folder.parent.exists(), output.exists()) == (False, False)


def test_where_nothing_can_be_written_it_is_told(package: Path, output: Path) -> None:
    output.write_text("a file in the way")
    result = generate("--specs", package, "--output", output)
    assert (result.exit_code, "error: " in result.output) == (2, True)


def test_dashboards_are_exported_for_the_import_of_the_ui(package: Path, output: Path) -> None:
    folder = output / "export"
    assert generate("--specs", package, "--output", output, "--export", folder).exit_code == 0
    exported = content(folder)
    assert set(exported) == {"validate.json", "squash-overview.json", "squash-service.json"}
    assert all(b'"meta"' in data for data in exported.values())


def test_a_check_exports_nothing(package: Path, output: Path) -> None:
    result = generate("--specs", package, "--output", output, "--check", "--export", output)
    assert (result.exit_code, output.exists()) == (2, False)


def test_the_committed_files_are_what_the_specifications_generate() -> None:
    chosen = [word for path in find_packages(ROOT / "specs") for word in ("--specs", str(path))]
    result = generate(*chosen, "--output", ROOT, "--check")
    assert result.exit_code == 0, result.output


ENVIRONMENTS = [
    {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "0"},
    {
        "LC_ALL": "tr_TR.UTF-8",
        "LANG": "tr_TR.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "PYTHONHASHSEED": "4242",
        "PYTHONUTF8": "0",
        "SQUASH_TAGS": "site,night",
        "SQUASH_INFLUX_DATABASE": "other",
        "SQUASH_INFLUX_URL": "http://elsewhere:8086",
        "SQUASH_KAPACITOR_URL": "http://elsewhere:9092",
        "SQUASH_CHRONOGRAF_URL": "http://elsewhere:8888",
        "SQUASH_URL": "https://squash.example.org/api",
        "SQUASH_SPECS": "/nowhere",
    },
]
_SHUFFLED = """
import os, sys, time
from pathlib import Path
first = {first}
if not first:
    listed, walked, now = Path.iterdir, os.walk, time.time
    Path.iterdir = lambda self: iter(sorted(listed(self), reverse=True))
    def walk(*given, **named):
        for root, folders, files in walked(*given, **named):
            folders.sort(reverse=True)
            yield root, folders, sorted(files, reverse=True)
    os.walk = walk
    time.time = lambda: now() + 400 * 86400
from squash_api.cli import main
main()
"""


def run_elsewhere(folder: Path, *arguments: str, number: int) -> dict[str, bytes]:
    """Generate in a process with another environment, clock and order of files."""
    output = folder / f"output{number}"
    subprocess.run(
        [
            sys.executable,
            "-c",
            _SHUFFLED.format(first=number == 0),
            "generate",
            "--output",
            str(output),
            *arguments,
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **ENVIRONMENTS[number]},
        check=True,
        capture_output=True,
    )
    return content(output)


def test_every_environment_clock_and_order_gives_the_same_bytes(tmp_path: Path) -> None:
    for path in PACKAGES:
        shutil.copytree(path, tmp_path / "specs" / path.name)
    first = run_elsewhere(tmp_path, number=0)
    names = sorted((path.name for path in PACKAGES), reverse=True)
    order = [word for name in names for word in ("--specs", f"specs/{name}")]
    assert run_elsewhere(tmp_path, *order, number=1) == first
    assert len(first) > 40


def test_the_sample_of_verify_metrics_gives_the_same_bytes_everywhere(tmp_path: Path) -> None:
    chosen = ["--specs", str(shared("verify_metrics_sample"))]
    first = run_elsewhere(tmp_path, *chosen, number=0)
    assert run_elsewhere(tmp_path, *chosen, number=1) == first
