"""What Kapacitor is told, and when, with a stand-in that runs the generated tasks."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from squash_api.delivery import outlet as outlets
from squash_api.delivery.outlet import GATHER
from squash_api.delivery.reader import NO_WAIT
from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.record.deliveries import backlogs, get_target, has_sent_any, job_deliveries
from squash_api.record.jobs import get_job
from squash_api.schema.names import (
    ARTIFACT_URL,
    GONE,
    GONE_OLD,
    GONE_WHOLLY,
    SINCE_GOOD,
    SPEAKS_FOR,
    Schema,
)
from squash_api.settings import KapacitorTarget
from tests.support.alert_world import World
from tests.support.told_kapacitor import ToldKapacitor, parse_line

MINUTE_NS = 60 * 10**9
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS


@pytest.fixture
def kapacitor() -> ToldKapacitor:
    return ToldKapacitor({}, now_ns=0)


@pytest.fixture
def world(tmp_path: Path, kapacitor: ToldKapacitor) -> Iterator[World]:
    world = World(tmp_path, transport=httpx.MockTransport(kapacitor))
    kapacitor.now_ns = world.now_ns
    kapacitor.load(world.files())
    world.drain()
    yield world
    world.stop()


def levels(kapacitor: ToldKapacitor, metric: str = "plain") -> list[str]:
    """Return the levels that were told of a metric, in their order."""
    return [level for name, level, _ in kapacitor.told if name.startswith(f"validate.{metric}/")]


def waiting(world: World) -> int:
    with world.site.record.read() as connection:
        (found,) = backlogs(connection, targets=["kapacitor"])
    return found.waiting


def trouble(world: World) -> str | None:
    with world.site.record.read() as connection:
        return get_target(connection, "kapacitor").trouble


# What speaks for the present


def test_a_bad_value_is_told_and_so_is_a_good_one_after_it(
    world: World, kapacitor: ToldKapacitor
) -> None:
    for value, ago in ((9.0, 3), (9.5, 2), (1.0, 1)):
        world.add({"plain": value}, ago_ns=ago * HOUR_NS)
        world.drain()
    assert levels(kapacitor) == ["CRITICAL", "OK"]


def test_a_late_job_and_one_that_gets_another_measurement_say_nothing(
    world: World, kapacitor: ToldKapacitor
) -> None:
    good = world.add({"plain": 0.5}, ago_ns=48 * HOUR_NS)
    world.drain()
    world.add({"plain": 9.0}, ago_ns=24 * HOUR_NS)
    world.drain()
    world.put(good, "free", 0.1)
    world.drain()
    world.add({"plain": 0.7}, ago_ns=30 * HOUR_NS)
    world.drain()
    world.put(good, "plain", 0.6)
    world.drain()
    assert levels(kapacitor) == ["CRITICAL"]


def test_a_point_has_only_the_values_that_speak_for_the_present(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"plain": 1.0}, ago_ns=HOUR_NS)
    world.drain()
    world.add({"plain": 9.0, "bands": 2.0, "free": 3.0}, ago_ns=2 * HOUR_NS, filter_name="r")
    world.add({"plain": 9.0, "bands": 2.0, "free": 3.0}, ago_ns=3 * HOUR_NS)
    kapacitor.lines.clear()
    world.drain()
    (first, second) = map(parse_line, kapacitor.lines)
    assert {"bands", "free"} <= second[2].keys()
    assert first[2].keys() & {"plain", "bands", "free"} == {"bands", "free"}
    assert second[2].keys() & {"plain", "bands", "free"} == {"plain", "bands", "free"}
    assert second[1] == {"instrument": "HSC", "filter": "r"}
    assert second[2]["squash_url"] == "http://127.0.0.1:8000/job/2"


def test_a_point_names_the_first_artifact_of_its_job(
    world: World, kapacitor: ToldKapacitor
) -> None:
    plots = ["https://x.example/b.png", "https://x.example/a.png"]
    for meta in ({"plots": plots, "ci_url": "https://ci.example/1"}, {}):
        world.add({"plain": 9.0}, ago_ns=HOUR_NS, **meta)
        kapacitor.lines.clear()
        world.drain()
        (line,) = map(parse_line, kapacitor.lines)
        assert line[2].get(ARTIFACT_URL) == (plots[0] if meta else None)


def test_a_point_of_a_bad_value_says_what_has_changed_since_the_last_good_run(
    world: World, kapacitor: ToldKapacitor
) -> None:
    said: list[list[str | float]] = []
    for value, sha in ((1.0, "a"), (9.0, "b"), (9.5, "c"), (1.0, "c")):
        url = "https://github.com/lsst/afw"
        package = {"name": "afw", "git_url": url, "git_sha": sha * 40, "eups_version": "1"}
        hours = 4 - len(said)
        run = {"ci_id": f"R{hours}", "ci_name": "night", "packages": [package]}
        world.add({"plain": value, "free": 1.0}, ago_ns=hours * HOUR_NS, **run)
        kapacitor.lines.clear()
        world.drain()
        lines = [parse_line(line)[2] for line in kapacitor.lines]
        said.append([line[SINCE_GOOD] for line in lines if SINCE_GOOD in line])
        assert all("plain" in line for line in lines if SINCE_GOOD in line)
    assert said == [[], ["afw"], ["afw 2 commits"], []]


def test_of_jobs_that_came_together_only_the_newest_is_told(
    world: World, kapacitor: ToldKapacitor
) -> None:
    for ago in (5, 2, 4, 3):
        world.add({"plain": 9.0}, ago_ns=ago * HOUR_NS)
    kapacitor.lines.clear()
    world.drain()
    assert len(kapacitor.lines) == 1
    assert parse_line(kapacitor.lines[0])[3] == world.now_ns - 2 * HOUR_NS


@pytest.mark.parametrize("how", ["deleted", "withdrawn"])
@pytest.mark.parametrize(
    ("before", "told"), [(9.0, []), (6.0, ["WARNING"]), (1.0, ["OK"]), (None, ["OK"])]
)
def test_after_a_loss_the_value_that_is_now_the_newest_speaks(
    world: World, kapacitor: ToldKapacitor, how: str, before: float | None, told: list[str]
) -> None:
    if before is not None:
        world.add({"plain": before}, ago_ns=2 * HOUR_NS)
    bad = world.add({"plain": 9.5}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.told.clear()
    if how == "deleted":
        world.delete(bad)
    else:
        world.put(bad, "plain", None)
    world.drain()
    assert levels(kapacitor) == told
    assert kapacitor.raised() == world.expected(are_alone=True)


def test_a_series_without_value_recovers_and_says_why(
    world: World, kapacitor: ToldKapacitor
) -> None:
    bad = world.add({"plain": 9.5}, ago_ns=HOUR_NS, ci_dataset="x")
    world.drain()
    world.delete(bad)
    world.drain()
    (*_, line) = kapacitor.lines
    measurement, tags, fields, time_ns = parse_line(line)
    assert (measurement, tags) == ("validate", {"instrument": "HSC", "dataset": "x"})
    assert fields == {"plain": 0.0, GONE: GONE_WHOLLY}
    assert time_ns >= world.now_ns
    assert kapacitor.raised() == {}


@pytest.mark.parametrize("is_told", [True, False])
def test_what_is_now_the_newest_but_too_old_ends_an_alert_and_raises_none(
    world: World, kapacitor: ToldKapacitor, *, is_told: bool
) -> None:
    world.add({"plain": 9.0}, ago_ns=10 * DAY_NS)
    bad = world.add({"plain": 9.5}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.takes_in = is_told
    world.delete(bad)
    world.drain()
    kapacitor.restart()
    world.drain()
    assert levels(kapacitor) == ["CRITICAL", "OK"]
    assert kapacitor.told[-1][2].fields[GONE] == GONE_OLD


def test_an_old_job_that_is_deleted_says_nothing_of_the_newer_one(
    world: World, kapacitor: ToldKapacitor
) -> None:
    old = world.add({"plain": 1.0}, ago_ns=12 * DAY_NS)
    world.add({"plain": 9.0}, ago_ns=6 * DAY_NS)
    world.drain()
    # Both are too old to be told by now.
    world.outlet._clock = lambda: world.now_ns + 5 * DAY_NS
    world.delete(old)
    world.drain()
    assert levels(kapacitor) == ["CRITICAL"]


def test_a_unit_that_does_not_convert_any_more_takes_the_value_away(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"units": 9.0}, ago_ns=HOUR_NS)
    world.drain()
    world.move_unit()
    world.drain()
    assert kapacitor.raised() == {}
    world.move_unit()
    world.drain()
    assert levels(kapacitor, "units") == ["CRITICAL", "OK", "CRITICAL"]


@pytest.mark.parametrize(("first", "value", "told"), [("service", 9.0, 1), ("tasks", 1.0, 0)])
def test_values_wait_until_task_and_metric_have_the_same_unit(
    world: World, kapacitor: ToldKapacitor, first: str, value: float, told: int
) -> None:
    world.add({"plain": value}, ago_ns=HOUR_NS)
    world.drain()
    file = world.package_folder / "metrics" / "validate.yaml"
    file.write_text(file.read_text().replace("levels., unit: mmag", "levels., unit: mag"))
    files = kapacitor_files(
        load_metrics_package(world.package_folder),
        schema=Schema(),
        database="squash",
        retention_policy="autogen",
    )
    for step in ("service", "tasks") if first == "service" else ("tasks", "service"):
        if step == "service":
            world.site.definitions.sync_yaml([world.package_folder])
        else:
            kapacitor.load(files)
        world.site.metrics.refresh()
        world.drain()
        assert levels(kapacitor) == ["CRITICAL"] * told
    world.add({"plain": 9.0}, ago_ns=MINUTE_NS)
    world.drain()
    world.add({"plain": 1.0}, ago_ns=0)
    world.drain()
    assert levels(kapacitor) == ["CRITICAL", "OK"]
    assert parse_line(kapacitor.lines[-1])[2]["plain"] == 0.001


def test_old_jobs_are_not_told(world: World, kapacitor: ToldKapacitor) -> None:
    kapacitor.lines.clear()
    world.add({"plain": 9.0}, ago_ns=8 * DAY_NS)
    world.drain()
    assert (kapacitor.lines, waiting(world)) == ([], 0)


def test_a_value_that_is_newest_for_some_branches_only_says_so(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"split": 1.0}, ago_ns=HOUR_NS, ci_dataset="x", filter_name="g")
    world.drain()
    world.add({"split": 9.0}, ago_ns=2 * HOUR_NS, ci_dataset="x", filter_name="z")
    world.drain()
    # The limit per filter is broken; the one per dataset is not, since a newer value meets it.
    assert kapacitor.raised() == world.expected(are_alone=True)
    assert list(kapacitor.raised().values()) == ["WARNING"]
    line = parse_line(kapacitor.lines[-1])
    assert len(str(line[2][SPEAKS_FOR]).split()) == 1


# Kapacitor away, or started again


def test_while_it_is_away_jobs_wait_and_then_only_the_present_is_told(
    world: World, kapacitor: ToldKapacitor
) -> None:
    kapacitor.is_up = False
    for value, ago in ((9.0, 3), (1.0, 2), (6.0, 1)):
        world.add({"plain": value}, ago_ns=ago * HOUR_NS)
    world.drain()
    assert "connection refused" in (trouble(world) or "")
    assert waiting(world) == 3
    kapacitor.is_up = True
    world.drain()
    assert (trouble(world), waiting(world)) == (None, 0)
    assert levels(kapacitor) == ["WARNING"]


def test_two_kapacitors_are_told_the_same_and_one_that_is_away_holds_up_no_other(
    tmp_path: Path,
) -> None:
    told = {name: ToldKapacitor({}, now_ns=0) for name in ("kapacitor", "base")}
    transport = httpx.MockTransport(
        lambda request: told[request.url.host.partition(".")[0]](request)
    )
    world = World(tmp_path, transport=transport)
    there = KapacitorTarget(name="base", url="http://base.invalid")
    (base,) = world.site.outlets([there])
    for item in told.values():
        item.now_ns = world.now_ns
        item.load(world.files())
    told["base"].is_up = False
    world.add({"plain": 9.0}, ago_ns=2 * HOUR_NS)
    world.drain()
    base.round()
    assert (levels(told["kapacitor"]), levels(told["base"])) == (["CRITICAL"], [])
    told["base"].is_up = True
    while base.round() in (NO_WAIT, GATHER):
        pass
    assert levels(told["base"]) == ["CRITICAL"]
    with world.site.record.read() as connection:
        found = backlogs(connection, targets=["kapacitor", "base"])
    assert [(item.target, item.waiting) for item in found] == [("kapacitor", 0), ("base", 0)]
    base.forget()
    base.close()
    world.stop()


@pytest.mark.parametrize("starts_tasks", [True, False])
def test_after_a_restart_it_is_told_everything_once_more(
    world: World, kapacitor: ToldKapacitor, *, starts_tasks: bool
) -> None:
    world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.takes_in = False
    world.add({"plain": 1.0}, ago_ns=MINUTE_NS)
    world.drain()
    kapacitor.restart(starts_tasks=starts_tasks)
    world.drain()
    assert levels(kapacitor) == ["CRITICAL", "OK"]
    world.drain()
    kapacitor.restart(keeps_states=False)
    world.drain()
    assert levels(kapacitor) == ["CRITICAL", "OK"]


def test_a_loss_that_it_did_not_work_on_before_a_restart_is_found(
    world: World, kapacitor: ToldKapacitor
) -> None:
    bad = world.add({"plain": 9.0, "visits": 9.0}, ago_ns=HOUR_NS, visit=7, ci_name="p3")
    world.drain()
    assert len(kapacitor.raised()) == 3
    kapacitor.takes_in = False
    world.delete(bad)
    world.drain()
    assert waiting(world) == 0
    kapacitor.restart()
    world.drain()
    assert kapacitor.raised() == {}


def test_a_loss_that_a_task_did_not_work_on_before_it_was_started_again_is_found(
    world: World, kapacitor: ToldKapacitor
) -> None:
    bad = world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.takes_in = False
    world.delete(bad)
    world.drain()
    kapacitor.takes_in = True
    kapacitor.restart_task("validate.plain")
    world.drain()
    assert kapacitor.raised() == {}


def test_what_is_left_of_a_loss_in_a_restart_is_found_though_there_are_old_values(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"plain": 9.0}, ago_ns=9 * DAY_NS)
    bad = world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.takes_in = False
    world.delete(bad)
    world.drain()
    kapacitor.restart()
    world.drain()
    assert levels(kapacitor) == ["CRITICAL", "OK"]


def test_an_alert_of_a_value_that_grew_old_survives_a_restart(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"plain": 9.0}, ago_ns=6 * DAY_NS)
    world.drain()
    world.outlet._clock = lambda: world.now_ns + 3 * DAY_NS
    kapacitor.restart()
    world.drain()
    assert levels(kapacitor) == ["CRITICAL"]


def test_a_gap_with_the_same_process_is_no_restart(world: World, kapacitor: ToldKapacitor) -> None:
    world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.lines.clear()
    kapacitor.is_up = False
    world.drain()
    kapacitor.is_up = True
    world.drain()
    assert kapacitor.lines == []
    # Who cannot tell takes every gap for a restart.
    kapacitor.has_statistics = False
    kapacitor.is_up = False
    world.drain()
    kapacitor.is_up = True
    world.drain()
    assert len(kapacitor.lines) == 1


def test_a_task_that_is_started_again_is_told_the_values_of_its_metric(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"plain": 9.0, "bands": 1.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.lines.clear()
    kapacitor.restart_task("validate.plain")
    world.drain()
    (line,) = kapacitor.lines
    assert parse_line(line)[2].keys() & {"plain", "bands"} == {"plain"}


def test_after_a_restart_of_the_service_it_is_told_everything_once_more(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.lines.clear()
    world.restart()
    world.drain()
    assert len(kapacitor.lines) == 1
    assert levels(kapacitor) == ["CRITICAL"]


def test_a_job_that_is_deleted_while_the_service_was_told_nothing_is_not_forgotten(
    world: World, kapacitor: ToldKapacitor
) -> None:
    bad = world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.is_up = False
    world.delete(bad)
    world.drain()
    world.restart()
    kapacitor.is_up = True
    world.drain()
    assert kapacitor.raised() == {}


def test_definitions_in_force_decide_what_is_told_once_more(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"plain": 4.0, "bands": 1.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.lines.clear()
    specs = world.package_folder / "specs" / "validate" / "limits.yaml"
    specs.write_text(
        specs.read_text().replace("value: 8}\ntags: [minimum]", "value: 3}\ntags: [minimum]", 1)
    )
    world.site.definitions.sync_yaml([world.package_folder])
    world.drain()
    (line,) = kapacitor.lines
    assert parse_line(line)[2].keys() & {"plain", "bands"} == {"plain"}


def test_when_a_mute_may_have_ended_its_metric_is_told_once_more(
    world: World, kapacitor: ToldKapacitor
) -> None:
    specs = world.package_folder / "specs" / "validate" / "limits.yaml"
    mute = "name: free.limit\nthreshold: {operator: '<', unit: mmag, value: 1}\n"
    specs.write_text(
        f"{specs.read_text()}---\n{mute}alert: {{mute: {{until: 2999-12-31, why: known}}}}\n"
    )
    world.site.definitions.sync_yaml([world.package_folder])
    world.add({"plain": 4.0, "free": 1.0}, ago_ns=HOUR_NS)
    world.drain()
    kapacitor.lines.clear()
    world.drain()
    assert kapacitor.lines == []
    world.outlet._clock = lambda: world.now_ns + DAY_NS
    world.drain()
    (line,) = kapacitor.lines
    assert parse_line(line)[2].keys() & {"plain", "free"} == {"free"}


def test_what_took_too_long_cannot_have_the_last_word(
    world: World, kapacitor: ToldKapacitor
) -> None:
    kapacitor.is_slow = True
    world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    world.outlet.round()
    world.add({"plain": 1.0}, ago_ns=MINUTE_NS)
    world.drain()
    kapacitor.finish()
    assert list(kapacitor.raised().values()) == ["CRITICAL"]
    world.drain()
    world.outlet._sure_at_s = 0.0
    world.drain()
    assert kapacitor.raised() == {}


# An outlet like others


def test_a_new_outlet_begins_with_the_present(world: World, kapacitor: ToldKapacitor) -> None:
    for number in range(1, 40):
        world.add({"plain": 9.0}, ago_ns=number * HOUR_NS)
    world.restart()
    world.site.record.write(
        lambda connection: connection.exec_driver_sql("UPDATE target SET sent_through = 0")
    )
    kapacitor.lines.clear()
    world.drain()
    assert len(kapacitor.lines) == 1
    assert waiting(world) == 0


def test_what_it_cannot_parse_is_kept_and_holds_up_nothing(
    world: World, kapacitor: ToldKapacitor
) -> None:
    kapacitor.refuses = "dataset=x"
    bad = world.add({"plain": 9.0}, ago_ns=HOUR_NS, ci_dataset="x")
    good = world.add({"plain": 9.0}, ago_ns=HOUR_NS, ci_dataset="y")
    world.drain()
    assert len(kapacitor.raised()) == 1
    with world.site.record.read() as connection:
        states = []
        for past in (bad, good):
            row = get_job(connection, past.job_id)
            assert row is not None
            states += job_deliveries(connection, row, targets=["kapacitor"])
    assert [item.state for item in states] == ["FAILURE", "SUCCESS"]
    assert "unable to parse" in states[0].reasons[0]


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_pause_and_show(tmp_path: Path, status: int) -> None:
    answer = httpx.Response(status, json={"error": "authorization failed"})
    world = World(tmp_path, transport=httpx.MockTransport(lambda _: answer))
    world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    assert world.outlet.round() == outlets.REFUSED
    assert "authorization failed" in (trouble(world) or "")
    world.stop()


def test_an_address_of_something_else_is_trouble(tmp_path: Path) -> None:
    answer = httpx.Response(200, text="<html>hello</html>")
    world = World(tmp_path, transport=httpx.MockTransport(lambda _: answer))
    assert world.outlet.round() == outlets.REFUSED
    reason = "what answers at this address is not a Kapacitor"
    assert trouble(world) == f"{reason} (runbook: delivery-misconfigured)"
    world.stop()


def test_it_holds_no_points_so_the_list_of_tags_may_change(world: World) -> None:
    world.add({"plain": 9.0}, ago_ns=HOUR_NS)
    world.drain()
    with world.site.record.read() as connection:
        assert not has_sent_any(connection)


def test_the_lease_is_of_one_outlet(world: World, kapacitor: ToldKapacitor) -> None:
    (other,) = world.site.outlets(world.site.settings.outlets)
    assert other.round() == outlets.STANDBY
    other.close()
    assert json.dumps(kapacitor.lines) == "[]"
