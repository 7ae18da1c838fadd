from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.ingest.assessment import Assessment, Skip, assess
from squash_api.ingest.document import Job, measured_of
from squash_api.schema.names import Schema
from squash_api.verify.derivation import Derivation
from squash_api.verify.metrics import KnownMetric
from tests.support.json_documents import keys, scalars

SCHEMA = Schema()
MMAG = {"p.a": KnownMetric("mmag", is_declared=True)}


def measured(value: Any = 1.0, unit: str | None = "mmag", metric: str = "p.a") -> dict[str, Any]:
    return {"metric": metric, "value": value, "unit": unit}


def outcome(
    *measurements: dict[str, Any], metrics: dict[str, KnownMetric] | None = None
) -> Assessment:
    known = MMAG if metrics is None else metrics
    return assess(Job([measured_of(item) for item in measurements]), metrics=known, schema=SCHEMA)


def test_a_value_in_the_metrics_unit_is_kept_to_the_last_bit() -> None:
    assert outcome(measured(0.1 + 0.2)) == Assessment(values={"p.a": 0.1 + 0.2})


def test_an_integer_is_kept_as_a_float() -> None:
    assert type(outcome(measured(3)).values["p.a"]) is float


def test_a_value_in_another_unit_is_converted() -> None:
    assert outcome(measured(0.25, "mag")).values == {"p.a": 250.0}


@pytest.mark.parametrize(
    ("value", "unit", "kept"), [(0.102, "", 10.2), (10.2, "%", 10.2), (0.102, None, 0.102)]
)
def test_percent_and_dimensionless_convert_and_no_unit_is_the_metrics(
    value: float, unit: str | None, kept: float
) -> None:
    metrics = {"p.a": KnownMetric("%", is_declared=True)}
    assert outcome(measured(value, unit), metrics=metrics).values == {"p.a": kept}


def test_dimensionless_does_not_convert_to_a_unit() -> None:
    (skip,) = outcome(measured(1.0, "")).skipped
    assert skip == Skip("p.a", "unit dimensionless does not convert to the metric's unit, 'mmag'")


@pytest.mark.parametrize("unit", ["s", "bananas", "m\n", "\ufffd", "x" * 1000, "m**99999999"])
def test_a_value_in_an_impossible_unit_is_skipped_with_the_reason(unit: str) -> None:
    found = outcome(measured(1.0, unit))
    assert found.values == {}
    assert [skip.metric for skip in found.skipped] == ["p.a"]
    assert found.skipped[0].reason


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf"), 10**400])
@pytest.mark.parametrize("unit", ["mmag", None, "s", "bananas"])
def test_a_value_that_is_no_finite_number_is_absent_whatever_its_unit(
    value: Any, unit: str | None
) -> None:
    assert outcome(measured(value, unit)) == Assessment(absent=["p.a"])


@pytest.mark.parametrize("metric", ["p.a", "p.new"])
def test_a_measurement_without_value_and_unit_is_absent(metric: str) -> None:
    assert outcome({"metric": metric}).absent == [metric]


@pytest.mark.parametrize("value", [0.0, -0.0, 0])
@pytest.mark.parametrize("unit", ["mmag", "mag", "s", None])
def test_zero_is_absent_where_that_means_missing(value: float, unit: str | None) -> None:
    metric = KnownMetric("mmag", is_declared=True, derivation=Derivation(is_zero_missing=True))
    assert outcome(measured(value, unit), metrics={"p.a": metric}) == Assessment(absent=["p.a"])
    small = outcome(measured(5e-324), metrics={"p.a": metric})
    assert small.values == {"p.a": 5e-324}


@pytest.mark.parametrize("value", ["1.0", "text", "", True, False])
def test_text_and_booleans_are_skipped(value: Any) -> None:
    found = outcome(measured(value))
    assert ([skip.metric for skip in found.skipped], found.values) == (["p.a"], {})


@pytest.mark.parametrize(
    ("value", "unit", "metric_unit"),
    [(1e308, "m", "nm"), (0.0, "nJy", "mag(AB)"), (-3.0, "nJy", "mag(AB)"), (0.0, "", "dex(1)")],
)
def test_a_value_that_is_no_number_in_the_metrics_unit_is_skipped_with_the_reason(
    value: float, unit: str, metric_unit: str
) -> None:
    metrics = {"p.a": KnownMetric(metric_unit, is_declared=True)}
    found = outcome(measured(value, unit), metrics=metrics)
    shown = f"{value:.6g} {unit}".rstrip()
    reason = f"{shown} is no number in the metric's unit, '{metric_unit}'"
    assert (found.absent, found.skipped) == ([], [Skip("p.a", reason)])


def test_zero_stays_zero() -> None:
    assert outcome(measured(0.0)).values == {"p.a": 0.0}


def test_an_earlier_measurement_of_the_same_metric_is_replaced() -> None:
    found = outcome(measured(1.0), measured(2.0), measured(3.0))
    reason = "replaced by a later measurement of the same metric"
    assert found.values == {"p.a": 3.0}
    assert found.skipped == [Skip("p.a", reason), Skip("p.a", reason)]


def test_a_later_null_replaces_a_value() -> None:
    found = outcome(measured(1.0), measured(None))
    assert (found.values, found.absent) == ({}, ["p.a"])


def test_metrics_come_in_the_order_of_the_document() -> None:
    names = ["p.c", "p.a", "p.b"]
    assert list(outcome(*(measured(metric=name) for name in names)).values) == names


# Metrics that nobody has declared


def test_an_undeclared_metric_is_kept_named_and_brings_its_unit() -> None:
    assert outcome(measured(1.0), metrics={}) == Assessment(
        values={"p.a": 1.0}, undeclared=["p.a"], new_units={"p.a": "mmag"}
    )


def test_a_new_unit_is_in_its_canonical_spelling() -> None:
    assert outcome(measured(1.0, "milliarcsecond"), metrics={}).new_units == {"p.a": "marcsec"}


def test_a_first_value_without_unit_leaves_the_unit_open() -> None:
    assert outcome(measured(1.0, None), metrics={}).new_units == {"p.a": None}


def test_a_first_value_that_is_absent_leaves_the_unit_open() -> None:
    assert outcome(measured(None), metrics={}).new_units == {"p.a": None}


def test_a_first_value_in_no_unit_at_all_is_skipped_and_leaves_the_unit_open() -> None:
    found = outcome(measured(1.0, "bananas"), metrics={})
    assert ([skip.metric for skip in found.skipped], found.new_units) == (["p.a"], {"p.a": None})


def test_a_metric_whose_unit_is_open_takes_that_of_the_value() -> None:
    metrics = {"p.a": KnownMetric(None, is_declared=False)}
    found = outcome(measured(2.0, "mag"), metrics=metrics)
    assert (found.values, found.new_units) == ({"p.a": 2.0}, {"p.a": "mag"})


def test_a_metric_whose_unit_is_open_stays_so_without_one() -> None:
    metrics = {"p.a": KnownMetric(None, is_declared=False)}
    found = outcome(measured(2.0, None), metrics=metrics)
    assert (found.values, found.new_units) == ({"p.a": 2.0}, {})


def test_a_metric_that_has_been_measured_before_brings_nothing_new() -> None:
    metrics = {"p.a": KnownMetric("mmag", is_declared=False)}
    assert outcome(measured(1.0, "mag"), metrics=metrics) == Assessment(
        values={"p.a": 1000.0}, undeclared=["p.a"]
    )


@pytest.mark.parametrize("name", ["no_package", "p.time", "p.run_id", "squash.x", "p.instrument"])
def test_a_metric_that_cannot_be_a_field_is_skipped_and_never_met(name: str) -> None:
    found = outcome(measured(metric=name))
    assert [skip.metric for skip in found.skipped] == [name]
    assert (found.values, found.undeclared, found.new_units) == ({}, [], {})


@given(
    st.lists(
        st.fixed_dictionaries(
            {"metric": keys.map("p.{}".format)},
            optional={"value": scalars, "unit": st.sampled_from(["m", "km", "s", "x", "", None])},
        ),
        max_size=4,
    )
)
def test_every_measurement_is_kept_absent_or_skipped(measurements: list[dict[str, Any]]) -> None:
    found = outcome(*measurements)
    replaced = len(measurements) - len({item["metric"] for item in measurements})
    total = len(found.values) + len(found.absent) + len(found.skipped)
    assert total - replaced == len({item["metric"] for item in measurements})
    assert all(isfinite(value) for value in found.values.values())
