"""The tree keeps its shape: a test file beside every module, short modules, no drawers."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "squash_api"
MAX_MODULE_LINES = 300
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
TESTED_ELSEWHERE = {
    # One line, which is the command.
    "__main__.py": "test_cli.py",
    # The parts of a specification document, tested as parts of one.
    "verify/alert_keys.py": "verify/test_specifications.py",
    "verify/metadata_query.py": "verify/test_specifications.py",
    "verify/thresholds.py": "verify/test_specifications.py",
    # A table, tested by asking for what is in it.
    "pages/addresses.py": "pages/test_negotiation.py",
    # What bases are called, tested by resolving them.
    "verify/base_names.py": "verify/test_resolution.py",
    "verify/drafts.py": "verify/test_resolution.py",
}
"""Modules whose facts are those of another one, and the test file that states them."""

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


def test_every_module_has_its_test_file() -> None:
    expected = {
        module: TESTED_ELSEWHERE.get(module, f"{Path(module).parent}/test_{Path(module).name}")
        for module in MODULES
    }
    missing = [
        f"{module}: write tests/{Path(path)}"
        for module, path in expected.items()
        if not (ROOT / "tests" / path).is_file()
    ]
    assert not missing


def test_the_table_of_modules_tested_elsewhere_names_only_modules() -> None:
    assert set(TESTED_ELSEWHERE) <= set(MODULES)


def test_modules_are_short() -> None:
    lengths = {
        module: text.count("\n") - _docstring_lines(ast.parse(text))
        for module, text in ((name, (PACKAGE / name).read_text("utf-8")) for name in ALL_FILES)
    }
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
    inits = [module for module in ALL_FILES if module.endswith("__init__.py")]
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


def test_every_test_file_has_its_module() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} & {
        path.name for path in (ROOT / "tests").iterdir() if path.is_dir()
    }
    strays = [
        path.relative_to(ROOT).as_posix()
        for folder in sorted(folders)
        for path in sorted((ROOT / "tests" / folder).glob("test_*.py"))
        if not any(
            path.stem == f"test_{module.stem}" or path.stem.startswith(f"test_{module.stem}_")
            for module in (PACKAGE / folder).glob("*.py")
        )
    ]
    assert not strays
