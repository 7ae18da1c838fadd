import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from squash_api.index.derived import check_tags
from squash_api.record.deliveries import ensure_targets
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import make_body, measured, store_job
from tests.support.command_line import Run, make_run, set_environment
from tests.support.influxd import Influxd

HOSTILE = 'quote " comma , equals = back\\slash new\nline Ω '


@dataclass
class World:
    """Three jobs that InfluxDB has, and the command."""

    run: Run
    influxd: Influxd
    database: str

    def reconcile(self, *options: str) -> tuple[int, dict[str, Any]]:
        """Run the command; return its exit code, and what it found, without what is 0."""
        outcome = self.run("reconcile", "--json", *options)
        assert outcome.out, outcome.err
        # In the tests the log goes there, too.
        (found,) = json.loads(outcome.out[outcome.out.index("[\n") :])
        return outcome.code, {key: item for key, item in found.items() if item or key == "is_same"}

    def query(self, influxql: str) -> None:
        """Change InfluxDB behind the service's back."""
        self.influxd.query(influxql, database=self.database)


@pytest.fixture
def world(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    influxd: Influxd,
    record: Record,
    tmp_path: Path,
) -> Iterator[World]:
    database = f"reconcile_{uuid.uuid4().hex}"
    record.write(lambda connection: ensure_targets(connection, ["default"]))
    for number in range(3):
        store_job(
            record,
            asked_ns=1_000 + number,
            body=make_body(
                measured("p.a", 1e300 * (number - 1)),
                measured("q.b", -0.0),
                instrument=HOSTILE,
                note=HOSTILE,
            ),
            new_units={"p.a": "mmag", "q.b": "mmag"} if number == 0 else {},
        )
    check_tags(record, Schema())
    set_environment(
        monkeypatch, tmp_path, SQUASH_INFLUX_URL=influxd.url, SQUASH_INFLUX_DATABASE=database
    )
    run = make_run(monkeypatch, capsys)
    assert run("replay").code == 0
    yield World(run, influxd, database)
    influxd.query(f'DROP DATABASE "{database}"')


SAME = {"target": "default", "jobs": 3, "points": 6, "is_same": True}


def test_what_is_the_same_is_left_alone(world: World) -> None:
    assert world.reconcile() == (0, SAME)
    assert world.run("reconcile").out == (
        "default: 3 jobs compared; InfluxDB holds what the record says\n"
    )


def test_a_dry_run_says_what_differs_and_changes_nothing(world: World) -> None:
    world.query('DELETE FROM "p" WHERE time = 1001')
    examples = ["job 2: points are missing"]
    found = {**SAME, "points": 5, "missing": 1, "is_same": False, "examples": examples}
    for _ in range(2):
        assert world.reconcile("--dry-run") == (1, found)


def test_what_is_missing_or_altered_is_written_again(world: World) -> None:
    before = world.influxd.export(world.database)
    world.query('DELETE FROM "p" WHERE time = 1001')
    world.query('DELETE FROM "q" WHERE time = 1002')
    world.influxd.write(world.database, "q,instrument=other squash_id=3,b=7 1002")
    code, found = world.reconcile()
    assert (code, found["missing"], found["altered"]) == (0, 1, 1)
    assert world.influxd.export(world.database) == before


def test_points_of_no_job_are_said_and_deleted_only_when_asked_to(world: World) -> None:
    before = world.influxd.export(world.database)
    world.influxd.write(world.database, "p squash_id=99,a=1 5", "other,by=them x=1 1000")
    code, found = world.reconcile()
    assert (code, found["unknown"], found["is_same"]) == (1, 1, False)
    assert found["examples"] == ["p at 5: the record has no such job"]
    code, found = world.reconcile("--prune")
    assert (code, found["pruned"], found["is_same"]) == (0, 1, True)
    world.query('DROP MEASUREMENT "other"')
    assert world.influxd.export(world.database) == before


def test_only_the_jobs_of_a_time_are_compared(world: World) -> None:
    world.query('DROP MEASUREMENT "p"')
    code, found = world.reconcile("--dry-run", "--since", "2020-01-01")
    assert (code, "jobs" in found) == (0, False)
    assert world.reconcile("--dry-run", "--until", "2020-01-01")[1]["missing"] == 3


def test_a_database_that_is_gone_is_filled_again(world: World) -> None:
    before = world.influxd.export(world.database)
    world.influxd.query(f'DROP DATABASE "{world.database}"')
    assert world.reconcile()[0] == 0
    assert world.influxd.export(world.database) == before


def test_more_points_than_expected_are_read_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.delivery.reconciling._MOST_POINTS", 2)
    assert world.reconcile() == (0, SAME)


def test_an_influxdb_that_cannot_be_read_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_INFLUX_URL", "http://127.0.0.1:1")
    outcome = world.run("reconcile")
    assert (outcome.code, outcome.err.startswith("error: ")) == (2, True)
