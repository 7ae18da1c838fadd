"""The notebooks of examples/; that of the camera is run as somebody without a network would."""

import ast
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "camera_temperature.ipynb"
# The other one is run by tests/commands/test_notebook.py.
ALL = sorted((ROOT / "examples").glob("*.ipynb"))
_TIMEOUT_S = 120


def read(path: Path = NOTEBOOK) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell has shown, by its id; a cell that fails fails the tests."""
    folder = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        # The kernel of this environment, not one of the user's, and none of their settings.
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name))
        for name in [name for name in os.environ if name.startswith("SQUASH_")]:
            patch.delenv(name)
        notebook = read()
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=_TIMEOUT_S,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def text(outputs: dict[str, list[Any]], cell: str) -> str:
    """Return what a cell has printed."""
    return "".join(item.text for item in outputs[cell] if item.output_type == "stream")


def media(outputs: dict[str, list[Any]], cell: str) -> dict[str, Any]:
    """Return what a cell has displayed, by its media type."""
    return {
        kind: content
        for item in outputs[cell]
        if item.output_type in {"display_data", "execute_result"}
        for kind, content in item.data.items()
    }


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_a_committed_notebook_has_no_outputs(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.id for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_a_committed_notebook_says_nothing_of_the_machine_it_was_written_on(path: Path) -> None:
    notebook = read(path)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert set(notebook.metadata.language_info) == {"name"}
    assert [cell.id for cell in notebook.cells if set(cell.metadata) - {"tags"}] == []
    source = path.read_text(encoding="utf-8")
    assert [place for place in ("/home/", "/root/", "/tmp/", str(ROOT)) if place in source] == []


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_a_notebook_needs_only_the_service_s_libraries_and_a_kernel(path: Path) -> None:
    pinned = (ROOT / "requirements" / "main.txt").read_text(encoding="utf-8").lower()
    source = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [item.name for item in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    others = imported - sys.stdlib_module_names - {"IPython", "squash_api"}
    packages = {"yaml": "pyyaml"}
    assert others
    assert not [name for name in others if f"{packages.get(name, name)}==" not in pinned]


def test_what_is_dispatched_twice_is_kept_once(outputs: dict[str, list[Any]]) -> None:
    assert "nothing was stored again" in text(outputs, "dispatch")


def test_the_trend_is_a_table_in_the_unit_of_the_metric(outputs: dict[str, list[Any]]) -> None:
    table = media(outputs, "table")["text/plain"]
    assert table.startswith("<QTable length=5>")
    for word in ("deg_C", "night-29", "meta.airmass"):
        assert word in table


@pytest.mark.parametrize("cell", ["plot", "spec"])
def test_a_plot_is_drawn(outputs: dict[str, list[Any]], cell: str) -> None:
    script = media(outputs, cell)["application/javascript"]
    assert "AvgCameraBodySurfaceTemp" in script
    assert ('"name":"Span"' in script) == (cell == "spec")


def test_a_plot_needs_no_network(outputs: dict[str, list[Any]]) -> None:
    script = media(outputs, "imports")["application/javascript"]
    assert "const js_urls = [];" in script
    assert "const css_urls = [];" in script


def test_the_next_job_breaks_both_limits(outputs: dict[str, list[Any]]) -> None:
    lines = [line.split()[:3] for line in text(outputs, "verdict").splitlines()]
    assert lines == [["design", "failed", "WARNING"], ["minimum", "failed", "CRITICAL"]]


def test_older_jobs_can_be_judged_by_the_new_limits(outputs: dict[str, list[Any]]) -> None:
    lines = text(outputs, "verdict-now").splitlines()
    assert lines[0] == "night 22: passed"
    assert lines[-1] == "night 29: WARNING, CRITICAL"


def test_the_alert_would_have_been_told_as_it_became_worse(
    outputs: dict[str, list[Any]],
) -> None:
    said = media(outputs, "backtest")["text/markdown"]
    assert said.index("OK → WARNING") < said.index("WARNING → CRITICAL")


def test_kapacitor_is_told_both_levels(outputs: dict[str, list[Any]]) -> None:
    said = text(outputs, "generate")
    for level, limit in (("crit", 15.0), ("warn", 12.0)):
        limits = f'.{level}(lambda: !isPresent("squash_gone") AND '
        assert f'{limits}("AvgCameraBodySurfaceTemp" > {limit}))' in said
    assert "|groupBy('instrument', 'camera_name')" in said
