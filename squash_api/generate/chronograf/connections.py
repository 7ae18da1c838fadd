"""JSON as files of Chronograf's resource folder hold it. Pure.

The files that tell Chronograf where InfluxDB and Kapacitor are. Pure.

They hold no password. Chronograf takes such files through a Go template with its environment as
data; user and password are looked up in it, in a way that gives empty text where there is none.
"""

import json
from typing import Any


def json_text(document: dict[str, Any]) -> str:
    """Return JSON with an indent, sorted by key, that ends in a line break."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def resource_text(document: dict[str, Any]) -> str:
    """Return JSON for the resource folder, whose files Chronograf takes for Go templates."""
    return without_template(json_text(document))


def without_template(text: str) -> str:
    """Return text that a template prints as it was: what begins a template is printed by one."""
    return text.replace("{{", "{{`{{`}}")


SOURCE_ID = 10000
"""The source's number in Chronograf's addresses: `/sources/10000/dashboards/...`."""

KAPACITOR_ID = 20000
ORGANIZATION = "default"
INFLUXDB_URL = "http://influxdb:8086"
KAPACITOR_URL = "http://kapacitor:9092"
USER_VARIABLE = "INFLUXDB_USERNAME"
PASSWORD_VARIABLE = "INFLUXDB_PASSWORD"  # noqa: S105 - the name of a variable
"""Environment variables of Chronograf with InfluxDB's user, where it asks for one."""

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
    # `.VARIABLE` would be shorter, but a file whose variable is missing is skipped then.
    return f"{{{{index . `{variable}`}}}}"
