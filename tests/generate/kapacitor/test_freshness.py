"""The tasks as text; what Kapacitor makes of them is in tests/integration/."""

from datetime import date

import pytest

from squash_api.generate.kapacitor.freshness import freshness_task, heartbeat_task
from squash_api.judging.alert_plan import Expectation
from squash_api.judging.alerts import Expect
from squash_api.schema.watch import FRESHNESS, LATE_S, SPECIFICATION
from squash_api.verify.metrics import Metric
from tests.support.tick_reader import ReadTask, Seen, read_task

PLACE = ("squash", "autogen")
METRICS = {"drp.PA1": Metric("drp.PA1", "drp", "Repeatability.", "mmag", (), {}, "")}


def expectation(
    *, every_s: int = 86400, grace_s: int = 0, muted_through: date | None = None
) -> Expectation:
    return Expectation(
        "drp.PA1.design",
        "drp.PA1",
        "CRITICAL",
        (),
        ("dataset",),
        "#late",
        Expect(every_s, grace_s),
        muted_through,
    )


def text(expected: Expectation) -> str:
    return freshness_task([expected], METRICS, ["srd/specs/drp/a.yaml"], PLACE)


def task(expected: Expectation) -> ReadTask:
    return read_task(text(expected))


def seen(late_s: float, *, age_ns: int = 0, specification: str = "drp.PA1.design") -> Seen:
    now = 2 * 10**18
    fields = {LATE_S: late_s, "age_s": 90_000.0}
    return Seen({SPECIFICATION: specification}, fields, time_ns=now - age_ns, now_ns=now)


def test_what_is_late_alerts_with_the_level_of_the_specification() -> None:
    found = task(expectation())
    assert found.measurement == FRESHNESS
    assert list(found.levels(seen(0.5)).values()) == ["CRITICAL"]


@pytest.mark.parametrize(
    "other",
    [
        seen(0.0),
        seen(-3600.0),
        seen(0.5, specification="drp.PA1.other"),
        seen(0.5, age_ns=3600 * 10**9),
    ],
)
def test_what_is_in_time_or_of_another_one_or_old_alerts_nothing(other: Seen) -> None:
    assert task(expectation()).levels(other) == {}


def test_a_mute_holds_it_back() -> None:
    assert task(expectation(muted_through=date(2999, 1, 1))).levels(seen(0.5)) == {}
    assert task(expectation(muted_through=date(2001, 1, 1))).levels(seen(0.5)) != {}


def test_it_goes_to_the_channel_of_the_specification() -> None:
    assert task(expectation()).branches[0].texts("topic") == ["metrics-channel-late"]


@pytest.mark.parametrize(
    ("every_s", "seconds", "unit"),
    [(600, "60.0", "min"), (7200, "3600.0", "h"), (86400, "3600.0", "h"), (604800, "86400.0", "d")],
)
def test_ages_are_said_in_a_fitting_unit(every_s: int, seconds: str, unit: str) -> None:
    whole = text(expectation(every_s=every_s))
    assert f'"age_s" / {seconds}' in whole
    assert f'"squash.age_{unit}") }}}} {unit}, expected every ' in whole


def test_grace_is_named_where_there_is_some() -> None:
    assert "expected every 1d, and 6h grace: " in text(expectation(grace_s=21600))
    assert "grace" not in text(expectation())


def test_the_file_of_the_specification_is_named() -> None:
    assert "\n// From srd/specs/drp/a.yaml\n" in text(expectation())


def test_a_heart_that_does_not_beat_for_five_minutes_is_told() -> None:
    whole = heartbeat_task(PLACE)
    assert ".measurement('squash_heartbeat')\n    |deadman(0.0, 5m)" in whole
    assert ".stateChangesOnly()" in whole
    assert ".topic('metrics-default')" in whole
