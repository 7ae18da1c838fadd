"""A deleted job is gone from the API and from InfluxDB, and leaves room for the same job again."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.calls import PASSWORD, Calls
from tests.support.site import Site, job_document, new_package


@dataclass
class Deleted:
    """A job of two packages that has been deleted, and its neighbour with equal tags and date."""

    package: str
    document: dict[str, Any]
    job_id: int
    neighbour: int


@pytest.fixture(scope="module")
def bob(site: Site) -> Calls:
    return site.log_in("bob")


@pytest.fixture(scope="module")
def deleted(site: Site) -> Deleted:
    package = new_package()
    documents = [
        job_document({f"{package}.m": value, f"{package}_2.m": value}, date="2026-02-02T00:00:00Z")
        for value in (1.0, 2.0)
    ]
    job_id, neighbour = site.deliver(*documents)
    assert len(site.points(package)) == 2
    reply = site.calls("DELETE", f"/job/{job_id}")
    assert reply.status_code == 200, reply.text
    site.wait_until_idle()
    return Deleted(package, documents[0], job_id, neighbour)


def test_its_points_are_gone_and_those_of_the_neighbour_are_not(
    site: Site, deleted: Deleted
) -> None:
    assert site.values(f"{deleted.package}.m") == [2.0]
    assert site.values(f"{deleted.package}_2.m") == [2.0]


@pytest.mark.parametrize(
    "path", ["/job/{}", "/status/{}", "/measurement/{}", "/job/{}/report", "/job/{}/blobs"]
)
def test_the_api_knows_it_no_more(site: Site, deleted: Deleted, path: str) -> None:
    assert site.client.get(path.format(deleted.job_id)).status_code == 404


def test_it_is_in_no_list(site: Site, deleted: Deleted) -> None:
    ids = site.get(f"/jobs?after={deleted.job_id - 1}&limit=2")["ids"]
    assert (deleted.job_id in ids, deleted.neighbour in ids) == (False, True)


def test_it_cannot_be_deleted_twice(site: Site, deleted: Deleted) -> None:
    assert site.calls("DELETE", f"/job/{deleted.job_id}").status_code == 404


def test_nothing_can_be_added_to_it(site: Site, deleted: Deleted) -> None:
    added = {"metric": f"{deleted.package}.late", "value": 1.0, "unit": ""}
    reply = site.calls("POST", f"/measurement/{deleted.job_id}", json=added)
    assert reply.status_code == 404


def test_it_cannot_be_replayed(site: Site, deleted: Deleted) -> None:
    done = site.service.run("replay", "--job", str(deleted.job_id))
    assert (done.returncode, "has been deleted" in done.stderr) == (1, True)


def test_the_same_job_again_is_stored_anew(site: Site, deleted: Deleted) -> None:
    (job_id,) = site.deliver(deleted.document)
    assert job_id > deleted.neighbour
    assert sorted(site.values(f"{deleted.package}.m")) == [1.0, 2.0]


def test_the_id_of_the_last_job_is_not_given_again(site: Site, package: str) -> None:
    last = site.dispatch(job_document({f"{package}.m": 1.0}))["id"]
    assert site.calls("DELETE", f"/job/{last}").status_code == 200
    assert site.dispatch(job_document({f"{package}.m": 2.0}))["id"] > last


def test_a_job_that_is_deleted_before_it_is_sent_leaves_no_point(site: Site, package: str) -> None:
    job_id = site.dispatch(job_document({f"{package}.m": 1.0}))["id"]
    assert site.calls("DELETE", f"/job/{job_id}").status_code == 200
    site.wait_until_idle()
    assert site.points(package) == []


def test_nobody_else_may_delete_it(site: Site, bob: Calls, package: str) -> None:
    job_id = site.dispatch(job_document({f"{package}.m": 1.0}))["id"]
    reply = bob("DELETE", f"/job/{job_id}")
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert site.get(f"/job/{job_id}")["id"] == job_id


def test_an_admin_may_delete_it(site: Site, package: str) -> None:
    done = site.service.run("user", "add", "root", "--admin", "--password-stdin", input=PASSWORD)
    assert done.returncode == 0, done.stderr
    job_id = site.dispatch(job_document({f"{package}.m": 1.0}))["id"]
    assert site.log_in("root")("DELETE", f"/job/{job_id}").status_code == 200


def test_without_a_token_nobody_may(site: Site, package: str) -> None:
    job_id = site.dispatch(job_document({f"{package}.m": 1.0}))["id"]
    assert site.client.delete(f"/job/{job_id}").status_code == 401
