"""Points as InfluxDB holds them, and as lines say them: the same form, to be compared."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from squash_api.influx.client import InfluxClient, QueryRejectedError, quote_identifier
from squash_api.schema.names import RESERVED_PACKAGE_PREFIX, SQUASH_ID

FIRST_NS, LAST_NS = -(2**63) + 2, 2**63 - 2
"""The times that InfluxDB can hold."""

# Statements in one request.
_TOGETHER = 50
_PART = r"(?:\\.|[^\\,= ])+"
_MEASUREMENT = re.compile(r"^((?:\\.|[^\\, ])+)")
_TAG = re.compile(rf",({_PART})=({_PART})")
_FIELD = re.compile(rf'({_PART})=("(?:\\.|[^"\\])*"|[^,]+),?', re.DOTALL)


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point: numbers and texts by field."""

    measurement: str
    time_ns: int
    tags: dict[str, str]
    fields: dict[str, float | str]


def parse_line(line: str) -> StoredPoint:
    """Read a line as `influx/points.py` makes it."""
    measurement = _MEASUREMENT.split(line, maxsplit=1)[1]
    place, tags = len(measurement), {}
    while (tag := _TAG.match(line, place)) is not None:
        tags[_plain(tag[1])] = _plain(tag[2])
        place = tag.end()
    rest, _, time_ns = line[place + 1 :].rpartition(" ")
    fields: dict[str, float | str] = {}
    for key, text in _FIELD.findall(rest):
        fields[_plain(key)] = _quoted(text) if text.startswith('"') else float(text)
    return StoredPoint(_plain(measurement), int(time_ns), tags, fields)


def measurement_names(client: InfluxClient) -> set[str]:
    """Return the measurements of the database, without the service's own."""
    shown = client.query("SHOW MEASUREMENTS")
    names = {str(row[0]) for series in shown for row in series["values"]}
    return {name for name in names if not name.startswith(RESERVED_PACKAGE_PREFIX)}


def columns(client: InfluxClient) -> dict[str, int]:
    """Return how many columns, tags and fields, each measurement has; only of jobs."""
    found: Counter[str] = Counter()
    for series in client.query("SHOW TAG KEYS; SHOW FIELD KEYS"):
        found[series["name"]] += len(series["values"])
    return {
        name: count for name, count in found.items() if not name.startswith(RESERVED_PACKAGE_PREFIX)
    }


@dataclass(frozen=True, slots=True)
class Subscription:
    """What InfluxDB 1.x sends all points of a retention policy to.

    `removal` is the statement that ends it.
    """

    name: str
    policy: str
    destinations: tuple[str, ...]
    removal: str


def subscriptions(client: InfluxClient) -> list[Subscription]:
    """Return the subscriptions to the database of a target; only admins may ask."""
    found = []
    for series in client.query("SHOW SUBSCRIPTIONS", database=False):
        rows = series["values"] if series["name"] == client.target.database else ()
        for policy, name, _, destinations in rows:
            place = ".".join(map(quote_identifier, (client.target.database, policy)))
            removal = f"DROP SUBSCRIPTION {quote_identifier(name)} ON {place}"
            found.append(Subscription(name, policy, tuple(destinations), removal))
    return found


def count_points(
    client: InfluxClient, names: Iterable[str], *, first_ns: int, last_ns: int
) -> dict[str, int]:
    """Count the points of jobs, from one time through another, by measurement; 0 is left out."""
    counted = _series_of(client, f'SELECT count("{SQUASH_ID}")', names, first_ns, last_ns)
    return {series["name"]: int(series["values"][0][1]) for series in counted}


def read_points(
    client: InfluxClient, names: Iterable[str], *, first_ns: int, last_ns: int
) -> list[StoredPoint]:
    """Read the points of jobs, from one time through another, of these measurements.

    Raises
    ------
    QueryRejectedError
        If these are more than the server gives.
    """
    found = []
    for series in _series_of(client, "SELECT *", names, first_ns, last_ns, end=" GROUP BY *"):
        tags = {key: value for key, value in series.get("tags", {}).items() if value}
        columns = series["columns"][1:]
        for time_ns, *cells in series["values"]:
            pairs = zip(columns, cells, strict=True)
            fields = {key: _as_in_lines(cell) for key, cell in pairs if cell is not None}
            found.append(StoredPoint(series["name"], time_ns, tags, fields))
    return found


def _as_in_lines(cell: Any) -> Any:
    """Return a value of JSON, in which InfluxDB writes floats like 1795807859905707300.0 whole."""
    return float(cell) if isinstance(cell, int) and not isinstance(cell, bool) else cell


def _series_of(
    client: InfluxClient,
    what: str,
    names: Iterable[str],
    first_ns: int,
    last_ns: int,
    *,
    end: str = "",
) -> Iterator[dict[str, Any]]:
    """Yield the series of points that have the id of a job; others are not the service's."""
    number = quote_identifier(SQUASH_ID)
    where = f"time >= {first_ns:d} AND time <= {last_ns:d} AND ({number} >= 0 OR {number} < 0){end}"
    statements = [f"{what} FROM {quote_identifier(name)} WHERE {where}" for name in sorted(names)]
    for start in range(0, len(statements), _TOGETHER):
        yield from _query(client, statements[start : start + _TOGETHER])


def _query(client: InfluxClient, statements: Sequence[str]) -> list[dict[str, Any]]:
    if len(statements) > 1:
        # Of several, InfluxDB does not always say why they were not carried out.
        with suppress(QueryRejectedError):
            return client.query("; ".join(statements))
    return [series for statement in statements for series in client.query(statement)]


def _plain(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text)


def _quoted(text: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", text[1:-1])
