"""A database whose retention policy takes no old points."""

from dataclasses import dataclass

import pytest

from tests.integration.conftest import MakeSite
from tests.support.site import Site, job_document, new_package


@dataclass
class Sent:
    """An old job and one of today, sent to a database that forgets after an hour."""

    site: Site
    package: str
    old: int
    fresh: int


@pytest.fixture(scope="module")
def sent(make_site: MakeSite) -> Sent:
    # The watch would make a database of its own accord.
    site = make_site(SQUASH_WATCH="off")
    site.influxd.create_database(site.database, duration="1h")
    package = new_package()
    old = site.dispatch(job_document({f"{package}.m": 1.0}, date="2020-01-01T00:00:00Z"))["id"]
    fresh = site.dispatch(job_document({f"{package}.m": 2.0}))["id"]
    site.wait_until_idle()
    return Sent(site, package, old, fresh)


def test_the_status_of_an_old_job_says_why_influxdb_has_not_got_it(sent: Sent) -> None:
    status = sent.site.status(sent.old)
    assert status["status"] == "FAILURE"
    assert "points beyond retention policy" in status["message"]


def test_the_job_after_it_is_delivered(sent: Sent) -> None:
    assert sent.site.status(sent.fresh)["status"] == "SUCCESS"
    assert sent.site.values(f"{sent.package}.m") == [2.0]


def test_the_old_job_is_kept(sent: Sent) -> None:
    (shown,) = sent.site.get(f"/measurement/{sent.old}")["measurements"]
    assert shown["value"] == 1.0


def test_with_a_longer_retention_a_replay_delivers_it(sent: Sent) -> None:
    site = sent.site
    site.influxd.query(f'ALTER RETENTION POLICY "short" ON "{site.database}" DURATION INF')
    done = site.service.run("replay", "--until", "2020-01-02T00:00:00Z")
    assert done.returncode == 0, done.stderr
    assert site.status(sent.old)["status"] == "SUCCESS"
    assert site.values(f"{sent.package}.m") == [1.0, 2.0]
