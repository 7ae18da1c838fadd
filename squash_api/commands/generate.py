"""`squash generate`: Kapacitor's tasks, Chronograf's and Grafana's dashboards."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.specs import load_sound
from squash_api.commands.terminal import fail, failing, options_as
from squash_api.generate.files import FilesError, file_problems, find_drift, make_files, write_files
from squash_api.generate.outputs import OUTPUTS
from squash_api.judging.wording import counted
from squash_api.metrics_packages.loading import MetricsPackage, find_packages
from squash_api.schema.names import Schema
from squash_api.setting_types import AlertsBy
from squash_api.settings import read_settings

*_FIRST, _LAST = (f"{output.name}/" for output in OUTPUTS)
_FOLDERS = f"{', '.join(_FIRST)} and {_LAST}"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that decides about the generated files, and where they are written."""

    directories: list[Path]
    package: MetricsPackage
    schema: Schema
    place: Mapping[str, str]
    output: Path
    alerts_by: AlertsBy = "kapacitor"

    def make(self) -> dict[str, str]:
        """Make the files, or end the command with the reasons not to write them."""
        with failing(code=1):
            files = make_files(
                self.package, schema=self.schema, alerts_by=self.alerts_by, **self.place
            )
        problems = file_problems(files)
        if problems:
            fail("\n  ".join(["these files would be unsound:", *problems]), code=1)
        return files


def _read_inputs(
    *,
    specs: list[Path] | None,
    output: Path,
    tag: list[str] | None,
    alerts_by: AlertsBy | None,
    **place: str,
) -> Inputs:
    """Read the metrics packages, or end the command: 1 with their problems, 2 if there are none."""
    require_parent(output)
    directories = list(specs or find_packages(Path("specs")))
    if not directories:
        fail("there is no metrics package in ./specs: name its directory with --specs")
    with failing():
        schema = Schema(tuple(tag or ()))
    # An expired mute changes nothing here; `squash specs check` reports it.
    package = load_sound(directories, schema=schema, today=date.min)
    with failing():
        chosen = read_settings()[0].alerts_by if alerts_by is None else alerts_by
    return Inputs(directories, package, schema, place, output, chosen)


def require_parent(directory: Path) -> None:
    """End the command if a directory that may be made would be in one that does not exist."""
    if not directory.resolve().parent.is_dir():
        fail(f"{directory}: the directory {directory.parent} does not exist: make it")


with_inputs = options_as(
    "inputs",
    {
        "specs": Annotated[
            list[Path] | None,
            typer.Option(
                help="Directory of a metrics package; may be repeated. Default: all in ./specs."
            ),
        ],
        "output": Annotated[Path, typer.Option(help=f"Where {_FOLDERS} are.")],
        "database": Annotated[str, typer.Option(help="InfluxDB's database.")],
        "retention_policy": Annotated[str, typer.Option(help="Its retention policy.")],
        "tag": Annotated[
            list[str] | None, typer.Option(help="A tag that SQUASH_TAGS adds; may be repeated.")
        ],
        "alerts_by": Annotated[
            AlertsBy | None,
            typer.Option(help="Who tells people of alerts, instead of SQUASH_ALERTS_BY."),
        ],
    },
    defaults={"output": Path(), "database": "squash", "retention_policy": "autogen"},
    gather=lambda given: _read_inputs(**given),
)


@with_inputs
def generate(
    *,
    inputs: Inputs,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; list the files that differ.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(help="Also write the dashboards to this directory, for Chronograf's import."),
    ] = None,
) -> None:
    """Write Kapacitor's tasks, and the dashboards of Chronograf and Grafana.

    The files depend only on the specifications, the options, and SQUASH_ALERTS_BY, never on other
    settings or the day.
    A generated file that is no longer needed is deleted; one without the words "squash generate"
    is kept.

    Exit code: 0 success, 1 if the specifications have problems or, with --check, a file differs, 2
    if it cannot be done.
    """
    if check and export is not None:
        fail("--check writes nothing, so it cannot be given with --export")
    files = inputs.make()
    if export is not None and export.resolve().parent != inputs.output.resolve():
        require_parent(export)
    try:
        drift = (find_drift if check else write_files)(files, inputs.output)
    except FilesError as error:
        fail(str(error))
    words = ("changed", "missing", "orphaned") if check else ("changed", "made", "removed")
    for word, paths in zip(words, (drift.changed, drift.missing, drift.orphaned), strict=True):
        for path in paths:
            typer.echo(f"{word:<9} {path}")
    if export is not None:
        _export(inputs, export)
    count = sum(map(len, (drift.changed, drift.missing, drift.orphaned)))
    if not check:
        typer.echo(f"{counted(len(files), 'file')}, {count} written or removed")
    elif drift:
        fail(f"{count} of {counted(len(files), 'file')} differ: run squash generate", code=1)
    else:
        typer.echo(f"{counted(len(files), 'file')}, all as generated")


def _export(inputs: Inputs, directory: Path) -> None:
    files: dict[str, str] = {}
    for output in OUTPUTS:
        if output.export is not None:
            files |= output.export(
                inputs.package, schema=inputs.schema, alerts_by=inputs.alerts_by, **inputs.place
            )
    try:
        directory.mkdir(exist_ok=True)
        for name, text in sorted(files.items()):
            (directory / name).write_bytes(text.encode())
            typer.echo(f"exported  {directory / name}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
