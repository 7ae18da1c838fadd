"""The house keeps its shape: few rooms, subjects that are whole, no drawers."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "squash_api"
MAX_PACKAGES = 24
MAX_MODULES_AT_THE_TOP = 10
MAX_MODULE_LINES = 600
MAX_FUNCTION_LINES = 40
DRAWERS = {
    "base",
    "common",
    "core",
    "handler",
    "handlers",
    "helper",
    "helpers",
    "manager",
    "misc",
    "service",
    "services",
    "util",
    "utils",
}
MODULES = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" and "migrations" not in path.parts
)
ALL_FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def _tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def _docstring_lines(tree: ast.AST) -> int:
    """Count the lines of all docstrings below a node."""
    count = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            count += (first.end_lineno or first.lineno) - first.lineno + 1
    return count


def test_the_package_was_found() -> None:
    assert "app.py" in MODULES
    assert "verify/units.py" in MODULES


def test_the_rooms_at_the_top_are_few() -> None:
    packages = [path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
    assert len(packages) <= MAX_PACKAGES
    assert len([name for name in MODULES if "/" not in name]) <= MAX_MODULES_AT_THE_TOP + 1


def test_every_package_has_its_tests() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert not [
        name for name in sorted(packages) if not list((ROOT / "tests" / name).rglob("test_*.py"))
    ]


def test_every_folder_of_tests_is_of_a_package() -> None:
    folders = {
        path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert not [
        folder.as_posix()
        for folder in sorted(folders)
        if folder != Path("integration") and not (PACKAGE / folder / "__init__.py").is_file()
    ]


def test_modules_are_short() -> None:
    lengths = {name: (PACKAGE / name).read_text("utf-8").count("\n") for name in ALL_FILES}
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_MODULE_LINES}


def test_functions_are_short() -> None:
    lengths = {
        f"{module}: {node.name}": (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node)
        for module in MODULES
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES}


def test_every_module_has_a_docstring() -> None:
    assert not [module for module in ALL_FILES if not ast.get_docstring(_tree(module))]


def test_no_module_or_folder_is_a_drawer() -> None:
    assert not [name for name in ALL_FILES if DRAWERS & set(Path(name).with_suffix("").parts)]


def test_init_files_hold_their_docstring_only() -> None:
    # What people import from the client is handed on by its package.
    inits = [
        name for name in ALL_FILES if name.endswith("__init__.py") and name != "client/__init__.py"
    ]
    assert not [module for module in inits if len(_tree(module).body) != 1]


def test_imports_are_absolute() -> None:
    relative = [
        f"{module}:{node.lineno}"
        for module in ALL_FILES
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def test_the_folder_of_tests_is_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_whatever_is_new_is_told_that_it_knows_no_sql() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (rule,) = (
        item
        for item in contracts["tool"]["importlinter"]["contracts"]
        if item.get("forbidden_modules") == ["sqlalchemy", "alembic"]
    )
    tops = {Path(name).parts[0].removesuffix(".py") for name in ALL_FILES} - {"__init__"}
    assert {name.rpartition(".")[2] for name in rule["source_modules"]} == tops - {
        "index",
        "record",
    }
