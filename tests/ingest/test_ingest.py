import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from squash_api.accounts.accounts import Account
from squash_api.errors import (
    InvalidInputError,
    MalformedJsonError,
    RecordUnavailableError,
    SkippedInStrictModeError,
    UnauthorizedError,
)
from squash_api.ingest import ingest
from squash_api.ingest.ingest import (
    WIRES,
    Budget,
    Ingested,
    can_read,
    digest_of,
    ingest_job,
    wire_of,
)
from squash_api.ingest.stored_job import load_job
from squash_api.record.jobs import Received, get_job, last_job_id
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.record.storing import JobStore, NewJob, Stale
from squash_api.record.usage import Limits
from squash_api.record.users import change_user
from squash_api.schema.names import Schema
from squash_api.wires.parts import Parts
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job


@pytest.fixture
def record(empty_record: Record) -> Record:
    return empty_record


@pytest.fixture
def account(record: Record) -> Account:
    return Account(add_test_user(record), "ada", "user", 1)


@pytest.fixture
def metrics(record: Record) -> Metrics:
    return Metrics(record, Schema())


async def take(
    record: Record,
    account: Account,
    metrics: Metrics,
    body: bytes | Received,
    *,
    is_strict: bool = False,
) -> Ingested:
    return await ingest_job(
        Received(body) if isinstance(body, bytes) else body,
        account=account,
        record=record,
        metrics=metrics,
        received_ns=record.now_ns(),
        is_strict=is_strict,
        budget=Budget(Limits()),
    )


def stored_jobs(record: Record) -> int:
    with record.read() as connection:
        return last_job_id(connection)


async def test_the_bytes_are_kept_as_received(
    record: Record, account: Account, metrics: Metrics
) -> None:
    body = b' {"measurements" : [ ], "unknown": 1e3 }\n'
    found = await take(record, account, metrics, body)
    with record.read() as connection:
        row = get_job(connection, found.stored.job_id)
    assert row is not None
    assert row.body == body


async def test_the_job_is_on_the_disk_when_it_is_accepted(
    record: Record, account: Account, metrics: Metrics, tmp_path: Path
) -> None:
    found = await take(record, account, metrics, make_body(measured()))
    other = open_record(tmp_path)
    try:
        assert stored_jobs(other) == found.stored.job_id
    finally:
        other.close()


async def test_a_metric_that_was_met_is_known_at_once(
    record: Record, account: Account, metrics: Metrics
) -> None:
    found = await take(record, account, metrics, make_body(measured("p.new", 1.0, "mag")))
    assert found.outcome.new_units == {"p.new": "mag"}
    assert metrics.now.by_name["p.new"].unit == "mag"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", MalformedJsonError),
        (b"[]", InvalidInputError),
        (b'{"measurements": 1}', InvalidInputError),
        (b'{"meta": ' + b'{"a":' * 400 + b"1" + b"}" * 401, InvalidInputError),
    ],
)
async def test_of_what_is_no_job_nothing_is_stored(
    record: Record,
    account: Account,
    metrics: Metrics,
    body: bytes,
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        await take(record, account, metrics, body)
    assert stored_jobs(record) == 0


async def test_strict_mode_names_each_place_and_meets_no_metric(
    record: Record, account: Account, metrics: Metrics
) -> None:
    body = make_body(
        measured("p.a", 1), measured("p.b", "x"), measured("p.a", 2), measured("p.a", "y")
    )
    with pytest.raises(SkippedInStrictModeError, match="4 of 4 measurements would be") as caught:
        await take(record, account, metrics, body, is_strict=True)
    assert [item.loc[-1] for item in caught.value.detail] == [0, 2, 3, 1]
    assert (stored_jobs(record), dict(metrics.now.by_name)) == (0, {})


async def test_a_user_who_was_disabled_meanwhile_stores_nothing(
    record: Record, account: Account, metrics: Metrics
) -> None:
    record.write(lambda connection: change_user(connection, "ada", is_disabled=True))
    with pytest.raises(UnauthorizedError, match="User does not exist"):
        await take(record, account, metrics, make_body(measured()))
    assert stored_jobs(record) == 0


async def test_a_second_service_judges_by_what_the_first_has_learned(
    record: Record, account: Account, metrics: Metrics
) -> None:
    behind = Metrics(record, Schema())
    await take(record, account, metrics, make_body(measured("p.a", 1, "mag")))
    assert "p.a" not in behind.now.by_name
    found = await take(record, account, behind, make_body(measured("p.a", 1, "m")))
    assert [skip.metric for skip in found.outcome.skipped] == ["p.a"]


async def test_of_two_first_values_at_once_one_gives_the_unit(
    record: Record, account: Account, metrics: Metrics
) -> None:
    bodies = [make_body(measured("p.a", 1, unit)) for unit in ("mag", "m") * 5]
    found = await asyncio.gather(*(take(record, account, metrics, body) for body in bodies))
    kept = [item.outcome.kept for item in found]
    skipped = [len(item.outcome.skipped) for item in found]
    assert (sum(kept), sum(skipped)) == (5, 5)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "no env.date: the time of receipt is used"),
        ({"env": {"date": "soon"}}, "env.date is not an ISO 8601 date"),
    ],
)
async def test_a_time_that_was_not_asked_for_is_noted(
    record: Record, account: Account, metrics: Metrics, changes: Any, note: str
) -> None:
    found = await take(record, account, metrics, make_body(measured(), **changes))
    assert note in found.outcome.notes[0]
    assert found.stored.time_ns == found.stored.received_ns


async def test_bare_tokens_are_noted(record: Record, account: Account, metrics: Metrics) -> None:
    body = json.dumps({"measurements": [measured("p.a", float("nan"))]}).encode()
    found = await take(record, account, metrics, body)
    assert "1 bare NaN or Infinity in the body were read as null" in found.outcome.notes


async def test_it_gives_up_where_the_metrics_never_hold_still(
    record: Record,
    account: Account,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def store_none(
        _store: JobStore, _connection: Connection, items: Sequence[NewJob], /
    ) -> list[Stale]:
        return [Stale() for _ in items]

    monkeypatch.setattr(JobStore, "short", store_none)
    with pytest.raises(RecordUnavailableError, match="changing too fast"):
        await take(record, account, metrics, make_body(measured()))


async def test_a_job_is_deliverable_if_it_has_a_value(
    record: Record, account: Account, metrics: Metrics
) -> None:
    jobs = [
        await take(record, account, metrics, make_body(measured("p.a", value)))
        for value in (1.0, None)
    ]
    with record.read() as connection:
        rows = [get_job(connection, job.stored.job_id) for job in jobs]
    assert [row.is_deliverable for row in rows if row] == [True, False]


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ({"measurement": []}, "the key `measurement` has no meaning in a job and was ignored; did"),
        ({"Meta": {}}, "the key `Meta` has no meaning in a job and was ignored"),
        ({"measurements": [measured() | {"units": "m"}]}, "the key `units` has no meaning"),
    ],
)
async def test_a_key_without_meaning_is_noted(
    record: Record, account: Account, metrics: Metrics, body: dict[str, Any], note: str
) -> None:
    found = await take(record, account, metrics, json.dumps(body).encode())
    assert any(text.startswith(note) for text in found.outcome.notes)


async def test_a_missing_unit_is_noted(record: Record, account: Account, metrics: Metrics) -> None:
    await take(record, account, metrics, make_body(measured("p.a", 1.0, "mmag")))
    body = make_body(*({"metric": "p.a", "value": 2.0, "unit": None},))
    found = await take(record, account, metrics, body)
    assert "no unit given, the metric's is taken if it has one: p.a" in found.outcome.notes


@pytest.mark.parametrize("unit", ["", "mmag"])
async def test_a_unit_that_is_not_missing_is_not_noted(
    record: Record, account: Account, metrics: Metrics, unit: str
) -> None:
    for _ in range(2):
        item = {"metric": "p.a", "value": 2.0, "unit": unit}
        found = await take(record, account, metrics, make_body(item))
        assert not any("unit" in note for note in found.outcome.notes)


# What came by another wire


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wire whose bodies are a number, and whose address is the metric."""

    def read(body: bytes, address: str | None) -> Parts:
        if not body.isdigit():
            raise InvalidInputError("No number.")
        item = {"metric": address, "value": float(body), "identifier": f"{address}1"}
        return Parts([item], {"visit": 5}, places=[("body", "number")])

    monkeypatch.setattr(ingest, "WIRES", {**WIRES, "toy": wire_of(read)})


async def take_toy(
    record: Record,
    account: Account,
    metrics: Metrics,
    body: bytes,
    metric: str = "p.a",
    **how: bool,
) -> Ingested:
    return await take(record, account, metrics, Received(body, "toy", metric), **how)


@pytest.mark.usefixtures("toy")
async def test_what_came_by_a_wire_is_kept_as_it_came_and_read_by_that_wire(
    record: Record, account: Account, metrics: Metrics
) -> None:
    await take_toy(record, account, metrics, b"0007")
    with record.read() as connection:
        row, job = load_job(connection, 1)
    assert row.received == Received(b"0007", "toy", "p.a")
    assert [(item.metric, item.value) for item in job.measurements] == [("p.a", 7.0)]
    assert job.meta == {"visit": 5}


@pytest.mark.usefixtures("toy")
async def test_the_same_job_by_a_wire_is_stored_once_whatever_its_bytes(
    record: Record, account: Account, metrics: Metrics
) -> None:
    sent = [await take_toy(record, account, metrics, body) for body in (b"7", b"07", b"8")]
    assert [item.stored.job_id for item in sent] == [1, 1, 2]
    assert [item.stored.is_repeat for item in sent] == [False, True, False]
    assert sent[2].stored.same_measurements_as == 1


@pytest.mark.usefixtures("toy")
async def test_a_measurement_is_named_by_its_place_in_the_wires_body(
    record: Record, account: Account, metrics: Metrics
) -> None:
    with pytest.raises(SkippedInStrictModeError) as caught:
        await take_toy(record, account, metrics, b"7", "nothing", is_strict=True)
    assert caught.value.detail[0].loc == ("body", "number")
    with pytest.raises(InvalidInputError, match="No number"):
        await take_toy(record, account, metrics, b"x")
    assert stored_jobs(record) == 0


def test_what_only_a_later_release_can_read_measures_nothing(record: Record) -> None:
    add_test_user(record)
    later = Received(b"\x00", "later")
    store_job(record, body=later.body, wire=later.wire)
    with record.read() as connection:
        assert not load_job(connection, 1)[1].measurements
    assert (can_read(later), can_read(Received(b"{]"))) == (True, False)
    assert digest_of(later) != digest_of(Received(b"\x00", "still later"))
