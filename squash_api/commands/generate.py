"""`squash generate`: Kapacitor's tasks and Chronograf's dashboards, from the specifications."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.terminal import fail, failing
from squash_api.generate.files import (
    FilesError,
    file_problems,
    find_drift,
    make_files,
    write_files,
)
from squash_api.generate.outputs import OUTPUTS
from squash_api.metrics_packages.loading import MetricsPackage, find_packages, load_metrics_packages
from squash_api.schema.names import Schema

Specs = Annotated[
    list[Path] | None,
    typer.Option(
        help="Directory of a metrics package; may be given again. Without, all in ./specs."
    ),
]
Output = Annotated[Path, typer.Option(help="Where kapacitor/ and chronograf/ are.")]
Database = Annotated[str, typer.Option(help="InfluxDB's database.")]
RetentionPolicy = Annotated[str, typer.Option(help="Its retention policy.")]
Tag = Annotated[
    list[str] | None, typer.Option(help="A tag that SQUASH_TAGS adds; may be given again.")
]


def generate(
    *,
    specs: Specs = None,
    output: Output = Path(),
    database: Database = "squash",
    retention_policy: RetentionPolicy = "autogen",
    tag: Tag = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; name what is not as generated.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the dashboards to this folder too, for the UI's import."),
    ] = None,
) -> None:
    """Write Kapacitor's tasks and Chronograf's dashboards, as the specifications ask for.

    The files depend on the arguments alone, never on the settings or the day. A file that was
    generated for what is gone is removed; one without the words "squash generate" is kept.

    Exit code: 0, 1 if the specifications have problems or, with --check, if a file differs, 2 if
    it cannot be done.
    """
    if check and export is not None:
        fail("--check writes nothing, so it cannot be given with --export")
    inputs = read_inputs(specs, database=database, retention_policy=retention_policy, tags=tag)
    files = inputs.make()
    try:
        drift = (find_drift if check else write_files)(files, output)
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
        typer.echo(f"{len(files)} files, {count} written or removed")
    elif drift:
        fail(f"{count} of {len(files)} files differ: run squash generate", code=1)
    else:
        typer.echo(f"{len(files)} files, all as generated")


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that decides about the generated files."""

    directories: list[Path]
    package: MetricsPackage
    schema: Schema
    place: Mapping[str, str]

    def make(self) -> dict[str, str]:
        """Return the files, or end the command with what forbids to write them."""
        with failing(code=1):
            files = make_files(self.package, schema=self.schema, **self.place)
        problems = file_problems(files)
        if problems:
            fail("\n  ".join(["these files would be unsound:", *problems]), code=1)
        return files


def read_inputs(
    specs: list[Path] | None, *, database: str, retention_policy: str, tags: list[str] | None
) -> Inputs:
    """Read the metrics packages, or end the command: 1 with their problems, 2 if there are none."""
    directories = list(specs or find_packages(Path("specs")))
    if not directories:
        fail("there is no metrics package in ./specs: name its directory with --specs")
    with failing():
        schema = Schema(tuple(tags or ()))
        # That a mute has ended changes nothing here; `squash specs check` tells.
        package = load_metrics_packages(directories, schema=schema, today=date.min)
    if package.problems:
        for problem in package.problems:
            typer.echo(str(problem))
        fail("the specifications have problems, so nothing is done", code=1)
    place = {"database": database, "retention_policy": retention_policy}
    return Inputs(directories, package, schema, place)


def _export(inputs: Inputs, folder: Path) -> None:
    files: dict[str, str] = {}
    for output in OUTPUTS:
        if output.export is not None:
            files |= output.export(inputs.package, schema=inputs.schema, **inputs.place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in sorted(files.items()):
            (folder / name).write_bytes(text.encode())
            typer.echo(f"exported  {folder / name}")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
