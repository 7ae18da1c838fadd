"""Points as line protocol: one per verification package of a job. Pure.

`influxdb_client.Point` escapes; this module only spares it what repeats: names, tags and texts of
earlier jobs, the metadata that all points of a job share, and the order of its metrics.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import add
from typing import Any
from urllib.parse import quote

import orjson

from squash_api import schema
from squash_api.storable import MAX_FIELD_TEXT_BYTES, MAX_TEXT_BYTES, clean_text, is_link

# Room for the words that stand for the changes that do not fit.
_MAX_CHANGES_BYTES = MAX_FIELD_TEXT_BYTES - 100
_URL_SAFE = ":/?#@!$&'*+,;=%~"
_MARKUP = str.maketrans("", "", "[]<>")
# Names of 1 kB by the million must not fill the memory.
_CACHED_NAMES = 8192
_CACHED_JOBS = 128
_MOST_CACHED_TOGETHER = 1000


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
    names = tuple(values)
    parts = _parts(names) if len(names) <= _MOST_CACHED_TOGETHER else _parts.__wrapped__(names)
    return [
        EncodedPoint(
            part.measurement,
            f"{part.start}{shared},{','.join(part.assigned(numbers))} {time_ns:d}",
        )
        for part in parts
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
    texts = [_encoded_tag(key, tags[key]) for key in sorted(tags)]
    assignments = [_encoded_field(key, fields[key]) for key in sorted(fields)]
    return f"{''.join(texts)} {','.join(assignments)}"


@lru_cache(maxsize=_CACHED_NAMES)
def _encoded_tag(key: str, text: str) -> str:
    """Return a comma, the escaped key, an equals sign and the escaped text."""
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
    """The values of one measurement: `start` of its line, and for each the key and where it is."""

    measurement: str
    start: str
    keys: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def assigned(self, numbers: Sequence[str]) -> Iterable[str]:
        """Return the assignments of these numbers, which are those of the whole job."""
        if len(self.places) < len(numbers):
            numbers = [numbers[place] for place in self.places]
        return map(add, self.keys, numbers)


# The jobs of a pipeline measure the same metrics, in the same order.
@lru_cache(maxsize=_CACHED_JOBS)
def _parts(names: tuple[str, ...]) -> list[_Part]:
    """Sort the metrics of a job by measurement, in order of first appearance."""
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
