"""What Kapacitor is told of groups of alerts, with a stand-in that runs the generated tasks."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.delivery.verdicts import message_about
from squash_api.judging.alert_plan import branch_keys
from squash_api.judging.alert_texts import time_words
from squash_api.record.alerts import (
    BY_HAND,
    RESOLVED,
    AlertRow,
    NewEvent,
    add_events,
    add_group,
    alerts_of_groups,
    change_alert,
    change_group,
    get_alert,
    get_group,
    living_alerts,
)
from squash_api.record.audit import Actor
from squash_api.record.silences import NewSilence, add_silence, end_silence
from squash_api.schema.names import NOT_FOR
from tests.support.alert_world import SCHEMA, World
from tests.support.made_alerts import open_alerts
from tests.support.raised import AlertedObservatory
from tests.support.told_kapacitor import ToldKapacitor, parse_line

HOUR_NS = 3600 * 10**9
METRIC = "validate.plain"
SOMEBODY = Actor(command="test")

pytestmark = pytest.mark.sqlite


@pytest.fixture
def kapacitor() -> ToldKapacitor:
    return ToldKapacitor({}, now_ns=0)


@pytest.fixture
def world(tmp_path: Path, kapacitor: ToldKapacitor) -> Iterator[World]:
    world = World(tmp_path, transport=httpx.MockTransport(kapacitor))
    kapacitor.now_ns = world.now_ns
    kapacitor.load(world.files())
    world.drain()
    kapacitor.lines.clear()
    yield world
    world.stop()


def branch_of(world: World, metric: str = METRIC) -> str:
    found = [item for item in world.package.specifications.values() if item.metric == metric]
    return branch_keys(found, SCHEMA)[0].key


def opened(world: World, *detectors: int, severity: int = 3, **other: Any) -> list[int]:
    """Open the alerts of some detectors, complete as one group, and return their ids."""
    tags: list[Mapping[str, str]] = [
        {"instrument": "HSC", "detector": str(item)} for item in detectors
    ]
    other = {"metric": METRIC, "branch": branch_of(world), "severity": severity, **other}
    return open_alerts(world.site.record, *tags, **other)


def row(world: World, alert_id: int) -> AlertRow:
    with world.site.record.read() as connection:
        found = get_alert(connection, alert_id)
    assert found is not None
    return found


def change(world: World, alert_id: int, **values: Any) -> None:
    before = row(world, alert_id)
    assert world.site.record.write(lambda connection: change_alert(connection, before, **values))


def resolve(world: World, *alert_ids: int, value: float = 1.0) -> None:
    for alert_id in alert_ids:
        change(
            world,
            alert_id,
            state=RESOLVED,
            severity=0,
            value=value,
            resolved_ns=row(world, alert_id).opened_ns + 3 * HOUR_NS,
        )


def told(kapacitor: ToldKapacitor) -> list[tuple[str, str]]:
    """Return which changes of groups were told: the number of each, and its level."""
    return [
        (alert.rpartition("-")[2], level)
        for alert, level, _ in kapacitor.told
        if "/squash_group=" in alert
    ]


def texts(kapacitor: ToldKapacitor) -> list[str]:
    return [
        str(seen.fields["text"]) for alert, _, seen in kapacitor.told if "squash_group" in alert
    ]


def test_a_group_is_one_message_that_counts_and_names(
    world: World, kapacitor: ToldKapacitor
) -> None:
    opened(world, *range(17))
    world.drain()
    assert told(kapacitor) == [("1", "CRITICAL")]
    (text,) = texts(kapacitor)
    assert text.splitlines()[:3] == [
        "🔴 *CRITICAL* plain (validate): Three levels",
        "plain: 17 detectors",
        "detector 0: plain = 9.50 mmag, must be &lt;= 8 (minimum)",
    ]
    assert "|all 17>" in text


def test_a_group_that_gathers_is_not_told_before_it_is_complete(
    world: World, kapacitor: ToldKapacitor
) -> None:
    ids = opened(world, 1, 2)
    group_id = row(world, ids[0]).group_id

    def gather(joined_ns: int | None) -> None:
        world.site.record.write(
            lambda connection: change_group(connection, group_id, joined_ns=joined_ns)
        )

    gather(world.now_ns)
    world.drain()
    assert told(kapacitor) == []
    gather(None)
    world.drain()
    assert told(kapacitor) == [("1", "CRITICAL")]


def test_what_opens_later_is_another_message_and_numbers_are_used_again(
    world: World, kapacitor: ToldKapacitor
) -> None:
    first = opened(world, 1, 2)
    world.drain()
    second = opened(world, 3)
    world.drain()
    resolve(world, *first)
    world.drain()
    opened(world, 4)
    world.drain()
    resolve(world, *second)
    world.drain()
    assert told(kapacitor) == [
        ("1", "CRITICAL"),
        ("2", "CRITICAL"),
        ("1", "OK"),
        ("1", "CRITICAL"),
        ("2", "OK"),
    ]


def test_what_gets_worse_is_told_and_a_part_that_recovers_is_not(
    world: World, kapacitor: ToldKapacitor
) -> None:
    ids = opened(world, 1, 2, 3, severity=2)
    world.drain()
    resolve(world, ids[0])
    world.drain()
    change(world, ids[1], severity=3, worst=3)
    world.drain()
    resolve(world, ids[1], ids[2])
    world.drain()
    assert told(kapacitor) == [("1", "WARNING"), ("1", "CRITICAL"), ("1", "OK")]
    assert "was WARNING before" in texts(kapacitor)[1]
    assert "plain: 3 detectors, all well again" in texts(kapacitor)[2]
    assert "was broken for 3.0 h, from " in texts(kapacitor)[2]


def test_of_trials_it_is_told_nothing(world: World, kapacitor: ToldKapacitor) -> None:
    opened(world, 1, 2, is_trial=True)
    world.drain()
    assert told(kapacitor) == []


def test_a_group_that_is_over_before_it_was_told_costs_no_message(
    world: World, kapacitor: ToldKapacitor
) -> None:
    resolve(world, *opened(world, 1, 2))
    world.drain()
    assert told(kapacitor) == []


# Silences


def silence(world: World, **tags: str) -> int:
    new = NewSilence(METRIC, tags, "work", world.now_ns - 1, world.now_ns + 10 * HOUR_NS)
    return world.site.record.write(
        lambda connection: add_silence(connection, new, now_ns=world.now_ns, by=SOMEBODY)
    ).silence_id


def end(world: World, silence_id: int) -> None:
    now_ns = time.time_ns()
    world.site.record.write(
        lambda connection: end_silence(connection, silence_id, now_ns=now_ns, by=SOMEBODY)
    )


def test_what_is_silenced_is_told_when_the_silence_ends(
    world: World, kapacitor: ToldKapacitor
) -> None:
    number = silence(world)
    opened(world, 1, 2)
    world.drain()
    assert told(kapacitor) == []
    end(world, number)
    world.drain()
    assert told(kapacitor) == [("1", "CRITICAL")]


def test_a_silence_ends_nothing_and_what_ended_during_it_is_told_after_it(
    world: World, kapacitor: ToldKapacitor
) -> None:
    ids = opened(world, 1, 2)
    world.drain()
    number = silence(world)
    world.drain()
    resolve(world, *ids)
    world.drain()
    assert told(kapacitor) == [("1", "CRITICAL")]
    end(world, number)
    world.drain()
    assert told(kapacitor) == [("1", "CRITICAL"), ("1", "OK")]


def test_only_the_series_of_a_silence_are_left_out(world: World, kapacitor: ToldKapacitor) -> None:
    silence(world, detector="1")
    opened(world, 1, 2, 3)
    world.drain()
    (text,) = texts(kapacitor)
    assert "plain: 2 detectors" in text
    assert "detector 1:" not in text


def test_the_value_of_a_silenced_series_neither_raises_nor_ends_an_alert(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"plain": 9.0}, ago_ns=5 * HOUR_NS, ci_dataset="x")
    world.drain()
    number = silence(world)
    world.add({"plain": 1.0}, ago_ns=4 * HOUR_NS, ci_dataset="x")
    world.add({"plain": 9.0}, ago_ns=4 * HOUR_NS, ci_dataset="y")
    gone = world.add({"plain": 9.0}, ago_ns=4 * HOUR_NS, ci_dataset="z")
    world.drain()
    world.delete(gone)
    world.drain()
    assert [level for _, level, _ in kapacitor.told] == ["CRITICAL"]
    end(world, number)
    world.drain()
    assert kapacitor.raised() == world.expected(are_alone=True)
    assert sorted(level for _, level, _ in kapacitor.told) == ["CRITICAL", "CRITICAL", "OK"]


# Values beside groups


def test_a_value_of_a_detector_says_that_its_branch_is_told_together(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"plain": 9.0, "free": 1.0}, ago_ns=HOUR_NS, detector=7)
    world.drain()
    marks = {
        name: fields.get(NOT_FOR)
        for _, _, fields, _ in map(parse_line, kapacitor.lines)
        for name in ("plain", "free")
        if name in fields
    }
    assert marks == {"plain": branch_of(world), "free": None}
    assert kapacitor.raised() == {}


def test_an_alert_that_was_raised_alone_ends_alone_and_is_not_told_twice(
    world: World, kapacitor: ToldKapacitor
) -> None:
    files = world.files()
    old = {name: text for name, text in files.items() if "squash.verdict" not in name}
    kapacitor.load(old)
    world.drain()
    for detector in (1, 2):
        world.add({"plain": 9.0}, ago_ns=5 * HOUR_NS, detector=detector)
    world.drain()
    assert sorted(kapacitor.raised().values()) == ["CRITICAL", "CRITICAL"]
    ids = opened(world, 1, 2)
    kapacitor.load(files)
    world.drain()
    assert len(kapacitor.told) == 2
    world.add({"plain": 1.0}, ago_ns=4 * HOUR_NS, detector=1)
    world.drain()
    resolve(world, ids[0])
    world.drain()
    assert [level for _, level, _ in kapacitor.told] == ["CRITICAL", "CRITICAL", "OK"]
    world.add({"plain": 9.0}, ago_ns=3 * HOUR_NS, detector=1)
    world.drain()
    assert len(kapacitor.told) == 3
    opened(world, 1)
    world.drain()
    assert told(kapacitor) == [("1", "CRITICAL")]


def test_what_somebody_has_resolved_by_hand_ends_there_too(
    world: World, kapacitor: ToldKapacitor
) -> None:
    world.add({"split": 9.0}, ago_ns=HOUR_NS, ci_dataset="x")
    world.raise_alerts()
    world.drain()
    raised = kapacitor.raised()
    assert len(raised) == 2
    with world.site.record.read() as connection:
        first, *_ = living_alerts(connection)
    change(world, first.alert_id, state=RESOLVED, severity=0, resolved_ns=world.now_ns)
    by_hand = NewEvent(first.alert_id, world.now_ns, "resolved", 0, detail={"why": BY_HAND})
    world.site.record.write(lambda connection: add_events(connection, [by_hand]))
    world.drain()
    (left,) = kapacitor.raised()
    assert first.branch not in left
    assert left in raised


# Late values

EXPECTED = """
name: plain.limit
threshold: {operator: "<=", unit: mmag, value: 8}
expect: {every: 1h}
"""


def expecting(folder: Path, specs: str, kapacitor: ToldKapacitor) -> World:
    world = World(
        folder,
        transport=httpx.MockTransport(kapacitor),
        metrics="plain: {description: Expected., unit: mmag}",
        specs=specs,
    )
    kapacitor.load(world.files())
    return world


def test_late_detectors_are_told_together_and_others_by_themselves(
    tmp_path: Path, kapacitor: ToldKapacitor
) -> None:
    world = expecting(tmp_path, EXPECTED, kapacitor)
    name = "validate.plain.limit"
    # It has not looked at Kapacitor yet.
    assert not world.outlet.takes_lateness(name, {"detector": "1"})
    assert world.outlet.takes_lateness(name, {"dataset": "x"})
    world.drain()
    assert not world.outlet.takes_lateness(name, {"detector": "1"})
    assert world.outlet.takes_lateness(name, {"dataset": "x"})
    opened(world, 1, 2, branch=f"expect:{name}", broken=[])
    world.drain()
    assert [level for _, level in told(kapacitor)] == ["CRITICAL"]
    assert texts(kapacitor)[0].splitlines()[:3] == [
        "🔴 *CRITICAL* plain (validate) is late: Expected",
        "plain: 2 detectors",
        f"detector 1: no value for {name} since {time_words(row(world, 1).opened_ns)}",
    ]
    silence(world)
    world.drain()
    assert not world.outlet.takes_lateness(name, {"dataset": "x"})
    world.stop()


@pytest.mark.parametrize(
    "specs",
    [
        EXPECTED + "alert: {group: none}",
        EXPECTED.replace("1h}", "1h, each: {detector: [1, 2]}}"),
    ],
)
def test_late_values_that_are_not_grouped_or_are_named_are_told_by_their_task(
    tmp_path: Path, kapacitor: ToldKapacitor, specs: str
) -> None:
    world = expecting(tmp_path, specs, kapacitor)
    name = "validate.plain.limit"
    world.drain()
    assert world.outlet.takes_lateness(name, {"detector": "1"} if "none" in specs else {})
    opened(world, 1, branch=f"expect:{name}", broken=[])
    world.drain()
    assert told(kapacitor) == []
    world.stop()


# Either side started again


@pytest.mark.parametrize("keeps_states", [True, False])
def test_after_a_restart_living_groups_are_told_again_by_the_same_numbers(
    world: World, kapacitor: ToldKapacitor, *, keeps_states: bool
) -> None:
    first = opened(world, 1)
    world.drain()
    opened(world, 2)
    world.drain()
    resolve(world, *first)
    world.drain()
    before = kapacitor.raised()
    kapacitor.told.clear()
    kapacitor.restart(keeps_states=keeps_states)
    world.drain()
    assert kapacitor.raised() == before
    assert told(kapacitor) == ([] if keeps_states else [("2", "CRITICAL")])
    world.restart()
    world.drain()
    assert told(kapacitor) == ([] if keeps_states else [("2", "CRITICAL")])


def test_what_it_has_raised_and_is_no_group_that_lives_is_ended(
    world: World, kapacitor: ToldKapacitor
) -> None:
    ids = opened(world, 1)
    world.drain()
    resolve(world, *ids)
    # What it is told now is lost.
    kapacitor.takes_in = False
    world.drain()
    kapacitor.restart()
    world.drain()
    assert kapacitor.raised() == {}
    assert texts(kapacitor)[-1] == "✅ *OK* validate.plain: this alert is not open any more"


def test_a_message_that_did_not_arrive_is_sent_again_by_the_same_number(
    world: World, kapacitor: ToldKapacitor
) -> None:
    opened(world, 1)
    kapacitor.is_up = False
    world.drain()
    opened(world, 2)
    kapacitor.is_up = True
    world.drain()
    assert sorted(told(kapacitor)) == [("1", "CRITICAL"), ("2", "CRITICAL")]
    world.restart()
    kapacitor.restart(keeps_states=False)
    world.drain()
    assert [name.rpartition("-")[2] for name in sorted(kapacitor.raised())] == ["1", "2"]


def test_a_request_that_took_too_long_is_told_once_more(
    world: World, kapacitor: ToldKapacitor
) -> None:
    ids = opened(world, 1)
    world.drain()
    change(world, ids[0], severity=2)
    kapacitor.is_slow = True
    world.drain()
    change(world, ids[0], severity=1)
    world.drain()
    kapacitor.finish()
    world.outlet._sure_at_s = 0.0
    world.drain()
    assert list(kapacitor.raised().values()) == ["INFO"]


def test_without_the_task_each_series_alerts_by_itself(
    world: World, kapacitor: ToldKapacitor, capsys: pytest.CaptureFixture[str]
) -> None:
    files = world.files()
    kapacitor.load({name: text for name, text in files.items() if "verdict" not in name})
    world.drain()
    assert "does not have the task that alerts on groups" in capsys.readouterr().out
    world.add({"plain": 9.0}, ago_ns=HOUR_NS, detector=1)
    opened(world, 1)
    world.drain()
    assert list(kapacitor.raised().values()) == ["CRITICAL"]
    assert told(kapacitor) == []


def test_groups_of_any_key_are_told(world: World, kapacitor: ToldKapacitor) -> None:
    """A group may be without run, and of all metrics that a job has."""

    def work(connection: Any) -> int:
        key = {"job": 1, "tags": {}}
        return add_group(
            connection, metric=METRIC, branch="b", key=key, now_ns=1, is_gathering=False
        )

    group_id = world.site.record.write(work)
    ids = opened(world, 1) + opened(
        world, 1, metric="validate.bands", branch=branch_of(world, "validate.bands"), severity=2
    )
    for alert_id in ids:
        change(world, alert_id, group_id=group_id)
    world.drain()
    with world.site.record.read() as connection:
        assert len(alerts_of_groups(connection, [group_id])) == 2
    assert told(kapacitor) == [("1", "CRITICAL")]
    assert texts(kapacitor)[0].startswith(
        "🔴 *CRITICAL* plain (validate) and 1 metric more: Three levels\n2 metrics, 1 CRITICAL and"
    )


def test_a_trend_too_says_what_has_changed_since_the_last_good_run(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path) as site:
        rule = {"n": 3, "k": 3, "floor": 2, "unit": "mmag", "min_history": 3}
        site.define({"name": "p.a.jump", "type": "trend", "trend": rule})
        for hours, value in ((9, 4.0), (8, 4.1), (7, 4.2), (6, 9.0)):
            afw = {"name": "afw", "git_url": "https://github.com/lsst/afw", "git_sha": "a" * 40}
            if hours < 7:
                afw["git_sha"] = "b" * 40
            site.job(value, ago_ns=hours * HOUR_NS, run_id=f"r{hours}", packages={"afw": afw})
        (raised,) = site.living()
        with site.reader.view() as view:
            group = view.ask(get_group, raised.group_id)
            assert group is not None
            in_force = site.definitions.in_force.at(None)
            told = message_about(view, group, [raised], in_force, root="http://x")
        assert "since last good: afw" in told.lines
        assert told.lines[0].endswith("must be like the runs before: >= 2.1 and <= 6.1 (jump)")
