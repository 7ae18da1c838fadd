"""What real Kapacitor tells of values that are late, and of a service that is silent."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.schema.watch import (
    AGE_S,
    FRESHNESS,
    HEARTBEAT,
    LATE_S,
    MISSING,
    SINCE,
    SPECIFICATION,
    UP,
)
from tests.support.alerting import Bench, alert_bench, bench_files, is_about, new_tract
from tests.support.slack import Told

# What Kapacitor does with points does not depend on where the record is.
pytestmark = pytest.mark.sqlite

METRICS = """
PA1: {description: 'Photometric repeatability: how far magnitudes scatter.', unit: mmag}
AM1: {description: Astrometry., unit: marcsec}
"""
SPECS = """
---
name: PA1.minimum
threshold: {operator: "<=", unit: mmag, value: 8}
tags: [minimum]
expect: {every: 24h, grace: 6h}
---
name: AM1.design
threshold: {operator: "<=", unit: marcsec, value: 8}
expect: {every: 10m}
alert: {level: info, channel: "#late"}
---
name: AM1.muted
threshold: {operator: "<=", unit: marcsec, value: 8}
expect: {every: 7d}
alert: {mute: {until: 2999-12-31, why: known}}
---
name: PA1.each
threshold: {operator: "<=", unit: mmag, value: 8}
expect: {every: 24h, each: {detector: [0-188]}}
alert: {channel: "#each"}
"""
# Longer than Kapacitor takes to load its handlers, which come after the tasks.
PERIOD_S = 3


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder: Path = tmp_path_factory.mktemp("bench")
    files = bench_files(folder / "specs", metrics=METRICS, specs=SPECS)
    beat = files["kapacitor/tasks/squash.heartbeat.tick"]
    assert "|deadman(0.0, 5m)" in beat
    files["kapacitor/tasks/squash.heartbeat.tick"] = beat.replace("5m)", f"{PERIOD_S}s)")
    with alert_bench(folder, files) as bench:
        yield bench


def say(bench: Bench, tract: str, *, late_h: float, age_h: float, more: str = "") -> None:
    """Say how late a series is, as the service does."""
    say_of(bench, "PA1.minimum", tract, late_s=late_h * 3600, age_s=age_h * 3600, more=more)


def say_of(
    bench: Bench, name: str, tract: str, *, late_s: float, age_s: float, more: str = ""
) -> None:
    tags = f"{SPECIFICATION}=validate.{name},dataset=cosmos,tract={tract}"
    fields = f'{LATE_S}={late_s},{AGE_S}={age_s},{SINCE}="2026-11-21 04:00 UTC"{more}'
    bench.kapacitord.write([f"{FRESHNESS},{tags} {fields} {time.time_ns()}"])


def all_of(bench: Bench, tract: str) -> list[Told]:
    last = new_tract()
    say(bench, last, late_h=1, age_h=31)
    bench.slack.wait_for(lambda told: is_about(told, last))
    return [told for told in bench.slack.told if is_about(told, tract)]


def test_a_late_value_is_told_once_and_so_is_its_coming(bench: Bench) -> None:
    tract = new_tract()
    known = ',run_id="18",squash_url="https://squash.example/job/17"'
    say(bench, tract, late_h=-1, age_h=29, more=known)
    say(bench, tract, late_h=1.04, age_h=31.04, more=known)
    say(bench, tract, late_h=2, age_h=32, more=known)
    say(bench, tract, late_h=-30, age_h=0, more=known)
    late, well = all_of(bench, tract)
    assert late.text == (
        "🔴 *CRITICAL* PA1 (validate) is late: Photometric repeatability\n"
        "no value for validate.PA1.minimum for 31.0 h, expected every 1d, and 6h grace: "
        "1.0 h late\n"
        "last value 2026-11-21 04:00 UTC\n"
        f"dataset cosmos, tract {tract}\n"
        "run 18, <https://squash.example/job/17|job>, "
        "<https://squash.example/docs/runbook#late-value|what to do>"
    )
    lines = well.text.splitlines()
    assert lines[0] == "✅ *OK* PA1 (validate) is no longer late: Photometric repeatability"
    assert lines[1] == "validate.PA1.minimum is in time again"
    assert re.fullmatch(
        r"was late for (less than 1|\d+) min, from 20\d\d-\d\d-\d\d \d\d:\d\d UTC on", lines[2]
    )


def test_a_value_that_never_came_is_told(bench: Bench) -> None:
    tract = new_tract()
    say(bench, tract, late_h=1, age_h=31)
    (late,) = all_of(bench, tract)
    assert "\nnone since 2026-11-21 04:00 UTC\n" in late.text


def test_level_channel_and_units_are_those_of_the_specification(bench: Bench) -> None:
    tract = new_tract()
    say_of(bench, "AM1.design", tract, late_s=90, age_s=690)
    told = bench.slack.wait_for(lambda told: is_about(told, tract))
    assert told.channel == "#late"
    assert told.text.splitlines()[:2] == [
        "🔵 *INFO* AM1 (validate) is late: Astrometry",
        "no value for validate.AM1.design for 11.5 min, expected every 10m: 1.5 min late",
    ]


def test_what_is_named_is_one_message_that_says_what_is_missing(bench: Bench) -> None:
    fields = f'{AGE_S}=90000,{SINCE}="2026-11-21 04:00 UTC"'
    for late_s, missing in ((3600, f',{MISSING}="3 of 189 detectors: 12, 40-41"'), (-60, "")):
        line = f"{FRESHNESS},{SPECIFICATION}=validate.PA1.each {fields},{LATE_S}={late_s}{missing}"
        bench.kapacitord.write([f"{line} {time.time_ns()}"])
    bench.slack.wait_for(lambda told: told.channel == "#each" and "in time again" in told.text)
    late, well = (told for told in bench.slack.told if told.channel == "#each")
    assert late.text.splitlines()[1:4] == [
        "no value for validate.PA1.each for 25.0 h, expected every 1d: 1.0 h late",
        "missing: 3 of 189 detectors: 12, 40-41",
        "none since 2026-11-21 04:00 UTC",
    ]
    assert "missing" not in well.text


def test_what_is_muted_is_not_told_to_be_late(bench: Bench) -> None:
    tract = new_tract()
    say_of(bench, "AM1.muted", tract, late_s=90, age_s=700_000)
    say_of(bench, "AM1.muted", tract, late_s=-90, age_s=0)
    assert all_of(bench, tract) == []
    time.sleep(0.3)
    assert not [told for told in bench.slack.told if is_about(told, tract)]


def test_a_service_that_was_never_heard_is_told_and_heard_again(bench: Bench) -> None:
    silent = bench.slack.wait_for(lambda told: "SQuaSH is silent" in told.text)
    assert silent.text == (
        "🔴 *CRITICAL* SQuaSH is silent: no heartbeat for 5 minutes\n"
        "Nobody notices late values now. Does the service run, and do its points reach Kapacitor?\n"
        "what to do: docs/runbook.md, service-watch"
    )
    deadline = time.monotonic() + 30
    while not any("heard again" in told.text for told in bench.slack.told):
        assert time.monotonic() < deadline
        bench.kapacitord.write([f"{HEARTBEAT} {UP}=1 {time.time_ns()}"])
        time.sleep(0.1)
    bench.slack.wait_for(
        lambda _: sum("SQuaSH is silent" in told.text for told in bench.slack.told) >= 2
    )
    heard = [told.text for told in bench.slack.told if "SQuaSH" in told.text]
    # Each change is sent once. A slow machine may be silent more often than the test means to be.
    states = [text.partition(" SQuaSH")[0] for text in heard]
    assert states == [("🔴 *CRITICAL*", "✅ *OK*")[number % 2] for number in range(len(states))]
    assert re.fullmatch(
        r"✅ \*OK\* SQuaSH is heard again: that it was silent was noticed at "
        r"20\d\d-\d\d-\d\d \d\d:\d\d UTC, 5 to 10 minutes after its last heartbeat",
        heard[1],
    )


def test_nothing_of_this_was_an_error_to_kapacitor(bench: Bench) -> None:
    assert bench.kapacitord.problems() == []
