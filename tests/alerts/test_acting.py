"""What people do about alerts: they have them, silence them, or resolve them by hand."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from squash_api.accounts.accounts import Account
from squash_api.accounts.keys import Key
from squash_api.errors import (
    AlertChangedError,
    ForbiddenError,
    InvalidInputError,
    MissingFieldError,
    NotFoundError,
)
from squash_api.judging.alert_texts import alert_line
from squash_api.record.alerts import AlertRow, change_alert, events_of, get_alert, is_put_aside
from squash_api.record.audit import Actor
from squash_api.record.record import Connection
from squash_api.record.silences import (
    active_silences,
    list_silences,
    silencing,
    unfinished_silences,
)
from squash_api.site import Site
from tests.support.builders import add_test_user, make_settings, with_record
from tests.support.made_alerts import DAY_NS, METRIC, open_alerts

ADA, BOB = Actor(user_id=1), Actor(user_id=2)
SEEN = {"severity": "CRITICAL", "note": "I look into it"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = with_record(make_settings(tmp_path_factory.mktemp("site")))
    with Site(settings) as site:
        add_test_user(site.record, "ada")
        add_test_user(site.record, "bob")
        document = {"description": "d", "unit": "mmag"}
        admin = Account(1, "ada", "admin", 1)
        for name in (METRIC, "demo.PA", "demo.PA2", "dem.a"):
            site.definitions.post_one("metric", name, document, admin)
        limit = {"threshold": {"operator": "<=", "value": 8.0, "unit": "mmag"}}
        alert = {"alert": {"per": ["dataset", "filter"]}}
        site.definitions.post_one("spec", f"{METRIC}.minimum", limit | alert, admin)
        yield site


def read(site: Site, alert_id: int) -> AlertRow:
    with site.record.read() as connection:
        row = get_alert(connection, alert_id)
    assert row is not None
    return row


def kinds(site: Site, alert_id: int) -> list[str]:
    with site.record.read() as connection:
        return [event.kind for event in events_of(connection, alert_id)]


def worsen(site: Site, alert_id: int, severity: int) -> None:
    def work(connection: Connection) -> None:
        row = get_alert(connection, alert_id)
        assert row is not None
        assert change_alert(connection, row, severity=severity, worst=severity)

    site.record.write(work)


def test_whoever_acknowledges_has_the_alert(site: Site) -> None:
    (alert_id,) = open_alerts(site.record)
    given = {**SEEN, "link": "https://jira.example/1", "until": "2199-01-31"}
    (row,) = site.acting.acknowledge(alert_id, given, by=ADA)
    assert row == read(site, alert_id)
    assert (row.state, row.acknowledged_by, row.acknowledged_severity) == ("acknowledged", 1, 3)
    assert (row.note, row.link) == ("I look into it", "https://jira.example/1")
    # A mere day is all of it.
    assert row.acknowledged_until_ns is not None
    assert (row.acknowledged_until_ns + 1) % DAY_NS == 0
    with site.record.read() as connection:
        event = events_of(connection, alert_id)[-1]
    assert (event.kind, event.user_id, event.severity) == ("acknowledged", 1, 3)
    assert event.detail["note"] == "I look into it"


def test_an_alert_that_is_worse_than_what_was_seen_is_not_acknowledged(site: Site) -> None:
    (alert_id,) = open_alerts(site.record, severity=2)
    worsen(site, alert_id, 3)
    with pytest.raises(AlertChangedError, match="is CRITICAL now, and you saw WARNING") as raised:
        site.acting.acknowledge(alert_id, {**SEEN, "severity": "warning"}, by=ADA)
    assert raised.value.detail[0].loc == ("body", "severity")
    assert read(site, alert_id).state == "open"


def test_nobody_has_seen_an_alert_worse_than_it_was(site: Site) -> None:
    (alert_id,) = open_alerts(site.record, severity=2)
    (row,) = site.acting.acknowledge(alert_id, SEEN, by=ADA)
    assert row.acknowledged_severity == 2


def test_the_same_acknowledgement_twice_is_one(site: Site) -> None:
    (alert_id,) = open_alerts(site.record)
    first = site.acting.acknowledge(alert_id, SEEN, by=ADA)
    assert site.acting.acknowledge(alert_id, SEEN, by=ADA) == first
    assert kinds(site, alert_id) == ["opened", "acknowledged"]


def test_somebody_else_may_take_over(site: Site) -> None:
    (alert_id,) = open_alerts(site.record)
    site.acting.acknowledge(alert_id, SEEN, by=ADA)
    (row,) = site.acting.acknowledge(alert_id, SEEN, by=BOB)
    assert row.acknowledged_by == 2
    assert kinds(site, alert_id) == ["opened", "acknowledged", "acknowledged"]


def test_a_whole_group_can_be_acknowledged_and_taken_back(site: Site) -> None:
    ids = open_alerts(site.record, *({"detector": str(number)} for number in range(3)))
    rows = site.acting.acknowledge(ids[1], {**SEEN, "group": True}, by=ADA)
    assert {row.alert_id for row in rows} == set(ids)
    assert {read(site, alert_id).acknowledged_by for alert_id in ids} == {1}
    rows = site.acting.release(ids[0], by=BOB, is_group=True)
    assert {row.state for row in rows} == {"open"}
    assert {row.acknowledged_by for row in rows} == {None}
    assert kinds(site, ids[2]) == ["opened", "acknowledged", "released"]


def test_a_group_is_as_bad_as_its_worst_alert(site: Site) -> None:
    ids = open_alerts(site.record, {"detector": "1"}, {"detector": "2"}, severity=2)
    worsen(site, ids[1], 3)
    with pytest.raises(AlertChangedError, match=r"An alert of the group .* is CRITICAL now"):
        site.acting.acknowledge(ids[0], {**SEEN, "severity": "WARNING", "group": True}, by=ADA)
    assert read(site, ids[0]).state == "open"


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"note": "n"}, "severity", "needs `severity`"),
        ({"severity": "CRITICAL"}, "note", "needs `note`"),
        ({**SEEN, "note": "  "}, "note", "must not be empty"),
        ({**SEEN, "note": 5}, "note", "must be text"),
        ({**SEEN, "note": "n" * 2001}, "note", "at most 2000"),
        ({**SEEN, "severity": "BAD"}, "severity", "not a level"),
        ({**SEEN, "severity": 3}, "severity", "not a level"),
        ({**SEEN, "link": "javascript:1"}, "link", "http or https"),
        ({**SEEN, "until": "2001-01-01"}, "until", "after now"),
        ({**SEEN, "until": "soon"}, "until", "must be a date"),
        ({**SEEN, "group": "yes"}, "group", "true or false"),
        ({**SEEN, "untill": "8h"}, "untill", "did you mean `until`"),
    ],
)
@pytest.mark.sqlite
def test_what_is_wrong_with_an_acknowledgement_is_named(
    site: Site, given: dict[str, Any], place: str, words: str
) -> None:
    (alert_id,) = open_alerts(site.record)
    with pytest.raises(InvalidInputError, match=words) as raised:
        site.acting.acknowledge(alert_id, given, by=ADA)
    assert raised.value.detail[0].loc == ("body", place)
    assert isinstance(raised.value, MissingFieldError) is ("needs" in words)


def test_there_is_nothing_to_do_about_what_is_over_or_unknown(site: Site) -> None:
    (alert_id,) = open_alerts(site.record, time_ns=None)
    with pytest.raises(AlertChangedError, match="Nobody has this alert"):
        site.acting.release(alert_id, by=ADA)
    site.acting.resolve(alert_id, {}, by=ADA)
    for act in (
        lambda: site.acting.acknowledge(alert_id, SEEN, by=ADA),
        lambda: site.acting.release(alert_id, by=ADA),
        lambda: site.acting.resolve(alert_id, {}, by=ADA),
    ):
        with pytest.raises(AlertChangedError, match="is resolved since"):
            act()
    with pytest.raises(NotFoundError, match="no alert 9999"):
        site.acting.acknowledge(9999, SEEN, by=ADA)


def test_a_young_value_that_breaks_the_limit_is_not_resolved_by_hand(site: Site) -> None:
    (alert_id,) = open_alerts(site.record)
    with pytest.raises(AlertChangedError, match="breaks the limit"):
        site.acting.resolve(alert_id, {}, by=ADA)
    assert read(site, alert_id).state == "open"


@pytest.mark.parametrize(
    "other", [{"time_ns": 5}, {"broken": []}, {"branch": f"expect:{METRIC}.minimum"}]
)
def test_the_alert_of_a_series_that_reports_no_more_is_resolved_by_hand(
    site: Site, other: dict[str, Any]
) -> None:
    (alert_id,) = open_alerts(site.record, **other)
    row = site.acting.resolve(alert_id, {"note": "taken out"}, by=ADA)
    assert (row.state, row.severity, row.worst) == ("resolved", 0, 3)
    assert alert_line(row).endswith(": resolved by hand")
    with site.record.read() as connection:
        event = events_of(connection, alert_id)[-1]
    assert (event.kind, event.user_id, event.detail) == (
        "resolved",
        1,
        {"why": "by hand", "note": "taken out"},
    )


def test_a_late_series_that_is_resolved_by_hand_is_put_aside_until_something_comes(
    site: Site,
) -> None:
    branch, tags = f"expect:{METRIC}.design", {"filter": "r"}
    (alert_id,) = open_alerts(site.record, tags, branch=branch, job_id=5)

    def is_aside(**other: Any) -> bool:
        given: dict[str, Any] = {"branch": branch, "tags": tags, "job_id": 5, **other}
        with site.record.read() as connection:
            return is_put_aside(connection, METRIC, **given)

    assert not is_aside()
    site.acting.resolve(alert_id, {}, by=ADA)
    assert is_aside()
    assert not is_aside(job_id=6)
    assert not is_aside(tags={"filter": "i"})
    # One that has become well by itself is late again.
    (again,) = open_alerts(site.record, tags, branch=branch, job_id=5)

    def resolve(connection: Connection) -> None:
        row = get_alert(connection, again)
        assert row is not None
        assert change_alert(connection, row, state="resolved", severity=0)

    site.record.write(resolve)
    assert not is_aside()


def test_a_key_acts_only_on_its_packages(site: Site) -> None:
    (alert_id,) = open_alerts(site.record, time_ns=None)
    key = Key(1, "0", "ci", frozenset({"alerts:write"}), frozenset({"other"}))
    by = Account(1, "ada", "user", 1, key=key)
    for act in (
        lambda: site.acting.acknowledge(alert_id, SEEN, by=by),
        lambda: site.acting.release(alert_id, by=by),
        lambda: site.acting.resolve(alert_id, {}, by=by),
        lambda: site.acting.silence({"metric": METRIC, "until": "8h", "why": "w"}, by=by),
        lambda: site.acting.silence({"until": "8h", "why": "w"}, by=by),
    ):
        with pytest.raises(ForbiddenError, match="packages other"):
            act()


# Silences


@pytest.mark.sqlite
def test_a_silence_without_an_end_can_be_stored(site: Site) -> None:
    row = site.acting.silence({"until": "9999-12-31", "why": "w"}, by=ADA)
    assert row.until_ns == 2**63 - 1


def test_a_silence_lasts_from_one_day_through_another(site: Site) -> None:
    given = {"metric": METRIC, "tags": {"filter": "r"}, "why": "known"}
    row = site.acting.silence({**given, "from": "2190-01-01", "until": "2190-01-02"}, by=ADA)
    assert (row.user, row.metric, row.tags) == ("ada", METRIC, {"filter": "r"})
    assert row.until_ns - row.from_ns == 2 * DAY_NS - 1
    states = [
        row.state(now_ns)
        for now_ns in (row.from_ns - 1, row.from_ns, row.until_ns, row.until_ns + 1)
    ]
    assert states == ["planned", "active", "active", "over"]
    with site.record.read() as connection:
        assert row not in active_silences(connection, now_ns=row.from_ns - 1)
        assert row in unfinished_silences(connection, now_ns=row.from_ns - 1)
        assert row in active_silences(connection, now_ns=row.until_ns)
        assert row not in unfinished_silences(connection, now_ns=row.until_ns + 1)


@pytest.mark.parametrize(
    ("metric", "tags", "covered"),
    [
        (None, {}, [METRIC, "demo.PA", "dem.a"]),
        ("demo", {}, [METRIC, "demo.PA"]),
        (METRIC, {}, [METRIC]),
        ("demo.PA", {}, ["demo.PA"]),
        ("dem", {}, ["dem.a"]),
        ("demo.PA2", {}, []),
        (METRIC, {"filter": "r"}, [METRIC]),
        (METRIC, {"filter": "R"}, []),
        (METRIC, {"filter": "r", "dataset": "d"}, []),
    ],
)
@pytest.mark.sqlite
def test_a_silence_covers_the_series_that_have_its_tags(
    site: Site, metric: str | None, tags: dict[str, str], covered: list[str]
) -> None:
    row = site.acting.silence({"metric": metric, "tags": tags, "why": "w", "until": "2d"}, by=ADA)
    metrics = (METRIC, "demo.PA", "dem.a")
    tags = {"filter": "r", "detector": "3"}
    assert [metric for metric in metrics if row.covers(metric, tags)] == covered


def test_the_silence_that_lasts_longest_is_named(site: Site) -> None:
    long, short = (
        site.acting.silence({"until": until, "why": until}, by=ADA) for until in ("9d", "2d")
    )
    assert silencing([long, short], METRIC, {}) == long
    assert silencing([], METRIC, {}) is None


def test_a_silence_can_be_ended_once(site: Site) -> None:
    row = site.acting.silence({"until": "8h", "why": "w"}, by=ADA)
    ended = site.acting.end_silence(row.silence_id, by=BOB)
    assert (ended.state(time.time_ns()), ended.ended_by) == ("over", "bob")
    assert site.acting.end_silence(row.silence_id, by=ADA) == ended
    with site.record.read() as connection:
        assert list_silences(connection, limit=1) == [ended]
        assert ended not in list_silences(connection, before=ended.silence_id, limit=5)
    with pytest.raises(NotFoundError, match="no silence 9999"):
        site.acting.end_silence(9999, by=ADA)


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"why": "w"}, ("body", "until"), "needs `until`"),
        ({"until": "8h"}, ("body", "why"), "needs `why`"),
        ({"why": "w", "until": "2001-01-01"}, ("body", "until"), "after now"),
        (
            {"why": "w", "until": "2190-01-01", "from": "2190-01-02"},
            ("body", "until"),
            "after `from`",
        ),
        ({"why": "w", "until": "8h", "from": "x"}, ("body", "from"), "must be a date"),
        (
            {"why": "w", "until": "8h", "metric": "demo.PA11"},
            ("body", "metric"),
            "did you mean `demo.PA1`",
        ),
        ({"why": "w", "until": "8h", "tags": []}, ("body", "tags"), "must be an object"),
        (
            {"why": "w", "until": "8h", "tags": {"filtre": "r"}},
            ("body", "tags", "filtre"),
            "did you mean `filter`",
        ),
        (
            {"why": "w", "until": "8h", "tags": {"filter": ""}},
            ("body", "tags", "filter"),
            "text or a number",
        ),
        (
            {"why": "w", "until": "8h", "metric": METRIC, "tags": {"detector": 3}},
            ("body", "tags", "detector"),
            "not told apart by `detector`: by `dataset`, `filter`",
        ),
    ],
)
@pytest.mark.sqlite
def test_what_is_wrong_with_a_silence_is_named(
    site: Site, given: dict[str, Any], place: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words) as raised:
        site.acting.silence(given, by=ADA)
    assert raised.value.detail[0].loc == place
