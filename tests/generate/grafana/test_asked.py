"""Every query of Grafana's dashboards, asked of a real InfluxDB with points."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.generate.grafana.files import dashboard_uid
from squash_api.influx.points import freshness_line, heartbeat_line, own_line, standing_line
from squash_api.judging.states import RANKS, state_of
from squash_api.schema import watch as names
from tests.support.grafana import grafana_dashboards, queries_of, rendered
from tests.support.influxd import Influxd
from tests.support.metrics_packages import ROOT
from tests.support.query_data import DAYS, lines_of, samples

pytestmark = pytest.mark.sqlite

DATABASE = "grafana"
MINUTE_NS = 60 * 10**9
URL = "https://squash.example.org"
TAGS = (("dataset", "HSC_RC2"), ("filter", "r"), ("pipeline", "validate_drp"))


def watch_lines(now_ns: int) -> list[str]:
    """Return what the service says of itself: two standings, one late, itself."""
    minute_ns = now_ns - MINUTE_NS
    job: Any = {"run_id": "R1", "squash_url": f"{URL}/job/7", "time_ns": minute_ns}
    lines = [heartbeat_line(minute_ns)]
    for metric, severity, margin in (("validate_drp.PA1", 2, -0.5), ("validate_drp.AM1", 0, 0.1)):
        state = state_of(severity, is_limited=True, is_measured=True)
        lines.append(
            standing_line(
                metric,
                TAGS,
                state=state,
                rank=RANKS[state],
                value=7.5,
                margin=margin,
                level_margin=margin,
                limit=f"{metric}.design",
                summary="7.5 ≤ 5",
                severity=severity,
                broken=[f"{metric}.design"] if severity else [],
                **job,
            )
        )
    lines.append(
        freshness_line("validate_drp.PA1.x", TAGS, late_s=3600.0, age_s=9e4, since="1 day", **job)
    )
    told = {names.RUNBOOK: f"{URL}/docs/runbook", names.REASON: "none"}
    figures = dict.fromkeys(_figures(names.SERVICE), 1.0)
    waiting = dict.fromkeys(_figures(names.DELIVERY), 1.0)
    process = {names.PROCESS: "serve", names.INSTANCE: "a"}
    lines.append(
        own_line(names.SERVICE, process, {**figures, **told, names.VERSION: "1"}, minute_ns)
    )
    lines.append(own_line(names.DELIVERY, {names.TARGET: "x"}, {**waiting, **told}, minute_ns))
    return lines


def _figures(measurement: str) -> set[str]:
    """Return the numeric fields that the dashboard of the service itself asks of a measurement."""
    of_delivery = {names.WAITING, names.OLDEST_S, names.QUARANTINED, names.REFUSED_LATELY, names.UP}
    if measurement == names.DELIVERY:
        return of_delivery
    return {
        names.RECORD_UP,
        names.FAILED,
        names.REFUSED,
        names.REFUSED_JOBS,
        names.REFUSED_CONNECTIONS,
        names.LIMITED,
        names.DISK_FREE_GB,
        names.LOOP_LAG_S,
        names.JOBS_PER_S,
        names.POOL,
        names.CONNECTIONS,
        names.READS_RUNNING,
        names.READS_WAITING,
        names.STREAMS,
        names.DERIVING_S,
        names.READERS,
        names.MEMORY_MB,
    }


class Asked:
    """An InfluxDB with six weeks of jobs and what the service says of itself."""

    def __init__(self, influxd: Influxd, now_ns: int) -> None:
        self.influxd = influxd
        self.end_ms = now_ns // 10**6
        self.start_ms = self.end_ms - DAYS * 86_400_000

    def ask(self, query: str, **chosen: list[str]) -> list[dict[str, Any]]:
        text = rendered(query, start_ms=self.start_ms, end_ms=self.end_ms, chosen=chosen)
        return self.influxd.query(text, database=DATABASE)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    now_ns = time.time_ns()
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        server.create_database(DATABASE)
        server.write(DATABASE, *lines_of(samples(now_ns), URL), *watch_lines(now_ns))
        yield Asked(server, now_ns)


def committed(uid: str) -> dict[str, Any]:
    path = ROOT / "grafana" / "dashboards" / f"{uid}.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@pytest.mark.parametrize("uid", ["squash-overview", "squash-service"])
def test_every_query_about_the_service_has_an_answer(asked: Asked, uid: str) -> None:
    queries = [*queries_of(committed(uid))]
    assert len(queries) > 8
    assert [title for title, query in queries if not asked.ask(query)] == []


def test_every_query_of_a_package_is_answered_and_those_of_measured_metrics_with_points(
    asked: Asked,
) -> None:
    queries = [*queries_of(committed(dashboard_uid("validate_drp")))]
    # No job is in these filters; no other metrics than these two are in the points.
    others = "\"filter\" = 'u'"
    with_points = ("PA1", "AM1", "list dataset", "list filter", "list squash", "annot", "Latest")
    wanted = [item for item in queries if item[0].startswith(with_points) and others not in item[1]]
    assert len(wanted) > 8
    assert [title for title, query in wanted if not asked.ask(query)] == []
    for _, query in queries:
        asked.ask(query)


@pytest.fixture(scope="module")
def graph() -> str:
    """Return the query for the values of PA1."""
    document = committed(dashboard_uid("validate_drp"))
    (found,) = (
        panel["targets"][0]["query"]
        for panel in document["panels"]
        if panel["type"] == "timeseries" and panel["title"].startswith("PA1 ")
    )
    return str(found)


def lines_in(series: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(item["tags"]["dataset"], item["tags"]["filter"]) for item in series}


def test_all_values_are_shown_until_some_are_chosen(asked: Asked, graph: str) -> None:
    assert len(lines_in(asked.ask(graph))) == 4
    assert lines_in(asked.ask(graph, dataset=["HSC_RC2"], filter=["r", "g"])) == {
        ("HSC_RC2", "r"),
        ("HSC_RC2", "g"),
    }
    assert asked.ask(graph, dataset=["HSC"]) == []


def test_values_without_a_tag_are_among_all(asked: Asked, graph: str) -> None:
    asked.influxd.write(
        DATABASE, f"validate_drp PA1=4.5,squash_id=1 {asked.end_ms * 10**6 - MINUTE_NS}"
    )
    assert ("", "") in lines_in(asked.ask(graph))


def test_the_address_of_squash_is_found_in_its_points(asked: Asked) -> None:
    for uid in ("squash-overview", "squash-service", dashboard_uid("validate_drp")):
        (variable,) = (
            item for item in committed(uid)["templating"]["list"] if item["name"] == "squash"
        )
        ((row,),) = (item["values"] for item in asked.ask(variable["query"]))
        pattern = variable["regex"].strip("/").replace(r"\/", "/")
        found = re.search(pattern, row[1])
        assert found is not None
        assert found[1] == URL


def test_a_tile_shows_the_column_that_it_names(asked: Asked) -> None:
    for panel in committed(dashboard_uid("validate_drp"))["panels"]:
        if panel["type"] == "stat" and panel["title"].startswith("PA1 g"):
            (series,) = asked.ask(panel["targets"][0]["query"])
            pattern = panel["options"]["reduceOptions"]["fields"].strip("/")
            assert len([name for name in series["columns"] if re.search(pattern, name)]) == 1


def test_a_limit_line_is_drawn_only_where_it_applies(asked: Asked, tmp_path: Path) -> None:
    metrics = "PA1: {description: Repeatability., unit: mmag}\n"
    specs = 'name: PA1.r\nthreshold: {value: 5, unit: mmag, operator: "<="}\n'
    specs += "metadata_query: {filter_name: r}\n"
    document = grafana_dashboards(tmp_path, metrics=metrics, specs=specs)[dashboard_uid("validate")]
    (query,) = (
        panel["targets"][1]["query"]
        for panel in document["panels"]
        if panel["type"] == "timeseries"
    )
    (series,) = asked.ask(query.replace('"validate"', '"validate_drp"'))
    assert series["columns"][1:] == ["•• r ≤ 5"]
    # Two datasets a day, in one hour or the next.
    assert DAYS <= len(series["values"]) <= 2 * DAYS


def test_a_request_reads_the_retention_policy_that_it_names(asked: Asked) -> None:
    """As Grafana sends the policy of a query, beside it."""
    server = asked.influxd
    server.query(f'CREATE RETENTION POLICY "other" ON "{DATABASE}" DURATION 0s REPLICATION 1')
    found = {}
    for policy in ("autogen", "other"):
        params = {"db": DATABASE, "rp": policy, "q": 'SELECT count("PA1") FROM "validate_drp"'}
        reply = httpx.get(f"{server.url}/query", params=params, trust_env=False, timeout=60).json()
        found[policy] = bool(reply["results"][0].get("series"))
    assert found == {"autogen": True, "other": False}
