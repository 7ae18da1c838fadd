import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import Run, make_run, set_environment
from tests.support.metrics_packages import SPECS
from tests.support.past_jobs import Past

pytestmark = pytest.mark.sqlite
AM1 = "validate.AM1"
NOW_NS = time.time_ns()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return make_run(monkeypatch, capsys)


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Past]:
    """A record with limits of 20, 10 and 5 marcsec, and one on a metric that nobody measures."""
    set_environment(monkeypatch, tmp_path)
    with Past(tmp_path, NOW_NS - 86_400 * 10**9) as made:
        made.put_in_force(SPECS)
        yield made


def test_what_fires_always_and_what_applies_to_nothing_is_listed(run: Run, past: Past) -> None:
    for number in range(20):
        past.add({AM1: 9.0}, run=f"R{number}")
    outcome = run("specs", "review")
    assert outcome.code == 1
    assert "fires always: 1 specification" in outcome.out
    assert "20 of 20 values broke it" in outcome.out
    assert "applies to nothing: 1 specification" in outcome.out
    assert "validate.PA1 has no value" in outcome.out
    assert "nothing to say: 2 specifications" in outcome.out


def test_all_lists_the_others_too(run: Run, past: Past) -> None:
    past.add({AM1: 9.0})
    assert f"{AM1}.minimum" not in run("specs", "review").out
    assert f"{AM1}.minimum" in run("specs", "review", "--all").out


def test_json_has_the_counts(run: Run, past: Past) -> None:
    past.add({AM1: 9.0})
    found = {
        item["specification"]: item
        for item in json.loads(run("specs", "review", "--all", "--json").out)
    }
    stretch = found[f"{AM1}.stretch"]
    assert (stretch["judged"], stretch["broken"], stretch["finding"]) == (1, 1, None)
    assert found["validate.PA1.design_r"]["finding"] == "applies to nothing"


@pytest.mark.usefixtures("past")
def test_what_cannot_be_done_is_2(run: Run) -> None:
    assert run("specs", "review", "--since", "yesterday").code == 2
    assert run("specs", "review", "--package", "nowhere").code == 2
