import json
import re
from typing import Any

from squash_api.generate.chronograf.connections import connection_files, resource_text
from squash_api.generate.output import json_text

PLACE = {"database": "squash", "retention_policy": "autogen"}


def documents(**more: str) -> dict[str, dict[str, Any]]:
    files = connection_files(**PLACE, **more)
    return {name.rpartition(".")[2]: json.loads(text) for name, text in files.items()}


def test_there_is_one_default_source_on_the_database() -> None:
    source = documents()["src"]
    assert source["default"] is True
    assert (source["telegraf"], source["defaultRP"]) == ("squash", "autogen")


def test_the_kapacitor_is_the_active_one_of_the_source() -> None:
    found = documents()
    assert found["kap"]["srcID"] == found["src"]["id"]
    assert found["kap"]["active"] is True


def test_all_are_in_the_organization() -> None:
    found = documents()
    assert found["src"]["organization"] == found["kap"]["organization"] == found["org"]["id"]


def test_the_servers_are_those_of_compose_unless_told() -> None:
    found = documents()
    assert (found["src"]["url"], found["kap"]["url"]) == (
        "http://influxdb:8086",
        "http://kapacitor:9092",
    )


def test_other_servers() -> None:
    found = documents(influxdb_url="http://i:1", kapacitor_url="http://k:2")
    assert (found["src"]["url"], found["kap"]["url"]) == ("http://i:1", "http://k:2")


def test_user_and_password_come_from_the_environment_of_chronograf() -> None:
    source = documents()["src"]
    assert source["username"] == "{{index . `INFLUXDB_USERNAME`}}"
    assert source["password"] == "{{index . `INFLUXDB_PASSWORD`}}"


def test_no_other_text_is_a_template() -> None:
    files = connection_files(database="{{.A}}", retention_policy="{{.B}}", influxdb_url="{{.C}}")
    assert files["squash.src"].count("{{`{{`}}.") == 3
    assert not re.search(r"\{\{\.", "".join(files.values()))


def test_json_is_sorted_and_ends_in_a_line_break() -> None:
    assert json_text({"b": 1, "a": "ü"}) == '{\n  "a": "ü",\n  "b": 1\n}\n'


def test_what_a_template_begins_with_is_printed_by_one() -> None:
    assert resource_text({"a": "{{.X}} {{{"}) == '{\n  "a": "{{`{{`}}.X}} {{`{{`}}{"\n}\n'


def test_the_escaped_text_is_json_still() -> None:
    assert json.loads(resource_text({"a": "{{"})) == {"a": "{{`{{`}}"}
