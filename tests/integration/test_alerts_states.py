"""What real Kapacitor makes of the generated tasks: levels, states, texts, mutes, channels."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.alerting import Bench, alert_bench, bench_files, is_about, new_tract

# What Kapacitor does with points does not depend on where the record is.
pytestmark = pytest.mark.sqlite

METRICS = """
PA1: {description: 'Photometric repeatability: how far magnitudes scatter.', unit: mmag}
many: {description: 'Many limits at once', unit: ''}
share: {description: "A part < 1 & more {{ .ID }} of 'all'", unit: '%'}
tiny: {description: Very small., unit: ''}
silent: {description: Muted., unit: s}
over: {description: The mute is over., unit: s}
loud: {description: Told elsewhere., unit: s}
brief: {description: Only news., unit: s}
odd: {description: Hostile terms., unit: s}
fast: {description: Dates., unit: s}
lt: {description: Operator., unit: s}
gt: {description: Operator., unit: s}
ge: {description: Operator., unit: s}
eq: {description: Operator., unit: s}
ne: {description: Operator., unit: s}
least: {description: The smallest number., unit: s}
most: {description: The largest number., unit: s}
zero: {description: Nothing., unit: s}
"""

HOSTILE = """it's "so" {{ .ID }} }} <!channel> & 'C:\\\\x' \\\\'' Ω"""

SPECS = r"""
---
name: PA1.minimum
threshold: {operator: "<=", unit: mmag, value: 8}
tags: [minimum]
---
name: PA1.design
threshold: {operator: "<=", unit: mag, value: 0.005}
tags: [design]
---
name: PA1.stretch
threshold: {operator: "<=", unit: mmag, value: 3.25}
tags: [stretch]
---
name: many.a
threshold: {operator: "<", unit: '', value: 1}
tags: [minimum]
---
name: many.b
threshold: {operator: "<", unit: '', value: 2}
tags: [minimum]
---
name: many.c
threshold: {operator: "<", unit: '', value: 3}
tags: [minimum]
---
name: many.d
threshold: {operator: "<", unit: '', value: 4}
tags: [minimum]
---
name: many.e
threshold: {operator: "<", unit: '', value: 5}
tags: [minimum]
---
name: share.limit
threshold: {operator: ">", unit: '%', value: 99.5}
---
name: tiny.limit
threshold: {operator: "<=", unit: '', value: 3.0e-7}
---
name: silent.minimum
threshold: {operator: "<", unit: s, value: 10}
tags: [minimum]
alert: {mute: {until: 2999-12-31, why: known}}
---
name: silent.design
threshold: {operator: "<", unit: s, value: 5}
tags: [design]
---
name: over.minimum
threshold: {operator: "<", unit: s, value: 10}
tags: [minimum]
alert: {mute: {until: 2001-12-31, why: known}}
---
name: loud.limit
threshold: {operator: "<", unit: s, value: 10}
alert: {channel: "#dm_{å}😀"}
---
name: brief.hour
threshold: {operator: "<", unit: s, value: 10}
tags: [minimum]
alert: {max_age: 1h}
---
name: brief.month
threshold: {operator: "<", unit: s, value: 10}
tags: [design]
alert: {max_age: 30d}
---
name: odd.limit
threshold: {operator: "<", unit: s, value: 10}
metadata_query: {dataset: HOSTILE, visit: 903334.5, note: HOSTILE}
---
name: fast.limit
threshold: {operator: "<", unit: s, value: -10.5}
alert: {per: [dataset]}
---
name: lt.limit
threshold: {operator: "<", unit: s, value: 5}
---
name: gt.limit
threshold: {operator: ">", unit: s, value: 5}
---
name: ge.limit
threshold: {operator: ">=", unit: s, value: 5}
---
name: eq.limit
threshold: {operator: "==", unit: s, value: 5}
---
name: ne.limit
threshold: {operator: "!=", unit: s, value: 5}
---
name: least.limit
threshold: {operator: "<", unit: s, value: 5.0e-324}
---
name: most.limit
threshold: {operator: ">", unit: s, value: -1.7976931348623157e+308}
---
name: zero.limit
threshold: {operator: "==", unit: s, value: 0}
""".replace("HOSTILE", '"' + HOSTILE.replace('"', r"\"") + '"')

HOSTILE_TEXT = HOSTILE.replace("\\\\", "\\")


TO_DO = "<https://squash.example/docs/runbook#metric-alert|what to do>"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    files = bench_files(folder / "specs", metrics=METRICS, specs=SPECS)
    with alert_bench(folder, files) as bench:
        yield bench


def test_every_task_is_executing(bench: Bench) -> None:
    tasks = bench.kapacitord.tasks()
    # The heartbeat, what is told of the service itself, and of groups.
    assert len(tasks) == METRICS.count("unit") + 5
    assert [task for task in tasks if not task["executing"] or task["error"]] == []


def test_a_message_says_what_where_and_which_run(bench: Bench) -> None:
    tract = new_tract()
    bench.send(
        {"validate.PA1": 8.3149},
        tract,
        instrument="HSC",
        ci_dataset="cosmos",
        filter_name="r",
        ci_name="validate_drp",
        ci_id=18,
        ci_url="https://ci.example/18?a=1&b=2",
        detector=7,
    )
    (told,) = bench.messages(tract, {"validate.PA1": 9.0})
    assert told.text == (
        "🔴 *CRITICAL* PA1 (validate): Photometric repeatability\n"
        "PA1 = 8.31 mmag, must be &lt;= 8 (minimum)\n"
        "instrument HSC, dataset cosmos, filter r, pipeline validate_drp, detector 7, "
        f"tract {tract}\n"
        "<https://ci.example/18?a=1&amp;b=2|run 18>, <https://squash.example/job/17|job 17>, "
        f"{TO_DO}"
    )
    assert (told.color, told.channel) == ("danger", "#squash")


def test_a_message_names_only_what_there_is(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.PA1": 8.3149}, tract)
    (told,) = bench.messages(tract, {"validate.PA1": 9.0})
    assert told.text.splitlines()[2:] == [
        f"tract {tract}",
        f"<https://squash.example/job/17|job 17>, {TO_DO}",
    ]
    assert "no value" not in told.text


def test_a_run_without_a_link_is_named(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.PA1": 8.3149}, tract, run_id="w_2026_50")
    (told,) = bench.messages(tract, {"validate.PA1": 9.0})
    assert told.text.endswith(f"\nrun w_2026_50, <https://squash.example/job/17|job 17>, {TO_DO}")


def test_levels_go_up_and_down_and_only_changes_are_told(bench: Bench) -> None:
    tract = new_tract()
    for value in (1.0, 3.3, 3.4, 6.0, 9.0, 9.1, 9.0, 6.0, 2.0, 2.5, 2.0):
        bench.send({"validate.PA1": value}, tract)
    told = bench.messages(tract, {"validate.PA1": 9.0})
    assert [" ".join(item.text.split()[:2]) for item in told] == [
        "🔵 *INFO*",
        "🟡 *WARNING*",
        "🔴 *CRITICAL*",
        "🟡 *WARNING*",
        "✅ *OK*",
    ]


def test_a_recovery_says_what_it_was_judged_by_and_how_long_it_was_broken(bench: Bench) -> None:
    tract = new_tract()
    began = time.time() - 7200
    bench.send({"validate.PA1": 4.0}, tract, age_s=7200)
    bench.send({"validate.PA1": 9.0}, tract, age_s=3600)
    bench.send({"validate.PA1": 3.25}, tract)
    *_, told = bench.messages(tract, {"validate.PA1": 9.0})
    times = [time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began + delay)) for delay in (0, 5)]
    assert told.shown.splitlines()[:3] in [
        [
            "✅ *OK* PA1 (validate): Photometric repeatability",
            "PA1 = 3.2500 mmag, must be <= 8 (minimum), <= 5 (design), <= 3.25 (stretch)",
            f"was broken for 2.0 h, from {moment} on",
        ]
        for moment in times
    ]
    assert told.color == "good"


@pytest.mark.parametrize("age_s", [10800, 3600])
def test_a_recovery_by_a_value_that_is_no_newer_says_no_duration(bench: Bench, age_s: int) -> None:
    """As after a deletion or a correction of the value that raised the alert."""
    tract = new_tract()
    now_ns = time.time_ns()
    at = {age: now_ns - age * 10**9 for age in (3600, age_s)}
    for value, time_ns in ((9.0, at[3600]), (3.0, at[age_s])):
        bench.kapacitord.write([f"validate,tract={tract} PA1={value} {time_ns}"])
    _, told = bench.messages(tract, {"validate.PA1": 9.0})
    began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at[3600] / 1e9))
    assert told.shown.splitlines()[2] == f"was broken from {began} on"


def test_a_series_with_old_values_only_says_so(bench: Bench) -> None:
    tract = new_tract()
    for name, value in (("brief", 11.0), ("PA1", 9.0)):
        bench.kapacitord.write(
            [
                f"validate,tract={tract} {name}={value} {time.time_ns()}",
                f"validate,tract={tract} {name}=0,squash_gone=2 {time.time_ns()}",
            ]
        )
    bench.messages(tract, {"validate.PA1": 9.0})
    lines = [
        told.shown.splitlines()[1]
        for told in bench.slack.told
        if is_about(told, tract) and told.text.startswith("✅")
    ]
    assert sorted(lines) == [
        f"{name}: the newest value that is left is older than {age}, too old to alert on"
        for name, age in (("PA1", "7d"), ("brief", "1h"), ("brief", "30d"))
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(1e300, "1.000e+300"), (1e15, "1.000e+15"), (9e14, "900000000000000.00")]
)
def test_a_huge_value_has_an_exponent(bench: Bench, value: float, shown: str) -> None:
    tract = new_tract()
    bench.send({"validate.lt": value}, tract)
    bench.send({"validate.lt": -value}, tract)
    broken, well = bench.messages(tract, {"validate.lt": 9.0})
    assert broken.shown.splitlines()[1] == f"lt = {shown} s, must be < 5 (limit)"
    assert well.shown.splitlines()[1] == f"lt = -{shown} s, must be < 5 (limit)"


def test_a_point_without_the_value_recovers_nothing(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.PA1": 9.0}, tract)
    bench.send({"validate.something": 1.0}, tract)
    bench.send({"validate.PA1": 9.0}, tract)
    assert len(bench.messages(tract, {"validate.PA1": 9.0})) == 1


def test_ten_detectors_of_one_visit_have_each_their_own_state(bench: Bench) -> None:
    tract = new_tract()
    for value in (9.0, 1.0):
        for detector in range(10):
            bench.send({"validate.PA1": value}, tract, detector=detector, visit=1)
    told = bench.messages(tract, {"validate.PA1": 9.0})
    found = [(item.color, re.findall(r"detector (\d)", item.text)) for item in told]
    assert found == [
        (color, [str(detector)]) for color in ("danger", "good") for detector in range(10)
    ]


def test_three_violations_are_listed_and_the_others_counted(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.many": 4.5}, tract)
    bench.send({"validate.many": 0.0}, tract)
    bench.send({"validate.many": 2.0}, tract)
    first, _, last = bench.messages(tract, {"validate.many": 9.0})
    assert first.shown.splitlines()[1:5] == [
        "many = 4.50, must be < 1 (a)",
        "many = 4.50, must be < 2 (b)",
        "many = 4.50, must be < 3 (c)",
        "and 1 more",
    ]
    assert last.shown.splitlines()[1:4] == [
        "many = 2.00, must be < 1 (a)",
        "many = 2.0000000000000000, must be < 2 (b)",
        f"tract {tract}",
    ]


def test_words_of_the_metric_are_shown_as_they_are(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.share": 99.4}, tract)
    (told,) = bench.messages(tract, {"validate.share": 1.0})
    assert told.shown.splitlines()[:2] == [
        "🟡 *WARNING* share (validate): A part < 1 & more {{ .ID }} of 'all'",
        "share = 99.400 %, must be > 99.5 (limit)",
    ]


def test_small_numbers_have_no_exponent(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.tiny": 3.24e-7}, tract)
    (told,) = bench.messages(tract, {"validate.tiny": 1.0})
    assert "tiny = 0.000000324, must be &lt;= 0.0000003 (limit)" in told.text


@pytest.mark.parametrize(
    ("name", "good", "bad", "words"),
    [
        ("lt", 4.0, 5.0, "must be &lt; 5"),
        ("gt", 6.0, 5.0, "must be &gt; 5"),
        ("ge", 5.0, 4.0, "must be &gt;= 5"),
        ("eq", 5.0, 6.0, "must be == 5"),
        ("ne", 6.0, 5.0, "must be != 5"),
    ],
)
def test_every_operator_alerts_and_recovers(
    bench: Bench, name: str, good: float, bad: float, words: str
) -> None:
    tract = new_tract()
    for value in (good, bad, good):
        bench.send({f"validate.{name}": value}, tract)
    broken, well = bench.messages(tract, {f"validate.{name}": bad})
    assert words in broken.text
    assert well.text.startswith("✅ *OK* ")


@pytest.mark.parametrize(
    ("name", "good", "bad", "shown"),
    [
        ("least", 0.0, 5e-324, f"{5e-324:.324f}"),
        ("most", 0.0, -1.7976931348623157e308, f"{-1.7976931348623157e308:.0f}"),
        ("zero", -0.0, -5e-324, f"{-5e-324:.324f}"),
        ("zero", 0.0, 1e-9, "0.00000000100000000000"),
    ],
)
def test_the_extremes_of_numbers_are_exact(
    bench: Bench, name: str, good: float, bad: float, shown: str
) -> None:
    tract = new_tract()
    for value in (good, bad):
        bench.send({f"validate.{name}": value}, tract)
    (told,) = bench.messages(tract, {f"validate.{name}": bad})
    assert told.text.splitlines()[1].startswith(f"{name} = {shown} s, must be ")


def test_text_from_outside_is_shown_as_it_is(bench: Bench) -> None:
    tract = new_tract()
    hostile = HOSTILE_TEXT.replace(" ", "_")
    bench.send({"validate.PA1": 9.0}, tract, filter_name=HOSTILE_TEXT, run_id=HOSTILE_TEXT)
    (told,) = bench.messages(tract, {"validate.PA1": 9.0})
    assert f"filter {hostile}, " in told.shown
    assert f"\nrun {hostile}, " in told.shown
    assert "<!" not in told.text


def test_no_link_shows_one_address_and_opens_another(bench: Bench) -> None:
    tract = new_tract()
    address = "https://bad.example/|https://ci.example/1> <!channel> b&c"
    line = (
        f'validate,tract={tract} PA1=9,run_id="7",run_url="{address}",squash_id=1,'
        f'squash_url="https://squash.example/job/1" {time.time_ns()}'
    )
    bench.kapacitord.write([line])
    (told,) = bench.messages(tract, {"validate.PA1": 9.0})
    assert told.text.splitlines()[-1] == (
        "<https://bad.example/%7Chttps://ci.example/1%3E%20%3C!channel%3E%20b&amp;c|run 7>, "
        f"<https://squash.example/job/1|job 1>, {TO_DO}"
    )


def test_a_message_says_what_has_changed_since_the_last_good_run(bench: Bench) -> None:
    tract = new_tract()
    changes = "afw 3 commits, <!channel>"
    for number, (value, more) in enumerate(((9, f',squash_changes="{changes}"'), (1, ""))):
        line = f"validate,tract={tract} PA1={value},squash_id={number}{more} {time.time_ns()}"
        bench.kapacitord.write([line])
    bad, good = bench.messages(tract, {"validate.PA1": 9.0})[:2]
    assert bad.text.splitlines()[2] == "since last good: afw 3 commits, &lt;!channel&gt;"
    assert "since last good" not in good.text


def test_a_message_links_to_the_first_artifact(bench: Bench) -> None:
    tract = new_tract()
    address = "https://x.example/a.png?b=1&c=2|shown> <!channel>"
    line = (
        f'validate,tract={tract} PA1=9,squash_id=1,squash_artifact="{address}",'
        f'squash_url="https://squash.example/job/1" {time.time_ns()}'
    )
    bench.kapacitord.write([line])
    (told,) = bench.messages(tract, {"validate.PA1": 9.0})
    assert told.text.splitlines()[-1] == (
        "<https://squash.example/job/1|job 1>, "
        "<https://x.example/a.png?b=1&amp;c=2%7Cshown%3E%20%3C!channel%3E|artifact>, "
        f"{TO_DO}"
    )


def test_a_recovery_from_many_limits_lists_three_of_them(bench: Bench) -> None:
    tract = new_tract()
    for value in (4.5, 0.9999999999):
        bench.send({"validate.many": value}, tract)
    _, well = bench.messages(tract, {"validate.many": 9.0})
    assert well.shown.splitlines()[1] == (
        "many = 0.9999999999000000, must be < 1 (a), < 2 (b), < 3 (c) and 2 more"
    )


def test_terms_with_hostile_text_apply(bench: Bench) -> None:
    meta: dict[str, Any] = {"dataset": HOSTILE_TEXT, "visit": 903334.5, "note": HOSTILE_TEXT}
    tract, *others = (new_tract() for _ in range(4))
    bench.send({"validate.odd": 11.0}, others[0], **(meta | {"dataset": "other"}))
    bench.send({"validate.odd": 11.0}, others[1], **(meta | {"visit": 903334.0}))
    bench.send({"validate.odd": 11.0}, others[2], dataset=HOSTILE_TEXT, visit=903334.5)
    bench.send({"validate.odd": 11.0}, tract, **meta)
    assert len(bench.messages(tract, {"validate.odd": 11.0}, **meta)) == 1
    assert not [told for told in bench.slack.told if any(is_about(told, t) for t in others)]


def test_what_is_muted_is_neither_told_nor_listed(bench: Bench) -> None:
    tract = new_tract()
    for value in (11.0, 1.0):
        bench.send({"validate.silent": value}, tract)
    broken, well = bench.messages(tract, {"validate.silent": 6.0})
    assert broken.shown.splitlines()[:2] == [
        "🟡 *WARNING* silent (validate): Muted",
        "silent = 11.00 s, must be < 5 (design)",
    ]
    assert well.text.startswith("✅ *OK* ")


def test_what_was_muted_until_a_day_that_is_over_is_told(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.over": 11.0}, tract)
    (told,) = bench.messages(tract, {"validate.over": 11.0})
    assert told.shown.splitlines()[1] == "over = 11.00 s, must be < 10 (minimum)"


def test_a_channel_is_told_of_its_own(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.loud": 11.0}, tract)
    (told,) = bench.messages(tract, {"validate.loud": 11.0})
    assert told.channel == "#dm_{å}😀"


def test_old_data_raise_nothing(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.PA1": 9.0}, tract, age_s=7 * 86400 + 60)
    assert bench.messages(tract, {"validate.PA1": 9.0}) == []


def test_max_age_counts_for_its_own_specification(bench: Bench) -> None:
    tracts = [new_tract() for _ in range(3)]
    for tract, age_s in zip(tracts, (60, 86400, 31 * 86400), strict=True):
        bench.send({"validate.brief": 11.0}, tract, age_s=age_s)
    bench.messages(tracts[0], {"validate.brief": 11.0})
    bench.slack.wait_for(lambda told: is_about(told, tracts[1]))
    found = [
        sorted(told.text.split("*")[1][:4] for told in bench.slack.told if is_about(told, tract))
        for tract in tracts
    ]
    assert found == [["CRIT", "WARN"], ["WARN"], []]


def test_alerts_are_told_apart_by_the_tags_named(bench: Bench) -> None:
    one, other = new_tract(), new_tract()
    for dataset in (one, other):
        for detector in (1, 2):
            bench.send({"validate.fast": 1.5}, "0", dataset=dataset, detector=detector)
    bench.slack.wait_for(lambda told: f"dataset {other}" in told.text)
    (told,) = [told for told in bench.slack.told if f"dataset {one}" in told.text]
    assert "fast = 1.500 s, must be &lt; -10.5 (limit)" in told.text


def test_states_outlive_kapacitor(bench: Bench) -> None:
    tract = new_tract()
    bench.send({"validate.PA1": 9.0}, tract, age_s=3600)
    bench.messages(tract, {"validate.PA1": 9.0})
    bench.kapacitord.stop()
    bench.kapacitord.start()
    bench.send({"validate.PA1": 9.0}, tract)
    bench.send({"validate.PA1": 1.0}, tract)
    told = bench.messages(tract, {"validate.PA1": 9.0})
    assert [item.color for item in told] == ["danger", "good"]


def test_what_is_muted_while_broken_is_told_as_muted_not_as_well(
    bench: Bench, tmp_path: Path
) -> None:
    assert bench
    metrics = "PA1: {description: Repeatability., unit: mmag}"
    spec = 'name: PA1.limit\nthreshold: {operator: "<=", unit: mmag, value: 8}\n'
    mute = "alert: {mute: {until: 2999-12-31, why: known}}\n"
    tract = new_tract()
    with alert_bench(tmp_path, bench_files(tmp_path / "a", metrics=metrics, specs=spec)) as loud:
        loud.send({"validate.PA1": 9.0}, tract)
        loud.messages(tract, {"validate.PA1": 9.0})
    files = bench_files(tmp_path / "b", metrics=metrics, specs=spec + mute)
    with alert_bench(tmp_path, files) as silent:
        for _ in range(3):
            silent.send({"validate.PA1": 9.0}, tract)
        told = silent.slack.wait_for(lambda told: is_about(told, tract))
        assert told.shown.splitlines()[:2] == [
            "🔇 *MUTED* PA1 (validate): Repeatability",
            "PA1 = 9.00 mmag, must be <= 8 (limit, muted through 2999-12-31)",
        ]


def test_nothing_of_this_was_an_error_to_kapacitor(bench: Bench) -> None:
    assert bench.kapacitord.problems() == []
