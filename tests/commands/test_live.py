import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from squash_api.cli import app
from squash_api.commands import live
from squash_api.generate.grafana.server import Grafana
from squash_api.settings import InfluxTarget
from tests.support.chronograf import Chronograf
from tests.support.fake_grafana import TOKEN, FakeGrafana
from tests.support.influxd import Influxd
from tests.support.kapacitord import Kapacitord
from tests.support.metrics_packages import ROOT, SPECS, write_metrics_package
from tests.support.server import free_port

AM1 = "validate.AM1"


class Site:
    """Specifications, the files generated from them, and running servers."""

    def __init__(self, folder: Path, kapacitor: str, chronograf: str) -> None:
        self.folder = folder
        self.kapacitor = kapacitor
        self.chronograf = chronograf
        write_metrics_package(folder / "specs")
        self.run("generate")

    @property
    def limits(self) -> Path:
        return self.folder / "specs/demo/specs/validate/limits.yaml"

    def run(self, *words: str) -> Result:
        fixed = ["--specs", str(self.folder / "specs/demo"), "--output", str(self.folder)]
        return CliRunner().invoke(app, [*words, *fixed])

    def live(self, command: str, *words: str) -> Result:
        servers = ["--kapacitor", self.kapacitor, "--chronograf", self.chronograf]
        return self.run("live", command, *servers, *words)

    def diff(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.live("diff", "--json").stdout)
        return found

    def sides(self) -> dict[str, tuple[str, str]]:
        """Return how the file and the server stand to the specifications, by name."""
        return {item["name"]: (item["file"], item["server"]) for item in self.diff()["differences"]}

    def edit_task(self, name: str, old: str, new: str) -> None:
        """Change the first such place in a script on the server, as somebody in a hurry does."""
        task = f"{self.kapacitor}/kapacitor/v1/tasks/{name}"
        found = httpx.get(
            f"{self.kapacitor}/kapacitor/v1/tasks",
            params={"fields": ["id", "script"], "limit": "-1", "script-format": "raw"},
            trust_env=False,
            timeout=60,
        ).json()["tasks"]
        (script,) = [item["script"] for item in found if item["id"] == name]
        assert old in script
        for change in (
            {"script": script.replace(old, new, 1), "status": "disabled"},
            {"status": "enabled"},
        ):
            httpx.patch(task, json=change, trust_env=False).raise_for_status()


@pytest.fixture
def site(
    tmp_path: Path, kapacitor_url: str, chronograf_url: str, monkeypatch: pytest.MonkeyPatch
) -> Site:
    monkeypatch.chdir(tmp_path)
    for name in ("SQUASH_KAPACITOR_URL", "SQUASH_CHRONOGRAF_URL"):
        monkeypatch.delenv(name, raising=False)
    return Site(tmp_path, kapacitor_url, chronograf_url)


def test_an_empty_server_misses_everything(site: Site) -> None:
    result = site.live("diff")
    assert result.exit_code == 1
    assert set(site.sides().values()) == {("same", "missing")}
    assert {AM1, "validate.PA1", "squash.heartbeat", "SQuaSH: validate"} <= set(site.sides())
    assert "metrics-default/metrics-default-slack" in result.stdout


def test_after_a_push_all_sides_are_the_same(site: Site) -> None:
    result = site.live("push")
    assert result.exit_code == 0, result.output
    assert f"created  task {AM1}" in result.stdout.splitlines()
    result = site.live("diff")
    assert (result.exit_code, "all the same" in result.stdout) == (0, True)


def test_a_second_push_does_nothing(site: Site) -> None:
    site.live("push")
    result = site.live("push")
    assert (result.exit_code, result.stdout) == (0, "Nothing to do.\n")


def test_a_threshold_changed_by_hand_is_told_with_the_yaml_that_adopts_it(site: Site) -> None:
    site.live("push")
    site.edit_task(AM1, '"AM1" > 20.0)', '"AM1" > 25.5)')
    found = site.diff()
    assert [item["remark"] for item in found["differences"]] == ["changed on the server alone"]
    assert found["adoptions"] == [
        {
            "specification": "validate.AM1.minimum",
            "operator": "<=",
            "unit": "marcsec",
            "value": 20.0,
            "server_value": 25.5,
            "source": "demo/specs/validate/limits.yaml:8",
            "base": None,
            "yaml": "threshold: {value: 25.5}",
        }
    ]
    text = site.live("diff").stdout
    assert "validate.AM1.minimum: <= 20.0 marcsec, but 25.5 on the server" in text
    assert "limits.yaml:8: to adopt it: threshold: {value: 25.5}" in text


def test_the_yaml_that_is_shown_adopts_it(site: Site) -> None:
    site.live("push")
    site.edit_task(AM1, '"AM1" > 20.0)', '"AM1" > 25.5)')
    (adoption,) = site.diff()["adoptions"]
    lines = site.limits.read_text().splitlines()
    lines[int(adoption["source"].rpartition(":")[2]) - 1] = adoption["yaml"]
    site.limits.write_text("\n".join(lines) + "\n")
    site.run("generate")
    # What remains is the message, which names the new limit.
    assert site.sides()[AM1] == ("same", "changed")
    assert site.diff()["adoptions"] == []


def test_a_threshold_from_a_base_is_adopted_in_the_specification(site: Site) -> None:
    site.limits.write_text(
        "id: wide\nthreshold: {value: 20, unit: marcsec, operator: '<='}\n"
        "---\nname: AM1.one\nbase: '#wide'\n---\nname: AM1.two\nbase: '#wide'\n"
        "metadata_query: {filter_name: r}\n"
    )
    site.run("generate")
    site.live("push")
    site.edit_task(AM1, '("AM1" > 20.0))', '("AM1" > 9.0))')
    (adoption,) = site.diff()["adoptions"]
    # Branches without a query come first.
    assert adoption["specification"] == "validate.AM1.one"
    assert adoption["source"] == "demo/specs/validate/limits.yaml:4"
    assert adoption["base"] == "demo/specs/validate/limits.yaml:2"
    assert "limits.yaml:2: the base" in site.live("diff").stdout


def test_a_changed_specification_is_ahead_of_file_and_server(site: Site) -> None:
    site.live("push")
    site.limits.write_text(SPECS.replace("value: 20", "value: 21"))
    sides = site.sides()
    assert sides[AM1] == ("changed", "changed")
    assert "the server has what the file says" in site.live("diff").stdout
    assert site.diff()["adoptions"] == []


def test_a_push_of_what_is_not_generated_yet_says_so(site: Site) -> None:
    site.live("push")
    site.limits.write_text(SPECS.replace("value: 20", "value: 21"))
    result = site.live("push")
    assert result.exit_code == 0
    assert "committed files are not as generated" in result.stderr
    assert f"updated  task {AM1}" in result.stdout.splitlines()


def test_what_is_gone_is_orphaned_and_removed_only_with_prune(site: Site) -> None:
    site.live("push")
    site.limits.write_text(SPECS.rpartition("---")[0])
    assert site.sides()["validate.PA1"] == ("orphaned", "orphaned")
    site.run("generate")
    assert site.sides() == {"validate.PA1": ("absent", "orphaned")} | {
        name: ("same", "changed") for name in site.sides() if name.startswith("SQuaSH")
    }
    result = site.live("push")
    assert result.exit_code == 0
    assert "left     task validate.PA1: no specification makes it" in result.stdout
    assert "removed  task validate.PA1" in site.live("push", "--prune").stdout.splitlines()
    assert site.sides() == {}


def test_steps_as_json_are_a_list(site: Site) -> None:
    steps = json.loads(site.live("push", "--json").stdout)
    assert {(step["outcome"], step["words"]) for step in steps} == {("created", "")}
    assert json.loads(site.live("push", "--json").stdout) == []


def test_one_server_alone_is_compared_alone(site: Site) -> None:
    result = site.run("live", "diff", "--kapacitor", site.kapacitor, "--json")
    kinds = {item["kind"] for item in json.loads(result.stdout)["differences"]}
    assert kinds == {"task", "handler"}


def test_the_settings_name_the_servers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_CHRONOGRAF_URL", site.chronograf)
    result = site.run("live", "diff", "--json")
    kinds = {item["kind"] for item in json.loads(result.stdout)["differences"]}
    assert kinds == {"dashboard"}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_server_that_goes_away_meanwhile_is_told_with_what_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeGrafana()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT" and request.url.path.endswith("/policies"):
            return httpx.Response(403)
        return fake(request)

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(live, "server_of", lambda _: partial(Grafana, transport=transport))
    for name, value in {
        "SQUASH_GRAFANA_TOKEN": TOKEN,
        "SQUASH_SLACK_URL": "https://hooks.slack.com/services/x",
        "SQUASH_ALERTS_BY": "grafana",
    }.items():
        monkeypatch.setenv(name, value)
    result = Site(tmp_path, "", "").run("live", "push", "--grafana", "http://g", *form)
    assert result.exit_code == 2
    assert "  2 done, " in result.stderr
    assert "not: Grafana dashboard squash-overview, " in result.stderr
    assert "Grafana notification policy SQuaSH" in result.stderr
    if form:
        assert [step["outcome"] for step in json.loads(result.stdout)] == ["created"] * 2
    else:
        assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize("command", ["diff", "push"])
def test_a_server_that_cannot_be_reached_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    site = Site(tmp_path, f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}")
    result = site.live(command)
    assert result.exit_code == 2
    assert "error: Kapacitor at http://127.0.0.1:" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["diff", "push"])
def test_without_any_server_there_is_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SQUASH_KAPACITOR_URL", "SQUASH_CHRONOGRAF_URL"):
        monkeypatch.delenv(name, raising=False)
    result = Site(tmp_path, "", "").run("live", command)
    assert (result.exit_code, "which servers?" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["diff", "push"])
def test_specifications_with_problems_reach_no_server(site: Site, command: str) -> None:
    site.limits.write_text("name: AM1.design\nthreshold: {value: x}\n")
    result = site.live(command)
    assert result.exit_code == 1
    assert "limits.yaml:" in result.stdout
    site.limits.write_text(SPECS)
    assert set(site.sides().values()) == {("same", "missing")}


def test_what_a_server_refuses_is_exit_code_1_with_its_words(
    site: Site, live_resources: Path
) -> None:
    ours = json.loads((site.folder / "chronograf/validate.dashboard").read_text())
    (live_resources / "a.dashboard").write_text(json.dumps({**ours, "cells": []}))
    result = site.live("push")
    assert result.exit_code == 1
    assert "failed   dashboard SQuaSH: validate: the server reads it from a file" in result.stdout
    assert "1 of " in result.stderr


def test_servers_that_read_the_committed_files_have_all_the_same(tmp_path: Path) -> None:
    chosen = ["--specs", str(ROOT / "specs" / "srd")]
    run = CliRunner().invoke
    run(app, ["generate", "--output", str(tmp_path), *chosen])
    with (
        Kapacitord(tmp_path / "k", tmp_path / "kapacitor") as kapacitor,
        Chronograf(tmp_path / "c", tmp_path / "chronograf") as chronograf,
    ):
        servers = [
            *("--kapacitor", f"http://127.0.0.1:{kapacitor.port}"),
            *("--chronograf", f"http://127.0.0.1:{chronograf.port}"),
        ]
        for command in (["diff"], ["push", "--prune"]):
            result = run(app, ["live", *command, *servers, "--output", str(tmp_path), *chosen])
            assert result.exit_code == 0, result.output
        (source,) = chronograf.call("GET", "/sources")["sources"]
        assert (source["name"], source["telegraf"]) == ("SQuaSH", "squash")


def test_a_subscription_beside_the_feed_is_noted_with_the_statement_that_ends_it(
    site: Site, influxd: Influxd, influx_target: InfluxTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = influx_target.database
    influxd.create_database(database)
    influxd.query(
        f'CREATE SUBSCRIPTION "kapacitor-1" ON "{database}"."autogen" '
        "DESTINATIONS ANY 'http://127.0.0.1:1'"
    )
    monkeypatch.setenv("SQUASH_INFLUX_URL", influxd.url)
    monkeypatch.setenv("SQUASH_INFLUX_DATABASE", database)
    assert "SUBSCRIPTION" not in site.live("diff").stderr
    monkeypatch.setenv("SQUASH_KAPACITOR_URL", site.kapacitor)
    noted = site.live("diff").stderr
    statement = f'DROP SUBSCRIPTION "kapacitor-1" ON "{database}"."autogen"'
    assert noted.endswith(f"{statement}\n")
    influxd.query(statement)
    assert "SUBSCRIPTION" not in site.live("diff").stderr
