"""`squash specs import`: metrics of other systems, as a metrics package."""

from pathlib import Path
from typing import Annotated, Any

import typer

from squash_api.commands.specs_export import write_new
from squash_api.commands.terminal import fail
from squash_api.judging.wording import counted
from squash_api.metrics_packages.documents import read_documents
from squash_api.metrics_packages.foreign import as_measured, foreign_metrics, foreign_to_files
from squash_api.verify.job_file import parse_json
from squash_api.verify.measurement import DocumentError
from squash_api.wires.files import read_jobs

_File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="metricInformation.yaml of analysis_tools, or metrics of the SQUASH prototype or of "
        "QLF, in JSON or YAML.",
    ),
]
_Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Directory of the metrics package to write.")
]
_Package = Annotated[str, typer.Option(help="Verification package of the metrics that name none.")]
_Measured = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Bundles or jobs that have these metrics, for their packages and units; "
        "may be repeated.",
    ),
]


def import_definitions(
    file: _File,
    directory: _Directory,
    *,
    package: _Package,
    measured: _Measured = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
) -> None:
    """Write metrics and limits of another system as YAML: all of the files, or none.

    A lower and an upper threshold become two specifications; minimum, design, stretch and user
    become one each, whose operator follows from their order; condition and threshold become one.
    What cannot be said becomes a comment: review the files, then run squash specs check.

    Exit code: 0 success, 1 something was left out or a file exists already, 2 it cannot be done.
    """
    try:
        metrics, others = foreign_metrics(_read(file))
    except ValueError as error:
        fail(f"{file}: {error}")
    if measured:
        metrics = as_measured(metrics, _units(measured))
    imported = foreign_to_files(
        metrics, package=package, origin=file.name, stem=file.stem, others=others
    )
    for text in imported.left_out:
        typer.echo(f"left out: {text}", err=True)
    if not imported.metrics:
        fail("nothing was written: no metric is left", code=1)
    write_new(directory, imported.files, force=force)
    numbers = (
        counted(imported.metrics, "metric"),
        counted(imported.specifications, "specification"),
    )
    typer.echo(", ".join(numbers))
    raise typer.Exit(1 if imported.left_out else 0)


def _read(path: Path) -> Any:
    """Read JSON or YAML; several documents are a list.

    Raises
    ------
    DocumentError
        If it is neither.
    """
    if path.suffix.lower() == ".json":
        try:
            return parse_json(path.read_bytes())[0]
        except OSError as error:
            raise DocumentError(f"cannot be read: {error.strerror}") from None
    problems: list[str] = []
    documents = read_documents(
        path,
        file=path.name,
        report=lambda source, message: problems.append(f"line {source.line}: {message}"),
    )
    if problems:
        raise DocumentError(problems[0])
    return [document.value for document in documents]


def _units(paths: list[str]) -> dict[str, str | None]:
    """Return the units of the metrics that are measured in files, by full name."""
    found: dict[str, str | None] = {}
    for job in (job for path in paths for job in read_jobs(path)):
        if job.document is None:
            typer.echo(f"note: {job.place}: {job.problem}", err=True)
            continue
        for item in job.document["measurements"]:
            if isinstance(item.get("metric"), str) and isinstance(item.get("unit"), str | None):
                found[item["metric"]] = item.get("unit") or found.get(item["metric"])
    return found
