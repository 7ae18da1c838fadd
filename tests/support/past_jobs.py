"""A record with specifications in force and jobs received at given times."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.record.jobs import current_revision
from squash_api.reports.backtest import (
    Backtest,
    backtest,
    jobs_to_judge,
    set_in_force,
    set_of_package,
)
from squash_api.schema.names import Schema
from squash_api.site import Site
from tests.support.builders import (
    add_test_user,
    make_body,
    make_settings,
    measured,
    store_job,
    with_record,
)
from tests.support.metrics_packages import write_metrics_package

SCHEMA = Schema()


class Past(Site):
    """A site to which jobs are added a minute apart, the first at `start_ns`."""

    def __init__(self, folder: Path, start_ns: int) -> None:
        super().__init__(with_record(make_settings(folder)), is_made=True)
        self.folder = folder
        self.start_ns = start_ns
        self.next_ns = start_ns
        self._numbers = count()
        add_test_user(self.record)

    def put_in_force(self, specs: str, **options: Any) -> None:
        """Define a metrics package by YAML, as `SQUASH_SPECS` would."""
        self.definitions.sync_yaml([self.write("in_force", specs, **options)])

    def write(self, name: str, specs: str, **options: Any) -> Path:
        """Write a metrics package and return its directory."""
        return write_metrics_package(self.folder, name=name, specs=specs, **options)

    def add(
        self,
        values: Mapping[str, Any],
        *,
        run: str | None = None,
        unit: str | None = "marcsec",
        **meta: Any,
    ) -> int:
        """Store a job with these values and return its id; it has the time of its receipt."""
        if run is not None:
            meta["run_id"] = run
        measurements = [measured(name, value, unit) for name, value in values.items()]
        moment = self.next_ns
        self.next_ns += 60 * 10**9
        body = make_body(*measurements, **meta)
        with self.record.read() as connection:
            revision = current_revision(connection)
        return store_job(
            self.record, received_ns=moment, asked_ns=moment, body=body, revision=revision
        )

    def play(
        self, specs: str, *, since_ns: int = 0, dataset: str | None = None, **options: Any
    ) -> Backtest:
        """Judge the jobs by what is in force and by a metrics package written for this."""
        package = load_metrics_package(self.write(f"new{next(self._numbers)}", specs, **options))
        assert package.problems == ()
        return backtest(
            self.reader,
            jobs_to_judge(self.reader, since_ns=since_ns),
            old=set_in_force(self.reader, self.definitions.in_force),
            new=set_of_package(self.reader, package),
            dataset=dataset,
        )
