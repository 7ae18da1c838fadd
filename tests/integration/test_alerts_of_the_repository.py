"""Kapacitor starts with the committed tasks, and the one in docs/alerts.md does what that says."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.alerting import Bench, alert_bench, bench_files
from tests.support.kapacitord import Kapacitord
from tests.support.metrics_packages import ROOT

# What Kapacitor does with points does not depend on where the record is.
pytestmark = pytest.mark.sqlite

METRICS = "PA1: {description: Repeatability., unit: mmag}"
SPECS = 'name: PA1.limit\nthreshold: {operator: "<=", unit: mmag, value: 100}\n'


def send(bench: Bench, value: float) -> None:
    tags = "instrument=HSC,dataset=a<b,filter=r"
    bench.kapacitord.write([f"validate_drp,{tags} PA1={value} {time.time_ns()}"])


def test_the_task_shown_alerts_after_three_bad_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```tick\n(.*?)```", page, re.DOTALL)
    files = bench_files(tmp_path / "specs", metrics=METRICS, specs=SPECS)
    files["kapacitor/tasks/own.tick"] = script
    with alert_bench(tmp_path, files) as bench:
        for value in (7.0, 7.0, 5.0, 7.0, 7.0, 7.5, 7.0, 5.5):
            send(bench, value)
        bench.slack.wait_for(lambda told: told.text.startswith("*OK*"))
        group = "dataset=a&lt;b,filter=r,instrument=HSC"
        assert [told.text for told in bench.slack.told] == [
            f"*WARNING* PA1 is 7.50 mmag, above 6 in 3 runs in a row: {group}",
            f"*OK* PA1 is 5.50 mmag: {group}",
        ]
        assert bench.kapacitord.problems() == []


def test_the_messages_shown_have_the_words_of_the_tasks() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    for words in (
        ", must be <= 8 (",
        "\nwas broken for 3.0 h, from 20",
        ", muted through ",
        " is late: ",
        " late\nlast value ",
        "*CRITICAL* SQuaSH is silent",
    ):
        assert words in page


@pytest.mark.parametrize("topic", ["metrics-channel-dm-alerts", "metrics-user-ada"])
def test_the_topics_shown_are_those_made(topic: str) -> None:
    from squash_api.generate.kapacitor.channels import topic_of

    page = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    assert f"`{topic}`" in page
    assert topic in {topic_of("#dm-alerts"), topic_of("@ada")}


# The committed folder is one that Kapacitor starts with.


LOAD = ROOT / "kapacitor"


@pytest.fixture(scope="module")
def kapacitord(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kapacitord]:
    with Kapacitord(tmp_path_factory.mktemp("kapacitord"), LOAD) as kapacitord:
        yield kapacitord


def test_every_committed_task_is_executing(kapacitord: Kapacitord) -> None:
    tasks = kapacitord.tasks()
    assert {task["id"] for task in tasks} == {path.stem for path in (LOAD / "tasks").iterdir()}
    assert [task for task in tasks if not task["executing"] or task["error"]] == []


def test_the_committed_tasks_meet_no_error(kapacitord: Kapacitord) -> None:
    assert kapacitord.problems() == []
