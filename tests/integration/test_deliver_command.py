"""`squash deliver` in place of the service, and a second one that waits for its turn."""

import pytest

from tests.integration.conftest import MakeSite
from tests.support.service import Deliverer
from tests.support.site import Site, expire_leases, job_document


@pytest.fixture(scope="module")
def site(make_site: MakeSite) -> Site:
    return make_site(SQUASH_DELIVER="off")


def test_with_delivery_off_jobs_wait(site: Site, package: str) -> None:
    job_id = site.dispatch(job_document({f"{package}.m": 1.0}))["id"]
    assert site.status(job_id)["status"] == "PENDING"
    assert site.get("/readyz")["targets"]["default"]["waiting"] >= 1


def test_the_command_delivers_what_waits_and_what_comes(site: Site, package: str) -> None:
    early = site.dispatch(job_document({f"{package}.m": 1.0}))["id"]
    with Deliverer(site.service, name="first"):
        late = site.dispatch(job_document({f"{package}.m": 2.0}))["id"]
        site.wait_until_delivered([early, late])
    assert site.values(f"{package}.m") == [1.0, 2.0]


def test_the_command_ends_in_good_order_when_asked_to(site: Site) -> None:
    with Deliverer(site.service, name="ended") as deliverer:
        assert deliverer.stop() == 0


def test_a_standby_takes_over_at_once_from_one_that_has_ended(site: Site, package: str) -> None:
    with (
        Deliverer(site.service, name="leader") as leader,
        Deliverer(site.service, name="standby"),
    ):
        site.deliver(job_document({f"{package}.m": 1.0}))
        leader.stop()
        site.deliver(job_document({f"{package}.m": 2.0}))
    assert site.values(f"{package}.m") == [1.0, 2.0]


def test_a_standby_takes_the_expired_lease_of_one_that_was_killed(site: Site, package: str) -> None:
    with (
        Deliverer(site.service, name="killed") as leader,
        Deliverer(site.service, name="heir"),
    ):
        site.deliver(job_document({f"{package}.m": 1.0}))
        leader.kill()
        expire_leases(site)
        site.deliver(job_document({f"{package}.m": 2.0}))
    assert site.values(f"{package}.m") == [1.0, 2.0]
