"""Alerting that is pushed to a Grafana and compared with it, and what of others stays."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import alerting

from squash_api.generate.comparison import Comparison, Step, compare, push
from squash_api.generate.files import make_files, with_marks, write_files
from squash_api.generate.grafana.alerting import ALERTING, ALERTS_FOLDER
from squash_api.generate.grafana.alerting_server import FOLDER_UID
from squash_api.generate.grafana.server import Grafana
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Schema
from squash_api.setting_types import AlertsBy
from tests.support.fake_grafana import TOKEN, FakeGrafana
from tests.support.metrics_packages import write_metrics_package

pytestmark = pytest.mark.sqlite

SLACK = "https://hooks.slack.com/services/T0/B0/hidden"
VARIABLES = {"SQUASH_URL": "https://squash.example.org", "SQUASH_SLACK_URL": SLACK}
SPECS = """
name: AM1.min
threshold: {operator: "<=", unit: marcsec, value: 30}
tags: [minimum]
alert: {channel: "#d$m", mute: {until: 2026-12-15, why: known}}
---
name: AM1.des
threshold: {operator: "<=", unit: marcsec, value: 20}
tags: [design]
---
name: PA1.des
threshold: {operator: "<=", unit: mmag, value: 20}
"""
TEMPLATES, POINTS, MUTES, POLICY, GROUPS = KINDS = (
    "Grafana template",
    "Grafana contact point",
    "Grafana mute timing",
    "Grafana notification policy",
    "Grafana rule group",
)
OTHER_RULE = {
    "uid": "mine",
    "title": "Mine",
    "folderUID": FOLDER_UID,
    "ruleGroup": "mine",
    "labels": {"team": "a"},
    "provenance": "",
}
OTHER_ROUTES = [
    {"receiver": "pager", "object_matchers": [["team", "=", "a"]], "routes": [{"continue": True}]},
    {"receiver": "grafana-default-email"},
]


class Site:
    """A Grafana with what others have in it, and specifications whose files are committed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fake = FakeGrafana()
        self.written = 0
        self.specs(SPECS)
        self.theirs: dict[str, Any] = {}

    @property
    def there(self) -> Any:
        return self.fake.alerting

    def specs(self, text: str, alerts_by: AlertsBy = "grafana") -> None:
        self.written += 1
        place = self.folder / f"specs-{self.written}"
        package = load_metrics_package(write_metrics_package(place, specs=text))
        assert package.problems == ()
        database: dict[str, Any] = {"database": "squash", "retention_policy": "autogen"}
        made = make_files(package, schema=Schema(), alerts_by=alerts_by, **database)
        self.files = {path: text for path, text in made.items() if path.startswith(ALERTING)}
        write_files(self.files, self.folder)

    def others(self) -> None:
        """Add what others have, among it rules in our folder."""
        self.fake.folders[FOLDER_UID] = {"uid": FOLDER_UID, "title": ALERTS_FOLDER}
        self.there.rules["mine"] = copy.deepcopy(OTHER_RULE)
        self.there.points["pager"] = {"uid": "pager", "name": "pager", "settings": {}}
        self.there.mutes["weekend"] = {"name": "weekend", "time_intervals": []}
        self.there.templates["mine"] = {"name": "mine", "template": "x"}
        self.there.tree |= {"routes": copy.deepcopy(OTHER_ROUTES), "repeat_interval": "4h"}
        self.theirs = self.of_others()

    def of_others(self) -> dict[str, Any]:
        tree = copy.deepcopy(self.there.tree)
        tree["routes"] = [item for item in tree["routes"] if item in OTHER_ROUTES]
        names = {"mine", "pager", "weekend", ""}
        kept = (self.there.rules, self.there.points, self.there.mutes, self.there.templates)
        return {
            "tree": tree,
            "kept": [{key: one[key] for key in one.keys() & names} for one in kept],
        }

    def server(self, variables: Mapping[str, str] = VARIABLES) -> Grafana:
        transport = httpx.MockTransport(self.fake)
        return Grafana("http://g:3000", token=TOKEN, variables=variables, transport=transport)

    def compared(self, variables: Mapping[str, str] = VARIABLES) -> Comparison:
        return compare(self.files, self.folder, self.server(variables).things(), KINDS)

    def states(self, variables: Mapping[str, str] = VARIABLES) -> dict[str, str]:
        return {item.name: item.server for item in self.compared(variables).differences}

    def push(self, variables: Mapping[str, str] = VARIABLES, *, prune: bool = False) -> list[Step]:
        compared, server = self.compared(variables), self.server(variables)
        return [*push(compared, {"grafana": server}, prune=prune)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def pushed(site: Site) -> Site:
    site.others()
    steps = site.push()
    assert {step.outcome for step in steps} == {"created"}
    return site


def our_routes(site: Site) -> list[dict[str, Any]]:
    return [item for item in site.there.tree["routes"] if item not in OTHER_ROUTES]


def test_what_is_pushed_is_made_in_the_order_in_which_it_needs_each_other(site: Site) -> None:
    steps = site.push()
    assert {step.outcome for step in steps} == {"created"}
    assert [step.kind for step in steps] == sorted((s.kind for s in steps), key=KINDS.index)
    names = {step.name for step in steps}
    assert {"squash", "SQuaSH", "squash-default", "validate.AM1", "validate.PA1"} <= names
    assert site.fake.folders[FOLDER_UID]["title"] == ALERTS_FOLDER


@pytest.mark.parametrize("alerts_by", ["grafana", "kapacitor"])
def test_what_was_pushed_does_not_differ_and_is_not_pushed_again(
    site: Site, alerts_by: AlertsBy
) -> None:
    site.specs(SPECS, alerts_by)
    assert set(site.states().values()) == {"missing"}
    site.push()
    sent = len(site.fake.sent)
    assert (site.states(), site.push(), len(site.fake.sent)) == ({}, [], sent)


def as_published(model: Any, document: Any) -> Any:
    """Return a document read and written by a model, which drops what it does not know."""
    return json.loads(json.dumps(model.from_json(document), cls=JSONEncoder))


def _keys_of_spans(timing: dict[str, Any]) -> dict[str, Any]:
    return {**timing, "time_intervals": [sorted(span) for span in timing["time_intervals"]]}


def test_every_request_is_as_grafanas_published_models_say(pushed: Site) -> None:
    models = {
        "templates": alerting.NotificationTemplate,
        "contact-points": alerting.ContactPoint,
        "mute-timings": alerting.MuteTiming,
        "policies": alerting.NotificationPolicy,
        "folder": alerting.RuleGroup,
    }
    found = set()
    for path, body in pushed.fake.sent:
        place = path.removeprefix("/api/v1/provisioning/").split("/")[0]
        found.add(place)
        seen = (as_published(models[place], body), body)
        if place == "mute-timings":
            # The published model of a range is an object without keys.
            seen = (_keys_of_spans(seen[0]), _keys_of_spans(body))
        assert seen[0] == seen[1]
    assert found == {*models}


def test_requests_have_values_where_files_have_variables(pushed: Site) -> None:
    rule = next(rule for rule in pushed.there.rules.values() if rule["title"] != "Mine")
    assert rule["labels"]["squash_root"] == VARIABLES["SQUASH_URL"]
    ours = [point for uid, point in pushed.there.points.items() if uid.startswith("squash-")]
    assert {point["settings"]["url"] for point in ours} == {SLACK}
    assert {point["name"] for point in ours} == {"SQuaSH default", "SQuaSH #d$m"}
    assert {route["receiver"] for route in our_routes(pushed)} == {point["name"] for point in ours}
    assert "$$" not in json.dumps([pushed.there.points, our_routes(pushed)])


def test_what_belongs_to_others_stays_as_it_was(pushed: Site) -> None:
    assert pushed.of_others() == pushed.theirs
    pushed.specs(SPECS.partition("---")[0], "kapacitor")
    pushed.push(prune=True)
    assert pushed.of_others() == pushed.theirs
    assert our_routes(pushed) == []


def test_our_routes_stand_before_one_of_others_that_matches_everything(pushed: Site) -> None:
    assert pushed.there.tree["routes"][-2:] == OTHER_ROUTES
    assert pushed.there.tree["receiver"] == "grafana-default-email"


def test_our_routes_stay_where_somebody_has_put_them(pushed: Site) -> None:
    routes = pushed.there.tree["routes"]
    pushed.there.tree["routes"] = [routes[-2], *routes[:-2], routes[-1]]
    assert pushed.states() == {}
    pushed.there.tree["routes"][1]["group_wait"] = "7m"
    assert pushed.push() == [Step(POLICY, "SQuaSH", "updated")]
    assert pushed.there.tree["routes"][0] == OTHER_ROUTES[0]
    assert pushed.states() == {}


@pytest.mark.parametrize("provenance", ["", "api"])
def test_the_tree_stays_as_open_to_change_as_it_was(site: Site, provenance: str) -> None:
    site.there.tree["provenance"] = provenance
    assert {step.outcome for step in site.push()} == {"created"}
    assert site.there.tree.get("provenance", "") == provenance
    assert {rule["provenance"] for rule in site.there.rules.values()} == {"api"}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("validate.AM1", {"isPaused": True}),
        ("validate.AM1", {"for": "5m"}),
        ("validate.AM1", {"labels": {"squash_about": "x", "squash_route": "x", "team": "b"}}),
        ("validate.AM1", {"labels": {}}),
        ("validate.AM1", {"notification_settings": {"receiver": "pager"}}),
        ("validate.AM1", {"condition": "B"}),
        ("validate.AM1", {"noDataState": "NoData"}),
    ],
)
def test_a_rule_that_was_changed_by_hand_is_put_back(
    pushed: Site, name: str, change: dict[str, Any]
) -> None:
    uid = next(uid for uid, rule in pushed.there.rules.items() if rule["ruleGroup"] == name)
    pushed.there.rules[uid] |= change
    assert pushed.states() == {name: "changed"}
    assert pushed.push() == [Step(GROUPS, name, "updated")]
    assert pushed.states() == {}


def test_what_else_was_changed_by_hand_is_put_back(pushed: Site) -> None:
    there = pushed.there
    there.templates["squash"]["template"] += "x"
    there.points["squash-default"]["name"] = "Other"
    (mute,) = [name for name in there.mutes if name.startswith("SQuaSH through")]
    there.mutes[mute]["time_intervals"][0]["years"] = ["1970:2030"]
    there.intervals[FOLDER_UID, "squash"] = 600
    names = {"squash", "squash-default", mute}
    assert pushed.states() == dict.fromkeys(names, "changed")
    assert {step.outcome for step in pushed.push()} == {"updated"}
    assert pushed.states() == {}


def test_a_rule_that_is_gone_from_its_group_goes_with_the_push(pushed: Site) -> None:
    before = set(pushed.there.rules)
    parts = SPECS.split("---")
    pushed.specs("---".join([parts[0], parts[2]]))
    assert pushed.states()["validate.AM1"] == "changed"
    pushed.push()
    assert "validate.AM1" not in pushed.states()
    assert "mine" in pushed.there.rules
    assert before - set(pushed.there.rules)


def test_a_group_that_is_gone_is_removed_only_with_prune(pushed: Site) -> None:
    pushed.specs(SPECS.rpartition("---")[0])
    steps = {step.name: step for step in pushed.push()}
    assert steps["validate.PA1"].outcome == "left"
    assert Step(GROUPS, "validate.PA1", "removed") in pushed.push(prune=True)
    assert not [rule for rule in pushed.there.rules.values() if rule["ruleGroup"] == "validate.PA1"]
    assert pushed.states() == {}


def test_a_template_of_others_with_our_name_is_not_removed(site: Site) -> None:
    site.specs(SPECS, "kapacitor")
    site.there.templates["squash"] = {"name": "squash", "template": '{{ define "mine" }}{{ end }}'}
    site.push(prune=True)
    assert "squash" in site.there.templates
    assert site.states() == {}


def test_when_kapacitor_tells_people_rules_are_paused_and_the_rest_is_removed_last_first(
    pushed: Site,
) -> None:
    pushed.specs(SPECS, "kapacitor")
    steps = pushed.push(prune=True)
    removed = [step.kind for step in steps if step.outcome == "removed"]
    assert removed == sorted(removed, key=KINDS.index, reverse=True)
    assert set(removed) == {TEMPLATES, POINTS, MUTES, POLICY}
    assert {step.outcome for step in steps} == {"updated", "removed"}
    assert all(rule["isPaused"] for rule in pushed.there.rules.values() if rule["title"] != "Mine")
    assert pushed.states() == {}


def test_a_group_with_a_rule_of_others_is_not_replaced(pushed: Site) -> None:
    pushed.there.rules["mine"]["ruleGroup"] = "validate.AM1"
    assert pushed.states() == {}
    pushed.specs(SPECS.replace("value: 30", "value: 31"))
    (step,) = [step for step in pushed.push() if step.name == "validate.AM1"]
    assert step.outcome == "failed"
    assert step.words == "it has rules of others (Mine): move them to another group"
    pushed.specs(SPECS.rpartition("---")[2])
    assert Step(GROUPS, "validate.AM1", "removed") in pushed.push(prune=True)
    assert "mine" in pushed.there.rules


def test_a_group_of_others_with_a_name_of_ours_is_not_replaced(site: Site) -> None:
    site.others()
    site.there.rules["mine"]["ruleGroup"] = "validate.AM1"
    assert site.states()["validate.AM1"] == "missing"
    (step,) = [step for step in site.push() if step.name == "validate.AM1"]
    assert (step.outcome, "Mine" in step.words) == ("failed", True)


@pytest.mark.parametrize("provenance", ["file", "classic-file-provisioning"])
def test_what_grafana_reads_from_files_is_left_with_what_to_do(
    pushed: Site, provenance: str
) -> None:
    there = pushed.there
    for kept in (there.rules, there.points, there.mutes, there.templates):
        for item in kept.values():
            item["provenance"] = provenance
    there.tree["provenance"] = provenance
    assert pushed.states() == {}
    pushed.specs(SPECS.replace("#d$m", "#x").replace("value: 20", "value: 21"))
    steps = [step for step in pushed.push(prune=True) if step.outcome != "created"]
    assert {step.kind for step in steps} == {POINTS, POLICY, GROUPS}
    assert {step.outcome for step in steps} == {"failed"}
    assert all("from a file: update that in its folder" in step.words for step in steps)


def test_what_came_from_elsewhere_is_left_with_where_from(pushed: Site) -> None:
    pushed.there.templates["squash"] |= {"provenance": "converted", "template": "x"}
    (step,) = pushed.push()
    assert (step.outcome, "from elsewhere (converted)" in step.words) == ("failed", True)


def test_rules_are_found_in_the_folder_that_grafana_made_from_the_files(pushed: Site) -> None:
    del pushed.fake.folders[FOLDER_UID]
    pushed.fake.folders["abc"] = {"uid": "abc", "title": ALERTS_FOLDER}
    for rule in pushed.there.rules.values():
        rule["folderUID"] = "abc"
    assert pushed.states() == {}
    pushed.specs(SPECS.replace("value: 30", "value: 31"))
    pushed.push()
    assert {rule["folderUID"] for rule in pushed.there.rules.values()} == {"abc"}


def test_who_does_not_know_the_address_of_the_service_takes_any(pushed: Site) -> None:
    other = {"SQUASH_URL": "https://other.example.org"}
    assert pushed.states({}) == {}
    assert set(pushed.states(other).values()) == {"changed"}


def test_without_the_addresses_of_service_and_slack_each_says_what_to_set(site: Site) -> None:
    steps = site.push({})
    failed = {step.kind: step.words for step in steps if step.outcome == "failed"}
    assert "set SQUASH_SLACK_URL" in failed[POINTS]
    assert "set SQUASH_URL" in failed[GROUPS]
    assert "does not exist" in failed[POLICY]
    assert {step.outcome for step in steps if step.kind == TEMPLATES} == {"created"}


def test_rules_that_tell_nobody_need_no_address(site: Site) -> None:
    site.specs(SPECS, "kapacitor")
    assert {step.outcome for step in site.push({})} == {"created"}
    assert "squash_root" not in json.dumps([*site.there.rules.values()])
    assert site.states({}) == {}


def test_a_group_that_is_half_removed_says_which_rule_is_left(pushed: Site) -> None:
    ours = [uid for uid, rule in pushed.there.rules.items() if rule["ruleGroup"] == "validate.AM1"]
    pushed.specs(SPECS.rpartition("---")[2])
    pushed.fake.refused = {f"/api/v1/provisioning/alert-rules/{ours[-1]}"}
    (step,) = [step for step in pushed.push(prune=True) if step.name == "validate.AM1"]
    assert step.outcome == "failed"
    wanted = f"removed {len(ours) - 1} of {len(ours)} rules, but not {ours[-1]}: "
    assert step.words.startswith(wanted)
    pushed.fake.refused = set()
    assert Step(GROUPS, "validate.AM1", "removed") in pushed.push(prune=True)


def test_a_grafana_that_takes_no_uids_of_new_rules_is_named(site: Site) -> None:
    place = f"/api/v1/provisioning/folder/{FOLDER_UID}/rule-groups/validate.AM1"
    site.fake.refused = {place}
    (step,) = [step for step in site.push() if step.outcome == "failed"]
    assert step.name == "validate.AM1"
    assert "before 11.5.2" in step.words


def test_no_step_and_no_difference_has_the_address_of_slack(pushed: Site) -> None:
    pushed.there.points["squash-default"]["name"] = "Other"
    assert SLACK not in repr(pushed.compared().differences)
    assert SLACK not in repr(pushed.push())
    assert SLACK not in "".join(with_marks(pushed.files).values())


def test_a_file_and_the_server_are_each_compared_thing_by_thing(pushed: Site) -> None:
    path = pushed.folder / ALERTING / "rules-validate.yaml"
    path.write_text(path.read_text().replace("$B > 30.0", "$B > 31.0"))
    (difference,) = pushed.compared().differences
    assert (difference.name, difference.file, difference.server) == (
        "validate.AM1",
        "changed",
        "same",
    )
    path.write_text("{")
    states = {item.name: item.file for item in pushed.compared().differences}
    assert states == dict.fromkeys(("validate.AM1", "validate.PA1"), "changed")
    path.unlink()
    states = {item.name: item.file for item in pushed.compared().differences}
    assert states == dict.fromkeys(("validate.AM1", "validate.PA1"), "missing")
