"""The state of a real Kapacitor is that of the newest values, after any history of jobs."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.support.alert_world import World
from tests.support.kapacitord import Kapacitord, write_load_directory
from tests.support.server import local_url
from tests.support.site import wait_for

HISTORIES = int(os.environ.get("SQUASH_TEST_HISTORIES", "6"))
JOBS = 50
# So many share a Kapacitor.
TOGETHER = 20
PATIENCE_S = 300.0
PART = 16


@pytest.mark.parametrize("first", range(0, HISTORIES, TOGETHER))
def test_whatever_happens_the_state_is_that_of_the_newest_values(
    tmp_path: Path, first: int
) -> None:
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
                    world.drain()
                _check(kapacitord, worlds)
        assert kapacitord.problems() == []
        for world in worlds:
            world.stop()


def _play(world: World, history: Iterator[str], *, is_last: bool) -> None:
    """Do some of a history, or what is left of it, while the outlet works now and then."""
    for _ in islice(history, None if is_last else PART):
        if world.random.random() < 0.3:
            world.drain()


def _check(kapacitord: Kapacitord, worlds: list[World]) -> None:
    """Wait until the states are the right ones, then whether they stay so."""
    expected = {name: level for world in worlds for name, level in world.expected().items()}
    assert expected

    def raised() -> dict[str, str]:
        events = kapacitord.events().items()
        return {name: state["level"] for name, state in events if state["level"] != "OK"}

    def is_right() -> bool:
        return raised() == expected

    try:
        wait_for(is_right, timeout_s=PATIENCE_S)
    except AssertionError:
        found = raised()
        assert sorted(found.items() ^ expected.items()) == []
