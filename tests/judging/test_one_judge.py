"""Nobody but the judge compares a value with a limit, names a sign, or puts levels in order."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "squash_api"
SIGNS = {"<", "<=", ">", ">=", "==", "!="}
GO = {"lt", "le", "gt", "ge", "eq", "ne"}
COMPARISONS = GO | {f"__{name}__" for name in GO}
LEVELS = {"INFO", "WARNING", "CRITICAL"}
EXEMPT = {
    # What a report says is flat, for programs; here it is given back to the judge.
    ("reports/document.py", "reads .threshold"),
    # The type of a level in answers, which the judge has from there and puts in order.
    ("schema/answers.py", "lists levels"),
}


def elsewhere() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("judging/"):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def named_in(node: ast.AST) -> set[object]:
    """Return the texts of a table or a list."""
    if isinstance(node, ast.Dict):
        parts = [*node.keys, *node.values]
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        parts = [*node.elts]
    else:
        parts = []
    return {part.value for part in parts if isinstance(part, ast.Constant)}


def judges(node: ast.AST) -> Iterator[str]:
    """Say what a node does that is the judge's."""
    named = named_in(node)
    # Beside an ampersand, < and > are letters of a markup.
    is_signs = len(SIGNS & named) > 1 and not named & {"&"}
    if is_signs or len(GO & named) > 1:
        yield "names comparisons"
    if not isinstance(node, ast.Dict) and len(LEVELS & named) > 1:
        yield "lists levels"
    if isinstance(node, ast.Attribute):
        of = ast.unparse(node.value)
        if node.attr == "threshold":
            yield "reads .threshold"
        if of == "operator" and node.attr in COMPARISONS:
            yield "takes a comparison"
        if node.attr == "index" and of.endswith("LEVELS"):
            yield "orders levels"
    if isinstance(node, ast.ImportFrom) and node.module == "operator":
        yield from ("takes a comparison" for item in node.names if item.name in COMPARISONS)


def found_in(tree: ast.AST) -> set[str]:
    return {what for node in ast.walk(tree) for what in judges(node)}


def test_there_is_one_judge() -> None:
    found = {(name, what) for name, tree in elsewhere() for what in found_in(tree)}
    assert found == EXEMPT


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{'<': a, '>=': b}", "names comparisons"),
        ("is_upper = sign in ('<', '<=')", "names comparisons"),
        ("{'a': 'lt', 'b': 'gt'}", "names comparisons"),
        ("compare = operator.le", "takes a comparison"),
        ("from operator import lt, ge", "takes a comparison"),
        ("limit.threshold", "reads .threshold"),
        ("LEVELS.index(level)", "orders levels"),
        ("max(found, key=alerts.LEVELS.index)", "orders levels"),
        ("('INFO', 'WARNING', 'CRITICAL')[worst]", "lists levels"),
    ],
)
def test_another_judge_would_be_found(text: str, what: str) -> None:
    assert found_in(ast.parse(text)) == {what}
