from pathlib import Path

import pytest
from structlog.testing import capture_logs

from squash_api.errors import RecordUnavailableError
from squash_api.influx.writing import Rejected
from squash_api.record.metrics import declare_metrics
from squash_api.site import Site
from squash_api.standings.standing import Standings
from squash_api.standings.watch import AGAIN_NS, LAG_NS, MINUTE_NS, Watch
from tests.support.builders import make_body, make_settings, measured, store_job
from tests.support.definitions import ADA, spec
from tests.support.observatory import (
    HOUR_NS,
    NOW_NS,
    FakeOutlet,
    Observatory,
    expecting,
    loaded_ago,
)

URL = "https://squash.example"
# The whole minute before the present.
THIS_MINUTE_NS = NOW_NS - NOW_NS % MINUTE_NS


def watching(site: Observatory, *outlets: FakeOutlet) -> Watch:
    standings = Standings(site.reader, site.definitions.in_force)
    return Watch(standings, outlets, squash_url=URL, clock=lambda: site.now_ns)


@pytest.fixture
def outlet() -> FakeOutlet:
    return FakeOutlet()


@pytest.fixture
def watch(site: Observatory, outlet: FakeOutlet) -> Watch:
    return watching(site, outlet)


def pass_time(site: Observatory, watch: Watch, time_ns: int = MINUTE_NS) -> None:
    site.now_ns += time_ns
    watch.step()


# The heartbeat


def test_without_specifications_only_the_heart_beats(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.job(1.0)
    watch.step()
    assert outlet.lines == [f"squash_heartbeat up=1 {THIS_MINUTE_NS}"]


def test_it_beats_once_a_minute_at_the_whole_minute(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    for _ in range(4):
        watch.step()
        site.now_ns += 20 * 10**9
    times = [int(line.rpartition(" ")[2]) for line in outlet.take("squash_heartbeat")]
    assert times == [THIS_MINUTE_NS, THIS_MINUTE_NS + MINUTE_NS]


def test_who_does_not_deliver_is_written_nothing(watch: Watch, outlet: FakeOutlet) -> None:
    outlet.is_in_charge = False
    watch.step()
    assert (outlet.lines, watch._standings.latest.last_id) == ([], 0)
    outlet.is_in_charge = True
    watch.step()
    assert len(outlet.lines) == 1


# What only the service raises, for Grafana

AFTER = spec("p.a.design", alert={"after": {"runs": 1, "of": 2}})


def verdicts(site: Observatory, outlet: FakeOutlet, *, is_for_grafana: bool = True) -> list[str]:
    standings = Standings(site.reader, site.definitions.in_force)
    watch = Watch(
        standings,
        [outlet],
        squash_url=URL,
        is_for_grafana=is_for_grafana,
        clock=lambda: site.now_ns,
    )
    watch.step()
    return outlet.take("squash_verdict")


def test_grafana_is_told_each_minute_what_only_the_service_raises(
    site: Observatory, outlet: FakeOutlet
) -> None:
    site.define(AFTER)
    assert [" alert=0,severity=0,value=0 " in line for line in verdicts(site, outlet)] == [True]


def test_unless_grafana_tells_people_no_verdict_is_written(
    site: Observatory, outlet: FakeOutlet
) -> None:
    site.define(AFTER)
    assert verdicts(site, outlet, is_for_grafana=False) == []


def test_what_kapacitor_and_grafana_judge_themselves_has_no_verdict(
    site: Observatory, outlet: FakeOutlet
) -> None:
    site.define(spec("p.a.design"))
    assert verdicts(site, outlet) == []


# Freshness


def test_each_series_is_said_every_minute(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(expecting())
    loaded_ago(site.record, 48 * HOUR_NS)
    watch.step()
    pass_time(site, watch)
    first, second = outlet.take("squash_freshness")
    assert first.startswith("squash_freshness,specification=p.a.design since=")
    assert first.endswith(f",age_s=172800.0,late_s=64800.0 {THIS_MINUTE_NS}")
    assert "late_s=64860.0" in second


def test_a_job_that_comes_is_linked(site: Observatory, watch: Watch, outlet: FakeOutlet) -> None:
    site.define(expecting())
    job = site.job(1.0, run_id="R17")
    watch.step()
    whole, hsc = sorted(outlet.take("squash_freshness"), key=lambda line: "instrument" in line)
    assert hsc.startswith("squash_freshness,instrument=HSC,specification=p.a.design ")
    for line in (whole, hsc):
        assert f'squash_url="{URL}/job/{job}"' in line
        assert 'run_id="R17"' in line


def test_while_jobs_wait_long_to_be_derived_nothing_is_said(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(expecting())
    store_job(
        site.record,
        body=make_body(measured("p.a")),
        received_ns=NOW_NS,
        asked_ns=NOW_NS,
        revision=site.revision,
    )
    pass_time(site, watch, LAG_NS + MINUTE_NS)
    assert outlet.lines == []
    site.derive()
    pass_time(site, watch)
    assert len(outlet.take("squash_heartbeat")) == 1


def test_a_job_that_waits_shortly_makes_nothing_late(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(expecting())
    loaded_ago(site.record, 30 * HOUR_NS)
    store_job(
        site.record,
        body=make_body(measured("p.a")),
        received_ns=NOW_NS,
        asked_ns=NOW_NS,
        revision=site.revision,
    )
    pass_time(site, watch)
    (line,) = outlet.take("squash_freshness")
    assert "late_s=0.0 " in line


# Standings


def test_a_standing_is_said_when_it_changes(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(spec(value=5.0))
    job = site.job(6.0)
    watch.step()
    (line,) = outlet.take("squash_standing")
    assert line.startswith("squash_standing,instrument=HSC,metric=p.a broken=")
    for part in ('broken="p.a.design"', 'limit="p.a.design"', "margin=-0.2", "severity=2"):
        assert part in line
    assert f'squash_url="{URL}/job/{job}"' in line
    assert line.endswith(f"value=6 {THIS_MINUTE_NS}")
    pass_time(site, watch)
    assert outlet.take("squash_standing") == []
    site.job(4.0)
    pass_time(site, watch)
    (line,) = outlet.take("squash_standing")
    assert 'broken=""' in line


def test_a_standing_that_does_not_change_is_said_again(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(spec(value=5.0))
    site.job(6.0)
    watch.step()
    pass_time(site, watch, AGAIN_NS - MINUTE_NS)
    assert len(outlet.take("squash_standing")) == 1
    pass_time(site, watch)
    assert len(outlet.take("squash_standing")) == 1


def test_a_standing_that_was_said_by_a_clock_that_was_ahead_is_said_again(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(spec(value=5.0))
    site.job(6.0)
    watch.step()
    pass_time(site, watch, 4 * AGAIN_NS)
    outlet.lines.clear()
    pass_time(site, watch, -4 * AGAIN_NS)
    assert len(outlet.take("squash_standing")) == 1


def test_a_metric_without_specifications_is_left_out(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(spec())
    site.job(1.0, name="p.b")
    watch.step()
    assert outlet.take("squash_standing") == []


def test_what_stands_no_more_breaks_nothing_and_is_said_once(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(spec(value=5.0))
    job = site.job(6.0)
    watch.step()
    outlet.lines.clear()
    site.delete(job)
    for _ in range(2):
        pass_time(site, watch)
    (line,) = outlet.take("squash_standing")
    assert ' broken="",rank=7,severity=0,state="old" ' in line


def test_after_the_last_specification_is_gone_nothing_is_broken(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(spec(value=5.0))
    site.job(6.0)
    watch.step()
    outlet.lines.clear()
    site.definitions.delete("spec", "p.a.design", ADA)
    pass_time(site, watch)
    (line,) = outlet.take("squash_standing")
    assert ' broken="",rank=6,severity=0,state="no limit" ' in line


def test_an_absent_value_is_said_without_the_older_one(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(spec(value=5.0))
    site.job(6.0, ago_ns=5)
    job = site.job(None)
    watch.step()
    (line,) = outlet.take("squash_standing")
    assert 'broken="",rank=3,severity=0,' in line
    assert f'/job/{job}",state="not measured" ' in line
    assert "value=" not in line
    assert "margin=" not in line


# Trouble


def test_an_outage_queues_nothing_and_what_changed_is_said_after_it(
    site: Observatory, watch: Watch, outlet: FakeOutlet
) -> None:
    site.define(spec(value=5.0))
    site.job(6.0)
    outlet.is_up = False
    for _ in range(3):
        pass_time(site, watch)
    outlet.is_up = True
    watch.step()
    assert outlet.lines == []
    pass_time(site, watch)
    assert len(outlet.lines) == 2


def test_an_outlet_that_fails_keeps_nothing_from_the_others(site: Observatory) -> None:
    down, up = FakeOutlet("down"), FakeOutlet("up")
    down.is_up = False
    watching(site, down, up).step()
    assert (down.lines, len(up.lines)) == ([], 1)


def test_every_outlet_is_told_what_it_does_not_know(site: Observatory) -> None:
    early, late = FakeOutlet("early"), FakeOutlet("late")
    site.define(spec(value=5.0))
    site.job(6.0)
    late.is_in_charge = False
    watch = watching(site, early, late)
    watch.step()
    late.is_in_charge = True
    pass_time(site, watch)
    assert len(early.take("squash_standing")) == len(late.take("squash_standing")) == 1


def test_a_refused_point_is_logged(watch: Watch, outlet: FakeOutlet) -> None:
    outlet.rejected = [Rejected(0, "field type conflict")]
    with capture_logs() as logs:
        watch.step()
    assert [entry["reason"] for entry in logs] == ["field type conflict"]


def test_after_a_failure_it_goes_on(watch: Watch) -> None:
    class Failing(FakeOutlet):
        calls = 0

        def is_delivering(self) -> bool:
            self.calls += 1
            if self.calls < 3:
                raise RecordUnavailableError("locked")
            return True

    outlet = Failing()
    watch._outlets = [outlet]
    with capture_logs() as logs:
        waits = [watch.round().least_s for _ in range(3)]
    assert waits == [30.0, 30.0, 1.0]
    assert [entry["log_level"] for entry in logs] == ["error", "error"]
    assert outlet.lines


def test_a_restart_says_the_same(site: Observatory, watch: Watch, outlet: FakeOutlet) -> None:
    site.define(expecting())
    site.job(6.0, ago_ns=50 * HOUR_NS)
    site.record.write(lambda connection: declare_metrics(connection, {"p.b": "mag"}))
    watch.step()
    again = FakeOutlet()
    watching(site, again).step()
    assert again.lines == outlet.lines


# Whether there is one


@pytest.mark.parametrize(
    ("setting", "count", "is_made"), [("on", 1, True), ("off", 1, False), ("on", 0, False)]
)
def test_there_is_a_watch_unless_it_is_off_or_nobody_listens(
    tmp_path: Path, setting: str, count: int, *, is_made: bool
) -> None:
    with Site(make_settings(tmp_path, watch=setting), is_made=True) as site:
        made = site.watch([FakeOutlet()] * count)
    assert (made is not None) == is_made
