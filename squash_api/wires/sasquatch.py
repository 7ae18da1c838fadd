"""Sasquatch's wire: records of metrics, as analysis_tools' dispatcher posts them to a Kafka proxy.

A body has `records`, one or more, and usually `value_schema`: an Avro schema, as JSON in a text.
The address is the topic. Each record becomes a job of its own. Source: lsst/analysis_tools,
`_dispatcher.py`, and kafka-rest's API v2, of which other clients send other parts.

Values have no units, and the dispatcher writes 0.0 for a value that is null, NaN or infinite.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import blake2b, sha1
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
import orjson

from squash_api.errors import Detail, InvalidInputError, TooLargeError
from squash_api.schema.names import CONTRACT_FIELDS, TAGS, Schema
from squash_api.schema.text import SentNumber, as_sent
from squash_api.wires.bundle import metric_name
from squash_api.wires.decoding import (
    check_depth,
    decode_exactly,
    decode_json,
    has_long_number,
    path_text,
)
from squash_api.wires.parts import Parts

WIRE = "sasquatch"
"""The name of this wire in the record."""

MOST_RECORDS = 1_000
"""Most records of one request."""

NAMESPACES = (
    "lsst.camera",
    "lsst.cp",
    "lsst.debug",
    "lsst.dm",
    "lsst.example",
    "lsst.lf",
    "lsst.prompt",
    "lsst.prompt.prod",
    "lsst.rubintv",
    "lsst.survey",
    "lsst.verify",
    "lsst.verify.ap",
    "lsst.verify.drp",
)
"""Namespaces in use at Rubin, for records without a schema, which would name theirs."""

_NUMBERS_FROM_TEXT = ("visit", "exposure", "day_obs")
_IDENTIFIERS = ("detector", "patch", "skymap", "tract", "physical_filter", "instrument", "band")
_META = frozenset(
    {
        *("id", "run", "dataset_type", "dataset_tag", "tags", "measurement", "group"),
        *("reference_package", "reference_package_version"),
        *_IDENTIFIERS,
        *_NUMBERS_FROM_TEXT,
    }
)
# Numbers under these names are metadata of any job.
_OTHER_META = {*Schema().sources, *TAGS, *CONTRACT_FIELDS, "ci_refs", "ci_label", "ccd", "fiber"}
# What the dispatcher sends before `tags`; others may have a key of that name too.
_DISPATCHERS = ("run", "dataset_type", "dataset_tag", "run_timestamp")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
_NO_NUMBERS = frozenset({str, bool, type(None)})
_UNIONS = frozenset(
    {"null", "boolean", "int", "long", "float", "double", "bytes", "string", "array", "map"}
)
_NUMERIC = frozenset({"int", "long", "float", "double"})
# Above it, a time is in a smaller unit: in seconds it is 3169 years after 1970.
_FIRST_MILLISECOND = 10**11
# Milliseconds, microseconds and nanoseconds.
_SMALLER_UNITS = 3
# Not a date of eight digits, as 20260515.
_UNIX_TIME = re.compile(r"\d{9,19}(?:\.\d+)?", re.ASCII)
_UNKNOWN = "<unknown>"
# What jobs of lsst.verify call it.
_RENAMED = {"run": "run_id", "dataset_tag": "dataset", "reference_package_version": "version_tag"}


@dataclass(frozen=True, slots=True)
class _AvroSchema:
    """What a schema tells: the namespace, and the types of the fields in their order."""

    namespace: str | None
    fields: Mapping[str, frozenset[str]]


class _Record(msgspec.Struct):
    value: dict[str, msgspec.Raw] | None = None


class _Request(msgspec.Struct):
    records: list[_Record] = []


_TEXTS = msgspec.json.Decoder(_Request)


def split_records(body: bytes, *, max_bytes: int) -> list[bytes]:
    """Split a request into bodies of one record each: all else is in each of them, as it came.

    The body itself, if it has one record; what is no request is left to `read_record`.

    Raises
    ------
    TooLargeError
        If there are more than `MOST_RECORDS`, or the bodies together are larger than `max_bytes`.
    """
    found, _ = decode_json(body)
    records = found.get("records") if isinstance(found, dict) else None
    if not isinstance(records, list) or len(records) < 2:
        return [body]
    if len(records) > MOST_RECORDS:
        raise TooLargeError(
            f"The request has {len(records)} records, more than {MOST_RECORDS}: send it in parts."
        )
    pieces = dict(_pieces(body.decode("utf-8-sig"), "{"))
    texts = [text for _, text in _pieces(pieces.pop("records"), "[")]
    others = "".join(f"{json.dumps(key)}: {text}, " for key, text in pieces.items())
    if len(texts) * len(others) + len(body) > max_bytes:
        raise TooLargeError(
            f"The records, each with its schema, are larger than {max_bytes} bytes: send them in "
            "parts."
        )
    return [f'{{{others}"records": [{text}]}}'.encode() for text in texts]


_SPACE = re.compile(r"[ \t\r\n]*")


def _pieces(text: str, opening: str) -> Iterator[tuple[str, str]]:
    """Yield the keys of a JSON object, or '' for each entry of a list, with the text of each."""
    # Which reads bare NaN too, and tells where a value ends.
    decoder = json.JSONDecoder()
    at = text.index(opening) + 1
    while True:
        at = _after_space(text, at)
        if text[at] in "}]":
            return
        key = ""
        if opening == "{":
            key, at = decoder.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)
        _, end = decoder.raw_decode(text, at)
        yield key, text[at:end]
        at = _after_space(text, end)
        at += text[at] == ","


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def check_topic(topic: str) -> None:
    """Raise `InvalidInputError` if Kafka would not have a topic of this name."""
    if _TOPIC.fullmatch(topic) is None:
        raise InvalidInputError(
            f"`{topic[:100]}` cannot be the name of a topic: send 1 to 249 letters, digits, dots, "
            "underscores and hyphens.",
            detail=[Detail(("path", "topic"), "must have only letters, digits, `.`, `_` and `-`")],
        )


def is_within(topic: str, namespace: str) -> bool:
    """Tell whether a topic belongs to a namespace, or to one below it."""
    return topic == namespace or topic.startswith(f"{namespace}.")


def read_record(body: bytes, address: str | None) -> Parts:
    """Read a body with one record, sent to the topic `address`.

    Raises
    ------
    MalformedJsonError
        If it is not JSON, with line and column.
    InvalidInputError
        If it is no such request, with the JSON path of what is wrong.
    """
    topic = address or ""
    document, bare_tokens = decode_json(body)
    check_depth(document, body)
    schema = _read_schema(document)
    value = _plain_all(_value_of(document))
    name = _full_name(topic, value.get("measurement"))
    namespace = _namespace_of(name, schema)
    metrics = _metrics_of(value, schema)
    identity = _identity_of(value, topic)
    others = {key: found for key, found in value.items() if key not in metrics}
    if has_long_number(body):
        others |= _exact(body, others)
    package = _package_of(name, namespace)
    measurements: list[dict[str, Any]] = [
        {
            "metric": metric_name(package, key, value),
            "value": value[key],
            "identifier": _uuid5(identity, f"{topic}.{key}"),
        }
        for key in metrics
    ]
    return Parts(
        measurements,
        _metadata(others, namespace),
        [_blob_of(item) for item in measurements if isinstance(item["value"], list | dict)],
        places=[("body", "records", 0, "value", key) for key in metrics],
        bare_tokens=bare_tokens,
        identity=f"{identity.hex()} {topic}",
        changing=("run_timestamp",),
        has_units=False,
        date_key="timestamp",
    )


# The request


def _value_of(document: Any) -> Mapping[str, Any]:
    """Return the value of the one record of a request."""
    if not isinstance(document, dict):
        raise _invalid((), "must be an object with `records`", "object_type")
    records = document.get("records")
    if not isinstance(records, list) or not records:
        raise _invalid(("records",), "must be a list with at least one record", "list_type")
    if not isinstance(records[0], dict) or "value" not in records[0]:
        raise _invalid(("records", 0), "must be an object with a `value`", "object_type")
    value = records[0]["value"]
    if not isinstance(value, dict):
        raise _invalid(
            ("records", 0, "value"), "must be an object of names and values", "object_type"
        )
    return value


def _invalid(place: tuple[str | int, ...], problem: str, kind: str) -> InvalidInputError:
    loc = ("body", *place)
    return InvalidInputError(
        f"This cannot be stored: {path_text(loc)} {problem}.", detail=[Detail(loc, problem, kind)]
    )


def _read_schema(document: Any) -> _AvroSchema | None:
    text = document.get("value_schema") if isinstance(document, dict) else None
    if text is None:
        return None
    found = _schema_of(text if isinstance(text, str) else orjson.dumps(text, default=as_sent))
    if isinstance(found, str):
        raise _invalid(("value_schema",), found, "schema_invalid")
    return found


# All records of a topic have the same.
@lru_cache(maxsize=512)
def _schema_of(text: str | bytes) -> _AvroSchema | str:
    """Read a schema, of which only what is needed here must be right; or say what is wrong."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        return "must be an Avro schema: JSON, in a text"
    if not isinstance(schema, dict):
        return "must be the Avro schema of a record"
    namespace, fields = schema.get("namespace"), schema.get("fields")
    return _AvroSchema(
        namespace if isinstance(namespace, str) and namespace else None,
        {
            item["name"]: frozenset(_types(item.get("type")))
            for item in (fields if isinstance(fields, list) else ())
            if isinstance(item, dict) and isinstance(item.get("name"), str)
        },
    )


def _types(kind: Any) -> Iterator[str]:
    """Yield the names of the types that a field may have."""
    for each in kind if isinstance(kind, list) else [kind]:
        name = each.get("type") if isinstance(each, dict) else each
        if isinstance(name, str):
            yield name


def _plain_all(value: Mapping[str, Any]) -> Mapping[str, Any]:
    # Hardly any record has a union.
    if dict not in map(type, value.values()):
        return value
    return {key: _plain(found) for key, found in value.items()}


def _plain(value: Any) -> Any:
    """Return the value of an Avro union, which names its type: `{"float": 1.5}`."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, inner),) = value.items()
        return inner if kind in _UNIONS else value
    return value


def _exact(body: bytes, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that have numbers which a float rounds, with all their digits."""
    kinds = {key: type(found) for key, found in value.items()}
    try:
        texts = _TEXTS.decode(body).records[0].value or {}
        found = {key: bytes(texts[key]) for key, kind in kinds.items() if kind not in _NO_NUMBERS}
        long = {key: text for key, text in found.items() if has_long_number(text)}
        return {key: _plain(decode_exactly(text)) for key, text in long.items()}
    except (msgspec.DecodeError, orjson.JSONDecodeError, InvalidInputError, KeyError):
        # It was decoded tolerantly, and so with all digits.
        return {}


# Names


def _full_name(topic: str, measurement: Any) -> str:
    """Return the name of what is measured: the topic, or what a record says that is below it."""
    if not isinstance(measurement, str) or _TOPIC.fullmatch(measurement) is None:
        return topic
    return measurement if is_within(measurement, topic) else f"{topic}.{measurement}"


def _namespace_of(name: str, schema: _AvroSchema | None) -> str:
    """Return the namespace of a topic: that of its schema, a known one, or all but its last part.

    A schema whose namespace the topic does not begin with is not believed.
    """
    if schema is not None and schema.namespace and name.startswith(f"{schema.namespace}."):
        return schema.namespace
    known = [namespace for namespace in NAMESPACES if is_within(name, namespace)]
    return max(known, key=len) if known else name.rpartition(".")[0]


def _package_of(name: str, namespace: str) -> str:
    """Return what follows the namespace; of a topic that is one, its last part."""
    package = name[len(namespace) + 1 :] if is_within(name, namespace) else name
    return package or name.rpartition(".")[2]


def _metrics_of(value: Mapping[str, Any], schema: _AvroSchema | None) -> dict[str, None]:
    """Return the keys of a record that are metrics, in their order.

    The dispatcher has all of them behind `tags`, which is not in the schema if it is empty. In what
    others send, they are the numbers that have no other meaning.
    """
    types = {} if schema is None else schema.fields
    order = list(types) if "tags" in types else list(value)
    if "tags" in order:
        at = order.index("tags")
        if at + 1 < len(order) and not set(order[:at]).isdisjoint(_DISPATCHERS):
            return {key: None for key in order[at + 1 :] if key in value}
    return {
        key: None
        for key, found in value.items()
        if key not in _META
        and key not in _OTHER_META
        and "timestamp" not in key
        and (_is_number(found) or (found is None and not _NUMERIC.isdisjoint(types.get(key, ()))))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# What becomes of the values


def _identity_of(value: Mapping[str, Any], topic: str) -> bytes:
    """Return what is the same when a record is sent again: of its id, else of all that it has."""
    own = value.get("id")
    if isinstance(own, str) and own:
        try:
            return UUID(own).bytes
        except ValueError:
            return uuid5(NAMESPACE_URL, own).bytes
    text = orjson.dumps(value, default=as_sent, option=orjson.OPT_SORT_KEYS)
    return blake2b(topic.encode() + text, digest_size=16).digest()


def _uuid5(namespace: bytes, name: str) -> str:
    """Return what `uuid.uuid5` does, in hexadecimal and in a third of the time."""
    digest = bytearray(sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return digest.hex()


def _blob_of(item: dict[str, Any]) -> dict[str, Any]:
    """Move a value that is no number into a blob, and let the measurement refer to it."""
    identifier = _uuid5(bytes.fromhex(item["identifier"]), "blob")
    name, found = item["metric"], item["value"]
    item |= {"value": None, "blob_refs": [identifier]}
    datum = {"value": found, "unit": None, "label": name, "description": ""}
    return {"identifier": identifier, "name": name, "data": {name: datum}}


def _metadata(value: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """Return what is no metric, under the names that jobs of lsst.verify have. `""` is left out."""
    found = {
        key: item
        for key, item in value.items()
        if (item or isinstance(item, int | float)) and key != "measurement"
    }
    moved: dict[str, Any] = {}
    if found.get("run") == _UNKNOWN:
        del found["run"]
    renamed = {
        "run": "run_id",
        "dataset_tag": "dataset",
        "reference_package_version": "version_tag",
    }
    if "ci_id" in found:
        # Which is then the run.
        del renamed["run"]
    for old, new in renamed.items():
        if old in found and new not in found:
            moved[new] = found.pop(old)
    for key in _NUMBERS_FROM_TEXT:
        found[key] = _number_from(found[key]) if key in found else None
    if "reference_package" not in found:
        found.pop("reference_package_timestamp", None)
    env = found.pop("env", None)
    env = env if isinstance(env, dict) else {} if env is None else {"env": env}
    if namespace:
        moved["namespace"] = namespace
        env = {"env_name": namespace, **env}
    date = _date_of(found.pop("timestamp", None))
    if date is not None:
        env = {**env, "date": date}
    return {**{key: item for key, item in found.items() if item is not None}, **moved, "env": env}


def _number_from(text: Any) -> Any:
    """Return the number that jobs of lsst.verify have, where a data id of the butler has text."""
    is_whole = isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 19
    return int(text) if is_whole and str(int(text)) == text else text


def _date_of(timestamp: Any) -> str | None:
    """Return a time in Unix seconds, or a smaller unit, as an ISO 8601 date, to the nanosecond."""
    if timestamp is None or isinstance(timestamp, list | dict | bool):
        return None
    if isinstance(timestamp, str) and _UNIX_TIME.fullmatch(timestamp):
        return _date_at(timestamp)
    if not isinstance(timestamp, int | float):
        return str(timestamp)
    return _date_at(timestamp.text if isinstance(timestamp, SentNumber) else repr(timestamp))


# All records of a run have the same.
@lru_cache(maxsize=1024)
def _date_at(timestamp: str) -> str:
    try:
        seconds = Decimal(timestamp)
        for _ in range(_SMALLER_UNITS):
            if seconds > _FIRST_MILLISECOND:
                seconds /= 1000
        whole = int(seconds // 1)
        day = datetime.fromtimestamp(whole, UTC).replace(tzinfo=None).isoformat()
    except (InvalidOperation, OverflowError, ValueError, OSError):
        return timestamp
    fraction = f"{seconds - whole:.9f}"[2:].rstrip("0")
    return f"{day}.{fraction}Z" if fraction else f"{day}Z"
