import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command_line import Run, make_run, set_environment
from tests.support.metrics_packages import SPECS
from tests.support.past_jobs import Past

pytestmark = pytest.mark.sqlite
AM1 = "validate.AM1"
YEAR_2026_NS = 1_767_225_600 * 10**9
SINCE = ("--since", "2026-01-01")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return make_run(monkeypatch, capsys)


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Past]:
    set_environment(monkeypatch, tmp_path)
    with Past(tmp_path, YEAR_2026_NS) as made:
        made.put_in_force(SPECS)
        yield made


def add_runs(past: Past, count: int, *, centre: float = 6.0, **meta: Any) -> None:
    """Add runs whose values are normal around `centre`, with the standard deviation 1."""
    noise = random.Random(1)
    for number in range(count):
        past.add({AM1: noise.gauss(centre, 1.0)}, run=f"{centre:g}-{number}", **meta)


def documents(text: str) -> list[Any]:
    return [item for item in yaml.safe_load_all(text) if item is not None]


def test_a_limit_is_on_the_side_of_those_that_there_are(run: Run, past: Past) -> None:
    add_runs(past, 30)
    outcome = run("specs", "propose", AM1, *SINCE)
    (found,) = documents(outcome.out)
    assert outcome.code == 0
    assert (found["name"], found["metric"]) == ("history", "AM1")
    assert found["threshold"]["operator"] == "<="
    assert found["threshold"]["value"] == pytest.approx(11.0, abs=2.0)
    assert found["alert"] == {"level": "warning"}


def add_filters(past: Past) -> None:
    """Add runs in two filters whose values are far apart."""
    noise = random.Random(1)
    for number in range(30):
        for name, centre in (("r", 6.0), ("g", 60.0)):
            past.add({AM1: noise.gauss(centre, 1.0)}, run=f"{name}{number}", filter_name=name)


def test_what_is_printed_is_a_file_of_a_metrics_package(run: Run, past: Past) -> None:
    add_filters(past)
    package = past.write("proposed", run("specs", "propose", AM1, *SINCE).out)
    checked = run("specs", "check", str(package))
    assert checked.out.splitlines()[-1] == "2 metrics, 2 specifications, 0 problems"
    played = run("specs", "backtest", str(package), *SINCE, "--json")
    names = {row["name"] for row in json.loads(played.out)["specifications"]}
    assert names >= {f"{AM1}.history_g", f"{AM1}.history_r"}


def test_limits_on_both_sides_are_a_range(run: Run, past: Past) -> None:
    add_runs(past, 30, centre=60.0)
    printed = run("specs", "propose", AM1, *SINCE, "--side", "both").out
    (found,) = documents(printed)
    assert found["range"]["low"] < 58
    assert found["range"]["high"] > 62
    assert found["range"]["unit"] == "marcsec"
    assert "# Its place is in rules/" in printed


def test_filters_that_differ_get_limits_of_their_own(run: Run, past: Past) -> None:
    add_filters(past)
    found = documents(run("specs", "propose", AM1, *SINCE).out)
    assert [item["metadata_query"] for item in found] == [
        {"filter_name": "g"},
        {"filter_name": "r"},
    ]


def test_it_says_how_often_it_would_have_fired_and_what_it_would_have_caught(
    run: Run, past: Past
) -> None:
    add_runs(past, 40)
    caught = past.add({AM1: 30.0}, run="R-bad", dataset="HSC")
    add_runs(past, 1)
    printed = run("specs", "propose", AM1, *SINCE).out
    assert "# It would have fired in 1 of 41 runs, with 1 alert:" in printed
    assert f"#   job {caught}, run R-bad, HSC: 30 (minimum told it)" in printed


def test_that_nothing_broke_it_is_no_promise(run: Run, past: Past) -> None:
    add_runs(past, 30)
    printed = run("specs", "propose", AM1, *SINCE).out
    assert "would not have fired in 30 runs; with 30 runs, up to 1 in 10 may" in printed


def test_few_values_get_no_limit(run: Run, past: Past) -> None:
    add_runs(past, 19)
    outcome = run("specs", "propose", AM1, *SINCE)
    assert outcome.code == 1
    assert documents(outcome.out) == []
    assert "too few for a limit: it takes 20 values" in outcome.out


def test_values_that_are_all_the_same_get_no_limit(run: Run, past: Past) -> None:
    for number in range(30):
        past.add({AM1: 3.0}, run=f"R{number}")
    outcome = run("specs", "propose", AM1, *SINCE)
    assert outcome.code == 1
    assert "all values are 3, so nothing says what is far from it" in outcome.out


def test_a_trial_is_one_key(run: Run, past: Past) -> None:
    add_runs(past, 40)
    (found,) = documents(run("specs", "propose", AM1, *SINCE, "--trial").out)
    assert found["alert"] == {"level": "warning", "trial": True}


def test_a_level_that_has_moved_is_said(run: Run, past: Past) -> None:
    add_runs(past, 40)
    add_runs(past, 40, centre=26.0)
    assert "the values have moved: their median was" in run("specs", "propose", AM1, *SINCE).out


def test_json_has_the_yaml_and_the_counts(run: Run, past: Past) -> None:
    add_runs(past, 40)
    document = json.loads(run("specs", "propose", AM1, *SINCE, "--json").out)
    (part,) = document["parts"]
    found = part["specification"]
    assert (part["runs"], found["runs_judged"], found["runs_fired"]) == (40, 40, 0)
    assert yaml.safe_load(found["yaml"])["name"] == "history"


def test_only_jobs_of_a_dataset_are_learnt_from(run: Run, past: Past) -> None:
    add_runs(past, 40, dataset="HSC RC2")
    add_runs(past, 40, centre=60.0, dataset="DECam")
    (found,) = documents(run("specs", "propose", AM1, *SINCE, "--dataset", "HSC RC2").out)
    assert found["threshold"]["value"] < 20


@pytest.mark.usefixtures("past")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((AM1, "--since", "yesterday"), "is not a time"),
        ((AM1, "--side", "left"), "is not a side: write one of auto, upper, lower, both"),
        ((AM1, "--level", "loud"), "is not a level"),
        ((AM1, "--spreads", "0"), "makes no limit"),
        (("validate.AM7",), "validate.AM7"),
    ],
)
def test_what_cannot_be_done_is_2(run: Run, arguments: tuple[str, ...], said: str) -> None:
    outcome = run("specs", "propose", *arguments)
    assert outcome.code == 2
    assert said in outcome.err


def test_a_name_that_is_taken_is_not_proposed_again(run: Run, past: Past) -> None:
    taken = past.write("taken", SPECS.replace("name: design", "name: history"))
    past.definitions.sync_yaml([taken])
    add_runs(past, 40)
    (found,) = documents(run("specs", "propose", AM1, *SINCE).out)
    assert found["name"] == "history_2"
