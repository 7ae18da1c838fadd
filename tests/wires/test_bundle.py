import json
from typing import Any

import pytest

from squash_api.schema.times import parse_time_ns
from squash_api.wires.bundle import bundle_parts, is_bundle, package_of_dataset_type, run_date

BUNDLE: dict[str, Any] = {
    "stellarAstrometricRepeatability1": [
        {
            "metric": "g_AM1",
            "identifier": "22b166d3ef064761a1cbd60857fbcbac",
            "value": 7.25,
            "unit": "marcsec",
            "blob_refs": [],
        },
        {
            "metric": "r_AM1",
            "identifier": "68dfabdc18f245d49df90f0d3ec65fb4",
            "value": None,
            "unit": "marcsec",
            "blob_refs": [],
        },
    ],
    "numSources": [
        {
            "metric": "count",
            "identifier": "b7e051e55b214ee3bad1da4a251f4581",
            "value": 12.0,
            "unit": "ct",
            "blob_refs": [],
        }
    ],
    "__reference_package": "lsst_distrib",
    "__timestamp_version": "run_timestamp",
    "__dataset_identifier": "HSC/RC2",
    "__metricNamePrefix": "",
}
RUN = "HSC/runs/RC2/w_2026_20/20260515T031245Z"


def names(document: dict[str, Any], **data_id: str) -> list[str]:
    return [item["metric"] for item in bundle_parts(document, data_id)["measurements"]]


def test_an_action_is_the_package_of_its_metrics() -> None:
    assert names(BUNDLE) == [
        "stellarAstrometricRepeatability1.g_AM1",
        "stellarAstrometricRepeatability1.r_AM1",
        "numSources.count",
    ]


def test_the_prefix_of_a_bundle_is_before_the_action() -> None:
    document = {**BUNDLE, "__metricNamePrefix": "objectTableCore_"}
    assert names(document)[-1] == "objectTableCore_numSources.count"


def test_the_dataset_type_of_a_single_value_names_the_package() -> None:
    document = {"AM1": [{"metric": "AM1", "value": 1.0, "unit": "mag"}]}
    assert names(document, dataset_type="metricvalue_validate_drp_AM1") == ["validate_drp.AM1"]


def test_a_full_name_stays() -> None:
    document = {"AM1": [{"metric": "validate_drp.AM1", "value": 1.0, "unit": "mag"}]}
    assert names(document) == ["validate_drp.AM1"]


def test_unit_null_and_identifier_are_kept() -> None:
    assert bundle_parts(BUNDLE, {})["measurements"][1] == {
        **BUNDLE["stellarAstrometricRepeatability1"][1],
        "metric": "stellarAstrometricRepeatability1.r_AM1",
    }


def test_run_data_id_and_dataset_become_metadata() -> None:
    data_id = {"run": RUN, "instrument": "HSC", "visit": "1228"}
    assert bundle_parts(BUNDLE, data_id)["meta"] == {
        "run_id": RUN,
        "instrument": "HSC",
        "visit": 1228,
        "dataset": "HSC/RC2",
        "reference_package": "lsst_distrib",
        "env": {"date": "2026-05-15T03:12:45+00:00"},
    }


def test_a_dataset_that_is_named_counts_before_that_of_the_bundle() -> None:
    assert bundle_parts(BUNDLE, {"dataset_tag": "mine"})["meta"]["dataset"] == "mine"


@pytest.mark.parametrize(
    ("run", "date"),
    [
        (RUN, "2026-05-15T03:12:45+00:00"),
        ("20260515T031245Z", "2026-05-15T03:12:45+00:00"),
        ("u/me/run7", None),
        ("a/20261315T031245Z", None),
        ("20260515T031245Z/more", None),
    ],
)
def test_the_last_part_of_a_run_may_be_its_time(run: str, date: str | None) -> None:
    assert run_date(run) == date


def test_an_explicit_time_counts_before_that_of_the_run() -> None:
    document = {**BUNDLE, "__timestamp_version": "explicit_timestamp:20260101T020000+0200"}
    assert bundle_parts(document, {"run": RUN})["meta"]["env"]["date"].startswith("2026-01-01T00")


def test_an_explicit_time_that_is_none_is_named() -> None:
    document = {**BUNDLE, "__timestamp_version": "explicit_timestamp:yesterday"}
    with pytest.raises(ValueError, match=r"__timestamp_version: .* is not explicit_timestamp"):
        bundle_parts(document, {})


@pytest.mark.parametrize(
    ("part", "place"),
    [(1, "a is not a list"), ([{"metric": "m"}, {"name": "m"}], r"a\[1\] is not")],
)
def test_what_is_wrong_in_a_bundle_is_named_with_its_place(part: Any, place: str) -> None:
    with pytest.raises(TypeError, match=f"not a bundle: {place}"):
        bundle_parts({"a": part, "__metricNamePrefix": ""}, {})


@pytest.mark.parametrize(
    ("document", "is_one"),
    [
        (BUNDLE, True),
        ({"__metricNamePrefix": ""}, True),
        ({"a": [{"metric": "m"}]}, True),
        ({"a": [], "__metricNamePrefix": ""}, True),
        ({"measurements": [{"metric": "m"}], "__metricNamePrefix": ""}, True),
        ({"a": []}, False),
        ({}, False),
        ({"a": [{"name": "m"}]}, False),
        ({"a": 1, "__metricNamePrefix": ""}, True),
        ({"a": [], "b": [{"metric": "m"}]}, True),
        ({"__init__": 1}, False),
        ([], False),
        (None, False),
    ],
)
def test_a_bundle_is_told_by_its_content(document: Any, *, is_one: bool) -> None:
    assert is_bundle(document) is is_one


@pytest.mark.parametrize(
    ("dataset_type", "metric", "package"),
    [
        ("metricvalue_validate_drp_AM1", "AM1", "validate_drp"),
        ("metricvalue_ap_verify_x_y", "x_y", "ap_verify"),
        ("metricvalue_AM1", "AM1", None),
        ("object_metrics", "AM1", None),
        ("metricvalue_validate_drp_AM2", "AM1", None),
        ("", "AM1", None),
    ],
)
def test_the_package_in_a_dataset_type(dataset_type: str, metric: str, package: str | None) -> None:
    assert package_of_dataset_type(dataset_type, metric) == package


@pytest.mark.parametrize(
    "data_id",
    [
        {"run": RUN, "instrument": "HSC", "visit": "1228", "detector": "7", "band": "r"},
        {"run": RUN, "tract": "9813", "patch": "12", "skymap": "rings", "day_obs": "20260515"},
        {"run": RUN, "group": "2026-05-15T03", "exposure": "0012", "physical_filter": "HSC-R"},
        {"run": RUN, "ci_id": "904", "ci_name": "ap_verify", "pipeline": "ApVerify.yaml"},
        {"run": RUN, "dataset_type": "metricvalue_validate_drp_count"},
        {"run": RUN, "dataset_type": "object_metrics", "dataset_tag": "mine"},
    ],
)
def test_a_bundle_is_the_same_from_its_file_and_over_the_wire(data_id: dict[str, str]) -> None:
    wire = pytest.importorskip("squash_api.wires.sasquatch")
    bundle = {key: part for key, part in BUNDLE.items() if key != "__reference_package"}
    bundle["__metricNamePrefix"] = "pre_"
    parts = bundle_parts(bundle, {**data_id, "namespace": "lsst.dm"})
    meta = {"dataset_tag": "HSC/RC2", **data_id, "timestamp": 1778814765.0}
    names = []
    for action in ("stellarAstrometricRepeatability1", "numSources"):
        values = {item["metric"]: 0.0 for item in BUNDLE[action]}
        fields = [{"name": key} for key in (*meta, "tags", *values)]
        record = {
            "value_schema": json.dumps({"namespace": "lsst.dm", "fields": fields}),
            "records": [{"value": {**meta, "tags": [], **values}}],
        }
        read = wire.read_record(json.dumps(record).encode(), f"lsst.dm.pre_{action}")
        names += [item["metric"] for item in read.measurements]
        sent = dict(read.meta)
        assert document_time_ns(sent.pop("env")) == document_time_ns(parts["meta"]["env"])
        assert sent == {key: part for key, part in parts["meta"].items() if key != "env"}
    assert names == [item["metric"] for item in parts["measurements"]]


def document_time_ns(env: dict[str, Any]) -> tuple[str, int | None]:
    return env["env_name"], parse_time_ns(env["date"])
