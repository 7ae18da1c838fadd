"""Alerts, groups and their history are read back as they were stored."""

from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from squash_api.record.alerts import (
    OPEN,
    RESOLVED,
    NewEvent,
    add_events,
    add_group,
    alerts_of_groups,
    change_alert,
    change_group,
    events_after,
    events_of,
    gathering_groups,
    get_alert,
    get_group,
    groups_after,
    living_alerts,
    newest_alert_version,
    write_alerts,
)
from squash_api.record.record import Record


def open_one(connection: Connection, **other: Any) -> int:
    group_id = add_group(
        connection,
        metric="demo.PA1",
        branch="b",
        key={"run": ["ci", "7"], "tags": {}},
        now_ns=5,
        is_gathering=True,
    )
    values = {"tags": {"detector": "1"}, "severity": 3, "value": 8.5, "unit": "mmag", **other}
    row = {
        "group_id": group_id,
        "metric": "demo.PA1",
        "branch": "b",
        "state": OPEN,
        "worst": 3,
        "opened_ns": 5,
        "broken": [{"specification": "demo.PA1.minimum"}],
        **values,
    }
    (alert_id,) = write_alerts(connection, opened=[row])
    return alert_id


def test_an_alert_is_read_back(record: Record) -> None:
    alert_id = record.write(open_one)
    with record.read() as connection:
        found = get_alert(connection, alert_id)
        assert found is not None
        assert (found.tags, found.state, found.value) == ({"detector": "1"}, OPEN, 8.5)
        assert found.broken == [{"specification": "demo.PA1.minimum"}]
        assert living_alerts(connection) == [found]
        assert alerts_of_groups(connection, [found.group_id]) == [found]
        assert get_alert(connection, alert_id + 1) is None


def test_a_series_has_one_living_alert(record: Record) -> None:
    alert_id = record.write(open_one)
    with pytest.raises(IntegrityError):
        record.write(open_one)

    def resolve(connection: Connection) -> None:
        row = get_alert(connection, alert_id)
        assert row is not None
        assert change_alert(connection, row, state=RESOLVED, severity=0, resolved_ns=9)

    record.write(resolve)
    assert record.write(open_one) != alert_id


def test_a_change_is_refused_if_the_alert_has_changed_since(record: Record) -> None:
    alert_id = record.write(open_one)
    with record.read() as connection:
        row = get_alert(connection, alert_id)
    assert row is not None
    assert record.write(lambda connection: change_alert(connection, row, severity=2))
    assert not record.write(lambda connection: change_alert(connection, row, severity=1))


def test_a_group_is_new_whenever_one_of_its_alerts_changes(record: Record) -> None:
    alert_id = record.write(open_one)
    with record.read() as connection:
        before = newest_alert_version(connection)
        row = get_alert(connection, alert_id)
        assert groups_after(connection, before, limit=9) == []
    assert row is not None
    record.write(lambda connection: change_alert(connection, row, severity=2))
    with record.read() as connection:
        (group,) = groups_after(connection, before, limit=9)
        assert group == get_group(connection, row.group_id)
        assert group.key == {"run": ["ci", "7"], "tags": {}}


def test_a_complete_group_gathers_no_more(record: Record) -> None:
    record.write(open_one)
    with record.read() as connection:
        (group,) = gathering_groups(connection)
    record.write(lambda connection: change_group(connection, group.group_id, joined_ns=None))
    with record.read() as connection:
        assert gathering_groups(connection) == []


def test_events_are_in_order(record: Record) -> None:
    alert_id = record.write(open_one)
    made = [NewEvent(alert_id, 5, "opened", 3, job_id=1, detail={"value": 8.5})]
    made.append(NewEvent(alert_id, 6, "resolved", 0))
    record.write(lambda connection: add_events(connection, made))
    with record.read() as connection:
        first, second = events_of(connection, alert_id)
        assert (first.kind, first.detail, second.kind) == ("opened", {"value": 8.5}, "resolved")
        assert events_after(connection, first.event_id, limit=5) == [second]
