from dataclasses import replace

from squash_api.reports.matrix import finding_of
from squash_api.reports.texts import limit_text, minute_text, name_text, tags_text, value_text
from tests.support.reporting import result, unlimited

FOUND = finding_of(result(1.25))


def test_value_and_limit_that_are_close_can_be_told_apart() -> None:
    close = replace(FOUND, value=4.9999999)
    assert (value_text(close), limit_text(close)) == ("4.9999999 mmag", "< 5.0 mmag")


def test_what_is_not_there_is_a_dash() -> None:
    empty = replace(finding_of(unlimited()), value=None)
    texts = [minute_text(None), tags_text({})]
    assert {*texts, limit_text(empty), value_text(empty)} == {"\u2013"}


def test_values_and_limits_have_their_unit() -> None:
    assert (value_text(FOUND), limit_text(FOUND)) == ("1.25 mmag", "< 5 mmag")
    assert limit_text(replace(FOUND, operator="<=", unit="")) == "\u2264 5"


def test_moments_are_told_to_the_minute() -> None:
    assert minute_text("2026-11-22T12:34:56Z") == "2026-11-22 12:34"


def test_tags_are_named() -> None:
    assert tags_text({"filter": "r", "ccdnum": "7"}) == "filter r, ccdnum 7"


def test_names_are_cut_and_do_not_turn_text_around() -> None:
    assert name_text("a\u202eb\u2066c") == "abc"
    assert len(name_text("y" * 100)) == 60
