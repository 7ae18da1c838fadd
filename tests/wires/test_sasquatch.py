import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.errors import InvalidInputError, MalformedJsonError, TooLargeError
from squash_api.ingest.document import digest_parts, job_of
from squash_api.schema.text import as_sent
from squash_api.wires.parts import Parts
from squash_api.wires.sasquatch import (
    MOST_RECORDS,
    check_topic,
    is_within,
    read_record,
    split_records,
)
from tests.support.json_documents import values

RUN = "HSC/runs/RC2/w_2026_20/20260515T031245Z"
TOPIC = "lsst.dm.stellarAstrometricRepeatability1"
DATA_ID = ("detector", "patch", "skymap", "visit", "tract", "physical_filter", "instrument")
# As the dispatcher sends it, in its order.
RECORD: dict[str, Any] = {
    "id": "df519659-0f5c-4f6e-9d1a-2b3c4d5e6f70",
    "run": RUN,
    "dataset_type": "objectTableCore_metrics",
    "reference_package": "",
    "reference_package_version": "",
    "reference_package_timestamp": 0.0,
    "run_timestamp": 1778814765.0,
    "timestamp": 1778814765.0,
    "dataset_tag": "HSC/RC2",
    **dict.fromkeys((*DATA_ID, "band", "exposure", "group", "day_obs"), ""),
    "skymap": "hsc_rings_v1",
    "tract": "9813",
    "instrument": "HSC",
    "band": "r",
}


def record(*, extras: dict[str, Any] | None = None, tags: Any = (), **metrics: Any) -> Any:
    return {**RECORD, **(extras or {}), "tags": list(tags), **metrics}


def body_of(*records: Any, schema: Any = None, **others: Any) -> bytes:
    found = {} if schema is None else {"value_schema": json.dumps(schema)}
    sent = {**found, "records": [{"value": each} for each in records], **others}
    return json.dumps(sent).encode()


def schema_of(value: dict[str, Any], namespace: str = "lsst.dm", **types: Any) -> dict[str, Any]:
    """The schema that the dispatcher makes for a record: without what it has no type for."""
    fields = [
        {"name": key, "type": types.get(key, "float" if isinstance(found, float) else "string")}
        for key, found in value.items()
        if not (found == [] or isinstance(found, dict))
    ]
    return {"type": "record", "namespace": namespace, "name": "x", "fields": fields}


def read(value: Any, topic: str = TOPIC, **how: Any) -> Parts:
    return read_record(body_of(value, **how), topic)


def values_of(parts: Parts) -> dict[str, Any]:
    return {item["metric"]: item["value"] for item in parts.measurements}


# The dispatcher's records


@pytest.mark.parametrize("tags", [[], ["lsst", "srd"]])
@pytest.mark.parametrize("has_schema", [True, False])
def test_what_stands_behind_the_tags_is_a_metric(tags: list[str], *, has_schema: bool) -> None:
    value = record(extras={"ci_id": "904", "attempt": 3}, tags=tags, g_AM1=7.25, r_AM1=0.0)
    parts = read(value, schema=schema_of(value) if has_schema else None)
    package = "stellarAstrometricRepeatability1"
    assert values_of(parts) == {f"{package}.g_AM1": 7.25, f"{package}.r_AM1": 0.0}
    assert parts.meta["attempt"] == 3
    assert parts.meta.get("tags", []) == tags
    assert parts.places[0] == ("body", "records", 0, "value", "g_AM1")


def test_metadata_have_the_names_that_jobs_of_lsst_verify_have() -> None:
    extras = {"visit": "903334", "day_obs": "20260515", "group": "2026-05-15T03", "pipeline": "A"}
    meta = read(record(extras=extras, g_AM1=1.0)).meta
    assert meta == {
        "id": RECORD["id"],
        "run_id": RUN,
        "dataset_type": "objectTableCore_metrics",
        "run_timestamp": 1778814765.0,
        "dataset": "HSC/RC2",
        "skymap": "hsc_rings_v1",
        "tract": "9813",
        "instrument": "HSC",
        "band": "r",
        "visit": 903334,
        "day_obs": 20260515,
        "group": "2026-05-15T03",
        "pipeline": "A",
        "namespace": "lsst.dm",
        "env": {"env_name": "lsst.dm", "date": "2026-05-15T03:12:45Z"},
    }


def test_the_run_of_a_continuous_integration_is_its_id() -> None:
    meta = read(record(extras={"ci_id": "904"}, a=1.0)).meta
    assert (meta["ci_id"], meta["run"], "run_id" in meta) == ("904", RUN, False)


def test_an_extra_may_take_the_place_of_what_the_dispatcher_says() -> None:
    meta = read(record(extras={"dataset_tag": "LSSTCam/rapid", "run": "<unknown>"}, a=1.0)).meta
    assert (meta["dataset"], "run_id" in meta, "run" in meta) == ("LSSTCam/rapid", False, False)


def test_a_reference_package_gives_the_version() -> None:
    extras = {
        "reference_package": "lsst_distrib",
        "reference_package_version": "g1234",
        "reference_package_timestamp": 1778544000.5,
    }
    meta = read(record(extras=extras, a=1.0)).meta
    assert meta["version_tag"] == "g1234"
    assert meta["reference_package_timestamp"] == 1778544000.5


def test_extras_of_every_type_are_kept_but_what_is_empty() -> None:
    extras = {"a": True, "b": [1, 2], "c": None, "d": {"x": {"y": 1}}, "e": "", "f": 2, "g": []}
    meta = read(record(extras=extras, m=1.0)).meta
    assert {key: meta[key] for key in "abcdefg" if key in meta} == {
        "a": True,
        "b": [1, 2],
        "d": {"x": {"y": 1}},
        "f": 2,
    }


@pytest.mark.parametrize(
    ("dataset_type", "topic", "key", "metric"),
    [
        ("metricvalue_validate_drp_AM1", "lsst.verify.drp.AM1", "AM1", "validate_drp.AM1"),
        ("metricvalue_ap_a_b", "lsst.verify.ap.a_b", "a_b", "ap.a_b"),
        ("metricvalue_AM1", "lsst.verify.drp.AM1", "AM1", "AM1.AM1"),
        ("objectTable_metrics", "lsst.dm.AM1", "validate_drp.AM1", "validate_drp.AM1"),
        ("objectTable_metrics", "lsst.dm.core_AM1", "AM1", "core_AM1.AM1"),
    ],
)
def test_a_metric_has_the_package_of_its_dataset_type_its_name_or_its_topic(
    dataset_type: str, topic: str, key: str, metric: str
) -> None:
    value = record(extras={"dataset_type": dataset_type}, **{key: 7.5})
    schema = schema_of(value, namespace=topic.rpartition(".")[0])
    assert values_of(read(value, topic, schema=schema)) == {metric: 7.5}


def test_a_value_that_is_no_number_is_kept_beside_the_metric() -> None:
    parts = read(record(a=[1.5, 2.5], b="text", c=None))
    first, *others = parts.measurements
    assert [item["value"] for item in others] == ["text", None]
    assert (first["value"], first["blob_refs"]) == (None, [parts.blobs[0]["identifier"]])
    datum = parts.blobs[0]["data"]["stellarAstrometricRepeatability1.a"]
    assert datum["value"] == [1.5, 2.5]
    assert job_of(parts).blobs


# Names


@pytest.mark.parametrize(
    ("topic", "namespace", "found", "package"),
    [
        ("lsst.verify.drp.a", "lsst.verify.drp", "lsst.verify.drp", "a"),
        ("lsst.verify.drp.a", None, "lsst.verify.drp", "a"),
        ("lsst.verify.drp.a", "lsst.prompt", "lsst.verify.drp", "a"),
        ("lsst.prompt.prod.a", None, "lsst.prompt.prod", "a"),
        ("here.there.a", None, "here.there", "a"),
        ("here.there.a", "here", "here", "there"),
        ("lsst.survey", None, "lsst.survey", "survey"),
        ("alone", None, None, "alone"),
    ],
)
def test_a_topic_is_split_as_its_schema_says_else_by_what_is_known(
    topic: str, namespace: str | None, found: str | None, package: str
) -> None:
    value = record(m=1.0)
    schema = None if namespace is None else schema_of(value, namespace)
    parts = read(value, topic, schema=schema)
    assert parts.meta.get("namespace") == parts.meta["env"].get("env_name") == found
    (name,) = values_of(parts)
    assert name.partition(".")[0] == package


@pytest.mark.parametrize(
    ("topic", "namespace", "within"),
    [
        ("lsst.dm.a", "lsst.dm", True),
        ("lsst.dm", "lsst.dm", True),
        ("lsst.dmx.a", "lsst.dm", False),
        ("lsst", "lsst.dm", False),
    ],
)
def test_a_topic_is_within_a_namespace_by_whole_parts(
    topic: str, namespace: str, *, within: bool
) -> None:
    assert is_within(topic, namespace) is within


@pytest.mark.parametrize("topic", ["", "a b", "a/b", "a" * 250, "\u00e4", "a\n"])
def test_what_kafka_would_not_call_a_topic_is_refused(topic: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_topic(topic)
    assert caught.value.detail[0].loc == ("path", "topic")
    check_topic("a" * 249)


# What others send


def test_numbers_that_mean_nothing_else_are_metrics_of_a_record_without_tags() -> None:
    value = {
        "measurement": "lsst.survey.pre_night",
        "timestamp": 1778814765000,
        "run_timestamp": 5,
        "telescope": "simonyi",
        "visits": 712,
        "airmass": 1.25,
        "is_good": True,
        "detector": 4,
        "ci_id": 904,
    }
    parts = read(value, "lsst.survey")
    assert values_of(parts) == {"pre_night.visits": 712, "pre_night.airmass": 1.25}
    assert parts.meta["env"]["date"] == "2026-05-15T03:12:45Z"
    assert {key: parts.meta[key] for key in ("telescope", "detector", "is_good", "ci_id")} == {
        "telescope": "simonyi",
        "detector": 4,
        "is_good": True,
        "ci_id": 904,
    }


def test_a_null_of_a_numeric_field_is_an_absent_metric() -> None:
    value = {"timestamp": 1.0, "depth": None, "place": None, "size": None}
    types = {"depth": ["null", "double"], "place": ["null", "string"], "size": {"type": "int"}}
    schema = {
        "fields": [
            *({"name": key, "type": kind} for key, kind in types.items()),
            {"name": "timestamp", "type": "double"},
        ]
    }
    assert values_of(read(value, "x.quakes", schema=schema)) == {
        "quakes.depth": None,
        "quakes.size": None,
    }


def test_a_tag_of_its_own_is_no_border_in_what_others_send() -> None:
    value = {"timestamp": 1.0, "seeing": 0.8, "tags": ["dimm"], "wind": 3.0}
    assert values_of(read(value, "x.dimm")) == {"dimm.seeing": 0.8, "dimm.wind": 3.0}


def test_unions_of_avro_are_read() -> None:
    value = {**record(), "a": {"float": 1.5}, "b": {"null": None}, "band": {"string": "g"}}
    parts = read(value)
    assert list(values_of(parts).values()) == [1.5, None]
    assert parts.meta["band"] == "g"


@pytest.mark.parametrize("schema", [{"value_schema_id": 170}, {"key": "x", "partition": 0}])
def test_other_keys_of_a_request_are_accepted(schema: dict[str, Any]) -> None:
    assert values_of(read(record(a=1.0), **schema))


# Times


@pytest.mark.parametrize(
    ("timestamp", "date"),
    [
        (1778814765, "2026-05-15T03:12:45Z"),
        (1778814765.25, "2026-05-15T03:12:45.25Z"),
        (1778814765.123456, "2026-05-15T03:12:45.123456Z"),
        (1778814765000, "2026-05-15T03:12:45Z"),
        (1778814765123, "2026-05-15T03:12:45.123Z"),
        (1778814765123456, "2026-05-15T03:12:45.123456Z"),
        (1778814765123456789, "2026-05-15T03:12:45.123456789Z"),
        ({"double": 1778814765.0}, "2026-05-15T03:12:45Z"),
        ("1778814765", "2026-05-15T03:12:45Z"),
        ("1778814765.5", "2026-05-15T03:12:45.5Z"),
        ("20260515", "20260515"),
        ("2026-05-15T03:12:45Z", "2026-05-15T03:12:45Z"),
        (-5, "1969-12-31T23:59:55Z"),
        (0, "1970-01-01T00:00:00Z"),
        (1e300, "1e+300"),
        ("late", "late"),
        (None, None),
        ("", None),
        (True, None),
    ],
)
def test_a_time_is_in_seconds_or_in_a_smaller_unit(timestamp: Any, date: str | None) -> None:
    parts = read(record(extras={"timestamp": timestamp}, a=1.0))
    assert parts.meta["env"].get("date") == date


# Sent again


def identifiers(value: Any, topic: str = TOPIC) -> list[str]:
    return [item["identifier"] for item in read(value, topic).measurements]


def test_a_measurement_is_identified_by_the_id_the_topic_and_its_key() -> None:
    known = identifiers(record(a=1.0, b=2.0))
    assert len({*known, *identifiers(record(a=1.0, b=2.0), f"{TOPIC}2")}) == 4
    assert identifiers(record(a=5.0, b=2.0)) == known
    assert identifiers(record(extras={"id": "no uuid"}, a=1.0)) != known[:1]


def test_what_a_second_dispatch_changes_does_not_make_another_job() -> None:
    first = read(record(a=1.0))
    later = {"run_timestamp": 1778814999.5, "timestamp": 1778814999.5}
    again = read(record(extras=later, a=1.0))
    assert digest_parts(again) == digest_parts(first)
    assert digest_parts(read(record(a=1.5))) != digest_parts(first)
    assert digest_parts(read(record(extras={"tract": "1"}, a=1.0))) != digest_parts(first)


def test_a_record_without_an_id_is_identified_by_all_that_it_has() -> None:
    value = {"timestamp": 1.0, "seeing": 0.8}
    assert identifiers(value) == identifiers(dict(reversed(value.items())))
    assert identifiers(value) != identifiers({**value, "timestamp": 2.0})


def test_a_record_without_metrics_is_identified_too() -> None:
    jobs = [job_of(read(record(extras={"id": name}))) for name in ("a", "a", "b")]
    digests = [job.identifiers_digest() for job in jobs]
    assert digests[0] == digests[1] != digests[2]
    assert None not in digests


# What is no request


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        ([], "$ must be"),
        ({}, "$.records must be"),
        ({"records": []}, "$.records must be"),
        ({"records": {"value": {}}}, "$.records must be"),
        ({"records": [3]}, "$.records[0] must be"),
        ({"records": [{"key": 1}]}, "$.records[0] must be"),
        ({"records": [{"value": None}]}, "$.records[0].value must be"),
        ({"records": [{"value": "aGVsbG8="}]}, "$.records[0].value must be"),
        ({"records": [{"value": {}}], "value_schema": "{"}, "$.value_schema must be"),
        ({"records": [{"value": {}}], "value_schema": '"string"'}, "$.value_schema must be"),
    ],
)
def test_what_is_no_request_is_refused_with_the_place(sent: Any, place: str) -> None:
    body = json.dumps(sent).encode()
    assert split_records(body, max_bytes=10_000) == [body]
    with pytest.raises(InvalidInputError, match="cannot be stored") as caught:
        read_record(body, TOPIC)
    assert place in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    for read_it in (lambda: split_records(body, max_bytes=99), lambda: read_record(body, TOPIC)):
        with pytest.raises(MalformedJsonError):
            read_it()


def test_a_record_that_is_nested_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(260):
        deep = {"a": deep}
    with pytest.raises(InvalidInputError, match="nested deeper"):
        read(record(extras={"deep": deep}, a=1.0))


def test_bare_tokens_are_absent_and_counted() -> None:
    parts = read(record(a=float("nan"), b=1.0))
    assert list(values_of(parts).values()) == [None, 1.0]
    assert parts.bare_tokens == 1


def test_metadata_keep_all_digits_and_values_are_floats() -> None:
    body = body_of(record(extras={"long": 0}, a=1.0)).replace(
        b'"long": 0', b'"long": 1.00000000000000000001'
    )
    parts = read_record(body.replace(b'"a": 1.0', b'"a": 7.10000000000000000001'), TOPIC)
    assert orjson.dumps(parts.meta["long"], default=as_sent) == b"1.00000000000000000001"
    assert [type(item["value"]) for item in parts.measurements] == [float]


# Several records


def test_records_are_split_exactly_with_all_else_of_the_request() -> None:
    body = (
        b'\xef\xbb\xbf { "value_schema" : "{\\"fields\\": []}", '
        b'"records":[ {"value": {"a":1.0e2, "b":NaN}} ,'
        b'\n{"key": "k", "value": {"a": 18446744073709551617} }], "x" : [1, {"y": "]"}] } '
    )
    first, second = split_records(body, max_bytes=10_000)
    assert first == (
        b'{"value_schema": "{\\"fields\\": []}", "x": [1, {"y": "]"}], '
        b'"records": [{"value": {"a":1.0e2, "b":NaN}}]}'
    )
    assert b'"records": [{"key": "k", "value": {"a": 18446744073709551617} }]' in second


@given(st.lists(values, min_size=2, max_size=4), values)
def test_whatever_is_split_is_the_same(records: list[Any], other: Any) -> None:
    body = json.dumps({"other": other, "records": records}).encode()
    parts = split_records(body, max_bytes=1_000_000)
    found = [json.loads(part) for part in parts]
    expected = [{"other": other, "records": [each]} for each in records]
    assert json.dumps(found) == json.dumps(expected)


def test_too_many_records_are_refused_and_too_many_bytes() -> None:
    many = body_of(*[{}] * (MOST_RECORDS + 1))
    with pytest.raises(TooLargeError, match="1001 records, more than 1000"):
        split_records(many, max_bytes=10**9)
    # The schema would be stored with each.
    body = body_of(*[{"a": 1.0}] * 10, schema={"fields": [], "doc": "x" * 1000})
    with pytest.raises(TooLargeError, match="each with its schema"):
        split_records(body, max_bytes=9_000)
    assert len(split_records(body, max_bytes=20_000)) == 10


def test_what_is_refused_names_the_setting_or_what_to_do() -> None:
    with pytest.raises(TooLargeError, match="in parts"):
        split_records(body_of({}, {}), max_bytes=10)


@given(values)
def test_any_record_is_read_or_refused(value: Any) -> None:
    body = body_of(value)
    try:
        parts = read_record(body, TOPIC)
    except InvalidInputError:
        return
    job = job_of(parts)
    assert digest_parts(parts) == digest_parts(read_record(body, TOPIC))
    assert len(job.measurements) == len(parts.places)
    assert job.time_ns(received_ns=10**18)
