"""The files that tell Chronograf where InfluxDB and Kapacitor are. Pure.

They name no user and no password. Chronograf takes such files through a template with its
environment and skips a file for which a variable is missing, so there is nothing of that kind.
"""

from typing import Any

from squash_api.artifacts.resource_text import resource_text

SOURCE_ID = 10000
"""The source's number in Chronograf's addresses: `/sources/10000/dashboards/...`."""

KAPACITOR_ID = 20000
ORGANIZATION = "default"
INFLUXDB_URL = "http://influxdb:8086"
KAPACITOR_URL = "http://kapacitor:9092"
_STEM = "squash"


def connection_files(
    *,
    database: str,
    retention_policy: str,
    influxdb_url: str = INFLUXDB_URL,
    kapacitor_url: str = KAPACITOR_URL,
) -> dict[str, str]:
    """Return the source, which is the default one, its Kapacitor, and the organization of both.

    Parameters
    ----------
    influxdb_url, kapacitor_url
        As Chronograf reaches them.
    """
    organization: dict[str, Any] = {
        "id": ORGANIZATION,
        "name": "Default",
        "defaultRole": "member",
    }
    source: dict[str, Any] = {
        "id": str(SOURCE_ID),
        "name": "SQuaSH",
        "url": influxdb_url,
        "type": "influx",
        "default": True,
        "telegraf": database,
        "defaultRP": retention_policy,
        "organization": ORGANIZATION,
    }
    kapacitor: dict[str, Any] = {
        "id": str(KAPACITOR_ID),
        "srcID": str(SOURCE_ID),
        "name": "SQuaSH alerts",
        "url": kapacitor_url,
        "active": True,
        "organization": ORGANIZATION,
    }
    return {
        f"{_STEM}.org": resource_text(organization),
        f"{_STEM}.src": resource_text(source),
        f"{_STEM}.kap": resource_text(kapacitor),
    }
