from typing import Any

from squash_api.index.code_changes import CodeChanges, PackageChange
from squash_api.index.contexts import JobContext
from squash_api.judging.limits import Limit, limits_of
from squash_api.judging.specifications import specification_from_json
from squash_api.pages.metric import (
    changes_text,
    choices_of,
    clip,
    in_order,
    line_text,
    note_of,
    picture_of,
    shown_of,
)
from squash_api.pages.rendering import tags_text
from squash_api.schema.names import Context, Schema
from squash_api.trends.points import TrendLine
from squash_api.trends.trends import Judged, Trend
from tests.support.definitions import spec


def limit(last: str = "design", value: float = 5.0, **changes: Any) -> Limit:
    item = specification_from_json(spec(f"p.a.{last}", value=value, **changes))
    return limits_of([item], unit="mmag", schema=Schema())[0]


def judged(value: float = 1.0, *broken: Limit, x: float | None = None, **tags: str) -> Judged:
    context = Context({"instrument": "HSC", **tags}, {"run_id": "R17"})
    return Judged(value, x, JobContext(7, 5 * 10**6, 6, context), None, bool(broken), broken)


def trend(*values: Judged, count: int | None = None, **changes: Any) -> Trend:
    found: dict[str, Any] = {
        "common": (),
        "lines": [TrendLine((), values)] if values else [],
        "limits": [],
        "count": len(values) if count is None else count,
        "outside": 0,
    }
    return Trend(**(found | changes))


def note(found: Trend) -> str:
    picture = picture_of(found, name="p.a", unit="mmag", x="time", x_unit=None)
    return note_of(found, picture, x="time")


def test_a_value_is_a_point_that_says_all_of_its_job() -> None:
    found = trend(judged(9.0, limit(), filter="r"), judged(1.0, filter="g"))
    picture = picture_of(found, name="p.a", unit="mmag", x="time", x_unit=None)
    point = picture.lines[0].points[0]
    assert (point.x, point.y, point.job) == (5.0, 9.0, 7)
    assert (point.value, point.run, point.tags) == ("9 mmag", "R17", "r")
    assert (point.state, point.severity) == ("WARNING: design", 2)
    assert (picture.x_label, picture.y_label) == ("Date (UTC)", "p.a (mmag)")


def test_a_point_says_where_it_is_on_another_axis() -> None:
    found = trend(judged(x=1.25))
    picture = picture_of(found, name="p.a", unit="", x="meta.airmass", x_unit=None)
    assert (picture.x_label, picture.y_label, picture.is_time) == ("airmass", "p.a", False)
    assert picture.lines[0].points[0].tags == "meta.airmass 1.25"


def test_a_limit_of_some_values_says_of_which() -> None:
    some = limit(metadata_query={"filter": "r"})
    found = trend(judged(), limits=[(some, False)])
    picture = picture_of(found, name="p.a", unit="mmag", x="time", x_unit=None)
    assert picture.limits[0].scope == "filter r"


def test_a_row_of_the_table() -> None:
    shown = shown_of(judged(9.0, limit(), limit("minimum", 8.0, tags=["minimum"])))
    assert (shown.state, shown.broken, shown.run) == ("CRITICAL", "design, minimum", "R17")


def test_a_note_says_how_many_values_are_drawn() -> None:
    assert note(trend()) == "There are no values here."
    assert note(trend(judged())) == "1 value."
    assert note(trend(judged(), judged())) == "2 values."
    assert note(trend(judged(), count=1234)).startswith("1,234 values, of which 1 are drawn")


def test_a_note_says_what_has_no_place() -> None:
    assert note(trend(judged(), outside=3)) == "1 value. 3 more have no number for time."


def test_a_note_names_the_limits_that_are_out_of_reach() -> None:
    found = trend(judged(1.0), judged(2.0), limits=[(limit("far", 1e6), True)])
    assert note(found) == "2 values. Outside the plot: WARNING: far < 1e+06."


def changed(*names: str) -> CodeChanges:
    return CodeChanges("A", tuple(PackageChange(name, None, "1", None) for name in names))


def test_changes_are_named() -> None:
    assert changes_text(changed("afw", "daf")) == "afw, daf"
    gone = PackageChange("afw", "1", None, None, is_gone=True)
    assert changes_text(CodeChanges("A", (gone,))) == "-afw"


def test_many_changes_are_counted() -> None:
    assert changes_text(changed(*"abcdefgh")) == "a, b, c, d, e, f and 2 more"


def test_no_change_is_not_an_unknown_one() -> None:
    assert changes_text(changed()) == "none"
    assert changes_text(None) == changes_text(CodeChanges("A", None)) == ""


def test_lines_are_called_by_their_tags() -> None:
    assert line_text(TrendLine((("filter", "r"), ("ccdnum", "3")), ())) == "r · ccdnum 3"
    assert line_text(TrendLine((), ())) == "all"
    assert line_text(TrendLine((("filter", "r"),), (), series=9)) == "r (9 series)"
    assert line_text(TrendLine((), (), series=4, is_rest=True)) == "4 other series"


def test_tags_come_in_the_order_of_what_people_look_for() -> None:
    tags = {"ccdnum": "3", "band": "x", "filter": "r", "instrument": "HSC"}
    assert tags_text(in_order(tags)) == "HSC · r · ccdnum 3 · band x"


def test_long_texts_are_clipped() -> None:
    assert clip("a" * 120) == "a" * 120
    assert clip("a" * 10_000) == "a" * 119 + "…"


def test_what_is_chosen_is_among_the_choices() -> None:
    assert choices_of({"filter": ["g", "r"]}, ["filter", "dataset"], {"dataset": "x"}) == {
        "filter": ["g", "r"],
        "dataset": ["x"],
    }
