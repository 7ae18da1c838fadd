"""InfluxDB goes away while nothing has to be sent: that is noticed all the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.conftest import MakeSite
from tests.support.influxd import Influxd
from tests.support.site import Site, job_document, new_package, wait_for


@dataclass
class Story:
    """What `/readyz` says of the target while InfluxDB is away, and once it is back."""

    away: dict[str, Any]
    back: dict[str, Any]


@pytest.fixture(scope="module")
def story(make_site: MakeSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        site = make_site(server)
        site.deliver(job_document({f"{new_package()}.m": 1.0}))
        server.stop()
        wait_for(lambda: target(site)["status"] == "down")
        away = target(site)
        server.start()
        wait_for(lambda: target(site)["status"] == "ok")
        yield Story(away, target(site))
        site.service.stop()


def target(site: Site) -> dict[str, Any]:
    shown: dict[str, Any] = site.get("/readyz")["targets"]["default"]
    return shown


def test_readyz_says_that_it_is_down_and_why(story: Story) -> None:
    assert "refused" in story.away["reason"]
    assert (story.away["waiting"], "since" in story.away) == (0, True)


def test_readyz_says_when_it_is_back(story: Story) -> None:
    assert (story.back["waiting"], "reason" in story.back) == (0, False)
