from dataclasses import replace
from typing import Any

from squash_api.judging.specifications import specification_from_json
from squash_api.reports.results import Limits
from squash_api.schema.names import Schema
from tests.support.definitions import spec

SCHEMA = Schema()


def limits(*documents: dict[str, Any]) -> Limits:
    return Limits({"p.a": [specification_from_json(item) for item in documents]}, SCHEMA)


def test_thresholds_are_in_the_unit_of_the_metric() -> None:
    (found,) = limits(spec(unit="mag", value=0.005)).of("p.a", "mmag", {})
    assert found.criterion.numbers == (5.0,)


def test_a_metric_without_unit_is_compared_in_that_of_the_specification() -> None:
    (found,) = limits(spec(unit="mag", value=0.005)).of("p.a", None, {})
    assert found.criterion.numbers == (0.005,)


def test_terms_on_tags_pick_the_limits() -> None:
    found = limits(spec(metadata_query={"filter_name": "r"}))
    assert found.of("p.a", "mmag", {"filter": "g"}) == []
    assert len(found.of("p.a", "mmag", {"filter": "r"})) == 1


def test_a_query_that_nothing_can_have_never_applies() -> None:
    # One that was stored before such a query was refused.
    impossible = replace(specification_from_json(spec()), metadata_query={"filter_name": ""})
    assert Limits({"p.a": [impossible]}, SCHEMA).of("p.a", "mmag", {"filter": ""}) == []


def test_those_that_have_applied_are_known() -> None:
    found = limits(spec(metadata_query={"filter_name": "r"}), spec("p.a.minimum"))
    found.of("p.a", "mmag", {"filter": "g"})
    assert found.used == {"p.a.minimum"}


def test_a_unit_that_does_not_convert_makes_it_unusable() -> None:
    found = limits(spec(unit="arcsec"))
    assert found.of("p.a", "mmag", {}) == []
    assert "does not convert" in found.unusable["p.a.design"]


def test_other_metadata_is_read_only_if_a_query_names_it() -> None:
    assert not limits(spec(metadata_query={"filter_name": "r", "run_id": "7"})).needs_fields
    assert limits(spec(metadata_query={"visit": 7})).needs_fields


def test_a_metric_without_specifications_has_no_limits() -> None:
    assert limits(spec()).of("p.b", "mmag", {}) == []
