"""`squash specs export`: definitions made through the API, as a metrics package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.terminal import fail, failing
from squash_api.definitions.in_force import Snapshot
from squash_api.generate.files import write_all
from squash_api.judging.specifications import Specification
from squash_api.judging.wording import counted
from squash_api.metrics_packages.export import metrics_package_to_files
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.verify.metrics import Metric


def export(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory of the metrics package to write.")
    ],
    *,
    package: Annotated[
        str | None, typer.Option(help="Only metrics of this verification package.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Include those that come from YAML.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
) -> None:
    """Write definitions from the API as YAML: all of the files, or none.

    Only specifications in YAML send alerts. To have alerts, export, review and commit definitions,
    and name the directory in SQUASH_SPECS. Their names then belong to YAML.

    Exit code: 0 success, 1 there is nothing to write or a file exists already, 2 it cannot be done.
    """
    with failing(), Site(load_settings()) as site:
        snapshot = site.definitions.in_force.at(None)
    metrics, specifications = _pick(snapshot, package, is_everything=everything)
    if not metrics and not specifications:
        where = f" in the package {package}" if package else ""
        fail(f"nothing to write: the API has defined nothing{where}", code=1)
    files = metrics_package_to_files(metrics, specifications)
    write_new(directory, files, force=force)
    numbers = (counted(len(metrics), "metric"), counted(len(specifications), "specification"))
    typer.echo(", ".join(numbers))


def write_new(directory: Path, files: Mapping[str, str], *, force: bool) -> None:
    """Write all files of a metrics package and name them, or end the command; 1 if one is there."""
    in_the_way = [path for path in sorted(files) if (directory / path).exists()]
    if in_the_way and not force:
        fail(f"{directory} has {', '.join(in_the_way)} already: give --force", code=1)
    try:
        write_all({directory / path: text.encode() for path, text in files.items()})
    except OSError as error:
        fail(f"nothing was written: {error.filename}: {error.strerror}")
    for path in sorted(files):
        typer.echo(directory / path)


def _pick(
    snapshot: Snapshot, package: str | None, *, is_everything: bool
) -> tuple[list[Metric], list[Specification]]:
    """Choose what to write. What a metrics package cannot hold is left out, and named."""

    def is_wanted(name: str, origin: str) -> bool:
        is_chosen = is_everything or origin == "api"
        return is_chosen and package in (None, name.partition(".")[0])

    metrics = [
        defined.content
        for name, defined in snapshot.metrics.items()
        if is_wanted(name, defined.origin)
    ]
    specifications = [
        defined.content
        for name, defined in snapshot.specifications.items()
        if is_wanted(name, defined.origin)
    ]
    for item in specifications:
        if item.metric not in snapshot.metrics:
            typer.echo(f"left out: {item.name}: its metric is not declared", err=True)
    return metrics, [item for item in specifications if item.metric in snapshot.metrics]
