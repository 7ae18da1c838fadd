import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from markdown_it import MarkdownIt

from squash_api.reports.document import Report
from squash_api.reports.matrix import finding_of
from squash_api.reports.texts import (
    Case,
    escaped,
    escaped_line,
    junit_xml,
    limit_text,
    markdown_table,
    minute_text,
    name_text,
    report_junit,
    report_markdown,
    tags_text,
    value_text,
)
from tests.support.definitions import metric, spec
from tests.support.reporting import HOSTILE, URL, ReportedJobs, result, unlimited


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report with something in each of its parts."""
    jobs = ReportedJobs(tmp_path_factory.mktemp("record"))
    jobs.define_metrics(metric("p.c"), metric("p.d"), metric("p.e"), metric("silent.a"))
    jobs.define(
        spec("p.a.minimum", tags=["minimum"], value=8.0),
        spec("p.a.stretch", tags=["stretch"], value=2.0),
        spec("p.a.other", metadata_query={"filter_name": "u"}),
        spec("p.b.design"),
        spec("p.c.design"),
        spec("p.e.design"),
        spec("silent.a.design"),
    )
    metas: list[tuple[float | None, str, dict[str, Any]]] = [
        (9.0, "p.a", {"filter": "r", "detector": "1"}),
        (1.0, "p.a", {"filter": "r", "detector": "2"}),
        (3.0, "p.a", {"filter": "g"}),
        (4.9, "p.b", {"filter": "g"}),
        (None, "p.e", {"filter": "g"}),
        (1.0, "p.d", {"filter": "g"}),
    ]
    for value, name, meta in metas:
        jobs.job(value, name=name, **meta)
    jobs.job(1.0, ago_ns=3 * 86_400 * 10**9, filter="r", detector="1")
    found = jobs.report(since="1d", compare_since="9d", compare_until="1d")
    jobs.close()
    return found


def cases(report: Report, level: str = "WARNING") -> dict[str, str]:
    """Return what became of each test case, by its names."""
    root = ET.fromstring(report_junit(report, level=level))
    return {
        f"{case.get('classname')} {case.get('name')}": case[0].tag if len(case) else "passed"
        for case in root.iter("testcase")
    }


def test_cells_are_test_cases(report: Report) -> None:
    assert cases(report) == {
        "p.a r": "failure",
        "p.a g": "system-out",
        "p.b g": "passed",
        "p.e g": "skipped",
        "p.c no value": "skipped",
    }


def test_the_level_says_what_is_a_failure(report: Report) -> None:
    assert cases(report, "INFO")["p.a g"] == "failure"


def test_a_failure_says_what_is_broken_and_where(report: Report) -> None:
    root = ET.fromstring(report_junit(report, level="WARNING"))
    (failure,) = root.iter("failure")
    assert failure.get("type") == "CRITICAL"
    assert failure.get("message") == (
        "CRITICAL: p.a.minimum: 9 mmag, must be < 8 mmag "
        "(instrument HSC, filter r, detector 1; 1 of 2 series broken)"
    )


def test_no_data_is_a_failure(tmp_path: Path) -> None:
    jobs = ReportedJobs(tmp_path)
    found = jobs.report(run="none")
    assert cases(found) == {"report Run none": "failure"}
    assert "No data" in report_markdown(found)
    jobs.close()


@pytest.mark.parametrize(
    "line",
    [
        "**2 of 4 series break a limit: 1 CRITICAL, 1 INFO; 1 more not measured and",
        "## Broken limits",
        "| CRITICAL | p.a.minimum | 9 mmag | \\< 8 mmag | -12.5 % | instrument HSC, filter r,",
        "## Compared with",
        "| newly broken | p.a | r |",
        "## Metrics by dataset and filter",
        "| p.a | INFO 3 | CRITICAL (1 of 2 series) 9 |",
        "## Near their limits",
        "## Not measured",
        "- p.c: p.c.design",
        "- silent: nothing; it has 1 metric with limits",
        "## Limits that applied to nothing",
        "- p.a.other",
        "## Measured, without limits",
        "- p.d",
        f"by SQuaSH, {URL}",
    ],
)
def test_markdown_has_it_all(report: Report, line: str) -> None:
    assert line in report_markdown(report)


def test_markdown_of_hostile_names_holds_no_markup(tmp_path: Path) -> None:
    jobs = ReportedJobs(tmp_path)
    jobs.define(spec(value=0.5))
    jobs.job(1.0, dataset=HOSTILE[:200], filter="www.evil.example http://evil @ada *b* _c_")
    text = report_markdown(jobs.report(since="1d")).replace(URL, "")
    for markup in ("<", "[", "`", "@", "www.", "http:", "_c"):
        assert re.search(rf"(?<!\\){re.escape(markup)}", text.replace("www\\.", "")) is None, markup
    assert "\u202e" not in text
    jobs.close()


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "&lt;b&gt; &amp;",
        "1. one",
        "- one",
        "---",
        "===",
        "+ one",
        "# one",
        "> one",
        "7) one",
        "[a](javascript:b) ![c](d)",
        "`a` *b* __c__ ~~d~~ | e",
        "a\\\n\n# b",
        "\x1b[31mred\x07\x9b2J",
        "\u202eevil",
    ],
)
def test_a_hostile_name_is_plain_text_in_markdown_and_xml(name: str) -> None:
    lines = [
        f"- {escaped_line(name)}",
        "",
        f"# {escaped(name)}",
        "",
        markdown_table(["a"], [[name]]),
    ]
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render("\n".join(lines))
    tags = {tag.strip("/") for tag in re.findall(r"<([/a-z0-9]+)", shown)}
    assert tags <= {"ul", "li", "h1", "table", "thead", "tbody", "tr", "th", "td"}
    text = html.unescape(re.sub("<[^>]*>", "", shown))
    line = re.sub(r"\s+", " ", name).replace("\u202e", "")
    wanted = re.sub("[\x00-\x1f\x7f-\x9f]", "\ufffd", line)
    assert text.count(wanted.strip()) == 3
    for raw in lines:
        assert not re.search("<[a-zA-Z/!?]", raw)
    written = junit_xml(name, [Case(name, name, "failed", name, name)])
    case = ET.fromstring(written)[0][0]
    assert not re.search("[\x00-\x08\x1b\u202e]", case.attrib["name"])


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    jobs = ReportedJobs(tmp_path)
    jobs.define(spec(value=0.5))
    for number in range(52):
        jobs.job(1.0, detector=number)
    assert "and 2 more" in report_markdown(jobs.report(since="1d"))
    jobs.close()


def suite(*cases: Case) -> ET.Element:
    root = ET.fromstring(junit_xml("a suite", cases))
    found = root.find("testsuite")
    assert found is not None
    return found


def test_outcomes_are_counted() -> None:
    found = suite(
        Case("g", "a"), Case("g", "b", "failed", "bad", "CRITICAL"), Case("g", "c", "skipped")
    )
    assert dict(found.attrib) == {
        "name": "a suite",
        "tests": "3",
        "failures": "1",
        "skipped": "1",
        "errors": "0",
    }


def test_a_failure_says_why() -> None:
    (case,) = suite(Case("g", "b", "failed", "bad", "CRITICAL"))
    failure = case.find("failure")
    assert failure is not None
    assert dict(failure.attrib) == {"message": "bad", "type": "CRITICAL"}


def test_a_skipped_case_says_why() -> None:
    (case,) = suite(Case("g", "b", "skipped", "not there"))
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "not there"


def test_what_is_remarkable_goes_to_the_output() -> None:
    (case,) = suite(Case("g", "b", text="milder"))
    assert case.findtext("system-out") == "milder"


def test_a_case_that_passes_holds_nothing() -> None:
    (case,) = suite(Case("g", "b"))
    assert (case.get("classname"), case.get("name"), list(case)) == ("g", "b", [])


def test_what_xml_cannot_hold_is_replaced() -> None:
    (case,) = suite(Case('a\x00\x1b<&"', "b\ufffe\ud800"))
    assert (case.get("classname"), case.get("name")) == ('a\ufffd\ufffd<&"', "b\ufffd\ufffd")


FOUND = finding_of(result(1.25))


def test_value_and_limit_that_are_close_can_be_told_apart() -> None:
    close = replace(FOUND, value=4.9999999)
    assert (value_text(close), limit_text(close)) == ("4.9999999 mmag", "< 5.0 mmag")


def test_what_is_not_there_is_a_dash() -> None:
    empty = replace(finding_of(unlimited()), value=None)
    texts = [minute_text(None), tags_text({})]
    assert {*texts, limit_text(empty), value_text(empty)} == {"\u2013"}


def test_values_and_limits_have_their_unit() -> None:
    assert (value_text(FOUND), limit_text(FOUND)) == ("1.25 mmag", "< 5 mmag")
    assert limit_text(replace(FOUND, operator="<=", unit="")) == "\u2264 5"


def test_moments_are_told_to_the_minute() -> None:
    assert minute_text("2026-11-22T12:34:56Z") == "2026-11-22 12:34"


def test_tags_are_named() -> None:
    assert tags_text({"filter": "r", "ccdnum": "7"}) == "filter r, ccdnum 7"


def test_names_are_cut_and_do_not_turn_text_around() -> None:
    assert name_text("a\u202eb\u2066c") == "abc"
    assert len(name_text("y" * 100)) == 60
