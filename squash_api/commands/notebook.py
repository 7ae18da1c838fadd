"""`squash notebook run`: run a notebook by itself, and keep what came of it as a job."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from squash_api.client import SquashClientError
from squash_api.client.wire import Wire, checked
from squash_api.commands.terminal import fail, print_error
from squash_api.judging.wording import counted
from squash_api.pipelines.notebook_parameters import RELEASE, ParameterError, in_force
from squash_api.pipelines.notebooks import (
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
from squash_api.pipelines.spool import Fate, Sender
from squash_api.schema.notebooks import FILE, PAGE

_Template = Annotated[Path, typer.Argument(metavar="TEMPLATE", help="The notebook: a file .ipynb.")]
_Release = Annotated[
    str | None,
    typer.Option(metavar="TAG", help="The release it is about: its parameter `release`."),
]
_Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", "-p", metavar="NAME=VALUE", help="A parameter's value; may be repeated."
    ),
]
_Url = Annotated[str | None, typer.Option(envvar="SQUASH_URL", help="Root of the service.")]
_User = Annotated[
    str | None,
    typer.Option(envvar="SQUASH_USER", help="Name of the user; not needed with a key."),
]
_Name = Annotated[str | None, typer.Option(help="Its name in the record; else that of the file.")]
_RunId = Annotated[
    str | None, typer.Option("--run", help="Name of the run; else that of the CI, or a new one.")
]
_CellTimeout = Annotated[
    int, typer.Option(metavar="SECONDS", min=1, help="How long each cell may take.")
]
_Kernel = Annotated[
    str | None, typer.Option(help="The kernel to run it with; else the one that it names.")
]
_NoImages = Annotated[
    bool, typer.Option("--no-images", help="Leave pictures out of what is kept, to save room.")
]
_Output = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write the page and the executed notebook here too."),
]
# Pages may be large, and networks slow.
_TIMEOUT_S = 300.0
_TOO_LARGE, _UNKNOWN_USER = "413:", "401:"
_NOT_TRIED = "not tried yet"


def run(
    *,
    template: _Template,
    release: _Release = None,
    parameter: _Parameters = None,
    url: _Url = None,
    user: _User = None,
    name: _Name = None,
    run_id: _RunId = None,
    cell_timeout: _CellTimeout = 600,
    kernel: _Kernel = None,
    no_images: _NoImages = False,
    output: _Output = None,
) -> None:
    """Run a notebook by itself, and keep what came of it as a job of the service.

    The job has how many cells failed and how long it took, the parameters, the versions of the
    packages, what the notebook recorded, the notebook as a page, and the executed notebook. A cell
    that fails ends the run; the page shows it as far as it came.

    The notebook has SQUASH_URL, and SQUASH_KEY or SQUASH_USER and SQUASH_PASSWORD, in its
    environment. These secrets are left out of what is kept. While the service is away, the job
    waits in the spool.

    Exit code: 0 every cell ran; 1 one failed, or the job is refused, or waits for a key that the
    service knows; 2 wrong usage.
    """
    variables = dict(os.environ)
    read, values = _read(template, parameter or [], release=release, name=name)
    parameters = in_force(read.parameters, values)
    env = environment_of_run(
        read, variables, release=parameters.get(RELEASE), run_id=run_id, now=datetime.now(UTC)
    )
    ran = run_notebook(
        read,
        values,
        variables=variables_of_kernel(variables, env, url=url, user=user),
        cell_timeout_s=cell_timeout,
        kernel=kernel,
    )
    if no_images:
        without_images(ran.notebook)
    files = _files_of(read, ran, parameters)
    _write(output, files, f"{read.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    # With its files, and without them.
    about: dict[str, Any] = {"parameters": parameters, "root": _public_root(url, variables)}
    documents = (document_of(read, ran, env, files=kept, **about) for kept in (files, {}))
    sender = Sender.of(variables, url=url, user=user, timeout_s=_TIMEOUT_S)
    is_kept = _send(sender, documents, f"notebook {template}")
    typer.echo(f"{read.name}: {counted(ran.cells, 'cell')} in {ran.duration_s:.1f} s")
    if ran.problem is not None:
        print_error(f"{template}: {ran.problem}")
    raise typer.Exit(0 if ran.problem is None and is_kept else 1)


def _read(
    path: Path, given: list[str], *, release: str | None, name: str | None
) -> tuple[Template, dict[str, Any]]:
    """Read the template and the parameters' values; what is wrong with them ends the command."""
    named: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not (key and equals):
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--parameter")
        if key in named or (key == RELEASE and release is not None):
            raise typer.BadParameter(f"`{key}` is given twice", param_hint="--parameter")
        named[key] = value
    try:
        template = read_template(path, name=name)
        return template, values_of(template, named, release=release)
    except NotebookError as error:
        fail(str(error), code=1)
    except ParameterError as error:
        fail(f"{path}: {error}")


def _files_of(template: Template, ran: Ran, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Make the page and the file of a run; only the file if it cannot be shown."""
    try:
        page = {PAGE: page_of(template, ran, parameters)}
    except Exception as error:  # noqa: BLE001 - the run counts, whatever nbconvert makes of it
        print_error(f"{template.path}: its page cannot be made: {error}")
        page = {}
    return {**page, FILE: file_of(ran)}


def _public_root(url: str | None, variables: Mapping[str, str]) -> str | None:
    """Ask the service for its public address; the one that we know if it does not answer."""
    if url is None:
        return None
    key = variables.get("SQUASH_KEY", "").strip()
    with suppress(SquashClientError):
        answer = checked(Wire(timeout=10.0, retries=0, key=key).request("GET", url))
        if isinstance(answer, dict) and str(answer.get("job", "")).endswith("/job"):
            return cast("str", answer["job"]).removesuffix("/job")
    return url


def _write(folder: Path | None, files: Mapping[str, str], name: str) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in files.items():
            Path(folder, f"{name}.{ending}").write_text(text, encoding="utf-8")
    except OSError as error:
        print_error(f"--output {folder}: {error.strerror or error}")


def _send(sender: Sender, documents: Iterator[dict[str, Any]], source: str) -> bool:
    """Send the job by the spool: the first document, or the second if that is too large.

    Return whether all of it is kept, or will be, without anybody's help.
    """
    document = next(documents)
    fate, why = _post(sender, document, source)
    if fate == "refused" and why.startswith(_TOO_LARGE):
        size = len(json.dumps(document)) / 1e6
        print_error(
            f"the page and the notebook are not kept: with them the job has {size:.1f} MB, more "
            "than the service takes: leave pictures out with --no-images, show less, or let it "
            "take more with SQUASH_MAX_BODY_BYTES"
        )
        _post(sender, next(documents), source)
        return False
    needs_help = not sender.is_set_up or why.startswith(_UNKNOWN_USER)
    return fate in {"sent", "repeat"} or (fate == "waits" and not needs_help)


def _post(sender: Sender, document: Mapping[str, Any], source: str) -> tuple[Fate, str]:
    """Spool a job, send it, and say what became of it; what is too large is not kept waiting."""
    path = None
    try:
        path = sender.spool.put(document, source=source, url=sender.url, why=_NOT_TRIED).path
    except OSError as error:
        where = f"{sender.spool.folder} cannot be written ({error.strerror or error})"
        fate, why, reply = sender.post(document)
    else:
        where = f"it is in {path}"
        # None: another process sends it.
        sent = next(iter(sender.send([path])), None)
        fate, why, reply = (sent.fate, sent.why, sent.reply) if sent else ("sent", "", None)
    if fate == "refused" and why.startswith(_TOO_LARGE):
        if path is not None:
            path.unlink(missing_ok=True)
    elif fate == "refused":
        print_error(f"the service refuses the job: {why}; {where}")
    elif fate == "waits":
        print_error(f"the job waits ({why}); {where}: squash spool send sends it")
    elif reply is not None:
        typer.echo(f"job {reply.job_id}, {reply.status_url}")
    return fate, why
