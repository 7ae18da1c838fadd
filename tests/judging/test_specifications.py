from datetime import date
from typing import Any

import pytest

from squash_api.errors import InvalidInputError
from squash_api.judging.alerts import (
    LEVELS,
    WORST_FIRST,
    After,
    Alert,
    Expect,
    Mute,
    level_of,
    severity_of,
)
from squash_api.judging.kinds.threshold import Threshold
from squash_api.judging.specifications import parse_specification, specification_from_json
from squash_api.schema.names import SERIES_TAGS, Schema

HARD: dict[str, Any] = {
    "name": "demo.latency.hard",
    "threshold": {"value": 60, "unit": "second", "operator": "<"},
    "tags": ["minimum", "gate"],
    "metadata_query": {"instrument": "HSC", "visits": [1, 2]},
    "type": "threshold",
    "alert": {
        "level": "warning",
        "channel": "#dm-alerts",
        "per": ["instrument", "filter"],
        "max_age": "7d",
        "mute": {"until": "2026-12-15", "why": "reprocessing"},
        "after": {"runs": 2, "of": 3},
        "min_runs": 5,
        "trial": True,
        "group": ["filter"],
    },
    "expect": {"every": "24h", "grace": "90m", "each": {"filter": ["r", "08-10"]}},
}


def places(change: dict[str, Any], **known: Any) -> list[tuple[str | int, ...]]:
    with pytest.raises(InvalidInputError) as caught:
        specification_from_json({**HARD, **change}, **known)
    return [detail.loc for detail in caught.value.detail]


def level_with(tags: list[str], **alert: Any) -> str:
    return specification_from_json({**HARD, "tags": tags, "alert": alert}).level


def test_the_metric_is_the_name_without_its_last_part() -> None:
    assert specification_from_json(HARD).metric == "demo.latency"


def test_its_kind_reads_what_it_asks_for() -> None:
    assert specification_from_json(HARD).criterion == Threshold(60.0, "s", "<")


@pytest.mark.parametrize("type_", ["ranges", "", 5, ["threshold"]])
def test_a_type_that_there_is_not_is_refused(type_: object) -> None:
    assert places({"type": type_}) == [("type",)]


def test_a_specification_without_type_is_a_threshold() -> None:
    document = {key: value for key, value in HARD.items() if key != "type"}
    assert specification_from_json(document).to_json()["type"] == "threshold"


def test_a_specification_survives_its_json() -> None:
    specification = specification_from_json(HARD)
    assert specification_from_json(specification.to_json()) == specification


def test_alert_and_expect_are_read() -> None:
    specification = specification_from_json(HARD)
    assert specification.alert == Alert(
        "WARNING",
        "#dm-alerts",
        ("instrument", "filter"),
        604800,
        Mute(date(2026, 12, 15), "reprocessing"),
        After(2, 3),
        5,
        trial=True,
        group=("filter",),
    )
    each = (("filter", ("r", "08-10")),)
    assert specification.expect == Expect(every_s=86400, grace_s=5400, each=each)


def test_without_grace_nothing_may_be_late() -> None:
    document = {**HARD, "expect": {"every": "2w"}}
    assert specification_from_json(document).expect == Expect(every_s=1209600, grace_s=0)


def test_a_query_may_be_null_or_absent() -> None:
    assert specification_from_json({**HARD, "metadata_query": None}).metadata_query == {}


@pytest.mark.parametrize(
    ("tags", "level"),
    [
        (["minimum"], "CRITICAL"),
        (["design"], "WARNING"),
        (["stretch"], "INFO"),
        (["stretch", "minimum", "design"], "CRITICAL"),
        (["release"], "WARNING"),
        ([], "WARNING"),
    ],
)
def test_tags_say_how_bad_a_violation_is(tags: list[str], level: str) -> None:
    assert level_with(tags) == level


def test_alert_overrides_the_level_of_the_tags() -> None:
    assert level_with(["minimum"], level="info") == "INFO"


def test_levels_go_from_mild_to_bad() -> None:
    assert LEVELS == ("INFO", "WARNING", "CRITICAL")
    assert [severity_of(level) for level in LEVELS] == [1, 2, 3]
    assert [level_of(severity) for severity in (3, 2, 1)] == list(WORST_FIRST)


@pytest.mark.parametrize("value", [None, {}, "", float("nan"), {"deep": 1}, 10**400, "\ud800"])
def test_a_term_that_no_job_can_match_is_refused(value: object) -> None:
    assert places({"metadata_query": {"dataset": value}}) == [("metadata_query", "dataset")]


@pytest.mark.parametrize(
    ("keys", "loc"),
    [
        ({"colour": "red"}, ("alert", "colour")),
        ({"level": "fatal"}, ("alert", "level")),
        ({"channel": "dm alerts"}, ("alert", "channel")),
        ({"channel": None}, ("alert", "channel")),
        ({"per": ["visit"]}, ("alert", "per")),
        ({"per": {"filter": 1}}, ("alert", "per")),
        ({"max_age": 7}, ("alert", "max_age")),
        ({"max_age": "0d"}, ("alert", "max_age")),
        ({"max_age": "11000d"}, ("alert", "max_age")),
        ({"mute": "always"}, ("alert", "mute")),
        ({"mute": {"until": "2026-12-15"}}, ("alert", "mute")),
        ({"mute": {"until": "2026-02-30", "why": "x"}}, ("alert", "mute", "until")),
        ({"mute": {"until": "2026-12-15", "why": " "}}, ("alert", "mute", "why")),
        ({"after": 2}, ("alert", "after")),
        ({"after": {"runs": 2}}, ("alert", "after")),
        ({"after": {"of": 2}}, ("alert", "after")),
        ({"after": {"runs": 0, "of": 2}}, ("alert", "after", "runs")),
        ({"after": {"runs": 3, "of": 2}}, ("alert", "after", "runs")),
        ({"after": {"runs": 1, "of": 201}}, ("alert", "after", "of")),
        ({"after": {"runs": 1, "of": 2, "in": 3}}, ("alert", "after", "in")),
        ({"min_runs": 0}, ("alert", "min_runs")),
        ({"min_runs": True}, ("alert", "min_runs")),
        ({"min_runs": 2.0}, ("alert", "min_runs")),
        ({"trial": "yes"}, ("alert", "trial")),
        ({"trial": 1}, ("alert", "trial")),
        ({"group": "all"}, ("alert", "group")),
        ({"group": ["filter", "visit"]}, ("alert", "group")),
        ({"group": ["detector"], "per": ["filter"]}, ("alert", "group")),
    ],
)
def test_a_malformed_alert_is_named(keys: dict[str, Any], loc: tuple[str, ...]) -> None:
    assert places({"alert": keys}) == [loc]


@pytest.mark.parametrize(
    ("keys", "loc"),
    [
        ({"grace": "1h"}, ("expect",)),
        ({"every": "daily"}, ("expect", "every")),
        ({"every": "1d", "often": 1}, ("expect", "often")),
        ({"every": "1d", "each": ["r"]}, ("expect", "each")),
        ({"every": "1d", "each": {}}, ("expect", "each")),
        ({"every": "1d", "each": {"visit": [1]}}, ("expect", "each")),
        ({"every": "1d", "each": {"detector": []}}, ("expect", "each")),
        ({"every": "1d", "each": {"detector": ["9-1"]}}, ("expect", "each")),
        ({"every": "1d", "each": {"detector": [True]}}, ("expect", "each")),
        ({"every": "1d", "each": {"detector": ["0-10000"]}}, ("expect", "each")),
        ({"every": "1d", "each": {"detector": "0-188", "filter": "1-99"}}, ("expect", "each")),
    ],
)
def test_a_malformed_expect_is_named(keys: dict[str, Any], loc: tuple[str, ...]) -> None:
    assert places({"expect": keys}) == [loc]


@pytest.mark.parametrize("query", [{"detector": 5}, {"detector": {"in": [5, 7]}}])
def test_what_is_expected_must_meet_the_query(query: dict[str, Any]) -> None:
    expect = {"every": "1d", "each": {"detector": [5, 6]}}
    found = places({"metadata_query": query, "expect": expect})
    assert found == [("expect", "each", "detector")]


@pytest.mark.parametrize("query", [{}, {"filter_name": "r"}, {"detector": {"in": [5, 6, 7]}}])
def test_what_is_expected_may_be_part_of_the_query(query: dict[str, Any]) -> None:
    expect = {"every": "1d", "each": {"detector": [5, 6]}}
    found = specification_from_json({**HARD, "metadata_query": query, "expect": expect})
    assert found.metadata_query == query


def test_what_is_expected_may_be_named() -> None:
    each = {"detector": ["0-2", 190, "08-10"], "filter": "r"}
    found = specification_from_json({**HARD, "expect": {"every": "1d", "each": each}}).expect
    assert found is not None
    assert found.values == {"detector": ("0", "1", "2", "190", "08", "09", "10"), "filter": ("r",)}


@pytest.mark.parametrize(
    ("written", "group"),
    [
        (None, ("detector", "tract")),
        ("none", ()),
        ([], ()),
        ("job", "job"),
        (["tract", "filter"], ("filter", "tract")),
        ("filter", ("filter",)),
    ],
)
def test_alerts_are_grouped_over_parts_of_the_sky_unless_it_says_otherwise(
    written: Any, group: object
) -> None:
    per = ["filter", "detector", "tract"]
    found = specification_from_json({**HARD, "alert": {"per": per, "group": written}})
    assert found.group == group
    assert specification_from_json(found.to_json()).group == group


def test_null_takes_back_what_a_base_says_of_alerts() -> None:
    document = {**HARD, "alert": {"level": None, "mute": None}, "expect": None}
    specification = specification_from_json(document)
    assert (specification.alert, specification.expect) == (Alert(), None)


def test_alerts_may_be_per_added_tag() -> None:
    document = {**HARD, "alert": {"per": "site"}}
    specification = specification_from_json(document, schema=Schema(extra_tags=("site",)))
    assert specification.alert == Alert(per=("site",))


@pytest.mark.parametrize(("today", "faults"), [(15, 0), (16, 1)])
def test_a_mute_lasts_through_its_last_day(today: int, faults: int) -> None:
    _, found = parse_specification(HARD, name=HARD["name"], today=date(2026, 12, today))
    assert [fault.loc for fault in found] == [("alert", "mute", "until")] * faults


@pytest.mark.parametrize(
    "name", ["demo.hard", "hard", "a.b.c.d", "demo.latency.", "demo.a b.c", "squash.a.b"]
)
def test_an_illegal_name_is_refused(name: str) -> None:
    assert places({"name": name}) == [("name",)]


def test_all_problems_are_named_at_once() -> None:
    change = {"name": 5, "threshold": None, "tags": [5], "metadata_query": [1], "type": "ranges"}
    assert set(places(change)) == {(key,) for key in change}


def test_alerts_are_apart_by_fiber_where_that_is_a_tag() -> None:
    document = {"name": "p.a.x", "threshold": {"value": 1, "unit": "", "operator": "<"}}
    assert specification_from_json(document).per == SERIES_TAGS
    schema = Schema(extra_tags=("fiber", "spectrograph"))
    found = specification_from_json(document, schema=schema)
    assert found.per == (*SERIES_TAGS, "spectrograph", "fiber")
    chosen = specification_from_json({**document, "alert": {"per": ["fiber"]}}, schema=schema)
    assert chosen.per == ("fiber",)
