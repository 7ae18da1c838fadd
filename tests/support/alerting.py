"""A real Kapacitor and what stands in for Slack: behind the service, or fed with points alone."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.influx.points import job_to_points
from squash_api.metrics_packages.loading import (
    MetricsPackage,
    load_metrics_package,
    load_metrics_packages,
)
from squash_api.schema.names import Schema
from tests.support.influxd import Influxd
from tests.support.kapacitord import Kapacitord, write_load_directory
from tests.support.metrics_packages import write_metrics_package
from tests.support.programs import find_program
from tests.support.service import Service
from tests.support.site import Site, wait_for
from tests.support.slack import Slack, Told

DATABASE = "squash"


@dataclass(frozen=True)
class Alerting:
    """A service with specifications, and the servers behind it."""

    package: MetricsPackage
    site: Site
    kapacitord: Kapacitord
    slack: Slack


def generated(package: MetricsPackage) -> dict[str, str]:
    """Return the files of Kapacitor for the test database."""
    return kapacitor_files(package, schema=Schema(), database=DATABASE, retention_policy="autogen")


@contextmanager
def alerting(
    folder: Path, directories: Sequence[Path], *, persist: bool = True
) -> Iterator[Alerting]:
    """Start it all, with the specifications of these metrics packages."""
    package = load_metrics_packages(directories)
    assert package.problems == ()
    load = write_load_directory(folder / "generated", generated(package))
    # Before the first server starts.
    find_program("kapacitord")
    with Influxd(folder / "influxd") as influxd, Slack() as slack:
        influxd.create_database(DATABASE)
        kapacitord = Kapacitord(
            folder / "kapacitord", load, influxdb=influxd.url, slack=slack.url, persist=persist
        )
        service = Service(
            folder / "service",
            SQUASH_SPECS=":".join(map(str, directories)),
            SQUASH_INFLUX_URL=influxd.url,
            SQUASH_INFLUX_DATABASE=DATABASE,
        )
        with kapacitord, service, Site(service, influxd, DATABASE) as site:
            wait_for(lambda: _is_subscribed(influxd))
            yield Alerting(package, site, kapacitord, slack)


def _is_subscribed(influxd: Influxd) -> bool:
    return any(series["name"] == DATABASE for series in influxd.query("SHOW SUBSCRIPTIONS"))


LONG_AGO = date(2000, 1, 1)
"""Where mutes are to be loaded that ended."""


@dataclass(frozen=True)
class Bench:
    """The two servers; the alerts of a test are told from others by a tract of its own."""

    kapacitord: Kapacitord
    slack: Slack

    def send(
        self, values: Mapping[str, float], tract: str, *, age_s: float = 0, **meta: Any
    ) -> None:
        """Give Kapacitor the points of a job, made as the service makes them."""
        points = job_to_points(
            job_id=17,
            squash_url="https://squash.example/job/17",
            time_ns=time.time_ns() - int(age_s * 10**9),
            values=values,
            context=Schema().context({"tract": tract, **meta}),
            code_changes=None,
        )
        self.kapacitord.write(point.line for point in points)

    def messages(self, tract: str, values: Mapping[str, float], **meta: Any) -> list[Told]:
        """Return what Slack was told about a tract.

        `values` raise an alert in the same branch: when that has come, all before it has.
        """
        last = new_tract()
        self.send(values, last, **meta)
        self.slack.wait_for(lambda told: is_about(told, last))
        return [told for told in self.slack.told if is_about(told, tract)]


def new_tract() -> str:
    """Return a tract that no other test uses."""
    return uuid.uuid4().hex


def is_about(told: Told, tract: str) -> bool:
    """Tell whether a message names a tract."""
    return f"tract {tract}" in told.text


def bench_files(folder: Path, *, metrics: str, specs: str) -> dict[str, str]:
    """Return the files of Kapacitor for one metrics package, named `validate`."""
    directory = write_metrics_package(folder, metrics=metrics, specs=specs)
    package = load_metrics_package(directory, today=LONG_AGO)
    assert package.problems == ()
    return generated(package)


@contextmanager
def alert_bench(folder: Path, files: Mapping[str, str]) -> Iterator[Bench]:
    """Start both servers with these files; `folder` keeps what Kapacitor knows."""
    load = write_load_directory(folder / "generated", files)
    with Slack() as slack, Kapacitord(folder / "kapacitord", load, slack=slack.url) as kapacitord:
        yield Bench(kapacitord, slack)
