import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from squash_api.generate.grafana.connections import (
    DASHBOARDS_MOUNT,
    FOLDER_UID,
    SOURCE,
    connection_files,
    influxql,
    literal_text,
    uid_of,
)

pytestmark = pytest.mark.sqlite


def documents(database: str = "squash") -> dict[str, dict[str, Any]]:
    files = connection_files(database=database)
    return {path.split("/")[2]: yaml.safe_load(text) for path, text in files.items()}


def as_grafana_reads(text: str, environment: dict[str, str]) -> str:
    """Expand variables as Grafana's documentation of provisioning says."""
    return re.sub(
        r"\$(?:\$|\{(\w+)\}|(\w+))",
        lambda found: "$" if found[0] == "$$" else environment.get(found[1] or found[2], ""),
        text,
    )


def test_the_data_source_is_influxql_on_the_database() -> None:
    (source,) = documents("metrics")["datasources"]["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == SOURCE
    assert source["jsonData"]["dbName"] == "metrics"
    assert source["access"] == "proxy"


def test_it_is_not_the_default_which_only_one_source_may_be() -> None:
    (source,) = documents()["datasources"]["datasources"]
    assert source["isDefault"] is False


def test_where_influxdb_is_and_its_password_come_from_the_environment_of_grafana() -> None:
    (source,) = documents()["datasources"]["datasources"]
    environment = {"SQUASH_INFLUX_URL": "http://i:1", "SQUASH_INFLUX_PASSWORD": "pa$$word"}
    assert as_grafana_reads(source["url"], environment) == "http://i:1"
    assert as_grafana_reads(source["secureJsonData"]["password"], environment) == "pa$$word"
    assert as_grafana_reads(source["user"], environment) == ""


@given(st.text())
def test_text_is_what_it_was_when_grafana_has_read_it(text: str) -> None:
    assert as_grafana_reads(literal_text(text), {"a": "b"}) == text


def test_the_dashboards_are_in_the_folder_by_a_uid_and_go_with_their_files() -> None:
    (provider,) = documents()["dashboards"]["providers"]
    assert provider["folderUid"] == FOLDER_UID
    assert provider["disableDeletion"] is False
    assert provider["options"] == {"path": DASHBOARDS_MOUNT}


NAMES = st.lists(st.text(min_size=1), min_size=1, max_size=3)


@given(NAMES)
def test_every_uid_is_one_that_grafana_accepts(names: list[str]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid_of(*names))


@given(NAMES, NAMES)
def test_a_uid_that_says_less_than_the_names_is_of_these_alone(
    some: list[str], others: list[str]
) -> None:
    if "-".join(some) != "-".join(others):
        assert uid_of(*some) != uid_of(*others)


def test_a_short_plain_name_is_its_own_uid() -> None:
    assert uid_of("squash", "validate_drp") == "squash-validate_drp"


def test_the_uid_of_a_metric_stays_what_it_is() -> None:
    assert uid_of("squash", "validate_drp.PA1") == "squash-validate_drp-PA1-f7efb2320c"


def test_a_query_names_its_retention_policy_beside_its_text() -> None:
    query = influxql('SELECT "PA1" FROM "validate_drp"', retention_policy="year", alias="PA1")
    assert query["policy"] == "year"
    assert query["datasource"] == SOURCE
    assert (query["refId"], query["alias"], query["rawQuery"]) == ("A", "PA1", True)
