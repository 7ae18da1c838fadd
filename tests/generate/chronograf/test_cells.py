from typing import Any

import pytest

from squash_api.generate.chronograf import cells
from squash_api.generate.chronograf.cells import FINE, LEVEL_COLORS, Cell, Column, stacked
from squash_api.judging.alerts import LEVELS, Alert
from tests.support.limits import limit


def half(height: int = 3) -> list[Cell]:
    return [Cell({}, 0, 0, 2, height), Cell({}, 2, 0, 4, height)]


def whole(height: int = 4) -> list[Cell]:
    return [Cell({}, 0, 0, 6, height), Cell({}, 6, 0, 6, height)]


def places(found: list[Cell]) -> list[tuple[int, int, int, int]]:
    return [(cell.x, cell.y, cell.w, cell.h) for cell in found]


def test_two_halves_share_a_row() -> None:
    found = places(stacked([half(), half()], top=4))
    assert found == [(0, 4, 2, 3), (2, 4, 4, 3), (6, 4, 2, 3), (8, 4, 4, 3)]


def test_a_whole_block_passes_a_half_that_waits_for_another() -> None:
    found = places(stacked([half(), whole(), half()], top=0))
    assert [place[1] for place in found] == [0, 0, 4, 4, 4, 4]


def test_the_last_half_stands_alone_at_the_end() -> None:
    found = places(stacked([half(), whole()], top=0))
    assert found[-2:] == [(0, 4, 2, 3), (2, 4, 4, 3)]


def test_a_cell_has_its_place_and_an_identity() -> None:
    found = Cell({"name": "a"}, 1, 2, 3, 4).to_json(7)
    assert found == {"name": "a", "x": 1, "y": 2, "w": 3, "h": 4, "i": "cell-7"}


def test_a_note_has_a_query_or_else_nothing_is_shown() -> None:
    found = cells.note("# Text")
    assert [query["query"] for query in found["queries"]] == [""]
    assert found["note"] == "# Text"


def graph() -> dict[str, Any]:
    colors = ["#000000", "#FFFFFF"]
    return cells.line_graph("PA1", ["SELECT 1"], label="PA1 [mmag]", colors=colors, about="")


def test_a_graph_has_its_unit_on_the_axis_and_not_on_every_tick() -> None:
    axis = graph()["axes"]["y"]
    assert (axis["label"], axis["suffix"]) == ("PA1 [mmag]", "")


def test_a_graph_has_colours_of_one_scale() -> None:
    colors = [(color["type"], color["hex"]) for color in graph()["colors"]]
    assert colors == [("scale", "#000000"), ("scale", "#FFFFFF")]


def table(*columns: Column, sort_by: str) -> dict[str, Any]:
    colors = cells.stepped_colors(FINE)
    return cells.table("t", "SELECT 1", columns, sort_by=sort_by, digits=1, colors=colors)


def test_a_table_shows_its_columns_in_order_and_hides_those_without_heading() -> None:
    found = table(Column("m.b", "B"), Column("m.a", ""), sort_by="m.a")
    assert [(item["internalName"], item["visible"]) for item in found["fieldOptions"]] == [
        ("m.b", True),
        ("m.a", False),
    ]


def test_a_table_can_be_sorted_by_a_hidden_column() -> None:
    found = table(Column("m.b", "B"), Column("m.a", ""), sort_by="m.a")
    assert found["tableOptions"]["sortBy"]["internalName"] == "m.a"


def color_of(colors: list[dict[str, str]], value: float) -> str:
    """Return the colour as Chronograf finds it: the last step that the value reaches."""
    reached = sorted(
        (color for color in colors if value >= float(color["value"])),
        key=lambda color: float(color["value"]),
    )
    return reached[-1]["hex"]


@pytest.mark.parametrize(
    ("operator", "good", "bad"),
    [("<=", 8.0, 8.000001), ("<", 7.9, 8.0), (">=", 8.0, 7.9), (">", 8.1, 8.0), ("==", 8.0, 8.1)],
)
def test_a_broken_limit_has_the_colour_of_its_level(operator: str, good: float, bad: float) -> None:
    colors = cells.limit_colors([limit(operator, 8.0, alert=Alert(level="CRITICAL"))])
    assert color_of(colors, good) == FINE[1]
    assert color_of(colors, bad) == LEVEL_COLORS["CRITICAL"][1]


def test_the_base_colour_comes_first_and_is_the_bad_one_for_a_lower_limit() -> None:
    colors = cells.limit_colors([limit(">=", 5.0)])
    assert (colors[0]["id"], colors[0]["hex"]) == ("base", LEVEL_COLORS["WARNING"][1])


def test_every_level_has_a_colour_of_its_own() -> None:
    hexes = {LEVEL_COLORS[level][1] for level in LEVELS} | {FINE[1]}
    assert len(hexes) == len(LEVELS) + 1


def test_a_value_without_limits_is_neither_good_nor_bad() -> None:
    (color,) = cells.limit_colors([])
    assert color["hex"] == cells.NEUTRAL[1]


def test_the_colours_of_a_tile_have_different_ids_and_texts_as_values() -> None:
    colors = cells.limit_colors([limit("!=", 5.0, alert=Alert(level="INFO"))])
    assert len({color["id"] for color in colors}) == len(colors) == 3
    assert all(isinstance(color["value"], str) for color in colors)
