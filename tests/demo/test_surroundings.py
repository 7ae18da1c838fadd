import tomllib
from pathlib import Path

import pytest

from squash_api.demo import surroundings
from squash_api.demo.surroundings import EXTRAS, look_around

pytestmark = pytest.mark.sqlite
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def around(
    path: Path, *, influxdb: str | None = None, lacks: tuple[str, ...] = (), **variables: str
) -> tuple[list[str], list[str]]:
    """Return what was used, and what was not."""
    parts = list(look_around(influxdb=influxdb, lacks=lacks, variables=variables, path=str(path)))
    return (
        [part.words for part in parts if part.is_used],
        [part.words for part in parts if not part.is_used],
    )


def test_with_nothing_everything_is_named_that_the_demo_does_without(tmp_path: Path) -> None:
    used, without = around(tmp_path)
    assert used[0] == "SQLite, for the record"
    names = [words.partition(":")[0].partition(",")[0] for words in without]
    assert names[:4] == ["InfluxDB", "Kapacitor", "Chronograf", "Grafana"]


def test_what_an_influxdb_lacks_is_named(tmp_path: Path) -> None:
    used, without = around(tmp_path, influxdb="InfluxDB 3 Core 3.8.0", lacks=("it deletes none",))
    assert used[0] == "InfluxDB 3 Core 3.8.0"
    assert without[0] == "InfluxDB 3 Core 3.8.0: it deletes none"


def test_a_program_that_is_there_is_not_said_to_be_missing(tmp_path: Path) -> None:
    program = tmp_path / "kapacitord"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    _, without = around(tmp_path)
    told = [words for words in without if "is installed, and not started" in words]
    assert [words.partition(",")[0] for words in told] == ["Kapacitor"]


def test_receivers_of_the_environment_are_left_alone_and_that_is_said(tmp_path: Path) -> None:
    _, without = around(tmp_path, SQUASH_SLACK_URL="https://slack.example/x")
    assert "Slack of SQUASH_SLACK_URL: it is told nothing that is made up" in without


def test_every_extra_is_named_and_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    assert EXTRAS.keys() == project["optional-dependencies"].keys()
    monkeypatch.setattr(surroundings, "find_spec", lambda _: None)
    _, without = around(tmp_path)
    for extra in EXTRAS:
        assert any(f"pip install 'squash-api[{extra}]'" in words for words in without)
