from typing import Any

import pytest
from sqlalchemy import Connection

from squash_api.record.definitions import DefinitionRow, append_definitions
from squash_api.record.metrics import (
    MetricRow,
    Metrics,
    declare_metrics,
    known_units,
    metric_ids,
    metrics_since,
    note_metrics,
    withdraw_metrics,
)
from squash_api.record.record import Record
from squash_api.schema.names import Schema


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


def meet(record: Record, **units: str | None) -> None:
    named = {f"p.{name}": unit for name, unit in units.items()}
    record.write(lambda connection: note_metrics(connection, named))


def known(metrics: Metrics) -> dict[str, tuple[str | None, bool]]:
    return {name: (row.unit, row.is_declared) for name, row in metrics.now.by_name.items()}


def test_an_empty_record_has_no_metrics(record: Record) -> None:
    metrics = Metrics(record, Schema())
    assert (dict(metrics.now.by_name), metrics.now.revision) == ({}, 0)


def test_metrics_of_the_record_are_there_from_the_beginning(record: Record) -> None:
    meet(record, a="mag", b=None)
    assert known(Metrics(record, Schema())) == {"p.a": ("mag", False), "p.b": (None, False)}


def test_what_is_new_comes_with_the_next_refresh(record: Record) -> None:
    metrics = Metrics(record, Schema())
    meet(record, a="mag")
    assert not metrics.now.by_name
    metrics.refresh()
    assert set(metrics.now.by_name) == {"p.a"}


def test_what_has_changed_comes_with_the_next_refresh(record: Record) -> None:
    meet(record, a="mag", b=None)
    metrics = Metrics(record, Schema())
    record.write(lambda connection: declare_metrics(connection, {"p.a": "mmag"}))
    metrics.refresh()
    assert known(metrics)["p.a"] == ("mmag", True)
    record.write(lambda connection: withdraw_metrics(connection, ["p.a"]))
    metrics.refresh()
    assert known(metrics) == {"p.a": ("mmag", False), "p.b": (None, False)}


def test_the_revision_is_that_of_the_definitions(record: Record) -> None:
    metrics = Metrics(record, Schema())
    row = DefinitionRow(kind="metric", name="p.a", document={}, origin="api", created_ns=0)
    record.write(lambda connection: append_definitions(connection, [row, row]))
    metrics.refresh()
    assert metrics.now.revision == 2


def test_a_metric_whose_name_has_become_a_tag_is_left_out(record: Record) -> None:
    meet(record, site="mag", a="mag")
    assert set(Metrics(record, Schema(("site",))).now.by_name) == {"p.a"}


def test_the_metrics_cannot_be_changed_by_who_reads_them(record: Record) -> None:
    empty = Metrics(record, Schema())
    meet(record, a="mag")
    for metrics in (empty, Metrics(record, Schema())):
        with pytest.raises(TypeError):
            metrics.now.by_name["p.b"] = None  # type: ignore[index]


def test_what_was_read_before_stays_as_it_was(record: Record) -> None:
    meet(record, a="mag")
    metrics = Metrics(record, Schema())
    before = metrics.now.by_name
    meet(record, b="mag")
    metrics.refresh()
    assert (set(before), set(metrics.now.by_name)) == ({"p.a"}, {"p.a", "p.b"})


def test_metrics_are_known_as_of_any_state_that_is_still_read(record: Record) -> None:
    meet(record, a="mag")
    metrics = Metrics(record, Schema())
    with record.read() as connection:
        assert metrics.as_of(connection).version == 1
        meet(record, b="s")
        metrics.refresh()
        assert set(metrics.as_of(connection).by_name) == {"p.a"}
    meet(record, c="s")
    with record.read() as connection:
        assert set(metrics.as_of(connection).by_name) == {"p.a", "p.b", "p.c"}
    assert set(metrics.now.by_name) == {"p.a", "p.b", "p.c"}


def test_metrics_that_are_not_committed_are_not_kept(record: Record) -> None:
    metrics = Metrics(record, Schema())

    def work(connection: Any) -> None:
        declare_metrics(connection, {"p.a": "mag"})
        metrics.as_of(connection)

    with pytest.raises(ValueError, match="undone"):
        record.write(work)
    assert metrics.now.version == 0
