from typing import Any

from squash_api.generate.chronograf import cells
from squash_api.generate.panels import FINE, LEVEL_COLORS, PLAIN, Cell, Note, Table, limit_steps
from squash_api.judging.alerts import Alert
from tests.support.limits import limit


def test_a_cell_has_its_place_and_an_identity() -> None:
    found = cells.placed({"name": "a"}, Cell(Note(""), 1, 2, 3, 4), 7)
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


def table() -> dict[str, Any]:
    return cells.table(Table("t", "SELECT 1", "m", {"b": "B"}, sort_by="a", digits=1))


def test_a_table_shows_its_columns_in_order_and_hides_others() -> None:
    assert [(item["internalName"], item["visible"]) for item in table()["fieldOptions"]] == [
        ("m.b", True),
        ("m.a", False),
        ("time", False),
    ]


def test_a_table_can_be_sorted_by_a_hidden_column() -> None:
    assert table()["tableOptions"]["sortBy"]["internalName"] == "m.a"


def test_the_base_colour_comes_first_and_is_the_bad_one_for_a_lower_limit() -> None:
    colors = cells.stepped_colors(limit_steps([limit(">=", 5.0)]))
    assert (colors[0]["id"], colors[0]["hex"]) == ("base", LEVEL_COLORS["WARNING"])


def test_the_colours_of_a_tile_have_different_ids_and_texts_as_values() -> None:
    colors = cells.stepped_colors(limit_steps([limit("!=", 5.0, alert=Alert(level="INFO"))]))
    assert len({color["id"] for color in colors}) == len(colors) == 3
    assert all(isinstance(color["value"], str) for color in colors)


def test_every_colour_has_the_name_that_chronograf_has_for_it() -> None:
    steps = [(0.0, color) for color in (FINE, *LEVEL_COLORS.values(), PLAIN[0][1])]
    names = [color["name"] for color in cells.stepped_colors(steps)]
    assert names == ["rainforest", "fire", "pineapple", "pool", "castle"]
