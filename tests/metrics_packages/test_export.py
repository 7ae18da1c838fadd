from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash_api.judging.kinds.threshold import Threshold
from squash_api.judging.specifications import Specification, specification_from_json
from squash_api.metrics_packages.export import metrics_package_to_files
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from squash_api.verify.derivation import NOT_DERIVED, Aggregation, Derivation, Reduction
from squash_api.verify.metrics import Metric
from tests.support.metrics_packages import ROOT

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TRICKY = st.sampled_from(["yes", "1e-6", "010", "null", "<<", "=", "#x", "a: b", "- c", " d ", "~"])


def reload(directory: Path, files: dict[str, str]) -> MetricsPackage:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return load_metrics_package(directory)


def test_the_srd_survives_its_export(tmp_path: Path) -> None:
    package = load_metrics_package(ROOT / "specs" / "srd")
    files = metrics_package_to_files(package.metrics.values(), package.specifications.values())
    found = reload(tmp_path, files)
    assert found.metrics == package.metrics
    assert found.specifications == package.specifications
    assert found.problems == ()


def test_alerts_survive_their_export(tmp_path: Path) -> None:
    specification = specification_from_json(
        {
            "name": "demo.latency.hard",
            "threshold": {"value": 1e-6, "unit": "s", "operator": "<"},
            "alert": {"channel": "#a", "per": [], "mute": {"until": "2999-01-01", "why": "x"}},
            "expect": {"every": "36h"},
        }
    )
    found = reload(tmp_path, metrics_package_to_files([], [specification]))
    assert found.specifications == {"demo.latency.hard": specification}


@given(
    description=TEXT,
    display_name=TEXT.filter(bool) | TRICKY,
    tags=st.lists(TEXT | TRICKY, max_size=3),
    doc=TEXT | TRICKY | st.none() | st.lists(TRICKY),
    page=st.none() | st.integers(-5, 10**9) | TRICKY,
    query=st.dictionaries(TRICKY, TRICKY | st.integers(-9, 9) | st.booleans() | st.lists(TRICKY)),
    threshold=st.floats(allow_nan=False, allow_infinity=False),
    derivation=st.builds(
        Derivation,
        st.booleans(),
        st.none() | st.builds(Reduction, st.sampled_from(["p95", "max"]), TRICKY, TRICKY),
        st.none(),
    )
    | st.builds(
        Derivation,
        st.booleans(),
        st.none(),
        st.builds(
            Aggregation,
            st.just("demo.4"),
            st.lists(TRICKY, min_size=1, unique=True).map(tuple),
            st.just("sum"),
            st.integers(1, 9),
        ),
    ),
)
@settings(max_examples=60)
def test_any_definition_survives_its_export(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    description: str,
    display_name: str,
    tags: list[str],
    doc: object,
    page: object,
    query: dict[str, object],
    threshold: float,
    derivation: Derivation,
) -> None:
    metric = Metric(
        name="demo.5",
        package="demo",
        description=description.rstrip("\n"),
        unit="mag(AB)",
        tags=tuple(sorted(set(tags))),
        reference={"doc": doc, "page": page, "url": None},
        display_name=display_name,
        derivation=derivation,
    )
    specification = Specification(
        "demo.5.010", "demo.5", Threshold(threshold, "nJy", "!="), metric.tags, query
    )
    other = replace(metric, name="demo.4", derivation=NOT_DERIVED)
    files = metrics_package_to_files([metric, other], [specification])
    found = reload(tmp_path_factory.mktemp("export"), files)
    assert found.metrics == {"demo.4": other, "demo.5": metric}
    assert found.specifications == {"demo.5.010": specification}


def test_nothing_to_export_is_still_a_package(tmp_path: Path) -> None:
    found = reload(tmp_path, metrics_package_to_files([], []))
    assert (found.metrics, found.specifications, found.problems) == ({}, {}, ())


def test_every_metric_s_limits_have_a_file() -> None:
    package = load_metrics_package(ROOT / "examples" / "specs" / "camera")
    files = metrics_package_to_files(package.metrics.values(), package.specifications.values())
    assert sorted(files) == ["metrics/camera.yaml", "specs/camera/AvgCameraBodySurfaceTemp.yaml"]
