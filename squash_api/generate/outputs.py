"""The table of outputs: all that is generated from specifications.

Another output is a row here, with the package that renders it.
"""

from pathlib import PurePosixPath

from squash_api.generate.chronograf.dashboards import chronograf_files, export_files
from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.generate.output import JSON, TICKSCRIPT, YAML, FileKind, Output

OUTPUTS = (
    Output(
        "kapacitor",
        files=(
            # A task that raises its first alert should find the handlers.
            FileKind("kapacitor/handlers", ".yaml", YAML, "handler"),
            FileKind("kapacitor/tasks", ".tick", TICKSCRIPT, "task"),
        ),
        render=kapacitor_files,
        server="squash_api.generate.kapacitor.server:Kapacitor",
    ),
    Output(
        "chronograf",
        files=(
            FileKind("chronograf", ".dashboard", JSON, "dashboard"),
            *(FileKind("chronograf", extension, JSON) for extension in (".src", ".kap", ".org")),
        ),
        render=chronograf_files,
        server="squash_api.generate.chronograf.server:Chronograf",
        export=export_files,
    ),
)


def file_kind_of(path: str) -> FileKind | None:
    """Return of which kind a file is, by its path below the output; None if it is none of ours."""
    place = PurePosixPath(path)
    return next(
        (
            kind
            for output in OUTPUTS
            for kind in output.files
            if (kind.folder, kind.extension) == (place.parent.as_posix(), place.suffix)
        ),
        None,
    )
