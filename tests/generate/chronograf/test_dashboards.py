import json
import re
from pathlib import Path
from typing import Any

import pytest

from squash_api.generate.chronograf import dashboards as dashboard
from squash_api.generate.chronograf.connections import resource_text
from squash_api.generate.chronograf.dashboards import chronograf_files, dashboard_ids, export_files
from squash_api.generate.files import file_problems, with_marks
from squash_api.generate.output import MARK
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from squash_api.schema import watch as watch_names
from squash_api.schema.names import CONTRACT_FIELDS, META_PREFIX
from tests.support.chronograf import queries_of
from tests.support.dashboards import SCHEMA, dashboards
from tests.support.metrics_packages import METRICS, ROOT, shared, write_metrics_package

PLACE = {"database": "squash", "retention_policy": "autogen"}
CELL_TYPES = {"line", "single-stat", "table", "note"}
COLOR_TYPES = {"scale", "background"}
TEMPLATE_TYPES = {"tagValues": "tagValue", "map": "map"}
AXIS = {"bounds", "label", "prefix", "suffix", "base", "scale"}


def small(tmp_path: Path) -> MetricsPackage:
    return load_metrics_package(write_metrics_package(tmp_path))


@pytest.fixture(params=["specs/srd", "examples/specs/camera", "sample"])
def package(request: pytest.FixtureRequest) -> MetricsPackage:
    name: str = request.param
    folder = shared("verify_metrics_sample") if name == "sample" else ROOT / name
    return load_metrics_package(folder)


def documents(package: MetricsPackage) -> dict[str, dict[str, Any]]:
    files = chronograf_files(package, schema=SCHEMA, **PLACE)
    return {path: json.loads(text) for path, text in files.items() if path.endswith(".dashboard")}


def all_cells(package: MetricsPackage) -> list[dict[str, Any]]:
    return [cell for document in documents(package).values() for cell in document["cells"]]


def test_there_is_a_dashboard_per_package_one_over_all_one_of_the_service_and_the_servers(
    tmp_path: Path,
) -> None:
    files = chronograf_files(small(tmp_path), schema=SCHEMA, **PLACE)
    assert sorted(files) == [
        "chronograf/squash-overview.dashboard",
        "chronograf/squash-service.dashboard",
        "chronograf/squash.kap",
        "chronograf/squash.org",
        "chronograf/squash.src",
        "chronograf/validate.dashboard",
    ]


def test_the_files_can_be_written(package: MetricsPackage) -> None:
    assert file_problems(with_marks(chronograf_files(package, schema=SCHEMA, **PLACE))) == []


def test_every_dashboard_says_that_it_is_generated(package: MetricsPackage) -> None:
    for document in documents(package).values():
        assert [cell for cell in document["cells"] if MARK in cell["note"]]


def test_the_overview_is_listed_first(package: MetricsPackage) -> None:
    names = sorted((item["name"] for item in documents(package).values()), key=str.lower)
    assert names[0] == "SQuaSH overview"


def test_cells_do_not_overlap_and_stay_on_the_grid(package: MetricsPackage) -> None:
    for document in documents(package).values():
        taken: set[tuple[int, int]] = set()
        for cell in document["cells"]:
            squares = {
                (x, y)
                for x in range(cell["x"], cell["x"] + cell["w"])
                for y in range(cell["y"], cell["y"] + cell["h"])
            }
            assert squares
            assert not squares & taken
            assert cell["x"] >= 0
            assert cell["x"] + cell["w"] <= 12
            taken |= squares


def test_chronograf_finds_no_gap_to_move_a_cell_into(package: MetricsPackage) -> None:
    for document in documents(package).values():
        taken = {
            (x, cell["y"] + cell["h"])
            for cell in document["cells"]
            for x in range(cell["x"], cell["x"] + cell["w"])
        }
        for cell in document["cells"]:
            columns = range(cell["x"], cell["x"] + cell["w"])
            assert cell["y"] == 0 or any((x, cell["y"]) in taken for x in columns)


def test_cells_have_different_identities(package: MetricsPackage) -> None:
    for document in documents(package).values():
        assert len({cell["i"] for cell in document["cells"]}) == len(document["cells"])


def test_only_what_chronograf_knows_is_in_a_cell(package: MetricsPackage) -> None:
    for cell in all_cells(package):
        assert cell["type"] in CELL_TYPES
        assert cell["queries"]
        assert {query["type"] for query in cell["queries"]} == {"influxql"}
        assert cell["noteVisibility"] in {"default", "showWhenNoData"}
        assert set(cell["axes"]) == {"x", "y", "y2"}
        assert all(set(axis) == AXIS for axis in cell["axes"].values())
        assert {axis["scale"] for axis in cell["axes"].values()} == {"linear"}
        assert {axis["base"] for axis in cell["axes"].values()} == {"10"}


def test_colours_are_those_that_chronograf_reads(package: MetricsPackage) -> None:
    for cell in all_cells(package):
        colors = cell["colors"]
        assert {color["type"] for color in colors} <= COLOR_TYPES
        assert len({color["id"] for color in colors}) == len(colors)
        for color in colors:
            assert re.fullmatch("#[0-9A-F]{6}", color["hex"])
            float(color["value"])
        if cell["type"] in {"single-stat", "table"}:
            assert colors[0]["id"] == "base"
            assert [color["id"] for color in colors].count("base") == 1


def test_template_variables_are_those_that_chronograf_reads(package: MetricsPackage) -> None:
    for document in documents(package).values():
        for template in document["templates"]:
            assert re.fullmatch(":[a-z]+:", template["tempVar"])
            types = {value["type"] for value in template["values"]}
            assert types <= {TEMPLATE_TYPES[template["type"]]}


def test_every_name_is_one_that_the_points_have(package: MetricsPackage) -> None:
    known = {
        *SCHEMA.tags,
        *CONTRACT_FIELDS,
        *(value for name, value in vars(watch_names).items() if name.isupper()),
        *PLACE.values(),
        *(part for name in package.metrics for part in name.split(".", 1)),
    }
    for document in documents(package).values():
        for _, query in queries_of(document):
            aliases = set(re.findall(r'AS "([^"]*)"', query))
            names = set(re.findall(r'"([^"]*)"', query)) - aliases
            assert {name for name in names if not name.startswith(META_PREFIX)} <= known


def test_the_same_definitions_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = small(tmp_path / "1"), small(tmp_path / "2")
    turned = MetricsPackage(
        other.directory,
        dict(reversed(other.metrics.items())),
        dict(reversed(other.specifications.items())),
        (),
    )
    assert chronograf_files(one, schema=SCHEMA, **PLACE) == chronograf_files(
        turned, schema=SCHEMA, **PLACE
    )


def test_another_package_leaves_the_numbers_of_the_others_alone() -> None:
    few, more = dashboard_ids(["b", "d"]), dashboard_ids(["a", "b", "c", "d", "e"])
    assert {name: more[name] for name in few} == few


def test_numbers_are_different_even_where_names_have_one_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hashlib import sha256

    monkeypatch.setattr(dashboard, "sha256", lambda _: sha256(b"all the same"))
    assert len(set(dashboard_ids(["a", "b", "c"]).values())) == 3


def test_the_overview_leads_to_each_dashboard(tmp_path: Path) -> None:
    found = dashboards(tmp_path)
    notes = [cell["note"] for cell in found["squash-overview"]["cells"]]
    assert any(f"/sources/10000/dashboards/{found['validate']['id']}?" in note for note in notes)


def test_braces_of_a_description_do_not_reach_the_template(tmp_path: Path) -> None:
    metrics = METRICS.replace("Repeatability of positions.", '"{{.HOME}} & <b>"')
    package = load_metrics_package(write_metrics_package(tmp_path, metrics=metrics))
    text = chronograf_files(package, schema=SCHEMA, **PLACE)["chronograf/validate.dashboard"]
    assert "{{`{{`}}.HOME}} &amp; &lt;b&gt;" in text
    assert "{{.HOME" not in text


def test_an_export_holds_the_same_dashboard_for_import(tmp_path: Path) -> None:
    package = small(tmp_path)
    files = chronograf_files(package, schema=SCHEMA, **PLACE)
    exported = json.loads(export_files(package, schema=SCHEMA, **PLACE)["validate.json"])
    assert set(exported) == {"meta", "dashboard"}
    text = resource_text(exported["dashboard"])
    assert text == files["chronograf/validate.dashboard"]


def test_an_exported_overview_has_no_links_to_numbers_that_an_import_changes(
    tmp_path: Path,
) -> None:
    text = export_files(small(tmp_path), schema=SCHEMA, **PLACE)["squash-overview.json"]
    assert "/dashboards/" not in text


def test_a_package_without_specifications_has_a_dashboard(tmp_path: Path) -> None:
    package = load_metrics_package(write_metrics_package(tmp_path, specs=""))
    files = chronograf_files(package, schema=SCHEMA, **PLACE)
    assert "chronograf/validate.dashboard" in files
    assert "[validate]" in files["chronograf/squash-overview.dashboard"]


def test_database_and_retention_policy_are_everywhere(tmp_path: Path) -> None:
    for document in dashboards(tmp_path, database="other", retention_policy="short").values():
        for _, query in queries_of(document):
            assert '"other"."short".' in query
