"""SIGKILL at random instants of ingest and delivery: nothing is lost, double or out of order."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.kills import Aftermath, Killing
from tests.support.reliability import note

# 20 in `make test`, 500 in `make soak`.
KILLS = int(os.environ.get("SQUASH_TEST_KILLS", "20"))
TOGETHER = 25
STORIES = max(2, -(-KILLS // TOGETHER))
SEED = int(os.environ.get("SQUASH_TEST_SEED", "0"))


@pytest.fixture(scope="module", params=range(STORIES))
def aftermath(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Aftermath:
    story: int = request.param
    seed = SEED + story
    kills = KILLS // STORIES + (story < KILLS % STORIES)
    # Shown when a test fails.
    sys.stdout.write(f"to repeat: SQUASH_TEST_SEED={seed} SQUASH_TEST_KILLS={2 * kills}\n")
    folder: Path = tmp_path_factory.mktemp("kills")
    made = Killing(folder, seed, "deliver" if seed % 2 else "inline").run(kills)
    note(
        "kills",
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
