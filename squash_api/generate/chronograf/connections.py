"""The files that tell Chronograf where InfluxDB and Kapacitor are, and its kind of JSON. Pure.

They contain no passwords: Chronograf executes its files as Go templates, which read user and
password from its environment.
"""

from typing import Any

from squash_api.generate.output import json_text


def resource_text(document: dict[str, Any]) -> str:
    """Return JSON for the resource directory, whose files are Go templates."""
    return without_template(json_text(document))


def without_template(text: str) -> str:
    """Return a template that prints the text."""
    return text.replace("{{", "{{`{{`}}")


SOURCE_ID = 10000
"""The number of the source in Chronograf's URLs: `/sources/10000/dashboards/...`."""

KAPACITOR_ID = 20000
ORGANIZATION = "default"
INFLUXDB_URL = "http://influxdb:8086"
KAPACITOR_URL = "http://kapacitor:9092"
USER_VARIABLE = "INFLUXDB_USERNAME"
PASSWORD_VARIABLE = "INFLUXDB_PASSWORD"  # noqa: S105 - the name of a variable
"""Chronograf's environment variables with InfluxDB's user, if it asks for one."""

_STEM = "squash"


def connection_files(
    *,
    database: str,
    retention_policy: str,
    influxdb_url: str = INFLUXDB_URL,
    kapacitor_url: str = KAPACITOR_URL,
) -> dict[str, str]:
    """Return the default source, its Kapacitor and their organization; URLs are Chronograf's."""
    organization = {"id": ORGANIZATION, "name": "Default", "defaultRole": "member"}
    source: dict[str, Any] = {
        "id": str(SOURCE_ID),
        "name": "SQuaSH",
        "url": without_template(influxdb_url),
        "username": _from_environment(USER_VARIABLE),
        "password": _from_environment(PASSWORD_VARIABLE),
        "type": "influx",
        "default": True,
        "telegraf": without_template(database),
        "defaultRP": without_template(retention_policy),
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
        f"{_STEM}.src": json_text(source),
        f"{_STEM}.kap": resource_text(kapacitor),
    }


def _from_environment(variable: str) -> str:
    # With `.VARIABLE`, Chronograf would skip a file whose variable is missing.
    return f"{{{{index . `{variable}`}}}}"
