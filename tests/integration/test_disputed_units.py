"""Whoever sends or declares a metric first makes nobody else's values be skipped."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.app import create_app
from tests.support.builders import make_body, make_settings, measured
from tests.support.calls import Calls, log_in
from tests.support.in_process import serving
from tests.support.records import in_record
from tests.support.site import wait_for

JSON = {"Content-Type": "application/json"}


@dataclass
class World:
    """A service with a stranger, an honest user and an admin, and what InfluxDB has."""

    stranger: Calls
    honest: Calls
    admin: Calls
    lines: dict[str, str] = field(default_factory=dict)

    def declare(self, calls: Calls, unit: str, verb: str = "POST") -> httpx.Response:
        return calls(verb, "/metric/p.a", {"description": "d", "unit": unit})

    def value_in_influx(self, job_id: int) -> str | None:
        """Return the value of p.a in the last point of a job, with its fields as text."""
        line = self.lines.get(str(job_id), "")
        found = [part for part in line.replace(" ", ",").split(",") if part.startswith("a=")]
        return found[0].removeprefix("a=") if found else None


def post(calls: Calls, value: float, unit: str | None) -> dict[str, Any]:
    body = make_body(measured("p.a", value, unit))
    reply = calls("POST", "/job", content=body, headers=JSON)
    assert reply.status_code == 202, reply.text
    found: dict[str, Any] = reply.json()
    return found


def shown(calls: Calls, job: dict[str, Any]) -> tuple[Any, Any, Any]:
    (item,) = calls("GET", f"/job/{job['id']}").json()["measurements"]
    return item["value"], item["unit"], item.get("skipped")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    lines: dict[str, str] = {}

    def take(request: httpx.Request) -> httpx.Response:
        import gzip

        content = request.content
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        for line in content.decode(errors="replace").splitlines():
            _, mark, rest = line.partition("squash_id=")
            if mark:
                lines[rest.partition("i")[0].partition(",")[0].strip('"')] = line
        return httpx.Response(204)

    settings = make_settings(tmp_path, influx_url="http://influx")
    app = create_app(settings, influx_transport=httpx.MockTransport(take))
    with serving(app) as client:
        log_in(client, "root")
        in_record(tmp_path, "UPDATE user_account SET role = 'admin' WHERE name = 'root'")
        yield World(
            log_in(client, "stranger"), log_in(client, "honest"), log_in(client, "root"), lines
        )


@pytest.mark.parametrize("how", ["value", "definition"])
def test_a_stranger_who_is_first_makes_no_honest_value_be_skipped(world: World, how: str) -> None:
    if how == "value":
        post(world.stranger, 1.0, "kg")
    else:
        assert world.declare(world.stranger, "kg").status_code == 201
    found = post(world.honest, 5.0, "marcsec")
    assert found["skipped"] == []
    assert any("p.a in 'marcsec'" in note for note in found["notes"])
    assert shown(world.honest, found) == (5.0, "marcsec", None)
    # Their later values are converted to their own unit.
    assert shown(world.honest, post(world.honest, 1.0, "arcsec"))[:2] == (
        pytest.approx(1000),
        "marcsec",
    )
    for path in (f"/job/{found['id']}", "/metric/p.a", "/", "/standings"):
        for accept in ("text/html", "application/json"):
            reply = world.honest("GET", path, headers={"Accept": accept})
            assert reply.status_code in {200, 404}, path
    wait_for(lambda: world.value_in_influx(found["id"]) is not None)
    assert float(world.value_in_influx(found["id"]) or 0) == 5.0


@pytest.mark.parametrize("how", ["value", "definition"])
def test_an_admins_definition_wins_and_all_is_judged_again(world: World, how: str) -> None:
    if how == "definition":
        world.declare(world.stranger, "kg")
    bad, good = post(world.stranger, 1.0, "kg"), post(world.honest, 5.0, "arcsec")
    wait_for(lambda: world.value_in_influx(good["id"]))
    reply = world.declare(world.admin, "marcsec", "POST" if how == "value" else "PUT")
    assert reply.status_code in {200, 201}, reply.text
    assert reply.json()["requeued_jobs"] == 2
    value, unit, _ = shown(world.honest, good)
    assert (value, unit) == (pytest.approx(5000.0), "marcsec")
    assert "does not convert" in shown(world.honest, bad)[2]
    wait_for(lambda: float(world.value_in_influx(good["id"]) or 0) == pytest.approx(5000.0))
    # From now on the unit binds everybody.
    assert post(world.stranger, 1.0, "kg")["skipped"]
    assert post(world.honest, 1.0, "kg")["skipped"]


def test_an_admin_confirms_a_users_definition(world: World) -> None:
    world.declare(world.honest, "marcsec")
    bad = post(world.stranger, 1.0, "kg")
    assert shown(world.honest, bad)[2] is None
    assert world.declare(world.admin, "marcsec", "PUT").json()["requeued_jobs"] == 1
    assert "does not convert" in shown(world.honest, bad)[2]


def test_the_own_unit_of_a_user_binds_the_user(world: World) -> None:
    post(world.honest, 5.0, "marcsec")
    assert post(world.honest, 1.0, "kg")["skipped"]
    post(world.stranger, 1.0, "kg")
    assert post(world.stranger, 1.0, "s")["skipped"]


def test_other_units_are_shown_with_the_metric(world: World) -> None:
    world.declare(world.stranger, "kg")
    post(world.honest, 5.0, "marcsec")
    assert world.honest("GET", "/metric/p.a").json()["other_units"] == ["marcsec"]
    assert "units_by" not in world.honest("GET", "/metric/p.a").json()
    by = world.admin("GET", "/metric/p.a").json()["units_by"]
    assert by == {"stranger": "kg", "honest": "marcsec"}
    page = world.honest("GET", "/metric/p.a", headers={"Accept": "text/html"}).text
    assert "other units" in page


def test_a_user_cannot_define_anothers_metric_otherwise(world: World) -> None:
    assert world.declare(world.honest, "marcsec").status_code == 201
    assert world.declare(world.stranger, "kg").status_code == 400
    assert world.declare(world.stranger, "kg", "PUT").status_code == 403
    assert world.stranger("DELETE", "/metric/p.a").status_code == 403


def test_the_index_has_what_the_job_shows_also_when_it_is_derived_again(world: World) -> None:
    post(world.stranger, 1.0, "kg")
    post(world.honest, 5.0, "marcsec")
    post(world.honest, 1.0, "arcsec")
    rows = world.honest("GET", "/measurements?metric=p.a").json()["measurements"]
    assert sorted(item["value"] for item in rows) == [1.0, 5.0, pytest.approx(1000.0)]
