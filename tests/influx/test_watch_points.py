import uuid

from squash_api.influx.client import (
    InfluxClient,
)
from squash_api.influx.points import freshness_line, heartbeat_line, standing_line
from squash_api.influx.writing import deliver
from squash_api.settings import InfluxTarget
from tests.support.influxd import Influxd

MINUTE_NS = 1_790_000_040 * 10**9
HOSTILE = 'a b,c=d"e\\\n{{ .Name }}'
LATE = freshness_line(
    "p.a.design",
    [("instrument", "HSC"), ("filter", "r")],
    late_s=3600.0,
    age_s=90_000.5,
    since="2026-09-20 13:13 UTC",
    run_id="R17",
    squash_url="https://squash.example/job/7",
    time_ns=MINUTE_NS,
)
NEVER = freshness_line(
    "p.a.design",
    [],
    late_s=-1.5,
    age_s=0.0,
    since="2026-09-20 13:13 UTC",
    run_id=None,
    squash_url=None,
    time_ns=MINUTE_NS,
)
STANDING = standing_line(
    "p.a",
    [("instrument", "HSC")],
    state="CRITICAL",
    rank=0,
    value=1e-9,
    margin=-0.25,
    limit="p.a.design",
    severity=3,
    broken=["p.a.minimum", "p.a.design"],
    run_id=HOSTILE,
    squash_url="https://squash.example/job/7",
    time_ns=MINUTE_NS,
)
GONE = standing_line(
    "p.b",
    [("instrument", HOSTILE)],
    state="not measured",
    rank=3,
    value=None,
    margin=None,
    limit=None,
    severity=0,
    broken=[],
    run_id=None,
    squash_url=None,
    time_ns=MINUTE_NS,
)


def test_a_heartbeat_has_no_tags() -> None:
    assert heartbeat_line(MINUTE_NS) == f"squash_heartbeat up=1 {MINUTE_NS}"


def test_a_late_series_has_its_tags_and_its_last_job() -> None:
    line = LATE
    assert line == (
        "squash_freshness,filter=r,instrument=HSC,specification=p.a.design "
        'run_id="R17",since="2026-09-20 13:13 UTC",squash_url="https://squash.example/job/7",'
        f"age_s=90000.5,late_s=3600.0 {MINUTE_NS}"
    )


def test_a_series_that_never_came_has_no_job() -> None:
    assert "run_id" not in NEVER
    assert "squash_url" not in NEVER


def test_no_number_is_an_integer_for_influxdb() -> None:
    for line in (heartbeat_line(MINUTE_NS), LATE, NEVER, STANDING, GONE):
        fields = line.rpartition(" ")[0]
        assert not any(part.endswith("i") for part in fields.split(","))


def test_what_is_gone_breaks_nothing_and_says_so() -> None:
    assert GONE.endswith(f' broken="",rank=3,severity=0,state="not measured" {MINUTE_NS}')


def test_influxdb_holds_what_was_said(influxd: Influxd, influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        lines = [heartbeat_line(MINUTE_NS), LATE, NEVER, STANDING, GONE]
        assert deliver(client, lines) == []
    points = influxd.points(influx_target.database, "squash_standing")
    by_metric = {point["tags"]["metric"]: point for point in points}
    assert by_metric["p.a"]["fields"] == {
        "state": "CRITICAL",
        "rank": 0.0,
        "value": 1e-9,
        "margin": -0.25,
        "limit": "p.a.design",
        "severity": 3.0,
        "broken": "p.a.minimum, p.a.design",
        "run_id": 'a b,c=d"e\\{{ .Name }}',
        "squash_url": "https://squash.example/job/7",
    }
    assert by_metric["p.b"]["tags"]["instrument"] == 'a b,c=d"e\\{{ .Name }}'
    assert len(influxd.points(influx_target.database, "squash_freshness")) == 2


def test_what_the_service_says_of_itself_leaves_a_database_empty(
    influx_target: InfluxTarget,
) -> None:
    with InfluxClient(influx_target) as client:
        deliver(client, [heartbeat_line(MINUTE_NS), LATE, STANDING])
        assert client.is_empty()
        client.write([f"package_{uuid.uuid4().hex} v=1 1"])
        assert not client.is_empty()
