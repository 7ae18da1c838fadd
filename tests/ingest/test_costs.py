"""What one job, or one request, may cost: counted in work, not in time."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash_api.errors import MOST_PLACES
from squash_api.ingest import assessment, document
from squash_api.ingest.assessment import MOST_CONVERSIONS
from squash_api.ingest.ingest import SMALL_BYTES
from squash_api.routes.replies import MOST_LISTED
from squash_api.verify import units
from tests.support.builders import measured
from tests.support.calls import Calls, log_in
from tests.support.in_process import service

JSON = {"Content-Type": "application/json"}
MOST_BYTES = 64_000
"""No reply to what is refused is longer."""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    with service(tmp_path_factory.mktemp("service")) as client:
        yield log_in(client, "ada")


class Parses(list[str]):
    """The texts that astropy was asked to read, and in which threads."""

    threads: set[str]


@pytest.fixture
def parses() -> Iterator[Parses]:
    noted = Parses()
    noted.threads = set()
    # What other tests have read is known.
    for cached in (assessment._conversion, units.canonical_unit, units.converter, units._parsed):
        cached.cache_clear()
    units._wrong.clear()
    inner = units._parse

    def parse(text: str) -> Any:
        noted.append(text)
        noted.threads.add(threading.current_thread().name)
        return inner(text)

    with patch.object(units, "_parse", parse):
        yield noted


def post(calls: Calls, body: bytes | Any, path: str = "/job") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return calls("POST", path, content=content, headers=JSON)


def job_with_units(*given: str, start: str = "p.m") -> dict[str, Any]:
    return {
        "measurements": [
            measured(f"{start}{number}", 1.0, unit) for number, unit in enumerate(given)
        ]
    }


# Units


def test_a_job_with_thousands_of_different_wrong_units_is_refused_after_a_few(
    calls: Calls, parses: Parses
) -> None:
    reply = post(calls, job_with_units(*(f"banana{number}" for number in range(6000))))
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
    assert f"more than {MOST_CONVERSIONS} different units" in reply.json()["message"]
    assert len(parses) <= MOST_CONVERSIONS


def test_so_is_one_with_as_many_right_units(calls: Calls, parses: Parses) -> None:
    reply = post(calls, job_with_units(*(f"1.{number} m" for number in range(1, 3000))))
    assert reply.status_code == 422
    assert len(parses) <= 2 * MOST_CONVERSIONS + 2


def test_units_that_a_job_brings_are_not_read_where_all_requests_wait(
    calls: Calls, parses: Parses
) -> None:
    reply = post(calls, job_with_units("furlong", "pear", "lyr / fortnight"))
    assert reply.status_code == 202
    assert parses
    assert all(name.startswith("judge") for name in parses.threads)


def test_a_wrong_unit_is_read_once_however_often_it_is_sent_and_shown(
    calls: Calls, parses: Parses
) -> None:
    found = post(calls, job_with_units("kumquat", start="p.once")).json()
    assert found["skipped"]
    before = parses.count("kumquat")
    for _ in range(3):
        post(calls, job_with_units("kumquat", start="p.again"))
        for path in (
            f"/job/{found['id']}",
            f"/status/{found['id']}",
            f"/measurement/{found['id']}",
        ):
            assert calls("GET", path).status_code == 200
    # Units of other jobs may be read beside it.
    assert parses.count("kumquat") == before


def test_wrong_units_do_not_push_out_right_ones(parses: Parses) -> None:
    units.canonical_unit("lyr / fortnight")
    for number in range(units._MOST_WRONG + 10):
        with (
            pytest.raises(units.UnitError),
            patch.object(units, "_parse", side_effect=ValueError),
        ):
            units.canonical_unit(f"lemon{number}")
    assert len(units._wrong) <= units._MOST_WRONG
    before = len(parses)
    units.canonical_unit("lyr / fortnight")
    assert len(parses) == before


@pytest.mark.parametrize(
    "text", ["m" * 101, "m * " * 5000, "(" * 10_000, "9**99999", "m" + "²" * 200]
)
def test_a_long_or_huge_text_is_never_read_as_a_unit(
    calls: Calls, parses: Parses, text: str
) -> None:
    reply = post(calls, job_with_units(text, start="p.long"))
    assert reply.json()["skipped"]
    assert len(reply.content) < 2000
    # Units of other jobs may be read beside it.
    assert text not in parses


@given(text=st.text(alphabet="mskg 0123456789*/^()+-.⁰²⁹√'\"%e", max_size=100))
@settings(max_examples=300, deadline=2000)
def test_no_short_text_takes_long_to_read_as_a_unit(text: str) -> None:
    with suppress(units.UnitError):
        units.converter(text, "m")


@pytest.mark.parametrize("kind", ["metrics", "specs"])
def test_thousands_of_wrong_units_of_definitions_are_refused_after_a_few(
    calls: Calls, parses: Parses, kind: str
) -> None:
    definitions = [
        {
            "name": f"p.m{number}" + (".s" if kind == "specs" else ""),
            "description": "d",
            "unit": f"grape{number}",
            "threshold": {
                "value": f"{number} grape{number}",
                "unit": f"plum{number}",
                "operator": "<",
            },
        }
        for number in range(4000)
    ]
    reply = post(calls, {kind: definitions}, f"/{kind}")
    assert reply.status_code == 422
    assert len(parses) < 500
    assert len(reply.content) < MOST_BYTES


# Bodies that are read elsewhere, and replies that stay short


def test_a_large_body_is_not_read_where_all_requests_wait(calls: Calls) -> None:
    threads = set()
    inner = document._DECODER.decode

    class Noting:
        def decode(self, body: bytes) -> Any:
            threads.add(threading.current_thread().name)
            return inner(body)

    body = {**job_with_units("", start="p.large"), "blobs": [{"data": "x" * SMALL_BYTES}]}
    with patch.object(document, "_DECODER", Noting()):
        assert post(calls, body).status_code == 202
    assert any(name.startswith("judge-large") for name in threads)
    assert not any(name.startswith("loop") for name in threads)


@pytest.mark.parametrize(
    "body",
    [
        b'{"measurements": [' + b"1, " * 300_000 + b"1]}",
        b'{"measurements": [' + b"{}, " * 200_000 + b"1]}",
        b'{"measurements": [' + b'{"metric": 1, "value": [], "unit": 1}, ' * 30_000 + b"1]}",
        b'{"blobs": [' + b"1, " * 300_000 + b"1]}",
        b'{"measurements": "' + b"x" * 1_000_000 + b'"}',
        b'{"meta": ' + b'{"' + b"k" * 500_000 + b'": ' + b'{"a": ' * 300 + b"1" + b"}" * 301 + b"}",
        b"x" * 1_000_000,
        b"\xff" * 1_000_000,
        b"[" * 1_000_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_the_reply_to_a_refused_job_is_short(calls: Calls, body: bytes) -> None:
    reply = post(calls, body)
    assert reply.status_code in {400, 422}
    assert len(reply.content) < MOST_BYTES
    assert len(reply.json()["detail"]) <= MOST_PLACES + 1


def test_detail_says_how_many_places_it_does_not_list(calls: Calls) -> None:
    detail = post(calls, {"measurements": [1] * 1000}).json()["detail"]
    assert [item["loc"] for item in detail[:-1]] == [
        ["body", "measurements", index] for index in range(MOST_PLACES)
    ]
    assert detail[-1] == {"loc": ["body"], "msg": f"and {1000 - MOST_PLACES} more", "type": "more"}


@pytest.mark.parametrize(
    ("path", "key"), [("/metrics", "metrics"), ("/specs", "specs"), ("/metric/p.a", None)]
)
@pytest.mark.parametrize("item", [1, {}, {"name": "x" * 5000}, {"name": "p.a", "unit": "y" * 5000}])
def test_the_reply_to_refused_definitions_is_short(
    calls: Calls, path: str, key: str | None, item: Any
) -> None:
    many = {"name": ["x" * 500_000]} if key is None else {key: [item] * 150}
    reply = post(calls, many, path)
    assert reply.status_code in {400, 422}
    assert len(reply.content) < MOST_BYTES


@given(
    body=st.recursive(
        st.none() | st.integers() | st.text(max_size=20) | st.just("x" * 3000),
        lambda inner: (
            st.lists(inner, max_size=40)
            | st.dictionaries(
                st.sampled_from(["measurements", "metrics", "specs", "name", "unit", "k" * 3000]),
                inner,
            )
        ),
        max_leaves=60,
    ),
    path=st.sampled_from(["/job", "/job?strict=true", "/metrics", "/specs", "/metric/p.a"]),
)
@settings(max_examples=60, deadline=None)
def test_no_refusal_is_long(calls: Calls, body: Any, path: str) -> None:
    reply = post(calls, body, path)
    assert reply.status_code < 500
    if reply.status_code >= 400:
        assert len(reply.content) < MOST_BYTES


def test_the_replies_about_an_accepted_job_list_some_values_and_count_the_rest(
    calls: Calls,
) -> None:
    items = [{"metric": f"nodot{number}{'x' * 3000}", "value": 1.0} for number in range(300)]
    reply = post(calls, {"measurements": items})
    assert reply.status_code == 202
    status = calls("GET", f"/status/{reply.json()['id']}")
    for found in (reply, status):
        assert len(found.json()["skipped"]) == MOST_LISTED
        assert found.json()["more"] == {"skipped": 300 - MOST_LISTED}
        assert len(found.content) < 4 * MOST_BYTES


def test_the_log_has_nothing_of_a_jobs_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(tmp_path) as client:
        post(log_in(client, "ada"), job_with_units("mango", "", start="p.secret"))
    assert "secret" not in capsys.readouterr().out
