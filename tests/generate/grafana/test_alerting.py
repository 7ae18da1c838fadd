"""The alert rules as Grafana evaluates them, against the judge; and whom they are told to."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import alerting, expr

from squash_api.generate.files import file_problems, find_drift, with_marks, write_files
from squash_api.generate.grafana.alerting import (
    ALERTING,
    DELETED,
    alerting_files,
    mute_times,
    with_deleted,
)
from squash_api.generate.grafana.alerting_rules import Route
from squash_api.generate.grafana.alerting_texts import plain
from squash_api.generate.kapacitor.hand_changes import metric_alone
from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.judging.alert_plan import watched_metrics
from squash_api.judging.alerts import WORST_FIRST, level_of
from squash_api.judging.own import OWN_ALERTS, OwnAlert
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from squash_api.setting_types import AlertsBy
from tests.support.boundaries import (
    SCHEMA,
    Job,
    around,
    made_package,
    metas_of,
    own_package,
    sample_package,
    verdict_levels,
)
from tests.support.grafana_rules import ReadRule, is_muted, moments_around, read_rules
from tests.support.metrics_packages import write_metrics_package

THREE = """
name: AM1.min
threshold: {operator: "<=", unit: marcsec, value: 30}
tags: [minimum]
---
name: AM1.des
threshold: {operator: "<=", unit: marcsec, value: 20}
tags: [design]
---
name: AM1.str
threshold: {operator: "<=", unit: marcsec, value: 10}
tags: [stretch]
"""
DAY = timedelta(days=1)
PEOPLE = (f"{ALERTING}/contact-points.yaml", f"{ALERTING}/policy.yaml")


def files_of(package: MetricsPackage, alerts_by: AlertsBy = "grafana") -> dict[str, str]:
    return alerting_files(package, schema=SCHEMA, retention_policy="autogen", alerts_by=alerts_by)


def package_of(tmp_path: Path, specs: str) -> MetricsPackage:
    package = load_metrics_package(write_metrics_package(tmp_path, specs=specs))
    assert package.problems == ()
    return package


def one(extra: str) -> str:
    return f'name: AM1.design\nthreshold: {{operator: "<=", unit: marcsec, value: 10.0}}\n{extra}\n'


def rules_on(package: MetricsPackage, about: str = "validate.AM1") -> list[ReadRule]:
    return [
        rule
        for rule in read_rules(files_of(package))
        if rule.document["labels"]["squash_about"] == about
    ]


def told_at(rules: list[ReadRule], value: float | None, day: date) -> list[str]:
    """Return the levels that people are told on a day."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return [
        rule.level
        for rule in rules
        if rule.state(value) == "Alerting"
        and not any(is_muted(intervals, noon) for intervals in mute_times(_route(rule)).values())
    ]


def _route(rule: ReadRule) -> Route:
    days = {}
    for word in ("after", "through"):
        _, found, rest = rule.document["labels"]["squash_route"].partition(f"{word} ")
        days[word] = date.fromisoformat(rest[:10]) if found else None
    return Route(after=days["after"], through=days["through"])


@pytest.fixture(scope="module", params=["own", "made", "sample"])
def package(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MetricsPackage:
    if request.param == "made":
        return made_package(tmp_path_factory.mktemp("made") / "made")
    return own_package() if request.param == "own" else sample_package()


@pytest.fixture(scope="module")
def files(package: MetricsPackage) -> dict[str, str]:
    return with_marks(files_of(package))


@pytest.fixture(scope="module")
def rules(files: dict[str, str]) -> list[ReadRule]:
    return read_rules(files)


@pytest.fixture(scope="module")
def of_the_service(tmp_path_factory: pytest.TempPathFactory) -> list[ReadRule]:
    return read_rules(files_of(package_of(tmp_path_factory.mktemp("own"), one(""))))


def test_rules_and_judge_agree_at_every_limit(
    package: MetricsPackage, rules: list[ReadRule]
) -> None:
    """Which jobs a rule looks at, its query says: see `test_alert_queries.py`."""
    by_title = {str(rule.document["title"]): rule for rule in rules}
    raised = 0
    for watched in watched_metrics(package.specifications.values(), package.metrics, SCHEMA):
        metric = watched.metric.name
        alone = metric_alone(package, metric)
        branches = {limit.name: each.key for each in watched.branches for limit in each.limits}
        for branch in watched.branches:
            mine = [by_title.get(f"{metric} {level} {branch.key}") for level in WORST_FIRST]
            meta = metas_of(branch.limits[0].specification.metadata_query)[0]
            numbers = {number for limit in branch.limits for number in limit.criterion.numbers}
            for value in (None, *{near for number in numbers for near in around(number)}):
                told = [rule.level for rule in mine if rule and rule.state(value) == "Alerting"]
                job = Job("", meta, {metric: value})
                judged = verdict_levels(alone, job, branches).get(branch.key)
                assert told == ([] if judged is None else [judged[0]]), (metric, meta, value)
                raised += bool(told)
    assert raised >= len(package.specifications) / 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_is_no_number_raises_nothing(tmp_path: Path, value: float | None) -> None:
    rules = rules_on(package_of(tmp_path, one("").replace("<=", "==")))
    assert [rule.state(value) for rule in rules] == ["OK"]


@pytest.mark.parametrize(
    ("value", "level"), [(9.0, None), (11.0, "INFO"), (21.0, "WARNING"), (31.0, "CRITICAL")]
)
def test_a_value_is_told_at_one_level(tmp_path: Path, value: float, level: str | None) -> None:
    rules = rules_on(package_of(tmp_path, THREE))
    assert len(rules) == 3
    told = [rule.level for rule in rules if rule.state(value) == "Alerting"]
    assert told == ([] if level is None else [level])


@pytest.mark.parametrize("muted", [(), ("min",), ("des",), ("min", "str"), ("min", "des", "str")])
def test_while_a_limit_is_muted_the_others_are_told_as_if_it_were_not(
    tmp_path: Path, muted: tuple[str, ...]
) -> None:
    days = {"min": date(2026, 12, 15), "des": date(2026, 12, 31), "str": date(2027, 2, 3)}
    specs = THREE
    for name in muted:
        mute = f"alert: {{mute: {{until: {days[name]}, why: known}}}}\n"
        specs = specs.replace(f"name: AM1.{name}\n", f"name: AM1.{name}\n{mute}")
    rules = rules_on(package_of(tmp_path, specs))
    limits = {"min": (30, "CRITICAL"), "des": (20, "WARNING"), "str": (10, "INFO")}
    for day in {date(2026, 11, 1), *days.values(), *(end + DAY for end in days.values())}:
        for value in (5.0, 15.0, 25.0, 35.0):
            heard = [
                level
                for name, (number, level) in limits.items()
                if value > number and not (name in muted and day <= days[name])
            ]
            assert told_at(rules, value, day) == heard[:1], (day, value)


def test_a_late_value_is_told_and_one_in_time_is_not(tmp_path: Path) -> None:
    package = package_of(tmp_path, one("expect: {every: 24h}"))
    (rule,) = rules_on(package, "validate.AM1.design")
    assert (rule.state(1.0), rule.state(0.0), rule.state(-5.0)) == ("Alerting", "OK", "OK")
    assert rule.state(None) == "KeepLast"


def test_a_silent_service_is_told_because_there_is_nothing(of_the_service: list[ReadRule]) -> None:
    (rule,) = (
        rule for rule in of_the_service if rule.document["title"] == "service-watch CRITICAL"
    )
    assert (rule.state(None), rule.state(1.0)) == ("Alerting", "OK")
    assert rule.document["execErrState"] == "Alerting"


@pytest.mark.parametrize("alert", OWN_ALERTS, ids=lambda alert: alert.name)
def test_limits_of_the_service_itself_are_judged_as_by_kapacitor(
    alert: OwnAlert, of_the_service: list[ReadRule]
) -> None:
    rules = [
        rule for rule in of_the_service if rule.document["labels"]["squash_about"] == alert.name
    ]
    for number in {bound.number for bound in alert.bounds}:
        for value in around(number):
            broken = [limit.level for limit in alert.limits if not limit.holds(value)]
            told = [rule.level for rule in rules if rule.state(value) == "Alerting"]
            assert told == broken[:1]


@pytest.mark.parametrize("severity", [0, 1, 2, 3])
def test_what_the_service_raises_is_told_at_its_level(tmp_path: Path, severity: int) -> None:
    specs = THREE.replace("tags:", "alert: {after: {runs: 2, of: 3}}\ntags:")
    rules = rules_on(package_of(tmp_path, specs))
    told = [rule.level for rule in rules if rule.state(float(severity)) == "Alerting"]
    assert told == ([level_of(severity)] if severity else [])
    assert {rule.state(None) for rule in rules} == {"KeepLast"}
    assert all("squash_verdict" in query for rule in rules for query in rule.queries.values())


def test_of_a_trial_nobody_is_told(tmp_path: Path) -> None:
    assert rules_on(package_of(tmp_path / "a", one("alert: {trial: true}"))) == []
    late = package_of(tmp_path / "b", one("alert: {trial: true}\nexpect: {every: 24h}"))
    assert rules_on(late, "validate.AM1.design") == []


def test_a_rule_has_the_states_for_no_data_and_errors_that_tell_nobody(tmp_path: Path) -> None:
    for rule in rules_on(package_of(tmp_path, THREE)):
        states = [rule.document[key] for key in ("noDataState", "execErrState", "for")]
        assert states == ["OK", "KeepLast", "0s"]


def test_only_the_one_of_the_two_speaks() -> None:
    package = own_package()
    for alerts_by, is_paused in (("grafana", False), ("kapacitor", True)):
        files = files_of(package, cast("AlertsBy", alerts_by))
        assert {rule.document["isPaused"] for rule in read_rules(files)} == {is_paused}
        assert all((path in files) is not is_paused for path in PEOPLE)
        assert all(f"SQUASH_ALERTS_BY={alerts_by}" in text for text in files.values())
        made = kapacitor_files(
            package,
            schema=SCHEMA,
            database="d",
            retention_policy="r",
            alerts_by=cast("AlertsBy", alerts_by),
        )
        handlers = [path for path in made if path.startswith("kapacitor/handlers/")]
        assert bool(handlers) is is_paused


def test_uids_and_titles_are_of_one_rule_each_and_fit(rules: list[ReadRule]) -> None:
    for key, longest in (("uid", 40), ("title", 190)):
        found = [rule.document[key] for rule in rules]
        assert len(set(found)) == len(found)
        assert max(map(len, found)) <= longest


def test_a_rule_keeps_its_uid_when_its_limit_changes(tmp_path: Path) -> None:
    before = rules_on(package_of(tmp_path / "a", THREE))
    after = rules_on(package_of(tmp_path / "b", THREE.replace("value: 20", "value: 21")))
    assert [rule.uid for rule in before] == [rule.uid for rule in after]
    assert [rule.document for rule in before] != [rule.document for rule in after]


def test_rules_that_are_gone_are_deleted_also_later_and_not_if_they_come_back(
    tmp_path: Path,
) -> None:
    three = files_of(package_of(tmp_path / "a", THREE))
    first = files_of(package_of(tmp_path / "b", THREE.partition("---")[0]))
    gone = {rule.uid for rule in read_rules(three)} - {rule.uid for rule in read_rules(first)}
    then = with_deleted(first, three)
    deleted = yaml.safe_load(then[DELETED])["deleteRules"]
    assert {item["uid"] for item in deleted} == gone
    assert len(gone) == 2
    assert with_deleted(first, then) == then
    assert with_deleted(three, then) == three


def test_generating_twice_changes_nothing_and_names_what_is_gone(tmp_path: Path) -> None:
    three = with_marks(files_of(package_of(tmp_path / "a", THREE)))
    first = with_marks(files_of(package_of(tmp_path / "b", THREE.partition("---")[0])))
    write_files(three, tmp_path)
    assert not find_drift(three, tmp_path)
    assert DELETED in write_files(first, tmp_path).missing
    assert not find_drift(first, tmp_path)
    assert not write_files(first, tmp_path)
    assert "deleteRules" in (tmp_path / DELETED).read_text(encoding="utf-8")
    assert DELETED in write_files(three, tmp_path).orphaned


def test_a_channel_has_a_contact_point_and_no_secret_is_in_it(tmp_path: Path) -> None:
    files = files_of(package_of(tmp_path, one('alert: {channel: "#d$m"}')))
    points = yaml.safe_load(files[PEOPLE[0]])["contactPoints"]
    assert [point["name"] for point in points] == ["SQuaSH default", "SQuaSH #d$$m"]
    settings = [point["receivers"][0]["settings"] for point in points]
    assert [item.get("recipient") for item in settings] == [None, "#d$$m"]
    assert {item["url"] for item in settings} == {"$SQUASH_SLACK_URL"}


def test_every_rule_finds_a_route_to_a_contact_point_that_is_there(tmp_path: Path) -> None:
    specs = THREE.replace("tags: [design]", 'tags: [design]\nalert: {channel: "#x", group: none}')
    files = files_of(
        package_of(
            tmp_path,
            specs + "\n---\n" + one("alert: {group: job}").replace("AM1.design", "AM1.job"),
        )
    )
    (policy,) = yaml.safe_load(files[PEOPLE[1]])["policies"]
    routes = {route["object_matchers"][0][2]: route for route in policy["routes"]}
    names = {point["name"] for point in yaml.safe_load(files[PEOPLE[0]])["contactPoints"]}
    assert {route["receiver"] for route in routes.values()} == names
    for rule in read_rules(files):
        route = routes[rule.document["labels"]["squash_route"]]
        assert "squash_level" not in route["group_by"]
    by_name = {name: route["group_by"] for name, route in routes.items()}
    assert by_name["#x, by instrument, dataset, filter, pipeline, detector, ccdnum, tract, patch"]


@pytest.mark.parametrize(
    "day", [date(2026, 12, 15), date(2026, 12, 31), date(2027, 1, 1), date(2028, 2, 29)]
)
def test_mute_timings_hold_through_a_day_or_after_it(day: date) -> None:
    (through,) = mute_times(Route(after=day)).values()
    (after,) = mute_times(Route(through=day)).values()
    for moment in moments_around(datetime(day.year, day.month, day.day, tzinfo=UTC)):
        assert is_muted(through, moment) is (moment.date() <= day)
        assert is_muted(after, moment) is (moment.date() > day)


def test_after_the_last_day_that_there_is_no_timing_is_needed() -> None:
    assert list(mute_times(Route(after=date.max))) == ["SQuaSH through 9999-12-31"]
    assert mute_times(Route(through=date.max)) == {}


def test_the_files_are_sound(files: dict[str, str]) -> None:
    assert file_problems(files) == []


def test_templates_have_their_braces_in_pairs(files: dict[str, str], rules: list[ReadRule]) -> None:
    (template,) = yaml.safe_load(files[f"{ALERTING}/templates.yaml"])["templates"]
    texts = [text for rule in rules for text in rule.document["annotations"].values()]
    for text in (*texts, template["template"]):
        opened = re.findall(r"{{ (?:if|range|with|define) ", text)
        assert len(opened) == text.count("{{ end }}")
        assert text.count("{{") == text.count("}}")


def as_published(model: Any, document: Any) -> Any:
    """Return a document read and written by a model, which drops what it does not know."""
    return json.loads(json.dumps(model.from_json(document), cls=JSONEncoder))


def test_rules_are_as_grafanas_published_models_say(rules: list[ReadRule]) -> None:
    for rule in rules:
        made = as_published(alerting.Rule, rule.document)
        # In a file these are said of the group.
        of_group = {"folderUID", "orgID", "ruleGroup"}
        assert {key: made[key] for key in made.keys() - of_group} == rule.document
        for item in rule.document["data"]:
            model = item["model"]
            if item["datasourceUid"] == "__expr__":
                kind = {"reduce": expr.TypeReduce, "math": expr.TypeMath}[model["type"]]
                assert as_published(kind, model) == model


def test_whom_they_are_told_to_is_as_grafanas_published_models_say(files: dict[str, str]) -> None:
    (policy,) = yaml.safe_load(files[PEOPLE[1]])["policies"]
    for route in policy["routes"]:
        assert as_published(alerting.NotificationPolicy, route) == route
    for point in yaml.safe_load(files[PEOPLE[0]])["contactPoints"]:
        (receiver,) = point["receivers"]
        assert as_published(alerting.ContactPoint, receiver) == receiver


def test_rules_are_found_in_files_in_which_a_merge_has_left_its_marks() -> None:
    text = "groups:\n- rules:\n<<<<<<< HEAD\n  - uid: one-a\n=======\n  - uid: two\n>>>>>>> b\n"
    gone = "deleteRules:\n<<<<<<< HEAD\n- orgId: 1\n  uid: old\n=======\n>>>>>>> b\n"
    path = DELETED.replace("deleted-rules", "rules-p")
    found = with_deleted({}, {path: text, DELETED: gone})
    deleted = yaml.safe_load(found[DELETED])["deleteRules"]
    assert [item["uid"] for item in deleted] == ["old", "one-a", "two"]


def test_no_annotation_has_what_a_grafana_to_come_replaces() -> None:
    assert plain("${HOME} $x {y") == '{{"$"}}{{"{"}}HOME} $x {{"{"}}y'
