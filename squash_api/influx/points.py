"""Points as line protocol: one per verification package of a job. Pure.

`influxdb_client.Point` escapes; this module only spares it what repeats: the metadata, which all
points of a job share, is encoded once per job, and each metric name once per process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import orjson

from squash_api import schema
from squash_api.storable import MAX_FIELD_TEXT_BYTES, clean_text, is_link

# Room for the words that stand for the changes that do not fit.
_MAX_CHANGES_BYTES = MAX_FIELD_TEXT_BYTES - 100
_URL_SAFE = ":/?#@!$&'*+,;=%~"
_MARKUP = str.maketrans("", "", "[]<>")
# Names of 1 kB by the million must not fill the memory.
_CACHED_NAMES = 8192


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A software package that came, went (`removed`) or has another commit since the last run."""

    name: str
    git_sha: str | None
    git_url: str | None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class EncodedPoint:
    """One point: its measurement as InfluxDB will name it, and its line without a line break."""

    measurement: str
    line: str


def job_to_points(
    *,
    job_id: int,
    squash_url: str,
    time_ns: int,
    values: Mapping[str, float],
    context: schema.Context,
    code_changes: Sequence[PackageChange] | None,
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
        Finite numbers in the metrics' units by full metric name; the names have no
        `schema.Schema.name_problem`.
    context
        The job's metadata under InfluxDB's names.
    code_changes
        None where they are not known; then the points have no field for them.

    Returns
    -------
    list
        The same input gives the same bytes.

    Notes
    -----
    Every number is a float for InfluxDB, which has no `i` after it, so a field never changes type.
    """
    if not values:
        return []
    fields: dict[str, str | float] = {
        **context.fields,
        schema.SQUASH_ID: float(job_id),
        schema.SQUASH_URL: squash_url,
        schema.TIMESTAMP: float(time_ns),
    }
    if code_changes is not None:
        fields[schema.CODE_CHANGES] = changes_text(code_changes)
        fields[schema.CODE_CHANGES_COUNTS] = float(len(code_changes))
    shared = _shared_text(context.tags, fields)
    # One call for all numbers is several times faster than a repr each, and as exact.
    numbers = orjson.dumps(list(values.values()))[1:-1].decode().split(",")
    texts: dict[str, list[str]] = {}
    for name, number in zip(values, numbers, strict=True):
        measurement, assignment = _encoded_name(name)
        texts.setdefault(measurement, []).append(assignment + number)
    return [
        EncodedPoint(
            measurement,
            f"{_encoded_measurement(measurement)}{shared},{','.join(assignments)} {time_ns:d}",
        )
        for measurement, assignments in texts.items()
    ]


def changes_text(changes: Sequence[PackageChange]) -> str:
    """Render code changes as Markdown: links to commits, with a comma and a space between them.

    A package whose URL is not http or https, or that has no commit, is named only; a removed one
    is named with a minus sign in front. What is beyond InfluxDB's longest text is counted.
    """
    texts: list[str] = []
    room = _MAX_CHANGES_BYTES
    for change in changes:
        text = _change_text(change)
        room -= len(text.encode()) + 2
        if room < 0:
            texts.append(f"and {len(changes) - len(texts)} more")
            break
        texts.append(text)
    return ", ".join(texts)


def _change_text(change: PackageChange) -> str:
    """Render one change; nothing in a name or URL can make another link of it."""
    name = clean_text(change.name).translate(_MARKUP)
    if change.removed:
        return f"-{name}"
    url = clean_text(change.git_url or "")
    if not change.git_sha or not is_link(url):
        return name
    address = f"{url.removesuffix('.git')}/commit/{clean_text(change.git_sha)}"
    return f"[{name}]({quote(address, safe=_URL_SAFE)})"


def _shared_text(tags: Mapping[str, str], fields: Mapping[str, str | float]) -> str:
    """Return what follows the measurement in every line of a job: tags, space, first fields."""
    point = _point("m")
    for key, text in tags.items():
        point.tag(key, text)
    for key, value in fields.items():
        point.field(key, value)
    line: str = point.to_line_protocol()
    return line[len("m") :]


@lru_cache(maxsize=_CACHED_NAMES)
def _encoded_name(metric: str) -> tuple[str, str]:
    """Return the measurement of a metric, and its escaped field key with the equals sign."""
    measurement, key = schema.split_metric_name(metric)
    line: str = _point("m").field(key, 1.0).to_line_protocol()
    return measurement, line[len("m ") : -len("1")]


@lru_cache(maxsize=_CACHED_NAMES)
def _encoded_measurement(measurement: str) -> str:
    line: str = _point(measurement).field("f", 1.0).to_line_protocol()
    return line[: -len(" f=1")]


def _point(measurement: str) -> Any:
    from influxdb_client.client.write.point import Point  # noqa: PLC0415 - slow to import

    return Point(measurement)  # type: ignore[no-untyped-call]
