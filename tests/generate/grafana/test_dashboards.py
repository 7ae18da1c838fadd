"""Grafana's dashboards: what Grafana's published types say, and what they show."""

import json
import re
from collections.abc import Iterator
from math import inf, isfinite, nextafter
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from hypothesis import given
from hypothesis import strategies as st

from squash_api.generate.grafana.connections import SOURCE
from squash_api.generate.grafana.files import dashboard_uid
from squash_api.generate.grafana.panels import panel_of, shown_text
from squash_api.generate.panels import FINE, LEVEL_COLORS, Cell, Tile, limit_steps
from squash_api.judging.alerts import LEVELS, Alert, level_of
from squash_api.judging.limits import Limit, LimitJudge
from squash_api.schema.names import VALUE_TAGS
from tests.support.grafana import grafana_dashboards
from tests.support.limits import limit as made_limit
from tests.support.metrics_packages import METRICS, ROOT, SPECS

pytestmark = pytest.mark.sqlite

COMMITTED = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
}
EACH = pytest.mark.parametrize("uid", COMMITTED)
# The published types of annotations lack what is InfluxDB's own.
NOT_PUBLISHED = {"annotations.list.query", "annotations.list.tagsColumn"}
NOT_PUBLISHED |= {"annotations.list.textColumn"}


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Yield the places of what is in ours and not, or otherwise, in theirs."""
    if isinstance(ours, dict):
        for key, value in ours.items():
            yield from lost(value, theirs.get(key), f"{path}.{key}".strip("."))
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), path
        for some, other in zip(ours, theirs, strict=True):
            yield from lost(some, other, path)
    elif ours != theirs:
        yield path


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> None:
    register_default_plugins()


# As Grafana's documentation "Variable syntax" has them.
VARIABLE = re.compile(r"\$\w+|\$\{\w+|\[\[\w+")


@given(st.text(alphabet="$[]{}a_:1 "))
def test_no_text_of_a_panel_has_a_variable_and_all_look_as_they_were(text: str) -> None:
    shown = shown_text(text)
    assert VARIABLE.search(shown) is None
    assert shown.replace("\u2060", "") == text


def test_a_description_is_shown_as_somebody_has_written_it(tmp_path: Path) -> None:
    metrics = METRICS.replace("Repeatability of positions.", "Of $dataset and ${squash:raw}.")
    document = grafana_dashboards(tmp_path, metrics=metrics)[dashboard_uid("validate")]
    texts = [panel.get("description", "") for panel in document["panels"]]
    assert any("Of $\u2060dataset and $\u2060{squash:raw}." in text for text in texts)
    assert not any(VARIABLE.search(text) for text in texts)


def again(document: dict[str, Any]) -> Any:
    return json.loads(JSONEncoder().encode(Dashboard.from_json(document)))


@EACH
def test_the_published_types_have_a_place_for_all_that_is_in_a_dashboard(uid: str) -> None:
    assert set(lost(COMMITTED[uid], again(COMMITTED[uid]))) <= NOT_PUBLISHED


def test_what_they_have_no_place_for_is_noticed() -> None:
    document = json.loads(json.dumps(COMMITTED["squash-overview"]))
    document["panels"][0]["fieldConfig"]["defaults"]["colour"] = "red"
    assert [*lost(document, again(document))] == ["panels.fieldConfig.defaults.colour"]


@EACH
def test_a_dashboard_is_in_the_file_of_its_uid_and_says_who_made_it(uid: str) -> None:
    document = COMMITTED[uid]
    assert document["uid"] == uid
    assert "squash generate" in document["description"]


@EACH
def test_no_two_panels_share_a_number_or_a_place(uid: str) -> None:
    panels = COMMITTED[uid]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) == 23


@EACH
def test_every_query_is_of_the_provisioned_source(uid: str) -> None:
    document = COMMITTED[uid]
    asked = [
        *(target for panel in document["panels"] for target in panel.get("targets", [])),
        *document["templating"]["list"],
        *document["annotations"]["list"],
    ]
    assert asked
    assert all(item["datasource"] == SOURCE for item in asked)


@EACH
def test_every_variable_that_is_used_is_there(uid: str) -> None:
    document = COMMITTED[uid]
    there = {item["name"] for item in document["templating"]["list"]}
    used = set(re.findall(r"\$\{(\w+):", json.dumps(document["panels"])))
    assert used
    assert used <= there


@EACH
def test_nothing_in_a_dashboard_differs_between_installations(uid: str) -> None:
    text = json.dumps(COMMITTED[uid])
    assert not re.findall(r"https?://", text)
    assert '"policy": "autogen"' in text
    assert "autogen." not in text


@pytest.fixture
def shown(tmp_path: Path) -> dict[str, Any]:
    return grafana_dashboards(tmp_path)[dashboard_uid("validate")]


def panel(document: dict[str, Any], kind: str, title: str) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = (
        item
        for item in document["panels"]
        if item["type"] == kind and item["title"].startswith(title)
    )
    return found


def color_at(found: dict[str, Any], value: float) -> str:
    """Return the color of a value as Grafana finds it: of the last step that it reaches."""
    steps = found["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [
        step for step in steps if value >= (-inf if step["value"] is None else step["value"])
    ]
    return str(reached[-1]["color"])


def test_limits_of_all_values_are_thresholds_in_the_unit_of_the_axis(shown: dict[str, Any]) -> None:
    graph = panel(shown, "timeseries", "AM1")
    custom = graph["fieldConfig"]["defaults"]["custom"]
    assert custom["axisLabel"] == "AM1 [marcsec]"
    assert custom["thresholdsStyle"] == {"mode": "dashed+area"}
    colors = [color_at(graph, value) for value in (5, 5.01, 10, 10.01, 20, 20.01)]
    info, warning, critical = (LEVEL_COLORS[level] for level in ("INFO", "WARNING", "CRITICAL"))
    assert colors == ["transparent", info, info, warning, warning, critical]
    assert len(graph["targets"]) == 1


def test_a_limit_in_another_unit_is_converted_to_that_of_the_axis(tmp_path: Path) -> None:
    specs = 'name: PA1.x\nthreshold: {value: 0.5, unit: mag, operator: "<="}\n'
    document = grafana_dashboards(tmp_path, specs=specs)[dashboard_uid("validate")]
    graph = panel(document, "timeseries", "PA1")
    assert [color_at(graph, value) for value in (499.9, 500.1)] == [
        "transparent",
        LEVEL_COLORS["WARNING"],
    ]


def test_the_axis_reaches_to_all_limits(shown: dict[str, Any]) -> None:
    custom = panel(shown, "timeseries", "AM1")["fieldConfig"]["defaults"]["custom"]
    assert (custom["axisSoftMin"], custom["axisSoftMax"]) == (5, 20)


def test_a_limit_of_some_values_is_a_line_in_the_color_of_its_level(shown: dict[str, Any]) -> None:
    graph = panel(shown, "timeseries", "PA1")
    values, line = graph["targets"]
    (override,) = graph["fieldConfig"]["overrides"]
    assert override["matcher"]["options"] == "•• design_r ≤ 5"
    assert override["properties"][0]["value"]["fixedColor"] == LEVEL_COLORS["WARNING"]
    assert "\"filter\" = 'r'" in line["query"]
    assert "\"filter\" = 'r'" not in values["query"]
    # Where it does not apply, it does not count.
    assert [color_at(graph, value) for value in (6, 9)] == ["transparent", LEVEL_COLORS["CRITICAL"]]


def test_a_graph_of_a_metric_without_limits_has_no_thresholds(tmp_path: Path) -> None:
    document = grafana_dashboards(tmp_path, specs="")[dashboard_uid("validate")]
    graph = panel(document, "timeseries", "AM1")
    assert graph["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] == {"mode": "off"}
    assert color_at(graph, 0) == "transparent"


def test_a_tile_has_the_unit_and_the_color_of_the_limit_that_is_broken(
    shown: dict[str, Any],
) -> None:
    tile = panel(shown, "stat", "AM1")
    assert tile["fieldConfig"]["defaults"]["unit"] == "suffix:marcsec"
    assert color_at(tile, 20) == LEVEL_COLORS["WARNING"]
    assert color_at(tile, 20.01) == LEVEL_COLORS["CRITICAL"]


def test_every_threshold_is_a_number_that_json_has(shown: dict[str, Any]) -> None:
    values = [
        step["value"]
        for item in shown["panels"]
        if "fieldConfig" in item
        for step in item["fieldConfig"]["defaults"]["thresholds"]["steps"]
    ]
    assert None in values
    assert all(isfinite(value) for value in values if value is not None)
    assert "Infinity" not in json.dumps(shown)


def links_of(found: dict[str, Any]) -> set[str]:
    return {link["url"] for link in found["fieldConfig"]["defaults"].get("links", [])}


def test_what_shows_a_metric_leads_to_its_page_and_alerts(shown: dict[str, Any]) -> None:
    assert links_of(panel(shown, "timeseries", "AM1")) == {
        "${squash:raw}/metric/validate.AM1",
        "${squash:raw}/alerts?metric=validate.AM1",
    }
    assert links_of(panel(shown, "stat", "AM1")) == {"${squash:raw}/metric/validate.AM1"}


def column_links(found: dict[str, Any]) -> dict[str, str]:
    return {
        item["matcher"]["options"]: item["properties"][0]["value"][0]["url"]
        for item in found["fieldConfig"]["overrides"]
        if item["properties"][0]["id"] == "links"
    }


def test_the_latest_jobs_lead_to_their_pages_and_runs(shown: dict[str, Any]) -> None:
    assert column_links(panel(shown, "table", "Latest jobs")) == {
        "job page": "${__value.raw}",
        "run page": "${__value.raw}",
        "run": "${squash:raw}/runs/${__data.fields.pipeline}/${__value.raw}",
    }


def test_what_is_broken_leads_to_its_alerts() -> None:
    table = panel(COMMITTED["squash-overview"], "table", "Broken")
    links = column_links(table)
    assert links["state"] == "${squash:raw}/alerts?metric=${__data.fields.metric}"
    assert links["metric"] == "${squash:raw}/metric/${__value.raw}"
    assert "metric" in table["transformations"][1]["options"]["indexByName"]


def test_the_state_of_the_service_leads_to_the_runbook() -> None:
    graph = panel(COMMITTED["squash-service"], "timeseries", "Age of the oldest")
    assert links_of(graph) == {"${squash:raw}/docs/runbook#service-backlog"}
    assert color_at(graph, 601) == LEVEL_COLORS["WARNING"]


def test_lists_choose_values_by_the_tags_that_people_see(shown: dict[str, Any]) -> None:
    lists = [item for item in shown["templating"]["list"] if item["hide"] == 0]
    assert tuple(item["name"] for item in lists) == VALUE_TAGS
    assert all(item["multi"] and item["includeAll"] for item in lists)


def test_panels_keep_their_numbers_when_a_limit_changes_or_a_metric_comes(
    tmp_path: Path, shown: dict[str, Any]
) -> None:
    more = METRICS + "\nAA1: {description: More., unit: mmag}\n"
    specs = SPECS.replace("value: 20", "value: 21")
    changed = grafana_dashboards(tmp_path / "more", metrics=more, specs=specs)
    numbers = {
        item["title"].split("   ")[0]: item["id"]
        for item in changed[dashboard_uid("validate")]["panels"]
        if item["type"] == "timeseries"
    }
    before = panel(shown, "timeseries", "AM1")["id"]
    assert numbers["AM1 [marcsec]"] == before


def test_a_table_hides_what_it_is_sorted_by(shown: dict[str, Any]) -> None:
    table = panel(shown, "table", "Latest jobs")
    sort, organize = table["transformations"]
    assert sort["options"]["sort"] == [{"field": "order", "desc": False}]
    assert organize["options"]["excludeByName"] == {"order": True}
    assert organize["options"]["renameByName"]["squash_url"] == "job page"


def test_the_retention_policy_is_in_every_request(tmp_path: Path) -> None:
    document = grafana_dashboards(tmp_path, retention_policy="year")[dashboard_uid("validate")]
    policies = {
        target["policy"] for item in document["panels"] for target in item.get("targets", [])
    }
    assert policies == {"year"}


LIMITS = st.lists(
    st.builds(
        lambda operator, value, level: made_limit(operator, value, alert=Alert(level=level)),
        st.sampled_from(["<=", "<", ">=", ">", "==", "!="]),
        st.one_of(st.sampled_from([0.0, 1.0, 8.0]), st.floats(-1e12, 1e12)),
        st.sampled_from(LEVELS),
    ),
    min_size=1,
    max_size=4,
)


@given(LIMITS)
def test_a_tile_has_the_color_of_the_level_that_the_judge_finds(limits: list[Limit]) -> None:
    tile = Tile("AM1", "SELECT 1", "AM1", digits=2, steps=limit_steps(limits))
    made = panel_of(Cell(tile, 0, 0, 2, 2), 1, retention_policy="autogen")
    read = json.loads(json.dumps(made, allow_nan=False))
    judge = LimitJudge(limits)
    for number in {bound.number for limit in limits for bound in limit.criterion.bounds}:
        for value in (nextafter(number, -inf), number, nextafter(number, inf)):
            severity = judge.badness(value)
            wanted = LEVEL_COLORS[level_of(severity)] if severity else FINE
            assert color_at(read, value) == wanted
