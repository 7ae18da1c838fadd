from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.reports import backtest as backtest_module
from squash_api.reports.backtest_report import is_cut, messages, number, specification_rows
from tests.support.metrics_packages import SPECS
from tests.support.past_jobs import Past

AM1 = "validate.AM1"
# A tighter design, and another name of stretch.
PROPOSED = SPECS.replace("{value: 10}", "{value: 8}").replace("name: stretch", "name: goal")


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    with Past(tmp_path, start_ns=1_793_491_200 * 10**9) as made:
        made.put_in_force(SPECS)
        yield made


def test_another_unit_of_a_metric_shows_the_limit_in_both(past: Past) -> None:
    metrics = "AM1: {description: d, unit: arcsec}\nPA1: {description: d, unit: mmag}\n"
    rows = specification_rows(past.play(SPECS, metrics=metrics))
    assert (rows[0].change, rows[0].old_limit, rows[0].new_limit) == (
        "same",
        "<= 10 marcsec WARNING",
        "<= 0.01 arcsec WARNING",
    )


def test_messages_that_both_send_are_one_line(past: Past) -> None:
    past.add({AM1: 21.0}, run="R1")
    assert [item.sign for item in messages(past.play(PROPOSED))] == [" "]


def test_only_the_span_that_both_sets_keep_is_compared(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest_module, "MOST_CHANGES", 2)
    for index in range(5):
        past.add({AM1: 21.0}, ccdnum=index)
    outcome = past.play(PROPOSED)
    assert [item.change.job_id for item in messages(outcome)] == [5]
    assert is_cut(outcome.old)
    assert is_cut(outcome.new)


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.0, "8"), (8.31, "8.31"), (1.5e-8, "0.000000015"), (123456.789, "123457"), (-0.5, "-0.5")],
)
def test_numbers_have_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_messages_are_in_the_order_of_the_jobs_with_what_only_one_set_sends(
    past: Past,
) -> None:
    for index, value in enumerate((1.0, 6.0, 9.0, 21.0)):
        past.add({AM1: value}, run=f"R{index}")
    outcome = past.play(PROPOSED)
    found = [(item.sign, item.change.run_id, item.change.level) for item in messages(outcome)]
    assert found == [
        ("+", "R1", "INFO"),
        ("-", "R1", "INFO"),
        ("+", "R2", "WARNING"),
        ("+", "R3", "CRITICAL"),
        ("-", "R3", "CRITICAL"),
    ]


def test_an_empty_limit_is_one_that_a_set_does_not_have(past: Past) -> None:
    rows = {row.name: row for row in specification_rows(past.play(PROPOSED))}
    assert rows["validate.AM1.goal"].old_limit == ""
    assert rows["validate.AM1.stretch"].new_limit == ""
    assert rows["validate.AM1.minimum"].cells[1:3] == ["same", "<= 20 marcsec CRITICAL"]
