import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from squash_api.cli import app
from squash_api.metrics_packages.foreign import foreign_metrics, foreign_to_files
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from tests.wires.test_bundle import BUNDLE

INFORMATION = """\
# PSF Metrics
stellarAstrometricRepeatability1_g_AM1:
    lowThreshold: 0.0
    highThreshold: 20
    divergent: false
    plot: objectTableCore_g_AM1_Plot
    debugGroup: PSF
    atoolFile: shapes.py
    description: |
        The repeatability of positions.
count:
    lowThreshold: 10
    highThreshold: .nan
    divergent: true
    description: How many.
"""
PROTOTYPE = {
    "metric": "PA1",
    "description": "Photometric Repeatability",
    "units": "millimag",
    "minimum": "8",
    "design": "5",
    "stretch": "3",
    "user": "10",
}
QLF = [
    {"name": "SNR", "description": "Signal to noise", "condition": ">=", "threshold": 7},
    {"name": "SKY PEAK", "description": "Sky", "condition": "near", "threshold": 1},
]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["specs", *map(str, arguments)])


def imported(tmp_path: Path, content: Any, *options: str | Path, name: str = "x.yaml") -> Result:
    source = tmp_path / name
    source.write_text(content if isinstance(content, str) else json.dumps(content))
    return run("import", source, tmp_path / "out", "--package", "quicklook", *options)


def load(tmp_path: Path) -> MetricsPackage:
    package = load_metrics_package(tmp_path / "out")
    assert not package.problems
    return package


def limits(package: MetricsPackage) -> dict[str, tuple[str, str, str]]:
    return {
        name: (item.criterion.words(repr, is_ascii=True), item.criterion.unit, item.level)
        for name, item in package.specifications.items()
    }


def test_thresholds_of_analysis_tools_become_two_specifications(tmp_path: Path) -> None:
    result = imported(tmp_path, INFORMATION, name="metricInformation.yaml")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            f"{tmp_path}/out/metrics/quicklook.yaml",
            f"{tmp_path}/out/specs/quicklook/metricInformation.yaml",
            "2 metrics, 3 specifications",
        ],
    )
    name = "quicklook.stellarAstrometricRepeatability1_g_AM1"
    assert limits(load(tmp_path)) == {
        f"{name}.low": (">= 0.0", "", "WARNING"),
        f"{name}.high": ("<= 20.0", "", "WARNING"),
        "quicklook.count.low": (">= 10.0", "", "WARNING"),
    }
    checked = run("check", tmp_path / "out", "--strict")
    assert checked.stdout == "2 metrics, 3 specifications, 0 problems\n"


def test_what_cannot_be_said_is_in_comments(tmp_path: Path) -> None:
    imported(tmp_path, INFORMATION)
    assert (
        (tmp_path / "out" / "metrics" / "quicklook.yaml").read_text()
        == """\
# From x.yaml, by squash specs import.

# divergent: false
# plot: objectTableCore_g_AM1_Plot
# atoolFile: shapes.py
# unit: not known, so it is dimensionless here: write the one that is measured
stellarAstrometricRepeatability1_g_AM1:
  description: The repeatability of positions.
  unit: ''
  tags:
  - PSF

# divergent: true
# unit: not known, so it is dimensionless here: write the one that is measured
# highThreshold: nan is not a finite number, so it is no limit here
count:
  description: How many.
  unit: ''
"""
    )


def test_bundles_give_packages_and_units(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps({**BUNDLE, "__metricNamePrefix": "objectTableCore_"}))
    result = imported(tmp_path, INFORMATION, "--measured", bundle)
    assert result.exit_code == 0
    assert limits(load(tmp_path)) == {
        "objectTableCore_stellarAstrometricRepeatability1.g_AM1.low": (
            ">= 0.0",
            "marcsec",
            "WARNING",
        ),
        "objectTableCore_stellarAstrometricRepeatability1.g_AM1.high": (
            "<= 20.0",
            "marcsec",
            "WARNING",
        ),
        "objectTableCore_numSources.count.low": (">= 10.0", "ct", "WARNING"),
    }


def test_a_metric_that_is_not_measured_says_so(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps(BUNDLE))
    imported(tmp_path, PROTOTYPE, "--measured", bundle)
    text = (tmp_path / "out" / "metrics" / "quicklook.yaml").read_text()
    assert "# not measured in these jobs" in text


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PROTOTYPE, "x.json"),
        ([PROTOTYPE], "x.yaml"),
        ({"results": [PROTOTYPE]}, "x.json"),
        ({"PA1": {key: value for key, value in PROTOTYPE.items() if key != "metric"}}, "x.json"),
        (yaml.safe_dump(PROTOTYPE), "x.yaml"),
    ],
)
def test_the_levels_of_the_prototype_become_specifications(
    tmp_path: Path, content: Any, name: str
) -> None:
    assert imported(tmp_path, content, name=name).exit_code == 0
    package = load(tmp_path)
    assert package.metrics["quicklook.PA1"].unit == "mmag"
    assert package.metrics["quicklook.PA1"].description == "Photometric Repeatability"
    assert limits(package) == {
        "quicklook.PA1.minimum": ("<= 8.0", "mmag", "CRITICAL"),
        "quicklook.PA1.design": ("<= 5.0", "mmag", "WARNING"),
        "quicklook.PA1.stretch": ("<= 3.0", "mmag", "INFO"),
        "quicklook.PA1.user": ("<= 10.0", "mmag", "WARNING"),
    }


def test_conditions_of_qlf_become_specifications(tmp_path: Path) -> None:
    assert imported(tmp_path, QLF).exit_code == 0
    package = load(tmp_path)
    assert limits(package) == {"quicklook.SNR.threshold": (">= 7.0", "", "WARNING")}
    assert "quicklook.SKY_PEAK" in package.metrics
    text = (tmp_path / "out" / "metrics" / "quicklook.yaml").read_text()
    assert "# its name was SKY PEAK\n# condition: near: 'near' is not an operator" in text


@pytest.mark.parametrize(
    ("metric", "remark"),
    [
        ({"threshold": 5}, "# threshold: 5: is missing: say how values compare"),
        ({"minimum": "eight", "design": 5}, "# minimum: eight: 'eight' is not a number"),
        ({"minimum": 1, "design": 5, "stretch": 3}, "# design: 5: the levels are in no order"),
        ({"units": "furlongs per fortnight"}, "# units: furlongs per fortnight: "),
        ({"design": 5}, "# taken for granted that smaller values are better"),
        ({"highThreshold": "5"}, "# highThreshold: 5 is not a finite number"),
        ({"lowThreshold": True}, "# lowThreshold: True is not a finite number"),
        ({"lowThreshold": 2, "highThreshold": 1}, "# lowThreshold is above highThreshold"),
    ],
)
def test_what_is_not_understood_of_a_metric_is_in_comments(
    tmp_path: Path, metric: dict[str, Any], remark: str
) -> None:
    assert imported(tmp_path, {"name": "SNR", "description": "x", **metric}).exit_code == 0
    assert remark in (tmp_path / "out" / "metrics" / "quicklook.yaml").read_text()
    assert "quicklook.SNR" in load(tmp_path).metrics


def test_what_cannot_be_a_metric_is_left_out_and_said(tmp_path: Path) -> None:
    result = imported(tmp_path, [*QLF, {"name": "status", "description": "x"}, 7, QLF[0]])
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["left out"] * 3
    text = (tmp_path / "out" / "metrics" / "quicklook.yaml").read_text()
    assert text.count("# left out: ") == 3
    assert len(load(tmp_path).metrics) == 2


def test_metrics_without_limits_are_a_metrics_package_too(tmp_path: Path) -> None:
    imported(tmp_path, {"name": "SNR", "description": "x", "unit": "adu"})
    assert load(tmp_path).metrics["quicklook.SNR"].unit == "adu"


def test_files_are_overwritten_only_by_force(tmp_path: Path) -> None:
    imported(tmp_path, PROTOTYPE)
    result = imported(tmp_path, QLF)
    assert (result.exit_code, "already: give --force" in result.stderr) == (1, True)
    assert imported(tmp_path, QLF, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "x.yaml: line 1: not YAML"),
        ("just text", "there are no metrics in it"),
        ("{}", "there are no metrics in it"),
        ("[1, 2]", "there are no metrics in it"),
    ],
)
def test_what_is_not_understood_is_exit_code_2(tmp_path: Path, content: str, message: str) -> None:
    result = imported(tmp_path, content)
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    for name in ("none.yaml", "none.json"):
        result = run("import", tmp_path / name, tmp_path, "--package", "p")
        assert (result.exit_code, "cannot be read" in result.stderr) == (2, True)


_KEYS = ["description", "units", "unit", "minimum", "design", "stretch", "user", "condition"]
_KEYS += ["threshold", "lowThreshold", "highThreshold", "debugGroup", "tags", "plot", "x\ny"]
_TEXT = st.text(max_size=8) | st.sampled_from(["<", "mmag", "5", "# x\n- a: b", "\u2028", "yes"])
_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.lists(_TEXT)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(st.dictionaries(_TEXT, st.dictionaries(st.sampled_from(_KEYS), _VALUES, min_size=1)))
def test_whatever_is_imported_passes_the_check(tmp_path: Path, content: dict[str, Any]) -> None:
    try:
        metrics, others = foreign_metrics(content)
    except ValueError:
        return
    found = foreign_to_files(metrics, package="p", origin="x\ny", stem="x", others=others)
    for path, text in found.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    if not found.metrics:
        return
    package = load_metrics_package(tmp_path)
    assert (package.problems, len(package.metrics), len(package.specifications)) == (
        (),
        found.metrics,
        found.specifications,
    )
    for path in found.files:
        (tmp_path / path).unlink()
