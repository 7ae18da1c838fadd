import pytest

from squash_api.reports.document import Change, Comparison, Kind
from squash_api.reports.matrix import Matrix, changes_of, compare
from squash_api.reports.results import Result
from tests.support.reporting import key, matrix, result, unlimited, verdict

PASSED, NEAR, BROKEN, ABSENT = result(1.0), result(4.9), result(9.0), result(None)
CRITICAL = result(9.0, verdict(9.0, last="minimum", limit=8.0))


def compared(before: Matrix, after: Matrix) -> Comparison:
    return compare(before, after, changes_of(before, after), title="Run 1", jobs=3)


def change(before: Result, after: Result) -> Change:
    (found,) = compared(matrix(before), matrix(after)).changes
    return found


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (PASSED, BROKEN, "newly broken"),
        (ABSENT, BROKEN, "newly broken"),
        (BROKEN, CRITICAL, "worse"),
        (CRITICAL, BROKEN, "better"),
        (BROKEN, BROKEN, "still broken"),
        (BROKEN, PASSED, "mended"),
        (PASSED, ABSENT, "no longer measured"),
        (BROKEN, ABSENT, "no longer measured"),
        (ABSENT, PASSED, "measured again"),
        (PASSED, NEAR, "nearer to its limit"),
        (PASSED, PASSED, None),
        (NEAR, PASSED, None),
        (ABSENT, ABSENT, None),
        (PASSED, result(3.0), None),
    ],
)
def test_what_has_become_of_a_cell(before: Result, after: Result, kind: Kind | None) -> None:
    assert changes_of(matrix(before), matrix(after)).get(key()) == kind


def test_what_is_there_only_now_is_new_or_newly_broken() -> None:
    after = matrix(result(1.0, filter="g"), result(9.0, filter="r"))
    assert changes_of(matrix(), after) == {key(filter="g"): "new", key(filter="r"): "newly broken"}


def test_what_was_never_measured_is_not_no_longer_measured() -> None:
    assert changes_of(matrix(), matrix(ABSENT)) == {key(): "new"}


def test_changes_of_equal_rank_are_in_the_order_of_the_cells() -> None:
    cells = [result(9.0, filter=name) for name in "yzrugi"]
    found = [item.column for item in compared(matrix(*reversed(cells)), matrix(*cells)).changes]
    assert found == [item.column for item in compared(matrix(), matrix(*cells)).changes]


def test_what_was_there_only_before_is_gone() -> None:
    assert changes_of(matrix(PASSED), matrix()) == {key(): "gone"}


def test_what_has_no_limit_changes_nothing() -> None:
    assert changes_of(matrix(unlimited()), matrix()) == {}
    assert changes_of(matrix(), matrix(unlimited())) == {}


def test_a_change_has_both_values_and_margins() -> None:
    found = change(result(1.0, job_id=1, filter="r"), result(9.0, job_id=2, filter="r"))
    assert (found.value_before, found.value, found.unit) == (1.0, 9.0, "mmag")
    assert (found.state_before, found.state) == ("passed", "WARNING")
    assert (found.job_before, found.job_id) == (1, 2)
    assert found.margin_before == pytest.approx(0.8)
    assert found.margin == pytest.approx(-0.8)
    assert found.column == "r"


def test_margins_to_different_limits_are_not_put_side_by_side() -> None:
    assert change(BROKEN, CRITICAL).margin_before is None


def test_values_of_different_detectors_are_not_put_side_by_side() -> None:
    before = matrix(result(9.0, detector="1"), result(1.0, detector="2"))
    after = matrix(result(1.0, detector="1"), result(9.0, detector="2"))
    (found,) = compared(before, after).changes
    assert (found.kind, found.value_before, found.value) == ("still broken", None, 9.0)
    assert (found.broken_before, found.broken) == (1, 1)


def test_the_worst_changes_come_first() -> None:
    before = matrix(result(1.0, filter="g"), result(9.0, filter="r"), result(1.0, filter="i"))
    after = matrix(result(9.0, filter="g"), result(1.0, filter="r"), result(None, filter="i"))
    found = compared(before, after)
    kinds = ["newly broken", "no longer measured", "mended"]
    assert [item.kind for item in found.changes] == kinds
    assert found.counts == dict.fromkeys(kinds, 1)


def test_what_is_as_before_is_counted() -> None:
    before = matrix(result(1.0, filter="g"), result(9.0, filter="r"))
    after = matrix(result(1.0, filter="g"), result(1.0, filter="r"))
    found = compared(before, after)
    assert (found.unchanged, found.headline) == (1, "Of 2 cells: 1 mended; 1 as before.")


def test_nothing_changed_is_said() -> None:
    assert compared(matrix(PASSED), matrix(PASSED)).headline == (
        "Nothing has changed: 1 cell as before."
    )


def test_nothing_to_compare_with_is_said() -> None:
    assert compared(matrix(), matrix(PASSED)).headline.startswith("There is nothing to compare")
