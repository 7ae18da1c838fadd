from pathlib import Path

import orjson
import pytest
from pydantic import TypeAdapter

from squash_api.reports.document import Column, Report, fails
from squash_api.reports.matrix import summary_of
from squash_api.reports.results import Result
from tests.support.definitions import spec
from tests.support.reporting import ReportedJobs, result, unlimited, verdict

INFO = result(9.0, verdict(9.0, last="stretch"))
WARNING = result(9.0)
CRITICAL = result(9.0, verdict(9.0, last="minimum", limit=8.0))


def report(*results: Result, missing: int = 0) -> Report:
    """Return a report that holds nothing but its summary."""
    return Report(
        title="",
        filters={},
        url="",
        made="",
        since=None,
        until=None,
        asked={},
        summary=summary_of(results, jobs=1, missing=missing),
        columns=[],
        rows=[],
        violations=0,
        worst=[],
        near=[],
        missing=[],
        silent_packages=[],
        idle=[],
        unusable=[],
        unlimited=[],
    )


@pytest.mark.parametrize(
    ("found", "failing"),
    [
        (INFO, {"INFO"}),
        (WARNING, {"INFO", "WARNING"}),
        (CRITICAL, {"INFO", "WARNING", "CRITICAL"}),
        (result(1.0), set()),
    ],
)
def test_it_fails_by_a_violation_of_the_level_or_worse(found: Result, failing: set[str]) -> None:
    levels = ("INFO", "WARNING", "CRITICAL")
    assert {level for level in levels if fails(report(found), level=level)} == failing


def test_it_fails_without_results() -> None:
    assert fails(report(), level="CRITICAL")
    assert fails(report(unlimited()), level="CRITICAL")


def test_what_was_not_measured_is_a_failure_unless_it_may_miss() -> None:
    for gap in (report(), report(unlimited()), report(result(), result(None))):
        assert fails(gap, level="CRITICAL")
        assert not fails(gap, level="CRITICAL", may_miss=True)
    broken = report(result(9.0), result(None))
    assert fails(broken, level="INFO", may_miss=True)


def test_metrics_without_any_value_are_a_failure_where_it_is_strict() -> None:
    gap = report(result(), missing=1)
    assert [fails(gap, level="INFO", is_strict=strict) for strict in (False, True)] == [False, True]
    assert not fails(report(result()), level="INFO", is_strict=True)


def test_a_column_is_called_by_what_it_has() -> None:
    assert Column("RC2", "r", "HSC").label == "HSC RC2 r"
    assert Column(None, "r").label == "r"
    assert Column(None, None).label == "\u2013"


def test_json_reads_back_as_the_same_report(tmp_path: Path) -> None:
    jobs = ReportedJobs(tmp_path)
    jobs.define(spec(), spec("p.b.minimum"))
    jobs.job(0.1 + 0.2, dataset="RC2", filter="r", detector=1)
    jobs.job(9.0, dataset="RC2", filter="g")
    jobs.job(1.0, ago_ns=10**15)
    found = jobs.report(since="2d", compare_since="20d", compare_until="2d")
    assert found.comparison is not None
    assert TypeAdapter(Report).validate_json(orjson.dumps(found)) == found
    jobs.close()
