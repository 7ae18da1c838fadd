import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from squash_api.reports.document import Report
from squash_api.reports.texts import report_junit, report_markdown
from tests.support.definitions import metric, spec
from tests.support.reporting import HOSTILE, URL, ReportedJobs


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
        "(instrument HSC, filter r, detector 1; 1 of 2 broken)"
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
        "**2 of 4 results break a limit: 1 CRITICAL, 1 INFO; 1 result not measured and 1 metric",
        "## Broken limits",
        "| CRITICAL | p.a.minimum | 9 mmag | \\< 8 mmag | -12.5 % | instrument HSC, filter r,",
        "## Compared with",
        "| newly broken | p.a | r |",
        "## Metrics by dataset and filter",
        "| p.a | INFO 3 | CRITICAL (1 of 2) 9 |",
        "## Near their limits",
        "## Not measured",
        "- p.c: p.c.design",
        "- silent: nothing; it has 1 metrics with limits",
        "## Limits that applied to nothing",
        "- p.a.other",
        "## Measured, without limits",
        "- p.d",
        f"by SQuaSH, {URL.replace(':', chr(92) + ':')}",
    ],
)
def test_markdown_has_it_all(report: Report, line: str) -> None:
    assert line in report_markdown(report)


def test_markdown_of_hostile_names_holds_no_markup(tmp_path: Path) -> None:
    jobs = ReportedJobs(tmp_path)
    jobs.define(spec(value=0.5))
    jobs.job(1.0, dataset=HOSTILE[:200], filter="www.evil.example http://evil @ada *b* _c_")
    text = report_markdown(jobs.report(since="1d"))
    for markup in ("<", "[", "`", "@", "www.", "http:", "_c"):
        assert re.search(rf"(?<!\\){re.escape(markup)}", text.replace("www\\.", "")) is None, markup
    assert "\u202e" not in text
    jobs.close()


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    jobs = ReportedJobs(tmp_path)
    jobs.define(spec(value=0.5))
    for number in range(52):
        jobs.job(1.0, detector=number)
    assert "and 2 more" in report_markdown(jobs.report(since="1d"))
    jobs.close()
