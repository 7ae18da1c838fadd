import json
from typing import Any

import pytest
from nbformat import v4

from squash_api.pipelines.notebook_parameters import (
    INJECTED,
    TAG,
    ParameterError,
    chosen,
    in_force,
    parameters_of,
    with_parameters,
)

_CELL = """
%matplotlib inline
# The release.
release: str | None = None
since = "90d"
plots: int = 12
scale: float = 1
is_long = False
filters = ["g", "r"]
edges = (1, 2)
names = {"a": 1}
today = compute()
anything = None
a = b = 5
print(release)
"""


def notebook(source: str = _CELL, *, tags: tuple[str, ...] = (TAG,)) -> Any:
    cells = [
        v4.new_markdown_cell("# Title"),  # type: ignore[no-untyped-call]
        v4.new_code_cell(source, metadata={"tags": list(tags)}),  # type: ignore[no-untyped-call]
        v4.new_code_cell("since"),  # type: ignore[no-untyped-call]
    ]
    return v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]


def read(**given: str) -> dict[str, Any]:
    return chosen(parameters_of(notebook()), given)


def test_every_assignment_of_the_cell_is_a_parameter() -> None:
    names = [item.name for item in parameters_of(notebook())]
    assert names == (
        [
            "release",
            "since",
            "plots",
            "scale",
            "is_long",
            "filters",
            "edges",
            "names",
            "today",
            "anything",
            "a",
            "b",
        ]
    )


def test_a_notebook_without_the_tag_has_none() -> None:
    assert parameters_of(notebook(tags=())) == []


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("release", "w_2026_50", "w_2026_50"),
        ("release", "2026", "2026"),
        ("since", "7", "7"),
        ("since", "a=b", "a=b"),
        ("plots", " 6 ", 6),
        ("scale", "2", 2.0),
        ("scale", "1e-3", 1e-3),
        ("is_long", "true", True),
        ("is_long", "No", False),
        ("filters", '["i"]', ["i"]),
        ("filters", "('i', 'z')", ["i", "z"]),
        ("edges", "[3, 4]", (3, 4)),
        ("names", '{"b": true}', {"b": True}),
        ("today", "2026-11-28", "2026-11-28"),
        ("anything", "3", 3),
        ("anything", "null", None),
        ("anything", "three", "three"),
    ],
)
def test_the_default_tells_the_type(name: str, text: str, value: Any) -> None:
    found = read(**{name: text})[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "must"),
    [
        ("plots", "6.5", "is not a whole number: its default is 12"),
        ("scale", "wide", "is not a number"),
        ("scale", "nan", "is not a number"),
        ("is_long", "perhaps", "is not true or false: its default is False"),
        ("filters", "g", "is not a list, such as"),
        ("names", "[1]", "is not an object, such as"),
        ("filters", "[" * 5000, "is not a list, such as"),
    ],
)
def test_what_is_no_value_of_the_type_is_an_error(name: str, text: str, must: str) -> None:
    with pytest.raises(ParameterError, match=f"^parameter {name}: ") as caught:
        read(**{name: text})
    assert must in str(caught.value)


def test_an_unknown_parameter_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ParameterError, match=r"no parameter `filter` .*did you mean `filters`"):
        read(filter="g")
    with pytest.raises(ParameterError, match="there are release, since"):
        read(zzz="g")
    with pytest.raises(ParameterError, match="no cell of the notebook is tagged parameters"):
        chosen([], {"a": "1"})


def test_a_cell_that_is_not_python_is_an_error() -> None:
    with pytest.raises(ParameterError, match="cannot be read as Python"):
        parameters_of(notebook("release <- 'w_2026_50'\nx y"))


def test_what_was_given_stands_behind_the_defaults() -> None:
    values = {"since": 'a "b" \\ c', "filters": ["i"]}
    made = with_parameters(notebook(), values, v4.new_code_cell)
    assert [cell.metadata.get("tags") for cell in made.cells] == [None, [TAG], [INJECTED], None]
    space: dict[str, Any] = {}
    exec(made.cells[2].source, space)
    assert {name: space[name] for name in values} == values


def test_a_notebook_that_was_run_before_gets_new_ones() -> None:
    before = with_parameters(notebook(), {"since": "1d"}, v4.new_code_cell)
    again = with_parameters(before, {"since": "2d"}, v4.new_code_cell)
    assert [cell.source for cell in again.cells if INJECTED in cell.metadata.get("tags", [])] == [
        "# Given to this run\nsince = '2d'"
    ]
    assert len(with_parameters(before, {}, v4.new_code_cell).cells) == 3


def test_the_values_of_a_run_are_defaults_and_what_was_given() -> None:
    parameters = parameters_of(notebook("a = 1\nb = {1, 2}\nc = f()\nd = (1.5, None)\ne = b'x'"))
    found = in_force(parameters, {"a": 2})
    assert found == {"a": 2, "b": [1, 2], "d": [1.5, None], "e": "b'x'"}
    assert json.dumps(found)
