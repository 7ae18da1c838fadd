import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.reports import backtest_report
from squash_api.reports.backtest import Backtest
from squash_api.reports.backtest_report import Section, sections, summary, to_json, to_markdown
from tests.support.metrics_packages import SPECS
from tests.support.past_jobs import Past

AM1 = "validate.AM1"
# As what is in force, but for a tighter design, another name of stretch, and no PA1.
PROPOSED = (SPECS[: SPECS.index("---\nname: PA1")].replace("{value: 10}", "{value: 8}")).replace(
    "name: stretch", "name: goal"
)


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    with Past(tmp_path, start_ns=1_793_491_200 * 10**9) as made:
        made.put_in_force(SPECS)
        yield made


def play(past: Past, specs: str = PROPOSED) -> Backtest:
    return past.play(specs)


def section(outcome: Backtest, title: str, *, is_all: bool = False) -> Section:
    (found,) = [item for item in sections(outcome, is_all=is_all) if item.title.startswith(title)]
    return found


def test_a_specification_says_what_has_changed_and_how_many_runs_it_flags(past: Past) -> None:
    for index, value in enumerate((4.0, 9.0, 11.0)):
        past.add({AM1: value}, run=f"R{index}")
    assert section(play(past), "Specifications").rows == [
        [
            "validate.AM1.design",
            "changed",
            "<= 10 marcsec WARNING → <= 8 marcsec WARNING",
            "1 → 2",
            "3",
        ],
        ["validate.AM1.goal", "new", "<= 5 marcsec INFO", "2", "3"],
        ["validate.AM1.stretch", "removed", "<= 5 marcsec INFO", "2", "3"],
        ["validate.PA1.design_r", "removed", "<= 5 mmag WARNING", "0", "0"],
    ]


def test_specifications_that_say_the_same_are_counted(past: Past) -> None:
    found = section(play(past), "Specifications")
    assert found.notes == ["1 other is the same, and flags the same."]
    assert len(section(play(past), "Specifications", is_all=True).rows) == 5


def test_packages_of_which_nothing_is_left_are_named(past: Past) -> None:
    outcome = play(past)
    outcome.new.specs.specifications.clear()  # type: ignore[attr-defined]
    notes = section(outcome, "Specifications").notes
    assert notes == ["Nothing is left of validate: name its directory too if that is not intended."]


def test_jobs_judged_differently_are_named_with_value_and_limit(past: Past) -> None:
    job_id = past.add({AM1: 9.123456789}, run="R7", dataset="HSC RC2", filter_name="r")
    rows = section(play(past), "Jobs judged").rows
    common = ["R7", str(job_id), "HSC_RC2", "r", "9.12346"]
    assert rows == [
        ["validate.AM1.design", "now flagged", *common, "<= 8 marcsec WARNING"],
        ["validate.AM1.goal", "now flagged", *common, "<= 5 marcsec INFO"],
        ["validate.AM1.stretch", "no longer", *common, "<= 5 marcsec INFO"],
    ]


def test_of_many_jobs_the_newest_of_each_specification_are_shown(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest_report, "_MOST_PER_SPECIFICATION", 2)
    for index in range(5):
        past.add({AM1: 9.0}, run=f"R{index}")
    found = section(play(past), "Jobs judged")
    assert [row[2] for row in found.rows] == ["R3", "R4"] * 3
    assert found.notes == ["9 more; --json has those that are kept."]


def test_messages_show_what_is_new_and_what_is_gone(past: Past) -> None:
    for index, value in enumerate((1.0, 6.0, 9.0, 21.0)):
        past.add({AM1: value}, run=f"R{index}", dataset="d")
    outcome = play(past)
    rows = section(outcome, "Messages one by one").rows
    assert [row[0] for row in rows] == ["+", "-", "+", "+", "-"]
    assert rows[2] == [
        "+",
        "2026-11-01 00:02",
        "default",
        "INFO → WARNING",
        AM1,
        "9 marcsec",
        "design",
        "dataset=d",
        "R2",
        "3",
    ]


def test_of_many_messages_those_that_differ_are_shown(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest_report, "_MOST_ROWS", 3)
    for index in range(3):
        past.add({AM1: 21.0}, ccdnum=index)
    past.add({AM1: 9.0}, ccdnum=9)
    found = section(play(past), "Messages one by one")
    assert [row[0] for row in found.rows] == ["+", "-"]
    assert found.notes == ["3 messages are the same in both, and not listed."]


def test_messages_are_counted_by_channel(past: Past) -> None:
    past.add({AM1: 21.0})
    past.add({AM1: 1.0})
    loud = SPECS.replace("tags: [minimum, night]", 'tags: [minimum]\nalert: {channel: "#n"}')
    (found,) = [
        item for item in sections(play(past, loud), is_all=False) if item.title == "Messages"
    ]
    assert found.columns == ("channel", "now", "proposed")
    assert found.rows == [["default", "2", "2"], ["#n", "0", "2"]]


def test_no_message_is_said_in_a_sentence(past: Past) -> None:
    past.add({AM1: 1.0})
    found = section(play(past), "Messages")
    assert found.notes == ["Neither set of specifications would have sent a message."]


def test_what_could_not_be_judged_is_named(past: Past) -> None:
    past.add({AM1: 2.0}, unit="K")
    found = section(play(past), "Not judged")
    reason = "unit 'K' does not convert to the metric's unit, 'marcsec'"
    assert found.rows == [[AM1, reason, "1"]]
    assert found.notes == ["3 of the 3 proposed specifications had no value to judge."]


def test_the_summary_counts(past: Past) -> None:
    past.add({AM1: 2.0}, run="R1")
    past.add({AM1: 2.0}, run="R1")
    assert summary(play(past), "2026-11-01") == (
        "2 jobs of 1 run since 2026-11-01, judged by 4 specifications as they are and by 3 as "
        "proposed."
    )


def test_markdown_is_tables_with_the_long_ones_folded(past: Past) -> None:
    past.add({AM1: 9.0}, run="R1")
    text = to_markdown("Title.", sections(play(past), is_all=False))
    assert text.startswith("### Backtest\n\nTitle.\n\n#### Specifications\n\n| specification |")
    assert "| validate.AM1.goal | new | \\<= 5 marcsec INFO | 1 | 1 |" in text
    assert text.count("<details><summary>") == text.count("</details>") == 2
    assert "<summary>Jobs judged differently</summary>\n\n| specification |" in text


def test_markup_in_names_and_tags_is_text_in_markdown(past: Past) -> None:
    past.add({AM1: 9.0}, run="a|b</details>[x](http://y)@team\n#", dataset="_*`")
    text = to_markdown("Title.", sections(play(past), is_all=False))
    assert "a\\|b&lt;/details\\>\\[x\\](http\\://y)\\@team\\#" in text
    assert "\\_\\*\\`" in text


def test_json_has_all(past: Past) -> None:
    job_id = past.add({AM1: 9.0}, run="R1", dataset="d")
    document = json.loads(json.dumps(to_json(play(past))))
    assert (document["jobs"], document["runs"]) == (1, 1)
    assert document["specifications"][0] == {
        "name": "validate.AM1.design",
        "change": "changed",
        "old_limit": "<= 10 marcsec WARNING",
        "new_limit": "<= 8 marcsec WARNING",
        "old_flagged": 0,
        "new_flagged": 1,
        "judged": 1,
    }
    assert document["differing"]["validate.AM1.design"] == 1
    assert {item["job_id"] for item in document["differences"]} == {job_id}
    assert document["messages"]["old"]["by_channel"] == {"default": 1}
    (change,) = document["messages"]["new"]["changes"]
    assert (change["level"], change["series"], change["received"]) == (
        "WARNING",
        {"dataset": "d"},
        "2026-11-01 00:00",
    )
    assert document["unused"] == []
