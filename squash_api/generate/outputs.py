"""All files that metrics packages generate. Pure."""

from squash_api.generate.chronograf.dashboards import chronograf_files
from squash_api.generate.files import with_marks
from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema


def make_files(
    package: MetricsPackage, *, schema: Schema, database: str, retention_policy: str
) -> dict[str, str]:
    """Return the texts by path below the output, sorted; the arguments alone decide about them.

    Parameters
    ----------
    package
        Without problems.
    schema
        The names in InfluxDB.
    database, retention_policy
        Where the service writes its points, as Kapacitor and Chronograf see it.

    Raises
    ------
    SettingsError
        If a name cannot be written in one of the files' languages.
    """
    place = {"database": database, "retention_policy": retention_policy}
    return with_marks(
        kapacitor_files(package, schema=schema, **place)
        | chronograf_files(package, schema=schema, **place)
    )


def task_of(
    package: MetricsPackage, *, schema: Schema, database: str, retention_policy: str
) -> str:
    """Return the task of the only metric of a package, as `make_files` makes it."""
    files = kapacitor_files(
        package, schema=schema, database=database, retention_policy=retention_policy
    )
    (name,) = package.metrics
    path = f"kapacitor/tasks/{name}.tick"
    return with_marks({path: files[path]})[path]
