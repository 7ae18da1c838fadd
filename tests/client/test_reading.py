import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import astropy.units as u
import httpx
import numpy as np
import pytest
from astropy.table import QTable

from squash_api.client import Job, Measurement, Squash, SquashClientError
from squash_api.client.reading import parameters, read_columns
from tests.support.calls import PASSWORD, log_in
from tests.support.fake_service import ROOT
from tests.support.in_process import service

HARD_NUMBERS = [0.1, -5e-324, 1.7976931348623157e308, 1 / 3, 1e22, 123456789.125]
HEAD = "time,job,metric,value,unit,filter,meta.airmass,meta.note.text\n"


@pytest.fixture
def squash(tmp_path: Path) -> Iterator[Squash]:
    """A client of a running service; the user ada is registered."""
    with service(tmp_path, url="http://in-process") as client:
        log_in(client, "ada")
        yield Squash("http://in-process", "ada", PASSWORD, transport=client._transport)


def bits(values: Any) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


def read(*rows: str, head: str = HEAD) -> dict[str, Any]:
    text = "".join([head, *(f"{row}\n" for row in rows)]).encode()
    return read_columns([text[:11], text[11:]])


def test_what_is_sent_is_read_back_to_the_last_bit(squash: Squash) -> None:
    for number, value in enumerate(HARD_NUMBERS):
        env = {"date": f"2026-01-0{number + 1}T00:00:00.123456789Z"}
        squash.send(Job([Measurement("p.m", value * u.mmag)], meta={"filter": "r", "env": env}))
    table = squash.measurements("p.m", filter="r")
    assert isinstance(table, QTable)
    assert table["value"].unit == u.mmag
    assert bits(table["value"].value) == bits(HARD_NUMBERS)
    assert table["time"][0] == np.datetime64("2026-01-01T00:00:00.123456789")
    assert [*table["job"]] == [1, 2, 3, 4, 5, 6]
    assert set(table["filter"]) == {"r"}


@pytest.mark.parametrize("text", ["=1+1", "'=1", "''-x", "-5", "@a", "+", "'a", '=1,"b"'])
def test_a_text_that_looks_like_a_formula_is_read_as_it_was_sent(squash: Squash, text: str) -> None:
    meta = {"filter": text, "note": text, "env": {"ci_id": text, "ci_name": "x"}}
    squash.send(Job([Measurement("p.m", -1.5 * u.mmag)], meta=meta))
    table = squash.measurements("p.m", fields="*")
    for name in ("filter", "run_id", "meta.note.text"):
        assert table[name].tolist() == [text]
    assert table["value"][0] == -1.5 * u.mmag


def test_a_service_for_users_only_is_read_with_a_password_or_a_key(tmp_path: Path) -> None:
    with service(tmp_path, url="http://in-process", read="users") as client:
        calls = log_in(client, "ada")
        made = calls("POST", "/keys", {"name": "x", "scopes": ["job:read", "job:write"]})
        for options in ({"user": "ada", "password": PASSWORD}, {"key": made.json()["key"]}):
            with Squash("http://in-process", transport=client._transport, **options) as squash:
                reply = squash.send(Job([Measurement("p.m", 1 * u.mmag)]))
                assert squash.wait(reply)["status"] == "SUCCESS"
                assert len(squash.measurements("p.m")) > 0
        nobody = Squash("http://in-process", transport=client._transport)
        with pytest.raises(SquashClientError, match="access token"):
            nobody.measurements("p.m")


def test_values_come_in_the_unit_that_is_asked_for(squash: Squash) -> None:
    squash.send(Job([Measurement("p.m", 1500 * u.mmag)]))
    assert squash.measurements("p.m", unit="mag")["value"][0] == 1.5 * u.mag


def test_values_of_different_units_are_numbers_beside_their_units(squash: Squash) -> None:
    squash.send(Job([Measurement("p.m", 1.5 * u.mmag), Measurement("p.n", 2.5 * u.s)]))
    table = squash.measurements()
    assert not isinstance(table["value"], u.Quantity)
    assert [(row["value"], row["unit"]) for row in table] == [(1.5, "mmag"), (2.5, "s")]


def test_jobs_are_chosen_by_time_metadata_and_all_else(squash: Squash) -> None:
    for number in range(4):
        meta = {
            "airmass": 1 + number / 10,
            "note": "good" if number % 2 else "bad",
            "env": {"date": f"2026-01-0{number + 1}", "ci_id": str(number)},
        }
        squash.send(Job([Measurement("p.m", float(number))], meta=meta))

    def found(**terms: Any) -> list[float]:
        return [float(value) for value in squash.measurements(**terms)["value"]]

    assert found(meta={"airmass": "1.1..1.2"}) == [1, 2]
    assert found(meta={"note": ["good"]}, since=datetime(2026, 1, 3)) == [3]  # noqa: DTZ001
    assert found(until=datetime(2026, 1, 2, tzinfo=UTC)) == [0, 1]
    assert found(run=["0", "3"]) == [0, 3]
    assert found(job=2) == [1]
    assert found(points=2) == [0, 3]
    assert found(package="p", limit=1) == [0]
    table = squash.measurements(fields=["meta.airmass", "meta.note.text"], job=4)
    assert (table["meta.airmass"][0], table["meta.note.text"][0]) == (1.3, "good")


def test_an_empty_answer_is_an_empty_table(squash: Squash) -> None:
    table = squash.measurements(since="1d")
    assert (len(table), table.colnames[:5]) == (0, ["time", "job", "metric", "value", "unit"])


def test_a_refused_question_shows_the_services_words(squash: Squash) -> None:
    with pytest.raises(SquashClientError, match="did you mean `filter`") as caught:
        squash.measurements(filtr="r")
    assert (caught.value.status_code, caught.value.code) == (422, "invalid_input")


def test_reading_needs_no_user_but_sending_does(tmp_path: Path) -> None:
    with service(tmp_path, url="http://in-process") as client:
        squash = Squash("http://in-process", transport=client._transport)
        assert len(squash.measurements()) == 0
        with pytest.raises(SquashClientError, match="needs a key, or a user and a password"):
            squash.send(Job([Measurement("p.m", 1.0)]))


def test_pandas_gets_the_columns(squash: Squash, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = ModuleType("pandas")
    pandas.DataFrame = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    squash.send(Job([Measurement("p.m", 0.1)]))
    frame = squash.measurements("p.m", as_pandas=True)
    assert (frame["metric"].tolist(), frame["value"].tolist()) == (["p.m"], [0.1])


def test_without_pandas_that_is_said(squash: Squash, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"as_pandas needs pandas.* pip install pandas"):
        squash.measurements(as_pandas=True)


def test_an_answer_that_breaks_off_is_an_error() -> None:
    def pieces() -> Iterator[bytes]:
        yield HEAD.encode()
        raise httpx.RemoteProtocolError("peer closed connection")

    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return pieces()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/":
            return httpx.Response(200, json={"measurements": f"{ROOT}/measurements"})
        return httpx.Response(200, stream=Broken())

    squash = Squash(ROOT, transport=httpx.MockTransport(answer))
    with pytest.raises(SquashClientError, match="peer closed connection"):
        squash.measurements()


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(SquashClientError, match="is this a SQuaSH service"):
        read(head="<html>\n")


def test_columns_have_the_types_of_what_is_in_them() -> None:
    found = read(
        '2026-01-01T00:00:00.000000007Z,7,p.m,0.1,mmag,"a ""b"",c",1.25,x',
        "2026-01-01T00:00:00.000000008Z,8,p.m,,mmag,,,",
    )
    assert found["time"].tolist() == [1767225600000000007, 1767225600000000008]
    assert (found["job"].dtype, found["job"].tolist()) == (np.int64, [7, 8])
    assert found["filter"].tolist() == ['a "b",c', ""]
    assert (found["value"][0], found["meta.airmass"][0]) == (0.1, 1.25)
    assert np.isnan(found["value"][1])
    assert np.isnan(found["meta.airmass"][1])
    assert found["meta.note.text"].tolist() == ["x", ""]


def test_only_a_newline_ends_a_line() -> None:
    assert read("2026-01-01T00:00:00Z,7,p\u2028.m,1,,\x0b,,")["metric"].tolist() == ["p\u2028.m"]


def test_a_question_becomes_parameters() -> None:
    given = {"metric": ["p.a", "p.b"], "absent": True, "unit": None, "fields": ["meta.a", "meta.b"]}
    assert parameters(given, {"visit": 7}) == [
        ("format", "csv"),
        ("metric", "p.a"),
        ("metric", "p.b"),
        ("absent", "true"),
        ("fields", "meta.a,meta.b"),
        ("meta.visit", "7"),
    ]
