from sqlalchemy import Connection

from squash_api.record.metrics import (
    MetricRow,
    declare_metrics,
    known_units,
    metric_ids,
    metrics_since,
    note_metrics,
    withdraw_metrics,
)


def rows(connection: Connection, *, since: int = 0) -> dict[str, tuple[str | None, bool]]:
    return {row.name: (row.unit, row.is_declared) for row in metrics_since(connection, since)}


def version(connection: Connection) -> int:
    return max(row.version for row in metrics_since(connection, 0))


def test_a_record_begins_without_metrics(connection: Connection) -> None:
    assert metrics_since(connection, 0) == []


def test_a_metric_that_is_met_is_undeclared(connection: Connection) -> None:
    note_metrics(connection, {"p.a": "mag", "p.b": None})
    assert rows(connection) == {"p.a": ("mag", False), "p.b": (None, False)}


def test_meeting_gives_a_unit_to_a_metric_that_had_none(connection: Connection) -> None:
    note_metrics(connection, {"p.a": None})
    note_metrics(connection, {"p.a": "mag"})
    assert rows(connection) == {"p.a": ("mag", False)}


def test_meeting_changes_no_unit(connection: Connection) -> None:
    note_metrics(connection, {"p.a": "mag"})
    note_metrics(connection, {"p.a": None})
    note_metrics(connection, {"p.a": "s"})
    assert rows(connection) == {"p.a": ("mag", False)}


def test_meeting_a_declared_metric_leaves_it_declared(connection: Connection) -> None:
    declare_metrics(connection, {"p.a": "mag"})
    note_metrics(connection, {"p.a": "s"})
    assert rows(connection) == {"p.a": ("mag", True)}


def test_meeting_what_is_known_is_no_news(connection: Connection) -> None:
    note_metrics(connection, {"p.a": "mag"})
    before = version(connection)
    note_metrics(connection, {"p.a": "mag"})
    assert metrics_since(connection, before) == []


def test_declaring_sets_the_unit(connection: Connection) -> None:
    note_metrics(connection, {"p.a": "mag"})
    declare_metrics(connection, {"p.a": "mmag", "p.b": ""})
    assert rows(connection) == {"p.a": ("mmag", True), "p.b": ("", True)}


def test_a_withdrawn_metric_keeps_its_unit(connection: Connection) -> None:
    declare_metrics(connection, {"p.a": "mag"})
    withdraw_metrics(connection, ["p.a", "p.unknown"])
    assert rows(connection) == {"p.a": ("mag", False)}


def test_every_change_is_news_once(connection: Connection) -> None:
    note_metrics(connection, {"p.a": None, "p.b": None})
    before = version(connection)
    declare_metrics(connection, {"p.a": "mag"})
    assert rows(connection, since=before) == {"p.a": ("mag", True)}
    assert rows(connection, since=version(connection)) == {}


def test_news_come_in_the_order_of_the_changes(connection: Connection) -> None:
    note_metrics(connection, {"p.a": None})
    note_metrics(connection, {"p.b": None})
    declare_metrics(connection, {"p.a": "mag"})
    assert [row.name for row in metrics_since(connection, 0)] == ["p.b", "p.a"]


def test_a_metric_keeps_its_id(connection: Connection) -> None:
    note_metrics(connection, {"p.a": None})
    before = metric_ids(connection, ["p.a"])
    declare_metrics(connection, {"p.a": "mag"})
    assert metric_ids(connection, ["p.a"]) == before
    row = MetricRow("mag", is_declared=True, metric_id=before["p.a"], name="p.a", version=2)
    assert metrics_since(connection, 0) == [row]


def test_only_known_names_are_found(connection: Connection) -> None:
    note_metrics(connection, {"p.a": "mag", "p.b": None})
    assert known_units(connection, ["p.a", "p.b", "p.c"]) == {"p.a": "mag", "p.b": None}
    assert set(metric_ids(connection, ["p.a", "p.c"])) == {"p.a"}


def test_any_number_of_names_can_be_asked_for(connection: Connection) -> None:
    names = [f"p.m{number}" for number in range(20_001)]
    note_metrics(connection, dict.fromkeys(names, "s"))
    assert len(metric_ids(connection, names)) == len(known_units(connection, names)) == 20_001


def test_no_names_are_no_question(connection: Connection) -> None:
    note_metrics(connection, {})
    assert (metric_ids(connection, []), known_units(connection, [])) == ({}, {})
