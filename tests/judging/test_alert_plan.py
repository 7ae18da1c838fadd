from pathlib import Path

import pytest

from squash_api.judging.alert_plan import WatchedMetric, expectations, watched_metrics
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import SERIES_TAGS, Schema
from tests.support.metrics_packages import SPECS, write_metrics_package

SCHEMA = Schema()


def watched(tmp_path: Path, specs: str = SPECS) -> list[WatchedMetric]:
    package = load_metrics_package(write_metrics_package(tmp_path, specs=specs))
    assert package.problems == ()
    return watched_metrics(package.specifications.values(), package.metrics, SCHEMA)


def one_spec(extra: str, *, name: str = "AM1.design") -> str:
    threshold = "{value: 10, unit: arcsec, operator: '<='}"
    return f"---\nname: {name}\nthreshold: {threshold}\n{extra}\n"


def test_metrics_are_sorted_by_name(tmp_path: Path) -> None:
    assert [item.metric.name for item in watched(tmp_path)] == ["validate.AM1", "validate.PA1"]


def test_limits_of_one_query_share_a_branch_the_worst_first(tmp_path: Path) -> None:
    (branch,) = watched(tmp_path)[0].branches
    assert [(limit.label, limit.level) for limit in branch.limits] == [
        ("minimum", "CRITICAL"),
        ("design", "WARNING"),
        ("stretch", "INFO"),
    ]


def test_a_threshold_is_in_the_metrics_unit(tmp_path: Path) -> None:
    (metric,) = watched(tmp_path, one_spec(""))
    assert metric.branches[0].limits[0].criterion.numbers == pytest.approx((10_000.0,))


def test_terms_have_the_names_of_influxdb(tmp_path: Path) -> None:
    (branch,) = watched(tmp_path)[1].branches
    assert [(term.name, term.value, term.is_tag) for term in branch.terms] == [
        ("filter", "r", True)
    ]


def test_terms_are_in_one_order_however_they_are_written(tmp_path: Path) -> None:
    specs = one_spec("metadata_query: {tract: 1, band: r}") + one_spec(
        "metadata_query: {band: r, tract: 1}", name="AM1.minimum"
    )
    assert len(watched(tmp_path, specs)[0].branches) == 1


def test_another_channel_is_another_branch(tmp_path: Path) -> None:
    specs = one_spec("alert: {channel: '#a'}") + one_spec("", name="AM1.minimum")
    branches = watched(tmp_path, specs)[0].branches
    assert [branch.channel for branch in branches] == [None, "#a"]


@pytest.mark.parametrize(
    "alert",
    [
        "group: none",
        "group: job",
        "group: [filter]",
        "trial: true",
        "min_runs: 2",
        "after: {runs: 1, of: 1}",
        "{after: {runs: 1, of: 2}, trial: true}",
    ],
)
def test_what_is_told_in_another_way_is_another_branch_with_another_key(
    tmp_path: Path, alert: str
) -> None:
    alert = alert if alert.startswith("{") else f"{{{alert}}}"
    specs = one_spec(f"alert: {alert}") + one_spec("", name="AM1.minimum")
    branches = watched(tmp_path, specs)[0].branches
    assert len({branch.key for branch in branches}) == 2


def test_limits_that_need_different_numbers_of_runs_share_a_branch(tmp_path: Path) -> None:
    specs = one_spec("alert: {min_runs: 9}") + one_spec(
        "alert: {after: {runs: 1, of: 2}}", name="AM1.minimum"
    )
    (branch,) = watched(tmp_path, specs)[0].branches
    assert branch.is_served


def test_the_key_of_a_branch_is_that_of_1_2_1_unless_it_has_what_that_did_not_know(
    tmp_path: Path,
) -> None:
    specs = one_spec("alert: {trial: false}") + one_spec(
        "alert: {group: [detector, ccdnum, tract, patch]}", name="AM1.minimum"
    )
    (branch,) = watched(tmp_path, specs)[0].branches
    assert (branch.key, branch.is_tick) == ("0419fbe68a53", True)


def test_another_age_is_another_branch(tmp_path: Path) -> None:
    specs = one_spec("alert: {max_age: 1d}") + one_spec("", name="AM1.minimum")
    assert [branch.max_age_s for branch in watched(tmp_path, specs)[0].branches] == [86400, 604800]


def test_alerts_are_told_apart_by_the_default_tags_unless_it_says_otherwise(tmp_path: Path) -> None:
    specs = one_spec("alert: {per: [dataset]}") + one_spec("", name="AM1.minimum")
    assert {branch.per for branch in watched(tmp_path, specs)[0].branches} == {
        ("dataset",),
        SERIES_TAGS,
    }


def test_the_files_are_those_of_the_specifications(tmp_path: Path) -> None:
    assert watched(tmp_path)[0].files == ("demo/specs/validate/limits.yaml",)


def test_only_specifications_that_expect_something_are_expectations(tmp_path: Path) -> None:
    specs = one_spec("expect: {every: 24h, grace: 6h}") + one_spec("", name="AM1.minimum")
    package = load_metrics_package(write_metrics_package(tmp_path, specs=specs))
    (found,) = expectations(package.specifications.values(), SCHEMA)
    assert (found.specification, found.expect.every_s) == ("validate.AM1.design", 86400)
