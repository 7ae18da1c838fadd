from typing import Any

import pytest

from squash_api.errors import InvalidInputError
from squash_api.schema.names import Schema
from squash_api.verify.metrics import Source, metric_from_json

LATENCY = {
    "name": "demo.latency",
    "package": "demo",
    "display_name": "Latency",
    "description": "Seconds from shutter to alert.\n",
    "unit": "second",
    "tags": ["timing", "alerts", "timing"],
    "reference": {"doc": "DOC-1", "page": 3, "url": "https://example.org/doc-1"},
}


def places(document: Any, **known: Any) -> list[tuple[str | int, ...]]:
    with pytest.raises(InvalidInputError) as caught:
        metric_from_json(document, **known)
    return [detail.loc for detail in caught.value.detail]


def test_a_source_reads_as_file_and_line() -> None:
    assert str(Source("srd/metrics/validate_drp.yaml", 7)) == "srd/metrics/validate_drp.yaml:7"


def test_a_posted_metric_has_its_unit_in_canonical_spelling() -> None:
    assert metric_from_json(LATENCY).unit == "s"


def test_tags_are_sorted_and_each_once() -> None:
    assert metric_from_json(LATENCY).tags == ("alerts", "timing")


def test_newlines_at_the_end_of_a_description_are_cut() -> None:
    assert metric_from_json(LATENCY).description == "Seconds from shutter to alert."


def test_a_metric_survives_its_json() -> None:
    metric = metric_from_json(LATENCY)
    assert metric_from_json(metric.to_json()) == metric


def test_a_metric_without_unit_is_dimensionless() -> None:
    assert metric_from_json({"name": "demo.ratio"}).unit == ""
    assert metric_from_json({"name": "demo.ratio", "unit": None}).unit == ""


def test_a_reference_always_has_its_three_keys() -> None:
    assert metric_from_json({"name": "demo.ratio"}).reference == {
        "doc": None,
        "page": None,
        "url": None,
    }


def test_a_reference_may_list_several_documents() -> None:
    reference = {"doc": ["A", "B"], "url": ["u", "v"], "page": "12-14", "other": {}}
    found = metric_from_json({"name": "demo.ratio", "reference": reference}).reference
    assert found == {"doc": ["A", "B"], "page": "12-14", "url": ["u", "v"]}


def test_the_display_name_defaults_to_the_metric() -> None:
    assert metric_from_json({"name": "demo.ratio"}).display_name == "ratio"


def test_unknown_keys_are_ignored() -> None:
    assert metric_from_json({"name": "demo.ratio", "colour": "red"}).name == "demo.ratio"


def test_the_name_may_come_from_the_address() -> None:
    assert metric_from_json({"unit": "s"}, name="demo.latency").name == "demo.latency"


def test_address_and_document_must_not_name_two_metrics() -> None:
    assert places({"name": "demo.a"}, name="demo.b") == [("name",)]


@pytest.mark.parametrize(
    "name",
    ["latency", "demo.", ".x", "a.b.c", "demo.two words", "squash.x", "squash_a.x", "demo.time"],
)
def test_an_illegal_name_is_refused(name: str) -> None:
    assert places({"name": name}) == [("name",)]


def test_a_metric_cannot_be_called_like_an_added_tag() -> None:
    assert places({"name": "demo.site"}, schema=Schema(extra_tags=("site",))) == [("name",)]


def test_a_package_that_the_name_contradicts_is_refused() -> None:
    assert places({"name": "demo.a", "package": "other"}) == [("package",)]


def test_all_problems_are_named_at_once() -> None:
    document = {
        "name": 5,
        "description": 5,
        "unit": "furlongs",
        "tags": [1],
        "reference": "DOC-1",
        "display_name": [],
    }
    assert set(places(document)) == {(key,) for key in document}


@pytest.mark.parametrize("document", [None, [], "demo.a", 5])
def test_only_an_object_is_a_metric(document: object) -> None:
    assert places(document) == [()]


@pytest.mark.parametrize("key", ["description", "display_name"])
def test_text_that_cannot_be_encoded_is_refused(key: str) -> None:
    assert places({"name": "demo.a", key: "\ud800"}) == [(key,)]
