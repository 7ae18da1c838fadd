"""The queries of alert rules, asked of a real InfluxDB, and what rules make of the answers."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from squash_api.generate.grafana.alerting import alerting_files
from squash_api.generate.kapacitor.hand_changes import metric_alone
from squash_api.influx.points import freshness_line, heartbeat_line, job_to_points, own_line
from squash_api.judging.alert_plan import watched_metrics
from squash_api.judging.alerts import WORST_FIRST
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema import watch as names
from squash_api.settings import InfluxTarget
from squash_api.standings.watch import verdict_lines
from tests.generate.grafana.test_alerting import one, package_of
from tests.support.boundaries import (
    QUERIES,
    SCHEMA,
    Job,
    made_package,
    metas_of,
    own_package,
    verdict_levels,
)
from tests.support.grafana_rules import ReadRule, Series, labels_of, read_rules
from tests.support.influxd import Influxd

S_NS = 10**9
MINUTE_NS = 60 * S_NS


class Asked:
    """An InfluxDB into which a test writes, and which rules ask."""

    def __init__(self, influxd: Influxd, target: InfluxTarget) -> None:
        self._influxd = influxd
        self.database = target.database
        influxd.create_database(target.database)
        self.now_ns = time.time_ns()

    def write(self, *lines: str) -> None:
        self._influxd.write(self.database, *lines)

    def job(self, job: Job, *, ago_s: float = 60, number: int = 1) -> None:
        """Write the points of a job of so long ago."""
        context = SCHEMA.context(job.meta)
        values = {name: value for name, value in job.values.items() if value is not None}
        points = job_to_points(
            job_id=number,
            squash_url=f"https://squash.example.org/job/{number}",
            time_ns=self.now_ns - int(ago_s * S_NS),
            values=values,
            context=context,
            code_changes=None,
        )
        self.write(*(point.line for point in points))

    def forget(self, measurement: str) -> None:
        self._influxd.query(f'DROP MEASUREMENT "{measurement}"', database=self.database)

    def found(self, query: str) -> Series:
        """Return the series that a query finds, with their values."""
        series = self._influxd.query(query, database=self.database)
        assert all(len(item["columns"]) == 2 for item in series), query
        return {labels_of(item.get("tags")): [row[1] for row in item["values"]] for item in series}

    def firing(self, rule: ReadRule) -> list[Mapping[str, str]]:
        """Return the tags with a value of the series of a rule that alert."""
        found = {reference: self.found(query) for reference, query in rule.queries.items()}
        states = rule.firing(found) or {}
        return [
            {key: text for key, text in labels if text} for labels, is_up in states.items() if is_up
        ]

    def raised(self, rules: list[ReadRule]) -> dict[str, list[Mapping[str, str]]]:
        """Return what alerts, by level."""
        return {rule.level: found for rule in rules if (found := self.firing(rule))}


@pytest.fixture
def asked(influxd: Influxd, influx_target: InfluxTarget) -> Asked:
    return Asked(influxd, influx_target)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MetricsPackage:
    return made_package(tmp_path_factory.mktemp("made") / "made")


@pytest.fixture(scope="module")
def rules_made(made: MetricsPackage) -> list[ReadRule]:
    return rules_of(made)


def rules_of(package: MetricsPackage, about: str = "") -> list[ReadRule]:
    files = alerting_files(package, schema=SCHEMA, retention_policy="autogen", alerts_by="grafana")
    return [
        rule for rule in read_rules(files) if about in ("", rule.document["labels"]["squash_about"])
    ]


def test_every_query_is_one_that_influxdb_understands(
    asked: Asked, rules_made: list[ReadRule]
) -> None:
    for rule in [*rules_of(own_package()), *rules_made]:
        for query in rule.queries.values():
            assert asked.found(query) == {}


@pytest.mark.parametrize("place", range(len(QUERIES)))
def test_a_rule_looks_at_the_jobs_that_the_judge_looks_at(
    asked: Asked, made: MetricsPackage, rules_made: list[ReadRule], place: int
) -> None:
    package = metric_alone(made, "made.m0")
    (watched,) = watched_metrics(package.specifications.values(), package.metrics, SCHEMA)
    metric = watched.metric.name
    by_title = {str(rule.document["title"]): rule for rule in rules_made}
    branch = next(
        each
        for each in watched.branches
        if each.limits[0].specification.metadata_query == QUERIES[place]
    )
    branches = {limit.name: each.key for each in watched.branches for limit in each.limits}
    rules = [by_title[f"{metric} {level} {branch.key}"] for level in WORST_FIRST]
    met, *others = metas_of(QUERIES[place])
    for key in met:
        others += [{**met, key: "elsewhere"}, {k: v for k, v in met.items() if k != key}]
    raised = 0
    for number, meta in enumerate((met, *others)):
        job = Job("", meta, {metric: 1e9})
        asked.job(job, number=number)
        judged = verdict_levels(package, job, branches).get(branch.key)
        assert [*asked.raised(rules)] == ([] if judged is None else [judged[0]]), meta
        raised += judged is not None
        asked.forget("made")
    assert raised


def test_the_newest_value_of_each_series_counts(asked: Asked, tmp_path: Path) -> None:
    rules = rules_of(package_of(tmp_path, one("alert: {per: [filter]}")), "validate.AM1")
    for number, (band, value, ago_s) in enumerate(
        [
            ("r", 11.0, 600),
            ("r", 9.0, 300),
            ("g", 9.0, 600),
            ("g", 11.0, 300),
            ("i", 11.0, 8 * 86400),
        ]
    ):
        job = Job("", {"filter_name": band}, {"validate.AM1": value})
        asked.job(job, ago_s=ago_s, number=number)
    assert asked.raised(rules) == {"WARNING": [{"filter": "g"}]}
    (query,) = [rule.queries["J"] for rule in rules]
    assert asked.found(query)[labels_of({"filter": "g"})] == [3]


def test_another_metric_of_a_newer_job_hides_nothing(asked: Asked, tmp_path: Path) -> None:
    rules = rules_of(package_of(tmp_path, one("")), "validate.AM1")
    asked.job(Job("", {}, {"validate.AM1": 11.0}), ago_s=600)
    asked.job(Job("", {}, {"validate.PA1": 1.0}), ago_s=60, number=2)
    assert asked.raised(rules) == {"WARNING": [{}]}


def test_lateness_is_read_as_the_watch_writes_it(asked: Asked, tmp_path: Path) -> None:
    rules = rules_of(
        package_of(tmp_path, one("expect: {every: 24h}\nalert: {per: [filter]}")),
        "validate.AM1.design",
    )
    for band, late_s in (("r", 60.0), ("g", -60.0)):
        asked.write(
            freshness_line(
                "validate.AM1.design",
                [("filter", band)],
                late_s=late_s,
                age_s=90000.0,
                since="",
                run_id=None,
                squash_url=None,
                time_ns=asked.now_ns,
            )
        )
    assert asked.raised(rules) == {"WARNING": [{"filter": "r"}]}


def test_what_the_service_raises_is_read_as_the_watch_writes_it(
    asked: Asked, tmp_path: Path
) -> None:
    package = package_of(tmp_path, one("alert: {after: {runs: 2, of: 3}}"))
    rules = rules_of(package, "validate.AM1")
    (watched,) = watched_metrics(package.specifications.values(), package.metrics, SCHEMA)
    served = [("validate.AM1", branch.key) for branch in watched.branches]
    assert asked.raised(rules) == {}
    asked.write(*verdict_lines([], served, time_ns=asked.now_ns))
    assert asked.raised(rules) == {}
    own = {names.METRIC: "validate.AM1", names.BRANCH: served[0][1], "filter": "r"}
    told = {names.SEVERITY: 2.0, names.VALUE: 11.0, names.ALERT: 7.0}
    asked.write(own_line(names.VERDICT, own, told, asked.now_ns))
    assert asked.raised(rules) == {"WARNING": [{"filter": "r"}]}


def test_a_process_that_says_nothing_any_more_is_silent(asked: Asked) -> None:
    (rule,) = rules_of(own_package(), "service-silent")
    minute_ns = asked.now_ns - asked.now_ns % MINUTE_NS
    for instance, first in (("a", 0), ("b", 8)):
        tags = {names.PROCESS: "serve", names.INSTANCE: instance}
        asked.write(
            *(
                own_line(names.SERVICE, tags, {names.RECORD_UP: 1.0}, minute_ns - ago * MINUTE_NS)
                for ago in range(first, 20)
            )
        )
    assert asked.firing(rule) == [{names.PROCESS: "serve", names.INSTANCE: "b"}]


def test_a_heartbeat_is_heard_and_one_of_six_minutes_ago_is_none(asked: Asked) -> None:
    (rule,) = rules_of(own_package(), "service-watch")
    asked.write(heartbeat_line(asked.now_ns - 6 * MINUTE_NS))
    assert asked.found(rule.queries["A"]) == {}
    asked.write(heartbeat_line(asked.now_ns))
    assert asked.firing(rule) == []
