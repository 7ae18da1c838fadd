"""The metrics in force, in memory: what every value of every job is looked up in."""

import threading
from types import MappingProxyType

from squash_api.record.jobs import current_revision
from squash_api.record.metrics import metrics_since
from squash_api.record.record import Record
from squash_api.schema import Schema
from squash_api.verify.assessment import KnownMetric


class Vocabulary:
    """The record's metrics, as of the last `refresh`. Reading needs no lock.

    Parameters
    ----------
    record
        Where the metrics are.
    schema
        A metric whose name this schema refuses is left out, so that its values are skipped.
    """

    def __init__(self, record: Record, schema: Schema) -> None:
        self.schema = schema
        self._record = record
        self._metrics: dict[str, KnownMetric] = {}
        self.metrics = MappingProxyType(self._metrics)
        self.revision = 0
        self._version = 0
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Take in what has changed in the record since the last time."""
        with self._lock, self._record.read() as connection:
            revision = current_revision(connection)
            for row in metrics_since(connection, self._version):
                self._version = row.version
                if self.schema.name_problem(row.name) is None:
                    self._metrics[row.name] = KnownMetric(row.unit, row.is_declared)
            self.revision = revision
