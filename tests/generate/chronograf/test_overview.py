"""The dashboard over all packages; its queries are asked of a real InfluxDB."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from influxdb_client.client.write.point import Point

from squash_api.generate.chronograf.dashboards import document_of
from squash_api.generate.influxql import Place
from squash_api.generate.overview import overview_dashboard
from squash_api.influx.client import InfluxClient
from squash_api.judging.states import RANKS, STATES, state_of
from squash_api.schema import names as schema
from squash_api.schema import watch as watch_names
from squash_api.settings import InfluxTarget
from tests.support.chronograf import queries_of, rendered
from tests.support.influxd import Influxd

MINUTE_NS = 60 * 10**9
HOUR_NS = 60 * MINUTE_NS
LEVELS = {"INFO": 1, "WARNING": 2, "CRITICAL": 3}


class Asked:
    """The overview, its queries answered by an InfluxDB into which a test writes."""

    def __init__(self, influxd: Influxd, client: InfluxClient, database: str) -> None:
        self.influxd = influxd
        self.client = client
        self.now_ns = time.time_ns()
        cells = overview_dashboard(
            Place(database, "autogen", ""),
            {"validate": "/sources/10000/dashboards/7?lower=now()%20-%2030d"},
        )
        self.document = document_of("overview", 1, cells)

    def write(
        self,
        measurement: str,
        tags: dict[str, str],
        fields: dict[str, float | str],
        *,
        age_ns: int = MINUTE_NS,
    ) -> None:
        """Write one point of the service about itself."""
        point: Any = Point(measurement)  # type: ignore[no-untyped-call]
        for key, text in tags.items():
            point.tag(key, text)
        for key, value in fields.items():
            point.field(key, value)
        self.client.write([f"{point.to_line_protocol()} {self.now_ns - age_ns}"])

    def stands(
        self,
        metric: str,
        severity: float,
        margin: float | None,
        *,
        age_ns: int = MINUTE_NS,
    ) -> None:
        """Write how a metric stands on the dataset `hsc`; without a margin it is not measured.

        Its margin is twice as bad for another limit than that of its level.
        """
        is_measured = margin is not None
        rank = RANKS[state_of(int(severity), is_limited=True, is_measured=is_measured)]
        fields: dict[str, float | str] = {
            watch_names.STATE: STATES[rank],
            watch_names.RANK: rank + 0.5 + (margin or 0.0) / 20,
            watch_names.SEVERITY: float(severity),
            watch_names.BROKEN: "minimum" if severity else "",
            watch_names.LIMIT: f"{metric}.minimum",
            watch_names.SUMMARY: "4 mmag, must be ≤ 8 (minimum)",
            schema.RUN_ID: "R1",
            schema.SQUASH_URL: "https://squash.example.org/job/1",
        }
        if margin is not None:
            fields[watch_names.MARGIN] = margin if severity == 0 else 2 * margin
            fields[watch_names.LEVEL_MARGIN] = margin
        tags = {watch_names.METRIC: metric, "dataset": "hsc"}
        self.write(watch_names.STANDING, tags, fields, age_ns=age_ns)

    def is_late(self, specification: str, late_s: float, *, age_ns: int = MINUTE_NS) -> None:
        """Write how late a specification's value is."""
        fields: dict[str, float | str] = {watch_names.LATE_S: late_s, watch_names.SINCE: "monday"}
        tags = {watch_names.SPECIFICATION: specification, "tract": "9813"}
        self.write(watch_names.FRESHNESS, tags, fields, age_ns=age_ns)

    def cell(self, name: str) -> dict[str, Any]:
        """Return the cell whose name begins so."""
        found: dict[str, Any]
        (found,) = (cell for cell in self.document["cells"] if cell["name"].startswith(name))
        return found

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a table, by the labels of Chronograf, in the order it shows."""
        cell = self.cell(name)
        series = self.influxd.query(rendered(cell["queries"][0]["query"], self.document))
        order = cell["tableOptions"]["sortBy"]["internalName"]
        rows = [
            {
                "time" if column == "time" else f"{item['name']}.{column}": value
                for column, value in zip(item["columns"], row, strict=True)
            }
            for item in series
            for row in item["values"]
        ]
        assert all(
            {option["internalName"] for option in cell["fieldOptions"]} == set(row) for row in rows
        )
        return sorted(rows, key=lambda row: row[order])

    def tile(self, name: str) -> float | None:
        """Return the value of a tile, None where it has none."""
        query = self.cell(name)["queries"][0]["query"]
        found = self.influxd.query(rendered(query, self.document))
        return float(found[0]["values"][-1][1]) if found else None


@pytest.fixture
def asked(influxd: Influxd, influx_target: InfluxTarget) -> Iterator[Asked]:
    with InfluxClient(influx_target) as client:
        client.create_database()
        yield Asked(influxd, client, influx_target.database)
    influxd.query(f'DROP DATABASE "{influx_target.database}"')


def test_every_query_has_an_answer(asked: Asked) -> None:
    asked.stands("validate.AM1", 3, -0.1)
    asked.stands("validate.AM2", 0, 0.1)
    asked.is_late("validate.AM1.minimum", 60.0)
    asked.write(watch_names.HEARTBEAT, {}, {watch_names.UP: 1.0})
    answers = [
        asked.influxd.query(rendered(query, asked.document))
        for _, query in queries_of(asked.document)
    ]
    assert len(answers) == 8
    assert all(answers)


def test_no_query_fails_where_nothing_was_written_yet(asked: Asked) -> None:
    for _, query in queries_of(asked.document):
        assert asked.influxd.query(rendered(query, asked.document)) == []


def test_what_is_broken_stands_with_the_worst_first(asked: Asked) -> None:
    asked.stands("validate.AM1", 1, -0.2)
    asked.stands("validate.AM2", 3, -0.1)
    asked.stands("validate.AM3", 0, 0.5)
    rows = asked.rows("Broken or")
    name = watch_names.STANDING
    assert [row[f"{name}.metric"] for row in rows] == ["validate.AM2", "validate.AM1"]
    assert rows[0][f"{name}.percent"] == pytest.approx(-10.0)
    assert (rows[0][f"{name}.broken"], rows[0][f"{name}.dataset"], rows[0][f"{name}.run_id"]) == (
        "minimum",
        "hsc",
        "R1",
    )


def test_what_has_recovered_is_not_broken(asked: Asked) -> None:
    asked.stands("validate.AM1", 3, -0.2, age_ns=2 * HOUR_NS)
    asked.stands("validate.AM1", 0, 0.2, age_ns=HOUR_NS)
    assert asked.rows("Broken or") == []


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_is_counted_by_itself(asked: Asked, level: str) -> None:
    for number in range(3):
        asked.stands(f"validate.A{number}", number, 0.1)
    asked.stands("validate.B", LEVELS[level], 0.1)
    counts = {"INFO": 1, "WARNING": 1, "CRITICAL": 0}
    counts[level] += 1
    assert {name: asked.tile(name) for name in LEVELS} == counts


def test_the_counts_are_0_where_nothing_is_broken(asked: Asked) -> None:
    asked.stands("validate.AM1", 0, 0.5)
    assert [asked.tile(level) for level in LEVELS] == [0.0, 0.0, 0.0]


def test_what_is_late_stands_with_the_latest_first(asked: Asked) -> None:
    asked.is_late("validate.AM1.a", 3600.0)
    asked.is_late("validate.AM1.b", 7200.0)
    asked.is_late("validate.AM1.c", -60.0)
    rows = asked.rows("Late now")
    name = watch_names.FRESHNESS
    assert [(row[f"{name}.specification"], row[f"{name}.hours"]) for row in rows] == [
        ("validate.AM1.b", 2.0),
        ("validate.AM1.a", 1.0),
    ]
    assert (rows[0][f"{name}.since"], rows[0][f"{name}.tract"]) == ("monday", "9813")


def test_what_has_come_since_is_not_late(asked: Asked) -> None:
    asked.is_late("validate.AM1.a", 3600.0, age_ns=10 * MINUTE_NS)
    asked.is_late("validate.AM1.a", -3600.0)
    assert asked.rows("Late now") == []


def test_the_tile_tells_the_latest_of_all_in_hours(asked: Asked) -> None:
    asked.is_late("validate.AM1.a", -7200.0)
    assert asked.tile("Late by") == -2.0
    asked.is_late("validate.AM1.b", 5400.0)
    assert asked.tile("Late by") == 1.5


def test_within_a_level_the_furthest_beyond_its_limit_comes_first(asked: Asked) -> None:
    for metric, severity, margin in [
        ("a", 2, -0.1),
        ("b", 2, -3.0),
        ("c", 1, -9.0),
        ("d", 2, -1.0),
    ]:
        asked.stands(f"validate.{metric}", severity, margin)
    name = watch_names.STANDING
    rows = asked.rows("Broken or")
    assert [row[f"{name}.metric"][-1] for row in rows] == ["b", "d", "a", "c"]


def test_a_level_is_a_word_next_to_the_value_and_the_limit(asked: Asked) -> None:
    asked.stands("validate.AM1", 3, -0.25)
    (row,) = asked.rows("Broken or")
    name = watch_names.STANDING
    assert (row[f"{name}.state"], row[f"{name}.summary"], row[f"{name}.percent"]) == (
        "CRITICAL",
        "4 mmag, must be ≤ 8 (minimum)",
        -25.0,
    )
    cell = asked.cell("Broken or")
    assert cell["fieldOptions"][0]["displayName"] == "state"


def test_dataset_filter_run_and_job_are_among_the_first_columns(asked: Asked) -> None:
    cell = asked.cell("Broken or")
    headings = [item["displayName"] for item in cell["fieldOptions"] if item["visible"]]
    assert headings[:8] == [
        "state",
        "metric",
        "value and limit of this level",
        "margin [%]",
        "dataset",
        "filter",
        "run",
        "job page",
    ]


def test_what_meets_its_limits_stands_by_how_close_it_is(asked: Asked) -> None:
    asked.stands("validate.AM1", 0, 0.5)
    asked.stands("validate.AM2", 3, -0.25)
    asked.stands("validate.AM3", 0, 0.125)
    asked.stands("validate.AM4", 0, None)
    name = watch_names.STANDING
    assert [(row[f"{name}.metric"], row[f"{name}.percent"]) for row in asked.rows("How close")] == [
        ("validate.AM3", 12.5),
        ("validate.AM1", 50.0),
    ]


def test_what_stands_no_more_is_not_close_to_a_limit(asked: Asked) -> None:
    asked.stands("validate.AM1", 0, 0.5, age_ns=HOUR_NS)
    tags = {watch_names.METRIC: "validate.AM1", "dataset": "hsc"}
    gone: dict[str, float | str] = {watch_names.SEVERITY: 0.0, watch_names.RANK: 7.0}
    asked.write(watch_names.STANDING, tags, gone)
    assert asked.rows("How close") == []


def test_an_absent_value_is_among_what_is_broken_and_hides_its_margin(asked: Asked) -> None:
    asked.stands("validate.AM1", 1, -0.2)
    asked.stands("validate.AM2", 0, 0.5, age_ns=2 * MINUTE_NS)
    asked.stands("validate.AM2", 0, None)
    name = watch_names.STANDING
    assert [(row[f"{name}.metric"], row[f"{name}.state"]) for row in asked.rows("Broken or")] == [
        ("validate.AM2", "not measured"),
        ("validate.AM1", "INFO"),
    ]
    assert asked.rows("How close") == []


def test_the_beats_of_the_last_minutes_are_counted(asked: Asked) -> None:
    for minutes in range(1, 15):
        asked.write(watch_names.HEARTBEAT, {}, {watch_names.UP: 1.0}, age_ns=minutes * MINUTE_NS)
    assert asked.tile("Beats") in {9.0, 10.0}


def test_a_silent_service_has_0_beats(asked: Asked) -> None:
    asked.write(watch_names.HEARTBEAT, {}, {watch_names.UP: 1.0}, age_ns=HOUR_NS)
    assert asked.tile("Beats") == 0.0


def test_the_note_links_to_the_packages_over_30_days(asked: Asked) -> None:
    link = "[validate](/sources/10000/dashboards/7?lower=now()%20-%2030d)"
    assert [cell["name"] for cell in asked.document["cells"] if link in cell["note"]] == [""]
