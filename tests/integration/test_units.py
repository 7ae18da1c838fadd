"""Values come out of InfluxDB in the unit of their metric."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.site import Site, job_document, new_package, wait_for


@dataclass
class Redeclared:
    """Three jobs measured in mmag, before and after the metric was declared to be in mag."""

    metric: str
    before: list[dict[str, Any]]
    reply: dict[str, Any]
    after: list[dict[str, Any]]


def declare(site: Site, name: str, *, unit: str) -> dict[str, Any]:
    metric = {"name": name, "unit": unit, "description": "What it is."}
    reply = site.calls("POST", "/metrics", json={"metrics": [metric]})
    assert reply.status_code == 201, reply.text
    body: dict[str, Any] = reply.json()
    return body


@pytest.fixture(scope="module")
def redeclared(site: Site) -> Redeclared:
    package = new_package()
    metric = f"{package}.m"
    documents = [job_document({metric: value}, unit="mmag") for value in (1.0, 20.0, 300.0)]
    ids = site.deliver(*documents)
    before = site.points(package)
    reply = declare(site, metric, unit="mag")
    site.wait_until_delivered(ids)
    return Redeclared(metric, before, reply, site.points(package))


@pytest.mark.parametrize(
    ("declared", "value", "stored"),
    [
        ("mmag", (4.1, "mmag"), 4.1),
        ("mmag", (0.0041, "mag"), 4.1),
        ("mag", (4.1, "mmag"), 0.0041),
        ("%", (0.102, ""), 10.2),
        ("", (10.2, "%"), 0.102),
        ("mmag", (4.1, None), 4.1),
        ("", (4.1, ""), 4.1),
    ],
)
def test_a_value_is_converted_to_the_declared_unit(
    site: Site, package: str, declared: str, value: tuple[float, str | None], stored: float
) -> None:
    declare(site, f"{package}.m", unit=declared)
    site.deliver(job_document({f"{package}.m": value[0]}, unit=value[1]))
    assert site.values(f"{package}.m") == pytest.approx([stored], rel=1e-12)


def test_a_value_in_the_metric_s_unit_is_kept_to_the_last_bit(site: Site, package: str) -> None:
    values = [7.761596740329379, 5e-324, 1.7976931348623157e308, -0.1, 7.499999999999999]
    names = {f"{package}.m{number}": value for number, value in enumerate(values)}
    site.deliver(job_document(names, unit="marcsec"))
    (point,) = site.points(package)
    assert [point["fields"][f"m{number}"] for number in range(len(values))] == values


def test_a_unit_that_does_not_convert_costs_that_value_alone(site: Site, package: str) -> None:
    declare(site, f"{package}.m", unit="mmag")
    document = job_document({f"{package}.m": 1.0, f"{package}.n": 2.0}, unit="s")
    reply = site.dispatch(document)
    site.wait_until_delivered([reply["id"]])
    assert [skip["metric"] for skip in reply["skipped"]] == [f"{package}.m"]
    assert "'s' does not convert to the metric's unit, 'mmag'" in reply["skipped"][0]["reason"]
    (point,) = site.points(package)
    assert ("m" in point["fields"], point["fields"]["n"]) == (False, 2.0)


def test_values_that_do_not_convert_to_a_new_unit_leave_influxdb(site: Site, package: str) -> None:
    declare(site, f"{package}.m", unit="mmag")
    document = job_document({f"{package}.m": 1.0, f"{package}.n": 2.0}, unit="mmag")
    (job_id,) = site.deliver(document)
    changed = {"unit": "s", "description": "What it is."}
    assert site.calls("PUT", f"/metric/{package}.m", json=changed).status_code == 200
    # Between its deletion and its return there is no point.
    wait_for(lambda: [point for point in site.points(package) if "m" not in point["fields"]])
    site.wait_until_delivered([job_id])
    (point,) = site.points(package)
    assert point["fields"]["n"] == 2.0


def test_an_undeclared_metric_takes_the_unit_of_its_first_value(site: Site, package: str) -> None:
    metric = f"{package}.m"
    replies = [
        site.dispatch(job_document({metric: value}, unit=unit))
        for value, unit in ((5.0, "mmag"), (0.25, "mag"), (1.0, "s"))
    ]
    site.wait_until_delivered([reply["id"] for reply in replies])
    assert [reply["undeclared"] for reply in replies] == [[metric]] * 3
    assert [len(reply["skipped"]) for reply in replies] == [0, 0, 1]
    assert site.values(metric) == [5.0, 250.0]


def test_strict_refuses_a_job_of_which_a_value_would_be_skipped(site: Site, package: str) -> None:
    declare(site, f"{package}.m", unit="mmag")
    count = site.get("/stats")["stats"]["number_of_jobs"]
    document = job_document({f"{package}.n": 1.0, f"{package}.m": 1.0}, unit="s")
    reply = site.calls("POST", "/job?strict=true", json=document)
    assert (reply.status_code, reply.json()["code"]) == (422, "skipped_in_strict_mode")
    assert reply.json()["detail"][0]["loc"] == ["body", "measurements", 1]
    assert site.get("/stats")["stats"]["number_of_jobs"] == count


def test_strict_accepts_a_job_of_which_a_value_is_absent(site: Site, package: str) -> None:
    document = job_document({f"{package}.n": None, f"{package}.m": 1.0})
    reply = site.calls("POST", "/job?strict=true", json=document)
    assert (reply.status_code, reply.json()["absent"]) == (202, [f"{package}.n"])


def test_declaring_another_unit_says_how_many_jobs_are_sent_again(redeclared: Redeclared) -> None:
    assert redeclared.reply["requeued_jobs"] == 3
    assert "3 jobs" in redeclared.reply["message"]


def test_declaring_another_unit_overwrites_the_values(redeclared: Redeclared) -> None:
    values = [
        [point["fields"]["m"] for point in points]
        for points in (
            redeclared.before,
            redeclared.after,
        )
    ]
    assert values[0] == [1.0, 20.0, 300.0]
    assert values[1] == pytest.approx([0.001, 0.02, 0.3], rel=1e-12)


def test_declaring_another_unit_keeps_times_and_tags(redeclared: Redeclared) -> None:
    before, after = (
        [(point["time"], point["tags"]) for point in points]
        for points in (redeclared.before, redeclared.after)
    )
    assert after == before


def test_the_api_shows_the_values_in_the_new_unit_too(site: Site, redeclared: Redeclared) -> None:
    job_id = round(redeclared.after[0]["fields"]["squash_id"])
    (shown,) = site.get(f"/measurement/{job_id}")["measurements"]
    assert (shown["value"], shown["unit"]) == (pytest.approx(0.001), "mag")
