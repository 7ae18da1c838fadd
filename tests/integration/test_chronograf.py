"""A real Chronograf and the files that are generated for it."""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.generate.chronograf.dashboards import chronograf_files, export_files
from squash_api.generate.files import with_marks
from squash_api.metrics_packages.loading import load_metrics_packages
from squash_api.schema.names import Schema
from tests.support.chronograf import Chronograf, queries_of, rendered
from tests.support.influxd import ADMIN, ADMIN_PASSWORD, Influxd
from tests.support.metrics_packages import METRICS, ROOT, SHARED_DATA, write_metrics_package

PLACE = {"database": "squash", "retention_policy": "autogen"}
BRACES = '{{.HOME}} <b> & "braces"'
CELL_KEYS = ("i", "x", "y", "w", "h", "name", "type")

# Braces, quotes and markup; those of the repository; and a large one, where it is there.
PACKAGES = ["small", "repository", "sample"]


def files_of(name: str, folder: Path) -> dict[str, str]:
    if name == "small":
        metrics = METRICS.replace("Repeatability of positions.", f"'{BRACES}'")
        directories = [write_metrics_package(folder, metrics=metrics)]
    elif name == "repository":
        directories = sorted(path for path in (ROOT / "specs").iterdir() if path.is_dir())
    else:
        directories = [SHARED_DATA / "verify_metrics_sample"]
        if not directories[0].exists():
            pytest.skip("needs the data that is not committed")
    package = load_metrics_packages(directories)
    return with_marks(chronograf_files(package, schema=Schema(), **PLACE))


def written(files: dict[str, str], folder: Path, influxdb_url: str) -> Path:
    folder.mkdir()
    for path, text in files.items():
        here = text.replace("http://influxdb:8086", influxdb_url)
        (folder / Path(path).name).write_text(here, encoding="utf-8")
    return folder


class Opened:
    """A Chronograf, and the texts of the dashboards in its resource folder."""

    def __init__(self, name: str, server: Chronograf, texts: dict[str, str]) -> None:
        self.name = name
        self.server = server
        self.expected = {
            document["id"]: document
            for document in (json.loads(text.replace("{{`{{`}}", "{{")) for text in texts.values())
        }

    def listed(self) -> dict[str, dict[str, Any]]:
        found = self.server.call("GET", "/dashboards")["dashboards"]
        return {str(item["id"]): item for item in found}


@pytest.fixture(scope="module", params=PACKAGES)
def opened(
    request: pytest.FixtureRequest, influxd: Influxd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("chronograf")
    files = files_of(request.param, folder)
    resources = written(files, folder / "resources", influxd.url)
    with Chronograf(folder / "state", resources) as server:
        dashboards = {path: text for path, text in files.items() if path.endswith(".dashboard")}
        yield Opened(request.param, server, dashboards)


def test_it_lists_every_dashboard_under_its_number(opened: Opened) -> None:
    names = {number: item["name"] for number, item in opened.listed().items()}
    assert names == {number: item["name"] for number, item in opened.expected.items()}


def test_it_opens_every_dashboard_with_all_its_cells(opened: Opened) -> None:
    for number, expected in opened.expected.items():
        found = opened.server.call("GET", f"/dashboards/{number}")
        assert found["name"] == expected["name"]
        assert [[cell[key] for key in CELL_KEYS] for cell in found["cells"]] == [
            [cell[key] for key in CELL_KEYS] for cell in expected["cells"]
        ]
        for cell, wanted in zip(found["cells"], expected["cells"], strict=True):
            assert cell["note"] == wanted["note"]
            assert cell["colors"] == wanted["colors"]
            assert cell["axes"]["y"]["label"] == wanted["axes"]["y"]["label"]
            assert [item["query"] for item in cell["queries"]] == [
                item["query"] for item in wanted["queries"]
            ]


def test_it_has_the_template_variables(opened: Opened) -> None:
    for number, expected in opened.expected.items():
        found = opened.server.call("GET", f"/dashboards/{number}")["templates"]
        assert [item["tempVar"] for item in found] == [
            item["tempVar"] for item in expected["templates"]
        ]


def test_it_complains_of_no_file(opened: Opened) -> None:
    opened.listed()
    assert "level=error" not in opened.server.log()


def test_the_one_source_is_the_default(opened: Opened) -> None:
    (source,) = opened.server.call("GET", "/sources")["sources"]
    assert (source["id"], source["default"], source["telegraf"]) == ("10000", True, "squash")


def test_the_source_has_the_kapacitor(opened: Opened) -> None:
    (kapacitor,) = opened.server.call("GET", "/sources/10000/kapacitors")["kapacitors"]
    assert (kapacitor["url"], kapacitor["active"]) == ("http://kapacitor:9092", True)


def test_its_proxy_answers_the_queries(opened: Opened, influxd: Influxd) -> None:
    influxd.create_database("squash")
    document = opened.expected["1000"]
    for _, query in queries_of(document):
        text = rendered(query, document)
        reply = opened.server.call("POST", "/sources/10000/proxy", {"query": text, "db": "squash"})
        assert [set(result) - {"series"} for result in reply["results"]] == [{"statement_id"}]


def test_it_takes_every_dashboard_as_the_import_of_its_pages_sends_it(opened: Opened) -> None:
    for expected in opened.expected.values():
        # The pages send the name and the cells of an export, then each variable as it is.
        sent = {key: expected[key] for key in ("name", "cells", "templates")}
        made = opened.server.call("POST", "/dashboards", sent)
        found = opened.server.call("GET", f"/dashboards/{made['id']}")
        opened.server.call("DELETE", f"/dashboards/{made['id']}")
        assert len(found["cells"]) == len(expected["cells"])
        assert [html.unescape(cell["note"]) for cell in found["cells"]] == [
            html.unescape(cell["note"]) for cell in expected["cells"]
        ]


def test_braces_in_a_description_are_shown_as_they_are(opened: Opened) -> None:
    notes = [
        html.unescape(cell["note"]) for item in opened.listed().values() for cell in item["cells"]
    ]
    assert any(BRACES in note for note in notes) == (opened.name == "small")


def test_an_export_is_what_the_import_reads(tmp_path: Path) -> None:
    package = load_metrics_packages([write_metrics_package(tmp_path)])
    for text in export_files(package, schema=Schema(), **PLACE).values():
        exported = json.loads(text)
        assert exported["dashboard"]["name"]
        assert all(cell["i"] for cell in exported["dashboard"]["cells"])
        assert all("values" in item for item in exported["dashboard"]["templates"])
        assert set(exported["meta"]) == {"chronografVersion", "sources"}


def test_user_and_password_in_the_environment_open_a_locked_influxdb(tmp_path: Path) -> None:
    package = load_metrics_packages([write_metrics_package(tmp_path)])
    files = chronograf_files(package, schema=Schema(), **PLACE)
    login = {"INFLUXDB_USERNAME": ADMIN, "INFLUXDB_PASSWORD": ADMIN_PASSWORD}
    with Influxd(tmp_path / "influxd", auth=True) as locked:
        locked.create_database("squash")
        resources = written(files, tmp_path / "resources", locked.url)
        with Chronograf(tmp_path / "state", resources, **login) as server:
            (source,) = server.call("GET", "/sources")["sources"]
            query = {"query": "SHOW DATABASES", "db": "squash"}
            reply = server.call("POST", "/sources/10000/proxy", query)
    assert source["username"] == ADMIN
    assert ["squash"] in reply["results"][0]["series"][0]["values"]
