"""Points as messages of Kafka, in the forms that Telegraf reads.

`influx` is line protocol, as InfluxDB is sent it. `json` and `avro` are the flat records of Rubin's
Sasquatch: one topic for each package, below a namespace; text for what is a tag there, a number for
each metric. Source: the reference on Sasquatch's contract, and Telegraf's parsers `avro`, `json_v2`
and `influx`.
"""

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha1
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
import orjson

from squash_api.delivery.kafka_client import Message, Registry
from squash_api.delivery.outlet import HeldUpError
from squash_api.influx.points import fields_of, job_to_points
from squash_api.schema.names import (
    META_PREFIX,
    RUN_ID,
    TEXT_SUFFIX,
    TIMESTAMP,
    Context,
    split_metric_name,
)
from squash_api.setting_types import KafkaTarget

MOST_FIELDS = 5_000
"""Most fields of the schema of a topic. Metadata beyond that is left out of its records."""

_RENAMED = {"dataset": "dataset_tag", RUN_ID: "run"}
# What every record has under a name of its own.
_OWN = frozenset({"id", "run", "timestamp", "time_ns", "dataset_tag", "tags", "measurement"})
_NO_NAME = re.compile(r"[^A-Za-z0-9_]", re.ASCII)
_LONGEST_NAME = 180
_MAGIC = b"\0"


@dataclass(frozen=True, slots=True)
class JobPoints:
    """What the points of a job are made of, as `influx.points:job_to_points` takes it."""

    job_id: int
    squash_url: str
    time_ns: int
    values: Mapping[str, float]
    context: Context
    code_changes: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Unsent:
    """A message that cannot be made, and why."""

    message: Message
    reason: str


class PointsForm(ABC):
    """Makes messages of points."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    @abstractmethod
    def messages(self, job: JobPoints) -> Iterator[Message | Unsent]:
        """Make the messages of a job: one for each package, keyed by its series."""

    def topic(self, package: str) -> str:
        """Return the topic of a package."""
        return f"{self._namespace}.{topic_part(package)}"

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Close what it has opened."""


class LineForm(PointsForm):
    """Line protocol."""

    def messages(self, job: JobPoints) -> Iterator[Message | Unsent]:
        """Make the messages of a job."""
        for point in job_to_points(**_arguments(job)):
            key = series_key(point.measurement, job.context.tags)
            value = point.line.encode()
            yield Message(self.topic(point.measurement), key, value, job.job_id)


class JsonForm(PointsForm):
    """Flat JSON: names are those in InfluxDB, except the dataset's and the run's."""

    def messages(self, job: JobPoints) -> Iterator[Message | Unsent]:
        """Make the messages of a job."""
        for package, values in _by_package(job.values).items():
            topic = self.topic(package)
            record = record_of(job, package, values)
            value = orjson.dumps({"measurement": topic, **record.head, "tags": None, **record.tail})
            yield Message(topic, series_key(package, job.context.tags), value, job.job_id)


class AvroForm(PointsForm):
    """Avro, with schemas in a registry; each message begins with the id of its schema.

    The schema of a topic has a field for all that its records have ever had. What a record does not
    have is null there, and tags are an empty text, as Sasquatch's clients send it.
    """

    def __init__(self, namespace: str, registry: Registry) -> None:
        super().__init__(namespace)
        self._registry = registry
        self._schemas: dict[str, TopicSchema] = {}

    def messages(self, job: JobPoints) -> Iterator[Message | Unsent]:
        """Make the messages of a job."""
        for package, values in _by_package(job.values).items():
            topic = self.topic(package)
            record = record_of(job, package, values)
            key = series_key(package, job.context.tags)
            try:
                value = self._encode(topic, record)
            except HeldUpError:
                raise
            except Exception as error:  # noqa: BLE001  it does not fit a schema that others have made
                plain = orjson.dumps({**record.head, **record.tail})
                words = str(error) or type(error).__name__
                yield Unsent(Message(topic, key, plain, job.job_id), words)
            else:
                yield Message(topic, key, value, job.job_id)

    def close(self) -> None:
        """Close the connections to the registry."""
        self._registry.close()

    def _encode(self, topic: str, record: "Record") -> bytes:
        from fastavro import schemaless_writer  # noqa: PLC0415 - of an extra

        schema = self._schemas.get(topic)
        if schema is None:
            schema = TopicSchema(self._namespace, topic[len(self._namespace) + 1 :])
            schema.learn(self._registry.latest(_subject(topic)))
        schema.add(record)
        if schema.is_new:
            schema.schema_id = self._registry.register(_subject(topic), schema.document())
            schema.is_new = False
        self._schemas[topic] = schema
        out = io.BytesIO()
        out.write(_MAGIC + schema.schema_id.to_bytes(4, "big"))
        schemaless_writer(out, schema.parsed(), schema.datum(record))
        return out.getvalue()


@dataclass(frozen=True, slots=True)
class Record:
    """A point as a flat record: what it is about, and behind that its metrics.

    `tags` are those keys of `head` that are tags in InfluxDB.
    """

    head: Mapping[str, str | float]
    tags: frozenset[str]
    tail: Mapping[str, float]


def record_of(job: JobPoints, package: str, values: Mapping[str, float]) -> Record:
    """Make the record of a package; `values` are by the metrics' own names."""
    tags = {_own_name(name): text for name, text in job.context.tags.items()}
    fields = fields_of(
        job_id=job.job_id,
        squash_url=job.squash_url,
        time_ns=job.time_ns,
        context=job.context,
        code_changes=job.code_changes,
    )
    # There it is in seconds, and exactly below.
    del fields[TIMESTAMP]
    head: dict[str, str | float] = {
        "id": str(uuid5(NAMESPACE_URL, f"{job.squash_url}#{package}")),
        "run": fields.pop(RUN_ID, ""),
        "timestamp": job.time_ns / 1e9,
        "time_ns": job.time_ns,
        "dataset_tag": "",
        **{_own_name(name): value for name, value in fields.items()},
        **tags,
    }
    tail = {_own_name(name): value for name, value in values.items()}
    return Record(head, frozenset({"dataset_tag", *tags}), tail)


class TopicSchema:
    """The Avro schema of a topic, which only ever gets more fields."""

    def __init__(self, namespace: str, name: str) -> None:
        self.is_new = True
        self.schema_id = 0
        self._namespace = namespace
        self._name = name
        self._head: dict[str, Any] = {
            "id": _field("id", "string", ""),
            "run": _field("run", "string", ""),
            "timestamp": {"name": "timestamp", "type": "double"},
            "time_ns": _field("time_ns", "long", 0),
            "dataset_tag": _field("dataset_tag", "string", ""),
        }
        self._tail: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._parsed: Any = None

    def learn(self, document: Mapping[str, Any] | None) -> None:
        """Take the fields of the newest schema in the registry: they stay for ever."""
        part = self._head
        for item in (document or {}).get("fields") or ():
            if item.get("name") == "tags":
                part = self._tail
            elif item["name"] not in self._head:
                part[item["name"]] = item

    def add(self, record: Record) -> None:
        """Add what a record has and the schema has not."""
        for name, value in record.head.items():
            clean = self._clean(name)
            if clean in self._head or len(self._head) >= MOST_FIELDS:
                continue
            if name in record.tags:
                made = _field(clean, "string", "")
            else:
                kind = "string" if isinstance(value, str) else "double"
                made = _field(clean, ["null", kind], None)
            self._put(self._head, clean, made)
        for name in record.tail:
            clean = self._clean(name)
            if clean not in self._tail:
                self._put(self._tail, clean, _field(clean, ["null", "double"], None))

    def datum(self, record: Record) -> dict[str, Any]:
        """Return a record under names that Avro has, without what has no field."""
        found = {self._clean(name): value for name, value in record.head.items()}
        known = {name: value for name, value in found.items() if name in self._head}
        return {**known, "tags": [], **{self._clean(k): v for k, v in record.tail.items()}}

    def document(self) -> dict[str, Any]:
        """Return the schema. Metrics are behind `tags`, as Sasquatch's clients have it."""
        tags = {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []}
        fields = [*self._head.values(), tags, *self._tail.values()]
        return {
            "type": "record",
            "namespace": self._namespace,
            "name": self._name,
            "fields": fields,
        }

    def parsed(self) -> Any:
        """Return the schema as fastavro wants it."""
        if self._parsed is None:
            from fastavro import parse_schema  # noqa: PLC0415 - of an extra

            self._parsed = parse_schema(self.document())
        return self._parsed

    def _put(self, part: dict[str, Any], name: str, made: Mapping[str, Any]) -> None:
        part[name] = made
        self.is_new, self._parsed = True, None

    def _clean(self, name: str) -> str:
        found = self._names.get(name)
        if found is None:
            found = self._names[name] = avro_name(name)
        return found


def avro_name(name: str) -> str:
    """Return the name of a field in Avro, which has letters, digits and `_` alone.

    It is the name itself, and `meta_` of other metadata. Names of which that cannot be told back
    get a mark, so that no two are the same.
    """
    if name.startswith(META_PREFIX):
        is_text = name.endswith(TEXT_SUFFIX)
        key = name.removeprefix(META_PREFIX)
        key = key.removesuffix(TEXT_SUFFIX) if is_text else key
        clean = _NO_NAME.sub("_", key)
        is_clear = clean == key and (is_text or not key.endswith("_text"))
        made = f"meta_{clean}_text" if is_text else f"meta_{clean}"
    else:
        made = _NO_NAME.sub("_", name)
        made = f"_{made}" if made[:1].isdigit() or not made else made
        is_clear = made == name and not name.startswith("meta_")
    is_clear = is_clear and len(made) <= _LONGEST_NAME
    return made if is_clear else f"{made[:_LONGEST_NAME]}_{_mark(name)}"


def topic_part(package: str) -> str:
    """Return the last part of the topic of a package, and the name of its schema.

    Kafka has fewer characters than InfluxDB, and Avro fewer still.
    """
    clean = _NO_NAME.sub("_", package)
    clean = f"_{clean}" if clean[:1].isdigit() or not clean else clean
    is_same = clean == package and len(clean) <= _LONGEST_NAME
    return clean if is_same else f"{clean[:_LONGEST_NAME]}_{_mark(package)}"


def series_key(name: str, tags: Mapping[str, str]) -> str:
    """Return the key of a series: its name and its tags, sorted."""
    return ",".join([name, *(f"{tag}={tags[tag]}" for tag in sorted(tags))])


def form_of(target: KafkaTarget, *, transport: httpx.BaseTransport | None = None) -> PointsForm:
    """Make the form of points that a target wants; `transport` is that to the registry."""
    if target.points == "avro":
        return AvroForm(target.namespace, Registry(target, transport=transport))
    return LineForm(target.namespace) if target.points == "influx" else JsonForm(target.namespace)


def _arguments(job: JobPoints) -> dict[str, Any]:
    return {name: getattr(job, name) for name in JobPoints.__slots__}


def _by_package(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        package, key = split_metric_name(name)
        found.setdefault(package, {})[key] = value
    return found


def _own_name(name: str) -> str:
    """Return the name of a tag, field or metric in records."""
    if name in _RENAMED:
        return _RENAMED[name]
    return f"{name}_{_mark(name)}" if name in _OWN else name


def _field(name: str, kind: Any, default: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "default": default}


def _subject(topic: str) -> str:
    return f"{topic}-value"


def _mark(name: str) -> str:
    return sha1(name.encode(), usedforsecurity=False).hexdigest()[:6]
