import re
from dataclasses import replace
from pathlib import Path

import pytest

from squash_api.generate.files import task_of
from squash_api.generate.kapacitor.hand_changes import (
    _TOKEN,
    HandChange,
    hand_changes,
    metric_alone,
)
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from squash_api.schema.names import Schema
from tests.support.limits import specification
from tests.support.metrics_packages import ROOT, shared, write_metrics_package

UNITS = """
name: AM1.near
threshold: {value: 0.02, unit: arcsec, operator: "<="}
tags: minimum
---
name: AM1.far
threshold: {value: -5, unit: marcsec, operator: ">"}
tags: minimum
"""


def make(package: MetricsPackage) -> str:
    return task_of(package, schema=Schema(), database="squash", retention_policy="autogen")


def alone(tmp_path: Path, specs: str | None = None, metric: str = "validate.AM1") -> MetricsPackage:
    written = {} if specs is None else {"specs": specs}
    return metric_alone(load_metrics_package(write_metrics_package(tmp_path, **written)), metric)


def found(changes: list[HandChange]) -> dict[str, float]:
    return {change.specification.name: change.value for change in changes}


def edited(script: str, old: str, new: str) -> str:
    assert script.count(old) == 1
    return script.replace(old, new)


def test_an_unchanged_script_has_no_changes(tmp_path: Path) -> None:
    package = alone(tmp_path)
    assert hand_changes(package, make, make(package)) == []


def test_a_changed_threshold_is_that_of_its_specification(tmp_path: Path) -> None:
    package = alone(tmp_path)
    script = edited(make(package), '"AM1" > 20.0)', '"AM1" > 25.5)')
    assert found(hand_changes(package, make, script)) == {"validate.AM1.minimum": 25.5}


def test_several_changes_are_told_apart(tmp_path: Path) -> None:
    package = alone(tmp_path)
    script = edited(make(package), '"AM1" > 20.0)', '"AM1" > 25)')
    script = edited(script, '"AM1" > 5.0)', '"AM1" > 4.0)')
    assert found(hand_changes(package, make, script)) == {
        "validate.AM1.minimum": 25.0,
        "validate.AM1.stretch": 4.0,
    }


def test_it_is_in_the_unit_of_the_specification(tmp_path: Path) -> None:
    package = alone(tmp_path, UNITS)
    script = re.sub(r'(?<=OR "AM1" > )[\d.]+', "33.0", make(package))
    (change,) = hand_changes(package, make, script)
    assert (change.specification.name, change.value) == ("validate.AM1.near", 0.033)
    assert change.yaml == "threshold: {value: 0.033}"


def test_a_sign_belongs_to_its_number(tmp_path: Path) -> None:
    package = alone(tmp_path, UNITS)
    script = edited(make(package), '"AM1" <= -5.0', '"AM1" <= 2.5')
    assert found(hand_changes(package, make, script)) == {"validate.AM1.far": 2.5}


def test_another_lay_out_and_other_comments_do_not_matter(tmp_path: Path) -> None:
    package = alone(tmp_path)
    script = re.sub(r"\n +(?=[.|])", " ", make(package)) + "// seen by me\n"
    script = edited(script, '"AM1" > 20.0)', '"AM1"   >   25.0)')
    assert found(hand_changes(package, make, script)) == {"validate.AM1.minimum": 25.0}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"AM1" > 20.0)', '"AM1" >= 25.0)'),
        ('"AM1" > 20.0)', '"AM2" > 25.0)'),
        ('"AM1" > 20.0)', '"AM1" > 25.0 OR "AM1" < 1.0)'),
        ("measurement('validate')", "measurement('other')"),
    ],
)
def test_what_is_more_than_another_number_is_no_threshold(
    tmp_path: Path, old: str, new: str
) -> None:
    package = alone(tmp_path)
    assert hand_changes(package, make, edited(make(package), old, new)) == []


def test_another_age_is_no_threshold(tmp_path: Path) -> None:
    package = alone(tmp_path)
    script = edited(make(package), "604800000000000", "86400000000000")
    assert hand_changes(package, make, script) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.0, "9.0"), (1e-7, "0.0000001"), (1e22, "10000000000000000000000.0")],
)
def test_the_yaml_is_a_number_for_every_yaml_parser(value: float, text: str) -> None:
    change = HandChange(specification(), ("threshold", "value"), value)
    assert change.yaml == f"threshold: {{value: {text}}}"


def with_strings_of(one: str, other: str) -> str:
    """Return a script with the strings of another one: by hand nobody changes the message."""
    strings = [match[0] for match in _TOKEN.finditer(one) if match.lastgroup == "string"]
    return _TOKEN.sub(
        lambda match: strings.pop(0) if match.lastgroup == "string" else match[0], other
    )


def each_found(package: MetricsPackage) -> list[str]:
    """Change every threshold by hand, one at a time; return the specifications not found again."""
    lost = []
    for name, item in package.specifications.items():
        one = metric_alone(package, item.metric)
        (number,) = item.criterion.numbers
        changed = number * 1.25 + 0.5
        criterion = item.criterion.with_numbers((changed,), item.criterion.unit)
        other = replace(item, criterion=criterion)
        on_server = make(replace(one, specifications={**one.specifications, name: other}))
        script = with_strings_of(make(one), on_server)
        values = found(hand_changes(one, make, script))
        if values.get(name) != pytest.approx(changed, rel=1e-15) or len(values) != 1:
            lost.append(f"{name}: {values}")
    return lost


@pytest.mark.parametrize("name", ["specs/srd", "examples/specs/camera"])
def test_each_threshold_of_the_project_is_found(name: str) -> None:
    assert each_found(load_metrics_package(ROOT / name)) == []


def test_thresholds_of_the_sample_of_verify_metrics_are_found() -> None:
    package = load_metrics_package(shared("verify_metrics_sample"))
    some = dict(sorted(package.specifications.items())[::12])
    assert each_found(replace(package, specifications=some)) == []


def test_both_ends_of_a_range_may_be_changed(tmp_path: Path) -> None:
    directory = write_metrics_package(tmp_path)
    (directory / "rules" / "validate").mkdir(parents=True)
    rules = "name: AM1.usual\nrange: {low: 1.25, high: 30, unit: marcsec}\ntags: minimum\n"
    (directory / "rules" / "validate" / "rules.yaml").write_text(rules)
    package = metric_alone(load_metrics_package(directory), "validate.AM1")
    script = edited(
        make(package), '("AM1" < 1.25 OR "AM1" > 30.0)', '("AM1" < 1.5 OR "AM1" > 40.0)'
    )
    assert [(item.path, item.value, item.yaml) for item in hand_changes(package, make, script)] == [
        (("range", "low"), 1.5, "range: {low: 1.5}"),
        (("range", "high"), 40.0, "range: {high: 40.0}"),
    ]
