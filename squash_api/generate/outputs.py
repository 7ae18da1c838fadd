"""The table of outputs: everything that is generated from specifications."""

from pathlib import PurePosixPath

from squash_api.generate.chronograf.dashboards import chronograf_files, export_files
from squash_api.generate.grafana.alerting import ALERTING, with_deleted
from squash_api.generate.grafana.connections import DASHBOARDS, PROVISIONING
from squash_api.generate.grafana.files import grafana_files
from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.generate.output import JSON, TICKSCRIPT, YAML, FileKind, Output

OUTPUTS = (
    Output(
        "kapacitor",
        files=(
            # The first alert of a task needs the handlers.
            FileKind("kapacitor/handlers", ".yaml", YAML, ("handler",)),
            FileKind("kapacitor/tasks", ".tick", TICKSCRIPT, ("task",)),
        ),
        render=kapacitor_files,
        server="squash_api.generate.kapacitor.server:Kapacitor",
    ),
    Output(
        "chronograf",
        files=(
            FileKind("chronograf", ".dashboard", JSON, ("dashboard",)),
            *(FileKind("chronograf", extension, JSON) for extension in (".src", ".kap", ".org")),
        ),
        render=chronograf_files,
        server="squash_api.generate.chronograf.server:Chronograf",
        export=export_files,
    ),
    Output(
        "grafana",
        files=(
            FileKind(f"{PROVISIONING}/datasources", ".yaml", YAML),
            FileKind(f"{PROVISIONING}/dashboards", ".yaml", YAML),
            FileKind(
                ALERTING,
                ".yaml",
                YAML,
                (
                    "Grafana template",
                    "Grafana contact point",
                    "Grafana mute timing",
                    # It names those before it, and rules need it.
                    "Grafana notification policy",
                    "Grafana rule group",
                ),
            ),
            FileKind(DASHBOARDS, ".json", JSON, ("Grafana dashboard",)),
        ),
        render=grafana_files,
        server="squash_api.generate.grafana.server:Grafana",
        keep=with_deleted,
    ),
)

SERVED = tuple(output for output in OUTPUTS if output.server)
"""The outputs whose servers are compared and changed over the network."""


def file_kind_of(path: str) -> FileKind | None:
    """Return the kind of a file by its path below the output; None if no output makes it."""
    place = PurePosixPath(path)
    wanted = (place.parent.as_posix(), place.suffix)
    kinds = (kind for output in OUTPUTS for kind in output.files)
    return next((kind for kind in kinds if (kind.folder, kind.extension) == wanted), None)
