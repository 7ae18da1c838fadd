import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from squash_api.commands.demo import query_command
from squash_api.demo.influxdb import DATABASE, Influx
from squash_api.settings import InfluxTarget
from tests.support.influxd import Influxd

DEMO = [sys.executable, "-m", "squash_api", "demo", "--days", "3", "--port", "0"]
# Settings of a developer, none of which may reach the demo.
DEVELOPER = {
    "SQUASH_SECRET": "short",
    "SQUASH_URL": "http://squash.invalid",
    "SQUASH_REGISTRATION": "closed",
    "SQUASH_DATABASE_URL": "sqlite:////nowhere/squash.db",
}
TIMEOUT_S = 60


def make_variables(folder: Path, *, path: str, **more: str) -> dict[str, str]:
    """Return an environment whose temporary folders are in `folder`, so that none is missed."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SQUASH_")}
    return {**kept, **DEVELOPER, "TMPDIR": str(folder), "PATH": path, **more}


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end, on a PATH without influxd."""
    return subprocess.run(
        [*DEMO, "--once", *arguments],
        env=make_variables(folder, path=str(folder / "empty"), **more),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def shown(output: str, what: str) -> str:
    """Return what stands behind a word at the beginning of a line."""
    found = re.search(rf"^{what} +(\S.*)$", output, re.MULTILINE)
    assert found, output
    return found[1]


@pytest.fixture(scope="module")
def plain_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One run to its end without InfluxDB, and the folder of its temporary files."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, run(folder)


@contextmanager
def staying_up(influxd_binary: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a demo with a private influxd that stays up; also what it has printed until then."""
    path = os.pathsep.join([str(Path(influxd_binary).parent), os.environ.get("PATH", "")])
    process = subprocess.Popen(
        DEMO,
        env=make_variables(folder, path=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            break
    try:
        yield process, "".join(lines)
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


@dataclass(frozen=True)
class Demo:
    """A demo that stays up: what it has printed until then, and where its temporary files are."""

    process: subprocess.Popen[str]
    output: str
    folder: Path


@pytest.fixture(scope="module")
def demo_while_up(influxd_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("staying")
    with staying_up(influxd_binary, folder) as (process, output):
        yield Demo(process, output, folder)


@pytest.fixture
def output_while_up(demo_while_up: Demo) -> str:
    return demo_while_up.output


def test_without_influxdb_the_demo_goes_well(
    plain_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, result = plain_run
    assert result.returncode == 0, result.stderr
    assert "no influxd on PATH" in shown(result.stdout, "InfluxDB")
    assert shown(result.stdout, "with").startswith("SQLite, for the record")
    assert "\nwithout   InfluxDB: values are in the record" in result.stdout


def test_the_history_is_dispatched(
    plain_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    assert shown(plain_run[1].stdout, "history").startswith("9 jobs of 3 days")


def test_the_verdict_table_has_a_row_per_specification(
    plain_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output = plain_run[1].stdout
    rows = re.findall(r"^ (passed|failed|not measured) +\w+\.\w+\.\w+ ", output, re.MULTILINE)
    assert f"{len(rows)} specifications judged the new job" in output
    assert set(rows) == {"passed", "failed", "not measured"}
    assert re.search(
        r"passed +validate_drp\.PA1\.minimum_r +[\d.]+ mmag +<= 8 mmag +CRITICAL +\+\d+%", output
    )


def test_the_urls_are_of_the_service_that_ran(
    plain_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    output = plain_run[1].stdout
    root = shown(output, "pages")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", root)
    assert shown(output, "verdicts") == f"{root}job/10/report"
    assert "squash.invalid" not in output


def test_nothing_is_left_in_the_temporary_folder(
    plain_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    assert list(plain_run[0].iterdir()) == []


def test_a_given_influxdb_gets_every_point_in_the_database_named(
    influxd: Influxd, influx_target: InfluxTarget, tmp_path: Path
) -> None:
    result = run(
        tmp_path,
        SQUASH_INFLUX_URL=influx_target.url,
        SQUASH_INFLUX_DATABASE=influx_target.database,
    )
    assert result.returncode == 0, result.stderr
    points = influxd.points(influx_target.database)
    assert len([point for point in points if point["measurement"] == "validate_drp"]) == 10
    assert shown(result.stdout, "with").startswith("InfluxDB 1.")


def test_an_influxdb_that_refuses_makes_the_demo_fail(
    influxd: Influxd, influx_target: InfluxTarget, tmp_path: Path
) -> None:
    influxd.create_database(influx_target.database, duration="1h")
    result = run(
        tmp_path,
        SQUASH_INFLUX_URL=influx_target.url,
        SQUASH_INFLUX_DATABASE=influx_target.database,
    )
    assert result.returncode == 1
    assert "InfluxDB permanently refused 18 points" in result.stderr


def test_while_it_stays_up_the_private_influxdb_can_be_asked_as_printed(
    output_while_up: str,
) -> None:
    found = re.search(r"(http://\S+)/query .*'q=(.*)'", output_while_up)
    assert found, output_while_up
    answer = httpx.get(
        f"{found[1]}/query", params={"db": DATABASE, "q": found[2]}, trust_env=False, timeout=60
    ).json()
    assert {series["tags"]["filter"] for series in answer["results"][0]["series"]} == {
        "g",
        "r",
        "i",
    }


def test_while_it_stays_up_another_job_can_be_dispatched_as_printed(
    output_while_up: str, tmp_path: Path
) -> None:
    output = output_while_up
    found = re.search(r"^  SQUASH_PASSWORD=(\S+) .* (dispatch .*)$", output, re.MULTILINE)
    assert found, output
    result = subprocess.run(
        [sys.executable, "-m", "squash_api", *found[2].split()],
        env=make_variables(tmp_path, path="", SQUASH_PASSWORD=found[1]),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "job 11" in result.stdout


def test_told_to_stop_it_ends_its_processes_and_removes_its_folder(demo_while_up: Demo) -> None:
    """This comes after what asks the demo while it stays up."""
    demo_while_up.process.terminate()
    assert demo_while_up.process.wait(TIMEOUT_S) == 0
    influx = re.search(r"(http://\S+)/query ", demo_while_up.output)
    assert influx
    for url in (shown(demo_while_up.output, "pages"), influx[1]):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False, timeout=60)
    assert list(demo_while_up.folder.iterdir()) == []


def test_told_to_stop_before_the_verdicts_it_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*DEMO, "--days", "1000"],
        env=make_variables(tmp_path, path=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("service"):
            break
    process.terminate()
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors.strip()) == (130, "Stopped before the end.")
    assert "specifications apply" not in output
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_dies_ends_the_demo_with_its_log(
    influxd_binary: str, tmp_path: Path
) -> None:
    with staying_up(influxd_binary, tmp_path) as (process, _):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        os.kill(next(int(pid) for pid, line in lines.items() if b"serve" in line), signal.SIGKILL)
        output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "squash serve has ended with exit code -9; the end of its log:" in output
    assert list(tmp_path.iterdir()) == []


def test_without_specs_it_says_so_and_starts_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, "--specs", str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert result.stdout == ""
    assert "nowhere" in result.stderr


@pytest.mark.parametrize(
    ("credentials", "end"),
    [
        ({}, 'GROUP BY "filter"\''),
        ({"SQUASH_INFLUX_USER": "me", "SQUASH_INFLUX_PASSWORD": "hidden"}, "' -u me"),
        ({"SQUASH_INFLUX_TOKEN": "hidden"}, '-H "Authorization: Token $SQUASH_INFLUX_TOKEN"'),
    ],
)
def test_the_line_for_influxdb_names_the_user_and_hides_secrets(
    credentials: dict[str, str], end: str
) -> None:
    settings = {"SQUASH_INFLUX_URL": "http://i.example", "SQUASH_INFLUX_DATABASE": "d"}
    line = query_command(Influx(settings | credentials))
    assert line.endswith(end)
    assert "hidden" not in line
