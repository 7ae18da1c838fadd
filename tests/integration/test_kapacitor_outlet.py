"""The state of a real Kapacitor is that of the record, after any history of jobs."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import httpx
import pytest

from squash_api.generate.kapacitor.verdicts import is_verdict_id
from squash_api.metrics_packages.loading import load_metrics_package
from tests.support.alert_world import World
from tests.support.alerting import generated
from tests.support.calls import log_in
from tests.support.kapacitord import Kapacitord, write_load_directory
from tests.support.metrics_packages import write_metrics_package
from tests.support.reliability import note
from tests.support.server import local_url
from tests.support.service import Service
from tests.support.site import AS_JSON, job_document, wait_for
from tests.support.slack import Slack

HISTORIES = int(os.environ.get("SQUASH_TEST_HISTORIES", "2"))
JOBS = 50
# So many share a Kapacitor.
TOGETHER = 20
PATIENCE_S = 300.0
PART = 16


@pytest.mark.parametrize("first", range(0, HISTORIES, TOGETHER))
def test_whatever_happens_the_state_is_that_of_the_record(tmp_path: Path, first: int) -> None:
    seeds = range(first, min(first + TOGETHER, HISTORIES))
    files = World(tmp_path / "files").files()
    # Without handlers: nobody is to be told.
    tasks = {path: text for path, text in files.items() if "/tasks/" in path}
    load = write_load_directory(tmp_path / "load", tasks)
    with Kapacitord(tmp_path / "kapacitord", load) as kapacitord:
        worlds = [
            World(
                tmp_path / f"world-{seed}",
                url=local_url(kapacitord.port),
                instrument=f"w{seed}",
                seed=1000 + seed,
            )
            for seed in seeds
        ]
        for world in worlds:
            world.drain()
        histories = [world.history(JOBS) for world in worlds]
        for stop in ("killed", "stopped", "away", "checked", "end"):
            for world, history in zip(worlds, histories, strict=True):
                _play(world, history, is_last=stop == "end")
            if stop == "killed":
                # What it has taken, and not worked on, is lost.
                kapacitord.kill()
                kapacitord.start()
            elif stop == "stopped":
                kapacitord.stop()
                kapacitord.start()
            elif stop == "away":
                kapacitord.stop()
                for world, history in zip(worlds, histories, strict=True):
                    _play(world, history, is_last=False)
                kapacitord.start()
            else:
                for world in worlds:
                    world.raise_alerts()
                    world.drain()
                _check(kapacitord, worlds)
        assert kapacitord.problems() == []
        for world in worlds:
            world.stop()
            note("histories", kapacitor="real")


def _play(world: World, history: Iterator[str], *, is_last: bool) -> None:
    """Do some of a history, or what is left of it, while the outlet works now and then."""
    for _ in islice(history, None if is_last else PART):
        if world.random.random() < 0.3:
            if world.random.random() < 0.5:
                world.raise_alerts()
            world.drain()


def _check(kapacitord: Kapacitord, worlds: list[World]) -> None:
    """Wait until the states are the right ones, then whether they stay so."""
    alone = {
        name: level for world in worlds for name, level in world.expected(are_alone=True).items()
    }
    groups = sorted((world.sender, *group) for world in worlds for group in world.raised_groups())
    assert alone
    assert groups

    def raised() -> tuple[dict[str, str], list[tuple[str, ...]]]:
        events = kapacitord.events().items()
        found = {name: state["level"] for name, state in events if state["level"] != "OK"}
        told = {name: found.pop(name) for name in [*found] if is_verdict_id(name)}
        return found, sorted(
            (name.rpartition("=")[2].partition("-")[0], name.partition("/")[0], level)
            for name, level in told.items()
        )

    try:
        wait_for(lambda: raised() == (alone, groups), timeout_s=PATIENCE_S)
    except AssertionError:
        found, told = raised()
        assert sorted(found.items() ^ alone.items()) == []
        assert told == groups


METRICS = "PA1: {description: Photometric repeatability., unit: mmag}"
SPECS = """
name: PA1.minimum
threshold: {operator: "<=", unit: mmag, value: 8}
tags: [minimum]
expect: {every: 2s}
"""


@contextmanager
def stack(folder: Path) -> Iterator[tuple[Slack, Kapacitord, Service, httpx.Client]]:
    """Run Slack, Kapacitor and the service, which writes to it, with the metrics package above."""
    directory = write_metrics_package(folder / "specs", metrics=METRICS, specs=SPECS)
    load = write_load_directory(folder / "load", generated(load_metrics_package(directory)))
    with (
        Slack() as slack,
        Kapacitord(folder / "kapacitord", load, slack=slack.url) as kapacitord,
        Service(
            folder / "service",
            SQUASH_SPECS=str(directory),
            SQUASH_KAPACITOR_URL=local_url(kapacitord.port),
        ) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        yield slack, kapacitord, service, client


def test_alerts_work_without_any_influxdb_late_values_and_the_heartbeat_included(
    tmp_path: Path,
) -> None:
    with stack(tmp_path) as (slack, kapacitord, service, client):
        calls = log_in(client, "ada")
        job = job_document({"validate.PA1": 9.0}, unit="mmag", ci_dataset="cosmos")
        reply = calls("POST", "/job", content=json.dumps(job), headers=AS_JSON)
        told = slack.wait_for(lambda told: told.text.startswith("🔴 *CRITICAL* PA1 (validate):"))
        assert told.shown.splitlines()[1:3] == [
            "PA1 = 9.00 mmag, must be <= 8 (minimum)",
            "dataset cosmos",
        ]
        assert calls("DELETE", f"/job/{reply.json()['id']}").status_code == 200
        told = slack.wait_for(lambda told: told.text.startswith("✅ *OK* PA1 (validate):"))
        gone, was, *rest = told.shown.splitlines()[1:]
        assert gone == "PA1 has no value any more: its last one was deleted or withdrawn"
        assert was.startswith("was broken for less than 1 min, from 20")
        assert rest == ["dataset cosmos"]
        ready = {"kapacitor": {"status": "ok", "waiting": 0, "quarantined": 0}}
        wait_for(lambda: client.get("/readyz").json()["targets"] == ready)
        assert 'target="kapacitor"' in client.get("/prometheus").text

        job = job_document({"validate.PA1": 1.0}, unit="mmag", ci_dataset="cosmos")
        calls("POST", "/job", content=json.dumps(job), headers=AS_JSON)
        wait_for(lambda: client.get("/readyz").json()["targets"]["kapacitor"]["waiting"] == 0)
        # The watch looks once a minute, and when the service starts; that takes two seconds.
        service.stop()
        time.sleep(2)
        service.start()
        told = slack.wait_for(
            lambda told: "PA1 (validate) is late" in told.text and "dataset cosmos" in told.text
        )
        assert "no value for validate.PA1.minimum for" in told.text
        wait_for(lambda: _points_of(kapacitord, "squash.heartbeat") > 0)
        assert kapacitord.problems() == []


def test_a_new_unit_raises_and_ends_nothing_whichever_program_knows_it_first(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "specs" / "demo"
    with stack(tmp_path) as (slack, kapacitord, service, client):

        def post(value: float) -> None:
            job = job_document({"validate.PA1": value}, unit="mmag", ci_dataset="cosmos")
            log_in(client, "ada")("POST", "/job", content=json.dumps(job), headers=AS_JSON)
            wait_for(lambda: client.get("/readyz").json()["targets"]["kapacitor"]["waiting"] == 0)

        post(9.0)
        slack.wait_for(lambda told: told.text.startswith("🔴 *CRITICAL* PA1 (validate):"))
        file = directory / "metrics" / "validate.yaml"
        file.write_text(file.read_text().replace("unit: mmag", "unit: mag"))
        service.stop()
        service.start()
        post(9.5)
        write_load_directory(tmp_path / "load", generated(load_metrics_package(directory)))
        assert kapacitord.pid is not None
        os.kill(kapacitord.pid, signal.SIGHUP)
        wait_for(lambda: _points_of(kapacitord, "validate.PA1") > 0, timeout_s=60)
        post(1.0)
        told = slack.wait_for(lambda told: told.text.startswith("✅ *OK* PA1 (validate):"))
        assert told.shown.splitlines()[1] == "PA1 = 0.00100 mag, must be <= 0.008 (minimum)"
        assert len([told for told in slack.told if "PA1 (validate):" in told.text]) == 2
        assert kapacitord.problems() == []


def _points_of(kapacitord: Kapacitord, name: str) -> int:
    """Return how many points a task has looked at."""
    (task,) = [item for item in kapacitord.tasks() if item["id"] == name]
    return int(task["stats"]["node-stats"]["from1"]["emitted"])
