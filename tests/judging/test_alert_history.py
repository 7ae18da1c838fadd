from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from squash_api.judging.alert_history import AlertHistory, Judged, PastJob, StateChange
from squash_api.judging.alert_plan import watched_metrics
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Schema
from tests.support.metrics_packages import SPECS, write_metrics_package

SCHEMA = Schema()
DAY_NS = 86_400 * 10**9
NOON_NS = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 10**9
METRIC = "validate.AM1"


class Player:
    """Jobs played one after the other, a minute apart."""

    def __init__(self, tmp_path: Path, specs: str) -> None:
        directory = write_metrics_package(tmp_path, specs=specs)
        package = load_metrics_package(directory, today=date.min)
        assert package.problems == ()
        self.history = AlertHistory(
            watched_metrics(package.specifications.values(), package.metrics, SCHEMA)
        )
        self.ids = count(1)

    def play(
        self,
        value: float,
        *,
        metric: str = METRIC,
        received_ns: int = NOON_NS,
        age_ns: int = 0,
        **meta: Any,
    ) -> list[tuple[Judged, StateChange | None]]:
        job = PastJob(
            job_id=next(self.ids),
            received_ns=received_ns,
            time_ns=received_ns - age_ns,
            context=SCHEMA.context(meta),
            values={metric: value},
        )
        return list(self.history.play(job))

    def changes(self, value: float, **options: Any) -> list[tuple[str, str]]:
        played = [change for _, change in self.play(value, **options) if change]
        return [(change.previous, change.level) for change in played]


def one_spec(extra: str = "", *, operator: str = "<=", name: str = "AM1.design") -> str:
    threshold = f"{{value: 10, unit: marcsec, operator: '{operator}'}}"
    return f"---\nname: {name}\nthreshold: {threshold}\n{extra}\n"


@pytest.fixture
def player(tmp_path: Path) -> Player:
    """AM1 with limits of 20 (CRITICAL), 10 (WARNING) and 5 (INFO)."""
    return Player(tmp_path, SPECS)


def test_only_changes_are_told_and_a_recovery_once(player: Player) -> None:
    assert player.changes(1.0) == []
    assert player.changes(11.0) == [("OK", "WARNING")]
    assert player.changes(12.0) == []
    assert player.changes(1.0) == [("WARNING", "OK")]
    assert player.changes(1.0) == []


def test_the_level_is_the_worst_that_is_broken(player: Player) -> None:
    assert player.changes(21.0) == [("OK", "CRITICAL")]
    assert player.changes(6.0) == [("CRITICAL", "INFO")]


def test_a_message_names_what_is_broken_at_its_level(player: Player) -> None:
    ((judged, change),) = player.play(21.0, dataset="RC2")
    assert change is not None
    assert change.broken == ("validate.AM1.minimum",)
    assert change.series == (("dataset", "RC2"),)
    assert len(judged.broken) == 3


def test_a_recovery_names_nothing_broken(player: Player) -> None:
    player.play(21.0)
    ((_, change),) = player.play(1.0)
    assert change is not None
    assert change.broken == ()


def test_series_have_states_of_their_own(player: Player) -> None:
    assert player.changes(21.0, ccd="1", ccdnum=1) == [("OK", "CRITICAL")]
    assert player.changes(1.0, ccdnum=2) == []
    assert player.changes(21.0, ccdnum=3) == [("OK", "CRITICAL")]
    assert player.changes(1.0, ccdnum=1) == [("CRITICAL", "OK")]


def test_what_comes_after_a_newer_value_of_its_series_is_not_told(player: Player) -> None:
    minute_ns = 60 * 10**9
    assert player.changes(21.0, age_ns=minute_ns) == [("OK", "CRITICAL")]
    assert player.changes(1.0, age_ns=2 * minute_ns) == []
    assert player.changes(21.0, age_ns=2 * minute_ns, ccdnum=1) == [("OK", "CRITICAL")]
    ((judged, change),) = player.play(1.0, age_ns=3 * minute_ns)
    assert (judged.broken, change) == ((), None)
    assert player.changes(1.0) == [("CRITICAL", "OK")]


def test_what_is_not_among_per_is_one_series(player: Player) -> None:
    assert player.changes(21.0, visit=1) == [("OK", "CRITICAL")]
    assert player.changes(21.0, visit=2) == []


def test_a_branch_whose_terms_the_job_lacks_does_not_judge(player: Player) -> None:
    assert player.play(99.0, metric="validate.PA1", filter_name="g") == []
    ((judged, _),) = player.play(99.0, metric="validate.PA1", filter_name="r")
    assert [limit.label for limit in judged.broken] == ["design_r"]


def test_a_metric_without_specification_is_not_judged(player: Player) -> None:
    assert player.play(99.0, metric="other.metric") == []


@pytest.mark.parametrize(
    ("operator", "broken"),
    [("<", [10.0, 11.0]), ("<=", [11.0]), (">", [9.0, 10.0]), (">=", [9.0]), ("==", [9.0, 11.0])],
)
def test_a_value_at_the_limit(tmp_path: Path, operator: str, broken: list[float]) -> None:
    player = Player(tmp_path, one_spec(operator=operator))
    found = [value for value in (9.0, 10.0, 11.0) if player.play(value)[0][0].broken]
    assert found == broken


def test_old_data_are_judged_and_not_told(tmp_path: Path) -> None:
    player = Player(tmp_path, one_spec("alert: {max_age: 2d}"))
    ((judged, change),) = player.play(11.0, age_ns=2 * DAY_NS)
    assert judged.broken
    assert change is None
    assert player.changes(11.0, age_ns=2 * DAY_NS - 1) == [("OK", "WARNING")]


def test_old_data_do_not_end_an_alert(tmp_path: Path) -> None:
    player = Player(tmp_path, one_spec("alert: {max_age: 2d}"))
    player.play(11.0)
    assert player.changes(1.0, age_ns=3 * DAY_NS) == []
    assert player.changes(11.0) == []


def test_a_mute_is_silence_through_its_last_day_by_receipt(tmp_path: Path) -> None:
    player = Player(tmp_path, one_spec("alert: {mute: {until: 2026-11-22, why: test}}"))
    midnight_ns = NOON_NS + DAY_NS // 2
    ((judged, change),) = player.play(11.0, received_ns=midnight_ns - 1, age_ns=20)
    assert judged.broken
    assert change is None
    # Later than the mute by receipt, though the data are of the day before.
    assert player.changes(11.0, received_ns=midnight_ns, age_ns=10) == [("OK", "WARNING")]


def test_a_mute_of_one_limit_leaves_the_others(tmp_path: Path) -> None:
    muted = one_spec("tags: [minimum]\nalert: {mute: {until: 2027-01-01, why: test}}")
    player = Player(tmp_path, muted + one_spec("tags: [stretch]", name="AM1.other"))
    assert player.changes(11.0) == [("OK", "INFO")]


def test_branches_of_one_metric_tell_by_themselves(tmp_path: Path) -> None:
    other = one_spec('alert: {channel: "#night"}', name="AM1.night")
    player = Player(tmp_path, one_spec() + other)
    changes = [change for _, change in player.play(11.0) if change]
    assert {change.channel for change in changes} == {None, "#night"}


def test_a_limit_that_needs_two_runs_sends_its_message_with_the_second(tmp_path: Path) -> None:
    player = Player(tmp_path, one_spec("alert: {after: {runs: 2, of: 3}}"))
    values = [(20.0, "1"), (20.0, "1"), (5.0, "2"), (20.0, "3"), (5.0, "4"), (5.0, "5")]
    found = [
        player.changes(value, received_ns=NOON_NS + minute * 60 * 10**9, run_id=run)
        for minute, (value, run) in enumerate(values)
    ]
    assert found == [[], [], [], [("OK", "WARNING")], [("WARNING", "OK")], []]


def test_which_limits_a_value_breaks_does_not_depend_on_the_runs(tmp_path: Path) -> None:
    player = Player(tmp_path, one_spec("alert: {min_runs: 5}"))
    ((judged, change),) = player.play(20.0)
    assert ([limit.label for limit in judged.broken], change) == (["design"], None)


def test_a_late_value_may_raise_a_limit_that_looks_at_several_runs(tmp_path: Path) -> None:
    player = Player(tmp_path, one_spec("alert: {after: {runs: 2, of: 2}}"))
    assert player.changes(20.0, run_id="2") == []
    assert player.changes(20.0, run_id="1", age_ns=10**9) == [("OK", "WARNING")]


def test_a_limit_on_trial_is_judged_and_sends_nothing(tmp_path: Path) -> None:
    player = Player(tmp_path, one_spec("alert: {trial: true}"))
    ((judged, change),) = player.play(20.0)
    assert ([limit.label for limit in judged.broken], change) == (["design"], None)
