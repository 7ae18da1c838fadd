"""Points as line protocol: those of jobs, and the service's own. Pure.

A job has one point per verification package. `influxdb_client.Point` does the escaping; here it is
only spared what repeats: names, tags and texts of earlier jobs, the metadata that all points of a
job share, and the order of its metrics. Every number is a float: no field ever changes its type.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import add
from typing import Any

import orjson

from squash_api.schema import names as schema
from squash_api.schema import watch as watch_names
from squash_api.schema.names import RUN_ID, SQUASH_URL
from squash_api.schema.text import MAX_TEXT_BYTES, clean_text

# A million names of 1 kB must not fill the memory.
_CACHED_NAMES = 8192
_CACHED_JOBS = 128
_MOST_CACHED_TOGETHER = 1000


@dataclass(frozen=True, slots=True)
class EncodedPoint:
    """One point: its measurement as InfluxDB names it, and its line without a line break."""

    measurement: str
    line: str


def job_to_points(
    *,
    job_id: int,
    squash_url: str,
    time_ns: int,
    values: Mapping[str, float],
    context: schema.Context,
    code_changes: tuple[str, int] | None,
) -> list[EncodedPoint]:
    """Turn a job into one point per verification package, in order of first appearance.

    Parameters
    ----------
    job_id
        Becomes the field `squash_id`.
    squash_url
        Plain URL of the job.
    time_ns
        Time of every point, in ns since 1970, UTC.
    values
        Finite numbers in the metrics' units, by full metric name; no name has a
        `schema.Schema.name_problem`.
    context
        The job's metadata under InfluxDB's names.
    code_changes
        A text about the packages that have changed, and how many have; None if that is not known:
        then the points have no field for it.

    """
    if not values:
        return []
    fields = fields_of(
        job_id=job_id,
        squash_url=squash_url,
        time_ns=time_ns,
        context=context,
        code_changes=code_changes,
    )
    shared = _shared_text(context.tags, fields)
    # One call for all numbers is several times faster than a repr for each, and as exact.
    numbers = orjson.dumps(list(values.values()))[1:-1].decode().split(",")
    names = tuple(values)
    parts = _parts(names) if len(names) <= _MOST_CACHED_TOGETHER else _parts.__wrapped__(names)
    return [
        EncodedPoint(
            part.measurement,
            f"{part.start}{shared},{','.join(part.assigned(numbers))} {time_ns:d}",
        )
        for part in parts
    ]


def fields_of(
    *,
    job_id: int,
    squash_url: str,
    time_ns: int,
    context: schema.Context,
    code_changes: tuple[str, int] | None,
) -> dict[str, str | float]:
    """Return the fields that every point of a job has, by name, besides its metrics."""
    fields: dict[str, str | float] = {
        **context.fields,
        schema.SQUASH_ID: float(job_id),
        schema.SQUASH_URL: squash_url,
        schema.TIMESTAMP: float(time_ns),
    }
    if code_changes is not None:
        text, count = code_changes
        fields[schema.CODE_CHANGES] = text
        fields[schema.CODE_CHANGES_COUNTS] = float(count)
    return fields


def _shared_text(tags: Mapping[str, str], fields: Mapping[str, str | float]) -> str:
    """Encode what follows the measurement in every line of a job: tags, space, first fields."""
    texts = [_encoded_tag(key, tags[key]) for key in sorted(tags)]
    assignments = [_encoded_field(key, fields[key]) for key in sorted(fields)]
    return f"{''.join(texts)} {','.join(assignments)}"


@lru_cache(maxsize=_CACHED_NAMES)
def _encoded_tag(key: str, text: str) -> str:
    """Encode a tag, with the comma before it."""
    line: str = _point("m").tag(key, text).field("f", 1.0).to_line_protocol()
    return line[len("m") : -len(" f=1")]


def _encoded_field(key: str, value: str | float) -> str:
    if isinstance(value, str):
        is_short = len(value) <= MAX_TEXT_BYTES
        encode = _encoded_text if is_short else _encoded_text.__wrapped__
        return encode(key, value)
    return f"{_encoded_key(key)}={value!r}".removesuffix(".0")


@lru_cache(maxsize=_CACHED_NAMES)
def _encoded_text(key: str, text: str) -> str:
    line: str = _point("m").field(key, text).to_line_protocol()
    return line[len("m ") :]


@lru_cache(maxsize=_CACHED_NAMES)
def _encoded_key(key: str) -> str:
    line: str = _point("m").field(key, 1.0).to_line_protocol()
    return line[len("m ") : -len("=1")]


@dataclass(slots=True)
class _Part:
    """The values of one measurement: the start of its line, their keys and places in the job."""

    measurement: str
    start: str
    keys: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def assigned(self, numbers: Sequence[str]) -> Iterable[str]:
        """Assign the job's numbers that belong here to their keys."""
        if len(self.places) < len(numbers):
            numbers = [numbers[place] for place in self.places]
        return map(add, self.keys, numbers)


# The jobs of a pipeline measure the same metrics, in the same order.
@lru_cache(maxsize=_CACHED_JOBS)
def _parts(names: tuple[str, ...]) -> list[_Part]:
    """Group the metrics of a job by measurement, in order of first appearance."""
    parts: dict[str, _Part] = {}
    for place, name in enumerate(names):
        measurement, key = schema.split_metric_name(name)
        part = parts.get(measurement)
        if part is None:
            part = parts[measurement] = _Part(measurement, _encoded_measurement(measurement))
        part.keys.append(f"{_encoded_key(key)}=")
        part.places.append(place)
    return list(parts.values())


@lru_cache(maxsize=_CACHED_NAMES)
def _encoded_measurement(measurement: str) -> str:
    line: str = _point(measurement).field("f", 1.0).to_line_protocol()
    return line[: -len(" f=1")]


def _point(measurement: str) -> Any:
    from influxdb_client.client.write.point import Point  # noqa: PLC0415 - slow to import

    return Point(measurement)  # type: ignore[no-untyped-call]


# More than the series that are watched at most: with fewer, each minute would make all anew.
_CACHED_HEADS = 131_072


def heartbeat_line(time_ns: int) -> str:
    """Make the point that says that the service is watching."""
    return _line(watch_names.HEARTBEAT, {}, {watch_names.UP: 1.0}, time_ns)


def own_line(
    measurement: str,
    tags: Mapping[str, str],
    fields: Mapping[str, str | float | None],
    time_ns: int,
) -> str:
    """Make a point about the service itself."""
    return _line(measurement, tags, fields, time_ns)


def freshness_line(
    specification: str,
    tags: Iterable[tuple[str, str]],
    *,
    late_s: float,
    age_s: float,
    since: str,
    run_id: str | None,
    squash_url: str | None,
    time_ns: int,
    missing: str = "",
) -> str:
    """Make the point that says how late an expected series is.

    Parameters
    ----------
    late_s, age_s
        Seconds beyond what is allowed, and since the last value or the beginning.
    since
        When that was, in words.
    run_id, squash_url
        Those of the last job, if there is one.
    missing
        Which of the combinations that are named are late, in words.
    """
    # Only two numbers change from minute to minute.
    same = _freshness_head(specification, tuple(tags), since, run_id, squash_url, missing=missing)
    return f"{same},{watch_names.AGE_S}={age_s!r},{watch_names.LATE_S}={late_s!r} {time_ns:d}"


def gone_line(
    metric: str,
    tags: Mapping[str, str],
    fields: Mapping[str, str | float],
    *,
    speaks_for: str | None,
    not_for: str | None = None,
    time_ns: int,
    has_old: bool = False,
) -> str:
    """Make the point that tells Kapacitor that a series of a metric has no value to alert on.

    Parameters
    ----------
    tags, fields
        What the jobs of the series have.
    speaks_for, not_for
        The keys of groupings, if it speaks only for these, and of branches that it is not for.
    has_old
        Whether it still has values, all of them too old to alert on.
    """
    measurement, key = schema.split_metric_name(metric)
    told = {
        **fields,
        key: 0.0,
        schema.GONE: schema.GONE_OLD if has_old else schema.GONE_WHOLLY,
        schema.SPEAKS_FOR: speaks_for,
        schema.NOT_FOR: not_for,
    }
    return _line(measurement, tags, told, time_ns)


def standing_line(
    metric: str,
    tags: Iterable[tuple[str, str]],
    *,
    state: str,
    rank: float,
    value: float | None = None,
    margin: float | None = None,
    limit: str | None = None,
    severity: int = 0,
    broken: Iterable[str] = (),
    level_margin: float | None = None,
    summary: str | None = None,
    run_id: str | None = None,
    squash_url: str | None = None,
    time_ns: int,
) -> str:
    """Make the point with the standing of a metric for one combination of tags.

    Parameters
    ----------
    state, rank
        The state, and a number that sorts standings, of which 0 is the worst.
    value
        The newest value; None if it is absent, or there is none any more.
    margin, limit
        The smallest margin, and its specification.
    severity, broken
        The level of the worst limit that is broken, from 0 to 3, and all that are broken.
    level_margin, summary
        The margin of the worst limit that is broken, or else of the nearest, and both in words.
    run_id, squash_url
        Those of the job with the last value.
    """
    fields: dict[str, str | float | None] = {
        watch_names.STATE: state,
        watch_names.RANK: float(rank),
        watch_names.VALUE: value,
        watch_names.MARGIN: margin,
        watch_names.LIMIT: limit,
        watch_names.SEVERITY: float(severity),
        # Written even if nothing is broken, or the previous text would remain.
        watch_names.BROKEN: ", ".join(broken),
        watch_names.LEVEL_MARGIN: level_margin,
        watch_names.SUMMARY: summary,
        RUN_ID: run_id,
        SQUASH_URL: squash_url,
    }
    named = {watch_names.METRIC: metric, **dict(tags)}
    return _line(watch_names.STANDING, named, fields, time_ns)


@lru_cache(maxsize=_CACHED_HEADS)
def _freshness_head(
    specification: str,
    tags: tuple[tuple[str, str], ...],
    since: str,
    run_id: str | None,
    squash_url: str | None,
    *,
    missing: str,
) -> str:
    named = {watch_names.SPECIFICATION: specification, **dict(tags)}
    texts = {
        watch_names.SINCE: since,
        RUN_ID: run_id,
        SQUASH_URL: squash_url,
        watch_names.MISSING: missing or None,
    }
    return _line(watch_names.FRESHNESS, named, texts)


def _clean(key: str, text: str) -> str:
    """Make the text of a field safe; only the message of a verdict keeps its line breaks."""
    if key != watch_names.TEXT:
        return clean_text(text)
    return "\n".join(map(clean_text, text.split("\n")))


def _line(
    measurement: str,
    tags: Mapping[str, str],
    fields: Mapping[str, str | float | None],
    time_ns: int | None = None,
) -> str:
    point = _point(measurement)
    for key, text in tags.items():
        point.tag(key, clean_text(text))
    for key, value in fields.items():
        if value is not None:
            point.field(key, _clean(key, value) if isinstance(value, str) else float(value))
    if time_ns is not None:
        point.time(time_ns)
    line: str = point.to_line_protocol()
    return line
