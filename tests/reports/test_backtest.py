from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from squash_api.record.jobs import add_measurement, bury_jobs
from squash_api.reports import backtest as module
from squash_api.reports.backtest import Backtest, Runs, backtest, jobs_to_judge, set_in_force
from squash_api.reports.backtest_report import sections, to_json
from squash_api.schema.names import Schema
from tests.support.builders import measured
from tests.support.metrics_packages import SPECS
from tests.support.past_jobs import Past

SCHEMA = Schema()
START_NS = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 10**9
AM1 = "validate.AM1"
DESIGN = "validate.AM1.design"


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    """A record whose specifications limit AM1 to 20, 10 and 5 marcsec."""
    with Past(tmp_path, START_NS) as made:
        made.put_in_force(SPECS)
        yield made


def design_of(value: float, extra: str = "", *, name: str = "AM1.design") -> str:
    """Return a metrics package with one limit."""
    threshold = f"{{value: {value}, unit: marcsec, operator: '<='}}"
    return f"---\nname: {name}\nthreshold: {threshold}\ntags: [design]\n{extra}\n"


def flagged(outcome: Backtest, name: str = DESIGN) -> tuple[int, int]:
    return (outcome.old.tally(name).flagged.count, outcome.new.tally(name).flagged.count)


def test_each_set_flags_by_its_own_limit(past: Past) -> None:
    for number, value in enumerate((4.0, 9.0, 11.0)):
        past.add({AM1: value}, run=f"R{number}")
    outcome = past.play(design_of(8.0))
    assert flagged(outcome) == (1, 2)
    assert outcome.new.tally(DESIGN).judged.count == 3
    assert (outcome.jobs, outcome.runs) == (3, 3)


def test_a_run_counts_once_however_many_jobs_it_has(past: Past) -> None:
    for ccd in range(9):
        past.add({AM1: 9.0}, run="R1", ccdnum=ccd)
    outcome = past.play(design_of(8.0))
    assert flagged(outcome) == (0, 1)
    assert (outcome.jobs, outcome.runs) == (9, 1)
    assert outcome.differing[DESIGN] == 9


def test_jobs_without_a_run_are_runs_of_their_own(past: Past) -> None:
    past.add({AM1: 9.0})
    past.add({AM1: 9.0})
    assert flagged(past.play(design_of(8.0))) == (0, 2)


def test_a_difference_names_the_job(past: Past) -> None:
    past.add({AM1: 1.0}, run="R1")
    job_id = past.add({AM1: 9.0}, run="R2", dataset="HSC RC2", filter_name="r")
    (found,) = past.play(design_of(8.0)).differences[DESIGN]
    assert (found.job_id, found.run_id, found.dataset, found.filter, found.value) == (
        job_id,
        "R2",
        "HSC_RC2",
        "r",
        9.0,
    )
    assert found.is_flagged


def test_what_is_no_longer_flagged_is_a_difference_too(past: Past) -> None:
    past.add({AM1: 11.0}, run="R1")
    (found,) = past.play(design_of(12.0)).differences[DESIGN]
    assert not found.is_flagged


def test_what_both_flag_is_no_difference(past: Past) -> None:
    past.add({AM1: 11.0}, run="R1")
    assert DESIGN not in past.play(design_of(8.0)).differences


def test_removed_and_new_specifications_differ(past: Past) -> None:
    past.add({AM1: 11.0}, run="R1")
    outcome = past.play(design_of(8.0, name="AM1.other"))
    assert [(name, kept[0].is_flagged) for name, kept in sorted(outcome.differences.items())] == [
        (DESIGN, False),
        ("validate.AM1.other", True),
        ("validate.AM1.stretch", False),
    ]


def test_a_query_decides_which_jobs_are_judged(past: Past) -> None:
    past.add({AM1: 11.0}, run="R1", filter_name="r")
    past.add({AM1: 11.0}, run="R2", filter_name="g")
    outcome = past.play(design_of(10.0, "metadata_query: {filter_name: g}"))
    assert flagged(outcome) == (2, 1)
    assert outcome.new.tally(DESIGN).judged.count == 1


def test_jobs_before_the_time_are_left_out(past: Past) -> None:
    past.add({AM1: 9.0}, run="R1")
    since_ns = past.next_ns
    past.add({AM1: 9.0}, run="R2")
    outcome = past.play(design_of(8.0), since_ns=since_ns)
    assert [item.run_id for item in outcome.differences[DESIGN]] == ["R2"]


def test_deleted_jobs_are_left_out(past: Past) -> None:
    gone = past.add({AM1: 9.0}, run="R1")
    past.add({AM1: 9.0}, run="R2")
    past.record.write(lambda connection: bury_jobs(connection, [gone], user_id=1, deleted_ns=1))
    assert past.play(design_of(8.0)).jobs == 1


def test_a_job_deleted_meanwhile_is_left_out(past: Past) -> None:
    gone = past.add({AM1: 9.0}, run="R1")
    batches = jobs_to_judge(past.reader, since_ns=0)
    past.record.write(lambda connection: bury_jobs(connection, [gone], user_id=1, deleted_ns=1))
    specs = set_in_force(past.reader, past.definitions.in_force)
    outcome = backtest(past.reader, batches, old=specs, new=specs)
    assert batches == [[gone]]
    assert outcome.jobs == 0


def test_measurements_that_were_added_count(past: Past) -> None:
    job_id = past.add({"validate.PA1": 1.0}, unit="mmag", run="R1")
    past.record.write(
        lambda connection: add_measurement(
            connection,
            job_id=job_id,
            document=measured(AM1, 9.0, "marcsec"),
            user_id=1,
            created_ns=1,
        )
    )
    assert flagged(past.play(design_of(8.0))) == (0, 1)


def test_one_dataset_alone(past: Past) -> None:
    past.add({AM1: 9.0}, run="R1", dataset="a")
    past.add({AM1: 9.0}, run="R2", dataset="b")
    past.add({AM1: 9.0}, run="R3")
    outcome = past.play(design_of(8.0), dataset="b")
    assert outcome.jobs == 1
    assert [item.run_id for item in outcome.differences[DESIGN]] == ["R2"]


def test_batches_of_many_jobs_are_all_played(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)
    monkeypatch.setattr(module, "_MAX_BATCH_BYTES", 300)
    for number in range(10):
        past.add({AM1: 9.0}, run=f"R{number}")
    assert len(jobs_to_judge(past.reader, since_ns=0)) == 4
    outcome = past.play(design_of(8.0))
    assert [item.run_id for item in outcome.differences[DESIGN]] == [f"R{n}" for n in range(10)]


def test_of_many_differences_the_newest_are_kept(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_DIFFERENCES", 2)
    for number in range(5):
        past.add({AM1: 9.0}, run=f"R{number}")
    outcome = past.play(design_of(8.0))
    assert [item.run_id for item in outcome.differences[DESIGN]] == ["R3", "R4"]
    assert outcome.differing[DESIGN] == 5


def test_values_are_converted_to_the_units_of_the_set(past: Past) -> None:
    past.add({AM1: 9.0}, run="R1")
    past.add({AM1: 0.009}, unit="arcsec", run="R2")
    metrics = "AM1: {description: d, unit: arcsec}\n"
    outcome = past.play(design_of(8.0), metrics=metrics)
    assert flagged(outcome) == (0, 2)
    assert [item.value for item in outcome.differences[DESIGN]] == pytest.approx([0.009] * 2)
    assert outcome.new.specs.limits[DESIGN].criterion.numbers == pytest.approx((0.008,))


def test_metrics_that_nobody_had_declared_are_judged(past: Past) -> None:
    past.add({"validate.new": 2.0}, unit="s", run="R1")
    metrics = "new: {description: d, unit: ms}\n"
    specs = "---\nname: new.limit\nthreshold: {value: 1, unit: s, operator: '<'}\n"
    outcome = past.play(specs, metrics=metrics)
    assert flagged(outcome, "validate.new.limit") == (0, 1)
    assert outcome.differences["validate.new.limit"][0].value == 2000.0


def test_what_cannot_be_judged_is_counted_with_its_reason(past: Past) -> None:
    past.add({AM1: 2.0}, unit="K", run="R1")
    past.add({AM1: None}, run="R2")
    past.add({AM1: "text"}, run="R3")
    past.add({"validate.unwatched": None}, run="R4")
    outcome = past.play(design_of(8.0))
    assert dict(outcome.unused) == {
        (AM1, "unit 'K' does not convert to the metric's unit, 'marcsec'"): 1,
        (AM1, "null, NaN or infinite"): 1,
        (AM1, "the value is text, not a number"): 1,
    }
    assert outcome.new.tally(DESIGN).judged.count == 0


def test_a_value_replaced_in_its_job_is_no_loss(past: Past) -> None:
    job_id = past.add({AM1: 1.0}, run="R1")
    past.record.write(
        lambda connection: add_measurement(
            connection,
            job_id=job_id,
            document=measured(AM1, 9.0, "marcsec"),
            user_id=1,
            created_ns=1,
        )
    )
    outcome = past.play(design_of(8.0))
    assert not outcome.unused
    assert flagged(outcome) == (0, 1)


def test_the_reasons_that_are_kept_are_bounded(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_REASONS", 2)
    for unit in ("K", "m", "m", "s", "kg"):
        past.add({AM1: 2.0}, unit=unit)
    assert sorted(past.play(design_of(8.0)).unused.values()) == [1, 2]


def test_messages_are_the_changes_of_state_by_channel(past: Past) -> None:
    for number, value in enumerate((1.0, 11.0, 12.0, 1.0)):
        past.add({AM1: value}, run=f"R{number}")
    outcome = past.play(design_of(8.0, 'alert: {channel: "#night"}'))
    assert outcome.old.messages == {"": 2}
    assert outcome.new.messages == {"#night": 2}
    assert [(item.previous, item.level, item.run_id) for item in outcome.new.changes] == [
        ("OK", "WARNING", "R1"),
        ("WARNING", "OK", "R3"),
    ]


def test_a_mute_takes_messages_and_leaves_flags(past: Past) -> None:
    past.add({AM1: 11.0}, run="R1")
    mute = "alert: {mute: {until: 2999-01-01, why: reprocessing}}"
    outcome = past.play(design_of(10.0, mute))
    assert outcome.new.messages == {}
    assert flagged(outcome) == (1, 1)


def test_of_many_messages_the_newest_are_kept_and_all_counted(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CHANGES", 3)
    for number in range(10):
        past.add({AM1: 11.0 if number % 2 else 1.0}, run=f"R{number}")
    outcome = past.play(design_of(10.0))
    assert outcome.new.messages == {"": 9}
    assert [item.run_id for item in outcome.new.changes] == ["R7", "R8", "R9"]


def test_runs_are_counted_once_each() -> None:
    runs = Runs()
    for number in (0, 7, 8, 8, 1000, 0):
        runs.add(number)
    assert runs.count == 4


def drift(past: Past, *bad: int, runs: int = 6, detectors: int = 3) -> None:
    """Add runs with a value of each detector, too high in the `bad` ones."""
    for number in range(runs):
        for detector in range(detectors):
            value = 9.0 if number in bad else 1.0
            past.add({AM1: value}, run=f"R{number}", detector=detector, instrument="X")


def spared(outcome: Backtest) -> tuple[int, int, int]:
    new = outcome.new
    return new.plain, sum(new.messages.values()), new.told


def test_detectors_that_break_a_limit_in_one_run_are_told_as_one(past: Past) -> None:
    drift(past, 2)
    assert spared(past.play(design_of(8.0))) == (6, 6, 2)


def test_what_has_no_group_is_told_by_itself(past: Past) -> None:
    drift(past, 2)
    assert spared(past.play(design_of(8.0, "alert: {group: none}"))) == (6, 6, 6)


def test_after_some_runs_counts_as_the_engine_does(past: Past) -> None:
    drift(past, 1, 3, 4)
    outcome = past.play(design_of(8.0, "alert: {after: {runs: 2, of: 2}}"))
    assert spared(outcome) == (12, 6, 2)


def test_of_a_trial_nobody_is_told(past: Past) -> None:
    drift(past, 2)
    outcome = past.play(design_of(8.0, "alert: {trial: true}"))
    assert spared(outcome) == (6, 0, 0)
    assert flagged(outcome)[1] == 1


def test_few_runs_are_told_of_nothing(past: Past) -> None:
    drift(past, 2)
    assert spared(past.play(design_of(8.0, "alert: {min_runs: 5}"))) == (6, 0, 0)


def test_a_group_that_becomes_worse_in_a_later_run_is_told_again(past: Past) -> None:
    minimum = design_of(20.0, name="AM1.minimum").replace("tags: [design]", "tags: [minimum]")
    for number, values in enumerate(((9.0, 9.0), (9.0, 30.0), (9.0, 1.0), (1.0, 1.0))):
        for detector, value in enumerate(values):
            past.add({AM1: value}, run=f"R{number}", detector=detector, instrument="X")
    outcome = past.play(design_of(8.0) + minimum)
    assert spared(outcome) == (5, 5, 3)


def test_what_is_spared_is_in_the_report(past: Past) -> None:
    drift(past, 2)
    outcome = past.play(design_of(8.0))
    (section,) = [item for item in sections(outcome, is_all=False) if "spare" in item.title]
    assert section.rows == [["now", "6", "6", "2"], ["proposed", "6", "6", "2"]]
    assert to_json(outcome)["messages"]["new"]["in_groups"] == 2
