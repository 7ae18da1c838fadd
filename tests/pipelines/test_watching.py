"""`squash watch` as processes, with a stand-in for the service that counts."""

import gzip
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.pipelines.spool import Spool
from tests.support.counting_service import CountingService
from tests.support.forked import Forked
from tests.support.http_server import HttpServer

pytestmark = pytest.mark.sqlite

_PATIENCE_S = 120.0


def job(value: float) -> str:
    measurements = [{"metric": "p.m", "value": value, "unit": "s"}]
    return json.dumps({"measurements": measurements, "blobs": [], "meta": {"filter": "r"}})


def write(path: Path, text: str) -> None:
    """Write a file as a careful pipeline does."""
    path.with_name(f".{path.name}").write_text(text)
    path.with_name(f".{path.name}").rename(path)


def until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < end_s, "it did not come to that"
        time.sleep(0.01)


class World:
    """A watched folder, and the service that its jobs are for."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.watched = folder / "night"
        self.watched.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "SQUASH_URL": url,
            "SQUASH_KEY": "sq_1_secret",
            "LOGNAME": "vera",
        }
        self._processes: list[Forked] = []

    def watch(self, *options: str) -> Forked:
        process = Forked(
            ["watch", str(self.watched), *options],
            environment=self.environment,
            folder=self.folder,
            output=self.folder / "output",
        )
        self._processes.append(process)
        return process

    @property
    def output(self) -> str:
        path = self.folder / "output"
        return path.read_text() if path.exists() else ""

    @property
    def spooled(self) -> list[Path]:
        return sorted((self.folder / "state" / "squash" / "spool").glob("*.json"))

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def service() -> CountingService:
    return CountingService()


@pytest.fixture
def world(tmp_path: Path, service: CountingService) -> Iterator[World]:
    with HttpServer(service) as server:
        world = World(tmp_path, server.url)
        yield world
        world.end()


def test_a_thousand_files_are_dispatched_once_though_the_watch_is_killed_20_times(
    world: World, service: CountingService
) -> None:
    dice = random.Random(13)
    numbers = iter(range(1000))
    for kill in range(20):
        process = world.watch()
        for number in (next(numbers) for _ in range(50)):
            write(world.watched / f"{number}.verify.json", job(number))
        # Some kills come while files are sent, wherever that is.
        wanted = len(service.jobs) + dice.randrange(60)
        until(lambda count=wanted, most=50 * kill + 50: len(service.jobs) >= min(count, most))  # type: ignore[misc]
        process.kill()
        process.wait()
    world.watch()
    until(lambda: len(service.jobs) >= 1000)
    assert sorted(service.values("p.m")) == list(range(1000))
    # What was sent in the moment of a kill came twice; the service knew it.
    assert service.posts <= 1020
    assert len(list(world.watched.iterdir())) == 1000


def test_what_was_sent_is_not_sent_again_after_a_restart(
    world: World, service: CountingService
) -> None:
    write(world.watched / "a.verify.json", job(1))
    process = world.watch()
    until(lambda: ": job 1, " in world.output)
    process.terminate()
    assert process.wait() == 0
    world.watch()
    write(world.watched / "b.verify.json", job(2))
    until(lambda: len(service.jobs) == 2)
    assert service.posts == 2


def test_a_file_that_is_still_open_waits(world: World, service: CountingService) -> None:
    world.watch()
    with (world.watched / "slow.verify.json").open("w") as stream:
        stream.write(job(1)[:20])
        stream.flush()
        write(world.watched / "quick.verify.json", job(2))
        until(lambda: len(service.jobs) == 1)
        stream.write(job(1)[20:])
    until(lambda: len(service.jobs) == 2)
    assert service.values("p.m") == [2, 1]
    assert "slow" not in world.output.partition(": job 2")[0].partition(": job 1")[0]


def test_with_polling_a_file_must_be_unchanged_for_some_time(
    world: World, service: CountingService
) -> None:
    world.watch("--poll", "0.1", "--stable", "0.3")
    write(world.watched / "a.verify.json", job(1))
    until(lambda: len(service.jobs) == 1)
    assert service.values("p.m") == [1]


def test_a_changed_file_is_a_new_one(world: World, service: CountingService) -> None:
    world.watch()
    write(world.watched / "a.verify.json", job(1))
    until(lambda: len(service.jobs) == 1)
    write(world.watched / "a.verify.json", job(2))
    until(lambda: len(service.jobs) == 2)
    assert service.values("p.m") == [1, 2]


def test_files_in_new_folders_and_packed_ones_are_sent(
    world: World, service: CountingService
) -> None:
    world.watch()
    deep = world.watched / "visit" / "detector"
    deep.mkdir(parents=True)
    (deep / "a.verify.json.gz").write_bytes(gzip.compress(job(1).encode()))
    until(lambda: len(service.jobs) == 1)


def test_with_new_only_what_is_there_is_left_out(world: World, service: CountingService) -> None:
    write(world.watched / "old.verify.json", job(1))
    process = world.watch("--new-only")
    until(lambda: "0 files to take" in world.output)
    write(world.watched / "new.verify.json", job(2))
    until(lambda: len(service.jobs) == 1)
    process.kill()
    process.wait()
    write(world.watched / "between.verify.json", job(3))
    world.watch("--new-only")
    until(lambda: len(service.jobs) == 2)
    assert service.values("p.m") == [2, 3]


def test_what_is_no_job_is_named_once(world: World) -> None:
    write(world.watched / "broken.verify.json", "{")
    write(world.watched / "empty.verify.json", "")
    write(world.watched / "readme.txt", "hello")
    process = world.watch()
    until(lambda: "broken" in world.output and "empty" in world.output)
    process.kill()
    process.wait()
    world.watch()
    write(world.watched / "a.verify.json", job(1))
    until(lambda: ": job 1, " in world.output)
    assert world.output.count("broken.verify.json: not JSON") == 1
    assert world.output.count("empty.verify.json: the file is empty") == 1
    assert world.output.count("1 file has another name, such as readme.txt") == 1


def test_jobs_wait_while_the_service_is_away_and_go_when_it_is_back(
    world: World, service: CountingService
) -> None:
    is_away = True
    service.judge = lambda _: httpx.Response(503, json={"message": "Away."}) if is_away else None
    process = world.watch()
    write(world.watched / "a.verify.json", job(1))
    until(lambda: len(world.spooled) == 1)
    process.kill()
    process.wait()
    (world.watched / "a.verify.json").unlink()
    is_away = False
    world.watch()
    until(lambda: len(service.jobs) == 1)
    until(lambda: not world.spooled)


def test_what_the_service_refuses_holds_up_no_other(world: World, service: CountingService) -> None:
    def judge(document: dict[str, Any]) -> httpx.Response | None:
        is_bad = document["measurements"][0]["value"] == 1
        return httpx.Response(422, json={"message": "No."}) if is_bad else None

    service.judge = judge
    write(world.watched / "bad.verify.json", job(1))
    write(world.watched / "good.verify.json", job(2))
    world.watch()
    until(lambda: len(service.jobs) == 1)
    until(lambda: "refused: 422: No." in world.output)
    assert json.loads(world.spooled[0].read_text())["refused"] is True


def test_a_second_watch_of_a_folder_says_so(world: World) -> None:
    world.watch()
    until(lambda: " to take" in world.output)
    second = world.watch()
    assert second.wait(_PATIENCE_S) == 2
    assert "another squash watch uses it" in world.output


_PIPELINE = """
import json, pathlib, sys, time
given = pathlib.Path(sys.argv[1])
here = pathlib.Path.cwd()
(here / f"begun-{given.name}-{time.time_ns()}").touch()
while not (here / "go").exists():
    time.sleep(0.02)
value = float(given.read_text())
document = {"measurements": [{"metric": "p.m", "value": value, "unit": "s"}]}
(here / f"{given.stem}.verify.json").write_text(json.dumps(document))
"""


@pytest.fixture
def pipeline(world: World) -> str:
    script = world.folder / "ql.py"
    script.write_text(_PIPELINE)
    return f"{sys.executable} {script} {{}}"


def begun(world: World) -> list[str]:
    return sorted(path.name.split("-")[1] for path in world.folder.glob("begun-*"))


def test_a_pipeline_is_launched_for_each_input_a_few_at_a_time(
    world: World, service: CountingService, pipeline: str
) -> None:
    for number in range(3):
        write(world.watched / f"{number}.fits", str(number))
    write(world.watched / "note.txt", "no input")
    world.watch("--exec", pipeline, "--pattern", "*.fits", "--jobs", "2")
    until(lambda: len(begun(world)) == 2)
    (world.folder / "go").touch()
    until(lambda: len(service.jobs) == 6)
    assert sorted(service.values("p.m")) == [0, 1, 2]
    assert service.values("run.exit_status") == [0, 0, 0]
    assert begun(world) == ["0.fits", "1.fits", "2.fits"]
    inputs = {job["meta"].get("input") for job in service.jobs}
    assert inputs == {str(world.watched / f"{number}.fits") for number in range(3)}


def test_what_runs_could_not_send_is_sent_while_pipelines_are_launched(
    world: World, service: CountingService
) -> None:
    spool = Spool(world.folder / "state" / "squash" / "spool")
    document = json.loads(job(7.0))
    spool.put(document, source="ql", url=world.environment["SQUASH_URL"], why="away")
    process = world.watch("--exec", "true")
    until(lambda: service.values("p.m") == [7.0] and not world.spooled)
    process.terminate()
    assert process.wait() == 0


def test_a_pipeline_goes_on_when_the_watch_is_killed_and_is_not_launched_again(
    world: World, service: CountingService, pipeline: str
) -> None:
    write(world.watched / "1.fits", "1")
    process = world.watch("--exec", pipeline)
    until(lambda: len(begun(world)) == 1)
    process.kill()
    process.wait()
    world.watch("--exec", pipeline)
    until(lambda: "1.fits: is still running" in world.output)
    (world.folder / "go").touch()
    until(lambda: "1.fits: exit status 0" in world.output)
    assert begun(world) == ["1.fits"]
    assert service.values("run.exit_status") == [0]
