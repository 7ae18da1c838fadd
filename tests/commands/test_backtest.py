import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import Run, make_run, set_environment
from tests.support.definitions import ADA, metric, spec
from tests.support.metrics_packages import SPECS
from tests.support.past_jobs import Past

AM1 = "validate.AM1"
PROPOSED = SPECS.replace("{value: 10}", "{value: 8}")
YEAR_2026_NS = 1_767_225_600 * 10**9


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return make_run(monkeypatch, capsys)


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Past]:
    """A record, which the environment names, with a job that the proposed limit flags."""
    set_environment(monkeypatch, tmp_path)
    with Past(tmp_path, YEAR_2026_NS) as made:
        made.put_in_force(SPECS)
        made.add({AM1: 9.0}, run="R1", dataset="HSC RC2")
        made.write("new", PROPOSED)
        yield made


@pytest.mark.usefixtures("past")
def test_a_difference_is_shown(run: Run) -> None:
    outcome = run("specs", "backtest", "new", "--since", "2026-01-01")
    assert outcome.code == 0
    assert outcome.out.startswith("1 job of 1 run since 2026-01-01, judged by 4 specifications")
    assert "<= 10 marcsec WARNING → <= 8 marcsec WARNING" in outcome.out
    assert "HSC_RC2" in outcome.out


@pytest.mark.usefixtures("past")
def test_the_time_may_be_a_duration(run: Run) -> None:
    assert run("specs", "backtest", "new", "--since", "520w").out.startswith("1 job of 1 run")
    assert run("specs", "backtest", "new", "--since", "1s").out.startswith("0 jobs of 0 runs")


@pytest.mark.usefixtures("past")
@pytest.mark.parametrize("since", ["yesterday", "90", "-5d", ""])
def test_another_time_is_refused(run: Run, since: str) -> None:
    outcome = run("specs", "backtest", "new", f"--since={since}")
    assert outcome.code == 2
    assert "is not a time: write one like" in outcome.err


@pytest.mark.usefixtures("past")
def test_json_is_one_document(run: Run) -> None:
    outcome = run("specs", "backtest", "new", "--since", "2026-01-01", "--json")
    document = json.loads(outcome.out)
    assert document["differing"] == {"validate.AM1.design": 1}


@pytest.mark.usefixtures("past")
def test_markdown_is_printed_for_a_pull_request(run: Run) -> None:
    outcome = run("specs", "backtest", "new", "--since", "2026-01-01", "--markdown")
    assert outcome.out.startswith("### Backtest\n\n1 job of 1 run")
    assert outcome.out.endswith("\n")


@pytest.mark.usefixtures("past")
def test_json_and_markdown_exclude_each_other(run: Run) -> None:
    assert run("specs", "backtest", "new", "--json", "--markdown").code == 2


def test_problems_of_the_proposed_are_printed_as_the_check_does(run: Run, past: Past) -> None:
    past.write("wrong", "---\nname: AM1.design\nbase: '#nowhere'\n")
    checked = run("specs", "check", "wrong").out.splitlines()[:-1]
    outcome = run("specs", "backtest", "wrong")
    assert outcome.code == 1
    assert outcome.out.splitlines() == checked
    assert "wrong/specs/validate/limits.yaml" in outcome.out


def test_a_mute_that_has_ended_is_a_problem_of_the_proposed_alone(run: Run, past: Past) -> None:
    muted = SPECS + "\nalert: {mute: {until: 2020-01-01, why: test}}\n"
    past.write("muted", muted)
    assert run("specs", "backtest", "muted").code == 1
    assert run("specs", "backtest", "new", "--old", "muted").code == 0


@pytest.mark.usefixtures("past")
def test_a_directory_that_is_no_package_cannot_be_used(run: Run) -> None:
    assert run("specs", "backtest", "nowhere").code == 2
    assert run("specs", "backtest", "new", "--old", "nowhere").code == 2


def test_problems_of_the_old_are_named(run: Run, past: Past) -> None:
    past.write("wrong", "---\nname: AM1.design\nbase: '#nowhere'\n")
    outcome = run("specs", "backtest", "new", "--old", "wrong")
    assert outcome.code == 2
    assert "to compare with have problems" in outcome.err
    assert "wrong/specs/validate/limits.yaml" in outcome.err


def test_another_directory_may_be_the_old_one(run: Run, past: Past) -> None:
    past.write("old", PROPOSED.replace("{value: 8}", "{value: 9.5}"))
    arguments = ("specs", "backtest", "new", "--old", "old", "--since", "2026-01-01")
    assert "<= 9.5 marcsec WARNING → <= 8 marcsec WARNING" in run(*arguments).out


def test_without_yaml_in_the_record_the_setting_says_what_is_old(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Past(tmp_path, YEAR_2026_NS) as past:
        past.definitions.post("metric", [metric("p.a")], ADA)
        past.definitions.post("spec", [spec("p.a.design")], ADA)
        past.write("set", SPECS)
        past.write("new", PROPOSED)
    set_environment(monkeypatch, tmp_path)
    assert "judged by 0 specifications as they are and by 4" in run("specs", "backtest", "new").out
    set_environment(monkeypatch, tmp_path, SQUASH_SPECS="set")
    assert "judged by 4 specifications as they are and by 4" in run("specs", "backtest", "new").out


@pytest.mark.usefixtures("past")
def test_a_dataset_is_written_as_people_or_as_influxdb_write_it(run: Run) -> None:
    for name, count in (("HSC RC2", 1), ("HSC_RC2", 1), ("other", 0)):
        outcome = run(
            "specs", "backtest", "new", "--since", "2026-01-01", "--dataset", name, "--json"
        )
        assert json.loads(outcome.out)["jobs"] == count


@pytest.mark.usefixtures("past")
def test_a_metric_leaves_the_specifications_of_others_out(run: Run) -> None:
    outcome = run("specs", "backtest", "new", "--metric", "validate.PA1")
    assert "judged by 1 specifications as they are and by 1" in outcome.out


@pytest.mark.usefixtures("past")
def test_all_lists_what_is_the_same_too(run: Run) -> None:
    assert "validate.PA1.design_r" not in run("specs", "backtest", "new").out
    assert "validate.PA1.design_r" in run("specs", "backtest", "new", "--all").out


def test_a_tag_that_the_setting_adds_is_known(
    run: Run, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.write("tagged", SPECS.replace("tags: [design]", "alert: {per: [site]}"))
    assert run("specs", "backtest", "tagged").code == 1
    monkeypatch.setenv("SQUASH_TAGS", "site")
    assert run("specs", "backtest", "tagged").code == 0
