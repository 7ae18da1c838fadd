"""All that an alert passes through, from HTTP to what stands in for Slack, on real servers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_packages
from squash_api.schema.names import Schema
from tests.support.influxd import Influxd
from tests.support.kapacitord import Kapacitord, write_load_directory
from tests.support.programs import find_program
from tests.support.service import Service
from tests.support.site import Site, wait_for
from tests.support.slack import Slack

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
