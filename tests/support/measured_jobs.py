"""A record with jobs of chosen times, values and metadata."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from squash_api.accounts.accounts import Account
from squash_api.index.deriver import Deriver
from squash_api.index.jobs import delete_job
from squash_api.index.reader import Reader
from squash_api.record.metrics import Vocabulary, declare_metrics, metric_ids
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.trends.series import Selection, Series, Value
from tests.support.builders import add_test_user, make_body, measured, open_record, store_job

UNITS = {"p.a": "mmag", "p.b": "mmag", "q.a": "arcsec"}


class MeasuredJobs:
    """A record in which the metrics of `UNITS` are declared; `ada` is its user."""

    def __init__(self, folder: Path) -> None:
        self.record: Record = open_record(folder)
        add_test_user(self.record)
        self.record.write(lambda connection: declare_metrics(connection, UNITS))
        self.vocabulary = Vocabulary(self.record, Schema())
        self.deriver = Deriver(self.record, self.vocabulary)
        self.reader = Reader(self.record, self.deriver, self.vocabulary)

    def add(
        self,
        values: Mapping[str, Any],
        *,
        time_ns: int = 1_000,
        unit: str | None = None,
        **meta: Any,
    ) -> int:
        """Store a job; without a unit its values are in those of their metrics."""
        items = [measured(name, value, unit) for name, value in values.items()]
        return store_job(
            self.record,
            body=make_body(*items, **meta),
            asked_ns=time_ns,
            received_ns=time_ns,
        )

    def delete(self, job_id: int) -> None:
        """Delete a job."""
        delete_job(self.record, job_id, account=Account(1, "ada", "user", 1))

    def ids(self, *names: str) -> list[int]:
        """Return the ids of metrics."""
        with self.record.read() as connection:
            found = metric_ids(connection, names)
        return [found[name] for name in names]

    def series(self, **selection: Any) -> Series:
        """Return the series of a selection, whose fields are given."""
        return Series(self.reader, Selection(**selection))

    def values(self, **selection: Any) -> list[Value]:
        """Return the values of a selection."""
        return list(self.series(**selection).values())

    def found(self, **selection: Any) -> list[tuple[str, float | None, int]]:
        """Return metric, value and job of a selection's values."""
        return [(item.metric, item.value, item.job_id) for item in self.values(**selection)]
