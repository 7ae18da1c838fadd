from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from squash_api.errors import InvalidInputError
from squash_api.pages.report import report_file
from squash_api.reports import results
from squash_api.reports.document import MOST_OF_A_JOB
from squash_api.reports.texts import report_junit, report_markdown
from squash_api.trends import change_points
from tests.support.definitions import metric, spec
from tests.support.observatory import DAY_NS, HOUR_NS
from tests.support.reporting import URL, ReportedJobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[ReportedJobs]:
    with ReportedJobs(tmp_path) as jobs:
        yield jobs


def test_a_run_is_reported_on(jobs: ReportedJobs) -> None:
    jobs.define(spec())
    jobs.job(9.0, run_id="1", filter="r", dataset="RC2")
    jobs.job(1.0, run_id="2", filter="r", dataset="RC2")
    found = jobs.report(run="1")
    assert (found.title, found.summary.state, found.violations) == ("Run 1", "WARNING", 1)
    (row,) = found.rows
    assert [(cell.column, cell.state) for cell in row.cells] == [(0, "WARNING")]
    assert [(item.dataset, item.filter) for item in found.columns] == [("RC2", "r")]
    assert [(item.value, item.run_id) for item in found.worst] == [(9.0, "1")]


def test_a_release_is_compared_with_the_one_before(jobs: ReportedJobs) -> None:
    jobs.define(spec())
    jobs.job(1.0, version_tag="w_1", run_id="1", ago_ns=DAY_NS)
    jobs.job(9.0, version_tag="w_2", run_id="2")
    found = jobs.report(version_tag="w_2", compare_version_tag="w_1")
    assert found.comparison is not None
    assert (found.comparison.title, found.comparison.jobs) == ("Release w_1", 1)
    assert found.comparison.headline == "Of 1 cell: 1 newly broken; 0 as before."
    assert found.rows[0].cells[0].change == "newly broken"


def test_a_period_has_the_values_of_its_jobs(jobs: ReportedJobs) -> None:
    jobs.define(spec())
    jobs.job(9.0, ago_ns=30 * HOUR_NS)
    jobs.job(9.0, ago_ns=20 * HOUR_NS)
    jobs.job(1.0, ago_ns=HOUR_NS)
    found = jobs.report(since="24h")
    summary = found.summary
    assert (summary.state, summary.jobs, summary.values, summary.failed) == ("passed", 2, 2, 1)
    assert (found.since, found.until, found.made) == (
        "2026-09-20T14:14:00Z",
        None,
        "2026-09-21T14:14:00Z",
    )


def test_a_job_that_was_just_posted_is_in_it(jobs: ReportedJobs) -> None:
    jobs.job(1.0, ago_ns=-HOUR_NS)
    assert jobs.report().summary.jobs == 1


def test_filters_are_told(jobs: ReportedJobs) -> None:
    jobs.job(1.0, filter="r")
    found = jobs.report(run="1", filter="r", package="p")
    assert (found.filters, found.url) == ({"filter": ["r"], "package": ["p"]}, URL)
    assert found.asked == {"run": ["1"], "filter": ["r"], "package": ["p"]}


def test_no_data_is_never_a_pass(jobs: ReportedJobs) -> None:
    jobs.define(spec())
    found = jobs.report(run="typo", package="p")
    assert (found.summary.state, found.rows, found.violations) == ("not measured", [], 0)
    assert [item.metric for item in found.missing] == ["p.a"]


def test_what_was_not_measured_is_named(jobs: ReportedJobs) -> None:
    jobs.define_metrics(metric("q.a"), metric("p.c"))
    jobs.define(
        spec(),
        spec("p.b.design"),
        spec("q.a.design"),
        spec("p.a.u", metadata_query={"filter_name": "u"}),
    )
    jobs.job(1.0, filter="r")
    jobs.job(1.0, name="p.c")
    found = jobs.report()
    assert [item.metric for item in found.missing] == ["p.b"]
    assert [item.package for item in found.silent_packages] == ["q"]
    assert (found.idle, found.unlimited) == (["p.a.u"], ["p.c"])
    assert found.summary.state == "not measured"


def test_limits_in_a_unit_that_no_longer_converts_are_named(jobs: ReportedJobs) -> None:
    jobs.define(spec())
    jobs.job(1.0)
    jobs.change_unit("p.a", "arcsec")
    found = jobs.report()
    assert [item.specification for item in found.unusable] == ["p.a.design"]
    assert found.summary.state == "no limit"


def test_detectors_are_results_of_one_cell(jobs: ReportedJobs) -> None:
    jobs.define(spec())
    for number, value in enumerate((1.0, 9.0, 7.0)):
        jobs.job(value, detector=number, filter="r")
    found = jobs.report()
    (cell,) = found.rows[0].cells
    assert (cell.results, cell.broken, cell.shown.tags["detector"]) == (3, 2, "1")
    assert found.summary.results == 3


def test_instruments_are_columns_where_there_are_several(jobs: ReportedJobs) -> None:
    jobs.job(1.0, instrument="HSC")
    jobs.job(1.0, instrument="LSSTCam")
    assert [column.label for column in jobs.report().columns] == ["HSC", "LSSTCam"]


def test_instruments_of_the_other_run_count_too(jobs: ReportedJobs) -> None:
    jobs.job(1.0, run_id="1", instrument="HSC")
    jobs.job(1.0, run_id="2", instrument="LSSTCam")
    assert [item.label for item in jobs.report(run="1", compare_run="2").columns] == ["HSC"]


def test_unknown_packages_are_refused(jobs: ReportedJobs) -> None:
    with pytest.raises(InvalidInputError, match="There is no package `q`"):
        jobs.report(package="q")


def test_todays_specifications_judge(jobs: ReportedJobs) -> None:
    jobs.define(spec(value=10.0))
    jobs.job(9.0)
    assert jobs.report().summary.state == "passed"
    jobs.redefine("p.a.design", spec(value=5.0))
    assert jobs.report().summary.state == "WARNING"


def test_artifacts_of_its_jobs_are_listed_the_worst_first(jobs: ReportedJobs) -> None:
    jobs.define(spec("p.a.design"))
    plots = [f"https://x.example/{number}.png" for number in range(MOST_OF_A_JOB + 1)]
    good = jobs.job(1.0, run_id="1", filter_name="r", log="https://x.example/log.txt")
    bad = jobs.job(9.0, run_id="1", filter_name="i", plots=plots)
    jobs.job(1.0, run_id="1", filter_name="g", ci_url="https://ci.example/1")
    found = jobs.report(run="1").artifacts
    assert [(item.job_id, item.url) for item in found] == [
        *((bad, url) for url in plots[:MOST_OF_A_JOB]),
        (good, "https://x.example/log.txt"),
    ]
    assert (found[-1].key, found[-1].run_id, found[-1].label) == ("log", "1", "log")


def test_artifacts_are_in_every_form_of_a_report(jobs: ReportedJobs) -> None:
    jobs.define(spec("p.a.design"))
    plot = {"url": "https://x.example/a_b_c.png", "description": "Sky [level](http://evil.example)"}
    job = jobs.job(9.0, run_id="1", plot=plot)
    report = jobs.report(run="1")
    markdown = report_markdown(report)
    assert f"- job {job}: Sky \\[level\\](http\\://evil.example): <{plot['url']}>" in markdown
    assert MarkdownIt().render(markdown).count("<a href=") == 1
    assert f"; artifact: {plot['url']}" in report_junit(report, level="INFO").decode()
    assert f'href="{plot["url"]}"' in report_file(report)


def add_step(jobs: ReportedJobs) -> list[int]:
    """Add a series that is at 1 for eight hours and then at 4; return its jobs."""
    return [
        jobs.job(
            1.0 + number % 2 / 10 + 3 * (number >= 8),
            run_id=f"R{number}",
            pipeline="night",
            filter="r",
            ago_ns=(20 - number) * HOUR_NS,
        )
        for number in range(16)
    ]


@pytest.mark.skipif(not change_points.is_installed(), reason="ruptures is not installed")
def test_change_points_are_in_every_form_of_a_report_that_asks_for_them(
    jobs: ReportedJobs,
) -> None:
    jobs.define(spec())
    ids = add_step(jobs)
    assert jobs.report(since="7d").change_points is None
    report = jobs.report(since="7d", changepoints="true")
    assert report.change_points is not None
    (found,) = report.change_points.largest
    assert (found.metric, found.job_before, found.job_id, found.run_id) == (
        "p.a",
        ids[7],
        ids[8],
        "R8",
    )
    assert (found.before, found.after) == pytest.approx((1.05, 4.05))
    said = f"1.05 → 4.05 mmag ({found.times_noise:+.1f} times the noise)"
    assert said in report_markdown(report)
    assert said in report_file(report)


def test_without_the_library_a_report_says_how_to_install_it(
    jobs: ReportedJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_points, "_library", lambda: None)
    add_step(jobs)
    report = jobs.report(since="7d", changepoints="true")
    assert report.change_points is not None
    assert report.change_points.largest == []
    assert "pip install 'squash-api\\[changepoints\\]'" in report_markdown(report)


def test_of_too_many_values_no_change_points_are_looked_for(
    jobs: ReportedJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MOST_KEPT", 15)
    monkeypatch.setattr(change_points, "_library", object)
    add_step(jobs)
    report = jobs.report(since="7d", changepoints="true")
    assert report.change_points is not None
    assert report.change_points.note.startswith("Change points are not looked for in more than")


@pytest.mark.sqlite
def test_the_last_value_is_judged_by_those_before_it_and_by_its_run(jobs: ReportedJobs) -> None:
    trend = {"n": 4, "min_history": 3, "floor": 1.0, "unit": "mmag"}
    jobs.define(
        {"name": "p.a.drift", "trend": trend},
        {"name": "p.a.usual", "range": {"high": 100.0, "unit": "mmag"}},
        {"name": "p.a.design", "threshold": {"value": 8.0, "unit": "mmag", "operator": "<="}},
        {"name": "p.a.both", "compound": {"any": ["design", "usual"], "over": "run"}},
    )
    for hours in (5, 4, 3):
        jobs.job(1.0, run_id=str(hours), ago_ns=hours * HOUR_NS)
    jobs.job(9.0, run_id="new", ago_ns=2 * HOUR_NS)
    jobs.job(7.0, run_id="new", ago_ns=HOUR_NS)
    found = jobs.report(run="new")
    (shown,) = found.worst
    assert {shown.specification, *shown.also_broken} == {"p.a.drift", "p.a.both"}
    assert (found.summary.state, found.summary.failed) == ("WARNING", 1)
    text = report_markdown(found)
    assert "drift" in text
    assert "none of 2 broken mmag" not in text
    assert jobs.report(run="3").summary.state == "passed"
