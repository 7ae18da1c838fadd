"""What `POST /measurement/<job>` adds is in InfluxDB beside what the job had."""

from dataclasses import dataclass

import pytest

from tests.support.site import Site, job_document, new_package


@dataclass
class Extended:
    """A job of one value, with a second one and a second package added."""

    package: str
    job_id: int


@pytest.fixture(scope="module")
def extended(site: Site) -> Extended:
    package = new_package()
    (job_id,) = site.deliver(job_document({f"{package}.first": 1.0}, instrument="HSC"))
    for metric in (f"{package}.second", f"{package}_2.first"):
        added = {"metric": metric, "value": 0.1, "unit": ""}
        reply = site.calls("POST", f"/measurement/{job_id}", json=added)
        assert reply.status_code == 201, reply.text
    site.wait_until_delivered([job_id])
    return Extended(package, job_id)


def test_an_added_value_joins_the_point_of_its_package(site: Site, extended: Extended) -> None:
    (point,) = site.points(extended.package)
    assert (point["fields"]["first"], point["fields"]["second"]) == (1.0, 0.1)


def test_an_added_package_has_a_point_of_the_same_time_and_tags(
    site: Site, extended: Extended
) -> None:
    (point,), (other,) = site.points(extended.package), site.points(f"{extended.package}_2")
    assert (other["time"], other["tags"]) == (point["time"], point["tags"])
    assert other["fields"]["first"] == 0.1


def test_the_api_shows_it_with_the_job(site: Site, extended: Extended) -> None:
    shown = site.get(f"/measurement/{extended.job_id}")["measurements"]
    assert [(item["metric"], item["value"]) for item in shown] == [
        (f"{extended.package}.first", 1.0),
        (f"{extended.package}.second", 0.1),
        (f"{extended.package}_2.first", 0.1),
    ]


def test_a_value_of_the_same_metric_takes_the_place_of_the_first(site: Site, package: str) -> None:
    (job_id,) = site.deliver(job_document({f"{package}.m": 1.0}))
    added = {"metric": f"{package}.m", "value": 2.0, "unit": ""}
    assert site.calls("POST", f"/measurement/{job_id}", json=added).status_code == 201
    site.wait_until_delivered([job_id])
    assert site.values(f"{package}.m") == [2.0]


def test_a_value_that_is_withdrawn_leaves_influxdb(site: Site, package: str) -> None:
    (job_id,) = site.deliver(job_document({f"{package}.m": 5.0, f"{package}.n": 6.0}))
    nothing = {"metric": f"{package}.m", "value": None, "unit": None}
    assert site.calls("POST", f"/measurement/{job_id}", json=nothing).status_code == 201
    site.wait_until_delivered([job_id])
    (point,) = site.points(package)
    assert (point["fields"].get("m"), point["fields"]["n"]) == (None, 6.0)


def test_a_point_that_has_lost_its_only_value_leaves_influxdb(site: Site, package: str) -> None:
    (job_id,) = site.deliver(job_document({f"{package}.m": 5.0}))
    nothing = {"metric": f"{package}.m", "value": None, "unit": None}
    assert site.calls("POST", f"/measurement/{job_id}", json=nothing).status_code == 201
    site.wait_until_delivered([job_id])
    assert site.points(package) == []


def test_a_job_without_values_gets_its_first_point_by_an_addition(site: Site, package: str) -> None:
    (job_id,) = site.deliver(job_document({f"{package}.m": None}))
    assert site.points(package) == []
    added = {"metric": f"{package}.m", "value": 2.0, "unit": ""}
    assert site.calls("POST", f"/measurement/{job_id}", json=added).status_code == 201
    site.wait_until_delivered([job_id])
    assert site.values(f"{package}.m") == [2.0]


def test_nobody_else_may_add_to_a_job(site: Site, extended: Extended) -> None:
    added = {"metric": f"{extended.package}.third", "value": 1.0, "unit": ""}
    reply = site.log_in("bob")("POST", f"/measurement/{extended.job_id}", json=added)
    assert reply.status_code == 403


def test_a_value_of_another_kind_of_unit_is_refused(site: Site, package: str) -> None:
    (job_id,) = site.deliver(job_document({f"{package}.m": 1.0}, unit="mag"))
    added = {"metric": f"{package}.m", "value": 1.0, "unit": "s"}
    reply = site.calls("POST", f"/measurement/{job_id}", json=added)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
