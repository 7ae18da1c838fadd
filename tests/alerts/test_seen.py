"""What is shown of alerts and of groups."""

from dataclasses import replace
from typing import Any

from squash_api.alerts.seen import Seen, SeenGroup
from squash_api.judging.limits import judge
from squash_api.record.alerts import ACKNOWLEDGED, OPEN, AlertRow, GroupRow
from tests.support.limits import limit

GROUP = GroupRow(7, 1, "drp.PA1", "0123456789ab", {}, 10**18, None)
LIMIT = limit("<=", 8.0, name="drp.PA1.minimum", tags=("minimum",))


def seen(value: float = 12.0, **changes: Any) -> Seen:
    nobody = dict.fromkeys(
        ("resolved_ns", "acknowledged_by", "acknowledged_ns", "acknowledged_severity",
         "acknowledged_until_ns", "note", "link")
    )  # fmt: skip
    row = AlertRow(
        alert_id=1, version=1, group_id=7, metric="drp.PA1", branch="0123456789ab", tags={},
        state=OPEN, is_trial=False, severity=3, worst=3, opened_ns=10**18, opened_job_id=1,
        job_id=2, time_ns=10**18, value=value, unit="mmag", broken=[judge(LIMIT, 12.0).to_json()],
        **nobody,
    )  # fmt: skip
    return Seen(replace(row, **changes), GROUP, None, None)


def test_of_several_runs_the_value_that_breaks_the_limit_is_shown() -> None:
    (shown,) = seen().row.broken
    several = seen(6.0, broken=[{**shown, "runs": {"broken": 2, "of": 3}}])
    assert (several.shown_value, several.runs) == (12.0, {"broken": 2, "of": 3})
    over = replace(several, row=replace(several.row, state="resolved", severity=0))
    assert (over.shown_value, over.runs) == (6.0, None)
    assert seen(9.0).shown_value == 9.0


def test_a_group_shows_what_needs_a_person_before_what_somebody_has() -> None:
    held, free = seen(state=ACKNOWLEDGED), seen(alert_id=2, severity=2)
    group = SeenGroup(GROUP, [held, free], 2, "")
    assert (group.first, group.held, group.rank) == (free, 1, 0)
    assert SeenGroup(GROUP, [held], 1, "").first is held
