"""The document of a job: reading and checking its JSON, its time and its digests.

It is what `lsst.verify.Job.dispatch` posts, and it may be what clients have relied on: absent or
list-shaped `packages`, absent `env`, null units, unknown keys, bare NaN. Source: lsst.verify,
`Job.json`.

There are two ways to read it. The short way is one typed decoder for the keys and types that nearly
every job has; it leaves packages and blobs as JSON text, and returns None where it is not sure. The
whole way reads everything and says what is wrong, and where. What the short way returns is what
the whole way would have returned.
"""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, islice
from typing import Annotated, Any

import msgspec
import orjson

from squash_api.errors import (
    MOST_PLACES,
    Detail,
    InvalidInputError,
    MalformedJsonError,
    nearest,
)
from squash_api.schema.text import as_sent
from squash_api.schema.times import parse_time_ns
from squash_api.wires.decoding import (
    MAX_DEPTH,
    decode_exactly,
    decode_json,
    has_long_number,
    path_text,
)
from squash_api.wires.parts import Parts

_DAY_NS = 86_400 * 10**9
_PACKAGE_KEYS = ("name", "git_sha", "git_url", "git_branch", "eups_version")
# What the value of `packages` may begin with: `{`, `[` or null.
_CONTAINERS = frozenset({b"{", b"[", b"n"})
_NULL = msgspec.Raw(b"null")
# Longer texts, and greater numbers, may not fit into a point.
_PLAIN_LETTERS = 10_000
_PLAIN_NUMBER = 1e300
_PLAIN = frozenset({bool, type(None), msgspec.Raw})
# Only so many keys of measurements are looked at for misspelt ones.
_MOST_KEYS = 20
# Where in the body a problem is, and message and type of its `Detail`, which takes longer to make.
_Problem = tuple[tuple[str | int, ...], str, str]
_NO_OBJECT = ("must be an object", "object_type")
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Measured(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A measurement of a job document, without keys that have no meaning."""

    metric: str
    value: float | _Int64 | str | bool | None = None
    unit: str | None = None
    identifier: str | None = None
    blob_refs: list[str] | None = None


MEASURED_KEYS = Measured.__struct_fields__
"""The keys of a measurement that have a meaning."""

DOCUMENT_KEYS = ("measurements", "blobs", "meta")
"""The keys of a job that have a meaning."""


class Job:
    """A job document.

    `packages` in `meta`, and the values in `blobs`, may still be JSON text. `bare_tokens` is how
    many `NaN` and `Infinity` in the body, which are not JSON, were read as null. `unknown_keys` are
    those of the document that have no meaning, and those of its measurements that look misspelt;
    they are known only when a job is received. `places` are where in its body the measurements are,
    if that is not where lsst.verify has them. `has_units` says that who sends a value without a
    unit may have meant another than the metric's. `date_key` is where its body has `env.date`.
    """

    __slots__ = (
        "_blobs",
        "_identity",
        "_places",
        "bare_tokens",
        "date_key",
        "has_units",
        "measurements",
        "meta",
        "unknown_keys",
    )

    def __init__(
        self,
        measurements: Sequence[Measured] = (),
        meta: Mapping[str, Any] | None = None,
        blobs: Sequence[Mapping[str, Any]] = (),
        *,
        bare_tokens: int = 0,
        unknown_keys: Sequence[str] = (),
        places: Sequence[tuple[str | int, ...]] = (),
        identity: str | None = None,
        has_units: bool = True,
        date_key: str = "env.date",
    ) -> None:
        self.date_key = date_key
        self._places = places
        self._identity = identity
        self.has_units = has_units
        self.unknown_keys = unknown_keys
        self.measurements = measurements
        self.meta = {} if meta is None else meta
        self.bare_tokens = bare_tokens
        self._blobs = blobs

    @property
    def env(self) -> Mapping[str, Any]:
        """The environment of the job; empty if it has none."""
        return self.meta.get("env") or {}

    @property
    def packages(self) -> Sequence[Mapping[str, str | None]]:
        """Its packages, sorted by name, whether the document lists them or keys them by name.

        Packages without a name are left out. Values that are not text are None.
        """
        packages = self.meta.get("packages")
        if isinstance(packages, msgspec.Raw):
            return _packages(bytes(packages))
        return _packages(orjson.dumps(packages, default=as_sent))

    @property
    def blobs(self) -> list[dict[str, Any]]:
        """The blobs as posted."""
        return [_decoded(blob) for blob in self._blobs]

    def blobs_named(self, names: Container[str]) -> Iterator[dict[str, Any]]:
        """Yield the blobs with these names, in order; the others are not decoded."""
        for blob in self._blobs:
            name = _decoded({"name": blob.get("name")})["name"]
            if isinstance(name, str) and name in names:
                yield _decoded(blob)

    def place_of(self, index: int) -> tuple[str | int, ...]:
        """Return where in the body a measurement is, as a `Detail` has it."""
        return self._places[index] if self._places else ("body", "measurements", index)

    def place_of_metric(self, index: int) -> tuple[str | int, ...]:
        """Return where in the body the name of a measurement's metric is."""
        place = self.place_of(index)
        return place if self._places else (*place, "metric")

    def adding(self, measurements: Sequence[Measured]) -> "Job":
        """Return the job with further measurements after its own."""
        own = [*self.measurements, *measurements]
        job = Job(own, self.meta, self._blobs, bare_tokens=self.bare_tokens, places=self._places)
        job.unknown_keys = self.unknown_keys
        return job

    def time_ns(self, *, received_ns: int) -> tuple[int, str | None]:
        """Return the job's time in ns since 1970, and a note if it is the time of receipt.

        It is `env.date`, else `meta.date`, if between 1970 and one day after receipt.
        """
        text = self.env.get("date")
        if text is None:
            text = self.meta.get("date")
        if text is None:
            return received_ns, f"no {self.date_key}: the time of receipt is used"
        time_ns = parse_time_ns(text) if isinstance(text, str) else None
        if time_ns is None:
            return received_ns, (
                f"{self.date_key} is not an ISO 8601 date in a form that is read here, such as "
                "2026-11-20T03:12:44Z: the time of receipt is used"
            )
        if not 0 <= time_ns <= received_ns + _DAY_NS:
            return received_ns, (
                f"{self.date_key} is before 1970 or more than a day ahead: "
                "the time of receipt is used"
            )
        return time_ns, None

    def identifiers_digest(self) -> bytes | None:
        """Return 16 bytes that are the same for the same set of measurement identifiers.

        None if there is no measurement, or one has no identifier. Without measurements it is that
        of what the wire has instead.
        """
        identifiers = [item.identifier for item in self.measurements if item.identifier]
        if not self.measurements and self._identity:
            identifiers = [self._identity]
        if not identifiers or len(identifiers) < len(self.measurements):
            return None
        identifiers.sort()
        names = "\n".join(identifiers).encode()
        return blake2b(names, digest_size=16).digest()

    def outline(self, tag_keys: Collection[str]) -> int | None:
        """Return a number that is the same for metadata with the same tags and names of fields.

        None if that also depends on something else, such as whether a text is too long to be kept.
        `tag_keys` are those that feed tags.
        """
        return _outline(self.meta, tag_keys)


def _decoded(blob: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: decode_json(bytes(value))[0] if isinstance(value, msgspec.Raw) else value
        for key, value in blob.items()
    }


def _outline(meta: Mapping[str, Any], tag_keys: Collection[str]) -> int | None:
    found: list[object] = []
    for key, value in meta.items():
        kind = type(value)
        if kind is dict:
            inner = _outline(value, tag_keys)
            if inner is None:
                return None
            found.append((key, inner))
            continue
        if kind is str:
            is_plain = 0 < len(value) < _PLAIN_LETTERS and value.isprintable()
        elif kind is float or kind is int:
            is_plain = -_PLAIN_NUMBER < value < _PLAIN_NUMBER
        elif kind is list:
            is_plain = key not in tag_keys and len(str(value)) < _PLAIN_LETTERS
        else:
            is_plain = kind in _PLAIN
        if not is_plain:
            return None
        found.append((key, kind, value) if key in tag_keys else (key, kind))
    return hash(tuple(found))


def decode_job(body: bytes) -> Job:
    """Decode and check the body of a job.

    Raises
    ------
    MalformedJsonError
        If it is not JSON (bare `NaN` and `Infinity` excepted), with line and column.
    InvalidInputError
        If it is JSON but not a job, with the JSON path of every wrong part.
    """
    return _decode_short(body, is_accepted=False) or _decode_whole(body)


def reread_job(body: bytes) -> Job:
    """Decode, without checks, the body of a job that `decode_job` has accepted."""
    return _decode_short(body, is_accepted=True) or _job_of(*_read_document(body))


def digest_job(body: bytes) -> bytes:
    """Return 16 bytes that are the same for equal jobs, whatever the order of their keys.

    They cover measurements, blobs and metadata, except `env.date`, which changes when a job is sent
    again. `decode_job` must have accepted the body.
    """
    return digest_parts(Parts(**_read_document(body)[0]))


def digest_parts(document: Parts) -> bytes:
    """Return the 16 bytes of `digest_job` for a job that came by another wire."""
    meta = document.meta
    env = meta.get("env") or {}
    if "date" in env:
        meta = {**meta, "env": {key: value for key, value in env.items() if key != "date"}}
    if document.changing:
        meta = {key: value for key, value in meta.items() if key not in document.changing}
    parts = [document.measurements, document.blobs, meta]
    text = orjson.dumps(parts, default=as_sent, option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=16).digest()


def job_of(parts: Parts) -> Job:
    """Make the document of what a wire has read."""
    measurements = [measured_of(item) for item in parts.measurements]
    return Job(
        measurements,
        parts.meta,
        parts.blobs,
        bare_tokens=parts.bare_tokens,
        unknown_keys=parts.unknown_keys,
        places=parts.places,
        identity=parts.identity,
        has_units=parts.has_units,
        date_key=parts.date_key,
    )


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


# The short way


class _Document(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    measurements: list[Measured] | None = None
    blobs: list[dict[str, msgspec.Raw]] | None = None
    meta: dict[str, msgspec.Raw] | None = None


class _WithMeta(msgspec.Struct, gc=False):
    meta: dict[str, msgspec.Raw] | None = None


_DECODER = msgspec.json.Decoder(_Document)
_UNDECODED = (
    msgspec.DecodeError,
    MalformedJsonError,
    InvalidInputError,
    UnicodeDecodeError,
    RecursionError,
)
_META_DECODER = msgspec.json.Decoder(_WithMeta)


def _decode_short(body: bytes, *, is_accepted: bool) -> Job | None:
    """Decode a job with the keys and types that nearly every job has; None if it has others.

    Packages and blobs stay text: neither accepting a job nor making its points needs them, and
    decoding them costs as much as all measurements (`benchmarks/`).
    """
    try:
        document = _DECODER.decode(body)
        if not is_accepted and not _is_plain(document, body):
            return None
        # With the decoder of the whole way: others read some numbers differently.
        meta = {
            key: text if key == "packages" else decode_exactly(bytes(text))
            for key, text in (document.meta or {}).items()
        }
    except (*_UNDECODED, orjson.JSONDecodeError):
        return None
    if not isinstance(meta.get("env"), dict | None):
        return None
    return Job(document.measurements or [], meta, document.blobs or [])


def _is_plain(document: _Document, body: bytes) -> bool:
    """Return whether the text in a document is UTF-8 and surely not nested too deep.

    It has been checked to be JSON. Text with few brackets cannot be nested too deep.

    Raises
    ------
    UnicodeDecodeError
        If the body is not UTF-8.
    """
    if not body.isascii():
        body.decode()
    meta = document.meta or {}
    packages = meta.get("packages", _NULL)
    # Without a copy: packages are a third of a job.
    if bytes(memoryview(packages)[:1]) not in _CONTAINERS:
        return False
    texts = [*meta.values(), *(text for blob in document.blobs or () for text in blob.values())]
    return not any(
        text.count(b"{") + text.count(b"[") >= MAX_DEPTH
        for text in [bytes(raw) for raw in texts if memoryview(raw).nbytes > MAX_DEPTH]
    )


# The whole way


def _decode_whole(body: bytes) -> Job:
    """Decode and check any job; raise as `decode_job` does."""
    document, bare_tokens, unknown = _read_document(body)
    found = chain(
        _measurements_problems(document["measurements"]),
        _blobs_problems(document["blobs"]),
        _meta_problems(document["meta"]),
    )
    # A body has room for millions.
    problems = [
        Detail(("body", *place), message, kind)
        for place, message, kind in islice(found, MOST_PLACES)
    ]
    if problems:
        raise InvalidInputError(
            f"This is not a job: {path_text(problems[0].loc)} {problems[0].msg}.",
            detail=problems,
            more=sum(1 for _ in found),
        )
    try:
        orjson.dumps(document, default=as_sent)
    except orjson.JSONEncodeError:
        loc = ("body", *_too_deep_path(document))
        raise InvalidInputError(
            f"The job is nested deeper than {MAX_DEPTH} levels, below {path_text(loc)}.",
            detail=[Detail(loc, f"is nested deeper than {MAX_DEPTH} levels", "too_deep")],
        ) from None
    return _job_of(document, bare_tokens, [*unknown, *_misspelt_keys(document["measurements"])])


def _read_document(body: bytes) -> tuple[dict[str, Any], int, list[str]]:
    """Return measurements, blobs and meta, unchecked, the number of bare tokens, and other keys."""
    document, bare_tokens = decode_json(body)
    if not isinstance(document, dict):
        raise InvalidInputError(
            "The job must be a JSON object with measurements, blobs and meta.",
            detail=[Detail(("body",), *_NO_OBJECT)],
        )
    empty: dict[str, Any] = {"measurements": [], "blobs": [], "meta": {}}
    parts = {key: value for key in empty if (value := document.get(key)) is not None}
    if isinstance(parts.get("measurements"), dict):
        parts["measurements"] = [parts["measurements"]]
    if isinstance(parts.get("meta"), dict):
        parts["meta"] = _with_exact_numbers(parts["meta"], body)
    return empty | parts, bare_tokens, [key for key in document if key not in empty]


def _with_exact_numbers(meta: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Return decoded metadata with all digits of its numbers, as the short way reads them."""
    try:
        texts = {key: bytes(text) for key, text in (_META_DECODER.decode(body).meta or {}).items()}
        long = {key: text for key, text in texts.items() if has_long_number(text)}
        return meta | {key: decode_exactly(text) for key, text in long.items()}
    except _UNDECODED:
        # It was decoded tolerantly, and so with all digits, or is too deep.
        return meta


def _misspelt_keys(measurements: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return keys that look like one of a measurement's, which are misspelt."""
    keys = dict.fromkeys(key for item in measurements for key in item if key not in MEASURED_KEYS)
    return [key for key in islice(keys, _MOST_KEYS) if nearest(key, MEASURED_KEYS)]


def _job_of(document: dict[str, Any], bare_tokens: int, unknown: Sequence[str]) -> Job:
    measurements = [measured_of(item) for item in document["measurements"]]
    return Job(
        measurements,
        document["meta"],
        document["blobs"],
        bare_tokens=bare_tokens,
        unknown_keys=unknown,
    )


def _measurements_problems(measurements: Any) -> Iterator[_Problem]:
    if not isinstance(measurements, list):
        yield ("measurements",), "must be a list", "list_type"
        return
    for index, item in enumerate(measurements):
        if not isinstance(item, dict):
            yield ("measurements", index), *_NO_OBJECT
            continue
        if "metric" not in item:
            yield ("measurements", index, "metric"), "is missing", "missing"
        elif not isinstance(item["metric"], str):
            yield ("measurements", index, "metric"), "must be text", "string_type"
        if isinstance(item.get("value"), dict | list):
            yield ("measurements", index, "value"), "must be a number or null", "number_type"
        for key in ("unit", "identifier"):
            if not isinstance(item.get(key), str | None):
                yield ("measurements", index, key), "must be text or null", "string_type"


def _blobs_problems(blobs: Any) -> Iterator[_Problem]:
    if not isinstance(blobs, list):
        yield ("blobs",), "must be a list", "list_type"
        return
    for index, item in enumerate(blobs):
        if not isinstance(item, dict):
            yield ("blobs", index), *_NO_OBJECT


def _meta_problems(meta: Any) -> Iterator[_Problem]:
    if not isinstance(meta, dict):
        yield ("meta",), *_NO_OBJECT
        return
    if not isinstance(meta.get("env"), dict | None):
        yield ("meta", "env"), *_NO_OBJECT
    if not isinstance(meta.get("packages"), dict | list | None):
        yield ("meta", "packages"), "must be an object or a list", "object_type"


def _too_deep_path(document: Any, *, shown: int = 4) -> tuple[str | int, ...]:
    """Return the first `shown` steps to a place that is nested deeper than `MAX_DEPTH` levels.

    It keeps its own stack, since the document may be deeper than Python can recurse.
    """
    stack: list[tuple[Any, int, tuple[str | int, ...]]] = [(document, 0, ())]
    while stack:
        node, depth, path = stack.pop()
        if depth > MAX_DEPTH:
            return path
        if isinstance(node, dict | list):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            stack.extend((value, depth + 1, (*path, key)[:shown]) for key, value in items)
    return ()


# What was left as text


# The jobs of a run have the same packages.
@lru_cache(maxsize=64)
def _packages(text: bytes) -> tuple[Mapping[str, str | None], ...]:
    packages, _ = decode_json(text)
    if isinstance(packages, dict):
        packages = [
            {"name": name, **(entry if isinstance(entry, dict) else {})}
            for name, entry in packages.items()
        ]
    found: dict[str, dict[str, str | None]] = {}
    for entry in packages or ():
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and name:
            found[name] = {
                key: entry[key] if isinstance(entry.get(key), str) else None
                for key in _PACKAGE_KEYS
            }
    return tuple(found[name] for name in sorted(found))
