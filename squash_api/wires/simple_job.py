"""The simple job of the SQUASH prototype and of DESI's Quick Look Framework, as JSON or as a form.

A document has `name`, the pipeline or CI job, and of these what applies: `build`, its number;
`runtime`, when it ran, or `start` and `end`; `url`, its page; `status`, 0 for success; and
`measurements`, a list of `{"metric": ..., "value": ...}`. What else it has is metadata.

Source: the design documents of both, of 2016.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid5

import msgspec

from squash_api.errors import (
    MOST_PLACES,
    Detail,
    InvalidInputError,
    MalformedJsonError,
    MissingFieldError,
)
from squash_api.judging.simple_metric import full_name
from squash_api.schema.text import link_text
from squash_api.schema.times import parse_time_ns
from squash_api.wires.decoding import decode_body
from squash_api.wires.parts import Parts

NAME = "simple"
"""The wire of a document in JSON."""

FORM_NAME = "simple form"
"""The wire of a document in a form."""

STATUS_METRIC = "job_status"
"""The metric that `status` becomes; every point has a tag with the name `status`."""

_ADDRESS = "?package="
_OWN_KEYS = frozenset({"name", "build", "runtime", "start", "end", "url", "status"})
_KEYS_OF_LSST_VERIFY = frozenset({"meta", "blobs"})
_MEASUREMENTS = "measurements"
_KEYS_OF_A_MEASUREMENT = ("metric", "value", "units", "unit", "identifier")
_MOST_FIELDS = 2_000
_MOST_SHOWN = 60
_NAMESPACE = UUID("5c1c2a0a-4d0e-5a0b-9a54-5d3f6b3c7f10")
_AS_JSON = "send the job as JSON (with requests: json=job in place of data=job)"
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])

_Place = tuple[str | int, ...]
_Problem = tuple[_Place, str, str]


def is_simple(body: bytes) -> bool:
    """Tell a simple job in JSON from one of lsst.verify.

    It has a key of its own, and neither `meta` nor `blobs`, one of which lsst.verify always sends.
    """
    try:
        keys = _KEYS.decode(body).keys()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            found, _ = decode_body(body)
        except InvalidInputError:
            return False
        keys = found.keys() if isinstance(found, dict) else {}.keys()
    return not keys & _KEYS_OF_LSST_VERIFY and bool(keys & _OWN_KEYS)


def read_object(body: bytes) -> tuple[dict[str, Any], int]:
    """Decode a JSON object, with all digits of its numbers; return the number of bare NaN too.

    Raises
    ------
    MalformedJsonError, InvalidInputError
        If it is none.
    """
    document, bare_tokens = decode_body(body)
    if not isinstance(document, dict):
        raise InvalidInputError(
            "The body must be a JSON object.",
            detail=[Detail(("body",), "must be an object", "object_type")],
        )
    return document, bare_tokens


def form_object(body: bytes) -> dict[str, Any]:
    """Decode a form, whose fields are text.

    Raises
    ------
    InvalidInputError
        If a field is there more than once: what requests makes of a list cannot be read back.
    """
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        message = f"is not a form as programs send it, with at most {_MOST_FIELDS} fields"
        raise InvalidInputError(
            f"The body {message}.", detail=[Detail(("body",), message, "form_invalid")]
        ) from None
    document: dict[str, Any] = {}
    for key, text in fields:
        if key in document:
            message = (
                f"is there more than once, which is what a form makes of a list: {_AS_JSON}"
                if key == _MEASUREMENTS
                else f"is there more than once: send it once, or {_AS_JSON}"
            )
            raise _invalid([(("body", key), message, "form_list")])
        document[key] = text
    return document


def address_of(package: str) -> str:
    """Return what the record keeps with a job: the package of metrics that name none."""
    return f"{_ADDRESS}{package}"


def read_simple_job(body: bytes, address: str | None) -> Parts:
    """Read a simple job in JSON; `address` is from `address_of`.

    Raises
    ------
    MalformedJsonError
        If it is not JSON.
    InvalidInputError
        If it is not such a job; `detail` has every place that is wrong.
    """
    document, bare_tokens = read_object(body)
    return _parts(document, _package_of(address), bare_tokens)


def read_simple_form(body: bytes, address: str | None) -> Parts:
    """Read a simple job in a form, as `read_simple_job` does."""
    return _parts(form_object(body), _package_of(address), 0)


def _package_of(address: str | None) -> str:
    return (address or "").removeprefix(_ADDRESS)


def _parts(document: Mapping[str, Any], package: str, bare_tokens: int) -> Parts:
    if _is_nothing(document.get("name")):
        raise MissingFieldError(
            "The body needs `name`, the pipeline or CI job.",
            detail=[Detail(("body", "name"), "is missing", "missing")],
        )
    measurements = document.get(_MEASUREMENTS)
    if measurements is None:
        measurements = []
    if isinstance(measurements, str):
        measurements = _measurements_of_text(measurements)
    problems = [*_problems(document), *_problems_of_measurements(measurements)]
    if problems:
        raise _invalid(problems)
    found = [_measurement(item, package) for item in measurements]
    places: list[_Place] = [
        ("body", _MEASUREMENTS, index, "metric") for index in range(len(measurements))
    ]
    status = document.get("status")
    if not _is_nothing(status):
        found.append(
            {"metric": full_name(STATUS_METRIC, package), "value": _number(status), "unit": ""}
        )
        places.append(("body", "status"))
    for item in found:
        item["identifier"] = item.get("identifier") or _identifier(document, item["metric"])
    unknown = dict.fromkeys(
        key for item in measurements for key in item if key not in _KEYS_OF_A_MEASUREMENT
    )
    return Parts(
        found,
        _meta(document),
        places=places,
        bare_tokens=bare_tokens,
        unknown_keys=[*unknown],
        identity=_identifier(document),
        has_units=False,
        date_key="runtime",
    )


def _meta(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata, with the run as CI systems name it in `env`."""
    renamed = {
        "ci_name": document["name"],
        "ci_id": document.get("build"),
        "ci_url": document.get("url"),
        "date": _time_of(document),
        "status": document.get("status"),
    }
    run = {key: value for key, value in renamed.items() if not _is_nothing(value)}
    used = {"name", "build", "runtime", "url", "status", "env", _MEASUREMENTS}
    others = {key: value for key, value in document.items() if key not in used}
    return {**others, "env": {**(document.get("env") or {}), **run}}


def _time_of(document: Mapping[str, Any]) -> Any:
    """Return when the job ran."""
    return next(
        (document[key] for key in ("runtime", "start") if not _is_nothing(document.get(key))),
        None,
    )


def _measurement(item: Mapping[str, Any], package: str) -> dict[str, Any]:
    unit = next((item[key] for key in ("unit", "units") if item.get(key) is not None), None)
    return {
        "metric": full_name(item["metric"].strip(), package),
        "value": _number(item.get("value")),
        "unit": unit,
        "identifier": item.get("identifier"),
    }


def _identifier(document: Mapping[str, Any], metric: str = "") -> str | None:
    """Return what tells a measurement, so that a job which is sent twice is stored once.

    None if neither a build nor a time says which execution it was.
    """
    run = [document.get("build"), _time_of(document)]
    if all(map(_is_nothing, run)):
        return None
    return uuid5(_NAMESPACE, json.dumps([document["name"], *run, metric])).hex


def _measurements_of_text(text: str) -> Any:
    try:
        return decode_body(text.encode())[0]
    except (MalformedJsonError, InvalidInputError):
        raise _invalid(
            [(("body", _MEASUREMENTS), f"is neither a list nor JSON: {_AS_JSON}", "json_invalid")]
        ) from None


def _problems(document: Mapping[str, Any]) -> Iterator[_Problem]:
    """Yield what is wrong with a job, but for its measurements."""
    if not isinstance(document["name"], str | int) or isinstance(document["name"], bool):
        yield ("body", "name"), "must be text", "string_type"
    build, url, status = (document.get(key) for key in ("build", "url", "status"))
    if not isinstance(build, str | int | None) or isinstance(build, bool):
        yield ("body", "build"), "must be text or a whole number", "string_type"
    for key in ("runtime", "start", "end"):
        yield from _problems_of_time(key, document.get(key))
    if not _is_nothing(url) and not (isinstance(url, str) and link_text(url)):
        yield ("body", "url"), "must be an http or https URL", "url_type"
    if not _is_nothing(status) and _number(status) is None:
        yield ("body", "status"), "must be a number: 0 for success", "number_type"
    if not isinstance(document.get("env"), dict | None):
        yield ("body", "env"), "must be an object", "object_type"
    if not isinstance(document.get("packages"), dict | list | None):
        yield ("body", "packages"), "must be an object or a list", "object_type"


def _problems_of_time(key: str, value: Any) -> Iterator[_Problem]:
    if _is_nothing(value):
        return
    time_ns = parse_time_ns(value) if isinstance(value, str) else None
    if time_ns is None:
        example = "must be an ISO 8601 date, such as 2016-04-24T19:26:12.561564Z"
        yield ("body", key), example, "datetime_type"
    elif time_ns < 0:
        yield ("body", key), "must not be before 1970", "datetime_type"


def _problems_of_measurements(measurements: Any) -> Iterator[_Problem]:
    if not isinstance(measurements, list):
        yield ("body", _MEASUREMENTS), "must be a list", "list_type"
        return
    for index, item in enumerate(measurements):
        place = ("body", _MEASUREMENTS, index)
        if not isinstance(item, dict):
            yield place, "must be an object with metric and value", "object_type"
            continue
        metric, value = item.get("metric"), item.get("value")
        if metric is None:
            yield (*place, "metric"), "is missing", "missing"
        elif not isinstance(metric, str) or not metric.strip():
            yield (*place, "metric"), "must be text", "string_type"
        if "value" not in item:
            yield (*place, "value"), "is missing: send null if there is none", "missing"
        elif value is not None and _number(value) is None:
            yield (*place, "value"), f"must be a number or null, not {_shown(value)}", "number_type"
        for key in ("units", "unit", "identifier"):
            if not isinstance(item.get(key), str | None):
                yield (*place, key), "must be text or null", "string_type"


def _number(value: Any) -> float | int | None:
    """Return a number, which may be written as text; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return (
        int(number)
        if isfinite(number) and number.is_integer() and abs(number) < 1 << 53
        else number
    )


def _is_nothing(value: Any) -> bool:
    """Tell whether a field is empty; a form has no other way to say null."""
    return value is None or (isinstance(value, str) and not value.strip())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _invalid(problems: Sequence[_Problem]) -> InvalidInputError:
    place, message, _ = problems[0]
    where = ".".join(map(str, place[1:]))
    return InvalidInputError(
        f"This is not a job: {where} {message}.",
        detail=[Detail(*problem) for problem in problems[:MOST_PLACES]],
        more=max(len(problems) - MOST_PLACES, 0),
    )
