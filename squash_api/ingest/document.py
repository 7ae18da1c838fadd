"""The job document: what `lsst.verify.Job.dispatch` posts, decoded and checked.

Source: lsst.verify `Job.json`; the tolerances are those that clients have relied on (absent or
list-shaped `packages`, absent `env`, null units, unknown keys).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any

import msgspec
import orjson

from squash_api.errors import Detail, InvalidInputError
from squash_api.ingest.json_text import MAX_DEPTH, decode_json, path_text, too_deep_path

_DAY_NS = 86_400 * 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(
    r"(?P<main>\d{4}-?\d{2}-?\d{2}"
    r"(?:[T ]\d{2}(?::?\d{2}(?::?\d{2}(?:[.,](?P<fraction>\d{1,18}))?)?)?)?)"
    r"\s*(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)?",
    re.ASCII | re.IGNORECASE,
)


_NO_BLOBS = frozenset({b"null", b"[]"})
# What the value of `packages` may begin with; null is as good as none.
_CONTAINERS = frozenset({b"{", b"[", b"n"})
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Quantity(msgspec.Struct, gc=False):
    """The value of a metric as a job document holds it."""

    metric: str
    value: float | _Int64 | str | bool | None = None
    unit: str | None = None


class Measured(Quantity, gc=False, forbid_unknown_fields=True):
    """A measurement as a job document holds it; other keys that it may have mean nothing."""

    identifier: str | None = None
    blob_refs: list[str] | None = None


@dataclass(frozen=True, slots=True)
class JobValues:
    """What of a checked job document its points are made of."""

    measurements: Sequence[Quantity] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, Any]:
        """The environment of the job; empty if it names none."""
        return self.meta.get("env") or {}


@dataclass(frozen=True, slots=True)
class Job(JobValues):
    """A checked job document.

    `bare_tokens` counts the `NaN` and `Infinity` of the body, which are not JSON and were read as
    null.
    """

    measurements: Sequence[Measured] = field(default_factory=list)
    blobs: list[dict[str, Any]] = field(default_factory=list)
    bare_tokens: int = 0

    def time_ns(self, *, received_ns: int) -> tuple[int, str | None]:
        """Return the job's time in ns since 1970, and a note if it is the time of receipt.

        `env.date`, else `meta.date`, if it lies between 1970 and one day after the receipt; a date
        without zone is in UTC.
        """
        date = self.env.get("date")
        if date is None:
            date = self.meta.get("date")
        if date is None:
            return received_ns, "no env.date: the time of receipt was taken"
        time_ns = parse_time_ns(date) if isinstance(date, str) else None
        if time_ns is None:
            return received_ns, "env.date is not an ISO 8601 date: the time of receipt was taken"
        if not 0 <= time_ns <= received_ns + _DAY_NS:
            return received_ns, (
                "env.date is before 1970 or more than a day ahead: the time of receipt was taken"
            )
        return time_ns, None


def parse_time_ns(text: str) -> int | None:
    """Return an ISO 8601 date in ns since 1970, or None; without zone it is in UTC."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    zone = (match["zone"] or "Z").upper()
    try:
        moment = datetime.fromisoformat(re.split("[.,]", match["main"])[0]).replace(tzinfo=UTC)
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{zone}").utcoffset()
    except ValueError:
        return None
    seconds = (moment - _EPOCH - (offset or timedelta())) // timedelta(seconds=1)
    return seconds * 10**9 + int((match["fraction"] or "0")[:9].ljust(9, "0"))


def decode_job(body: bytes) -> Job:
    """Decode and check the body of a job.

    Raises
    ------
    MalformedJsonError
        If it is not JSON (bare `NaN` and `Infinity` excepted), with line and column.
    InvalidInputError
        If it is JSON but not a job, with the JSON path of every wrong part.
    """
    job = _decode_usual(body)
    if job is not None:
        return job
    document, bare_tokens = _read_document(body)
    problems = [
        *_measurements_problems(document["measurements"]),
        *_blobs_problems(document["blobs"]),
        *meta_problems(document["meta"]),
    ]
    if problems:
        raise InvalidInputError(
            f"This is not a job: {path_text(problems[0].loc)} {problems[0].msg}.",
            detail=problems,
        )
    _check_depth(document)
    return _job_of(document, bare_tokens)


def decode_accepted_job(body: bytes) -> Job:
    """Decode the body of a job that `decode_job` has accepted before; nothing is checked again."""
    return _decode_usual(body) or _job_of(*_read_document(body))


class _Document(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    measurements: list[Measured] | None = None
    blobs: list[dict[str, Any]] | None = None
    meta: dict[str, Any] | None = None


class _Parts(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    measurements: list[Measured] | None = None
    blobs: msgspec.Raw = msgspec.Raw(b"null")
    meta: msgspec.Raw = msgspec.Raw(b"null")


class _Receipt(msgspec.Struct, gc=False):
    """What of the metadata the taking in of a job needs; the rest is passed over."""

    env: dict[str, Any] | None = None
    date: Any = None
    packages: msgspec.Raw = msgspec.Raw(b"null")


_DECODER = msgspec.json.Decoder(_Document)
_PARTS_DECODER = msgspec.json.Decoder(_Parts)
_RECEIPT_DECODER = msgspec.json.Decoder(_Receipt)


def receive_job(body: bytes) -> Job:
    """Check the body of a job as `decode_job` does, and return what taking it in needs.

    The blobs are left out, and so is the metadata but for `date` and `env`: to make them and throw
    them away costs as much as all measurements (`benchmarks/`).

    Raises
    ------
    MalformedJsonError, InvalidInputError
        As `decode_job`.
    """
    return _receive_usual(body) or decode_job(body)


def _receive_usual(body: bytes) -> Job | None:
    """Return the job if nothing about it needs a second look, else None.

    What is passed over is checked to be JSON, but for its encoding, so only ASCII will do. Whoever
    has few brackets cannot be nested too deep.
    """
    if not body.isascii():
        return None
    try:
        parts = _PARTS_DECODER.decode(body)
        if bytes(parts.blobs) not in _NO_BLOBS:
            return None
        meta = bytes(parts.meta)
        if meta.count(b"{") + meta.count(b"[") > MAX_DEPTH:
            return None
        receipt = _RECEIPT_DECODER.decode(meta) if meta != b"null" else _Receipt()
    except (msgspec.DecodeError, RecursionError):
        return None
    if bytes(receipt.packages)[:1] not in _CONTAINERS:
        return None
    kept = {"env": receipt.env, "date": receipt.date}
    return Job(parts.measurements or [], kept)


def _decode_usual(body: bytes) -> Job | None:
    """Decode a job with the keys and types that nearly every one has; None if it has others.

    It costs half of decoding and then checking. Keys without a meaning are looked at elsewhere:
    here they would be skipped over, whatever is in them.
    """
    try:
        document = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    blobs, meta = document.blobs or [], document.meta or {}
    if any(meta_problems(meta)) or not is_writable(blobs, meta):
        return None
    return Job(document.measurements or [], meta, blobs)


def _read_document(body: bytes) -> tuple[dict[str, Any], int]:
    """Return measurements, blobs and meta, whatever they are, and the number of bare tokens."""
    document, bare_tokens = decode_json(body)
    if not isinstance(document, dict):
        raise InvalidInputError(
            "The job must be a JSON object with measurements, blobs and meta.",
            detail=[Detail(("body",), "must be an object", "object_type")],
        )
    measurements = _or_empty(document.get("measurements"), [])
    if isinstance(measurements, dict):
        measurements = [measurements]
    blobs = _or_empty(document.get("blobs"), [])
    meta = _or_empty(document.get("meta"), {})
    return {"measurements": measurements, "blobs": blobs, "meta": meta}, bare_tokens


def _job_of(document: dict[str, Any], bare_tokens: int) -> Job:
    measurements = [measured_of(item) for item in document["measurements"]]
    return Job(measurements, document["meta"], document["blobs"], bare_tokens)


def measured_of(item: Mapping[str, Any]) -> Measured:
    """Return a measurement of a checked document."""
    references = item.get("blob_refs")
    return Measured(
        item["metric"],
        item.get("value"),
        item.get("unit"),
        item.get("identifier"),
        [reference for reference in references if isinstance(reference, str)]
        if isinstance(references, list)
        else None,
    )


def digest_identifiers(job: Job) -> bytes | None:
    """Return 16 bytes that tell equal sets of measurements, by their identifiers.

    None if there is no measurement, or one without identifier.
    """
    identifiers = [item.identifier or "" for item in job.measurements]
    if not identifiers or not all(identifiers):
        return None
    names = "\n".join(sorted(identifiers)).encode()
    return blake2b(names, digest_size=16).digest()


def digest_job(body: bytes) -> bytes:
    """Return 16 bytes that tell equal jobs, whatever the order of their keys.

    Over measurements, blobs and metadata, but for `env.date`, which changes when a job is sent
    again. The body is one that `decode_job` has accepted.
    """
    document, _ = _read_document(body)
    meta = document["meta"]
    env = meta.get("env") or {}
    if "date" in env:
        meta = {**meta, "env": {key: value for key, value in env.items() if key != "date"}}
    parts = [document["measurements"], document["blobs"], meta]
    text = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=16).digest()


def _or_empty(part: Any, empty: Any) -> Any:
    return empty if part is None else part


def is_writable(*parts: Any) -> bool:
    """Tell whether parts can be written again: not nested too deep, no integer beyond 64 bits.

    Writing them is the cheapest way to tell.
    """
    try:
        orjson.dumps(parts)
    except orjson.JSONEncodeError:
        return False
    return True


def _check_depth(document: dict[str, Any]) -> None:
    if not is_writable(*document.values()):
        loc = ("body", *too_deep_path(document))
        raise InvalidInputError(
            f"The job is nested deeper than {MAX_DEPTH} levels, below {path_text(loc)}.",
            detail=[Detail(loc, f"is nested deeper than {MAX_DEPTH} levels", "too_deep")],
        )


def _measurements_problems(measurements: Any) -> Iterator[Detail]:
    if not isinstance(measurements, list):
        yield Detail(("body", "measurements"), "must be a list", "list_type")
        return
    for index, item in enumerate(measurements):
        yield from _measurement_problems(item, ("body", "measurements", index))


def _measurement_problems(item: Any, loc: tuple[str | int, ...]) -> Iterator[Detail]:
    if not isinstance(item, dict):
        yield Detail(loc, "must be an object", "object_type")
        return
    if "metric" not in item:
        yield Detail((*loc, "metric"), "is missing", "missing")
    elif not isinstance(item["metric"], str):
        yield Detail((*loc, "metric"), "must be text", "string_type")
    if isinstance(item.get("value"), dict | list):
        yield Detail((*loc, "value"), "must be a number or null", "number_type")
    for key in ("unit", "identifier"):
        if not isinstance(item.get(key), str | None):
            yield Detail((*loc, key), "must be text or null", "string_type")


def _blobs_problems(blobs: Any) -> Iterator[Detail]:
    if not isinstance(blobs, list):
        yield Detail(("body", "blobs"), "must be a list", "list_type")
        return
    for index, item in enumerate(blobs):
        if not isinstance(item, dict):
            yield Detail(("body", "blobs", index), "must be an object", "object_type")


def meta_problems(meta: Any) -> Iterator[Detail]:
    """Yield what is wrong with a job's metadata."""
    if not isinstance(meta, dict):
        yield Detail(("body", "meta"), "must be an object", "object_type")
        return
    if not isinstance(meta.get("env"), dict | None):
        yield Detail(("body", "meta", "env"), "must be an object", "object_type")
    if not isinstance(meta.get("packages"), dict | list | None):
        yield Detail(("body", "meta", "packages"), "must be an object or a list", "object_type")
