from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.record.metrics import note_metrics
from squash_api.reports.backtest import set_in_force, set_of_package
from squash_api.schema.names import Schema
from tests.support.definitions import ADA, metric, spec
from tests.support.metrics_packages import SPECS
from tests.support.past_jobs import Past

SCHEMA = Schema()


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    with Past(tmp_path, start_ns=10**18) as past:
        yield past


def test_what_is_in_force_is_what_yaml_says(past: Past) -> None:
    past.put_in_force(SPECS)
    past.definitions.post("metric", [metric("p.a")], ADA)
    past.definitions.post("spec", [spec("p.a.design")], ADA)
    found = set_in_force(past.reader, past.definitions.in_force)
    assert [name.rpartition(".")[2] for name in found.specifications] == [
        "design",
        "minimum",
        "stretch",
        "design_r",
    ]


def test_a_record_without_yaml_has_nothing_in_force(past: Past) -> None:
    past.definitions.post("metric", [metric("p.a")], ADA)
    past.definitions.post("spec", [spec("p.a.design")], ADA)
    found = set_in_force(past.reader, past.definitions.in_force)
    assert (found.specifications, found.watched) == ({}, ())


def test_a_package_is_the_set_it_would_be_in_force(past: Past) -> None:
    past.put_in_force(SPECS)
    package = load_metrics_package(past.folder / "in_force")
    found = set_of_package(past.reader, package)
    in_force = set_in_force(past.reader, past.definitions.in_force)
    assert found.specifications == in_force.specifications
    assert [item.branches for item in found.watched] == [item.branches for item in in_force.watched]
    assert found.known == in_force.known


def test_limits_are_in_the_units_of_the_package(past: Past) -> None:
    past.put_in_force(SPECS)
    metrics = "AM1: {description: d, unit: arcsec}\nPA1: {description: d, unit: mag}\n"
    package = load_metrics_package(past.write("new", SPECS, metrics=metrics))
    found = set_of_package(past.reader, package)
    assert found.unit("validate.AM1") == "arcsec"
    assert found.limits["validate.AM1.minimum"].criterion.numbers == pytest.approx((0.02,))


def test_metrics_that_the_package_does_not_have_keep_the_records_unit(past: Past) -> None:
    past.record.write(lambda connection: note_metrics(connection, {"other.m": "K"}))
    package = load_metrics_package(past.write("new", SPECS))
    found = set_of_package(past.reader, package)
    assert found.unit("other.m") == "K"
    assert found.unit("nowhere.m") == ""


@pytest.mark.parametrize(
    ("wanted", "count"), [((), 4), (["validate.AM1"], 3), (["validate"], 4), (["other"], 0)]
)
def test_a_set_of_some_metrics_or_packages(past: Past, wanted: list[str], count: int) -> None:
    past.put_in_force(SPECS)
    found = set_in_force(past.reader, past.definitions.in_force, metrics=wanted)
    assert len(found.specifications) == len(found.limits) == count
