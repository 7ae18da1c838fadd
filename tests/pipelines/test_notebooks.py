"""Notebooks that are run here, each once by a kernel, and what is made of that."""

import json
import os
import re
import sys
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from squash_api.ingest.document import decode_job
from squash_api.pipelines.notebooks import (
    HOW_TO_INSTALL,
    NotebookError,
    Ran,
    Template,
    document_of,
    environment_of_run,
    file_of,
    page_of,
    read_template,
    run_notebook,
    values_of,
    variables_of_kernel,
    without_images,
)
from squash_api.schema.artifacts import artifacts_of

# No record has a part in it.
pytestmark = pytest.mark.sqlite

NOW = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)
SECRET = "sq_1_verysecret"
VARIABLES = {**os.environ, "SQUASH_KEY": SECRET, "SQUASH_URL": "https://squash.example.org"}
FAILS = """
import os
import sys
from IPython.display import SVG, HTML, Javascript, display
from squash_api.client import Measurement, record
print(release, os.getcwd(), os.environ["SQUASH_KEY"])
print("a warning", file=sys.stderr)
record(Measurement("try.depth", 26.5), Measurement("try.gone"))
record(Measurement("try.depth", 27.0, extras={"stars": 3}))
display(SVG('<svg xmlns="http://www.w3.org/2000/svg"><circle r="1"/></svg>'))
display(Javascript("alert(1)"))
HTML('<a href="https://example.org/x">out</a>')
"""


def write(folder: Path, *sources: str, name: str = "try.ipynb") -> Path:
    """Write a notebook whose first cell has the parameters."""
    cells = [v4.new_code_cell(source) for source in sources]  # type: ignore[no-untyped-call]
    cells[0].metadata["tags"] = ["parameters"]
    cells[-1].outputs = [v4.new_output("stream", text="from before")]  # type: ignore[no-untyped-call]
    made = v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    path = folder / name
    nbformat.write(made, path)  # type: ignore[no-untyped-call]
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    folder = tmp_path_factory.mktemp("notebooks")
    return read_template(
        write(folder, 'release = ""', FAILS, "raise ValueError(os.environ['SQUASH_KEY'])", "1 + 1")
    )


@pytest.fixture(scope="module")
def ran(template: Template) -> Ran:
    """A run whose third cell fails."""
    values = values_of(template, {}, release="w_2026_50")
    return run_notebook(template, values, variables=VARIABLES, cell_timeout_s=60)


@pytest.fixture(scope="module")
def page(template: Template, ran: Ran) -> str:
    return page_of(template, ran, {"release": "w_2026_50", "text": "<b>"})


def document(template: Template, ran: Ran, **changes: Any) -> dict[str, Any]:
    env = environment_of_run(template, {}, release="w_2026_50", run_id=None, now=NOW)
    given: dict[str, Any] = {
        "parameters": {"release": "w_2026_50", "dataset": "HSC", "nothing": ""},
        "files": {"html": "<p>", "ipynb": "{}"},
        "root": "https://squash.example.org/sq/",
    }
    return document_of(template, ran, env, **{**given, **changes})


def test_a_run_ends_with_the_cell_that_fails(ran: Ran) -> None:
    assert ran.problem == "cell 4: ValueError: ***"
    assert [cell.execution_count for cell in ran.notebook.cells] == [1, 2, 3, 4, None]
    assert (ran.cells, ran.place) == (4, 3)
    assert ran.notebook.cells[-1].outputs == []


def test_a_notebook_runs_in_its_own_folder_with_what_it_was_given(
    template: Template, ran: Ran
) -> None:
    said = "".join(item.get("text", "") for item in ran.notebook.cells[2].outputs)
    assert f"w_2026_50 {template.path.parent} ***" in said


def test_no_secret_is_kept(template: Template, ran: Ran, page: str) -> None:
    assert SECRET not in page + file_of(ran) + json.dumps(document(template, ran))


def test_what_was_imported_is_known_with_its_version(ran: Ran) -> None:
    assert ran.packages["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "httpx" in ran.packages
    assert len(ran.notebook.cells) == 5


def test_the_page_shows_what_failed_and_has_no_script(page: str) -> None:
    assert "Failed</a>: cell 4: ValueError: ***" in page
    assert page.index('id="failed"') < page.index("Traceback") < page.index("1</span> <span")
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "text <b>&lt;b&gt;</b>" in page
    assert '<a target="_blank" rel="noopener" href="https://example.org/x">' in page
    assert 'src="data:image/svg+xml;base64,' in page
    # Nothing is loaded from anywhere.
    assert not re.search(r'(src|href)="(?!data:|#|https://example.org/x)', page)


def test_a_job_has_how_the_run_went_and_what_was_recorded(template: Template, ran: Ran) -> None:
    made = document(template, ran)
    values = {item["metric"]: item["value"] for item in made["measurements"]}
    assert values == {
        "notebook.failed_cells": 1,
        "notebook.cells": 4,
        "notebook.duration": ran.duration_s,
        "try.depth": 27.0,
        "try.gone": None,
    }
    notebook, extras = made["blobs"]
    assert (notebook["name"], extras["data"]["stars"]["value"]) == ("notebook", 3)
    refs = {item["metric"]: item["blob_refs"] for item in made["measurements"]}
    assert refs["notebook.failed_cells"] == [notebook["identifier"]]
    assert refs["try.depth"] == [extras["identifier"]]


def test_a_job_says_what_it_is_about(template: Template, ran: Ran) -> None:
    made = document(template, ran)
    meta = made["meta"]
    assert meta["parameters"] == {"release": "w_2026_50", "dataset": "HSC"}
    assert (meta["notebook"], meta["version_tag"]) == ("try", "w_2026_50")
    assert meta["problem"] == ran.problem
    assert meta["env"]["pipeline"] == "notebook.try"
    assert re.fullmatch(r"try-w_2026_50-20261128T060000Z-[0-9a-f]{6}", meta["env"]["run_id"])
    assert decode_job(json.dumps(made).encode()).meta


def test_the_page_is_an_artifact_of_the_job(template: Template, ran: Ran) -> None:
    meta = document(template, ran)["meta"]
    (artifact,) = artifacts_of(meta)
    run = meta["env"]["run_id"]
    assert artifact.url == f"https://squash.example.org/sq/notebooks?run={run}&template=try"
    assert artifacts_of(document(template, ran, files={})["meta"]) == []
    assert artifacts_of(document(template, ran, root=None)["meta"]) == []


def test_pictures_can_be_left_out(ran: Ran) -> None:
    kept = Ran(deepcopy(ran.notebook), 0, 10**9)
    assert without_images(kept.notebook) == 1
    assert "image/" not in file_of(kept)


def test_a_cell_that_takes_too_long_is_interrupted_where_it_is(tmp_path: Path) -> None:
    template = read_template(write(tmp_path, "n = 1", "import time\ntime.sleep(600)", "1"))
    ran = run_notebook(template, {}, variables=VARIABLES, cell_timeout_s=3)
    assert ran.problem == ("cell 2: TimeoutError: the cell took longer than 3 s (--cell-timeout)")
    page = page_of(template, ran, {})
    assert "KeyboardInterrupt" in page
    assert "the cell took longer than 3 s" in page


def test_a_kernel_that_dies_is_a_run_that_failed(tmp_path: Path) -> None:
    template = read_template(write(tmp_path, "n = 1", "import os\nos._exit(1)"))
    ran = run_notebook(template, {}, variables=VARIABLES, cell_timeout_s=60)
    assert ran.problem == "cell 2: DeadKernelError: Kernel died"
    assert "Kernel died" in page_of(template, ran, {})


def test_a_kernel_that_does_not_exist_is_a_run_that_failed(tmp_path: Path) -> None:
    template = read_template(write(tmp_path, "n = 1"))
    ran = run_notebook(template, {}, variables=VARIABLES, cell_timeout_s=60, kernel="none-such")
    assert ran.problem is not None
    assert ran.problem.startswith("the kernel cannot be used: No such kernel named none-such")
    assert document(template, ran)["measurements"][0]["value"] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": 1}', "\xff", "[" * 100_000])
def test_what_is_no_notebook_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "try.ipynb"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(NotebookError, match=r"try\.ipynb: it is no notebook"):
        read_template(path)


def test_a_notebook_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"none\.ipynb: No such file"):
        read_template(tmp_path / "none.ipynb")


@pytest.mark.parametrize("name", ["ipykernel", "nbclient", "nbconvert", "nbformat"])
def test_without_the_libraries_it_says_how_to_install_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NotebookError, match=re.escape(HOW_TO_INSTALL)):
        read_template(tmp_path / "try.ipynb")


@pytest.mark.parametrize(
    ("variables", "asked", "run_id"),
    [
        ({"SQUASH_RUN_ID": "outer"}, None, "outer"),
        ({"BUILD_ID": "904"}, None, "904"),
        ({"BUILD_ID": "904"}, "mine", "mine"),
    ],
)
def test_a_run_that_has_a_name_keeps_it(
    variables: dict[str, str], asked: str | None, run_id: str, template: Template
) -> None:
    env = environment_of_run(template, variables, release=None, run_id=asked, now=NOW)
    assert (env["run_id"], env["pipeline"]) == (run_id, "notebook.try")


def test_a_kernel_learns_the_service_and_its_run() -> None:
    made = variables_of_kernel({"A": "b"}, {"run_id": "r"}, url="https://s", user=None)
    assert made == {"A": "b", "SQUASH_URL": "https://s", "SQUASH_RUN_ID": "r"}
