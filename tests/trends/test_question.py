from typing import Any

import pytest

from squash_api import errors
from squash_api.errors import InvalidInputError
from squash_api.schema.names import Schema
from squash_api.trends.question import (
    Cursor,
    Question,
    column_of,
    cursor_text,
    parse_cursor,
    parse_moment,
    read_question,
    read_report_question,
    refuse_unknown,
)

NOW_NS = 1_000_000 * 10**9
# 2026-11-22 12:00 UTC
TODAY_NS = 1_795_348_800 * 10**9
DAY_NS = 86_400 * 10**9


def read(*parameters: tuple[str, str], schema: Schema | None = None) -> Question:
    return read_question(parameters, schema=schema or Schema(), now_ns=NOW_NS)


def refused(*parameters: tuple[str, str]) -> list[tuple[Any, str]]:
    with pytest.raises(InvalidInputError) as caught:
        read(*parameters)
    return [(detail.loc[1], detail.msg) for detail in caught.value.detail]


def test_no_parameters_ask_for_the_first_page_of_everything() -> None:
    assert read() == Question(limit=100)


def test_repeated_parameters_mean_any_of_them() -> None:
    found = read(("metric", "p.a"), ("package", "q"), ("metric", "p.b"), ("run", "R 1"))
    assert (found.metrics, found.packages, found.runs) == (("p.a", "p.b"), ("q",), ("R_1",))


def test_a_tag_is_named_by_itself_or_by_what_feeds_it() -> None:
    found = read(("filter", "HSC R"), ("filter_name", "i"), ("ci_dataset", "RC2"))
    assert found.tags == {"filter": ("HSC_R", "i"), "dataset": ("RC2",)}


def test_a_physical_filter_is_its_own_tag() -> None:
    assert read(("physical_filter", "r")).tags == {"physical_filter": ("r",)}


def test_an_added_tag_is_a_parameter() -> None:
    question = read(("site", "summit"), schema=Schema(("site",)))
    assert question.tags == {"site": ("summit",)}


def test_an_added_tag_that_is_called_like_a_parameter_gets_a_prefix() -> None:
    question = read(("job", "7"), ("tag.job", "x"), schema=Schema(("job",)))
    assert (question.jobs, question.tags) == ((7,), {"job": ("x",)})
    assert (column_of("job"), column_of("value"), column_of("filter")) == (
        "tag.job",
        "tag.value",
        "filter",
    )


def test_ids_of_jobs_are_numbers_and_impossible_ones_are_of_no_job() -> None:
    assert read(("job", "7"), ("job", "9" * 30)).jobs == (7,)
    assert read(("job", "9" * 30)).jobs == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02T00:00", DAY_NS),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2d", NOW_NS - 2 * DAY_NS),
        ("90s", NOW_NS - 90 * 10**9),
    ],
)
def test_a_time_is_a_date_or_how_long_ago_it_was(text: str, expected: int) -> None:
    found = read(("since", text))
    assert (found.since_ns, read(("until", text)).until_ns) == (expected, expected)


@pytest.mark.parametrize("text", ["1970-01-02", " 1970-01-02 ", "19700102", "1970-01-02Z"])
def test_a_day_means_all_of_it(text: str) -> None:
    assert parse_moment(text, now_ns=NOW_NS) == DAY_NS
    assert parse_moment(text, now_ns=NOW_NS, is_end=True) == 2 * DAY_NS - 1
    found = read(("since", "1970-01-02"), ("until", "1970-01-02"))
    assert (found.since_ns, found.until_ns) == (DAY_NS, 2 * DAY_NS - 1)


@pytest.mark.parametrize(
    ("text", "fields", "expected"),
    [
        ("1.5", {"meta.k": 1.5}, True),
        ("1.50", {"meta.k": 1.5}, True),
        ("1.5", {"meta.k": 1.25}, False),
        ("1.5", {"meta.k.text": "1.5"}, True),
        ("1.5", {}, False),
        ("1..2", {"meta.k": 1.0}, True),
        ("1..2", {"meta.k": 2.0}, True),
        ("1..2", {"meta.k": 2.1}, False),
        ("..2", {"meta.k": -1e9}, True),
        ("2..", {"meta.k": 1e9}, True),
        ("2..", {"meta.k": 1.0}, False),
        ("-2..-1", {"meta.k": -1.5}, True),
        ("a..b", {"meta.k.text": "a..b"}, True),
        ("good seeing", {"meta.k.text": "good_seeing"}, True),
        ("good", {"meta.k.text": "bad"}, False),
        ("nan", {"meta.k": 1.0}, False),
    ],
)
def test_metadata_is_compared_as_number_range_or_text(
    text: str, fields: dict[str, str | float], *, expected: bool
) -> None:
    (condition,) = read(("meta.k", text)).conditions
    assert condition(fields) is expected


def test_text_metadata_may_be_named_as_in_influxdb() -> None:
    (condition,) = read(("meta.k.text", "7")).conditions
    assert [
        condition({name: value}) for name, value in (("meta.k.text", "7"), ("meta.k", 7.0))
    ] == [
        True,
        False,
    ]


def test_of_repeated_metadata_any_will_do_and_of_several_keys_all_must() -> None:
    one, other = read(("meta.a", "1"), ("meta.b", "5"), ("meta.a", "2..3")).conditions
    assert [one({"meta.a": number}) for number in (1.0, 2.5, 4.0)] == [True, True, False]
    assert other({"meta.b": 5.0})


def test_fields_are_named_by_commas_or_all_at_once() -> None:
    question = read(("fields", "meta.airmass,meta.note.text"), ("fields", "*"))
    assert question.fields == ("meta.airmass", "meta.note.text", "*")


@pytest.mark.parametrize(("format_", "limit"), [("json", 100), ("csv", None), ("parquet", None)])
def test_only_json_comes_in_pages_by_itself(format_: str, limit: int | None) -> None:
    assert read(("format", format_)).limit == limit
    assert read(("format", format_), ("limit", "7")).limit == 7


def test_points_come_all_at_once() -> None:
    question = read(("points", "500"))
    assert (question.points, question.limit) == (500, None)


def test_the_unit_and_absent_values_are_asked_for() -> None:
    found = read(("unit", "mag"), ("absent", "true"))
    assert (found.unit, found.has_absent) == ("mag", True)


def test_a_unit_is_looked_at_before_anything_else() -> None:
    assert read(("unit", " degree")).unit == "deg"
    ((name, message),) = refused(("unit", "furlongs"))
    assert (name, "'furlongs' is not a unit that astropy knows" in message) == ("unit", True)


def test_only_the_first_wrong_names_cost_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses: list[str] = []

    def guess(name: str, *_: object, **__: object) -> list[str]:
        guesses.append(name)
        return []

    monkeypatch.setattr(errors, "get_close_matches", guess)
    refused(*((f"x{number}", "1") for number in range(1000)))
    with pytest.raises(InvalidInputError):
        refuse_unknown(Question(metrics=tuple(f"x{number}" for number in range(99))), {"p.a"})
    assert len(guesses) == 10


def test_a_dimensionless_unit_is_an_empty_text() -> None:
    assert read(("unit", "")).unit == ""


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (("metrc", "p.a"), "There is no parameter `metrc`; did you mean `metric`?"),
        (("airmass", "1"), "There is no parameter `airmass`; for metadata, write `meta.airmass`"),
        (("tag.nothing", "1"), "There is no parameter `tag.nothing`; for metadata, write"),
        (("filter", ""), "`filter` is empty"),
        (("metric", ""), "`metric` is empty"),
        (("meta.k", ""), "`meta.k` is empty"),
        (("meta.", "1"), "`meta.` needs a key"),
        (("job", "x"), "'x' is not a job id"),
        (("job", "-1"), "'-1' is not a job id"),
        (("since", "yesterday"), "'yesterday' is not a time"),
        (("until", "5 parsecs"), "'5 parsecs' is not a time"),
        (("absent", "perhaps"), "`absent` must be true or false"),
        (("points", "1"), "`points` must be a whole number, 2 to 10000"),
        (("points", "many"), "`points` must be a whole number, 2 to 10000"),
        (("limit", "0"), "`limit` must be a whole number, 1 to 1000"),
        (("limit", "1001"), "`limit` must be a whole number, 1 to 1000"),
        (("format", "xml"), "'xml' is not a format: choose one of json, csv, parquet"),
        (("after", "7"), "The cursor `after` must come from a `next` link"),
        (("after", "9" * 19 + ".1"), "The cursor `after` must come from a `next` link"),
        (("after", "٣.1"), "The cursor `after` must come from a `next` link"),
        (("fields", "airmass"), "'airmass' is not metadata: write meta.airmass"),
        (("fields", ""), "'' is not metadata"),
    ],
)
def test_what_is_wrong_is_named(parameter: tuple[str, str], message: str) -> None:
    ((name, found),) = refused(parameter)
    assert name == parameter[0]
    assert found.startswith(message)


def test_all_that_is_wrong_is_named_at_once() -> None:
    found = refused(("sinc", "x"), ("job", "x"), ("unit", "m"), ("unit", "s"))
    assert sorted(name for name, _ in found) == ["job", "sinc", "unit"]


def test_a_page_of_points_is_refused() -> None:
    assert refused(("points", "10"), ("limit", "5"))[0][0] == "points"


def test_a_time_that_ends_before_it_begins_is_refused() -> None:
    assert refused(("since", "1d"), ("until", "2d")) == [("since", "`since` is later than `until`")]


def test_a_file_may_have_any_limit() -> None:
    assert read(("format", "csv"), ("limit", "1000000")).limit == 1_000_000


def test_a_cursor_is_read_back() -> None:
    cursor = Cursor(1_790_000_000_000_000_001, 17)
    assert parse_cursor(cursor_text(cursor)) == cursor


# Of a report


def about(**given: str) -> Question:
    return read_report_question(given.items(), now_ns=TODAY_NS).about


def report_refusal(*parameters: tuple[str, str]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        read_report_question(parameters, now_ns=TODAY_NS)
    return caught.value


def test_without_run_release_or_time_it_is_about_a_week() -> None:
    found = about(package="p")
    assert found.since_ns == TODAY_NS - 7 * DAY_NS


def test_it_has_no_end_because_clocks_may_be_ahead() -> None:
    assert about(since="24h").until_ns is None


def test_a_run_needs_no_time() -> None:
    assert about(run="42") == Question(runs=("42",))


def test_a_release_needs_no_time() -> None:
    assert about(version_tag="w_2026_47") == Question(version_tags=("w_2026_47",))


def test_a_pipeline_alone_is_of_a_week() -> None:
    assert about(pipeline="drp").since_ns == TODAY_NS - 7 * DAY_NS


def test_time_may_be_said_as_how_long_ago() -> None:
    assert about(since="24h").since_ns == TODAY_NS - DAY_NS


def test_a_period_that_only_ends_has_the_week_before_its_end() -> None:
    found = about(until="2026-11-20T00:00Z")
    assert found.until_ns is not None
    assert found.since_ns == found.until_ns - 7 * DAY_NS


def test_the_last_day_counts_as_a_whole() -> None:
    found = about(since="2026-11-20", until="2026-11-20")
    assert found.since_ns is not None
    assert found.until_ns == found.since_ns + DAY_NS - 1


def test_what_jobs_say_is_compared_as_the_record_keeps_it() -> None:
    found = about(dataset="HSC RC2", run="a b")
    assert (found.tags, found.runs) == ({"dataset": ("HSC_RC2",)}, ("a_b",))


def test_empty_parameters_are_not_given() -> None:
    empty = [("run", ""), ("dataset", " "), ("since", "1d")]
    request = read_report_question(empty, now_ns=TODAY_NS)
    assert request.given == {"since": ("1d",)}


def test_parameters_may_be_given_again() -> None:
    request = read_report_question([("filter", "r"), ("filter", "i")], now_ns=TODAY_NS)
    assert request.about.tags == {"filter": ("r", "i")}


def test_level_may_be_in_small_letters() -> None:
    assert about(level="warning").level == "WARNING"


def test_comparison_keeps_the_filters_and_changes_what_is_compared() -> None:
    request = read_report_question(
        [("version_tag", "w_2"), ("compare_version_tag", "w_1"), ("package", "p")], now_ns=TODAY_NS
    )
    assert request.other == Question(version_tags=("w_1",), packages=("p",))


def test_without_comparison_there_is_no_other_about() -> None:
    assert read_report_question([("run", "1")], now_ns=TODAY_NS).other is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("datset", "RC2", "A report has no parameter 'datset'; did you mean `dataset`?"),
        ("since", "yesterday", "'yesterday' is not a time"),
        ("until", "1950-01-01", "before 1970"),
        ("until", "9999-01-01", "too far ahead"),
        ("compare_since", "?", "'?' is not a time"),
        ("level", "bad", "not a level"),
        ("run", "a" * 1001, "at most 1000 characters"),
        ("run", "a\0b", "no NUL"),
    ],
)
def test_wrong_parameters_are_refused(name: str, text: str, message: str) -> None:
    assert message in report_refusal((name, text)).message


def test_every_problem_is_named() -> None:
    error = report_refusal(("a", "1"), ("since", "?"), ("level", "x"))
    assert [item.loc for item in error.detail] == [
        ("query", "a"),
        ("query", "since"),
        ("query", "level"),
    ]


def test_a_time_is_given_once() -> None:
    assert "once" in report_refusal(("since", "1d"), ("since", "2d")).message


def test_there_is_a_limit_to_lists() -> None:
    assert "50 times" in report_refusal(*[("run", str(number)) for number in range(51)]).message


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ([("since", "2026-11-21"), ("until", "2026-11-20")], "since"),
        ([("since", "2026-11-21T00:00:01"), ("until", "2026-11-21T00:00:00")], "since"),
        ([("compare_since", "2026-11-02"), ("compare_until", "2026-11-01")], "compare_since"),
    ],
)
def test_a_report_cannot_end_before_it_begins(parameters: list[tuple[str, str]], name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"`{name}` is later than") as refused_:
        read_report_question(parameters, now_ns=NOW_NS)
    assert refused_.value.detail[0].loc == ("query", name)
