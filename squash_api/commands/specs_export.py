"""`squash specs export`: definitions made through the API, written as a metrics package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.terminal import fail, failing
from squash_api.definitions.in_force import Snapshot
from squash_api.judging.specifications import Specification
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
        bool, typer.Option("--all", help="Those that come from YAML too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
) -> None:
    """Write the metrics and specifications made through the API as YAML.

    Alerts are made for YAML alone: export, review and commit what shall alert, and name the
    directory in SQUASH_SPECS. YAML then takes the names over.

    Exit code: 0, 1 if there is nothing to write or a file is in the way, 2 if it cannot be done.
    """
    # Heavy, and `squash --help` does not need it.

    metrics, specifications = _pick(_read(), package, is_everything=everything)
    if not metrics and not specifications:
        where = f" in the package {package}" if package else ""
        fail(f"nothing to write: the API has defined nothing{where}", code=1)
    files = metrics_package_to_files(metrics, specifications)
    in_the_way = [path for path in sorted(files) if (directory / path).exists()]
    if in_the_way and not force:
        fail(f"{directory} has {', '.join(in_the_way)} already: give --force", code=1)
    try:
        _write(directory, files)
    except OSError as error:
        fail(str(error))
    typer.echo(f"{len(metrics)} metrics, {len(specifications)} specifications")


def _read() -> Snapshot:
    """Return what is defined now in the record that the settings name."""
    with failing(), Site(load_settings()) as site:
        return site.definitions.in_force.at(None)


def _pick(
    snapshot: Snapshot, package: str | None, *, is_everything: bool
) -> tuple[list[Metric], list[Specification]]:
    """Return what is to be written. What no metrics package can hold is left out, and named."""
    metrics = [
        defined.content
        for defined in snapshot.metrics.values()
        if (is_everything or defined.origin == "api") and package in (None, defined.content.package)
    ]
    specifications = [
        defined.content
        for name, defined in snapshot.specifications.items()
        if (is_everything or defined.origin == "api") and package in (None, name.partition(".")[0])
    ]
    for item in specifications:
        if item.metric not in snapshot.metrics:
            typer.echo(f"left out: {item.name}: its metric is not declared", err=True)
    return metrics, [item for item in specifications if item.metric in snapshot.metrics]


def _write(directory: Path, files: Mapping[str, str]) -> None:
    for path, text in sorted(files.items()):
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        typer.echo(target)
