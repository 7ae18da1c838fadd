import time
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, delete, update
from sqlalchemy.exc import IntegrityError

from squash_api.record.audit import ACTIONS, UNKNOWN, Actor, Noted, list_noted, note
from squash_api.record.record import Record
from squash_api.record.tables import audit

ADA = Actor(user_id=1, address="192.0.2.7")


def noted(record: Record, **filters: Any) -> list[Noted]:
    with record.read() as connection:
        return list_noted(connection, **({"limit": 100} | filters))


def _note(connection: Connection, *, given: tuple[Actor, str, str], **options: Any) -> None:
    note(connection, *given, **options)


def write(record: Record, *entries: tuple[Actor, str, str], **options: Any) -> None:
    for actor, action, subject in entries:
        given = (actor, action, subject)
        record.write(partial(_note, given=given, **options))


def test_an_entry_tells_who_did_what_when_and_from_where(record: Record) -> None:
    before_ns = time.time_ns()
    write(record, (ADA, "job.delete", "12"), owner=7)
    (entry,) = noted(record)
    assert before_ns <= entry.time_ns <= time.time_ns()
    assert (entry.user, entry.address, entry.action, entry.subject, entry.detail) == (
        "ada",
        "192.0.2.7",
        "job.delete",
        "12",
        {"owner": 7},
    )
    assert entry.to_json()["time"].endswith("Z")


def test_a_command_and_somebody_unknown_are_told_apart(record: Record) -> None:
    write(record, (Actor(command="squash user add (root)"), "user.add", "eve"))
    write(record, (UNKNOWN, "user.register", "eve"))
    unknown, command = noted(record)
    assert (command.user, command.command) == (None, "squash user add (root)")
    assert (unknown.user, unknown.command) == (None, None)


@pytest.mark.parametrize("statement", [update(audit).values(subject="x"), delete(audit)])
def test_the_trail_is_append_only(record: Record, statement: Any) -> None:
    write(record, (ADA, "job.delete", "12"))
    before = noted(record)

    def tamper(connection: Connection) -> None:
        connection.execute(statement)

    with pytest.raises(IntegrityError, match="append-only"):
        record.write(tamper)
    assert noted(record) == before


def test_an_action_that_nobody_knows_is_not_noted(record: Record) -> None:
    with pytest.raises(KeyError):
        write(record, (ADA, "job.paint", "12"))
    assert noted(record) == []


def test_a_change_that_fails_is_not_noted(record: Record) -> None:
    def work(connection: Connection) -> None:
        note(connection, ADA, "job.delete", 12)
        raise ValueError

    with pytest.raises(ValueError):
        record.write(work)
    assert noted(record) == []


def test_what_strangers_bring_about_is_noted_once_in_a_while(record: Record) -> None:
    limited = (Actor(address="192.0.2.7"), "login.limited", "ada")
    for _ in range(50):
        write(record, limited, once_in_s=3600)
    write(record, (limited[0], "login.limited", "bob"), once_in_s=3600)
    assert [entry.subject for entry in noted(record)] == ["bob", "ada"]
    write(record, limited, once_in_s=1e-6)
    assert len(noted(record)) == 3


def test_a_clock_that_was_ahead_silences_nothing(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = (Actor(address="192.0.2.7"), "login.limited", "ada")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 10**18)
    write(record, limited, once_in_s=3600)
    monkeypatch.setattr(time, "time_ns", real)
    write(record, limited, once_in_s=3600)
    assert len(noted(record)) == 2


def test_a_subject_is_cut(record: Record) -> None:
    write(record, (ADA, "job.delete", "x" * 10_000))
    assert len(noted(record)[0].subject) == 500


def test_the_newest_come_first_page_by_page(record: Record) -> None:
    write(record, *((ADA, "job.delete", str(number)) for number in range(5)))
    first = noted(record, limit=3)
    rest = noted(record, limit=3, before=first[-1].entry_id)
    assert [entry.subject for entry in first + rest] == ["4", "3", "2", "1", "0"]


def test_entries_are_found_by_user_action_and_time(record: Record) -> None:
    write(record, (ADA, "job.delete", "1"), (Actor(user_id=2), "job.delete", "2"))
    between_ns = time.time_ns()
    write(record, (ADA, "key.create", "3"), (UNKNOWN, "key.revoke", "4"))

    def subjects(**filters: Any) -> str:
        return "".join(entry.subject for entry in noted(record, **filters))

    assert subjects(user_name="ada") == "31"
    assert subjects(user_name="nobody") == ""
    assert subjects(action="job.delete") == "21"
    assert subjects(action="key") == "43"
    assert subjects(action="nothing") == ""
    assert subjects(since_ns=between_ns) == "43"
    assert subjects(until_ns=between_ns) == "21"
    assert subjects(user_name="ada", action="key", since_ns=between_ns) == "3"


def test_every_action_has_a_noun() -> None:
    assert all(name.count(".") == 1 and len(name) <= 64 for name in ACTIONS)
