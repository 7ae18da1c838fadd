"""Two InfluxDBs of which one is down: the other does not wait for it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.conftest import MakeSite
from tests.support.influxd import Influxd
from tests.support.site import Site, job_document, new_package

JOBS = 20
DATABASE = "away"


@dataclass
class Story:
    """What is said and stored while one target is down, and the two exports afterwards."""

    status: dict[str, Any]
    ready: dict[str, Any]
    points_at_home: int
    ready_after: dict[str, Any]
    home: bytes
    away: bytes


@pytest.fixture(scope="module")
def story(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        server.stop()
        target = {"name": "away", "url": server.url, "database": DATABASE}
        site = make_site(SQUASH_INFLUX_TARGETS=json.dumps([target]))
        yield tell(site, server)
        site.service.stop()


def tell(site: Site, server: Influxd) -> Story:
    package = new_package()
    values = {f"{package}.m": 1.5, f"{package}_2.m": 2.5}
    ids = [site.dispatch(job_document(values, instrument="HSC"))["id"] for _ in range(JOBS)]
    for job_id in ids:
        site.wait_for_status(job_id, "STARTED")
    status, ready = site.status(ids[-1]), site.get("/readyz")
    points = len(site.points())
    server.start()
    ids.append(site.dispatch(job_document(values))["id"])
    site.wait_until_delivered(ids)
    return Story(
        status=status,
        ready=ready,
        points_at_home=points,
        ready_after=site.get("/readyz"),
        home=site.influxd.export(site.database),
        away=server.export(DATABASE),
    )


def test_the_target_that_is_up_has_every_job_while_the_other_is_down(story: Story) -> None:
    assert story.points_at_home == 2 * JOBS


def test_the_status_names_the_state_at_each_target(story: Story) -> None:
    assert story.status["targets"]["default"] == "SUCCESS"
    assert story.status["targets"]["away"] in {"PENDING", "STARTED"}


def test_readyz_says_which_target_is_down_and_why(story: Story) -> None:
    assert story.ready["targets"]["default"]["status"] == "ok"
    away = story.ready["targets"]["away"]
    assert (away["status"], away["waiting"]) == ("down", JOBS)
    assert "refused" in away["reason"]
    assert away["since"]


def test_with_one_target_down_the_service_is_degraded_but_ready(story: Story) -> None:
    assert story.ready["status"] == "degraded"


def test_later_both_targets_hold_the_same_points(story: Story) -> None:
    assert story.home.count(b"\n") + 1 == 2 * (JOBS + 1)
    assert story.away == story.home


def test_later_readyz_says_that_all_is_well(story: Story) -> None:
    assert story.ready_after["status"] == "ok"
