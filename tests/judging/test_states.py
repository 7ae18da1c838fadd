import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.judging.alerts import WORST_FIRST
from squash_api.judging.states import (
    BROKEN,
    MEANINGS,
    RANKS,
    STATES,
    State,
    added,
    count_states,
    counts_text,
    slug_of,
    state_of,
    worst_state,
)


def test_the_list_is_that_of_the_design() -> None:
    assert ", ".join(STATES) == (
        "CRITICAL, WARNING, late, not measured, INFO, passed, no limit, old, never seen"
    )


def test_every_state_has_a_rank_and_a_meaning() -> None:
    assert list(MEANINGS) == list(RANKS) == list(STATES)
    assert list(RANKS.values()) == list(range(len(STATES)))


def test_levels_are_in_the_same_order_as_everywhere() -> None:
    assert BROKEN == WORST_FIRST


@pytest.mark.parametrize(
    ("severity", "is_limited", "is_measured", "state"),
    [
        (0, False, True, "no limit"),
        (0, True, True, "passed"),
        (1, True, True, "INFO"),
        (3, True, True, "CRITICAL"),
        (0, True, False, "not measured"),
        (0, False, False, "not measured"),
    ],
)
def test_a_value_has_a_state(
    severity: int, state: str, *, is_limited: bool, is_measured: bool
) -> None:
    assert state_of(severity, is_limited=is_limited, is_measured=is_measured) == state


def test_the_worst_state_is_the_first_in_the_list() -> None:
    assert worst_state(["passed", "INFO", "not measured"], "never seen") == "not measured"
    assert worst_state(["not measured", "late", "passed"], "never seen") == "late"
    assert worst_state([], "never seen") == "never seen"


def test_a_state_is_written_for_css() -> None:
    assert [slug_of(state) for state in ("CRITICAL", "not measured")] == [
        "critical",
        "not-measured",
    ]


def test_counts_say_what_they_count() -> None:
    assert counts_text({"passed": 2, "CRITICAL": 1}, "metric") == "3 metrics: 1 CRITICAL, 2 passed"
    assert counts_text({"passed": 1}, "series") == "1 series: 1 passed"
    assert counts_text({}, "metric") == "0 metrics"
    assert counts_text({"INFO": 5, "WARNING": 1}) == "1 WARNING, 5 INFO"


@given(st.lists(st.lists(st.sampled_from(STATES))))
def test_totals_add_up(parts: list[list[State]]) -> None:
    counts = added(count_states(part) for part in parts)
    assert sum(counts.values()) == sum(map(len, parts))
    assert list(counts) == sorted(counts, key=STATES.index)
    assert counts == count_states(state for part in parts for state in part)
