import json
from typing import Any

import pytest
from sqlalchemy import Connection

from squash_api.record.definitions import (
    DefinitionRow,
    append_definitions,
    current,
    expected_since,
    in_force,
    one,
    owner_of,
)
from squash_api.record.record import Record


def _row(name: str, document: dict[str, Any] | None = None, **changes: Any) -> DefinitionRow:
    fields: dict[str, Any] = {
        "kind": "metric",
        "name": name,
        "document": document,
        "origin": "api",
        "user_id": 1,
        "created_ns": 5,
    }
    return DefinitionRow(**(fields | changes))


def _append(record: Record, *rows: DefinitionRow) -> int:
    return record.write(lambda connection: append_definitions(connection, rows))


def test_a_definition_comes_back_as_it_was_stored(record: Record) -> None:
    document = {"unit": "mag", "tags": ["ß", "b\0"]}
    _append(record, _row("p.a", document, origin="yaml", source="p/metrics/p.yaml:3", user_id=None))
    with record.read() as connection:
        found = one(connection, "metric", "p.a")
    expected = _row(
        "p.a", document, revision=1, origin="yaml", source="p/metrics/p.yaml:3", user_id=None
    )
    assert found == expected


def test_the_newest_row_of_a_name_is_current(record: Record) -> None:
    _append(record, _row("p.a", {"unit": "mag"}), _row("p.b", {"unit": ""}))
    _append(record, _row("p.a", {"unit": "mmag"}))
    with record.read() as connection:
        units = {name: row.document for name, row in current(connection, "metric").items()}
    assert units == {"p.a": {"unit": "mmag"}, "p.b": {"unit": ""}}


def test_a_name_that_was_taken_away_is_not_current(record: Record) -> None:
    _append(record, _row("p.a", {"unit": "mag"}))
    _append(record, _row("p.a"))
    with record.read() as connection:
        assert one(connection, "metric", "p.a") is None
        assert current(connection, "metric") == {}


def test_a_name_of_the_other_kind_is_another_name(record: Record) -> None:
    _append(record, _row("p.a", {"unit": "mag"}))
    with record.read() as connection:
        assert one(connection, "spec", "p.a") is None


def test_in_force_is_what_was_defined_at_the_revision(record: Record) -> None:
    first = _append(record, _row("p.a", {"unit": "mag"}))
    second = _append(record, _row("p.a", {"unit": "mmag"}), _row("p.b", {"unit": ""}))
    third = _append(record, _row("p.a"))
    with record.read() as connection:
        states = [
            {name: row.document for name, row in in_force(connection, "metric", revision).items()}
            for revision in (0, first, second, third)
        ]
    assert states == [
        {},
        {"p.a": {"unit": "mag"}},
        {"p.a": {"unit": "mmag"}, "p.b": {"unit": ""}},
        {"p.b": {"unit": ""}},
    ]


def test_current_takes_more_names_than_one_statement_can(record: Record) -> None:
    _append(record, *[_row(f"p.m{i}", {"i": i}) for i in range(50)])
    names = [f"p.m{i}" for i in range(40_000)]
    with record.read() as connection:
        assert len(current(connection, "metric", names=names)) == 50


def test_the_owner_is_who_defined_it_not_who_changed_it(record: Record) -> None:
    _append(record, _row("p.a", {"unit": "mag"}, user_id=1))
    _append(record, _row("p.a", {"unit": "mmag"}, user_id=2))
    with record.read() as connection:
        assert owner_of(connection, "metric", "p.a") == 1


@pytest.mark.parametrize("between", [_row("p.a"), _row("p.a", {}, origin="yaml", user_id=None)])
def test_a_name_is_owned_by_whoever_defines_it_anew(record: Record, between: DefinitionRow) -> None:
    _append(record, _row("p.a", {"unit": "mag"}, user_id=1))
    _append(record, between)
    _append(record, _row("p.a", {"unit": "mag"}, user_id=2))
    with record.read() as connection:
        assert owner_of(connection, "metric", "p.a") == 2


def test_the_document_is_stored_as_ascii_text(record: Record) -> None:
    _append(record, _row("p.a", {"unit": "µ\0"}))
    with record.read() as connection:
        text = connection.exec_driver_sql("select document from definition").scalar_one()
    assert text.isascii()
    assert "\0" not in text
    assert json.loads(text) == {"unit": "µ\0"}


# What is expected


def spec_row(name: str, created_ns: int, document: dict[str, Any] | None) -> DefinitionRow:
    return DefinitionRow(
        kind="spec", name=name, document=document, origin="api", user_id=1, created_ns=created_ns
    )


def test_the_clock_of_an_expectation_begins_with_it_and_goes_on_while_it_is_there(
    connection: Connection,
) -> None:
    expecting = {"expect": {"every": "24h"}}
    rows = [
        spec_row("p.a.never", 1, {}),
        spec_row("p.a.always", 2, expecting),
        spec_row("p.a.later", 3, {}),
        spec_row("p.a.again", 4, expecting),
        spec_row("p.a.always", 5, expecting | {"tags": ["x"]}),
        spec_row("p.a.later", 6, expecting),
        spec_row("p.a.again", 7, None),
        spec_row("p.a.again", 8, expecting),
        spec_row("p.a.gone", 9, expecting),
        spec_row("p.a.gone", 10, None),
    ]
    append_definitions(connection, rows)
    names = {row.name for row in rows}
    assert expected_since(connection, names) == {"p.a.always": 2, "p.a.later": 6, "p.a.again": 8}
    assert expected_since(connection, ["p.a.later"]) == {"p.a.later": 6}
