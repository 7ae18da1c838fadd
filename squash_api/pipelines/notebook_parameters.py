"""The parameters of a notebook: what its cell tagged `parameters` says, and how they are set.

Source of the convention: papermill. The defaults tell the types.
"""

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from typing import Any

from squash_api.errors import nearest
from squash_api.verify.metrics import is_unicode

TAG = "parameters"
"""The tag of the cell that has the defaults."""

INJECTED = "injected-parameters"
"""The tag of the cell that is put behind it; a notebook that was run before has one already."""

RELEASE = "release"
"""The parameter that names a release, which is then that of the job too."""

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_TYPES: Mapping[str, type] = {
    item.__name__: item for item in (bool, int, float, str, list, tuple, dict, set)
}
_MUST = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: """a list, such as ["g", "r"]""",
    tuple: """a list, such as ["g", "r"]""",
    set: """a list, such as ["g", "r"]""",
    dict: """an object, such as {"g": 1}""",
}


class ParameterError(Exception):
    """A parameter that the notebook does not have, or cannot have this value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A name that the cell gives a value.

    `default` is None if the cell computes it. `kind` is its type, by its annotation or its default;
    None if neither tells.
    """

    name: str
    default: Any
    kind: type | None
    is_literal: bool

    def read(self, text: str) -> Any:
        """Read a value as it is written on a command line.

        Raises
        ------
        ParameterError
            If the text is no value of this type.
        """
        if self.kind is None:
            return text if self.name == RELEASE else _literal(text, text)
        try:
            found = _READERS[self.kind](text)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ParameterError(
                f"parameter {self.name}: {text[:100]!r} is not {_MUST[self.kind]}: "
                f"{self._because()}"
            ) from None
        return found

    def _because(self) -> str:
        return f"its default is {self.default!r}"[:200] if self.is_literal else "the notebook says"


def parameters_of(notebook: Any) -> list[Parameter]:
    """Read the parameters of a notebook, in their order; none if no cell has the tag.

    Raises
    ------
    ParameterError
        If the cell is not Python.
    """
    place = _place(notebook, TAG)
    if place is None:
        return []
    # What begins with % or ! is for the kernel only.
    source = "\n".join(
        line for line in notebook.cells[place].source.split("\n") if line.lstrip()[:1] not in "%!"
    )
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ParameterError(
            f"the cell tagged {TAG} cannot be read as Python: {error}: "
            "let it have nothing but assignments"
        ) from None
    found: dict[str, Parameter] = {}
    for statement in statements:
        for parameter in _assigned(statement):
            found[parameter.name] = parameter
    return list(found.values())


def chosen(parameters: Sequence[Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """Read the values of those parameters that are given.

    Raises
    ------
    ParameterError
        Naming what the notebook has not, with the nearest name, or what is no value of its type.
    """
    known = {item.name: item for item in parameters}
    for name, text in given.items():
        if not is_unicode(text):
            raise ParameterError(f"parameter {name}: {text!a} is not Unicode text")
        if name in known:
            continue
        if not known:
            raise ParameterError(
                f"there is no parameter `{name}`: no cell of the notebook is tagged {TAG}"
            )
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise ParameterError(f"there is no parameter `{name}` in the notebook{hint}")
    return {name: known[name].read(text) for name, text in given.items()}


def in_force(parameters: Sequence[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a run has, for JSON; those that the notebook computes are left out."""
    found = {item.name: item.default for item in parameters if item.is_literal}
    return {name: _for_json(value) for name, value in {**found, **values}.items()}


def with_parameters(notebook: Any, values: Mapping[str, Any], new_cell: Callable[..., Any]) -> Any:
    """Return a copy of a notebook with a cell that sets parameters, behind that of the defaults."""
    changed = deepcopy(notebook)
    before = _place(changed, INJECTED)
    if before is not None:
        del changed.cells[before]
    if values:
        source = "\n".join(
            ["# Given to this run", *(f"{name} = {value!r}" for name, value in values.items())]
        )
        place = (_place(changed, TAG) or 0) + 1
        changed.cells.insert(place, new_cell(source, metadata={"tags": [INJECTED]}))
    return changed


def _place(notebook: Any, tag: str) -> int | None:
    """Return the place of the first code cell with a tag, or None."""
    return next(
        (
            place
            for place, cell in enumerate(notebook.cells)
            if cell.cell_type == "code" and tag in cell.metadata.get("tags", [])
        ),
        None,
    )


def _assigned(statement: ast.stmt) -> list[Parameter]:
    """Return what a statement gives a value."""
    targets: list[ast.expr]
    if isinstance(statement, ast.AnnAssign):
        targets, said = [statement.target], statement.annotation
    elif isinstance(statement, ast.Assign):
        targets, said = statement.targets, None
    else:
        return []
    default, is_literal = None, True
    try:
        default = ast.literal_eval(statement.value) if statement.value is not None else None
        is_literal = statement.value is not None
    except (ValueError, TypeError, SyntaxError, RecursionError):
        is_literal = False
    kind = _kind_of(said) or (type(default) if type(default) in _READERS else None)
    return [
        Parameter(target.id, default, kind, is_literal)
        for target in targets
        if isinstance(target, ast.Name)
    ]


def _kind_of(annotation: ast.expr | None) -> type | None:
    """Return the first type that an annotation names, such as `str` in `str | None`."""
    if annotation is None:
        return None
    names = (node.id for node in ast.walk(annotation) if isinstance(node, ast.Name))
    return next((_TYPES[name] for name in names if name in _TYPES), None)


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError
    return number


def _several(kind: type) -> Callable[[str], Any]:
    """Return what reads a list or the like, or an object, from JSON or Python."""

    def read(text: str) -> Any:
        found = _literal(text, None)
        wanted: Any = dict if kind is dict else (list, tuple, set)
        if not isinstance(found, wanted):
            raise TypeError
        return kind(found)

    return read


def _literal(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return otherwise


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _for_json(value: Any) -> Any:
    """Make of a literal what JSON has."""
    if isinstance(value, dict):
        return {str(key): _for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(_for_json, value), key=str)
    if isinstance(value, float) and not isfinite(value):
        return repr(value)
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


_READERS: Mapping[type, Callable[[str], Any]] = {
    bool: lambda text: _BOOLEANS[text.strip().lower()],
    int: lambda text: int(text.strip()),
    float: _number,
    str: str,
    **{kind: _several(kind) for kind in (list, tuple, dict, set)},
}
