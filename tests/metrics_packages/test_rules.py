"""Specifications of the kinds that lsst.verify does not know, below `rules/`."""

from pathlib import Path

import pytest

from squash_api.judging.kinds.compound import Compound
from squash_api.judging.kinds.range import Range
from squash_api.judging.kinds.trend import Trend
from squash_api.metrics_packages.doubts import find_doubts
from squash_api.metrics_packages.export import metrics_package_to_files
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from tests.support.metrics_packages import write_package

LIMITS = """\
    id: site
    metric: latency
    threshold: {unit: s, operator: "<"}
    metadata_query: {site: summit}
    ---
    name: hard
    base: "#site"
    threshold: {value: 60}
    """
KINDS = """\
    name: latency.usual
    base: "limits#site"
    range: {low: 1, high: 60, unit: s}
    tags: minimum
    ---
    name: drift
    base: "limits#site"
    type: trend
    trend: {n: 20, floor: 2, unit: s}
    ---
    name: both
    metric: latency
    compound: {all: [hard, latency.usual]}
    """


def load(tmp_path: Path, rules: str, limits: str = LIMITS) -> MetricsPackage:
    files = {"limits.yaml": limits}
    return load_metrics_package(write_package(tmp_path / "pkg", files, rules={"a.yaml": rules}))


def problems(tmp_path: Path, rules: str, limits: str = LIMITS) -> list[str]:
    return [str(problem) for problem in load(tmp_path, rules, limits).problems]


def test_rules_have_the_other_kinds_and_the_same_bases(tmp_path: Path) -> None:
    package = load(tmp_path, KINDS)
    assert package.problems == ()
    found = {name: item.criterion for name, item in package.specifications.items()}
    del found["demo.latency.hard"]
    assert found == {
        "demo.latency.usual": Range(1.0, 60.0, "s"),
        "demo.latency.drift": Trend(20, 0, 5.0, 2.0, "s", 10, "both"),
        "demo.latency.both": Compound(2, ("demo.latency.hard", "demo.latency.usual")),
    }
    assert package.specifications["demo.latency.drift"].metadata_query == {"site": "summit"}
    assert str(package.specifications["demo.latency.usual"].source) == "pkg/rules/demo/a.yaml:1"


def test_what_is_exported_is_read_again(tmp_path: Path) -> None:
    package = load(tmp_path, KINDS)
    files = metrics_package_to_files(package.metrics.values(), package.specifications.values())
    assert sorted(files) == [
        "metrics/demo.yaml",
        "rules/demo/latency.yaml",
        "specs/demo/latency.yaml",
    ]
    for name, text in files.items():
        path = tmp_path / "again" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    again = load_metrics_package(tmp_path / "again")
    assert (again.specifications, again.problems) == (package.specifications, ())
    assert find_doubts([tmp_path / "again", tmp_path / "pkg"]) == []


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("name: latency.a\ntype: rang\nrange: {low: 1, unit: s}", 2, "did you mean 'range'?"),
        ("name: latency.a\ntype: 5", 2, "5 is not a type of specification: write threshold or"),
        (
            "name: latency.a\nthreshold: {value: 1, unit: s, operator: <}",
            2,
            "a threshold is for specs/demo/, where lsst.verify reads it: move it there",
        ),
        ("name: latency.a", 1, "there is no type: write type: and its key, one of range, trend"),
        (
            "name: latency.a\nrange: {low: 1, unit: s}\ntrend: {floor: 1, unit: s}",
            3,
            "'range' and 'trend' are of different types: write type:",
        ),
        ("name: latency.a\ntype: trend\nrange: {low: 1, unit: s}", 1, "the trend is missing"),
        ("name: latency.a\nrange: {low: 3, high: 1, unit: s}", 2, "low: 3 is above high: 1"),
        ("name: latency.a\nrange: {low: 3, unit: mag}", 2, "the unit 'mag' of demo.latency.a"),
        ("name: latency.a\ntrend: {floor: 3, unit: pix}", 2, "does not convert to 's'"),
        ("name: latency.a\ntrend: {floor: -3, unit: s}", 2, "the floor is -3.0: write 0"),
        (
            "name: latency.a\ncompound: {any: [hard, latency.hadr]}",
            2,
            "there is no specification 'demo.latency.hadr': write 'demo.latency.hard'",
        ),
        ("name: latency.a\ncompound: {any: [a, hard]}", 2, "'demo.latency.a' counts itself"),
        (
            "name: latency.a\ncompound: {all: [hard, demo.latency.hard]}",
            2,
            "'demo.latency.hard' is in the list twice, by its short and its full name: delete one",
        ),
        ("name: frac.a\nbase: '#none'\nrange: {low: 1, unit: s}", 2, "is not found"),
        ("id: p\nrange: {low: 3, high: 1, unit: s}", 2, "low: 3 is above high: 1"),
    ],
)
def test_a_problem_is_named_with_its_line(
    tmp_path: Path, text: str, place: int, words: str
) -> None:
    found = problems(tmp_path, text)
    assert any(item.startswith(f"pkg/rules/demo/a.yaml:{place}: ") for item in found), found
    assert any(words in item for item in found), found


def test_compounds_do_not_count_each_other(tmp_path: Path) -> None:
    text = """\
        name: latency.a
        compound: {any: [hard, b]}
        ---
        name: latency.b
        compound: {any: [hard, a]}
        ---
        name: latency.c
        compound: {all: [hard, b]}
        """
    assert problems(tmp_path, text) == [
        (
            "pkg/rules/demo/a.yaml:2: 'demo.latency.b' and 'demo.latency.a' count each other: "
            "delete one of the names"
        ),
        (
            "pkg/rules/demo/a.yaml:5: 'demo.latency.a' and 'demo.latency.b' count each other: "
            "delete one of the names"
        ),
        (
            "pkg/rules/demo/a.yaml:8: 'demo.latency.b' is a compound itself: name the "
            "specifications that it counts"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: latency.a\nrange: {low: 1, unit: s}", 2, "with a range in specs/: move the doc"),
        ("name: latency.a\ntype: trend\nthreshold: {value: 1}", 2, "with a trend in specs/"),
        ("name: latency.a\ncompound: {any: [b, c]}", 2, "document to rules/demo/"),
        ("name: latency.a\ntype: tresh", 2, "did you mean 'threshold'?"),
    ],
)
def test_lsst_verify_would_refuse_other_kinds_elsewhere(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    (found,) = problems(tmp_path, "# none", text)
    assert found.startswith(f"pkg/specs/demo/limits.yaml:{line}: ")
    assert words in found


def test_what_lsst_verify_reads_is_not_built_on_what_it_does_not(tmp_path: Path) -> None:
    limits = "name: latency.a\nbase: 'a#p'\nthreshold: {value: 1, unit: s, operator: <}"
    assert problems(tmp_path, "id: p\ntags: [minimum]", limits) == [
        (
            "pkg/specs/demo/limits.yaml:2: the base 'demo:a#p' is in rules/, which lsst.verify "
            "does not read: move it to specs/"
        )
    ]


def test_compounds_count_what_judges_a_value_alone(tmp_path: Path) -> None:
    text = """\
        name: latency.drift
        trend: {floor: 1, unit: s}
        ---
        name: latency.b
        compound: {any: [hard, drift]}
        """
    assert problems(tmp_path, text) == [
        (
            "pkg/rules/demo/a.yaml:5: 'demo.latency.drift' is a trend, which needs earlier values: "
            "name thresholds and ranges"
        )
    ]


def test_a_file_of_no_package_is_a_problem(tmp_path: Path) -> None:
    directory = write_package(tmp_path / "pkg", {})
    (directory / "rules").mkdir()
    (directory / "rules" / "loose.yaml").write_text("name: latency.a\n")
    (problem,) = load_metrics_package(directory).problems
    assert str(problem).startswith("pkg/rules/loose.yaml:1: the file is of no package")


def test_what_has_no_effect_beside_a_threshold_is_a_warning(tmp_path: Path) -> None:
    limits = """\
        name: latency.a
        type: limit
        threshold: {value: 1, unit: s, operator: <}
        range: {low: 1, unit: s}
        """
    package = load(tmp_path, "# none", limits)
    assert package.problems == ()
    assert [str(doubt) for doubt in find_doubts([tmp_path / "pkg"])] == [
        (
            "pkg/specs/demo/limits.yaml:2: 'limit' is not a type of specification: write threshold "
            "or range or trend or compound; beside a threshold it has no effect"
        ),
        (
            "pkg/specs/demo/limits.yaml:4: the key 'range' has no effect beside a threshold: "
            "delete one"
        ),
    ]


def test_slips_in_rules_are_warnings(tmp_path: Path) -> None:
    load(tmp_path, "name: latency.a\ntags: [minimun]\nrange: {low: 1, hihg: 3, unit: s}")
    assert [str(doubt) for doubt in find_doubts([tmp_path / "pkg"])] == [
        "pkg/rules/demo/a.yaml:2: the tag 'minimun' is not a level: did you mean 'minimum'?",
        "pkg/rules/demo/a.yaml:3: the key 'hihg' has no effect in range: did you mean 'high'?",
    ]
