"""The InfluxDB database, or a part of it, is lost, and is made again from the record."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.conftest import MakeSite
from tests.support.influxd import Influxd
from tests.support.site import Site, job_document, wait_for

OLDEST = "oldest"
DAYS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]


@dataclass
class Filled:
    """A service with jobs of four days in two databases of one influxd, and their export."""

    site: Site
    copy: str
    ids: list[int]
    export: bytes

    def lose(self) -> None:
        """Drop both databases."""
        for name in (self.site.database, self.copy):
            self.site.influxd.query(f'DROP DATABASE "{name}"')

    def empty(self) -> None:
        """Take all jobs but the oldest out of both databases.

        Where not even the oldest is left, the service fills a database again.
        """
        for name in (self.site.database, self.copy):
            for point in self.site.influxd.points(name):
                if point["measurement"] != OLDEST:
                    self.site.influxd.query(
                        f'DROP MEASUREMENT "{point["measurement"]}"', database=name
                    )

    def replay(self, *arguments: str) -> None:
        """Run the command, which waits until all is delivered."""
        done = self.site.service.run("replay", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def stored_ids(self, database: str | None = None) -> set[int]:
        """Return the ids of the jobs that a database holds, but for the oldest."""
        return {
            int(point["fields"]["squash_id"])
            for point in self.site.influxd.points(database or self.site.database)
            if point["measurement"] != OLDEST
        }


def run_of(day: str, *, sha: str) -> dict[str, Any]:
    """Return the metadata of a Jenkins run, with hostile text in it."""
    return {
        "instrument": "HSC",
        "note": 'quote " comma , newline \n Ω',
        "nested": {"visit": 903334, "chips": [1, 2]},
        "packages": {"afw": {"name": "afw", "git_sha": sha, "git_url": "https://x.example/afw"}},
        "env": {
            "env_name": "jenkins",
            "ci_id": day,
            "ci_name": "validate_drp",
            "ci_url": f"https://ci.example/{day}",
            "date": f"{day}T12:00:00+00:00",
        },
    }


def fill(site: Site) -> list[int]:
    """Store jobs of all kinds: with code changes, converted units, additions, and a deleted one."""
    metrics = [{"name": "drp.PA1", "unit": "mmag", "description": "Repeatability."}]
    assert site.calls("POST", "/metrics", json={"metrics": metrics}).status_code == 201
    documents: list[dict[str, Any]] = [
        job_document({"drp.PA1": 0.0041 + index / 1e4, "ip.PA1": 1.0}, unit="mag")
        | {"meta": run_of(day, sha=f"a1b2c3{index}")}
        for index, day in enumerate(DAYS)
    ]
    site.dispatch(job_document({f"{OLDEST}.m": 1.0}))
    ids = [site.dispatch(document)["id"] for document in documents]
    added = {"metric": "added.m", "value": 0.1, "unit": ""}
    assert site.calls("POST", f"/measurement/{ids[0]}", json=added).status_code == 201
    doomed = site.dispatch(job_document({"drp.PA1": 1.0}, unit="mag"))["id"]
    assert site.calls("DELETE", f"/job/{doomed}").status_code == 200
    site.wait_until_idle()
    return ids


@pytest.fixture(scope="module")
def filled(make_site: MakeSite, influxd: Influxd) -> Filled:
    copy = f"copy_{uuid.uuid4().hex}"
    target = {"name": "copy", "url": influxd.url, "database": copy}
    site = make_site(SQUASH_INFLUX_TARGETS=json.dumps([target]))
    ids = fill(site)
    export = influxd.export(site.database)
    assert export.count(b"\n") + 1 == 1 + 2 * len(DAYS) + 1
    return Filled(site, copy, ids, export)


def test_a_full_replay_restores_every_byte(filled: Filled) -> None:
    filled.lose()
    filled.replay()
    assert filled.site.influxd.export(filled.site.database) == filled.export


def test_a_full_replay_restores_every_target(filled: Filled) -> None:
    filled.lose()
    filled.replay()
    assert filled.site.influxd.export(filled.copy) == filled.export


def test_without_any_command_a_dropped_database_is_filled_again(filled: Filled) -> None:
    filled.lose()
    wait_for(lambda: filled.site.influxd.export(filled.site.database) == filled.export)
    wait_for(lambda: filled.site.get("/readyz")["status"] == "ok")
    log = filled.site.service.log()
    assert "the database was missing or empty: it is filled again from the record" in log


def test_a_replay_over_what_is_there_changes_nothing(filled: Filled) -> None:
    filled.replay()
    assert filled.site.influxd.export(filled.site.database) == filled.export


@pytest.mark.parametrize(
    ("arguments", "days"),
    [
        (["--since", "2026-01-03T12:00:00Z"], [2, 3]),
        (["--until", "2026-01-02T12:00:00Z"], [0, 1]),
        (["--since", "2026-01-02", "--until", "2026-01-03T23:00:00+00:00"], [1, 2]),
    ],
)
def test_a_replay_by_time_sends_the_jobs_of_that_time(
    filled: Filled, arguments: Sequence[str], days: Sequence[int]
) -> None:
    filled.empty()
    filled.replay(*arguments)
    assert filled.stored_ids() == {filled.ids[day] for day in days}


def test_a_replay_by_job_sends_those_jobs(filled: Filled) -> None:
    filled.empty()
    filled.replay("--job", str(filled.ids[1]), "--job", str(filled.ids[3]))
    assert filled.stored_ids() == {filled.ids[1], filled.ids[3]}


def test_a_replay_to_one_target_leaves_the_other_alone(filled: Filled) -> None:
    filled.empty()
    filled.replay("--target", "copy")
    assert filled.stored_ids(filled.copy) == set(filled.ids)
    assert filled.stored_ids() == set()


@pytest.mark.parametrize(
    "arguments", [["--target", "nowhere"], ["--job", "999999"], ["--since", "yesterday"]]
)
def test_a_replay_of_what_there_is_not_is_an_error(
    filled: Filled, arguments: Sequence[str]
) -> None:
    done = filled.site.service.run("replay", *arguments)
    assert (done.returncode, done.stderr.startswith("error: ")) == (1, True)


def test_a_replay_that_does_not_wait_leaves_it_to_the_service(filled: Filled) -> None:
    filled.empty()
    filled.site.service.stop()
    done = filled.site.service.run("replay", "--job", str(filled.ids[0]), "--no-wait")
    assert (done.returncode, done.stdout) == (0, "1 job to send to default, copy\n")
    filled.site.service.start()
    filled.site.wait_until_delivered([filled.ids[0]])
    assert filled.stored_ids() == {filled.ids[0]}
