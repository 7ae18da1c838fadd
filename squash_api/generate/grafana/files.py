"""Grafana's files: its data source and folder, and the dashboards. Pure."""

from squash_api.generate.grafana.alerting import alerting_files
from squash_api.generate.grafana.connections import connection_files
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema
from squash_api.setting_types import AlertsBy


def grafana_files(
    package: MetricsPackage,
    *,
    schema: Schema,
    database: str,
    retention_policy: str,
    alerts_by: AlertsBy = "kapacitor",
) -> dict[str, str]:
    """Return the files of `grafana/` by path; see `Render`."""
    return connection_files(database=database) | alerting_files(
        package, schema=schema, retention_policy=retention_policy, alerts_by=alerts_by
    )
