import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from squash_api.errors import Detail, InvalidInputError, MalformedJsonError
from squash_api.ingest.document import (
    Job,
    decode_job,
    digest_job,
    measured_of,
)
from squash_api.schema.times import parse_time_ns
from tests.support.json_documents import values

DATA = Path(__file__).parents[3] / "shared" / "data" / "jobs"
DAY_NS = 86_400 * 10**9
NOW_NS = 1_790_000_000_123_456_789


def decode(document: Any) -> Job:
    return decode_job(json.dumps(document).encode())


def problems(document: Any) -> tuple[Detail, ...]:
    with pytest.raises(InvalidInputError) as caught:
        decode(document)
    return caught.value.detail


def dated(date: Any, *, where: str = "env") -> Job:
    return Job(meta={"env": {"date": date}} if where == "env" else {"date": date})


def measured(**changes: Any) -> dict[str, Any]:
    return {"metric": "p.a", "value": 1.0, "unit": "", "identifier": "1" * 32} | changes


def digest(*measurements: dict[str, Any], **parts: Any) -> bytes:
    document = {"measurements": list(measurements) or [measured()], **parts}
    return digest_job(json.dumps(document).encode())


def identifiers(*measurements: dict[str, Any]) -> bytes | None:
    return Job([measured_of(item) for item in measurements]).identifiers_digest()


# The document


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"measurements": None, "blobs": None, "meta": None},
        {"measurements": [], "blobs": [], "meta": {}},
        {"metrics": [], "specs": [], "_job_number": 768, "unknown": {}},
        {"meta": {"packages": {}}},
        {"meta": {"packages": []}},
        {"meta": {"packages": None, "env": None}},
        {"meta": {"packages": [{"name": "afw"}]}},
        {"meta": {"env": {}}},
        {"measurements": [{"metric": "p.a"}]},
        {"measurements": [{"metric": "p.a", "value": None, "unit": None, "identifier": None}]},
        {"measurements": [{"metric": "p.a", "value": "text"}, {"metric": "p.b", "value": True}]},
        {"measurements": [measured(metric="p." + "a" * 128, note="x", blob_refs=None)]},
        {"measurements": [measured(value=5)]},
        {"blobs": [{}]},
    ],
)
def test_a_document_is_a_job(document: dict[str, Any]) -> None:
    expected = [measured_of(item) for item in document.get("measurements") or []]
    assert decode(document).measurements == expected


def test_a_single_measurement_counts_as_a_list_of_one() -> None:
    assert decode({"measurements": measured()}).measurements == [measured_of(measured())]


@pytest.mark.parametrize(
    ("document", "loc"),
    [
        ([], ()),
        ("job", ()),
        (None, ()),
        ({"measurements": "x"}, ("measurements",)),
        ({"measurements": 0}, ("measurements",)),
        ({"measurements": [1]}, ("measurements", 0)),
        ({"measurements": [measured(), {}]}, ("measurements", 1, "metric")),
        ({"measurements": [measured(metric=5)]}, ("measurements", 0, "metric")),
        ({"measurements": [measured(metric=None)]}, ("measurements", 0, "metric")),
        ({"measurements": [measured(value=[1])]}, ("measurements", 0, "value")),
        ({"measurements": [measured(value={})]}, ("measurements", 0, "value")),
        ({"measurements": [measured(unit=1)]}, ("measurements", 0, "unit")),
        ({"measurements": [measured(identifier=1)]}, ("measurements", 0, "identifier")),
        ({"blobs": {}}, ("blobs",)),
        ({"blobs": [None]}, ("blobs", 0)),
        ({"meta": []}, ("meta",)),
        ({"meta": {"env": "x"}}, ("meta", "env")),
        ({"meta": {"packages": "x"}}, ("meta", "packages")),
    ],
)
def test_what_is_no_job_is_refused_with_the_place(document: Any, loc: tuple[Any, ...]) -> None:
    assert [item.loc for item in problems(document)] == [("body", *loc)]


def test_every_wrong_part_is_named() -> None:
    document = {"measurements": [{}, measured(unit=1, value=[])], "blobs": 1, "meta": 2}
    assert [item.loc[1:] for item in problems(document)] == [
        ("measurements", 0, "metric"),
        ("measurements", 1, "value"),
        ("measurements", 1, "unit"),
        ("blobs",),
        ("meta",),
    ]


def test_the_message_shows_the_first_place_as_a_json_path() -> None:
    with pytest.raises(InvalidInputError, match=r"\$\.measurements\[0\]\.metric is missing"):
        decode({"measurements": [{}]})


def test_bare_tokens_are_read_as_null_and_counted() -> None:
    job = decode_job(
        b'{"measurements": [{"metric": "p.a", "value": NaN}], "meta": {"x": Infinity}}'
    )
    assert (job.measurements[0].value, job.meta["x"], job.bare_tokens) == (None, None, 2)


@given(values)
def test_any_json_is_a_job_or_refused(document: Any) -> None:
    with suppress(InvalidInputError):
        decode(document)


@pytest.mark.parametrize("env", [None, {}])
def test_a_job_without_environment_has_an_empty_one(env: Any) -> None:
    assert Job(meta={"env": env}).env == {}


@pytest.mark.parametrize("name", ["cfht_r.verify.json", "ldf.payload.json"])
def test_a_real_job_is_decoded_whole(name: str) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"no {name} beside the repository")
    body = (DATA / name).read_bytes()
    job, document = decode_job(body), json.loads(body, parse_constant=lambda _: None)
    assert (job.measurements, job.blobs) == (
        [measured_of(item) for item in document["measurements"]],
        document.get("blobs", []),
    )
    packages = document["meta"].pop("packages", {})
    assert {key: job.meta[key] for key in job.meta if key != "packages"} == document["meta"]
    assert {item["name"] for item in job.packages} == {*packages}


# Its time


@pytest.mark.parametrize("where", ["env", "meta"])
def test_the_time_of_a_job_is_its_date(where: str) -> None:
    job = dated("2024-01-01T10:11:12.123456789Z", where=where)
    assert job.time_ns(received_ns=NOW_NS) == (1_704_103_872_123_456_789, None)


def test_the_date_of_env_comes_before_that_of_meta() -> None:
    job = Job(meta={"date": "2020-01-01", "env": {"date": "2024-01-01"}})
    assert job.time_ns(received_ns=NOW_NS)[0] == parse_time_ns("2024-01-01")


def test_a_date_of_null_is_none() -> None:
    job = Job(meta={"date": "2020-01-01", "env": {"date": None}})
    assert job.time_ns(received_ns=NOW_NS)[0] == parse_time_ns("2020-01-01")


def test_the_beginning_of_1970_is_early_enough() -> None:
    assert dated("1970-01-01").time_ns(received_ns=NOW_NS) == (0, None)


def test_a_day_ahead_is_late_enough() -> None:
    job = dated("2024-01-02T00:00:00.000000005Z")
    received_ns = 1_704_067_200 * 10**9 + 5
    assert job.time_ns(received_ns=received_ns) == (received_ns + DAY_NS, None)


@pytest.mark.parametrize(
    "date",
    [
        *("1969-12-31T23:59:59.999999999Z", "2024-01-02T00:00:00.000000006Z", "9999-12-31"),
        *("yesterday", "", 1_704_103_872, True, ["2024-01-01"]),
    ],
)
def test_another_date_gives_way_to_the_receipt_and_the_reply_says_so(date: Any) -> None:
    received_ns = 1_704_067_200 * 10**9 + 5
    time_ns, note = dated(date).time_ns(received_ns=received_ns)
    assert time_ns == received_ns
    assert note
    assert "the time of receipt is used" in note


def test_without_a_date_the_time_is_that_of_the_receipt_and_the_reply_says_so() -> None:
    assert Job().time_ns(received_ns=NOW_NS) == (
        NOW_NS,
        "no env.date: the time of receipt is used",
    )


# Its digests


def test_the_same_job_with_another_date_has_the_same_digest() -> None:
    one, other = ({"env": {"date": date, "x": 1}} for date in ("2024-01-01", "2024-01-02"))
    assert digest(meta=one) == digest(meta=other)


def test_the_order_of_keys_does_not_matter_to_the_digest() -> None:
    assert digest(meta={"a": 1, "b": 2}) == digest(meta={"b": 2, "a": 1})


@pytest.mark.parametrize(
    "other",
    [
        digest(measured(value=2.0)),
        digest(meta={"date": "2024-01-01"}),
        digest(meta={"env": {"x": 1}}),
        digest(blobs=[{"name": "x"}]),
        digest(measured(identifier="2" * 32)),
    ],
)
def test_another_content_has_another_digest(other: bytes) -> None:
    assert other != digest()


def test_the_identifiers_have_a_digest_of_their_own() -> None:
    assert identifiers(measured()) == identifiers(measured(value=2.0))
    assert identifiers(measured()) != identifiers(measured(identifier="2" * 32))


def test_the_order_of_measurements_does_not_matter_to_the_identifiers() -> None:
    one, two = measured(), measured(metric="p.b", identifier="2" * 32)
    assert identifiers(one, two) == identifiers(two, one)


@pytest.mark.parametrize("identifier", [None, ""])
def test_without_every_identifier_there_is_no_digest(identifier: str | None) -> None:
    assert identifiers(measured(), measured(identifier=identifier)) is None


def test_a_job_without_measurements_has_no_digest_of_identifiers() -> None:
    assert identifiers() is None


NESTING = [("[", "]"), ('{"a":', "}")]
DEEP_PLACES = [
    ('{"meta": {"note": ', "}}", ("meta", "note")),
    ('{"blobs": [{"data": ', "}]}", ("blobs", 0, "data")),
    ('{"measurements": [{"metric": "p.a", "note": ', "}]}", ("measurements", 0, "note")),
    ('{"measurements": [{"metric": "p.a", "blob_refs": ', "}]}", ("measurements", 0, "blob_refs")),
]


@pytest.mark.parametrize("brackets", NESTING)
@pytest.mark.parametrize(("before", "after", "place"), DEEP_PLACES)
def test_a_job_that_is_nested_too_deep_is_refused_with_the_place(
    brackets: tuple[str, str], before: str, after: str, place: tuple[str | int, ...]
) -> None:
    deep = brackets[0] * 300 + "1" + brackets[1] * 300
    with pytest.raises(InvalidInputError, match="nested deeper") as caught:
        decode_job(f"{before}{deep}{after}".encode())
    assert caught.value.detail[0].loc[1 : 1 + len(place)] == place


@pytest.mark.parametrize("brackets", NESTING)
@pytest.mark.parametrize(("before", "after"), [place[:2] for place in DEEP_PLACES])
def test_every_job_that_is_accepted_has_a_digest(
    brackets: tuple[str, str], before: str, after: str
) -> None:
    accepted = 0
    for depth in range(240, 262):
        deep = brackets[0] * depth + "1" + brackets[1] * depth
        with suppress(InvalidInputError):
            body = f"{before}{deep}{after}".encode()
            decode_job(body)
            assert digest_job(body)
            accepted += 1
    assert 0 < accepted < 22


# What has no meaning


@pytest.mark.parametrize(
    "unusual",
    [
        {"measurements": [measured(note="x")]},
        {"measurements": [measured(blob_refs=["b", 3])]},
        {"unknown": 1},
    ],
)
def test_what_has_no_meaning_changes_nothing(unusual: dict[str, Any]) -> None:
    usual = {"measurements": [measured(blob_refs=["b"])], "meta": {"visit": 5}}
    job, same = decode({**usual, **unusual}), decode(usual)
    assert (job.meta, job.identifiers_digest()) == (same.meta, same.identifiers_digest())


def test_wrong_text_where_no_key_has_a_meaning_is_refused() -> None:
    with pytest.raises(MalformedJsonError):
        decode_job(b'{"measurements": [{"metric": "p.a", "note": "\xff"}], "unknown": nope}')


# Packages


@pytest.mark.parametrize("packages", [None, {}, [], [None, 5, {}], {"": {}}, [{"name": 5}]])
def test_a_job_without_packages_has_none(packages: Any) -> None:
    assert list(Job(meta={"packages": packages}).packages) == []


@pytest.mark.parametrize("packages", [[{"name": "b"}, {"name": "a"}], {"b": {}, "a": None}])
def test_packages_come_by_name_however_they_are_given(packages: Any) -> None:
    found = Job(meta={"packages": packages}).packages
    assert [item["name"] for item in found] == ["a", "b"]


def test_a_package_has_its_five_keys_and_no_other() -> None:
    entry = {"name": "afw", "git_sha": "1", "git_url": 5, "eups_version": None, "more": "x"}
    assert list(Job(meta={"packages": [entry]}).packages) == [
        {
            "name": "afw",
            "git_sha": "1",
            "git_url": None,
            "git_branch": None,
            "eups_version": None,
        }
    ]
