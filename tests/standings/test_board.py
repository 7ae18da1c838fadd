import pytest

from squash_api.alerts.freshness import Combination, ExpectedSeries
from squash_api.judging.limits import Verdict
from squash_api.judging.states import LATE, NEVER_SEEN, OLD, PASSED, STATES, State, count_states
from squash_api.standings.board import (
    Entry,
    Row,
    Wanted,
    by_package,
    choices,
    in_state,
    with_rows,
    worst_first,
)
from squash_api.standings.standing import Standing
from tests.support.limits import limit

LATE_SERIES = ExpectedSeries("p.a.daily", (), 60.0, 3600.0, 0)


def row(state: State, tags: Combination = (), margin: float | None = None) -> Row:
    verdict = Verdict(limit(), "passed", 1.0, margin)
    return Row(Standing("p.a", tags, 1.0, "mmag", 0, 1, verdict=verdict), state)


def entry(name: str, *rows: Row, tags: tuple[str, ...] = ()) -> Entry:
    return Entry(1, name, tags=tags, rows=rows)


def test_a_metric_is_as_bad_as_its_worst_row() -> None:
    assert entry("p.a", row("CRITICAL"), row(PASSED)).states == ("CRITICAL",)


def test_a_metric_without_rows_was_never_seen() -> None:
    assert entry("p.a").states == (NEVER_SEEN,)


def test_what_is_late_is_said_beside_what_is_broken() -> None:
    assert Entry(1, "p.a", rows=(row("CRITICAL"),), late=(LATE_SERIES,)).states == (
        "CRITICAL",
        LATE,
    )
    assert Entry(1, "p.a", rows=(row(PASSED),), late=(LATE_SERIES,)).states == (LATE, PASSED)
    assert Entry(1, "p.a", late=(LATE_SERIES,)).states == (LATE, NEVER_SEEN)


def test_the_worst_state_comes_first_and_then_the_smallest_margin() -> None:
    found = [
        entry("p.never"),
        entry("p.far", row(PASSED, margin=0.5)),
        entry("p.near", row(PASSED, margin=0.1)),
        entry("p.b", row("INFO", margin=-9.0)),
        entry("p.a", row("CRITICAL", margin=-0.1)),
    ]
    names = [item.name for item in worst_first(found)]
    assert names == ["p.a", "p.b", "p.near", "p.far", "p.never"]


def test_a_metric_in_two_states_is_found_under_the_worse_and_as_late() -> None:
    item = Entry(1, "p.a", rows=(row("INFO"),), late=(LATE_SERIES,))
    assert [in_state([item], state) for state in (LATE, None)] == [[item]] * 2
    assert [in_state([item], state) for state in ("INFO", PASSED)] == [[], []]
    worse = Entry(1, "p.a", rows=(row("CRITICAL"),), late=(LATE_SERIES,))
    assert [in_state([worse], state) for state in (LATE, "CRITICAL")] == [[worse]] * 2


def test_states_are_counted_in_their_order() -> None:
    found = [entry("p.a"), entry("p.b", row("INFO")), entry("p.c", row("INFO"))]
    counts = count_states(item.state for item in found)
    assert list(counts.items()) == [("INFO", 2), (NEVER_SEEN, 1)]


def test_the_worst_package_comes_first() -> None:
    found = [entry("p.a"), entry("q.b", row("CRITICAL")), entry("q.c", row(OLD))]
    assert list(by_package(found).items()) == [
        ("q", {"CRITICAL": 1, OLD: 1}),
        ("p", {NEVER_SEEN: 1}),
    ]


@pytest.mark.parametrize(
    ("wanted", "is_it"),
    [
        (Wanted(), True),
        (Wanted(package="p"), True),
        (Wanted(package="q"), False),
        (Wanted(text="P.A"), True),
        (Wanted(text="b"), False),
        (Wanted(tag="photometry"), True),
        (Wanted(tag="astrometry"), False),
        (Wanted(tag="detector=42"), True),
    ],
)
def test_metrics_are_picked_by_what_they_are(wanted: Wanted, *, is_it: bool) -> None:
    assert wanted.is_of_metric(entry("p.a", tags=("photometry",))) == is_it


def test_terms_are_the_tags_that_values_must_have() -> None:
    values = {"dataset": "DC2", "filter": "r", "instrument": "I"}
    wanted = Wanted(values=values, tag="env_name = ldf=1")
    assert wanted.terms == (
        ("dataset", "DC2"),
        ("filter", "r"),
        ("instrument", "I"),
        ("env_name", "ldf=1"),
    )
    assert Wanted(tag="photometry").terms == ()


def test_a_metric_is_narrowed_to_the_rows_that_are_asked_for() -> None:
    one, other = (("filter", "r"),), (("filter", "g"),)
    item = Entry(1, "p.a", rows=(row("CRITICAL", one), row(PASSED, other)), late=(LATE_SERIES,))
    narrowed = with_rows(item, [other])
    assert narrowed is not None
    assert narrowed.states == (PASSED,)
    assert with_rows(item, []) is None


def test_choices_are_what_there_is() -> None:
    found = [
        entry("q.a", row(PASSED, (("dataset", "DC2"), ("tract", "7"))), tags=("t",)),
        entry("p.a", row(PASSED, (("dataset", "A"),))),
    ]
    made = choices(found, ["dataset", "filter"])
    assert (made.packages, made.tags) == (("p", "q"), ("t",))
    assert made.values == {"dataset": ("A", "DC2"), "filter": ()}


def test_states_are_named_once() -> None:
    assert len(set(STATES)) == len(STATES)
