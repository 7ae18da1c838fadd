"""The definitions in force at a revision, in memory, each parsed once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from squash_api.judging.kinds.registry import kind_of
from squash_api.judging.specifications import Specification, parse_specification
from squash_api.record.definitions import (
    DefinitionRow,
    Kind,
    Origin,
    definitions_at,
    newest_revisions,
)
from squash_api.record.jobs import current_revision
from squash_api.record.record import Connection, Record
from squash_api.schema.names import Schema
from squash_api.verify.metrics import Metric, parse_metric

_MOST_SNAPSHOTS = 16
_MOST_PARSED = 50_000

_log = structlog.get_logger(__name__)
_Content = TypeVar("_Content", Metric, Specification)


@dataclass(frozen=True, slots=True)
class Defined(Generic[_Content]):
    """A definition, and where it comes from: `source` is file and line, for YAML."""

    content: _Content
    origin: Origin
    source: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was defined as of a revision, sorted by name.

    `declared` and `by_metric` have the same for the judge, by metric. A specification stays in
    force when its metric is no longer declared.
    """

    metrics: Mapping[str, Defined[Metric]]
    specifications: Mapping[str, Defined[Specification]]
    declared: Mapping[str, Metric]
    by_metric: Mapping[str, list[Specification]]


class DefinitionsInForce:
    """Reads the definitions of any revision. Safe to use from many threads."""

    def __init__(self, record: Record, schema: Schema) -> None:
        self._record = record
        self._schema = schema
        self._lock = threading.Lock()
        self._snapshots: OrderedDict[int, Snapshot] = OrderedDict()
        # By revision. A row never changes, so neither does what is parsed from it.
        self._metrics: dict[int, Defined[Metric] | None] = {}
        self._specifications: dict[int, Defined[Specification] | None] = {}

    def at(self, revision: int | None) -> Snapshot:
        """Return the definitions as of a revision, or of now for None."""
        with self._lock:
            if revision is None or revision not in self._snapshots:
                with self._record.read() as connection:
                    newest = current_revision(connection)
                    revision = newest if revision is None else min(revision, newest)
                    if revision not in self._snapshots:
                        self._snapshots[revision] = self._load(connection, revision)
            self._snapshots.move_to_end(revision)
            if len(self._snapshots) > _MOST_SNAPSHOTS:
                self._snapshots.popitem(last=False)
            return self._snapshots[revision]

    def _load(self, connection: Connection, revision: int) -> Snapshot:
        metrics = _read(connection, "metric", revision, self._metrics, _metric_of)
        specifications = _read(
            connection, "spec", revision, self._specifications, self._specification_of
        )
        by_metric: dict[str, list[Specification]] = {}
        for defined in specifications.values():
            by_metric.setdefault(defined.content.metric, []).append(defined.content)
        declared = {name: defined.content for name, defined in metrics.items()}
        return Snapshot(metrics, specifications, declared, by_metric)

    def _specification_of(self, row: DefinitionRow) -> Defined[Specification] | None:
        # It was valid when it was stored, so it stays in force even if the rules have changed.
        document = row.document or {}
        content, faults = parse_specification(
            document, name=row.name, schema=self._schema, kind=kind_of(document)
        )
        if content is None:
            _log_unreadable("specification", row, faults)
            return None
        return Defined(content, row.origin, row.source)


def _log_unreadable(noun: str, row: DefinitionRow, faults: Sequence[object]) -> None:
    # Name and faults are what somebody has sent; the revision leads to both.
    _log.error(f"a stored {noun} cannot be read", revision=row.revision, faults=len(faults))


def _metric_of(row: DefinitionRow) -> Defined[Metric] | None:
    content, faults = parse_metric(row.document or {}, name=row.name)
    if content is None:
        _log_unreadable("metric", row, faults)
        return None
    return Defined(content, row.origin, row.source)


def _read(
    connection: Connection,
    kind: Kind,
    revision: int,
    parsed: dict[int, Defined[_Content] | None],
    parse: Callable[[DefinitionRow], Defined[_Content] | None],
) -> dict[str, Defined[_Content]]:
    """Read the definitions as of a revision; only rows that are not in `parsed` are fetched."""
    revisions = newest_revisions(connection, kind, through=revision)
    if len(parsed) > _MOST_PARSED:
        parsed.clear()
    new = [number for number in revisions.values() if number not in parsed]
    for row in definitions_at(connection, new):
        parsed[row.revision] = None if row.document is None else parse(row)
    found = {name: parsed[revisions[name]] for name in sorted(revisions)}
    return {name: defined for name, defined in found.items() if defined is not None}
