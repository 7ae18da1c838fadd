import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import typer
from typer.testing import CliRunner, Result

from squash_api.commands.judge import judge
from tests.support.metrics_packages import ROOT, write_metrics_package

DATA = Path(__file__).parents[3] / "shared" / "data"

app = typer.Typer()
app.command()(judge)


def write_job(tmp_path: Path, **values: Any) -> Path:
    units = {"AM1": "marcsec", "PA1": "mmag", "other": "s"}
    path = tmp_path / "job.verify.json"
    measurements = [
        {"metric": f"validate.{name}", "value": value, "unit": units[name]}
        for name, value in values.items()
    ]
    path.write_text(json.dumps({"measurements": measurements, "meta": {"filter_name": "r"}}))
    return path


def run(tmp_path: Path, *arguments: str, **values: Any) -> Result:
    package = write_metrics_package(tmp_path)
    return CliRunner().invoke(
        app, [str(write_job(tmp_path, **values)), "--specs", str(package), *arguments]
    )


def statuses(result: Result) -> dict[str, str]:
    return {item["specification"]: item["status"] for item in json.loads(result.stdout)}


def test_every_specification_that_applies_gives_a_verdict(tmp_path: Path) -> None:
    assert statuses(run(tmp_path, "--json", AM1=7.5, PA1=None)) == {
        "validate.AM1.design": "passed",
        "validate.AM1.minimum": "passed",
        "validate.AM1.stretch": "failed",
        "validate.PA1.design_r": "not measured",
    }


def test_the_table_shows_value_test_and_margin(tmp_path: Path) -> None:
    line = next(line for line in run(tmp_path, AM1=7.5).stdout.splitlines() if "AM1.design" in line)
    assert [cell for cell in map(str.strip, line.split("  ")) if cell] == [
        "passed",
        "validate.AM1.design",
        "7.5 marcsec",
        "<= 10 marcsec",
        "+25.0%",
        "WARNING",
    ]


def test_a_value_just_above_its_limit_is_shown_with_all_digits(tmp_path: Path) -> None:
    stdout = run(tmp_path, AM1=10.000000001).stdout
    assert "10.000000001 marcsec" in stdout
    assert "<= 10.0 marcsec" in stdout


def test_the_verdicts_are_counted_below_the_table(tmp_path: Path) -> None:
    assert run(tmp_path, AM1=12, PA1=None).stdout.splitlines()[-1] == (
        "4 limits: 1 WARNING, 1 not measured, 1 INFO, 1 passed; "
        "1 limit of level WARNING or worse broken"
    )


def test_a_limit_on_trial_is_shown_and_does_not_count(tmp_path: Path) -> None:
    limit = "threshold: {value: 10, unit: marcsec, operator: '<='}"
    specs = f"---\nname: AM1.design\n{limit}\n---\nname: AM1.new\n{limit}\nalert: {{trial: true}}\n"
    package = write_metrics_package(tmp_path, specs=specs.replace("value: 10", "value: 20", 1))
    job = str(write_job(tmp_path, AM1=12))
    result = CliRunner().invoke(app, [job, "--specs", str(package)])
    assert "on trial: would be WARNING" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("1 limit: 1 passed; 0 limits")
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("value", "level", "exit_code"),
    [
        (7.5, "INFO", 1),
        (7.5, "WARNING", 0),
        (12, "WARNING", 1),
        (12, "CRITICAL", 0),
        (21, "CRITICAL", 1),
        (1, "INFO", 0),
        (None, "INFO", 1),
        (None, "CRITICAL", 1),
    ],
)
def test_a_violation_of_the_level_or_worse_is_exit_code_1(
    tmp_path: Path, value: float | None, level: str, exit_code: int
) -> None:
    assert run(tmp_path, "--level", level, AM1=value).exit_code == exit_code


def test_without_level_a_warning_counts(tmp_path: Path) -> None:
    assert run(tmp_path, AM1=12).exit_code == 1


def test_the_level_may_be_written_small(tmp_path: Path) -> None:
    assert run(tmp_path, "--level", "info", AM1=7.5).exit_code == 1


def test_tags_choose_the_specifications_that_have_all(tmp_path: Path) -> None:
    result = run(tmp_path, "--json", "--tag", "minimum", "--tag", "night", AM1=7.5)
    assert list(statuses(result)) == ["validate.AM1.minimum"]


def test_a_value_in_another_unit_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(
        '{"measurements": [{"metric": "validate.AM1", "value": 0.5, "unit": "arcsec"}]}'
    )
    package = write_metrics_package(tmp_path)
    result = CliRunner().invoke(app, [str(path), "--specs", str(package), "--json"])
    assert [item["value"] for item in json.loads(result.stdout)] == pytest.approx([500.0] * 3)


def test_a_value_that_cannot_be_used_is_not_measured_and_said_why(tmp_path: Path) -> None:
    result = run(tmp_path, "--json", AM1="text")
    assert set(statuses(result).values()) == {"not measured"}
    assert result.stderr == (
        "note: validate.AM1: the value is text, not a number\n"
        "error: 3 of 3 limits not measured; if that may be, give --allow-missing\n"
    )


def test_when_nothing_applies_it_is_said(tmp_path: Path) -> None:
    result = run(tmp_path, other=1.0)
    assert (result.exit_code, result.stdout) == (1, "No specification applies to this job.\n")
    assert result.stderr == (
        "note: no metrics package defines validate.other\n"
        "error: nothing was judged; if that may be, give --allow-missing\n"
    )
    assert run_again(tmp_path, "--allow-missing", other=1.0).exit_code == 0


def run_again(tmp_path: Path, *arguments: str, **values: Any) -> Result:
    """Judge another job by the package that is there."""
    job = str(write_job(tmp_path, **values))
    return CliRunner().invoke(app, [job, "--specs", str(tmp_path / "demo"), *arguments])


def test_a_value_that_is_missing_is_exit_code_1_unless_it_may_be(tmp_path: Path) -> None:
    assert run(tmp_path, AM1=1, PA1=None).exit_code == 1
    assert run_again(tmp_path, "--allow-missing", AM1=1, PA1=None).exit_code == 0
    assert run_again(tmp_path, "--allow-missing", AM1=12, PA1=None).exit_code == 1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("validate.PA11", "validate.PA1"),
        ("validate.pa1", "validate.PA1"),
        ("validat.PA1", "validate.PA1"),
        ("validate.PA2", None),
        ("other.PA1", None),
        ("validate.AM11", None),
    ],
)
def test_a_metric_that_is_misspelt_is_exit_code_1(
    tmp_path: Path, name: str, near: str | None
) -> None:
    path = tmp_path / "job.json"
    measurements = [{"metric": metric, "value": 1.0} for metric in ("validate.AM1", name)]
    path.write_text(json.dumps({"measurements": measurements}))
    package = write_metrics_package(tmp_path)
    arguments = [str(path), "--specs", str(package)]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, f"did you mean {near}?" in result.stderr) == (
        (0, False) if near is None else (1, True)
    )
    assert CliRunner().invoke(app, [*arguments, "--allow-missing"]).exit_code == 0


@pytest.mark.parametrize(
    ("content", "exit_code"),
    [('{"name": "x"}', 2), ("{}", 2), ('{"measurements": []}', 1), ('{"meta": {}}', 1)],
)
def test_a_file_that_is_not_a_job_is_exit_code_2(
    tmp_path: Path, content: str, exit_code: int
) -> None:
    path = tmp_path / "job.json"
    path.write_text(content)
    package = write_metrics_package(tmp_path)
    arguments = [str(path), "--specs", str(package)]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "not a job" in result.stderr) == (exit_code, exit_code == 2)
    allowed = CliRunner().invoke(app, [*arguments, "--allow-missing"])
    assert allowed.exit_code == (2 if exit_code == 2 else 0)


def junit(tmp_path: Path, **values: Any) -> ET.Element:
    run(tmp_path, "--junit", str(tmp_path / "junit.xml"), **values)
    return ET.parse(tmp_path / "junit.xml").getroot()


def test_junit_has_a_case_for_each_verdict(tmp_path: Path) -> None:
    names = [case.get("name") for case in junit(tmp_path, AM1=12, PA1=None).iter("testcase")]
    assert names == [
        "validate.AM1.design",
        "validate.AM1.minimum",
        "validate.AM1.stretch",
        "validate.PA1.design_r",
    ]


def test_junit_fails_what_counts_and_remarks_what_does_not(tmp_path: Path) -> None:
    cases = {
        case.get("name"): [child.tag for child in case]
        for case in junit(tmp_path, AM1=12, PA1=None).iter("testcase")
    }
    assert cases == {
        "validate.AM1.design": ["failure"],
        "validate.AM1.minimum": [],
        "validate.AM1.stretch": ["system-out"],
        "validate.PA1.design_r": ["skipped"],
    }


def test_junit_counts_its_cases(tmp_path: Path) -> None:
    suite = junit(tmp_path, AM1=12, PA1=None).find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "skipped", "errors")] == [
        "4",
        "1",
        "1",
        "0",
    ]


def test_a_failure_in_junit_says_value_and_limit(tmp_path: Path) -> None:
    failure = junit(tmp_path, AM1=12).find(".//failure")
    assert failure is not None
    assert failure.get("message") == "WARNING: 12 marcsec, must be <= 10 marcsec"


def test_a_junit_file_that_cannot_be_written_is_exit_code_2(tmp_path: Path) -> None:
    result = run(tmp_path, "--junit", str(tmp_path / "none" / "junit.xml"), AM1=1)
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"meta":\n  {"a" 1}}', "at line 2, column 8"),
        ('{"measurements": [{}, {"metric": 3}]}', "$.measurements[1].metric must be text"),
    ],
)
def test_a_broken_job_is_exit_code_2_with_its_places(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "job.json"
    path.write_text(content)
    package = write_metrics_package(tmp_path)
    result = CliRunner().invoke(app, [str(path), "--specs", str(package)])
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_missing_job_is_exit_code_2(tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path)
    result = CliRunner().invoke(app, [str(tmp_path / "none.json"), "--specs", str(package)])
    assert (result.exit_code, "none.json: cannot be read" in result.stderr) == (2, True)


def test_specifications_with_problems_are_exit_code_2(tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path, specs="name: AM1.design\n")
    job = write_job(tmp_path, AM1=1)
    result = CliRunner().invoke(app, [str(job), "--specs", str(package)])
    assert (result.exit_code, "limits.yaml:1: the threshold is missing" in result.stderr) == (
        2,
        True,
    )


def test_a_directory_without_specifications_is_exit_code_2(tmp_path: Path) -> None:
    job = write_job(tmp_path, AM1=1)
    result = CliRunner().invoke(app, [str(job), "--specs", str(tmp_path)])
    assert (result.exit_code, "is not a metrics package" in result.stderr) == (2, True)


def test_a_mute_that_has_ended_does_not_stop_judging(tmp_path: Path) -> None:
    specs = (
        "name: AM1.design\nthreshold: {value: 5, unit: marcsec, operator: '<'}\n"
        "alert: {mute: {until: 2020-01-01, why: reprocessing}}\n"
    )
    package = write_metrics_package(tmp_path, specs=specs)
    job = write_job(tmp_path, AM1=1)
    assert CliRunner().invoke(app, [str(job), "--specs", str(package)]).exit_code == 0


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
def test_a_real_job_gets_the_verdicts_of_lsst_verify() -> None:
    arguments = ["--specs", str(DATA / "verify_metrics_sample"), "--json"]
    job = str(DATA / "jobs" / "ldf.payload.json")
    found = statuses(CliRunner().invoke(app, [job, *arguments]))
    expected = json.loads((DATA / "jobs" / "ldf.report.json").read_text())
    assert found == {name: status for name, status in expected.items() if name in found}
    assert len(found) > 20


# What pipelines leave on disk


def write_bundle(path: Path, value: float | None, metric: str = "AM1") -> Path:
    item = {"metric": metric, "identifier": "a" * 32, "value": value, "unit": "marcsec"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"validate": [item], "__metricNamePrefix": ""}))
    return path


def judge_files(tmp_path: Path, *arguments: str | Path) -> Result:
    package = tmp_path / "specs" / "demo"
    if not package.exists():
        write_metrics_package(tmp_path / "specs")
    given = [*map(str, arguments), "--specs", str(package)]
    return CliRunner().invoke(app, given)


def test_a_bundle_is_judged_with_its_data_id(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "x.json", 7.5, "PA1")
    bundle.write_text(bundle.read_text().replace("marcsec", "mmag"))
    assert judge_files(tmp_path, bundle, "--physical-filter", "g").exit_code == 1
    result = judge_files(tmp_path, bundle, "--physical-filter", "r", "--json")
    assert statuses(result) == {"validate.PA1.design_r": "failed"}


def test_the_jobs_of_a_folder_have_a_table_each_and_one_last_line(tmp_path: Path) -> None:
    for name, value in (("a", 7.5), ("b", 12)):
        write_bundle(tmp_path / "night" / f"{name}.json", value)
    result = judge_files(tmp_path, tmp_path / "night")
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith(str(tmp_path))] == [
        f"{tmp_path}/night/a.json",
        f"{tmp_path}/night/b.json",
    ]
    assert lines[-1] == (
        "2 jobs: 6 limits: 1 WARNING, 2 INFO, 3 passed; 1 limit of level WARNING or worse broken"
    )
    assert result.exit_code == 1


def test_json_names_the_file_of_each_verdict(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.json", 7.5)
    found = json.loads(judge_files(tmp_path, bundle, "--json").stdout)
    assert {item["file"] for item in found} == {str(bundle)}


def test_what_is_no_job_is_exit_code_2_and_the_others_are_judged(tmp_path: Path) -> None:
    write_bundle(tmp_path / "night" / "a.json", 1)
    (tmp_path / "night" / "butler.yaml").write_text("datastore: x")
    result = judge_files(tmp_path, tmp_path / "night")
    assert (result.exit_code, "butler.yaml: not a job" in result.stderr) == (2, True)
    assert "3 passed" in result.stdout
    assert judge_files(tmp_path, tmp_path / "night", "--allow-others").exit_code == 0


def test_a_folder_without_jobs_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "x.fits").write_text("SIMPLE")
    result = judge_files(tmp_path, tmp_path / "night")
    assert (result.exit_code, "no job, bundle or measurement is there" in result.stderr) == (
        2,
        True,
    )


def test_what_one_job_does_not_suffice_for_is_named(tmp_path: Path) -> None:
    values = {"quality.zeropoint": (27.0, "mag"), "quality.background": (9000.0, "adu")}
    job = tmp_path / "job.json"
    measurements = [
        {"metric": name, "value": value, "unit": unit} for name, (value, unit) in values.items()
    ]
    job.write_text(json.dumps({"measurements": measurements, "blobs": [], "meta": {}}))
    kinds = ROOT / "examples" / "specs" / "kinds"
    result = CliRunner().invoke(app, [str(job), "--specs", str(kinds), "--json"])
    assert statuses(result) == {
        "quality.background.design": "failed",
        "quality.zeropoint.clouds": "failed",
        "quality.zeropoint.design": "failed",
    }
    assert result.exit_code == 1
    assert result.stderr == (
        "note: quality.zeropoint.drift is a trend, which needs the values before: a service with a "
        "record judges it\n"
    )
