from pathlib import Path

import pytest

from squash_api.judging.alerts import Alert
from squash_api.judging.kinds.threshold import Threshold
from squash_api.judging.specifications import Specification
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from squash_api.metrics_packages.resolution import merge
from tests.support.metrics_packages import write_package

LAT = """\
    id: lat
    metric: latency
    threshold: {operator: '<', unit: s}
    tags: [timing]
    ---
    name: hard
    base: '#lat'
    threshold: {value: 60}
    tags: [gate]
    """
SITE = {
    "site/base.yaml": """\
        id: site
        metadata_query: {site: summit, chips: [1, 2]}
        ---
        id: site-r
        base: '#site'
        metadata_query: {band: r}
        """,
    "site/limits.yaml": """\
        name: summit_r
        base: [latency.hard, 'site/base#site-r']
        threshold: {value: 0.5, unit: min}
        metadata_query: {chips: [3]}
        """,
}
TWO_METRICS = """\
    id: one
    metric: frac
    tags: [a, b]
    threshold: {operator: '<=', unit: '%'}
    metadata_query: {site: summit}
    ---
    id: two
    metric: frac2
    tags: c
    metadata_query: {site: base, mode: x}
    ---
    name: s
    base: ['#one', '#two']
    threshold: {value: 1e-1}
    ---
    name: t
    base: ['#two', '#one']
    threshold: {value: 5, unit: ''}
    tags: [d]
    """
FULL = "threshold: {value: 1, unit: s, operator: '<'}"


def load(tmp_path: Path, files: dict[str, str]) -> MetricsPackage:
    return load_metrics_package(write_package(tmp_path / "pkg", files))


def resolve(tmp_path: Path, files: dict[str, str], name: str) -> Specification:
    package = load(tmp_path, files)
    assert package.problems == ()
    return package.specifications[f"demo.{name}"]


def test_a_specification_takes_what_its_partial_says(tmp_path: Path) -> None:
    assert resolve(tmp_path, {"lat.yaml": LAT}, "latency.hard") == Specification(
        "demo.latency.hard", "demo.latency", Threshold(60.0, "s", "<"), ("gate", "timing")
    )


def test_bases_of_both_kinds_merge_in_order(tmp_path: Path) -> None:
    assert resolve(tmp_path, {"lat.yaml": LAT, **SITE}, "latency.summit_r") == Specification(
        "demo.latency.summit_r",
        "demo.latency",
        Threshold(0.5, "min", "<"),
        ("gate", "timing"),
        {"site": "summit", "chips": [1, 2, 3], "band": "r"},
    )


def test_a_specification_names_its_bases_the_nearest_last(tmp_path: Path) -> None:
    assert resolve(tmp_path, {"lat.yaml": LAT, **SITE}, "latency.summit_r").bases == (
        "demo:lat#lat",
        "demo.latency.hard",
        "demo:site/base#site",
        "demo:site/base#site-r",
    )


def test_a_later_scalar_replaces_a_list_and_the_last_metric_counts(tmp_path: Path) -> None:
    query = {"site": "base", "mode": "x"}
    assert resolve(tmp_path, {"c.yaml": TWO_METRICS}, "frac2.s") == Specification(
        "demo.frac2.s", "demo.frac2", Threshold(0.1, "%", "<="), ("c",), query
    )


def test_a_later_list_replaces_a_scalar_and_grows_from_there(tmp_path: Path) -> None:
    query = {"site": "summit", "mode": "x"}
    assert resolve(tmp_path, {"c.yaml": TWO_METRICS}, "frac.t") == Specification(
        "demo.frac.t", "demo.frac", Threshold(5.0, "", "<="), ("a", "b", "d"), query
    )


def test_a_list_reached_twice_is_repeated(tmp_path: Path) -> None:
    text = f"""\
        id: p
        metadata_query: {{visits: [1, 2]}}
        ---
        id: q
        base: '#p'
        ---
        name: latency.x
        base: ['#p', '#q']
        {FULL}
        """
    assert resolve(tmp_path, {"a.yaml": text}, "latency.x").metadata_query == {
        "visits": [1, 2, 1, 2]
    }


def test_a_base_specification_hands_its_unit_on_in_canonical_spelling(tmp_path: Path) -> None:
    text = """\
        name: latency.x
        threshold: {value: '1e-6', unit: second, operator: <}
        ---
        name: y
        base: latency.x
        threshold: {operator: '>'}
        """
    assert resolve(tmp_path, {"a.yaml": text}, "latency.y") == Specification(
        "demo.latency.y", "demo.latency", Threshold(1e-6, "s", ">")
    )


def test_the_metric_s_name_in_a_dotted_name_outranks_a_base(tmp_path: Path) -> None:
    text = f"id: p\nmetric: frac\n---\nname: demo.latency.x\nbase: '#p'\n{FULL}\n"
    assert resolve(tmp_path, {"a.yaml": text}, "latency.x").metric == "demo.latency"


def test_a_metric_may_be_written_with_its_package(tmp_path: Path) -> None:
    text = f"name: x\nmetric: demo.latency\n{FULL}\n"
    assert resolve(tmp_path, {"a.yaml": text}, "latency.x").metric == "demo.latency"


def test_a_document_with_an_id_is_a_partial_even_with_a_name(tmp_path: Path) -> None:
    text = f"id: p\nname: latency.x\n{FULL}\n"
    assert load(tmp_path, {"a.yaml": text}).specifications == {}


def test_an_id_may_name_another_path(tmp_path: Path) -> None:
    text = f"id: 'limits/all#p'\n{FULL}\n---\nname: latency.x\nbase: 'limits/all#p'\n"
    assert resolve(tmp_path, {"a.yaml": text}, "latency.x").bases == ("demo:limits/all#p",)


@pytest.mark.parametrize("names", [("aaa", "demo"), ("demo", "zzz")])
def test_a_partial_of_another_package_serves_in_whatever_order(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    other = next(name for name in names if name != "demo")
    text = f"name: latency.x\nbase: '{other}:file#p'\n"
    package = write_package(tmp_path / "pkg", {"a.yaml": text})
    (package / "specs" / other).mkdir()
    (package / "specs" / other / "file.yaml").write_text(f"id: p\n{FULL}\n")
    found = load_metrics_package(package)
    assert (list(found.specifications), found.problems) == (["demo.latency.x"], ())


def test_alert_and_expect_are_inherited_from_specifications_too(tmp_path: Path) -> None:
    text = f"""\
        name: latency.x
        {FULL}
        alert: {{level: critical, channel: '#a', per: [filter]}}
        ---
        name: latency.y
        base: latency.x
        alert: {{level: null, per: [band]}}
        """
    assert resolve(tmp_path, {"a.yaml": text}, "latency.y").alert == Alert(
        None, "#a", ("filter", "band")
    )


def test_a_long_chain_of_bases_resolves(tmp_path: Path) -> None:
    steps = "".join(f"---\nid: p{n}\nbase: '#p{n + 1}'\n" for n in range(1500))
    text = f"name: latency.x\nbase: '#p0'\n{steps}---\nid: p1500\n{FULL}\n"
    assert len(resolve(tmp_path, {"a.yaml": text}, "latency.x").bases) == 1501


def test_merging_changes_neither_document() -> None:
    base, newer = {"a": [1], "b": {"c": 1}}, {"a": [2], "b": {"d": 2}}
    assert merge(base, newer) == {"a": [1, 2], "b": {"c": 1, "d": 2}}
    assert (base, newer) == ({"a": [1], "b": {"c": 1}}, {"a": [2], "b": {"d": 2}})
