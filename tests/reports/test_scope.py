from typing import Any

import pytest

from squash_api.errors import InvalidInputError
from squash_api.reports.scope import Scope, filters_of, read_request, title_of

# 2026-11-22 12:00 UTC
NOW_NS = 1_795_348_800 * 10**9
DAY_NS = 86_400 * 10**9


def scope(**given: str) -> Scope:
    return read_request(given.items(), now_ns=NOW_NS).scope


def refusal(*parameters: tuple[str, str]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        read_request(parameters, now_ns=NOW_NS)
    return caught.value


def test_without_run_release_or_time_it_is_about_a_week() -> None:
    found = scope(package="p")
    assert found.since_ns == NOW_NS - 7 * DAY_NS


def test_it_has_no_end_because_clocks_may_be_ahead() -> None:
    assert scope(since="24h").until_ns is None


def test_a_run_needs_no_time() -> None:
    assert scope(run="42") == Scope(runs=("42",))


def test_a_release_needs_no_time() -> None:
    assert scope(version_tag="w_2026_47") == Scope(version_tags=("w_2026_47",))


def test_a_pipeline_alone_is_of_a_week() -> None:
    assert scope(pipeline="drp").since_ns == NOW_NS - 7 * DAY_NS


def test_time_may_be_said_as_how_long_ago() -> None:
    assert scope(since="24h").since_ns == NOW_NS - DAY_NS


def test_a_period_that_only_ends_has_the_week_before_its_end() -> None:
    found = scope(until="2026-11-20T00:00Z")
    assert found.until_ns is not None
    assert found.since_ns == found.until_ns - 7 * DAY_NS


def test_the_last_day_counts_as_a_whole() -> None:
    found = scope(since="2026-11-20", until="2026-11-20")
    assert found.since_ns is not None
    assert found.until_ns == found.since_ns + DAY_NS - 1


def test_what_jobs_say_is_compared_as_the_record_keeps_it() -> None:
    found = scope(dataset="HSC RC2", run="a b")
    assert (found.where, found.runs) == ((("dataset", ("HSC_RC2",)),), ("a_b",))


def test_empty_parameters_are_not_given() -> None:
    request = read_request([("run", ""), ("dataset", " "), ("since", "1d")], now_ns=NOW_NS)
    assert request.given == {"since": ("1d",)}


def test_parameters_may_be_given_again() -> None:
    request = read_request([("filter", "r"), ("filter", "i")], now_ns=NOW_NS)
    assert request.scope.where == (("filter", ("r", "i")),)


def test_level_may_be_in_small_letters() -> None:
    assert scope(level="warning").level == "WARNING"


def test_comparison_keeps_the_filters_and_changes_what_is_compared() -> None:
    request = read_request(
        [("version_tag", "w_2"), ("compare_version_tag", "w_1"), ("package", "p")], now_ns=NOW_NS
    )
    assert request.other == Scope(version_tags=("w_1",), packages=("p",))


def test_without_comparison_there_is_no_other_scope() -> None:
    assert read_request([("run", "1")], now_ns=NOW_NS).other is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("datset", "RC2", "A report has no parameter 'datset'; did you mean dataset?"),
        ("since", "yesterday", "'yesterday' is no time"),
        ("until", "1950-01-01", "before 1970"),
        ("until", "9999-01-01", "far ahead"),
        ("compare_since", "?", "'?' is no time"),
        ("level", "bad", "no level"),
        ("run", "a" * 1001, "1000 characters at most"),
        ("run", "a\0b", "no NUL"),
    ],
)
def test_wrong_parameters_are_refused(name: str, text: str, message: str) -> None:
    assert message in refusal((name, text)).message


def test_every_problem_is_named() -> None:
    error = refusal(("a", "1"), ("since", "?"), ("level", "x"))
    assert [item.loc for item in error.detail] == [
        ("query", "a"),
        ("query", "since"),
        ("query", "level"),
    ]


def test_a_time_is_given_once() -> None:
    assert "once" in refusal(("since", "1d"), ("since", "2d")).message


def test_there_is_a_limit_to_lists() -> None:
    assert "50 times" in refusal(*[("run", str(number)) for number in range(51)]).message


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({"run": "42", "pipeline": "drp"}, "Run 42, pipeline drp"),
        ({"version_tag": "w_47"}, "Release w_47"),
        (
            {"since": "2026-11-20", "until": "2026-11-21"},
            "2026-11-20 00:00 to 2026-11-21 23:59 UTC",
        ),
        ({"run": "1", "since": "2026-11-20"}, "Run 1, 2026-11-20 00:00 to 2026-11-22 12:00 UTC"),
        ({"run": "1", "until": "2026-11-20"}, "Run 1, until 2026-11-20 23:59 UTC"),
    ],
)
def test_title_says_what_it_is_about(given: dict[str, str], title: str) -> None:
    assert title_of(scope(**given), now_ns=NOW_NS) == title


def test_several_runs_are_named() -> None:
    assert title_of(Scope(runs=("1", "2")), now_ns=NOW_NS) == "Runs 1, 2"


def test_a_scope_without_bounds_is_everything() -> None:
    assert title_of(Scope(), now_ns=NOW_NS) == "Everything"


def test_filters_are_named_beside_the_title() -> None:
    given: dict[str, Any] = {"run": "1", "package": "p", "filter": "r", "level": "CRITICAL"}
    assert filters_of(scope(**given)) == {
        "filter": ("r",),
        "package": ("p",),
        "level": ("CRITICAL",),
    }
