"""Running a notebook by itself: its cells, its page, and the job that keeps both.

The libraries that do it are an extra, and imported when a notebook is run.
"""

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from squash_api.client.notebook import MEDIA_TYPE
from squash_api.pipelines.notebook_parameters import (
    INJECTED,
    RELEASE,
    Parameter,
    ParameterError,
    chosen,
    parameters_of,
    with_parameters,
)
from squash_api.pipelines.run_job import (
    RUN_VARIABLE,
    is_made_up,
    log_text,
    run_environment,
    without_secrets,
)
from squash_api.schema.notebooks import (
    BLOB,
    CELLS,
    DURATION,
    FAILED_CELLS,
    NAME_KEY,
    PROBLEM_KEY,
    RUN_KEY,
    pipeline_of,
    run_text,
)

HOW_TO_INSTALL = (
    "notebooks need libraries that are not installed: pip install 'squash-api[notebooks]'"
)

_LIBRARIES = ("ipykernel", "nbclient", "nbconvert", "nbformat")
_REMOVED_CELLS = ("remove-cell",)
_REMOVED_INPUTS = ("remove-input", "hide-input", INJECTED)
# A page has no scripts: it is shown where none may run.
_SHOWN = (
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/latex",
    "text/plain",
)
_IMAGES = ("image/",)
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
# The page is shown in a frame, where other pages would not open.
_LINK = re.compile(r'<a (?=href="https?://)')
_STYLE = Path(__file__).with_name("notebook.css")
# What is left to say after a cell was interrupted, and the question for versions, take no longer.
_PATIENCE_S = 20
_MOST_LETTERS = 500
_VERSIONS = """
import importlib.metadata, json, platform, sys
_roots = {_name.partition('.')[0] for _name in list(sys.modules)}
_found = importlib.metadata.packages_distributions()
_names = {_item for _root in _roots for _item in _found.get(_root, ())}
print(json.dumps({'python': platform.python_version(),
                  **{_name: importlib.metadata.version(_name) for _name in sorted(_names)}}))
"""


class NotebookError(Exception):
    """A notebook that cannot be run at all; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Template:
    """A notebook to run: the file, its name in the record, and what of it can be chosen."""

    path: Path
    name: str
    notebook: Any
    parameters: list[Parameter]
    sha256: str


@dataclass(slots=True)
class Ran:
    """What running a notebook came to.

    `problem` says which cell failed and how, in one line; None if none did. `place` is that of the
    cell. `packages` are versions by name, `measured` what the notebook has recorded: measurements
    with their blobs, as it sent them.
    """

    notebook: Any
    began_ns: int
    ended_ns: int = 0
    cells: int = 0
    problem: str | None = None
    place: int | None = None
    packages: dict[str, str] = field(default_factory=dict)
    measured: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """How long it took, with the start of the kernel."""
        return (self.ended_ns - self.began_ns) / 1e9


def read_template(path: Path, *, name: str | None = None) -> Template:
    """Read a notebook from a file.

    Raises
    ------
    NotebookError
        If the libraries are not installed, or the file is no notebook.
    ParameterError
        If its parameters cannot be read.
    """
    # Before anything of Jupyter is imported: the kernel of this environment, not one of the user's.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    try:
        nbformat = [import_module(name) for name in _LIBRARIES][-1]
    except ImportError:
        raise NotebookError(HOW_TO_INSTALL) from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotebookError(f"{path}: {error.strerror or error}") from None
    try:
        notebook = nbformat.reads(content.decode(), as_version=4)
        nbformat.validate(notebook)
        parameters = parameters_of(notebook)
    except ParameterError:
        raise
    except Exception as error:  # noqa: BLE001 - a file may be anything
        why = str(error).partition("\n")[0][:200]
        raise NotebookError(f"{path}: it is no notebook: {why or type(error).__name__}") from None
    digest = hashlib.sha256(content).hexdigest()
    return Template(path, name or path.stem, notebook, parameters, digest)


def values_of(
    template: Template, given: Mapping[str, str], *, release: str | None
) -> dict[str, Any]:
    """Read the values of the parameters that are given; `release` is one of them, if not None.

    Raises
    ------
    ParameterError
        If the notebook has no such parameter, or it cannot have this value.
    """
    return chosen(template.parameters, {**given, **({RELEASE: release} if release else {})})


def run_notebook(
    template: Template,
    values: Mapping[str, Any],
    *,
    variables: Mapping[str, str],
    cell_timeout_s: int,
    kernel: str | None = None,
) -> Ran:
    """Run a notebook from the top until a cell fails, in the folder of its file.

    `variables` are the environment of its kernel. What fails, whatever it is, is in the result.
    """
    notebook = with_parameters(template.notebook, values, _cells().new_code_cell)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    ran = Ran(notebook, time.time_ns())
    with tempfile.TemporaryDirectory(prefix="squash-") as folder:
        # Neither depends on a home that can be written, nor on what somebody has configured there.
        own = {"IPYTHONDIR": folder, "JUPYTER_RUNTIME_DIR": folder}
        work = _run_cells(
            ran, {**variables, **own}, str(template.path.resolve().parent), cell_timeout_s, kernel
        )
        try:
            asyncio.run(work)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has failed
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            ran.problem = f"the kernel cannot be used: {why}"
    ran.ended_ns = time.time_ns()
    ran.measured = list(_recorded(notebook))
    return _without_secrets(ran, variables)


async def _run_cells(
    ran: Ran, variables: Mapping[str, str], folder: str, cell_timeout_s: int, kernel: str | None
) -> None:
    from jupyter_client.manager import AsyncKernelManager  # noqa: PLC0415
    from nbclient import NotebookClient  # noqa: PLC0415

    kernel_name = kernel or ran.notebook.metadata.get("kernelspec", {}).get("name") or "python3"
    # Nobody else on the machine can reach a socket in this folder.
    manager = AsyncKernelManager(
        kernel_name=kernel_name,
        transport="ipc",
        connection_file=str(Path(variables["JUPYTER_RUNTIME_DIR"], "kernel.json")),
    )
    client = NotebookClient(
        ran.notebook,
        km=manager,
        timeout=cell_timeout_s,
        interrupt_on_timeout=True,
        error_on_timeout={
            "ename": "TimeoutError",
            "evalue": f"the cell took longer than {cell_timeout_s} s (--cell-timeout)",
            "traceback": [],
        },
        iopub_timeout=_PATIENCE_S,
    )
    stopped = _stopping(manager)
    async with client.async_setup_kernel(cwd=folder, env=dict(variables), cleanup_kc=True):
        for place, cell in enumerate(ran.notebook.cells):
            # It may have been stopped before the first.
            problem = None if stopped else await _run_cell(client, cell, place)
            ran.cells = client.code_cells_executed
            if stopped:
                problem = f"stopped by {stopped[0]}"
            if problem is not None:
                ran.place = place
                ran.problem = f"cell {ran.cells}: {problem}"
                break
        if not stopped and await manager.is_alive():
            ran.packages = await _versions(client, ran.notebook)


def _stopping(manager: Any) -> list[str]:
    """End the kernel on SIGTERM and SIGINT; return a list that then names the signal."""
    stopped: list[str] = []
    tasks = []
    loop = asyncio.get_running_loop()

    async def end() -> None:
        # There may be none yet.
        with suppress(Exception):
            await manager.shutdown_kernel(now=True)

    def stop(name: str) -> None:
        stopped.append(name)
        tasks.append(loop.create_task(end()))

    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread can be told of signals.
        with suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, stop, number.name)
    return stopped


async def _run_cell(client: Any, cell: Any, place: int) -> str | None:
    """Run a cell; return what failed, in one line. The cell shows it."""
    from nbclient.exceptions import (  # noqa: PLC0415
        CellExecutionError,
        CellTimeoutError,
        DeadKernelError,
    )

    try:
        await client.async_execute_cell(cell, place, execution_count=client.code_cells_executed + 1)
    except CellExecutionError as error:
        name, text = str(error.ename), str(error.evalue)
    except (DeadKernelError, CellTimeoutError) as error:
        name, text = type(error).__name__, str(error).partition("\n")[0]
    else:
        return None
    shown = f"{name}: {text}" if text else name
    has_it = any(item.output_type == "error" and item.ename == name for item in cell.outputs)
    if not has_it:
        # What is interrupted or dead does not say so itself.
        cell.outputs.append(
            _cells().new_output("error", ename=name, evalue=text, traceback=[shown])
        )
    line = log_text(shown.encode("utf-8", "replace"), total=0).partition("\n")[0]
    return line[:_MOST_LETTERS]


async def _versions(client: Any, notebook: Any) -> dict[str, str]:
    """Ask the kernel for the versions of what it has imported; none if it is not of Python."""
    if str(notebook.metadata.get("kernelspec", {}).get("language", "python")) != "python":
        return {}
    cell = _cells().new_code_cell(_VERSIONS)
    notebook.cells.append(cell)
    client.timeout = _PATIENCE_S
    try:
        await client.async_execute_cell(cell, len(notebook.cells) - 1, store_history=False)
        found = json.loads("".join(item.get("text", "") for item in cell.outputs))
    except Exception:  # noqa: BLE001 - whatever it is, it is not the notebook's fault
        return {}
    finally:
        notebook.cells.pop()
    return {str(name): str(version) for name, version in found.items()}


def _outputs(notebook: Any) -> Iterator[Any]:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from cell.outputs


def _recorded(notebook: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what `squash_api.client.record` has put among the outputs."""
    for output in _outputs(notebook):
        found = output.get("data", {}).get(MEDIA_TYPE)
        if isinstance(found, dict) and isinstance(found.get("measurement"), dict):
            yield found


def _without_secrets(ran: Ran, variables: Mapping[str, str]) -> Ran:
    """Leave the values of variables that are named like secrets out of all that is kept."""

    def clean(node: Any) -> None:
        keys: Any = node.keys() if isinstance(node, dict) else range(len(node))
        for key in list(keys):
            value = node[key]
            if isinstance(value, str):
                node[key] = without_secrets(value, variables)
            elif isinstance(value, dict | list):
                clean(value)

    clean(ran.notebook)
    if ran.problem is not None:
        ran.problem = without_secrets(ran.problem, variables)
    return ran


def without_images(notebook: Any) -> int:
    """Leave the pictures out of a notebook's outputs; return how many there were."""
    count = 0
    for output in _outputs(notebook):
        data = output.get("data", {})
        pictures = [kind for kind in data if kind.startswith(_IMAGES)]
        for kind in pictures:
            del data[kind]
        if pictures:
            count += 1
            data.setdefault("text/plain", "<picture left out>")
    return count


def page_of(template: Template, ran: Ran, values: Mapping[str, Any]) -> str:
    """Make the page of a notebook that has run: one file that loads nothing and has no script."""
    from traitlets.config import Config  # noqa: PLC0415

    exporter: Any = import_module("nbconvert").HTMLExporter
    v4 = _cells()
    shown = v4.new_notebook(metadata=ran.notebook.metadata, cells=list(ran.notebook.cells))
    if ran.place is not None:
        shown.cells.insert(ran.place, v4.new_markdown_cell('<a id="failed"></a>'))
    remove = {
        "enabled": True,
        "remove_cell_tags": set(_REMOVED_CELLS),
        "remove_input_tags": set(_REMOVED_INPUTS),
    }
    config = Config(
        {
            "TagRemovePreprocessor": remove,
            "NbConvertBase": {"display_data_priority": list(_SHOWN)},
            "HTMLExporter": {"preprocessors": ["nbconvert.preprocessors.TagRemovePreprocessor"]},
        }
    )
    body, _ = exporter(template_name="basic", config=config).from_notebook_node(shown)
    body = _LINK.sub(r'<a target="_blank" rel="noopener" ', body)
    facts = " · ".join(
        f"{escape(name)} <b>{escape(_in_a_line(value))}</b>"
        for name, value in values.items()
        if value not in (None, "")
    )
    ended = datetime.fromtimestamp(ran.ended_ns / 1e9, UTC)
    result = f"{ran.cells} cells in {ran.duration_s:.1f} s, {ended:%Y-%m-%d %H:%M} UTC"
    if ran.problem is not None:
        result += f'</p>\n<p class="failed"><a href="#failed">Failed</a>: {escape(ran.problem)}'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(template.name)}</title>\n<style>\n{_STYLE.read_text('utf-8')}</style>\n"
        f"</head>\n<body>\n<header><p><strong>{escape(template.name)}</strong> {result}</p>\n"
        f"<p>{facts}</p>\n</header>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _in_a_line(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}\u2026"


def file_of(ran: Ran) -> str:
    """Write the executed notebook as a file."""
    return str(import_module("nbformat").writes(ran.notebook, version=4))


def _cells() -> Any:
    """Import what makes cells."""
    return import_module("nbformat.v4")


def environment_of_run(
    template: Template,
    variables: Mapping[str, str],
    *,
    release: Any,
    run_id: str | None,
    now: datetime,
) -> dict[str, Any]:
    """Make the environment of a run's job: that of a CI, or one named after the notebook."""
    pipeline = pipeline_of(template.name)
    env = run_environment([], variables, now=now, run_id=run_id, pipeline=pipeline)
    if run_id is None and is_made_up(env, variables):
        words = [template.name, *([str(release)] if release else []), f"{now:%Y%m%dT%H%M%SZ}"]
        # Two runs may begin in one second.
        env["run_id"] = "-".join([*words, uuid4().hex[:6]])
    return env


def variables_of_kernel(
    variables: Mapping[str, str], env: Mapping[str, Any], *, url: str | None, user: str | None
) -> dict[str, str]:
    """Return the environment of a kernel: how to reach the service, and which run it is."""
    own = {"SQUASH_URL": url, "SQUASH_USER": user, RUN_VARIABLE: str(env["run_id"])}
    return {**variables, **{name: text for name, text in own.items() if text}}


def document_of(
    template: Template,
    ran: Ran,
    env: Mapping[str, Any],
    *,
    parameters: Mapping[str, Any],
    files: Mapping[str, str],
    root: str | None,
) -> dict[str, Any]:
    """Make the document of a run's job, ready to be sent, also twice.

    Parameters
    ----------
    parameters
        Their values in this run.
    files
        What is kept, `PAGE` and `FILE`; a job without them is for what is too large.
    root
        The public address of the service, by which the job names its page; None if it is not known.
    """
    blobs = _kept(files)
    own = {
        FAILED_CELLS: (int(ran.problem is not None), ""),
        CELLS: (ran.cells, ""),
        DURATION: (ran.duration_s, "s"),
    }
    measurements = [
        {
            "metric": metric,
            "identifier": uuid4().hex,
            "value": value,
            "unit": unit,
            "blob_refs": [blob["identifier"] for blob in blobs] if metric == FAILED_CELLS else [],
        }
        for metric, (value, unit) in own.items()
    ]
    recorded = {str(item["measurement"].get("metric")): item for item in ran.measured}
    for metric, item in recorded.items():
        if metric not in own:
            measurements.append(dict(item["measurement"]))
            blobs += item.get("blobs") or []
    meta = _metadata(template, ran, env, parameters)
    if root is not None and files:
        asked = {"run": str(env["run_id"]), "template": template.name}
        meta["page"] = {
            "url": f"{root.rstrip('/')}/notebooks?{urlencode(asked, quote_via=quote, safe='')}",
            "type": "text/html",
            "description": f"Notebook {template.name}",
        }
    return {"measurements": measurements, "blobs": blobs, "meta": meta}


def _kept(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Make the blob with the page and the file; none if they are not kept."""
    data = {key: {"value": text, "unit": ""} for key, text in files.items()}
    return [{"identifier": uuid4().hex, "name": BLOB, "data": data}] if data else []


def _metadata(
    template: Template, ran: Ran, env: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    release = parameters.get(RELEASE)
    ended = _iso(ran.ended_ns)
    return {
        NAME_KEY: template.name,
        RUN_KEY: run_text(template.name, parameters, ran.problem),
        # What names a dataset or a filter is a tag of the job.
        "parameters": {
            name: value for name, value in parameters.items() if value not in ("", None)
        },
        "template": {"file": template.path.name, "sha256": template.sha256},
        **({"version_tag": release} if isinstance(release, str) and release else {}),
        **({PROBLEM_KEY: ran.problem} if ran.problem else {}),
        "host": socket.gethostname(),
        "began": _iso(ran.began_ns),
        "ended": ended,
        "packages": {
            name: {"name": name, "eups_version": version} for name, version in ran.packages.items()
        },
        "env": {**env, "date": ended},
    }


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
