"""The dashboard of a package; its queries are asked of a real InfluxDB."""

import time
from collections.abc import Iterator
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest

from squash_api.generate import package as package_dashboard
from squash_api.generate.chronograf.choices import EVERYTHING, SHOWN, template_variables
from squash_api.generate.chronograf.graph import FIXED
from squash_api.generate.influxql import Place
from squash_api.generate.metric_graph import MAX_LINES
from squash_api.generate.package import MAX_TILES
from squash_api.generate.panels import LEVEL_COLORS, NEUTRAL
from squash_api.index.code_changes import PackageChange
from squash_api.influx.client import InfluxClient
from squash_api.schema.names import VALUE_TAGS, Schema
from squash_api.settings import InfluxTarget
from tests.support.chronograf import queries_of, rendered
from tests.support.dashboards import dashboards, job_lines
from tests.support.influxd import Influxd
from tests.support.metrics_packages import METRICS

DAY_NS = 86_400 * 10**9
HSC = {"ci_dataset": "hsc", "instrument": "HSC"}
CFHT = {"ci_dataset": "cfht", "instrument": "CFHT"}
AFW = PackageChange("afw", None, "abc", "https://example.org/afw")


def lines(now_ns: int) -> list[str]:
    """Return five jobs, a day apart; the last has no filter, and of PA1 only two have values."""
    jobs: list[tuple[dict[str, float], dict[str, Any]]] = [
        ({"validate.AM1": 4.0, "validate.PA1": 4.5}, {**HSC, "filter_name": "r"}),
        ({"validate.AM1": 12.0, "validate.PA1": 9.0}, {**HSC, "filter_name": "g"}),
        ({"validate.AM1": 25.0}, {**CFHT, "filter_name": "r"}),
        ({"validate.AM1": 6.0}, {**CFHT, "filter_name": "g"}),
        ({"validate.AM1": 21.0}, {"instrument": "CFHT"}),
    ]
    found = []
    for number, (values, meta) in enumerate(jobs, start=1):
        run = {"ci_id": f"R{number}", "ci_url": f"https://ci.example.org/{number}", **meta}
        moment = now_ns - (len(jobs) - number) * DAY_NS - DAY_NS // 2
        found += job_lines(number, moment, values, changes=(AFW,) * (number == 3), **run)
    return found


class Asked:
    """The dashboard of the package `validate`, its queries answered by an InfluxDB."""

    def __init__(self, document: dict[str, Any], influxd: Influxd, client: InfluxClient) -> None:
        self.document = document
        self.influxd = influxd
        self.client = client

    def cell(self, name: str, kind: str) -> dict[str, Any]:
        found: dict[str, Any]
        (found,) = (
            cell
            for cell in self.document["cells"]
            if cell["type"] == kind and cell["name"].startswith(name)
        )
        return found

    def ask(self, cell: dict[str, Any], number: int = 0, **how: Any) -> list[dict[str, Any]]:
        query = cell["queries"][number]["query"]
        return self.influxd.query(rendered(query, self.document, **how))

    def last(self, name: str, **how: Any) -> float:
        """Return what a tile shows: of the last row, the first column by name."""
        (series,) = self.ask(self.cell(name, "single-stat"), **how)
        (row,) = series["values"]
        columns = series["columns"][1:]
        return float(row[1 + columns.index(min(columns))])


@pytest.fixture
def asked(influxd: Influxd, influx_target: InfluxTarget, tmp_path: Path) -> Iterator[Asked]:
    with InfluxClient(influx_target) as client:
        client.create_database()
        client.write(lines(time.time_ns()))
        document = dashboards(tmp_path, database=influx_target.database)["validate"]
        yield Asked(document, influxd, client)
    influxd.query(f'DROP DATABASE "{influx_target.database}"')


def test_every_query_has_an_answer(asked: Asked) -> None:
    answers = {
        cell["name"]: asked.influxd.query(rendered(query, asked.document))
        for cell, query in queries_of(asked.document)
    }
    assert answers
    assert all(answers.values()), [name for name, answer in answers.items() if not answer]


ALL = {("hsc", "r"), ("hsc", "g"), ("cfht", "r"), ("cfht", "g"), ("", "")}


def series_of(answer: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(item["tags"]["dataset"], item["tags"]["filter"]) for item in answer]


def test_values_are_drawn_by_dataset_and_filter(asked: Asked) -> None:
    found = asked.ask(asked.cell("AM1", "line"))
    assert set(series_of(found)) == ALL
    assert sorted(row[1] for item in found for row in item["values"]) == [4, 6, 12, 21, 25]


def test_every_graph_has_all_series_of_the_package_in_the_same_order(asked: Asked) -> None:
    """Chronograf colors series by their place: so a dataset has one color in all graphs."""
    of_am1, of_pa1 = (asked.ask(asked.cell(name, "line")) for name in ("AM1", "PA1"))
    assert series_of(of_am1) == series_of(of_pa1)
    assert [row[1] for item in of_pa1 for row in item["values"] if row[1]] == [9.0, 4.5]
    # What is there only to be counted is never drawn.
    assert {row[2] for item in (*of_am1, *of_pa1) for row in item["values"]} == {None}


def test_limits_are_drawn_as_constants_where_there_are_values(asked: Asked) -> None:
    (found,) = asked.ask(asked.cell("AM1", "line"), 1)
    assert found["columns"][1:] == ["••• minimum ≤ 20", "•• design ≤ 10", "• stretch ≤ 5"]
    assert [row[1:] for row in found["values"]] == [[20, 10, 5]] * 5


def test_a_limit_of_one_filter_is_drawn_where_that_filter_has_values(asked: Asked) -> None:
    graph = asked.cell("PA1", "line")
    (everywhere,), (in_r,) = asked.ask(graph, 1), asked.ask(graph, 2)
    assert [row[1] for row in everywhere["values"]] == [8.5, 8.5]
    assert (in_r["columns"][1], [row[1] for row in in_r["values"]]) == ("•• design_r ≤ 5", [5])


def names_of_series(asked: Asked, cell: dict[str, Any]) -> list[str]:
    """Return the names of a graph's series as Chronograf sorts them, those of values without tags.

    It shows a series of each name.
    """
    answers = (asked.ask(cell, number) for number in range(len(cell["queries"])))
    found = {
        (column, str(item.get("tags", "")))
        for answer in answers
        for item in answer
        for column in item["columns"][1:]
    }
    return [name for name, _ in sorted(found)]


@pytest.mark.parametrize("name", ["AM1", "PA1"])
def test_graphs_have_the_same_number_of_series(asked: Asked, name: str) -> None:
    names = names_of_series(asked, asked.cell(name, "line"))
    assert len(names) == 2 * len(ALL) + FIXED
    assert names[: len(ALL)] == [name] * len(ALL)


def test_a_limit_has_the_color_of_its_level(asked: Asked) -> None:
    cell = asked.cell("AM1", "line")
    names = names_of_series(asked, cell)
    scale = [color["hex"] for color in cell["colors"]]

    def colors_of(name: str) -> set[str]:
        where = names.index(name) / (len(names) - 1) * (len(scale) - 1)
        return {scale[floor(where)], scale[ceil(where)]}

    assert colors_of("••• minimum ≤ 20") == {LEVEL_COLORS["CRITICAL"]}
    assert colors_of("•• design ≤ 10") == {LEVEL_COLORS["WARNING"]}
    assert colors_of("• stretch ≤ 5") == {LEVEL_COLORS["INFO"]}


def test_the_fill_of_the_limits_is_covered_as_high_as_the_highest(asked: Asked) -> None:
    *_, (found,) = (asked.ask(asked.cell("AM1", "line"), number) for number in range(3))
    names = names_of_series(asked, asked.cell("AM1", "line"))
    scale = [color["hex"] for color in asked.cell("AM1", "line")["colors"]]
    ends = [dict(zip(found["columns"], row, strict=True)) for row in found["values"]]
    assert len(ends) == 2
    covers = [name for name, value in ends[0].items() if value == 20]
    assert len(covers) > 8
    assert all(end[name] == 20 for end in ends for name in covers)
    for name in covers:
        where = names.index(name) / (len(names) - 1) * (len(scale) - 1)
        assert {scale[floor(where)], scale[ceil(where)]} == {NEUTRAL}


def test_a_tile_has_the_worst_of_the_last_values(asked: Asked) -> None:
    assert asked.last("AM1") == 25.0


def test_a_tile_has_it_however_short_the_range(asked: Asked) -> None:
    assert asked.last("AM1", lower="now() - 15m") == 25.0


def test_a_tile_has_the_worst_before_the_end_of_the_range(asked: Asked) -> None:
    assert asked.last("AM1", upper="now() - 70h") == 12.0


def test_a_tile_has_the_last_of_a_series_not_its_worst(asked: Asked) -> None:
    with_more = job_lines(
        9,
        time.time_ns(),
        {"validate.AM1": 3.0},
        ci_dataset="cfht",
        instrument="CFHT",
        filter_name="r",
    )
    asked.client.write(with_more)
    assert asked.last("AM1") == 21.0


def test_each_filter_with_limits_of_its_own_has_a_tile(asked: Asked) -> None:
    tiles = [cell for cell in asked.document["cells"] if cell["type"] == "single-stat"]
    assert [cell["name"] for cell in tiles] == [
        "PA1 others highest",
        "PA1 r highest",
        "AM1 highest",
    ]
    assert (asked.last("PA1 r"), asked.last("PA1 others")) == (4.5, 9.0)


@pytest.mark.parametrize(
    ("chosen", "value"),
    [
        ({"show": "only dataset", "dataset": "hsc"}, 12.0),
        ({"show": "only filter", "filter": "r"}, 25.0),
        ({"show": "only dataset + filter", "dataset": "hsc", "filter": "r"}, 4.0),
        ({"show": "only instrument", "instrument": "HSC"}, 12.0),
        ({"show": "everything", "dataset": "hsc"}, 25.0),
    ],
)
def test_the_variables_choose_values(asked: Asked, chosen: dict[str, str], value: float) -> None:
    assert asked.last("AM1", chosen=chosen) == value


def test_the_table_has_the_last_jobs_with_their_runs_and_links(asked: Asked) -> None:
    (found,) = asked.ask(asked.cell("Latest jobs", "table"))
    rows = [dict(zip(found["columns"], row, strict=True)) for row in found["values"]]
    assert [row["run_id"] for row in rows] == ["R5", "R4", "R3", "R2", "R1"]
    assert (rows[2]["run_url"], rows[2]["squash_url"]) == (
        "https://ci.example.org/3",
        "https://squash.example.org/job/3",
    )
    assert (rows[2]["code_changes_counts"], rows[2]["code_changes"]) == (
        1,
        "[afw](https://example.org/afw/commit/abc)",
    )


def test_the_table_shows_the_latest_job_first(asked: Asked) -> None:
    cell = asked.cell("Latest jobs", "table")
    (found,) = asked.ask(cell)
    label = cell["tableOptions"]["sortBy"]["internalName"].removeprefix("validate.")
    order = [row[found["columns"].index(label)] for row in found["values"]]
    assert order == sorted(order)


def test_the_columns_of_the_table_are_those_of_its_query(asked: Asked) -> None:
    cell = asked.cell("Latest jobs", "table")
    (found,) = asked.ask(cell)
    labels = [item["internalName"].removeprefix("validate.") for item in cell["fieldOptions"]]
    assert labels == found["columns"]


def test_a_list_of_values_is_what_influxdb_has(asked: Asked) -> None:
    (template,) = (item for item in asked.document["templates"] if item["id"] == "dataset")
    query = template["query"]
    text = query["influxql"]
    names = {":database:": "db", ":measurement:": "measurement", ":tagKey:": "tagKey"}
    for name, key in names.items():
        text = text.replace(name, f'"{query[key]}"')
    (found,) = asked.influxd.query(text)
    assert [value for _, value in found["values"]] == ["cfht", "hsc"]


def spec(name: str, value: int, more: str = "") -> str:
    threshold = f"threshold: {{value: {value}, unit: mmag, operator: '<='}}"
    return f"---\nname: PA1.{name}\n{threshold}\n{more}\n"


def graph_of(tmp_path: Path, specs: str) -> dict[str, Any]:
    graph: dict[str, Any]
    (graph,) = (
        cell
        for cell in dashboards(tmp_path, specs=specs)["validate"]["cells"]
        if cell["type"] == "line" and cell["name"].startswith("PA1")
    )
    return graph


def test_a_graph_of_many_limits_says_how_many_it_draws(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, "".join(spec(f"s{number}", number) for number in range(1, 10)))
    assert f"{MAX_LINES} of 9 limits" in graph["name"]
    assert graph["queries"][1]["query"].count(" AS ") == MAX_LINES


def test_a_graph_tells_all_its_limits_on_demand(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, "".join(spec(f"s{number}", number) for number in range(1, 10)))
    assert graph["note"].startswith("Repeatability of brightness.")
    assert graph["note"].count("\n- WARNING: ≤ ") == 9


def test_a_metric_of_many_filters_says_how_many_tiles_it_has(tmp_path: Path) -> None:
    filters = "abcdefgh"
    specs = "".join(
        spec(name, number, f"metadata_query: {{filter_name: {name}}}")
        for number, name in enumerate(filters, start=1)
    )
    assert f"{MAX_TILES} of {len(filters)} tiles" in graph_of(tmp_path, specs)["name"]


@pytest.mark.parametrize("count", range(1, MAX_TILES + 1))
def test_tiles_and_graph_fill_a_rectangle(tmp_path: Path, count: int) -> None:
    specs = "".join(
        spec(name, number, f"metadata_query: {{filter_name: {name}}}")
        for number, name in enumerate("abcdef"[:count], start=1)
    )
    metrics = "PA1: {description: A., unit: mmag}"
    cells = dashboards(tmp_path, metrics=metrics, specs=specs)["validate"]["cells"][2:]
    width = max(cell["x"] + cell["w"] for cell in cells) - min(cell["x"] for cell in cells)
    height = max(cell["y"] + cell["h"] for cell in cells) - min(cell["y"] for cell in cells)
    assert len(cells) == count + 1
    assert sum(cell["w"] * cell["h"] for cell in cells) == width * height


def test_the_unit_is_on_the_axis_as_in_the_title_and_not_on_every_tick(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, spec("a", 1))
    axis = graph["axes"]["y"]
    assert (axis["label"], axis["suffix"]) == ("PA1 [mmag]", "")
    assert graph["name"].startswith("PA1 [mmag]   •• a ≤ 1")


def test_limits_below_zero_are_covered_too(tmp_path: Path) -> None:
    specs = spec("low", -4, "tags: [minimum]").replace("<=", ">=") + spec("high", 8)
    query = graph_of(tmp_path, specs)["queries"][-1]["query"]
    assert query.count('"one" * 0 -4.0 AS') == query.count('"one" * 0 +8.0 AS') == 7


def test_values_that_may_be_too_high_or_too_low_have_a_tile_each(tmp_path: Path) -> None:
    specs = spec("low", 4).replace("<=", ">=") + spec("high", 8)
    cells = dashboards(tmp_path, specs=specs)["validate"]["cells"]
    tiles = [cell for cell in cells if cell["type"] == "single-stat"]
    assert [cell["name"] for cell in tiles][:2] == ["PA1 highest", "PA1 lowest"]


def test_the_tile_of_a_value_that_must_not_be_shows_the_nearest_to_it(
    asked: Asked, influx_target: InfluxTarget, tmp_path: Path
) -> None:
    specs = spec("odd", 4).replace("<=", "!=").replace("PA1", "AM1").replace("mmag", "marcsec")
    asked.document = dashboards(tmp_path / "odd", specs=specs, database=influx_target.database)[
        "validate"
    ]
    assert asked.last("AM1 nearest to 4") == 4.0


def test_a_package_without_limits_has_a_dashboard(tmp_path: Path) -> None:
    (cell,) = (
        cell
        for cell in dashboards(tmp_path, specs="")["validate"]["cells"]
        if cell["type"] == "line" and cell["name"] == "AM1 [marcsec]"
    )
    assert len(cell["queries"]) == 2


def test_no_value_of_a_list_can_break_a_query(asked: Asked) -> None:
    asked.client.write(
        job_lines(9, time.time_ns(), {"validate.AM1": 3.0}, ci_dataset="O'Neil")
        + job_lines(10, time.time_ns() - 1, {"validate.AM1": 3.0}, ci_dataset="a\\b")
    )
    (template,) = (item for item in asked.document["templates"] if item["id"] == "dataset")
    query = template["query"]
    text = query["influxql"]
    for name, key in {
        ":database:": "db",
        ":measurement:": "measurement",
        ":tagKey:": "tagKey",
    }.items():
        text = text.replace(name, f'"{query[key]}"')
    (found,) = asked.influxd.query(text)
    assert [value for _, value in found["values"]] == ["cfht", "hsc"]


def test_a_dimensionless_metric_has_no_unit(tmp_path: Path) -> None:
    metrics = "TE1: {description: A shape., unit: ''}"
    specs = "name: TE1.a\nthreshold: {value: 0.00003, unit: '', operator: '<='}\n"
    cells = dashboards(tmp_path, metrics=metrics, specs=specs)["validate"]["cells"]
    (graph,) = (cell for cell in cells if cell["type"] == "line")
    (tile,) = (cell for cell in cells if cell["type"] == "single-stat")
    assert (graph["axes"]["y"]["label"], graph["axes"]["y"]["suffix"]) == ("TE1", "")
    assert tile["decimalPlaces"] == {"isEnforced": True, "digits": 7}


def test_a_metric_without_specification_comes_last_and_without_limits(tmp_path: Path) -> None:
    metrics = METRICS + "AA0: {description: Free., unit: mmag}\n"
    document = dashboards(tmp_path, metrics=metrics)["validate"]
    graphs = [cell for cell in document["cells"] if cell["type"] == "line"]
    assert graphs[-1]["name"] == "AA0 [mmag]"
    assert len(graphs[-1]["queries"]) == 2


def test_beyond_the_most_metrics_the_note_counts_those_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_dashboard, "MAX_METRICS", 3)
    metrics = METRICS + "".join(f"A{n}: {{description: Free., unit: mmag}}\n" for n in range(5))
    cells = dashboards(tmp_path, metrics=metrics)["validate"]["cells"]
    assert len([cell for cell in cells if cell["type"] == "line"]) == 3
    assert "4 metrics without specifications are not shown" in cells[0]["note"]


def test_the_note_sets_the_range_of_the_page_it_is_on(tmp_path: Path) -> None:
    note = dashboards(tmp_path)["validate"]["cells"][0]["note"]
    assert "[30 days](?lower=now()%20-%2030d)" in note


VARIABLES = template_variables(Place("squash", "autogen", "validate_drp"))


def test_the_tags_are_tags_of_the_points() -> None:
    assert set(VALUE_TAGS) <= set(Schema().tags)


def test_there_is_a_list_of_the_values_of_each_tag() -> None:
    lists = [item for item in VARIABLES if item["type"] == "tagValues"]
    assert [(item["tempVar"], item["query"]["tagKey"]) for item in lists] == [
        (f":{tag}:", tag) for tag in VALUE_TAGS
    ]


def test_the_lists_are_those_of_the_package() -> None:
    queries = [item["query"] for item in VARIABLES if item["type"] == "tagValues"]
    assert {(query["db"], query["measurement"]) for query in queries} == {
        ("squash", "validate_drp")
    }


def test_everything_is_shown_at_first() -> None:
    (show,) = (item for item in VARIABLES if item["tempVar"] == SHOWN)
    assert [item["key"] for item in show["values"] if item["selected"]] == [EVERYTHING]


def test_every_set_of_tags_can_be_chosen() -> None:
    (show,) = (item for item in VARIABLES if item["tempVar"] == SHOWN)
    choices = {item["key"]: item["value"] for item in show["values"]}
    assert len(choices) == 2 ** len(VALUE_TAGS)
    assert choices["only dataset + filter"] == '"dataset" = :dataset: AND "filter" = :filter:'


def test_no_two_variables_share_a_name() -> None:
    assert len({item["tempVar"] for item in VARIABLES}) == len(VARIABLES)
