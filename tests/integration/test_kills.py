"""SIGKILL at random instants of ingest and delivery: nothing is lost, double or out of order."""

import os
import sys
import uuid
from pathlib import Path

import pytest

from tests.support.kills import Aftermath, Killing
from tests.support.postgresql import PostgreSQL
from tests.support.records import POSTGRESQL, SQLITE
from tests.support.reliability import note

# A story names its engine itself, so that none is told once more on the other.
pytestmark = pytest.mark.sqlite

# 20 in `make test`, 500 in `make soak`.
KILLS = int(os.environ.get("SQUASH_TEST_KILLS", "20"))
# Of one of three services and three `squash deliver` on PostgreSQL; 100 in `make soak`.
REPLICA_KILLS = int(os.environ.get("SQUASH_TEST_REPLICA_KILLS", "6"))
TOGETHER = 25
SEED = int(os.environ.get("SQUASH_TEST_SEED", "0"))


def stories(engine: str, kills: int, *, least: int) -> list[tuple[str, int, int]]:
    """Divide kills into stories; each is on an engine, and has a number and its kills."""
    count = max(least, -(-kills // TOGETHER)) if kills else 0
    return [(engine, each, kills // count + (each < kills % count)) for each in range(count)]


STORIES = [
    *stories(SQLITE, KILLS, least=2),
    *stories(POSTGRESQL, REPLICA_KILLS, least=1),
]


@pytest.fixture(scope="module", params=STORIES, ids=lambda story: f"{story[0]}-{story[1]}")
def aftermath(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Aftermath:
    engine, story, kills = request.param
    seed = SEED + story
    # Shown when a test fails.
    sys.stdout.write(f"to repeat: SQUASH_TEST_SEED={seed} and {kills} kills on {engine}\n")
    folder: Path = tmp_path_factory.mktemp("kills")
    if engine == SQLITE:
        made = Killing(folder, seed, deliverers=seed % 2).run(kills)
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        name = f"kills_{uuid.uuid4().hex}"
        server.create(name, template="template1")
        killing = Killing(
            folder, seed, services=3, deliverers=3, clients=16, url=server.url_of(name)
        )
        made = killing.run(kills)
        server.drop(name)
    note(
        "kills" if engine == SQLITE else "replica kills",
        kills=made.kills,
        jobs=len(made.accepted),
        lost=len(made.lost()),
        double=len(made.double()),
    )
    return made


def test_every_job_that_was_accepted_is_in_the_record_and_in_influxdb(
    aftermath: Aftermath,
) -> None:
    assert len(aftermath.accepted) > aftermath.kills
    assert aftermath.lost() == []


def test_no_job_is_twice_in_the_record_and_no_point_twice_in_influxdb(
    aftermath: Aftermath,
) -> None:
    assert aftermath.double() == []


def test_influxdb_has_the_values_of_the_record_and_nothing_else(aftermath: Aftermath) -> None:
    values = {job_id: [float(number)] for job_id, number in aftermath.found.items()}
    assert aftermath.points == values


def test_influxdb_got_the_jobs_in_their_order(aftermath: Aftermath) -> None:
    assert aftermath.arrived == sorted(aftermath.found)


def test_kapacitor_was_told_only_what_the_record_has(aftermath: Aftermath) -> None:
    assert {(job_id, value, time_ns) for _, job_id, value, time_ns in aftermath.told} <= {
        (job_id, float(number), aftermath.times[job_id])
        for job_id, number in aftermath.found.items()
    }


def test_kapacitor_was_never_told_an_older_value_after_a_newer_one(aftermath: Aftermath) -> None:
    times: dict[str, list[int]] = {}
    for instrument, _, _, time_ns in aftermath.told:
        times.setdefault(instrument, []).append(time_ns)
    assert all(found == sorted(found) for found in times.values())


def test_what_kapacitor_was_told_last_is_the_newest_value_of_each_series(
    aftermath: Aftermath,
) -> None:
    last = {instrument: (job_id, value) for instrument, job_id, value, _ in aftermath.told}
    assert last == aftermath.newest()
