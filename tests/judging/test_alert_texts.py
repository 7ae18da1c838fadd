"""The words of alerts, as every outlet, page and command has them."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from squash_api.generate.kapacitor.text import slack_text
from squash_api.judging.alert_texts import (
    ENDED,
    About,
    Link,
    Message,
    alert_line,
    count_text,
    duration_words,
    first_clause,
    links_of,
    message_of,
    worst_first,
)
from squash_api.judging.kinds.range import Range
from squash_api.judging.kinds.trend import Trend
from squash_api.judging.limits import Limit, judge
from squash_api.record.alerts import AlertRow
from squash_api.verify.metrics import Metric
from tests.support.limits import limit

HOUR_NS = 3600 * 10**9
BEGAN_NS = 1_795_322_460 * 10**9
METRIC = Metric("drp.PA1", "drp", "Photometric repeatability: of stars.", "mmag", (), {}, "")
MINIMUM = limit("<=", 8.0, name="drp.PA1.minimum", tags=("minimum",))
DESIGN = limit("<=", 5.0, name="drp.PA1.design", tags=("design",))


def an_alert(value: float | None = 9.0, detector: int | None = None, **changes: Any) -> AlertRow:
    """Return an alert on the two limits above; it lives if the value breaks one of them."""
    tags = {"dataset": "cosmos", "instrument": "HSC"}
    if detector is not None:
        tags["detector"] = str(detector)
    verdicts = [judge(item, value) for item in (MINIMUM, DESIGN)] if value is not None else []
    broken = [item for item in verdicts if item.status == "failed"]
    severity = max((item.limit.severity for item in broken), default=0)
    row = AlertRow(
        alert_id=1 if detector is None else detector,
        version=1,
        group_id=7,
        metric="drp.PA1",
        branch="0123456789ab",
        tags=tags,
        state="open" if severity else "resolved",
        is_trial=False,
        severity=severity,
        worst=severity or 3,
        opened_ns=BEGAN_NS,
        opened_job_id=17,
        job_id=18,
        time_ns=BEGAN_NS,
        value=value,
        unit="mmag",
        broken=[item.to_json() for item in broken or verdicts[:1]],
        resolved_ns=None if severity else BEGAN_NS + 3 * HOUR_NS,
        acknowledged_by=None,
        acknowledged_ns=None,
        acknowledged_severity=None,
        acknowledged_until_ns=None,
        note=None,
        link=None,
    )
    return replace(row, **changes)


def text_of(*alerts: AlertRow, **about: Any) -> str:
    return message_of(alerts, About(metric=METRIC, **about)).plain()


def test_one_alert_says_what_and_where() -> None:
    assert text_of(an_alert(8.3149)) == (
        "🔴 CRITICAL PA1 (drp): Photometric repeatability\n"
        "PA1 = 8.31 mmag, must be <= 8 (minimum)\n"
        "instrument HSC, dataset cosmos"
    )


def test_a_compound_says_which_of_its_members_are_broken() -> None:
    compound = {
        "specification": "drp.PA1.photometry",
        "operator": "fewer broken than",
        "threshold": [2, 3],
        "level": "CRITICAL",
        "unit": "",
        "value": 2.0,
        "margin": None,
        "members": ["drp.PA1.minimum", "drp.AM1.design"],
    }
    assert text_of(an_alert(8.3, broken=[compound])).splitlines()[1] == (
        "2 of 3 broken: drp.PA1.minimum, drp.AM1.design (photometry)"
    )


def test_a_range_and_a_settled_trend_say_both_ends() -> None:
    found = {"operator": "within", "threshold": [1.0, 3.5], "unit": "mmag", "level": "CRITICAL"}
    broken = [{**found, "specification": "drp.PA1.drift", "margin": -0.5}]
    assert text_of(an_alert(8.3, broken=broken)).splitlines()[1] == (
        "PA1 = 8.300 mmag, must be >= 1 and <= 3.5 (drift)"
    )


def test_only_limits_of_its_level_are_listed_three_at_most() -> None:
    limits = [limit("<", float(n), name=f"drp.PA1.l{n}", tags=("minimum",)) for n in (1, 2, 3, 4)]
    broken = [judge(item, 9.0).to_json() for item in (*limits, DESIGN)]
    lines = text_of(an_alert(9.0, broken=broken)).splitlines()[1:-1]
    assert lines == [
        "PA1 = 9.00 mmag, must be < 1 (l1)",
        "PA1 = 9.00 mmag, must be < 2 (l2)",
        "PA1 = 9.00 mmag, must be < 3 (l3)",
        "and 1 more",
    ]


def test_a_group_counts_and_names_the_worst_three() -> None:
    alerts = [an_alert(value, detector=n) for n, value in enumerate([9.0, 12.0, 6.0, 8.5, 7.0])]
    assert text_of(*alerts, total=189, grouped=("detector",), changes="afw 3 commits") == (
        "🔴 CRITICAL PA1 (drp): Photometric repeatability\n"
        "PA1: 5 of 189 detectors, 3 CRITICAL and 2 WARNING\n"
        "detector 1: PA1 = 12.00 mmag, must be <= 8 (minimum)\n"
        "detector 0: PA1 = 9.00 mmag, must be <= 8 (minimum)\n"
        "detector 3: PA1 = 8.50 mmag, must be <= 8 (minimum)\n"
        "and 2 more\n"
        "since last good: afw 3 commits\n"
        "instrument HSC, dataset cosmos"
    )


def test_one_of_many_says_of_how_many() -> None:
    lines = text_of(an_alert(9.0, detector=12), total=189, grouped=("detector",)).splitlines()
    assert lines[1] == "PA1: 1 of 189 detectors"
    assert lines[-1] == "instrument HSC, dataset cosmos, detector 12"


def test_what_got_worse_says_what_it_was() -> None:
    assert "was WARNING before" in text_of(an_alert(9.0), told=2)
    assert "before" not in text_of(an_alert(9.0), told=3)


def test_a_recovery_says_what_recovered_its_value_limit_and_how_long_it_was_broken() -> None:
    assert text_of(an_alert(4.2)) == (
        "✅ OK PA1 (drp): Photometric repeatability\n"
        "PA1 = 4.20 mmag, must be <= 8 (minimum)\n"
        "was broken for 3.0 h, from 2026-11-22 04:41 UTC on\n"
        "instrument HSC, dataset cosmos"
    )


def test_a_group_recovers_as_one() -> None:
    alerts = [an_alert(4.2, detector=n) for n in range(17)]
    lines = text_of(*alerts, total=189, grouped=("detector",)).splitlines()
    assert lines[1:3] == [
        "PA1: 17 of 189 detectors, all well again",
        "detector 0: PA1 = 4.20 mmag, must be <= 8 (minimum)",
    ]
    assert lines[4:6] == [
        "detector 2: PA1 = 4.20 mmag, must be <= 8 (minimum)",
        "and 14 more",
    ]


def test_those_that_have_recovered_are_not_counted_while_others_live() -> None:
    alerts = [an_alert(4.2, detector=1), an_alert(9.0, detector=2)]
    assert "PA1: 1 of 189 detectors" in text_of(*alerts, total=189)


def test_a_series_without_value_says_so() -> None:
    shown = [judge(MINIMUM, 9.0).to_json()]
    alert = an_alert(None, broken=shown)
    assert alert_line(alert) == "PA1 has no value any more: its last one was deleted or withdrawn"


def test_what_ended_although_its_value_breaks_the_limit_does_not_claim_otherwise() -> None:
    alert = replace(an_alert(9.0), severity=0, state="resolved", resolved_ns=BEGAN_NS)
    assert alert_line(alert) == "PA1 = 9.00 mmag, must be <= 8 (minimum): not raised any more"


@pytest.mark.parametrize("why", ENDED)
def test_what_ended_otherwise_than_by_a_good_value_says_why(why: str) -> None:
    shown = [{**item, "ended": why} for item in an_alert(9.0).broken]
    over: dict[str, Any] = {"severity": 0, "state": "resolved", "resolved_ns": BEGAN_NS}
    over["broken"] = shown
    alerts = [an_alert(9.0, 1, **over), an_alert(9.0, 2, **over)]
    assert alert_line(alerts[0]) == f"PA1 = 9.00 mmag, must be <= 8 (minimum): {ENDED[why]}"
    assert "PA1: 2 detectors, none raised any more" in text_of(*alerts)
    late = an_alert(None, branch="expect:drp.PA1.design", **over | {"broken": [{"ended": why}]})
    assert alert_line(late) == f"drp.PA1.design: {ENDED[why]}"


def test_what_is_on_trial_says_what_it_would_be() -> None:
    assert text_of(an_alert(9.0, is_trial=True)).startswith("🧪 TRIAL: would be CRITICAL PA1 (drp)")
    both = text_of(an_alert(9.0, 1, is_trial=True), an_alert(6.0, 2))
    assert both.startswith("🟡 WARNING PA1 (drp)")


def test_several_metrics_of_a_job_are_told_by_the_worst() -> None:
    alerts = [an_alert(6.0), an_alert(9.0, metric="drp.AM1"), an_alert(5.5, metric="drp.AM2")]
    message = message_of(alerts, About())
    assert message.title == "AM1 (drp) and 2 metrics more"
    assert message.lines[0] == "3 metrics, 1 CRITICAL and 2 WARNING"


def test_a_late_series_says_since_when() -> None:
    late = an_alert(None, branch="expect:drp.PA1.design", severity=2, state="open", broken=[])
    assert text_of(late) == (
        "🟡 WARNING PA1 (drp) is late: Photometric repeatability\n"
        "no value for drp.PA1.design since 2026-11-22 04:41 UTC\n"
        "instrument HSC, dataset cosmos"
    )
    again = replace(late, severity=0, resolved_ns=BEGAN_NS + HOUR_NS)
    assert text_of(again).splitlines()[1:3] == [
        "drp.PA1.design is in time again",
        "was late for 60 min, from 2026-11-22 04:41 UTC on",
    ]


def test_a_limit_of_a_kind_that_is_not_known_any_more_is_still_named() -> None:
    shown = {"specification": "drp.PA1.odd", "operator": "odd", "level": "CRITICAL", "unit": ""}
    assert alert_line(an_alert(9.0, broken=[shown])) == "PA1 = 9 mmag, breaks its limit (odd)"
    worded = {**shown, "words": "6 MAD from its median"}
    assert alert_line(an_alert(9.0, broken=[worded])) == "PA1 = 9 mmag, 6 MAD from its median (odd)"


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_alerts_does_not_matter(seed: int) -> None:
    random = Random(seed)
    alerts = [an_alert(random.choice([6.0, 9.0, 9.5]), detector=n) for n in range(30)]
    shuffled = random.sample(alerts, len(alerts))
    assert worst_first(alerts) == worst_first(shuffled)
    assert text_of(*alerts, total=40) == text_of(*shuffled, total=40)


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        ({"detector": "12"}, "detector"),
        ({"tract": "9813", "patch": "4"}, "patch"),
        ({"ccdnum": "4"}, "ccdnum"),
        ({}, "series"),
    ],
)
def test_alerts_are_counted_by_their_finest_part(tags: dict[str, str], word: str) -> None:
    grouped = ("detector", "ccdnum", "tract", "patch")
    found = count_text([an_alert(9.0, tags={"dataset": "x", **tags})], About(grouped=grouped))
    assert found == f"PA1: 1 {word}"


def test_of_several_runs_it_names_the_value_that_breaks_the_limit_and_the_newest() -> None:
    shown = an_alert(12.0).broken[0]
    runs = {"broken": 2, "of": 3}
    counted = an_alert(6.0, severity=3, state="open", broken=[{**shown, "runs": runs}])
    said = "PA1 = 12.00 mmag, must be <= 8 (minimum), broken in 2 of the newest 3 runs"
    assert alert_line(counted) == f"{said}; the newest has 6.00"
    assert alert_line(replace(counted, value=12.0)) == said
    over = replace(counted, severity=0, state="resolved")
    assert alert_line(over) == "PA1 = 6.00 mmag, must be <= 8 (minimum)"


def test_a_trend_says_so_and_its_computed_limits_are_as_long_as_needed() -> None:
    def line(value: float, low: float, high: float) -> str:
        trend = Trend(10, 0, 5.0, 0.5, "mmag", 5, "both")
        specification = replace(DESIGN.specification, name="drp.PA1.jump", criterion=trend)
        limit = Limit(specification, (), Range(low, high, "mmag"))
        shown = judge(limit, value).to_json()
        return alert_line(an_alert(value, severity=2, state="open", broken=[shown]))

    usual = "must be like the runs before"
    assert line(9.3, 3.5990870174183884, 4.599087017418388) == (
        f"PA1 = 9.3 mmag, {usual}: >= 3.59909 and <= 4.59909 (jump)"
    )
    assert line(24001.2345, 24001.21, 24001.23) == (
        f"PA1 = 24001.2345 mmag, {usual}: >= 24001.21 and <= 24001.23 (jump)"
    )


def test_links_lead_to_the_run_the_job_the_alerts_and_what_to_do() -> None:
    root = "https://squash.example"
    two = [an_alert(9.0, 1), an_alert(9.0, 2)]
    found = links_of(root, two, group_id=7, run="18", run_url="https://ci.example/18", job_id=17)
    assert found == (
        Link("run 18", "https://ci.example/18"),
        Link("job 17", f"{root}/job/17"),
        Link("all 2", f"{root}/alerts?group=7"),
        Link("what to do", f"{root}/docs/runbook#metric-alert"),
    )
    assert links_of(root, [an_alert(4.2)], group_id=7) == (Link("alert", f"{root}/alert/1"),)


def test_in_slack_text_from_outside_notifies_nobody_and_no_link_lies() -> None:
    hostile = "<!channel> & <https://bad.example|good>"
    address = "https://bad.example/|https://ci.example/1> <!channel> b&c"
    message = Message("CRITICAL", hostile, (hostile,), (Link("run <7>", address), Link(hostile)))
    shown = "&lt;!channel&gt; &amp; &lt;https://bad.example|good&gt;"
    link = "https://bad.example/%7Chttps://ci.example/1%3E%20%3C!channel%3E%20b&amp;c"
    assert slack_text(message) == (
        f"🔴 *CRITICAL* {shown}\n{shown}\n<{link}|run &lt;7&gt;>, {shown}"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(59, "less than 1 min"), (300, "5 min"), (7200, "2.0 h"), (48 * 3600, "48 h")],
)
def test_durations_are_told_in_few_digits(seconds: int, words: str) -> None:
    assert duration_words(seconds * 10**9) == words


@pytest.mark.parametrize(
    ("description", "clause"),
    [
        ("Photometric repeatability: how far they scatter.", "Photometric repeatability"),
        ("One; two", "One"),
        ("One. Two.", "One"),
        ("The part (in percent) of it", "The part of it"),
        ("Separations of D=5 arcmin (repeatability).", "Separations of D=5 arcmin"),
        ("A ratio of 1: 5 at most: more.", "A ratio of 1: 5 at most"),
        ("At approx. 5 mmag, e.g. in r. More.", "At approx. 5 mmag, e.g. in r"),
        ("word " * 22 + "within 15 square arcminutes", "word " * 22 + "..."),
        ("word " * 22 + "no more than 5 mmag", "word " * 22 + "..."),
        ("More than 1.5 mmag of\n  scatter.", "More than 1.5 mmag of scatter"),
        ("Of a, b and c", "Of a, b and c"),
        ("A long one, " + "word " * 30, "A long one, " + "word " * 21 + "..."),
        ("word " * 30, "word " * 24 + "..."),
        ("", ""),
    ],
)
def test_a_description_is_told_by_its_first_clause(description: str, clause: str) -> None:
    assert first_clause(description) == clause


def test_a_group_is_counted_by_its_finest_tag_also_if_all_have_the_same_value_of_it() -> None:
    alerts = [an_alert(9.0, 1), an_alert(9.0, 2)]
    alerts = [
        replace(item, tags={"ccd": ccd, "fiber": "7"})
        for item, ccd in zip(alerts, "br", strict=True)
    ]
    about = About(grouped=("ccd", "fiber"), total=20)
    assert count_text(alerts, about) == "PA1: 2 of 20 fibers"
