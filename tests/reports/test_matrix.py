import pytest

from squash_api.errors import InvalidInputError
from squash_api.reports import matrix as report_matrix
from squash_api.reports.matrix import (
    finding_of,
    instruments_of,
    make_matrix,
    near_of,
    rows_of,
    summary_of,
    worst_of,
)
from tests.support.reporting import cell, key, matrix, result, unlimited, verdict


def test_columns_are_by_dataset_then_by_band() -> None:
    found = matrix(
        *(result(dataset="b", filter=name) for name in "yig"), result(dataset="a", filter="HSC-R")
    )
    assert [column.label for column in found.columns] == ["a HSC-R", "b g", "b i", "b y"]


def test_what_has_neither_dataset_nor_filter_has_a_column_too() -> None:
    assert [column.label for column in matrix(result(detector="1")).columns] == ["\u2013"]


def test_instruments_are_told_apart_where_it_is_asked_for() -> None:
    items = [result(instrument="HSC"), result(instrument="LSSTCam")]
    assert instruments_of(items) == {"HSC", "LSSTCam"}
    found = make_matrix(items, has_instruments=True)
    assert [column.label for column in found.columns] == ["HSC", "LSSTCam"]
    assert len(matrix(*items).columns) == 1


def test_a_cell_is_as_bad_as_its_worst_result() -> None:
    found = cell(
        matrix(result(1.0, detector="1"), result(9.0, detector="2"), result(None, detector="3"))
    )
    assert (found.state, found.shown.tags) == ("WARNING", {"detector": "2"})
    assert (found.results, found.broken, found.not_measured) == (3, 1, 1)


def test_of_results_that_hold_the_one_nearest_to_its_limit_is_shown() -> None:
    found = cell(matrix(result(1.0, detector="1"), result(4.0, detector="2")))
    assert found.shown.value == 4.0


def test_a_cell_counts_all_values() -> None:
    found = cell(matrix(result(counts=(5, 2, 1), detector="1"), result(counts=(4, 1, 0))))
    assert (found.values, found.failed, found.absent) == (9, 3, 1)


def test_metrics_that_have_no_limit_are_no_rows() -> None:
    rows = rows_of(matrix(result(), unlimited()), {})
    assert [(row.metric, row.package, row.unit, row.state) for row in rows] == [
        ("p.a", "p", "mmag", "passed")
    ]


def test_a_metric_without_limit_that_is_not_measured_is_a_row() -> None:
    rows = rows_of(matrix(result(None, metric="p.b")), {})
    assert [row.state for row in rows] == ["not measured"]


def test_changes_are_in_the_cells() -> None:
    (row,) = rows_of(matrix(result(filter="r")), {key(filter="r"): "mended"})
    assert row.cells[0].change == "mended"


def test_the_worst_level_comes_first_then_the_largest_excess() -> None:
    found = worst_of(
        [
            result(6.0, job_id=1),
            result(50.0, job_id=2),
            result(9.0, verdict(9.0, last="minimum", limit=8.0), job_id=3),
            result(1.0, job_id=4),
        ]
    )
    assert [item.job_id for item in found] == [3, 2, 1]


def test_what_is_within_a_tenth_of_its_limit_is_near() -> None:
    found = near_of([result(4.9, job_id=1), result(4.6, job_id=2), result(4.0), result(6.0)])
    assert [item.job_id for item in found] == [1, 2]


def test_a_finding_tells_of_the_limit_and_of_the_others_that_are_broken() -> None:
    found = finding_of(
        result(9.0, verdict(9.0), verdict(9.0, last="minimum", limit=8.0), filter="r")
    )
    assert (found.specification, found.level, found.threshold) == ("p.a.minimum", "CRITICAL", 8.0)
    assert (found.also_broken, found.tags) == (["p.a.design"], {"filter": "r"})
    assert found.margin == pytest.approx(-0.125)
    assert found.time == "2026-11-22T12:00:00Z"


def test_a_matrix_that_nobody_could_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_matrix, "MOST_CELLS", 1)
    with pytest.raises(InvalidInputError, match="ask for less"):
        matrix(result(filter="g"), result(filter="r"))


# The sentence above


def test_nothing_measured_is_no_data() -> None:
    found = summary_of([], jobs=0, missing=3)
    assert found.state == "not measured"
    assert found.headline.startswith("No data")


def test_values_without_limits_are_not_judged() -> None:
    found = summary_of([unlimited()], jobs=1, missing=0)
    assert (found.state, found.no_limit) == ("no limit", 1)
    assert found.headline.startswith("Nothing was judged")


def test_only_absent_values_are_not_judged() -> None:
    found = summary_of([result(None), unlimited()], jobs=1, missing=0)
    assert found.headline == (
        "Nothing was judged: no limit applies to what was measured; 1 series not measured."
    )
    found = summary_of([result(None)], jobs=1, missing=0)
    assert (found.state, found.headline) == (
        "not measured",
        "Nothing was judged: 1 series not measured.",
    )


def test_all_passed_is_said_only_if_nothing_is_missing() -> None:
    assert summary_of([result(), result()], jobs=1, missing=0).headline == (
        "All 2 series with limits meet them."
    )
    found = summary_of([result(), result(None)], jobs=1, missing=2)
    assert found.state == "not measured"
    assert found.headline == (
        "1 series within limits, none broken; but 1 more not measured and 2 metrics without "
        "any value."
    )


def test_violations_are_counted_by_level() -> None:
    found = summary_of(
        [result(9.0), result(9.0, verdict(9.0, last="stretch")), result(1.0)], jobs=3, missing=0
    )
    assert (found.state, found.warning, found.info, found.passed) == ("WARNING", 1, 1, 1)
    assert found.headline == "2 of 3 series break a limit: 1 WARNING, 1 INFO."


def test_one_violation_is_told_of_in_the_singular() -> None:
    found = summary_of([result(9.0)], jobs=1, missing=1)
    assert found.headline == (
        "1 of 1 series breaks a limit: 1 WARNING; 1 metric without any value."
    )


def test_numbers_of_values_are_added_up() -> None:
    found = summary_of([result(counts=(5, 2, 1)), result(counts=(4, 1, 0))], jobs=2, missing=0)
    assert (found.jobs, found.results) == (2, 2)
    assert (found.values, found.failed, found.absent) == (9, 3, 1)
