import json
from typing import Any

import pytest

from squash_api.ingest.assessment import Assessment, assess
from squash_api.ingest.document import Job, decode_job, reread_job
from squash_api.ingest.reducing import Reduced, with_reduced
from squash_api.schema.names import Schema
from squash_api.verify.derivation import Derivation, Reduction
from squash_api.verify.metrics import KnownMetric, reductions_of


def known(unit: str = "mmag", by: str = "median", **changes: Any) -> dict[str, KnownMetric]:
    derivation = Derivation(reduction=Reduction(by, "p.a", "mag"), **changes)
    return {"p.m": KnownMetric(unit, is_declared=True, derivation=derivation)}


def body(*values: Any, unit: Any = "mag", measured: Any = (), **changes: Any) -> bytes:
    """Make a job with a blob for each value of `mag`."""
    blobs = [
        {
            "identifier": f"b{index}",
            "name": "p.a",
            "data": {"mag": {"value": value, "unit": unit, "label": None, "description": None}},
        }
        | changes
        for index, value in enumerate(values)
    ]
    return json.dumps({"measurements": list(measured), "blobs": blobs, "meta": {}}).encode()


def reduced(document: bytes, metrics: dict[str, KnownMetric] | None = None) -> Job:
    metrics = metrics or known()
    short, whole = (
        with_reduced(read(document), reductions_of(metrics.items()))
        for read in (decode_job, reread_job)
    )
    assert list(short.measurements) == list(whole.measurements)
    return short


def assessed(document: bytes, metrics: dict[str, KnownMetric] | None = None) -> Assessment:
    metrics = metrics or known()
    return assess(reduced(document, metrics), metrics=metrics, schema=Schema())


def test_a_metric_has_a_value_from_an_array() -> None:
    (item,) = reduced(body([0.001, 0.003, 0.0025])).measurements
    assert isinstance(item, Reduced)
    assert (item.metric, item.value, item.unit, item.blob_refs) == ("p.m", 2.5, "mmag", ["b0"])


def test_what_is_missing_in_an_array_is_left_out() -> None:
    assert assessed(body([0.001, None, float("nan"), float("inf"), 0.003])).values == {"p.m": 2.0}


@pytest.mark.parametrize("value", [[], [None], [[], []], None, float("nan")])
def test_an_array_without_numbers_is_absent(value: Any) -> None:
    assert assessed(body(value)) == Assessment(absent=["p.m"])


def test_an_empty_array_can_be_counted() -> None:
    assert assessed(body([]), known("", "count")).values == {"p.m": 0.0}


@pytest.mark.parametrize("unit", ["mag", "", None, "bananas"])
def test_a_count_has_no_unit_to_convert(unit: str | None) -> None:
    assert assessed(body([1, 2], unit=unit), known("ct", "count")).values == {"p.m": 2.0}


def test_an_array_of_two_dimensions_is_reduced_as_one() -> None:
    assert assessed(body([[0.001, 0.002], [0.003]]), known(by="max")).values == {"p.m": 3.0}


def test_a_number_alone_is_an_array_of_one() -> None:
    assert assessed(body(0.25)).values == {"p.m": 250.0}


def test_an_array_without_unit_is_in_the_metrics() -> None:
    found = assessed(body([1.5], unit=None))
    assert (found.values, found.without_unit) == ({"p.m": 1.5}, [])


def test_values_are_converted_before_they_are_reduced() -> None:
    fluxes = assessed(body([10.0, 12.5], unit="mag(AB)"), known("nJy", "max"))
    assert fluxes.values["p.m"] == pytest.approx(363_078_054.77)


def test_a_unit_that_does_not_convert_is_a_reason_to_skip() -> None:
    (skip,) = assessed(body([1.0], unit="s")).skipped
    assert skip.reason == "unit 's' does not convert to the metric's unit, 'mmag'"


@pytest.mark.parametrize("value", ["text", True, [1, "2"], [True], {"a": 1}])
def test_what_is_no_array_of_numbers_is_skipped(value: Any) -> None:
    (skip,) = assessed(body(value)).skipped
    assert (skip.metric, skip.reason) == (
        "p.m",
        "'mag' of the blob 'p.a' is not an array of numbers",
    )


def test_a_unit_that_is_no_text_is_skipped() -> None:
    (skip,) = assessed(body([1.0], unit=5)).skipped
    assert skip.reason == "'mag' of the blob 'p.a' has a unit that is not text"


@pytest.mark.parametrize("value", [0.5, None, "text"])
def test_a_measurement_of_the_metric_itself_wins(value: Any) -> None:
    own = {"metric": "p.m", "value": value, "unit": "mmag"}
    job = reduced(body([1.0], measured=[own]))
    assert [item.value for item in job.measurements] == [value]


def test_of_blobs_with_the_same_name_the_last_with_the_array_counts() -> None:
    assert assessed(body([0.001], [0.002])).values == {"p.m": 2.0}
    found = json.loads(body([0.001], [0.002]))
    found["blobs"][1]["data"] = {"other": [1]}
    assert assessed(json.dumps(found).encode()).values == {"p.m": 1.0}


@pytest.mark.parametrize(
    "changes", [{"name": "p.b"}, {"name": None}, {"data": None}, {"data": [1]}, {"data": {}}]
)
def test_a_job_without_the_array_does_not_measure_the_metric(changes: dict[str, Any]) -> None:
    assert assessed(body([1.0], **changes)) == Assessment()


def test_a_bare_array_is_one_too() -> None:
    assert assessed(body([], data={"mag": [1.0, 3.0]})).values == {"p.m": 2.0}


def test_zero_can_be_absent_here_too() -> None:
    zero = body([-1.0, 0.0, 1.0])
    assert assessed(zero).values == {"p.m": 0.0}
    assert assessed(zero, known(is_zero_missing=True)).absent == ["p.m"]
