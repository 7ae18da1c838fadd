"""What an InfluxDB of each version can do, of what the service uses. Pure.

One table, `KINDS`, with where each fact is from; docs/influxdb.md shows it. Which of them a server
is, the headers of its reply to `/ping` say. Of one that they do not name, nothing is known: it is
asked, and what it answers counts.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

_T = TypeVar("_T")

Making = Literal["statement", "write", "operator"]
"""How a missing database comes to be: by CREATE DATABASE, the first write, or its operator."""

Retention = Literal["policies", "bucket"]
"""What tells how long points are kept: SHOW RETENTION POLICIES, or the bucket of this name."""


class Fact(NamedTuple, Generic[_T]):
    """A fact about a kind of server, and where it is from."""

    value: _T
    source: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of server.

    Parameters
    ----------
    product
        What its makers call it.
    making
        See `Making`.
    deletes
        Whether DELETE deletes points by their exact time; None if that depends on the server.
    subscribes
        Whether it can send its points on to Kapacitor.
    retention
        See `Retention`.
    most_columns, most_tables, most_databases
        What it takes by default, None for any number: columns (tags and fields) of a measurement,
        measurements of all databases, databases.
    most_files
        How many files one query may read; None for any number.
    """

    product: str
    making: Fact[Making]
    deletes: Fact[bool | None]
    subscribes: Fact[bool]
    retention: Fact[Retention]
    most_columns: Fact[int | None]
    most_tables: Fact[int | None]
    most_databases: Fact[int | None]
    most_files: Fact[int | None]


@dataclass(frozen=True, slots=True)
class Server:
    """A server as it has named itself; `kind` is None if nothing is known of such a one."""

    kind: Kind | None
    version: str

    @property
    def name(self) -> str:
        """Its product and version, such as `InfluxDB 3 Core 3.8.0` or `InfluxDB 1.8.10`."""
        product = "InfluxDB" if self.kind is None else self.kind.product
        return f"{re.sub(' [12]$', '', product)} {self.version}"

    def refusal_to_delete(self) -> str | None:
        """Say why it is never asked to delete points; None if it is asked."""
        if self.kind is None or self.kind.deletes.value is not False:
            return None
        return f"{self.name} deletes no points"

    def how_to_make(self, database: str) -> str | None:
        """Say how an operator makes a database that is missing; None if the service may try."""
        if self.kind is None or self.kind.making.value != "operator":
            return None
        return (
            f"{self.name} makes no database by itself: map a bucket to {database}, see "
            "docs/influxdb.md"
        )

    def lacks(self, *, is_feeding: bool = False) -> Iterator[str]:
        """Say what it cannot do, and what follows, one sentence each.

        `is_feeding` if the service writes to Kapacitor itself: then no subscription is missed.
        """
        kind = self.kind
        if kind is None:
            return
        if not kind.subscribes.value and not is_feeding:
            yield (
                "it sends no points on to Kapacitor, which alerts only if SQUASH_KAPACITOR_URL is "
                "set"
            )
        if kind.deletes.value is False:
            yield (
                "it deletes no points: what is deleted or withdrawn stays in it, and squash "
                "reconcile cannot mend it"
            )
        if kind.making.value == "operator":
            yield "it makes no database by itself: map a bucket to its name"
        limits = (
            (kind.most_columns.value, "columns in a table"),
            (kind.most_tables.value, "tables"),
            (kind.most_databases.value, "databases"),
        )
        most = [f"{count} {what}" for count, what in limits if count is not None]
        if most:
            yield f"it takes at most {', '.join(most)}; it refuses what is beyond"
        if kind.most_files.value is not None:
            yield f"a query reads at most {kind.most_files.value} files, of some 72 hours"

    def to_json(self) -> dict[str, Any]:
        """Describe it for programs."""
        return {"server": self.name, "lacks": list(self.lacks())}


def server_of(headers: Mapping[str, str]) -> Server:
    """Tell which server has replied to a ping, by the headers of the reply."""
    version = headers.get("X-Influxdb-Version", "")
    build = headers.get("X-Influxdb-Build", "").lower()
    found = re.match(r"v?([0-9]+)\.", version)
    return Server(_kind_of(int(found[1]) if found else 0, build), version.removeprefix("v"))


def _kind_of(number: int, build: str) -> Kind | None:
    if build.startswith("cloud"):
        return CLOUD
    if number == 3:
        return ENTERPRISE_3 if build == "enterprise" else CORE_3
    return {1: ONE, 2: TWO}.get(number)


_MEASURED = "measured on 1.6.7 and 1.8.10"
_V2_INFLUXQL = "documents: influxdb/v2/query-data/influxql, InfluxQL support"
_V2_EXECUTOR = "source of 2.x: v1/coordinator/statement_executor.go"
_V2_KAPACITOR = "documents: influxdb/v2/tools/kapacitor, no subscription API"
_NO_LIMIT = "its documents name no limit"
_CLOUD = "documents: influxdb3/cloud-serverless/guides/api-compatibility/v1"
_CLOUD_LIMITS = "documents: influxdb3/cloud-serverless/admin/billing/limits"
_V3_PLANNER = "source of 3.10: iox_query_influxql/src/plan/planner.rs, `not_implemented`"
_V3_WRITING = "source of 3.10: influxdb3_write/src/write_buffer/validator.rs"
_V3_POLICIES = "source of 3.10: influxdb3_query_executor/src/lib.rs, show_retention_policies"
_CORE_LIMITS = "documents: influxdb3/core/admin/databases, limits"
_CORE_FILES = "documents: influxdb3/core/reference/config-options, query-file-limit"
_ENTERPRISE_LIMITS = "documents: influxdb3/enterprise/admin/databases, limits (can be raised)"
_ENTERPRISE_ROWS = (
    "documents: influxdb3/enterprise/admin/delete-data: by a command of its own, up to a day later"
)

ONE = Kind(
    "InfluxDB 1",
    making=Fact("statement", _MEASURED),
    deletes=Fact(value=True, source=_MEASURED),
    subscribes=Fact(value=True, source=_MEASURED),
    retention=Fact("policies", _MEASURED),
    most_columns=Fact(None, _NO_LIMIT),
    most_tables=Fact(None, _NO_LIMIT),
    most_databases=Fact(None, _NO_LIMIT),
    most_files=Fact(None, _NO_LIMIT),
)
TWO = Kind(
    "InfluxDB 2",
    making=Fact("operator", _V2_INFLUXQL),
    deletes=Fact(value=True, source=_V2_INFLUXQL),
    subscribes=Fact(value=False, source=_V2_KAPACITOR),
    # Its SHOW RETENTION POLICIES says 0s of every bucket.
    retention=Fact("bucket", _V2_EXECUTOR),
    most_columns=Fact(None, _NO_LIMIT),
    most_tables=Fact(None, _NO_LIMIT),
    most_databases=Fact(None, _NO_LIMIT),
    most_files=Fact(None, _NO_LIMIT),
)
CLOUD = Kind(
    "InfluxDB Cloud",
    making=Fact("operator", _CLOUD),
    deletes=Fact(None, "TSM deletes, Serverless and Dedicated do not, and headers do not tell"),
    subscribes=Fact(value=False, source=_V2_KAPACITOR),
    retention=Fact("bucket", _CLOUD),
    most_columns=Fact(200, _CLOUD_LIMITS),
    most_tables=Fact(500, _CLOUD_LIMITS),
    most_databases=Fact(None, _CLOUD_LIMITS),
    most_files=Fact(None, _CLOUD_LIMITS),
)
CORE_3 = Kind(
    "InfluxDB 3 Core",
    making=Fact("write", _V3_WRITING),
    deletes=Fact(value=False, source=_V3_PLANNER),
    subscribes=Fact(value=False, source=_V3_PLANNER),
    retention=Fact("policies", _V3_POLICIES),
    most_columns=Fact(500, _CORE_LIMITS),
    most_tables=Fact(2_000, _CORE_LIMITS),
    most_databases=Fact(5, _CORE_LIMITS),
    most_files=Fact(432, _CORE_FILES),
)
ENTERPRISE_3 = Kind(
    "InfluxDB 3 Enterprise",
    making=Fact("write", _V3_WRITING),
    deletes=Fact(value=False, source=_ENTERPRISE_ROWS),
    subscribes=Fact(value=False, source=_V3_PLANNER),
    retention=Fact("policies", _V3_POLICIES),
    most_columns=Fact(500, _ENTERPRISE_LIMITS),
    most_tables=Fact(10_000, _ENTERPRISE_LIMITS),
    most_databases=Fact(100, _ENTERPRISE_LIMITS),
    most_files=Fact(None, _NO_LIMIT),
)
KINDS = (ONE, TWO, CLOUD, CORE_3, ENTERPRISE_3)
