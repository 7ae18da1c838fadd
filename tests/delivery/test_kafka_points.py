"""Points in Kafka are those that InfluxDB is sent, in the forms that Telegraf reads."""

import io
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fastavro
import httpx
import orjson
import pytest

from squash_api.delivery.batches import PointMaker
from squash_api.delivery.kafka_points import MOST_FIELDS, TopicSchema, avro_name, topic_part
from squash_api.record.webhooks import refused_after
from squash_api.schema import names
from squash_api.site import Site
from tests.support.builders import make_settings, with_record
from tests.support.in_process import service
from tests.support.kafka_world import KafkaWorld
from tests.support.mock_kafka import MockKafka, Read
from tests.support.told_kapacitor import parse_line

pytestmark = pytest.mark.sqlite

NAMESPACE = "lsst.squash"
TOPIC = f"{NAMESPACE}.validate"
# What is another in records than in InfluxDB.
RENAMED = {"dataset": "dataset_tag", "run_id": "run"}


@pytest.fixture
def brokers() -> Iterator[MockKafka]:
    with MockKafka() as kafka:
        yield kafka


def world_of(folder: Path, brokers: MockKafka, points: str) -> KafkaWorld:
    return KafkaWorld(
        folder,
        brokers,
        kafka_send=("points",),
        kafka_points=points,
        kafka_registry="https://registry.example",
    )


def add_jobs(world: KafkaWorld) -> list[int]:
    meta = {"ci_id": "7", "ci_name": "nightly", "ci_dataset": "cfht", "instrument": "HSC"}
    return [
        world.add({"PA1": 4.1, "AM1": 1e-300}, detector="3", visit=123456, **meta),
        world.add({"PA1": None, "AM1": 2.0}, note='it\'s "odd", äöü', airmass=1.25),
        world.add({"PA1": 7.0}, seeing={"a-b": 0.7, "text": "x"}, version_tag="w_2026_20"),
    ]


def lines_for_influxdb(world: KafkaWorld, jobs: list[int]) -> list[str]:
    """Make the lines as the outlet to InfluxDB makes them."""
    site = world.site
    points = PointMaker(site.record, site.metrics, site.deriver, squash_url="https://sq.example")
    return [point.line for point in points.make(jobs, after=None).points]


Point = tuple[str, int, dict[str, str], dict[str, Any]]


def points_for_influxdb(world: KafkaWorld, jobs: list[int]) -> list[Point]:
    """Return measurement, time, tags and fields of the lines."""
    found = []
    for line in lines_for_influxdb(world, jobs):
        measurement, tags, fields, time_ns = parse_line(line)
        found.append((measurement, time_ns, tags, dict(fields)))
    return found


def telegraf_avro(
    message: Read, schemas: list[dict[str, Any]], tag_names: set[str]
) -> tuple[str, int, dict[str, Any], dict[str, Any]]:
    """Read a message as Telegraf does, with the mode `nullable` for unions.

    Source: influxdata/telegraf, `plugins/parsers/avro/parser.go` (createMetric, flattenField), and
    its serializer, which leaves out tags without text.
    """
    assert message.value[0] == 0
    schema = schemas[int.from_bytes(message.value[1:5], "big")]
    body = io.BytesIO(message.value[5:])
    value: Any = fastavro.schemaless_reader(body, schema, None)
    assert body.read() == b""
    tags = {name: value[name] for name in tag_names if value.get(name)}
    fields = {
        name: found
        for name, found in value.items()
        # An empty list is no field at all.
        if name not in tag_names and found is not None and found != []
    }
    return f"{schema['namespace']}.{schema['name']}", int(value["time_ns"]), tags, fields


def telegraf_json(
    message: Read, tag_names: set[str]
) -> tuple[str, int, dict[str, Any], dict[str, Any]]:
    """Read a message as Telegraf's `json_v2` does, with an object `@this`: nulls are left out."""
    value = orjson.loads(message.value)
    tags = {name: value[name] for name in tag_names if value.get(name)}
    own = {"measurement", "time_ns", *tag_names}
    fields = {name: item for name, item in value.items() if name not in own and item is not None}
    return value["measurement"], value["time_ns"], tags, fields


def expected_of(point: Point, rename: Any) -> Point:
    """Return a point of InfluxDB under the names of records, without what these have otherwise."""
    measurement, time_ns, tags, fields = point
    renamed = {rename(RENAMED.get(k, k)): v for k, v in fields.items() if k != "timestamp"}
    return (
        f"{NAMESPACE}.{measurement}",
        time_ns,
        {rename(RENAMED.get(name, name)): text for name, text in tags.items()},
        renamed,
    )


def without_own(fields: Mapping[str, Any], time_ns: int) -> dict[str, Any]:
    """Check what only records have, and return the other fields."""
    left = dict(fields)
    assert len(left.pop("id")) == 36
    assert left.pop("timestamp") == time_ns / 1e9
    left.pop("time_ns", None)
    return {name: item for name, item in left.items() if item != ""}


PAGE = Path(__file__).parents[2] / "docs" / "kafka.md"
AVRO, JSON = (
    tomllib.loads(text)["inputs"]["kafka_consumer"][0]
    for text in re.findall(
        r"^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
)
OBJECT = JSON["json_v2"][0]["object"][0]
TAGS = {*AVRO["avro_tags"]}


def test_the_configuration_of_telegraf_names_every_tag_and_the_exact_time() -> None:
    tags = {RENAMED.get(name, name) for name in names.TAGS}
    assert tags == TAGS == {*OBJECT["tags"]}
    times = AVRO["avro_timestamp"], AVRO["avro_timestamp_format"]
    assert times == (OBJECT["timestamp_key"], OBJECT["timestamp_format"]) == ("time_ns", "unix_ns")
    assert AVRO["avro_union_mode"] == "nullable"
    assert all(re.search(config["topic_regexps"][0], TOPIC) for config in (AVRO, JSON))


def test_points_as_lines_are_those_that_influxdb_is_sent(
    tmp_path: Path, brokers: MockKafka
) -> None:
    world = world_of(tmp_path, brokers, "influx")
    jobs = add_jobs(world)
    world.drain()
    found = sorted(item.value.decode() for item in brokers.read(TOPIC))
    expected = [parse_line(line) for line in lines_for_influxdb(world, jobs)]
    assert sorted(map(parse_line, found), key=repr) == sorted(expected, key=repr)
    assert world.target("kafka-points").sent_through == jobs[-1]
    world.close()


def test_points_in_avro_are_for_telegraf_what_influxdb_is_sent(
    tmp_path: Path, brokers: MockKafka
) -> None:
    world = world_of(tmp_path, brokers, "avro")
    jobs = add_jobs(world)
    world.drain()
    found = [telegraf_avro(item, world.registry.schemas, TAGS) for item in brokers.read(TOPIC)]
    got = [(name, at, tags, without_own(fields, at)) for name, at, tags, fields in found]
    got.sort(key=lambda item: item[1])
    expected = [expected_of(point, avro_name) for point in points_for_influxdb(world, jobs)]
    assert got == sorted(expected, key=lambda item: item[1])
    assert list(world.registry.subjects) == [f"{TOPIC}-value"]
    world.close()


def test_points_in_json_are_for_telegraf_what_influxdb_is_sent(
    tmp_path: Path, brokers: MockKafka
) -> None:
    world = world_of(tmp_path, brokers, "json")
    jobs = add_jobs(world)
    world.drain()
    found = [telegraf_json(item, TAGS) for item in brokers.read(TOPIC)]
    got = [(name, at, tags, without_own(fields, at)) for name, at, tags, fields in found]
    got.sort(key=lambda item: item[1])
    expected = [expected_of(point, lambda name: name) for point in points_for_influxdb(world, jobs)]
    assert got == sorted(expected, key=lambda item: item[1])
    world.close()


def values_of(fields: Mapping[str, Any]) -> tuple[Any, Any]:
    return fields.get("PA1"), fields.get("AM1")


def as_sent_to_a_proxy(world: KafkaWorld, message: Read) -> dict[str, Any]:
    """Return what a client sends to a Kafka REST proxy to have a message written."""
    if world.settings.kafka_points == "json":
        return {"records": [{"value": orjson.loads(message.value)}]}
    schema = world.registry.schemas[int.from_bytes(message.value[1:5], "big")]
    value: Any = fastavro.schemaless_reader(io.BytesIO(message.value[5:]), schema, None)
    return {"value_schema": orjson.dumps(schema).decode(), "records": [{"value": value}]}


@pytest.mark.parametrize("points", ["avro", "json"])
def test_points_come_back_through_our_own_wire(
    tmp_path: Path, brokers: MockKafka, points: str
) -> None:
    world = world_of(tmp_path, brokers, points)
    jobs = add_jobs(world)
    world.drain()
    expected = points_for_influxdb(world, jobs)
    folder = tmp_path / "other"
    folder.mkdir()
    with service(folder, anonymous_namespaces=(NAMESPACE,)) as client:
        headers = {"Content-Type": f"application/vnd.kafka.{points}.v2+json"}
        for message in brokers.read(TOPIC):
            body = orjson.dumps(as_sent_to_a_proxy(world, message))
            for _ in range(2):
                # A repeat makes no second job.
                reply = client.post(f"/topics/{TOPIC}", content=body, headers=headers)
                assert reply.status_code == 200, reply.text
        with Site(with_record(make_settings(folder))) as site:
            made = PointMaker(site.record, site.metrics, site.deriver, squash_url="http://x")
            lines = [point.line for point in made.make([1, 2, 3], after=None).points]
    back = {values_of(fields): (tags, fields, at) for _, tags, fields, at in map(parse_line, lines)}
    assert len(back) == len(expected)
    for _, time_ns, tags, fields in expected:
        new_tags, new_fields, new_ns = back[values_of(fields)]
        # The wire has microseconds, and says where it came from.
        assert abs(new_ns - time_ns) < 1000
        assert {**tags, "env_name": NAMESPACE} == new_tags
        for name in ("run_id", "version_tag"):
            assert new_fields.get(name) == fields.get(name)
    world.close()


def test_all_points_of_a_series_have_the_same_key(tmp_path: Path, brokers: MockKafka) -> None:
    world = world_of(tmp_path, brokers, "json")
    for number in range(4):
        world.add({"PA1": float(number)}, ci_dataset="cfht", detector=f"{number % 2}")
    world.drain()
    keys = [item.key for item in brokers.read(TOPIC)]
    assert {*keys} == {"validate,dataset=cfht,detector=0", "validate,dataset=cfht,detector=1"}
    world.close()


def test_a_new_metric_adds_a_field_to_the_schema_and_none_ever_goes(
    tmp_path: Path, brokers: MockKafka
) -> None:
    world = world_of(tmp_path, brokers, "avro")
    world.add({"PA1": 1.0}, ci_dataset="cfht")
    world.drain()
    world.outlets = {}
    world.site.record.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE target SET lease_owner = NULL, lease_until_ns = 0"
        )
    )
    # Another process knows only what the registry has.
    world.outlets = world.new_outlets()
    world.add({"AM1": 1.0})
    world.drain()
    first, second = world.registry.schemas
    fields = [[item["name"] for item in schema["fields"]] for schema in (first, second)]
    assert fields[0][-2:] == ["tags", "PA1"]
    assert fields[1][-3:] == ["tags", "PA1", "AM1"]
    old = {item["name"]: item for item in first["fields"]}
    new = {item["name"]: item for item in second["fields"]}
    assert {name: new[name] for name in old} == old
    # Whoever has one of them reads what was written with the other.
    assert all("default" in item for name, item in new.items() if name not in old)
    world.close()


def test_points_whose_schema_is_refused_are_put_aside(tmp_path: Path, brokers: MockKafka) -> None:
    world = world_of(tmp_path, brokers, "avro")
    world.registry.is_compatible = False
    job = world.add({"PA1": 1.0})
    world.drain()
    with world.site.record.read() as connection:
        (entry,) = refused_after(connection, 0, limit=10)
    assert (entry.job_id, entry.measurement) == (job, TOPIC)
    assert entry.reason == "the schema registry refuses it: not compatible"
    assert world.target("kafka-points").trouble is None
    assert world.target("kafka-points").sent_through == job
    world.close()


def test_points_that_do_not_fit_a_schema_of_somebody_else_are_put_aside(
    tmp_path: Path, brokers: MockKafka
) -> None:
    world = world_of(tmp_path, brokers, "avro")
    theirs = {"name": "PA1", "type": "string", "default": ""}
    needed = {"name": "who", "type": "string"}
    world.registry.schemas.append({"type": "record", "name": "x", "fields": [needed, theirs]})
    world.registry.subjects[f"{TOPIC}-value"] = [0]
    job = world.add({"PA1": 1.0})
    world.drain()
    with world.site.record.read() as connection:
        (entry,) = refused_after(connection, 0, limit=10)
    assert entry.job_id == job
    assert "who" in entry.reason
    assert world.target("kafka-points").sent_through == job
    world.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.ConnectError("refused"), "the schema registry does not answer: refused"),
        (httpx.Response(401, json={"message": "who?"}), "the schema registry answers 401: who?"),
        (httpx.Response(200, text="<html>"), "not as a schema registry does"),
    ],
)
def test_without_its_registry_points_wait(
    tmp_path: Path, brokers: MockKafka, answer: Any, words: str
) -> None:
    world = world_of(tmp_path, brokers, "avro")
    world.registry.refusal = answer
    job = world.add({"PA1": 1.0})
    world.drain()
    row = world.target("kafka-points")
    assert row.sent_through == 0
    assert row.trouble is not None
    assert words in row.trouble
    assert "kafka-registry" in row.trouble
    world.registry.refusal = None
    world.drain()
    assert world.target("kafka-points").sent_through == job
    world.close()


def test_events_do_not_wait_for_points(tmp_path: Path, brokers: MockKafka) -> None:
    world = KafkaWorld(
        tmp_path,
        brokers,
        kafka_send=("jobs", "points"),
        kafka_points="avro",
        kafka_registry="https://registry.example",
    )
    world.registry.refusal = httpx.ConnectError("refused")
    job = world.add({"PA1": 1.0})
    world.drain()
    assert world.target("kafka").sent_through == job
    assert world.target("kafka-points").sent_through == 0
    world.close()


NAMES = (
    *("a", "PA1", "a-b", "a.b", "1a", "_1a", "", "ä", "meta_a", "meta.a", "meta.a.text", "a_b"),
    *("meta.a_text", "meta.a_text.text", "meta.a-b", "meta.a_b", "meta.text", "meta..text"),
    *("x" * 300, "x" * 301, "a b"),
)


def test_no_two_names_become_one_in_avro() -> None:
    made = [avro_name(name) for name in NAMES]
    assert len({*made}) == len(NAMES)
    assert all(name.isascii() and name.isidentifier() for name in made)
    assert (avro_name("PA1"), avro_name("meta.a"), avro_name("meta.a.text")) == (
        "PA1",
        "meta_a",
        "meta_a_text",
    )


def test_every_package_has_a_topic_that_kafka_can_have() -> None:
    packages = ["validate_drp", "a-b", "a_b", "ä", "1", "x" * 400]
    made = [topic_part(name) for name in packages]
    assert len({*made}) == len(packages)
    assert made[0] == "validate_drp"
    assert all(len(name) < 190 and name.isascii() and name.isidentifier() for name in made)


def test_metadata_cannot_make_a_schema_grow_for_ever() -> None:
    from squash_api.delivery.kafka_points import Record

    schema = TopicSchema("a", "b")
    for start in range(0, 3 * MOST_FIELDS, 1000):
        head = {f"meta.k{number}": 1.0 for number in range(start, start + 1000)}
        schema.add(Record(head, frozenset(), {"m": 1.0}))
    assert len(schema.document()["fields"]) == MOST_FIELDS + 2
    record = Record({"meta.k14999": 1.0, "meta.k0": 2.0}, frozenset(), {"m": 1.0})
    assert schema.datum(record) == {"meta_k0": 2.0, "tags": [], "m": 1.0}
