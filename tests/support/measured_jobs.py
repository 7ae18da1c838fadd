"""A record with jobs of chosen times, values and metadata."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from squash_api.accounts.accounts import Account
from squash_api.index.jobs import delete_job
from squash_api.record.metrics import declare_metrics, metric_ids
from squash_api.site import Site
from squash_api.trends.question import Question
from squash_api.trends.series import Series, Value, values_of
from tests.support.builders import (
    add_test_user,
    make_body,
    make_settings,
    measured,
    store_job,
    with_record,
)

UNITS = {"p.a": "mmag", "p.b": "mmag", "q.a": "arcsec"}


class MeasuredJobs(Site):
    """A site where the metrics of `UNITS` are declared; `ada` is its user."""

    def __init__(self, folder: Path) -> None:
        super().__init__(with_record(make_settings(folder)), is_made=True)
        add_test_user(self.record)
        self.record.write(lambda connection: declare_metrics(connection, UNITS))

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

    def series(self, **question: Any) -> Series:
        """Return the answer to a question, whose parts are given."""
        return Series(self.reader, Question(**question))

    def values(self, **question: Any) -> list[Value]:
        """Return the values that a question asks for."""
        return list(values_of(self.series(**question).jobs()))

    def found(self, **question: Any) -> list[tuple[str, float | None, int]]:
        """Return metric, value and job of the values that a question asks for."""
        return [(item.metric, item.value, item.job_id) for item in self.values(**question)]
