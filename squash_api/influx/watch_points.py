"""Points of what the service says of itself, as line protocol. Pure.

Every number is a float, so that no field ever changes its type.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from squash_api import watch_names
from squash_api.schema import RUN_ID, SQUASH_URL
from squash_api.storable import clean_text

_CACHED_HEADS = 16_384


def heartbeat_line(time_ns: int) -> str:
    """Return the point that says that the service watches."""
    return _line(watch_names.HEARTBEAT, {}, {watch_names.UP: 1.0}, time_ns)


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
) -> str:
    """Return the point that says how late an expected series is.

    Parameters
    ----------
    late_s, age_s
        Seconds beyond what is allowed, and since the last value or the beginning.
    since
        When that was, in words.
    run_id, squash_url
        Of the last job, if there is one.
    """
    # All but two numbers stays the same from minute to minute.
    same = _freshness_head(specification, tuple(tags), since, run_id, squash_url)
    return f"{same},{watch_names.AGE_S}={age_s!r},{watch_names.LATE_S}={late_s!r} {time_ns:d}"


def standing_line(
    metric: str,
    tags: Iterable[tuple[str, str]],
    *,
    value: float | None,
    margin: float | None,
    limit: str | None,
    severity: int,
    broken: Iterable[str],
    run_id: str | None,
    squash_url: str | None,
    time_ns: int,
) -> str:
    """Return the point that says how a metric stands for one combination of tags.

    Parameters
    ----------
    value
        The last value; None if there is none any more.
    margin, limit
        The smallest margin, and the specification that it is of.
    severity, broken
        How bad the worst violation is, from 0 to 3, and the violated specifications.
    run_id, squash_url
        Of the job with the last value.
    """
    fields: dict[str, str | float | None] = {
        watch_names.VALUE: value,
        watch_names.MARGIN: margin,
        watch_names.LIMIT: limit,
        watch_names.SEVERITY: float(severity),
        # Present when nothing is broken too, or the last text would go on standing.
        watch_names.BROKEN: ", ".join(broken),
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
) -> str:
    named = {watch_names.SPECIFICATION: specification, **dict(tags)}
    texts = {watch_names.SINCE: since, RUN_ID: run_id, SQUASH_URL: squash_url}
    return _line(watch_names.FRESHNESS, named, texts)


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
            point.field(key, clean_text(value) if isinstance(value, str) else float(value))
    if time_ns is not None:
        point.time(time_ns)
    line: str = point.to_line_protocol()
    return line


def _point(measurement: str) -> Any:
    from influxdb_client.client.write.point import Point  # noqa: PLC0415 - slow to import

    return Point(measurement)  # type: ignore[no-untyped-call]
