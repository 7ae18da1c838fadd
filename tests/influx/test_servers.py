"""Which server it is, what it lacks, and that docs/influxdb.md shows the same table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.influx.servers import (
    CLOUD,
    CORE_3,
    ENTERPRISE_3,
    KINDS,
    ONE,
    TWO,
    Fact,
    Kind,
    Server,
    server_of,
)

pytestmark = pytest.mark.sqlite
DOCUMENT = Path(__file__).parents[2] / "docs" / "influxdb.md"
ROWS = {
    "making": "how a missing database comes to be",
    "deletes": "deletes points",
    "subscribes": "sends points on to Kapacitor",
    "retention": "what tells how long points are kept",
    "most_columns": "columns of a table, at most",
    "most_tables": "tables, at most",
    "most_databases": "databases, at most",
    "most_files": "files that a query reads, at most",
}
WORDS = {
    "statement": "the service makes it (`CREATE DATABASE`)",
    "write": "the first write makes it",
    "operator": "you make a bucket",
    "policies": "`SHOW RETENTION POLICIES`",
    "bucket": "the bucket of this name",
}


def words(value: Any, row: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if value is None:
        return "it depends" if row == "deletes" else "no limit known"
    return WORDS.get(str(value), f"{value:,}" if isinstance(value, int) else str(value))


def facts_of(kind: Kind, row: str) -> Fact[Any]:
    found: Fact[Any] = getattr(kind, row)
    return found


def table_text() -> str:
    """Return the table of docs/influxdb.md, with the sources below it."""
    sources = {fact.source: 0 for row in ROWS for fact in (facts_of(k, row) for k in KINDS)}
    numbers = {source: number for number, source in enumerate(sources, start=1)}
    lines = [f"| | {' | '.join(kind.product for kind in KINDS)} |", f"|---{'|---' * len(KINDS)}|"]
    for row, title in ROWS.items():
        cells = [facts_of(kind, row) for kind in KINDS]
        shown = [f"{words(fact.value, row)} [{numbers[fact.source]}]" for fact in cells]
        lines.append(f"| {title} | {' | '.join(shown)} |")
    listed = [f"{number}. {source}" for source, number in numbers.items()]
    return "\n".join([*lines, "", "Where each is from:", "", *listed]) + "\n"


def test_the_document_shows_the_table_and_where_each_fact_is_from() -> None:
    assert table_text() in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("version", "build", "kind", "name"),
    [
        ("1.6.7~rc0", "OSS", ONE, "InfluxDB 1.6.7~rc0"),
        ("1.8.10", "OSS", ONE, "InfluxDB 1.8.10"),
        ("v1.12.4", "OSS", ONE, "InfluxDB 1.12.4"),
        ("1.11.8-c1.11.8", "Enterprise", ONE, "InfluxDB 1.11.8-c1.11.8"),
        ("v2.7.12", "OSS", TWO, "InfluxDB 2.7.12"),
        ("2.0.0", "cloud2", CLOUD, "InfluxDB Cloud 2.0.0"),
        ("influxqlbridged-development", "cloud2", CLOUD, None),
        ("3.8.0", "Core", CORE_3, "InfluxDB 3 Core 3.8.0"),
        ("3.11.0", "Enterprise", ENTERPRISE_3, "InfluxDB 3 Enterprise 3.11.0"),
        # Of a build that is not known, no more is expected than of the one that can least.
        ("3.20.1", "Edge", CORE_3, None),
        ("4.0.0", "OSS", None, "InfluxDB 4.0.0"),
        ("0.13.0", "", None, "InfluxDB 0.13.0"),
        ("dev", "OSS", None, "InfluxDB dev"),
        ("influxqlbridged-development", "", None, None),
    ],
)
def test_a_server_is_known_by_the_headers_of_its_ping(
    version: str, build: str, kind: Kind | None, name: str | None
) -> None:
    found = server_of({"X-Influxdb-Version": version, "X-Influxdb-Build": build})
    assert found.kind is kind
    assert found.name == name or name is None


def lacks(kind: Kind | None, *, is_feeding: bool = False) -> Iterator[str]:
    return Server(kind, "x").lacks(is_feeding=is_feeding)


def test_only_a_server_that_lacks_something_says_so() -> None:
    assert [len(list(lacks(kind))) for kind in (None, *KINDS)] == [0, 0, 2, 3, 4, 3]


def test_who_feeds_kapacitor_misses_no_subscription() -> None:
    assert [len(list(lacks(kind, is_feeding=True))) for kind in KINDS] == [0, 1, 2, 3, 2]


def test_of_an_unknown_server_nothing_is_refused_beforehand() -> None:
    unknown = Server(None, "4.0.0")
    assert (unknown.refusal_to_delete(), unknown.how_to_make("squash")) == (None, None)
