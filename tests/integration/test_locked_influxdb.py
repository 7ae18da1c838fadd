"""An InfluxDB that asks for a password, and a service that has the wrong one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.conftest import MakeSite
from tests.support.influxd import ADMIN, ADMIN_PASSWORD, Influxd
from tests.support.site import Site, job_document, new_package, wait_for

WRONG = "certainly-wrong"
JOBS = 5


@dataclass
class Story:
    """What is said while the password is wrong, and what is stored once it is right."""

    ready: dict[str, Any]
    status: dict[str, Any]
    log: str
    values: list[float]
    ready_after: dict[str, Any]


@pytest.fixture(scope="module")
def story(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with Influxd(tmp_path_factory.mktemp("influxd"), auth=True) as server:
        site = make_site(server, SQUASH_INFLUX_USER=ADMIN, SQUASH_INFLUX_PASSWORD=WRONG)
        yield tell(site)
        site.service.stop()


def tell(site: Site) -> Story:
    package = new_package()
    ids = [
        site.dispatch(job_document({f"{package}.m": float(number)}))["id"] for number in range(JOBS)
    ]
    wait_for(lambda: site.get("/readyz")["targets"]["default"]["status"] == "down")
    ready, status = site.get("/readyz"), site.status(ids[0])
    site.service.stop()
    log = site.service.log()
    site.service.environment["SQUASH_INFLUX_PASSWORD"] = ADMIN_PASSWORD
    site.service.start()
    site.wait_until_delivered(ids)
    return Story(ready, status, log, site.values(f"{package}.m"), site.get("/readyz"))


def test_readyz_says_influxdb_s_words(story: Story) -> None:
    assert story.ready["status"] == "degraded"
    assert "authorization failed" in story.ready["targets"]["default"]["reason"]


def test_the_jobs_wait(story: Story) -> None:
    assert story.ready["targets"]["default"]["waiting"] == JOBS
    assert story.status["status"] in {"PENDING", "STARTED"}


def test_nothing_is_put_into_quarantine(story: Story) -> None:
    assert story.ready["targets"]["default"]["quarantined"] == 0


def test_the_password_is_neither_shown_nor_logged(story: Story) -> None:
    assert WRONG not in f"{story.ready}{story.status}{story.log}"


def test_with_the_right_password_every_job_is_delivered(story: Story) -> None:
    assert story.values == [float(number) for number in range(JOBS)]


def test_with_the_right_password_all_is_well(story: Story) -> None:
    assert story.ready_after["status"] == "ok"
