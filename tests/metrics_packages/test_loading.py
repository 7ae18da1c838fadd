import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from squash_api.errors import SettingsError
from squash_api.judging.specifications import Specification
from squash_api.metrics_packages.loading import (
    MetricsPackage,
    Problem,
    load_metrics_package,
    load_metrics_packages,
    resolve_packages,
)
from squash_api.schema.names import Schema
from squash_api.verify.derivation import Derivation, Reduction
from tests.support.metrics_packages import ROOT, shared, write_package

SOUND = "name: latency.hard\nthreshold: {value: 60, unit: s, operator: '<'}\n"
TODAY = date(2026, 11, 22)


def load(tmp_path: Path, files: dict[str, str], **known: Any) -> MetricsPackage:
    return load_metrics_package(write_package(tmp_path / "pkg", files, **known), today=TODAY)


def problems(tmp_path: Path, text: str) -> list[str]:
    return [str(problem) for problem in load(tmp_path, {"a.yaml": text}).problems]


def metric_problems(tmp_path: Path, text: str) -> list[str]:
    return [str(problem) for problem in load(tmp_path, {}, metrics=text).problems]


def as_row(specification: Specification) -> dict[str, object]:
    return {
        "metadata_query": specification.metadata_query,
        "metric": specification.metric,
        "name": specification.name,
        "tags": list(specification.tags),
        **specification.criterion.shown(),
        "unit": specification.criterion.unit,
    }


def test_the_sample_of_verify_metrics_resolves_as_lsst_verify_resolves_it() -> None:
    package = load_metrics_package(shared("verify_metrics_sample"))
    expected = json.loads(shared("verify_metrics_sample.resolved.json").read_text())
    found = [as_row(specification) for _, specification in sorted(package.specifications.items())]
    assert found == expected


def test_the_sample_of_verify_metrics_has_no_problem() -> None:
    package = load_metrics_package(shared("verify_metrics_sample"))
    assert (len(package.metrics), package.problems) == (938, ())


def test_a_problem_reads_as_place_and_message(tmp_path: Path) -> None:
    (problem,) = load(tmp_path, {"a.yaml": SOUND.replace("'<'", "=>")}).problems
    assert str(problem) == (
        "pkg/specs/demo/a.yaml:2: '=>' is not an operator: write one of < <= > >= == !="
    )


def test_a_problem_without_a_place_reads_as_its_message() -> None:
    assert str(Problem(None, "write it")) == "write it"


@pytest.mark.parametrize("missing", ["metrics", "specs"])
def test_a_directory_without_metrics_or_specs_is_no_package(tmp_path: Path, missing: str) -> None:
    package = write_package(tmp_path / "pkg", {})
    for path in (package / missing).iterdir():
        path.unlink()
    (package / missing).rmdir()
    with pytest.raises(SettingsError, match=missing):
        load_metrics_package(package)


def test_files_with_only_comments_and_loose_files_define_nothing(tmp_path: Path) -> None:
    package = write_package(tmp_path / "pkg", {"a.yml": "# to do\n", "b.txt": "{"})
    (package / "specs" / "loose.yaml").write_text("{")
    assert load_metrics_package(package).problems == ()


def test_both_endings_and_all_depths_are_read(tmp_path: Path) -> None:
    files = {"a.yml": SOUND, "deep/er/b.yaml": SOUND.replace("hard", "soft")}
    found = load(tmp_path, files)
    assert list(found.specifications) == ["demo.latency.hard", "demo.latency.soft"]


def test_every_definition_knows_its_line(tmp_path: Path) -> None:
    package = load(tmp_path, {"a.yaml": f"# limits\n---\n{SOUND}"})
    assert str(package.specifications["demo.latency.hard"].source) == "pkg/specs/demo/a.yaml:3"
    assert str(package.metrics["demo.frac"].source) == "pkg/metrics/demo.yaml:2"


def test_a_metric_may_be_named_with_its_package(tmp_path: Path) -> None:
    package = load(tmp_path, {}, metrics="demo.x: {description: d, unit: ''}\n")
    assert list(package.metrics) == ["demo.x"]


def test_metric_tags_may_be_a_set_with_merge_keys(tmp_path: Path) -> None:
    text = """\
        x: {description: d, unit: '', tags: &all !!set {a, b}}
        y: {description: d, unit: '', tags: !!set {<<: *all, c: null}}
        z: {description: d, unit: '', tags: 'a, b'}
        """
    metrics = load(tmp_path, {}, metrics=text).metrics
    assert [metric.tags for metric in metrics.values()] == [("a", "b"), ("a", "b", "c"), ("a, b",)]


def test_of_equal_keys_the_last_wins_without_a_problem(tmp_path: Path) -> None:
    text = "x: {description: d, unit: s, unit: h}\n"
    assert load(tmp_path, {}, metrics=text).metrics["demo.x"].unit == "h"
    assert load_metrics_package(tmp_path / "pkg").problems == ()


def test_a_display_name_is_kept_in_the_reference(tmp_path: Path) -> None:
    text = "x: {description: d, unit: s, reference: {display_name: Ex}}\n"
    assert load(tmp_path, {}, metrics=text).metrics["demo.x"].display_name == "Ex"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "demo.yaml:1: the file is empty"),
        ("[]", "demo.yaml:1: not a mapping of metric names"),
        ("x:\n", "demo.yaml:1: not a mapping: write description"),
        ("x: {unit: s}\n", "demo.yaml:1: the description is missing"),
        ("x: {description: null, unit: s}\n", "demo.yaml:1: the description is null"),
        ("x: {description: d}\n", "the unit is missing: write ''"),
        ("x:\n  description: d\n  unit: null\n", "demo.yaml:3: the unit is null: write ''"),
        ("x:\n  unit: furlongs\n  description: d\n", "demo.yaml:2: 'furlongs' is not a unit"),
        ("x: {description: d, unit: s, colour: red}\n", "refuses the key 'colour'"),
        ("x: {description: d, unit: s, display_name: X}\n", "write it under reference"),
        ("x: {description: d, unit: s, reference: LPM-17}\n", "reference must be a mapping"),
        ("x: {description: d, unit: s, tags: 5}\n", "tags must be text or a list"),
        ("5: {description: d, unit: s}\n", "the name 5 is not text"),
        ("other.x: {description: d, unit: s}\n", "'other.x' is not in 'demo'"),
        ("a.b.c: {description: d, unit: s}\n", "write package.metric"),
        ("two words: {description: d, unit: s}\n", "choose another name"),
        ("time: {description: d, unit: s}\n", "'time' is the name of a tag or field"),
        ("x: &x {description: d, unit: s}\n---\ny: *x\n", "not YAML"),
        ("x: {description: d, unit: s}\n---\ny: {}\n", "demo.yaml:3: a metrics file has only one"),
    ],
)
def test_what_is_wrong_in_a_metrics_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (problem,) = metric_problems(tmp_path, text)
    assert message in problem


def test_one_metric_written_twice_is_a_problem(tmp_path: Path) -> None:
    text = "x: {description: d, unit: s}\ndemo.x: {description: d, unit: s}\n"
    (problem,) = metric_problems(tmp_path, text)
    assert problem == (
        "pkg/metrics/demo.yaml:2: 'demo.x' is defined at pkg/metrics/demo.yaml:1 already: "
        "rename or delete one"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("latency.hard", "latincy.hard"),
            "a.yaml:1: the metric 'demo.latincy' is not defined: write 'demo.latency'",
        ),
        (("unit: s", "unit: mag"), "a.yaml:2: the unit 'mag' of demo.latency.hard does not"),
        (("unit: s", "unit: furlongs"), "a.yaml:2: 'furlongs' is not a unit that astropy"),
        (
            ("latency.hard", "latency.very hard"),
            "a.yaml:1: the parts of 'demo.latency.very hard' may",
        ),
        (("60", ".nan"), "a.yaml:2: the threshold's value nan is not finite"),
        (("60", "[60]"), "a.yaml:2: the threshold's value [60] is not a number"),
        (("60", "no"), "a.yaml:2: the threshold's value False is not a number"),
        (("value: 60, ", ""), "a.yaml:2: the threshold has no value: write one"),
    ],
)
def test_what_is_wrong_in_a_specification_is_named(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    (problem,) = problems(tmp_path, SOUND.replace(*change))
    assert message in problem


@pytest.mark.parametrize(
    ("unit", "metric_unit", "words"),
    [
        ("mag", "dex", "falls where values rise in 'dex', the unit of its metric"),
        ("dB", "mag", "falls where values rise in 'mag', the unit of its metric"),
        ("nJy", "mag(AB)", "falls where values rise in 'mag(AB)', the unit of its metric"),
    ],
)
def test_a_limit_that_would_turn_round_in_the_metric_s_unit_is_a_problem(
    tmp_path: Path, unit: str, metric_unit: str, words: str
) -> None:
    metrics = f"latency: {{description: A., unit: '{metric_unit}'}}"
    text = SOUND.replace("unit: s", f"unit: {unit}")
    (problem,) = load(tmp_path, {"a.yaml": text}, metrics=metrics).problems
    assert f"a.yaml:2: the unit '{unit}' of demo.latency.hard {words}" in str(problem)
    remedies = {
        "mag(AB)": "no limit can be in 'mag(AB)': declare the metric, and write the limit, in a "
        "linear unit such as 'nJy' or 'mag'"
    }
    assert str(problem).endswith(remedies.get(metric_unit, "write the limit in that unit"))


@pytest.mark.parametrize(("unit", "linear"), [("mag(AB)", "nJy"), ("mag(ST)", "ST")])
@pytest.mark.parametrize("limit", ["own", "linear", "mag", "s"])
def test_what_is_advised_for_a_metric_in_magnitudes_works(
    tmp_path: Path, unit: str, linear: str, limit: str
) -> None:
    own = {"own": unit, "linear": linear}.get(limit, limit)
    metrics = f"latency: {{description: A., unit: '{unit}'}}"
    text = SOUND.replace("unit: s", f"unit: '{own}'")
    (problem,) = load(tmp_path / "a", {"a.yaml": text}, metrics=metrics).problems
    assert str(problem).endswith(
        f"declare the metric, and write the limit, in a linear unit such as '{linear}' or 'mag'"
    )
    for advised in (linear, "mag"):
        metrics = f"latency: {{description: A., unit: '{advised}'}}"
        text = SOUND.replace("unit: s", f"unit: '{advised}'")
        assert load(tmp_path / advised, {"a.yaml": text}, metrics=metrics).problems == ()


@pytest.mark.parametrize(("unit", "linear"), [("dex(cm / s2)", "cm / s2"), ("dB(mW)", "mW")])
@pytest.mark.parametrize("limit", ["own", "s"])
def test_what_is_advised_for_a_metric_in_another_logarithmic_unit_works(
    tmp_path: Path, unit: str, linear: str, limit: str
) -> None:
    metrics = f"latency: {{description: A., unit: '{unit}'}}"
    text = SOUND.replace("unit: s", f"unit: '{unit if limit == 'own' else limit}'")
    (problem,) = load(tmp_path / "a", {"a.yaml": text}, metrics=metrics).problems
    assert str(problem).endswith(f"write the limit in '{linear}', as a positive number")
    text = SOUND.replace("unit: s", f"unit: '{linear}'")
    assert load(tmp_path / "b", {"a.yaml": text}, metrics=metrics).problems == ()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("metadata_query:\n  band: r\n  site: null\n", ":5: 'site: null': no job can match"),
        ("metadata_query: {day: 2026-01-01}\n", ":3: 'day: 2026-01-01': a date without quotes"),
        ("metadata_query: {5: x}\n", ":3: the key 5 is not text"),
        ("metadata_query: [a]\n", ":3: metadata_query must be a mapping"),
        ("tags: null\n", ":3: tags must be text or a list"),
        ("tags: [2026]\n", ":3: the tag 2026 is not text"),
        ("alert:\n  levle: critical\n", ":4: 'alert' has no key 'levle'"),
        ("alert:\n  channel: #dm\n", ":4: None is not a channel"),
        ("alert: {per: [visit]}\n", ":3: 'visit' is not a tag of the points"),
        ("alert: {mute: {until: 2026-11-21, why: x}}\n", ":3: the mute ended on 2026-11-21"),
        ("expect: {every: 1:30}\n", ":3: 90 is not a duration"),
        ("operator_str: x\n", ":3: lsst.verify cannot load the key 'operator_str'"),
        ("5: x\n", ":1: the key 5 is not text"),
    ],
)
def test_what_is_wrong_beside_the_threshold_is_named(tmp_path: Path, text: str, place: str) -> None:
    (problem,) = problems(tmp_path, SOUND + text)
    assert place in problem


def test_a_specification_with_a_small_problem_is_still_there(tmp_path: Path) -> None:
    package = load(tmp_path, {"a.yaml": SOUND + "alert: {per: [visit]}\n"})
    assert list(package.specifications) == ["demo.latency.hard"]


def test_the_last_day_of_a_mute_is_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, SOUND + "alert: {mute: {until: 2026-11-22, why: x}}\n") == []


def test_problems_are_all_reported_in_order_of_place(tmp_path: Path) -> None:
    files = {"b.yaml": "{", "a.yaml": f"---\n---\n{SOUND}---\nname: x\nbase: '#y'\n"}
    package = load(tmp_path, files, metrics="x: {unit: q}\n")
    places = [str(problem.source) for problem in package.problems]
    assert places == [
        "pkg/metrics/demo.yaml:1",
        "pkg/metrics/demo.yaml:1",
        "pkg/specs/demo/a.yaml:2",
        "pkg/specs/demo/a.yaml:3",
        "pkg/specs/demo/a.yaml:7",
        "pkg/specs/demo/b.yaml:1",
    ]


def test_a_package_directory_has_a_legal_name(tmp_path: Path) -> None:
    package = write_package(tmp_path / "pkg", {})
    (package / "specs" / "de.mo").mkdir()
    (package / "specs" / "de.mo" / "a.yaml").write_text("# nothing\n")
    (problem,) = load_metrics_package(package).problems
    assert "'de.mo' is not a package name" in str(problem)


def test_two_packages_are_merged(tmp_path: Path) -> None:
    first = write_package(tmp_path / "one", {})
    second = write_package(
        tmp_path / "two", {"a.yaml": SOUND}, metrics="x: {description: d, unit: s}"
    )
    package = load_metrics_packages([second, first])
    assert package.problems == ()
    assert set(package.specifications) == {"demo.latency.hard"}
    assert "demo.x" in package.metrics


def test_one_name_in_two_packages_is_a_problem(tmp_path: Path) -> None:
    directories = [write_package(tmp_path / name, {"a.yaml": SOUND}) for name in ("one", "two")]
    found = [str(problem) for problem in load_metrics_packages(directories).problems]
    assert [line.split(" is ")[0] for line in found] == [
        "two/metrics/demo.yaml:1: 'demo.latency'",
        "two/metrics/demo.yaml:2: 'demo.frac'",
        "two/metrics/demo.yaml:3: 'demo.frac2'",
        "two/specs/demo/a.yaml:1: 'demo.latency.hard'",
    ]


def test_no_directories_give_an_empty_package() -> None:
    package = load_metrics_packages([])
    assert (package.metrics, package.specifications, package.problems) == ({}, {}, ())


@pytest.mark.parametrize("name", ["specs/srd", "examples/specs/camera", "examples/quicklook"])
def test_the_packages_of_the_project_have_no_problem(name: str) -> None:
    assert load_metrics_package(ROOT / name).problems == ()


def test_an_added_tag_forbids_a_metric_of_its_name(tmp_path: Path) -> None:
    package = write_package(tmp_path / "pkg", {})
    (problem,) = load_metrics_package(package, schema=Schema(extra_tags=("frac",))).problems
    assert "'demo.frac': 'frac' is the name of a tag" in str(problem)


BUILT = """\
id: limit
threshold:
  value: 5
  unit: s
---
name: latency.hard
base: '#limit'
threshold: {operator: <}
"""


@pytest.mark.parametrize(
    ("keys", "line", "own"),
    [
        (("threshold", "value"), 3, False),
        (("threshold", "operator"), 8, True),
        (("tags",), 6, False),
    ],
)
def test_the_line_of_a_key_is_the_one_with_the_last_word(
    tmp_path: Path, keys: tuple[str, ...], line: int, *, own: bool
) -> None:
    package = write_package(tmp_path / "pkg", {"a.yaml": BUILT})
    found = resolve_packages([package])["demo.latency.hard"]
    assert str(found.locate(*keys)) == f"pkg/specs/demo/a.yaml:{line}"
    assert found.says(*keys) is own


def test_resolved_specifications_are_those_of_the_packages() -> None:
    directories = [ROOT / "specs" / "srd", ROOT / "examples" / "specs" / "camera"]
    resolved = {name: item.specification for name, item in resolve_packages(directories).items()}
    assert resolved == load_metrics_packages(directories).specifications


def test_a_metric_that_is_not_defined_is_one_problem(tmp_path: Path) -> None:
    text = SOUND.replace("latency", "lateness")
    (problem,) = problems(tmp_path, f"{text}---\n{text.replace('hard', 'soft')}")
    assert "is not defined (1 other specification too)" in problem


@pytest.mark.parametrize("base", ["b#y", "demo.latency.soft"])
def test_a_base_in_a_file_that_cannot_be_read_is_no_problem_of_its_own(
    tmp_path: Path, base: str
) -> None:
    text = f"name: x\nmetric: latency\nbase: '{base}'\nthreshold: {{value: 1}}\n"
    package = load(tmp_path, {"a.yaml": text, "b.yaml": "{"})
    assert [str(problem.source) for problem in package.problems] == ["pkg/specs/demo/b.yaml:1"]


def test_a_metric_in_a_file_that_cannot_be_read_is_no_problem_of_its_own(tmp_path: Path) -> None:
    package = load(tmp_path, {"a.yaml": SOUND}, metrics="latency: {")
    assert [str(problem.source) for problem in package.problems] == ["pkg/metrics/demo.yaml:1"]


MADE = "{by: p95, blob: demo.psf, key: fwhm}"


@pytest.mark.parametrize("is_below", [False, True])
def test_how_values_are_derived_is_written_above_or_below_the_reference(
    tmp_path: Path, *, is_below: bool
) -> None:
    keys = f"missing: zero, reduce: {MADE}"
    keys = f"reference: {{{keys}}}" if is_below else keys
    package = load(tmp_path, {}, metrics=f"fwhm: {{description: A., unit: arcsec, {keys}}}")
    assert package.problems == ()
    (metric,) = package.metrics.values()
    reduction = Reduction("p95", "demo.psf", "fwhm")
    assert metric.derivation == Derivation(is_zero_missing=True, reduction=reduction)


def test_an_array_is_named_like_its_metric_unless_the_reduction_says_otherwise(
    tmp_path: Path,
) -> None:
    package = load(
        tmp_path, {}, metrics="fwhm: {description: A., unit: s, reference: {reduce: max}}"
    )
    (metric,) = package.metrics.values()
    assert metric.derivation.reduction == Reduction("max", "demo.fwhm", "fwhm")


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ("  missing: 0\n", ":4: 0 is no way to write a missing value: write zero"),
        ("  missing: zero\n  reference:\n    missing: zero\n", ":4: missing is below reference"),
        ("  reduce: {by: mode}\n", ":4: values are not reduced by 'mode': write"),
        ("  reduce: {by: medain}\n", ":4: values are not reduced by 'medain': write median"),
        ("  reduce:\n    by: max\n    keys: x\n", ":6: reduce has only by, blob, key"),
        ("  reduce: {key: x}\n", ":4: by is missing: write"),
        ("  reduce: {by: max, blob: 5}\n", ":4: 5 is not the name of a blob"),
        ("  aggregate: median\n", ":4: aggregate is not a mapping: write {of: package.metric"),
        ("  aggregate: {over: [fiber], by: max}\n", ":4: None is not a metric: write package"),
        ("  aggregate: {of: fwhm, over: [x], by: max}\n", ":4: a metric is not made of itself"),
        (
            "  aggregate: {of: other.b, by: max}\n",
            ":4: None is not a list of keys of metadata: write",
        ),
        (
            "  aggregate: {of: other.b, over: [5], by: max}\n",
            ":4: [5] is not a list of keys of meta",
        ),
        (
            "  aggregate: {of: other.b, over: ci_id, by: max}\n",
            ":4: 'ci_id' is the same in all jobs of",
        ),
        (
            "  aggregate: {of: other.b, over: x, by: max, min: 1}\n",
            ":4: aggregate has only of, over,",
        ),
        (
            "  aggregate: {of: other.b, over: x, by: max, at_least: 0}\n",
            ":4: 0 is not a number of val",
        ),
        (
            "  reduce: max\n  aggregate: {of: other.b, over: x, by: max}\n",
            ":5: a metric with reduce has",
        ),
        ("  aggregate: {of: demo.b, over: x, by: max}\n", ":4: the metric 'demo.b' is not defined"),
        ("  reference:\n    reduce: [max]\n", ":5: reduce is neither text nor a mapping"),
    ],
)
def test_a_derivation_that_is_wrong_is_a_problem_with_its_line(
    tmp_path: Path, keys: str, place: str
) -> None:
    metrics = f"fwhm:\n  description: A.\n  unit: s\n{keys}"
    (problem,) = load(tmp_path, {}, metrics=metrics).problems
    assert place in str(problem)
