"""Grafana's files: its data source and folder, and the dashboards. Pure."""

from squash_api.generate.grafana.connections import connection_files
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema


def grafana_files(
    package: MetricsPackage,  # noqa: ARG001 - dashboards are made of it
    *,
    schema: Schema,  # noqa: ARG001 - likewise
    database: str,
    retention_policy: str,  # noqa: ARG001 - likewise
) -> dict[str, str]:
    """Return the files of `grafana/` by path; see `Render`."""
    return connection_files(database=database)
