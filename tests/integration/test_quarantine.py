"""Lines that InfluxDB refuses for good, until somebody mends the database."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.conftest import MakeSite
from tests.support.site import Site, job_document, new_package


@dataclass
class Refused:
    """A job of two packages, one of which InfluxDB refuses, and what is said about it."""

    site: Site
    bad: str
    good: str
    job_id: int
    status: dict[str, Any]


@pytest.fixture(scope="module")
def refused(site: Site) -> Refused:
    bad, good = new_package(), new_package()
    # Somebody has written text into the field by hand: its type is fixed by that.
    site.influxd.create_database(site.database)
    reply = httpx.post(
        f"{site.influxd.url}/write",
        params={"db": site.database, "precision": "ns"},
        content=f'{bad} m="text" {time.time_ns()}',
        trust_env=False,
        timeout=60,
    )
    assert reply.status_code == 204, reply.text
    document = job_document({f"{bad}.m": 1.0, f"{good}.m": 2.0}, instrument="HSC")
    job_id = site.dispatch(document)["id"]
    return Refused(site, bad, good, job_id, site.wait_for_status(job_id, "FAILURE"))


def test_the_status_says_influxdb_s_words(refused: Refused) -> None:
    assert "field type conflict" in refused.status["message"]
    assert "is type float, already exists as type string" in refused.status["message"]


def test_the_old_status_code_says_that_it_failed(refused: Refused) -> None:
    assert refused.status["status_code"] == 400


def test_the_other_package_of_the_job_is_delivered(refused: Refused) -> None:
    assert refused.site.values(f"{refused.good}.m") == [2.0]


def test_later_jobs_are_delivered(refused: Refused) -> None:
    refused.site.deliver(job_document({f"{refused.good}.later": 3.0}))
    assert refused.site.values(f"{refused.good}.later") == [3.0]


def test_readyz_counts_what_is_in_quarantine(refused: Refused) -> None:
    assert refused.site.get("/readyz")["targets"]["default"]["quarantined"] == 1


def test_after_mending_the_database_a_replay_of_the_job_delivers_it(refused: Refused) -> None:
    site = refused.site
    site.influxd.query(f'DROP MEASUREMENT "{refused.bad}"', database=site.database)
    done = site.service.run("replay", "--job", str(refused.job_id))
    assert done.returncode == 0, done.stderr
    assert site.wait_for_status(refused.job_id, "SUCCESS")
    assert site.values(f"{refused.bad}.m") == [1.0]
    assert site.get("/readyz")["targets"]["default"]["quarantined"] == 0


# The retention policy of the database takes no old points.


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
