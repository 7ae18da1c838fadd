from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from squash_api.trends.points import MOST_LINES, MOST_POINTS, Axis, TrendPoints, number_of

G: Mapping[str, str] = {"instrument": "HSC", "filter": "g"}
R: Mapping[str, str] = {"instrument": "HSC", "filter": "r"}


def no_badness(_: float) -> float:
    return 0.0


def row(job_id: int, value: float = 1.0, *, tags: int = 1, other: Any = None) -> Any:
    """Return a value whose time is the job's id."""
    return (job_id, job_id, tags, value, other)


def points_of(
    rows: Sequence[Any],
    *sets: Mapping[str, str],
    axis: Axis = Axis(),  # noqa: B008 - immutable
) -> TrendPoints:
    found = TrendPoints(axis, dict(enumerate(sets or (G,), 1)))
    found.take(rows)
    return found


def test_a_line_for_each_combination_named_by_what_differs() -> None:
    found = points_of([row(1), row(2, tags=2)], R, G)
    assert found.common == (("instrument", "HSC"),)
    assert [line.tags for line in found.choose(no_badness)] == [
        (("filter", "g"),),
        (("filter", "r"),),
    ]


def test_tags_by_which_alerts_are_not_told_apart_make_no_line() -> None:
    found = points_of([row(1), row(2, tags=2)], {**G, "env_name": "a"}, {**G, "env_name": "b"})
    assert [line.series for line in found.choose(no_badness)] == [1]


def test_lines_are_ordered_by_number_where_there_is_one() -> None:
    sets = [{"ccdnum": text} for text in ("10", "9", "x")]
    found = points_of([row(index, tags=index) for index in (1, 2, 3)], *sets)
    tags = [line.tags[0][1] for line in found.choose(no_badness)]
    assert tags == ["9", "10", "x"]


def test_points_are_in_the_order_of_time_not_of_arrival() -> None:
    late = (2, 5, 1, 1.0, None)
    early = (3, 4, 1, 1.0, None)
    (line,) = points_of([late, early]).choose(no_badness)
    assert [point.job_id for point in line.values] == [3, 2]


def test_the_extremes_of_many_values_are_kept() -> None:
    rows = [row(number, float(number % 7)) for number in range(1, 20_001)]
    rows[5_000] = row(5_001, 99.0)
    rows[15_000] = row(15_001, -99.0)
    found = points_of(rows)
    (line,) = found.choose(no_badness)
    assert found.count == 20_000
    assert len(line.values) <= MOST_POINTS
    assert {5_001, 15_001} <= {point.job_id for point in line.values}


def test_more_values_than_are_kept_in_memory_keep_their_extremes() -> None:
    found = points_of([row(number) for number in range(1, 30_001)])
    found.take([row(30_001, 5.0)])
    (line,) = found.choose(no_badness)
    assert found.count == 30_001
    assert 30_001 in {point.job_id for point in line.values}


def test_of_many_detectors_those_of_a_filter_are_shown_together() -> None:
    sets = [{**tags, "detector": str(n)} for tags in (G, R) for n in range(MOST_LINES)]
    rows = [row(number, tags=number) for number in range(1, len(sets) + 1)]
    lines = points_of(rows, *sets).choose(no_badness)
    assert [(line.tags, line.series) for line in lines] == [
        ((("filter", "g"),), MOST_LINES),
        ((("filter", "r"),), MOST_LINES),
    ]


def test_of_too_many_series_the_worst_have_lines() -> None:
    sets = [{"filter": f"f{number}"} for number in range(MOST_LINES + 3)]
    rows = [row(number, float(number), tags=number) for number in range(1, len(sets) + 1)]
    lines = points_of(rows, *sets).choose(lambda value: value)
    assert (lines[-1].is_rest, lines[-1].series, lines[-1].tags) == (True, 3, ())
    assert {point.value for point in lines[-1].values} == {1.0, 2.0, 3.0}


def test_values_over_metadata_are_in_its_order() -> None:
    rows = [row(1, other='{"meta.airmass":1.5}'), row(2, other='{"meta.airmass":1.2}')]
    found = points_of(rows, axis=Axis("meta.airmass"))
    (line,) = found.choose(no_badness)
    assert [found.xs[point.job_id] for point in line.values] == [1.2, 1.5]
    assert [point.time_ns for point in line.values] == [2, 1]


@pytest.mark.parametrize(
    ("axis", "other"),
    [
        (Axis("meta.airmass"), "{}"),
        (Axis("meta.airmass"), '{"meta.airmass":"high"}'),
        (Axis("filter", is_tag=True), None),
        (Axis("p.b"), None),
    ],
)
def test_values_without_a_number_on_the_axis_are_counted(axis: Axis, other: Any) -> None:
    found = points_of([row(1, other=other)], axis=axis)
    assert (found.count, found.outside, found.choose(no_badness)) == (0, 1, [])


@pytest.mark.parametrize("key", ['meta.a"b', "meta.\\", "meta.a.b", "meta.é", "meta.(x)"])
def test_any_key_can_be_the_axis(key: str) -> None:
    fields = {"meta.note.text": f'"{key}":7', "meta.b": 1.0, key: -2.5e-3, f"{key}.text": "9"}
    found = points_of([row(1, other=orjson.dumps(fields).decode())], axis=Axis(key))
    assert found.xs == {1: -2.5e-3}


def test_a_key_in_a_text_is_none() -> None:
    fields = {"meta.note.text": '"meta.x":7', 'meta."meta.x': 8}
    found = points_of([row(1, other=orjson.dumps(fields).decode())], axis=Axis("meta.x"))
    assert (found.xs, found.outside) == ({}, 1)


def test_a_tag_that_is_a_number_can_be_the_axis() -> None:
    found = points_of([row(1)], {"ccdnum": "12"}, axis=Axis("ccdnum", is_tag=True))
    assert found.xs == {1: 12.0}


def test_another_metric_can_be_the_axis() -> None:
    assert points_of([row(1, other=7.5)], axis=Axis("p.b")).xs == {1: 7.5}


@pytest.mark.parametrize("ends", [(-1.7e308, 1.7e308), (3.0, 3.0)])
def test_places_at_the_ends_of_all_numbers_and_at_one_place_can_be_thinned(
    ends: tuple[float, float],
) -> None:
    rows = [row(number, other=ends[number % 2]) for number in range(1, 5_001)]
    found = points_of(rows, axis=Axis("p.b"))
    (line,) = found.choose(no_badness)
    assert 0 < len(line.values) <= MOST_POINTS


def test_sets_of_tags_that_are_not_known_yet_are_passed_over() -> None:
    assert points_of([row(1, tags=9)]).count == 0


def test_nothing_is_no_line() -> None:
    found = points_of([])
    assert (found.choose(no_badness), found.common) == ([], ())


@pytest.mark.parametrize("text", [None, "", "x", "nan", "inf", "1e999"])
def test_what_is_no_finite_number_is_none(text: str | None) -> None:
    assert number_of(text) is None
