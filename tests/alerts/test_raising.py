"""What the engine of alerts makes of jobs, definitions and time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.judging.alert_texts import alert_line
from squash_api.record.alerts import AlertRow, change_alert, get_alert
from squash_api.record.record import set_state
from tests.support.builders import make_body, measured, store_job
from tests.support.definitions import ADA, spec
from tests.support.observatory import DAY_NS, HOUR_NS, expecting, loaded_ago
from tests.support.raised import AlertedObservatory, make_engine

pytestmark = pytest.mark.sqlite

MINIMUM = spec("p.a.minimum", value=8.0, tags=["minimum"])
DESIGN = spec("p.a.design", value=5.0, tags=["design"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AlertedObservatory]:
    with AlertedObservatory(tmp_path) as site:
        site.define(MINIMUM, DESIGN)
        yield site


def acknowledge(site: AlertedObservatory, row: AlertRow, **more: Any) -> None:
    values = {
        "state": "acknowledged",
        "acknowledged_by": ADA.user_id,
        "acknowledged_ns": site.now_ns,
        "acknowledged_severity": row.severity,
        "note": "mine",
        **more,
    }
    assert site.record.write(lambda connection: change_alert(connection, row, **values))


# The life of an alert


def test_an_alert_opens_worsens_eases_and_ends_with_the_newest_value(
    site: AlertedObservatory,
) -> None:
    site.job(6.0, ago_ns=5 * HOUR_NS)
    assert site.told() == [("opened", 2), ("complete", 2)]
    site.job(9.0, ago_ns=4 * HOUR_NS)
    assert site.told() == [("worsened", 3)]
    site.job(7.0, ago_ns=3 * HOUR_NS)
    assert site.told() == [("eased", 2)]
    site.job(6.5, ago_ns=2 * HOUR_NS)
    assert site.told() == []
    (row,) = site.living()
    assert (row.severity, row.worst, row.value, row.opened_job_id, row.job_id) == (2, 3, 6.5, 1, 4)
    site.job(1.0, ago_ns=HOUR_NS)
    assert site.told() == [("resolved", 0)]
    assert site.living() == []


def test_it_says_which_limits_are_broken_the_worst_first(site: AlertedObservatory) -> None:
    site.job(9.0)
    (row,) = site.living()
    assert [item["specification"] for item in row.broken] == ["p.a.minimum", "p.a.design"]
    assert (row.tags, row.unit) == ({"instrument": "HSC"}, "mmag")


def test_what_came_late_or_is_not_measured_changes_nothing(site: AlertedObservatory) -> None:
    site.job(9.0, ago_ns=HOUR_NS)
    assert site.raised() == {"p.a": (3, 9.0)}
    site.job(1.0, ago_ns=2 * HOUR_NS)
    site.job(None, ago_ns=0)
    assert site.raised() == {"p.a": (3, 9.0)}


def test_a_broken_value_under_a_deleted_good_one_opens_an_alert(site: AlertedObservatory) -> None:
    site.job(9.0, ago_ns=2 * HOUR_NS)
    good = site.job(1.0, ago_ns=HOUR_NS)
    assert site.living() == []
    site.delete(good)
    assert site.raised() == {"p.a": (3, 9.0)}


def test_a_deletion_by_an_older_release_is_seen_too(site: AlertedObservatory) -> None:
    site.job(9.0, ago_ns=2 * HOUR_NS)
    good = site.job(1.0, ago_ns=HOUR_NS)
    site.step()
    site.delete(good)
    site.record.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE job_context SET deleted_tag_set_id = NULL"
        )
    )
    assert site.raised() == {"p.a": (3, 9.0)}


def test_an_alert_ends_when_its_only_value_is_deleted(site: AlertedObservatory) -> None:
    site.delete(site.job(9.0))
    broken = site.job(9.0)
    assert len(site.living()) == 1
    site.delete(broken)
    (*_, ended) = site.happened()
    assert (ended.kind, ended.detail["why"]) == ("resolved", "gone")


def test_old_values_open_nothing_and_an_alert_does_not_end_because_time_passes(
    site: AlertedObservatory,
) -> None:
    site.job(9.0, ago_ns=8 * DAY_NS)
    assert site.living() == []
    site.job(9.0, ago_ns=6 * DAY_NS)
    assert len(site.living()) == 1
    site.wait(2 * 86400)
    site.job(9.0, name="p.b")
    site.restart()
    assert site.raised() == {"p.a": (3, 9.0)}


def test_series_are_apart(site: AlertedObservatory) -> None:
    site.job(9.0, detector=1)
    site.job(6.0, detector=2)
    site.job(1.0, detector=3)
    assert site.raised() == {"1": (3, 9.0), "2": (2, 6.0)}


# Definitions and time


def test_a_limit_that_changes_changes_alerts_without_a_new_value(site: AlertedObservatory) -> None:
    site.job(6.0)
    assert site.raised() == {"p.a": (2, 6.0)}
    site.redefine("p.a.design", {**DESIGN, "threshold": {**DESIGN["threshold"], "value": 7.0}})
    assert site.raised() == {}
    site.redefine("p.a.minimum", {**MINIMUM, "threshold": {**MINIMUM["threshold"], "value": 3.0}})
    assert site.raised() == {"p.a": (3, 6.0)}


def test_a_limit_that_is_gone_ends_its_alerts_also_while_nobody_looked(
    site: AlertedObservatory,
) -> None:
    site.job(6.0)
    assert len(site.living()) == 1
    for item in (DESIGN, MINIMUM):
        site.redefine(item["name"], {**item, "alert": {"channel": "#other"}})
    site.restart()
    resolved = [item for item in site.happened() if item.kind == "resolved"]
    assert [item.detail.get("why") for item in resolved] == ["undefined"]
    (row,) = site.living()
    assert row.value == 6.0
    with site.record.read() as connection:
        over = get_alert(connection, resolved[0].alert_id)
    said = "" if over is None else alert_line(over)
    assert said == "a = 6.00 mmag, must be < 5 (design): no specification has this limit any more"


def test_nothing_is_raised_while_muted_and_it_is_when_the_mute_is_over(
    site: AlertedObservatory,
) -> None:
    day = site.now_ns // DAY_NS * DAY_NS
    site.now_ns = day + 12 * HOUR_NS
    site.job(6.0)
    until = {"until": "2026-09-21", "why": "w"}
    site.redefine("p.a.design", {**DESIGN, "alert": {"mute": until}})
    assert site.raised() == {}
    site.now_ns = day + DAY_NS
    assert site.raised() == {"p.a": (2, 6.0)}


def test_an_alert_on_trial_is_marked(site: AlertedObservatory) -> None:
    site.redefine("p.a.design", {**DESIGN, "alert": {"trial": True}})
    site.job(9.0)
    assert sorted((row.severity, row.is_trial) for row in site.living()) == [(2, True), (3, False)]


def test_a_restart_and_a_second_process_change_nothing(site: AlertedObservatory) -> None:
    site.job(9.0)
    first = site.living()
    other = make_engine(site, clock=lambda: site.now_ns)
    other.step()
    site.restart()
    assert site.living() == first
    site.job(1.0)
    site.derive()
    other.step()
    site.step()
    kinds = [item.kind for item in site.happened()]
    assert kinds == ["opened", "complete", "resolved"]


# The first start


def test_what_is_broken_when_an_old_record_gets_alerts_is_found_quietly(
    site: AlertedObservatory,
) -> None:
    for detector in range(3):
        site.job(9.0, detector=detector)
    site.job(1.0, detector=7)
    site.define(expecting("p.b.design"))
    loaded_ago(site.record, 100 * DAY_NS)
    site.record.write(lambda connection: set_state(connection, "alerts", '{"is_old": true}'))
    assert len(site.raised()) == 4
    opened = [item for item in site.happened() if item.kind == "opened"]
    assert [item.detail["found"] for item in opened] == ["at start"] * 4
    found = [(group.key["found"], len(rows)) for group, rows in site.groups()]
    assert sorted(found) == [("at start", 1), ("at start", 3)]
    site.job(9.0, detector=9)
    (*_, last) = [item for item in site.happened() if item.kind == "opened"]
    assert "found" not in last.detail


# Groups


def test_alerts_of_a_run_that_differ_by_detector_are_one_group(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path, quiet_s=60.0) as site:
        site.define(MINIMUM)
        for detector in range(3):
            site.job(9.0, detector=detector, run_id="1", pipeline="n")
            site.step()
        site.job(9.0, detector=3, run_id="2", pipeline="n")
        site.job(9.0, detector=0, run_id="1", pipeline="n", filter_name="r")
        found = site.groups()
        assert sorted(len(rows) for _, rows in found) == [1, 1, 3]
        assert {tuple(group.key["run"]) for group, _ in found} == {("n", "1"), ("n", "2")}
        assert [item.kind for item in site.happened()] == ["opened"] * 5
        site.wait(59)
        assert site.told() == []
        site.wait(1)
        done = site.happened()
        assert [item.kind for item in done] == ["complete"] * 3
        assert max(item.detail["alerts"] for item in done) == 3
        site.job(9.0, detector=5, run_id="1", pipeline="n")
        assert len(site.groups()) == 4


def test_a_group_gathers_for_five_times_its_quiet_at_most(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path, quiet_s=60.0) as site:
        site.define(MINIMUM)
        for detector in range(8):
            site.job(9.0, detector=detector)
            site.step()
            site.wait(50)
        assert sorted(len(rows) for _, rows in site.groups()) == [2, 6]


@pytest.mark.parametrize(
    ("group", "groups"),
    [("none", [1, 1, 1, 1]), (["detector"], [2, 2]), (["detector", "filter"], [4])],
)
def test_a_group_is_over_the_tags_that_its_limit_says(
    tmp_path: Path, group: Any, groups: list[int]
) -> None:
    with AlertedObservatory(tmp_path, quiet_s=60.0) as site:
        site.define({**MINIMUM, "alert": {"group": group}})
        for number in range(4):
            site.job(9.0, detector=number % 2, filter_name="rg"[number // 2])
        assert sorted(len(rows) for _, rows in site.groups()) == groups


def test_all_that_a_job_brings_may_be_one_group(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path, quiet_s=60.0) as site:
        alert = {"alert": {"group": "job"}}
        site.define({**MINIMUM, **alert}, {**spec("p.b.x"), **alert})
        store_job(
            site.record,
            body=make_body(measured("p.a", 9.0), measured("p.b", 9.0), detector=1),
            asked_ns=site.now_ns,
            received_ns=site.now_ns,
            revision=site.revision,
        )
        assert [len(rows) for _, rows in site.groups()] == [2]


def test_an_alert_with_nothing_to_be_grouped_over_is_told_at_once(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path, quiet_s=60.0) as site:
        site.define(MINIMUM)
        site.job(9.0)
        assert site.told() == [("opened", 3), ("complete", 3)]


# Acknowledgements and silences


def test_an_acknowledgement_lasts_until_it_is_worse_than_was_seen(
    site: AlertedObservatory,
) -> None:
    site.job(6.0, ago_ns=4 * HOUR_NS)
    acknowledge(site, site.living()[0])
    site.told()
    site.job(7.0, ago_ns=3 * HOUR_NS)
    assert site.living()[0].state == "acknowledged"
    site.job(9.0, ago_ns=2 * HOUR_NS)
    assert site.told() == [("worsened", 3), ("released", 3)]
    (row,) = site.living()
    assert (row.state, row.acknowledged_by, row.note) == ("open", None, None)


def test_an_acknowledgement_ends_at_its_time(site: AlertedObservatory) -> None:
    site.job(9.0)
    acknowledge(site, site.living()[0], acknowledged_until_ns=site.now_ns + HOUR_NS)
    site.told()
    site.wait(3599)
    assert site.told() == []
    site.wait(1)
    (event,) = site.happened()
    assert (event.kind, event.detail["why"], event.detail["note"]) == ("released", "until", "mine")


def test_alerts_open_silenced_and_say_so_when_the_silence_ends(site: AlertedObservatory) -> None:
    silence = site.silence("p", instrument="HSC")
    site.job(9.0)
    (row,) = site.living()
    assert row.silence_id == silence
    opened, _ = site.happened()
    assert opened.detail["silence"] == silence
    site.wait(86400 + 1)
    assert site.told() == [("unsilenced", 3)]
    again = site.silence()
    assert site.told() == [("silenced", 3)]
    site.end_silence(again)
    assert site.told() == [("unsilenced", 3)]


def test_a_silence_that_follows_another_is_no_news(site: AlertedObservatory) -> None:
    first = site.silence(days=1.0)
    site.job(9.0)
    site.told()
    second = site.silence(days=2.0)
    site.end_silence(first)
    assert site.told() == []
    assert site.living()[0].silence_id == second


# Late series


def test_a_late_series_is_an_alert_until_a_value_comes(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path) as site:
        site.define(expecting())
        loaded_ago(site.record, 100 * DAY_NS)
        job = site.job(1.0, ago_ns=31 * HOUR_NS, filter_name="r")
        (row,) = site.living()
        assert (row.branch, row.severity, row.job_id) == ("expect:p.a.design", 2, job)
        assert row.tags == {"instrument": "HSC", "filter": "r"}
        site.job(1.0, filter_name="r")
        site.wait(60)
        assert site.living() == []
        assert [item.kind for item in site.happened()] == ["opened", "complete", "resolved"]


def test_late_series_that_nothing_expects_any_more_are_no_alerts(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path) as site:
        site.define(expecting())
        loaded_ago(site.record, 100 * DAY_NS)
        assert [row.tags for row in site.living()] == [{}]
        site.redefine("p.a.design", spec("p.a.design"))
        site.wait(60)
        assert site.living() == []


def test_an_index_that_begins_again_is_followed_again(site: AlertedObservatory) -> None:
    site.job(9.0)
    site.job(9.0, name="p.b")
    assert len(site.living()) == 1
    site.record.write(
        lambda connection: connection.exec_driver_sql("UPDATE job_context SET version = 0")
    )
    job = site.job(1.0)
    site.delete(job)
    site.job(1.0, detector=1)
    assert site.raised() == {"p.a": (3, 9.0)}
    site.job(9.0, detector=1)
    assert site.raised() == {"p.a": (3, 9.0), "1": (3, 9.0)}
