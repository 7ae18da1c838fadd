"""What Grafana knows SQuaSH's things by, and the files with its data source and folder. Pure.

Grafana puts variables of its environment into the YAML of its provisioning. So the files are the
same for everybody and contain no passwords: `SQUASH_INFLUX_URL`, `_USER` and `_PASSWORD` are the
service's own settings. Source: Grafana's documentation, "Provision Grafana" and "InfluxDB".
"""

import re
from hashlib import sha256
from typing import Any

import yaml

FOLDER = "grafana"
"""Where the files are. `provisioning` below it is mounted as Grafana's own folder of that name."""

PROVISIONING = f"{FOLDER}/provisioning"
DASHBOARDS = f"{FOLDER}/dashboards"
DASHBOARDS_MOUNT = "/etc/grafana/dashboards"
"""Where Grafana finds the dashboards."""

SOURCE_UID = "squash-influxdb"
SOURCE = {"type": "influxdb", "uid": SOURCE_UID}
"""How a panel, a variable or a rule names the data source."""

FOLDER_UID = "squash"
FOLDER_TITLE = "SQuaSH"
"""The folder of dashboards and rules in Grafana."""

_MAX_UID = 40
_NOT_IN_UIDS = re.compile(r"[^A-Za-z0-9_-]+")


def uid_of(*names: str) -> str:
    """Return the uid of something by its names: the same for ever, and for no other names.

    Grafana accepts 40 letters, digits, `-` and `_`. A uid that would need others, or be longer,
    ends in a hash of the names.
    """
    whole = "-".join(names)
    plain = _NOT_IN_UIDS.sub("-", whole)
    if plain == whole and len(whole) <= _MAX_UID:
        return whole
    digest = sha256("\0".join(names).encode()).hexdigest()[:10]
    return f"{plain[: _MAX_UID - len(digest) - 1]}-{digest}"


def literal_text(text: str) -> str:
    """Return text for provisioning's YAML, in which Grafana replaces `$NAME` and `${NAME}`."""
    return text.replace("$", "$$")


def given_text(text: str) -> str:
    """Return what was made into literal text."""
    return text.replace("$$", "$")


def yaml_text(document: dict[str, Any]) -> str:
    """Return YAML in the order of the document; with libyaml, where it is there, faster."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def influxql(
    query: str, *, retention_policy: str, ref: str = "A", alias: str = "", form: str = "time_series"
) -> dict[str, Any]:
    """Return a query as a panel or a rule has it.

    Parameters
    ----------
    query
        It names measurements alone: the database is the data source's. InfluxDB 3 has no other
        way, and 1 and 2 read the retention policy from the request.
    alias
        The name of a series, such as `$tag_dataset $col`; InfluxDB's own without it.
    form
        `time_series` or `table`.
    """
    named = {"alias": alias} if alias else {}
    return {
        "refId": ref,
        "datasource": SOURCE,
        "query": query,
        "rawQuery": True,
        "resultFormat": form,
        "policy": retention_policy,
        **named,
    }


def connection_files(*, database: str) -> dict[str, str]:
    """Return the files of the data source and of the folder with the dashboards, by path."""
    source = {
        "name": FOLDER_TITLE,
        "uid": SOURCE_UID,
        "type": "influxdb",
        "access": "proxy",
        "url": "$SQUASH_INFLUX_URL",
        "user": "$SQUASH_INFLUX_USER",
        "isDefault": False,
        "editable": False,
        # The queries of graphs with many limits are longer than some URLs may be.
        "jsonData": {"dbName": literal_text(database), "httpMode": "POST"},
        "secureJsonData": {"password": "$SQUASH_INFLUX_PASSWORD"},
    }
    provider = {
        "name": FOLDER_TITLE,
        "type": "file",
        "folder": FOLDER_TITLE,
        "folderUid": FOLDER_UID,
        # A dashboard whose file is gone goes too.
        "disableDeletion": False,
        "allowUiUpdates": False,
        "updateIntervalSeconds": 60,
        "options": {"path": DASHBOARDS_MOUNT},
    }
    documents = {
        "datasources/squash.yaml": {"apiVersion": 1, "datasources": [source]},
        "dashboards/squash.yaml": {"apiVersion": 1, "providers": [provider]},
    }
    return {f"{PROVISIONING}/{name}": yaml_text(item) for name, item in documents.items()}
