import pytest

from squash_api.generate.influxql import (
    Place,
    condition,
    either,
    identifier,
    literal,
    plus,
    select,
)
from squash_api.schema.names import Term

R = Term("filter", "r", is_tag=True)
G = Term("filter", "g", is_tag=True)
VISIT = Term("meta.visit", 5.0, is_tag=False)
PLACE = Place("squash", "autogen", "validate_drp")


@pytest.mark.parametrize(
    ("name", "text"),
    [("AM1", '"AM1"'), ('a"b', r'"a\"b"'), ("a\\b", r'"a\\b"'), ("a\nb", r'"a\nb"')],
)
def test_a_name_is_quoted(name: str, text: str) -> None:
    assert identifier(name) == text


@pytest.mark.parametrize(("value", "text"), [("it's", r"'it\'s'"), ('a"b', "'a\"b'")])
def test_a_text_is_quoted(value: str, text: str) -> None:
    assert literal(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(8.0, "+8.0"), (-0.5, "-0.5"), (5e-8, "+0.00000005"), (1e22, None)]
)
def test_a_number_has_its_sign_apart_and_no_exponent(value: float, text: str | None) -> None:
    assert plus(value) == (text or f"+1{'0' * 22}.0")


def test_a_place_names_database_retention_policy_and_measurement() -> None:
    assert str(PLACE) == '"squash"."autogen"."validate_drp"'


def test_terms_are_compared_as_what_they_are() -> None:
    assert condition([R, VISIT]) == '"filter" = \'r\' AND "meta.visit" = 5.0'


def test_either_of_two_groups() -> None:
    assert either([(R,), (G,)]) == "(\"filter\" = 'g') OR (\"filter\" = 'r')"


def test_either_a_group_or_everything_is_everything() -> None:
    assert either([(R,), ()]) == ""


def test_conditions_are_joined_and_empty_ones_left_out() -> None:
    text = select(["x"], PLACE, "a = 1", "", "b = 1 OR b = 2", end="LIMIT 1")
    assert text == f"SELECT x FROM {PLACE} WHERE a = 1 AND (b = 1 OR b = 2) LIMIT 1"


def test_no_condition_no_where() -> None:
    assert select(["x", "y"], "(SELECT 1)") == "SELECT x, y FROM (SELECT 1)"
